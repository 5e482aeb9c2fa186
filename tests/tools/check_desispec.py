#!/usr/bin/env python3
"""Reads frames with desispec's own reader and checks what it makes of them.

usage: check_desispec.py FRAME [FRAME ...]
Exit code 0: all well; 1: something differs; 77: desispec is not installed (pip install desispec fitsio).
PATCHLIGHT_DESISPEC_PYTHON names the interpreter that has it.
"""

import sys

try:
    import fitsio
    import numpy as np
    from desispec.io import read_frame
except ImportError as error:
    print(f"desispec cannot be imported: {error}")
    sys.exit(77)


def check(path):
    frame = read_frame(path)
    nspec, nwave = frame.flux.shape
    problems = []

    def expect(what, condition):
        if not condition:
            problems.append(what)

    expect("ivar has the shape of flux", frame.ivar.shape == (nspec, nwave))
    expect("mask is uint32", frame.mask.dtype == np.uint32 and frame.mask.shape == (nspec, nwave))
    expect("wave has a value a column", frame.wave.shape == (nwave,) and np.all(np.diff(frame.wave) > 0))
    expect("FLAVOR is there", "FLAVOR" in frame.meta)
    expect("vet() finds no fault", frame.vet() == 0)
    with fitsio.FITS(path) as raw:
        names = [hdu.get_extname() for hdu in raw]
        expect("FLUX is float32", raw["FLUX"].read().dtype.itemsize == 4)
        expect("flux units", raw["FLUX"].read_header()["BUNIT"] == "electron/Angstrom")
        expect("wavelength is float64", raw["WAVELENGTH"].read().dtype.itemsize == 8)
        expect("wavelength units", raw["WAVELENGTH"].read_header()["BUNIT"] == "Angstrom")
        expect("mask values", np.array_equal(raw["MASK"].read().astype(np.uint32), frame.mask))
    if "RESOLUTION" in names:
        expect("a resolution matrix a spectrum", len(frame.R) == nspec and frame.R[0].shape == (nwave, nwave))
        expect("an odd number of diagonals", frame.resolution_data.shape[1] % 2 == 1)
    if "FIBERMAP" in names:
        expect("a fibermap row a spectrum", len(frame.fibermap) == nspec)
        expect("target ids are 64-bit integers", frame.fibermap["TARGETID"].dtype.itemsize == 8)
    if "CHI2PIX" in names:
        expect("chi2pix has the shape of flux", frame.chi2pix.shape == (nspec, nwave))
    if "SCORES" in names:
        expect("a scores row a spectrum", len(frame.scores) == nspec)
    for problem in problems:
        print(f"{path}: not so: {problem}")
    if not problems:
        print(f"{path}: read by desispec: {nspec} spectra x {nwave} wavelengths, {', '.join(names)}")
    return not problems


if __name__ == "__main__":
    if len(sys.argv) < 2:
        print(__doc__)
        sys.exit(2)
    sys.exit(0 if all([check(path) for path in sys.argv[1:]]) else 1)
