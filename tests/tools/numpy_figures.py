#!/usr/bin/python3
"""Figures of a resolution, a covariance and a PSF spot as NumPy computes them, for tests/analysis/TestFigures.cpp to compare with.

usage: numpy_figures.py > tests/analysis/numpy_figures.txt
The test makes the same matrices from the same formulas. A line is a name, an index and a value.
"""
import numpy as np


def put(name, values):
    for i, value in enumerate(np.atleast_1d(np.asarray(values, dtype=float)).ravel()):
        print(f"{name} {i} {value:.17g}")


def width_at_half(profile):
    """Full width at half maximum by linear interpolation, in elements; NaN where an edge is in the way."""
    peak = int(np.argmax(profile))
    half = 0.5 * profile[peak]
    below = np.nonzero(profile[:peak] <= half)[0]
    above = np.nonzero(profile[peak + 1 :] <= half)[0]
    if len(below) == 0 or len(above) == 0:
        return np.nan
    left, right = below[-1], peak + 1 + above[0]
    return np.interp(half, profile[[right, right - 1]], [right, right - 1]) - np.interp(half, profile[[left, left + 1]], [left, left + 1])


# A band as a frame stores it, and its dense matrix.
ndiag, nwave = 5, 40
k = np.arange(2 * ndiag + 1)[:, None] - ndiag
j = np.arange(nwave)[None, :]
band = np.exp(-0.5 * ((k - 0.1 * np.sin(0.3 * j)) / (1.1 + 0.01 * j)) ** 2) - 0.01 * (np.abs(k) == 4)
wave = 6000 + 0.8 * np.arange(nwave) + 0.001 * np.arange(nwave) ** 2
dense = np.zeros((nwave, nwave))
for column in range(nwave):
    for row in range(max(0, column - ndiag), min(nwave, column + ndiag + 1)):
        dense[row, column] = band[row - column + ndiag, column]
put("row_sums", dense.sum(axis=1))
put("column_sums", dense.sum(axis=0))
put("row_12", dense[12, 12 - ndiag : 12 + ndiag + 1])
put("column_12", dense[12 - ndiag : 12 + ndiag + 1, 12])
put("through", dense @ (1 + 0.5 * np.cos(0.2 * np.arange(nwave))))
step = np.gradient(wave)
offsets = np.arange(2 * ndiag + 1)
for column in range(nwave):
    kernel = np.array([dense[column + m - ndiag, column] if 0 <= column + m - ndiag < nwave else 0.0 for m in offsets])
    mean = np.average(offsets, weights=kernel)
    print(f"fwhm {column} {step[column] * width_at_half(kernel):.17g}")
    print(f"rms {column} {step[column] * np.sqrt(np.average((offsets - mean) ** 2, weights=kernel)):.17g}")

# A covariance.
n = 30
i = np.arange(n)
b = np.sin(0.7 * i[:, None] + 1.3 * i[None, :] ** 1.1)
icov = b @ b.T / n + np.diag(0.1 + 0.01 * i)
block = 0.5 * np.eye(15) + 0.25 * np.eye(15, k=1) + 0.25 * np.eye(15, k=-1)
resolution = np.kron(np.eye(2), block)
covariance = np.linalg.inv(icov)
put("eigenvalues", np.linalg.eigvalsh(icov))
put("condition", np.linalg.cond(icov))


def correlation(c):
    s = np.sqrt(np.diag(c))
    return c / np.outer(s, s)


put("covariance_row_7", covariance[7])
put("correlation_row_7", correlation(covariance)[7])
put("flux_correlation_row_7", correlation(resolution @ covariance @ resolution.T)[7])

# A spot: 17 columns from 100, 11 rows from 200; its trace at 108.2, 205.3.
x, y = np.meshgrid(np.arange(17), np.arange(11))
spot = np.exp(-0.5 * (((x - 8.3) / 1.2) ** 2 + ((y - 5.4) / 1.0) ** 2)) * (1 + 0.03 * (x - 8) * (y - 5) + 0.02 * (x > 10))
spot = np.clip(spot, 0, None)
spot /= spot.sum()
mean_x, mean_y = (spot * x).sum(), (spot * y).sum()
rms_x, rms_y = np.sqrt((spot * (x - mean_x) ** 2).sum()), np.sqrt((spot * (y - mean_y) ** 2).sum())
put("spot_peak", spot.max())
put("spot_offset", [mean_x - 8.2, mean_y - 5.3])
put("spot_rms", [rms_x, rms_y])
put("spot_correlation", (spot * (x - mean_x) * (y - mean_y)).sum() / rms_x / rms_y)
put("spot_profile_x", spot.sum(axis=0))
put("spot_profile_y", spot.sum(axis=1))
put("spot_fwhm", [width_at_half(spot.sum(axis=0)), width_at_half(spot.sum(axis=1))])
radius = np.hypot(x - mean_x, y - mean_y).ravel()
order = np.argsort(radius)
light = np.cumsum(spot.ravel()[order])
put("spot_radii", [radius[order][np.searchsorted(light, share)] for share in (0.5, 0.9)])
