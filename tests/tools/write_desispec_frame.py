#!/usr/bin/env python3
"""Writes a frame with desispec's own writer, for the readers to be tried on.

usage: write_desispec_frame.py OUT.fits
Spectrum s, bin j: flux = 100 s + j, ivar = 0.25, mask bit s % 3 where j = 10, R = 0.2, 0.6, 0.2.
Exit code 0: written; 77: desispec is not installed (pip install desispec fitsio).
"""

import sys

try:
    import numpy as np
    from astropy.table import Table
    from desispec.frame import Frame
    from desispec.io import write_frame
except ImportError as error:
    print(f"desispec cannot be imported: {error}")
    sys.exit(77)

if len(sys.argv) != 2:
    print(__doc__)
    sys.exit(2)

NSPEC, NWAVE, FIRST = 6, 150, 25
wave = 6000.0 + 0.8 * np.arange(NWAVE)
flux = 100.0 * np.arange(NSPEC)[:, None] + np.arange(NWAVE)[None, :]
ivar = np.full((NSPEC, NWAVE), 0.25)
mask = np.zeros((NSPEC, NWAVE), dtype=np.uint32)
mask[np.arange(NSPEC), 10] = 1 << (np.arange(NSPEC) % 3)
resolution = np.zeros((NSPEC, 11, NWAVE))
resolution[:, 4:7, :] = np.array([0.2, 0.6, 0.2])[None, :, None]
fibermap = Table(
    {
        "TARGETID": 39627640000000001 + np.arange(NSPEC, dtype=np.int64),
        "FIBER": FIRST + np.arange(NSPEC, dtype=np.int32),
        "PETAL_LOC": np.zeros(NSPEC, dtype=np.int16),
    }
)
meta = {"CAMERA": "r0", "FLAVOR": "science", "SPECMIN": FIRST, "FIBERMIN": FIRST}
frame = Frame(wave, flux, ivar, mask=mask, resolution_data=resolution, meta=meta, fibermap=fibermap, chi2pix=np.ones((NSPEC, NWAVE)))
write_frame(sys.argv[1], frame, units="electron/Angstrom")
