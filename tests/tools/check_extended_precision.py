#!/usr/bin/python3
"""One badly conditioned patch, evaluated again with 80-bit arithmetic: patchlight's ivar and resolution are right to rounding.

usage: check_extended_precision.py PATH/TO/patchlight
Needs numpy and astropy; exit code 77 where they are missing, or where long double has no more digits than double.
"""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    from astropy.io import fits
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)
if np.finfo(np.longdouble).eps > 1e-18:
    print("skipped: long double is no longer than double here")
    sys.exit(77)

LONG = np.longdouble


def inverse(matrix):
    n = len(matrix)
    work = np.hstack([matrix, np.eye(n, dtype=LONG)])
    for k in range(n):
        work[k] /= work[k, k]
        factor = work[:, k].copy()
        factor[k] = 0
        work -= np.outer(factor, work[k])
    return work[:, n:]


def cholesky(matrix):
    work = matrix.copy()
    for k in range(len(work)):
        work[k, k] = np.sqrt(work[k, k])
        work[k + 1:, k] /= work[k, k]
        work[k + 1:, k + 1:] -= np.outer(work[k + 1:, k], work[k + 1:, k])
    return np.tril(work)


def forward(lower, right):
    work = right.copy()
    for k in range(len(lower)):
        work[k] /= lower[k, k]
        work[k + 1:] -= np.outer(lower[k + 1:, k], work[k])
    return work


def square_root(matrix):
    """Denman and Beavers' iteration."""
    y = matrix.copy()
    z = np.eye(len(matrix), dtype=LONG)
    for _ in range(80):
        y_next = (y + inverse(z)) / 2
        z_next = (z + inverse(y)) / 2
        change = np.abs(y_next - y).max() / np.abs(y).max()
        y, z = y_next, z_next
        if change < 1e-18:
            break
    return y


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        image, psf, patch = (os.path.join(folder, name) for name in ("image.fits", "psf.fits", "patch.fits"))
        subprocess.run([program, "--loglevel", "error", "simulate", "--preset", "small", "-o", image, "--out-psf", psf], check=True)
        header = fits.getheader(psf, "XTRACE")
        wave = 0.5 * (header["WAVEMIN"] + header["WAVEMAX"])
        # No padding of pixels: the outermost bins hang on next to nothing.
        subprocess.run([program, "--loglevel", "error", "patch", "-i", image, "-p", psf, "-o", patch, "--fiber", "2", "--wave", str(wave),
                        "-w", f"{wave - 8},{wave + 8},0.8", "--bundlesize", "5", "--nsubbundles", "1", "--nwavestep", "20", "--wavepad", "10",
                        "--wavepad-frac", "0", "--pixpad-frac", "0"], check=True)
        with fits.open(patch) as file:
            keys = file[0].header
            nspec, nwave = keys["NSPEC"], keys["NWAVE"]
            icov = file["ICOV"].data.astype(LONG)
            ivar = file["IVAR"].data
            resolution = file["RESOLUTION"].data
    print(f"{nspec} spectra x {nwave} bins, condition {keys['CONDEST']:.1e}")
    if keys["CONDEST"] < 1e7:
        print("this patch is too well conditioned to test anything")
        return 1
    worst_ivar = worst_resolution = 0.0
    for s in range(nspec):
        own = np.arange(s * nwave, (s + 1) * nwave)
        others = np.setdiff1d(np.arange(nspec * nwave), own)
        x = forward(cholesky(icov[np.ix_(others, others)]), icov[np.ix_(others, own)])
        schur = icov[np.ix_(own, own)] - x.T @ x
        q = square_root((schur + schur.T) / 2)
        sums = q.sum(axis=1)
        # The 20 core bins; the padding is thrown away.
        core = slice(10, 30)
        worst_ivar = max(worst_ivar, float(np.abs(ivar[s] / sums**2 - 1)[core].max()))
        worst_resolution = max(worst_resolution, float(np.abs(resolution[np.ix_(own, own)] - q / sums[:, None])[core].max()))
    print(f"ivar right to {worst_ivar:.1e}, resolution to {worst_resolution:.1e}")
    return 0 if worst_ivar < 1e-12 and worst_resolution < 1e-12 else 1


sys.exit(main())
