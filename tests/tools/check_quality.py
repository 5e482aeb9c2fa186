#!/usr/bin/python3
"""The figures of `patchlight qa` against the same ones worked out with NumPy from the files: medians, masked shares, pulls by amplifier.

usage: check_quality.py PATH/TO/patchlight
Needs numpy and astropy; exit code 77 where they are missing.
"""
import json
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from astropy.io import fits
    from numpy.polynomial import legendre
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

PROGRAM = sys.argv[1]
GRID = "6260,6400,0.8"
problems = []


def run(*arguments):
    subprocess.run([PROGRAM, "--loglevel", "warn", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def expect(what, found, right, tolerance):
    difference = np.max(np.abs(np.asarray(found, float) - np.asarray(right, float)))
    print(f"{what}: largest difference {difference:.2g} (at most {tolerance:g})")
    if not difference <= tolerance:
        problems.append(what)


with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    run("simulate", "--preset", "small", "--nspec", 40, "--bundlesize", 10, "--nx", 420, "--ny", 400, "--wave-centre", 6330, "--truth-on-grid", "-w", GRID,
        "--cosmics", 6, "-o", "image.fits", "--out-psf", "psf.fits")
    run("extract", "-i", "image.fits", "-p", "psf.fits", "-w", GRID, "--bundlesize", 10, "-o", "frame.fits", "-m", "model.fits")
    run("qa", "frame.fits", "-i", "image.fits", "-p", "psf.fits", "-o", "qa.json")
    with open("qa.json") as file:
        report = json.load(file)
    frame = {hdu.name: hdu.data.astype(float) for hdu in fits.open("frame.fits") if hdu.name in ("FLUX", "IVAR", "CHI2PIX", "MASK", "WAVELENGTH")}
    flux, ivar, chi2pix, mask = (frame[name] for name in ("FLUX", "IVAR", "CHI2PIX", "MASK"))
    good = ivar > 0
    nan = np.where(good, 1.0, np.nan)
    fibers = report["fibers"]
    expect("median flux", [f["median_flux"] for f in fibers], np.nanmedian(flux * nan, axis=1), 1e-9 * np.abs(flux).max())
    expect("median S/N", [f["median_snr"] for f in fibers], np.nanmedian(flux * np.sqrt(ivar) * nan, axis=1), 1e-4)
    expect("median chi2pix", [f["median_chi2pix"] for f in fibers], np.nanmedian(chi2pix * nan, axis=1), 1e-6)
    expect("masked share", [f["masked_share"] for f in fibers], np.mean((mask != 0) | ~good, axis=1), 1e-12)

    # Pulls by amplifier: pixels within half the distance to the next trace, and 4 pixels, on rows that the grid covers.
    with fits.open("image.fits") as hdus:
        image, weight, header = hdus["IMAGE"].data.astype(float), hdus["IVAR"].data.astype(float), hdus[0].header
        weight = np.where(hdus["MASK"].data & 0x2FF, 0.0, weight)
        for hdu in hdus:
            if "CCDSECA" in hdu.header:
                header = hdu.header
    model = fits.open("model.fits")[0].data.astype(float)
    pull = (image - model) * np.sqrt(weight)
    with fits.open("psf.fits") as psf:
        traces = {}
        for name in ("XTRACE", "YTRACE"):
            hdu = psf[name]
            u = 2 * (frame["WAVELENGTH"] - hdu.header["WAVEMIN"]) / (hdu.header["WAVEMAX"] - hdu.header["WAVEMIN"]) - 1
            traces[name] = np.array([legendre.legval(u, row) for row in hdu.data])
        hsize = psf["PSF"].header["HSIZEY"]
    x, y = traces["XTRACE"], traces["YTRACE"]
    middle = x[:, x.shape[1] // 2]
    chosen = np.zeros(image.shape, bool)
    for s in range(len(x)):
        half = min([4.0] + [abs(middle[o] - middle[s]) / 2 for o in (s - 1, s + 1) if 0 <= o < len(x)])
        first, last = int(np.floor(y[s, 0] - hsize + 0.5)) + 2 * hsize + 1, int(np.floor(y[s, -1] - hsize + 0.5))
        for row in range(first, last):
            # Rows that a bin without a flux has light on do not count.
            if np.any(~good[s] & (np.abs(y[s] - row) <= hsize + 0.5)):
                continue
            at = np.interp(row, y[s], x[s])
            chosen[row, int(np.ceil(at - half)):int(np.floor(at + half)) + 1] = True
    for amplifier in report["amplifiers"]:
        (x0, x1), (y0, y1) = amplifier["columns"], amplifier["rows"]
        part = chosen[y0:y1, x0:x1] & (weight[y0:y1, x0:x1] > 0)
        values = pull[y0:y1, x0:x1][part]
        name = f"amplifier {amplifier['name']}"
        expect(f"{name}: pixels", amplifier["pulls"]["pixels"] / len(values), 1, 2e-3)
        # qa makes the model from the stored diagonals of R, whose rows sum to 1.0005.
        expect(f"{name}: mean pull", amplifier["pulls"]["mean"], values.mean(), 6e-3)
        expect(f"{name}: sigma of pulls", amplifier["pulls"]["sigma"], values.std(), 2e-3)
        share = np.mean(weight[y0:y1, x0:x1] <= 0)
        expect(f"{name}: masked share", amplifier["masked_share"], share, 1e-12)
    os.chdir("/")

for problem in problems:
    print(f"not so: {problem}")
sys.exit(1 if problems else 0)
