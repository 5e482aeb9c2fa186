#include "core/cpu/PatchSolver.h"

#include "core/base/Timeline.h"
#include "core/engine/Physics.h"
#include "core/engine/Seamless.h"
#include "core/frame/ExtractedFrame.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include <Eigen/Core>
#include <Eigen/Eigenvalues>

namespace patchlight {

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

/// The part of a spot that lies in a window, as ranges of stamp rows and columns.
struct Clip {
    int x0, x1, y0, y1;
    [[nodiscard]] bool empty() const { return x1 <= x0 || y1 <= y0; }
};

Clip clip(int cornerX, int cornerY, int stampX, int stampY, const PixelWindow& window) {
    return {std::max(0, window.x.first - cornerX), std::min(stampX, window.x.last - cornerX),
            std::max(0, window.y.first - cornerY), std::min(stampY, window.y.last - cornerY)};
}

} // namespace

kernels::BandView PatchSolver::bandView(std::vector<double>& storage, int n, int halfBand) const {
    return {storage.data(), n, halfBand, kernels::paddedStride(size(halfBand) + 1)};
}

void PatchSolver::solve(const FrameInput& input, const SpotTile& tile, const Patch& patch, const FrameOutput* output,
                        PatchDetail* detail, Roots roots) {
    const Plan& plan = *input.plan;
    patch_ = patch;
    roots_ = roots;
    report_ = {};
    nspec_ = patch.spectra.count();
    nwave_ = patch.bins.count();
    ndiag_ = plan.ndiag;
    window_ = plan.options.method == Method::Seamless
                  ? seamless::partWindow(input.psf, plan, patch, tile.corners(), input.ccd.nx, input.ccd.ny)
                  : patchWindow(input.psf, patch, tile.corners(), plan.options.pixpadFrac, input.ccd.nx, input.ccd.ny);
    denseResolution_ = nullptr;
    const std::size_t n = size(nspec_) * size(nwave_);
    const RangeTags tags{plan.subbundles[size(patch.subbundle)].bundle, patch.step, 1};

    for (std::vector<double>* values : {&y_, &fluxweight_, &xflux_, &flux_, &ivar_, &chi2pix_, &pixmaskFraction_})
        values->assign(n, 0.0);
    spotOnCcd_.assign(n, 0);
    prior_.assign(n, 0.0);
    band_.assign(size(nspec_) * size(2 * ndiag_ + 1) * size(nwave_), 0.0);
    if (detail != nullptr) {
        *detail = {};
        detail->resolution = Array2<double>(n, n);
        denseResolution_ = &detail->resolution.values();
    }

    {
        const NamedRange range(input.timeline, "normal equations", tags);
        buildNormalEquations(input, tile);
    }
    const double largest = *std::max_element(fluxweight_.begin(), fluxweight_.end());
    if (largest > 0.0) {
        Outcome outcome = decorrelate(input, plan.options.regularize);
        if (outcome == Outcome::NotPositive && plan.options.regularize == 0.0) {
            report_.status |= static_cast<std::uint32_t>(PatchStatus::Regularized);
            outcome = decorrelate(input, retryRegularize);
        }
        if (outcome == Outcome::NotPositive) {
            report_.status |= static_cast<std::uint32_t>(PatchStatus::Failed);
            for (std::vector<double>* values : {&xflux_, &flux_, &ivar_, &band_})
                std::fill(values->begin(), values->end(), 0.0);
        }
    } else {
        report_.status |= static_cast<std::uint32_t>(PatchStatus::NoPixels);
        std::fill(prior_.begin(), prior_.end(), priorDiagonal(0.0, 0.0, plan.options.regularize));
    }
    {
        const NamedRange range(input.timeline, "quality", tags);
        measureQuality(input, tile);
    }
    if (output != nullptr) writeOutput(input, tile, *output);
    if (detail != nullptr) fillDetail(input, tile, *detail);
}

/// iCov = A^T W A in band storage, y = A^T W p, fluxweight = A^T w (BS eq 4), over the window.
void PatchSolver::buildNormalEquations(const FrameInput& input, const SpotTile& tile) {
    const int nx = tile.stampX();
    const int ny = tile.stampY();
    const auto first = patch_.spectra.first;
    const auto bin0 = patch_.bins.first;

    // How far apart in wavelength two spots can share a row: first from the range of rows that all spectra have at a wavelength,
    // then pair by pair.
    std::vector<int>& lowest = columnCount_;
    lowest.assign(size(2 * nwave_), 0);
    for (int iwave = 0; iwave < nwave_; ++iwave) {
        int lo = std::numeric_limits<int>::max();
        int hi = std::numeric_limits<int>::min();
        for (int ispec = 0; ispec < nspec_; ++ispec) {
            const int corner = tile.cornerY(first + ispec, bin0 + iwave);
            lo = std::min(lo, corner);
            hi = std::max(hi, corner);
        }
        lowest[size(2 * iwave)] = lo;
        lowest[size(2 * iwave + 1)] = hi;
    }
    const auto mayOverlap = [&](int a, int b) {
        return lowest[size(2 * b)] < lowest[size(2 * a + 1)] + ny && lowest[size(2 * a)] < lowest[size(2 * b + 1)] + ny;
    };
    const auto overlapping = [&](int s1, int w1, int s2, int w2) {
        const int dx = tile.cornerX(first + s1, bin0 + w1) - tile.cornerX(first + s2, bin0 + w2);
        const int dy = tile.cornerY(first + s1, bin0 + w1) - tile.cornerY(first + s2, bin0 + w2);
        return std::abs(dx) < nx && std::abs(dy) < ny;
    };
    reach_ = 0;
    for (int w1 = 0; w1 < nwave_; ++w1) {
        for (int w2 = nwave_ - 1; w2 > w1 + reach_; --w2) {
            if (!mayOverlap(w1, w2)) continue;
            bool found = false;
            for (int s1 = 0; s1 < nspec_ && !found; ++s1)
                for (int s2 = 0; s2 < nspec_ && !found; ++s2) found = overlapping(s1, w1, s2, w2);
            if (found) {
                reach_ = w2 - w1;
                break;
            }
        }
    }
    halfBand_ = std::min(nspec_ * nwave_ - 1, reach_ * nspec_ + nspec_ - 1);
    const std::size_t stride = kernels::paddedStride(size(halfBand_) + 1);
    icov_.assign(size(nspec_ * nwave_) * stride + kernels::kernelPad, 0.0);
    if (window_.empty()) return;

    // One spot times the weights, zero outside the window.
    weighted_.assign(size(nx) * size(ny) + kernels::kernelPad, 0.0);
    for (int w1 = 0; w1 < nwave_; ++w1) {
        for (int s1 = 0; s1 < nspec_; ++s1) {
            const int x1 = tile.cornerX(first + s1, bin0 + w1);
            const int y1 = tile.cornerY(first + s1, bin0 + w1);
            const Clip part = clip(x1, y1, nx, ny, window_);
            if (part.empty()) continue;
            const double* stamp = tile.stamp(first + s1, bin0 + w1);
            double ySum = 0.0;
            double weightSum = 0.0;
            for (int iy = 0; iy < ny; ++iy) {
                double* row = weighted_.data() + size(iy) * size(nx);
                if (iy < part.y0 || iy >= part.y1) {
                    std::fill(row, row + nx, 0.0);
                    continue;
                }
                const std::ptrdiff_t pixel = static_cast<std::ptrdiff_t>(y1 + iy) * input.ccd.nx + x1;
                std::fill(row, row + part.x0, 0.0);
                std::fill(row + part.x1, row + nx, 0.0);
                for (int ix = part.x0; ix < part.x1; ++ix) {
                    const double aw = stamp[iy * nx + ix] * static_cast<double>(input.ccd.weights[pixel + ix]);
                    row[ix] = aw;
                    weightSum += aw;
                    ySum += aw * static_cast<double>(input.ccd.pixels[pixel + ix]);
                }
            }
            y_[flat(s1, w1)] = ySum;
            fluxweight_[flat(s1, w1)] = weightSum;
            if (weightSum == 0.0) continue;

            const int a = bandIndex(s1, w1);
            double* band = icov_.data() + size(a) * stride;
            for (int w2 = w1; w2 <= std::min(w1 + reach_, nwave_ - 1); ++w2) {
                if (!mayOverlap(w1, w2)) continue;
                for (int s2 = w2 == w1 ? s1 : 0; s2 < nspec_; ++s2) {
                    const int dx = tile.cornerX(first + s2, bin0 + w2) - x1;
                    const int dy = tile.cornerY(first + s2, bin0 + w2) - y1;
                    if (std::abs(dx) >= nx || std::abs(dy) >= ny) continue;
                    const double* other = tile.stamp(first + s2, bin0 + w2);
                    // The rectangle that both stamps cover, in the coordinates of each.
                    const double* left = weighted_.data() + size(std::max(0, dy) * nx + std::max(0, dx));
                    const double* right = other + size(std::max(0, -dy) * nx + std::max(0, -dx));
                    band[bandIndex(s2, w2) - a] =
                        kernels::overlap(left, size(nx), right, size(nx), ny - std::abs(dy), nx - std::abs(dx));
                }
            }
        }
    }
}

PatchSolver::Outcome PatchSolver::decorrelate(const FrameInput& input, double regularize) {
    const Plan& plan = *input.plan;
    const RangeTags tags{plan.subbundles[size(patch_.subbundle)].bundle, patch_.step, 1};
    const std::size_t n = size(nspec_) * size(nwave_);
    if (plan.options.method == Method::Seamless)
        seamless::localMinimumWeights(plan, patch_, fluxweight_, minweight_);
    else
        minweight_.assign(n, minimumWeight(*std::max_element(fluxweight_.begin(), fluxweight_.end())));
    prior_.resize(n);
    for (std::size_t i = 0; i < n; ++i) prior_[i] = priorDiagonal(fluxweight_[i], minweight_[i], regularize);

    {
        const NamedRange range(input.timeline, "deconvolution", tags);
        if (!solveXflux()) return Outcome::NotPositive;
        if (denseResolution_ != nullptr) condition_ = conditionEstimate();
    }
    const NamedRange range(input.timeline, "decorrelation", tags);
    report_.condition = 0.0;
    if (plan.options.decorrelate == Decorrelate::Noise) return resolvePatch() ? Outcome::Solved : Outcome::NotPositive;
    // What is only padding is thrown away, but where all of R is asked for.
    const IndexRange wanted = denseResolution_ != nullptr ? IndexRange{0, nspec_}
                                                          : IndexRange{patch_.core.first - patch_.spectra.first,
                                                                       patch_.core.last - patch_.spectra.first};
    if (roots_ == Roots::SideBySide) return resolveSideBySide(wanted) ? Outcome::Solved : Outcome::NotPositive;
    for (int ispec = wanted.first; ispec < wanted.last; ++ispec)
        if (!resolveSpectrum(ispec)) return Outcome::NotPositive;
    return Outcome::Solved;
}

/// xflux = iCov^-1 y by banded Cholesky.
bool PatchSolver::solveXflux() {
    const int n = nspec_ * nwave_;
    factor_ = icov_;
    const kernels::BandView u = bandView(factor_, n, halfBand_);
    solution_.resize(size(n));
    for (int iwave = 0; iwave < nwave_; ++iwave) {
        for (int ispec = 0; ispec < nspec_; ++ispec) {
            const int i = bandIndex(ispec, iwave);
            u.values[size(i) * u.stride] += prior_[flat(ispec, iwave)];
            solution_[size(i)] = y_[flat(ispec, iwave)];
        }
    }
    if (!kernels::choleskyBand(u)) return false;
    kernels::solveBand(u, solution_.data());
    for (int iwave = 0; iwave < nwave_; ++iwave)
        for (int ispec = 0; ispec < nspec_; ++ispec)
            xflux_[flat(ispec, iwave)] = solution_[size(bandIndex(ispec, iwave))];
    return true;
}

/// Q_s = S_s^(1/2) of some spectra, in the lanes of the machine's vectors.
bool PatchSolver::resolveSideBySide(IndexRange spectra) {
    const std::size_t stride = kernels::paddedStride(size(nwave_));
    const int lanes = LaneSolver::lanes();
    sideBySide_.shape(1, nwave_, 0, 1, 0);
    sideBySide_.requireDense();
    for (int i = 0; i < nwave_; ++i) std::fill_n(sideBySide_.x(0, i), lanes, 0.0);
    for (int first = spectra.first; first < spectra.last; first += lanes) {
        const int count = std::min(lanes, spectra.last - first);
        // Idle lanes have the unit matrix.
        for (int i = 0; i < nwave_; ++i) {
            std::fill_n(sideBySide_.schur(0, i, 0), sideBySide_.denseStride() * size(lanes), 0.0);
            std::fill_n(sideBySide_.schur(0, i, i), lanes, 1.0);
        }
        for (int lane = 0; lane < count; ++lane) {
            if (!eliminateOthers(first + lane)) return false;
            for (int i = 0; i < nwave_; ++i)
                for (int j = i; j < nwave_; ++j) sideBySide_.schur(0, i, j)[lane] = schur_[size(i) * stride + size(j)];
        }
        sideBySide_.rootDense(0);
        q_.resize(size(nwave_) * size(nwave_));
        for (int lane = 0; lane < count; ++lane) {
            const double condition = sideBySide_.conditionBound(0)[lane];
            if (!(condition > 0.0)) {
                if (!resolveSpectrum(first + lane)) return false;
                continue;
            }
            report_.condition = std::max(report_.condition, condition);
            for (int i = 0; i < nwave_; ++i)
                for (int j = i; j < nwave_; ++j)
                    q_[size(i) * size(nwave_) + size(j)] = q_[size(j) * size(nwave_) + size(i)] =
                        sideBySide_.denseRoot(i, j)[lane];
            applyResolution(q_.data(), nwave_, (first + lane) * nwave_);
        }
    }
    return true;
}

bool PatchSolver::resolveSpectrum(int spectrum) { return eliminateOthers(spectrum) && resolveByEigenvalues(spectrum); }

/// S_s = D_s - B^T (iCov without s)^-1 B = (C_s)^-1, upper triangle. @return false where the others' matrix is not positive
bool PatchSolver::eliminateOthers(int spectrum) {
    const std::size_t fullStride = kernels::paddedStride(size(halfBand_) + 1);
    const std::size_t stride = kernels::paddedStride(size(nwave_));
    const auto element = [&](int i, int j) {
        return i <= j ? icov_[size(i) * fullStride + size(j - i)] : icov_[size(j) * fullStride + size(i - j)];
    };

    // D_s, upper triangle.
    schur_.assign(size(nwave_) * stride + kernels::kernelPad, 0.0);
    for (int i = 0; i < nwave_; ++i) {
        for (int j = i; j <= std::min(i + reach_, nwave_ - 1); ++j)
            schur_[size(i) * stride + size(j)] = element(bandIndex(spectrum, i), bandIndex(spectrum, j));
        schur_[size(i) * stride + size(i)] += prior_[flat(spectrum, i)];
    }

    const int others = nspec_ - 1;
    if (others > 0) {
        // The other spectra's band matrix, and their coupling B to s as right-hand sides.
        const int n = others * nwave_;
        const int halfBand = std::min(n - 1, reach_ * others + others - 1);
        const std::size_t bandStride = kernels::paddedStride(size(halfBand) + 1);
        factor_.assign(size(n) * bandStride + kernels::kernelPad, 0.0);
        const std::size_t columnCount = size(n) * stride + kernels::kernelPad;
        std::fill_n(columns_.require(columnCount), columnCount, 0.0);
        columnCount_.resize(size(n));
        for (int w1 = 0; w1 < nwave_; ++w1) {
            const int last = std::min(w1 + reach_, nwave_ - 1);
            const int firstRow = w1 * others; // of this wavelength, among the others
            for (int s1 = 0; s1 < nspec_; ++s1) {
                if (s1 == spectrum) continue;
                const int i = firstRow + (s1 < spectrum ? s1 : s1 - 1);
                const double* from = icov_.data() + size(bandIndex(s1, w1)) * fullStride;
                double* to = factor_.data() + size(i) * bandStride;
                double* column = columns_.data() + size(i) * stride;
                // What is right of the diagonal, without the columns of s: those go to the right-hand sides.
                int s2 = s1;
                for (int w2 = w1; w2 <= last; ++w2, s2 = 0) {
                    for (; s2 < spectrum; ++s2) *to++ = *from++;
                    if (s2 == spectrum) {
                        column[w2] = *from++;
                        ++s2;
                    }
                    for (; s2 < nspec_; ++s2) *to++ = *from++;
                }
                factor_[size(i) * bandStride] += prior_[flat(s1, w1)];
                columnCount_[size(i)] = last + 1;
            }
            // Rows of s: right of its diagonal its coupling to the others at this wavelength and later.
            const double* from = icov_.data() + size(bandIndex(spectrum, w1)) * fullStride + 1;
            int s2 = spectrum + 1;
            for (int w2 = w1; w2 <= last; ++w2, s2 = 0) {
                double* column = columns_.data() + size(w2 * others) * stride + size(w1);
                for (; s2 < nspec_; ++s2, ++from)
                    if (s2 != spectrum) column[size(s2 < spectrum ? s2 : s2 - 1) * stride] = *from;
            }
        }
        const kernels::BandView u = bandView(factor_, n, halfBand);
        if (!kernels::choleskyBand(u)) return false;
        kernels::forwardSubstitute(u, columns_.data(), stride, columnCount_.data());
        kernels::subtractGram(columns_.data(), stride, columnCount_.data(), n, schur_.data(), nwave_);
    }
    return true;
}

/// Q_s = S_s^(1/2) of the S_s that eliminateOthers() left.
bool PatchSolver::resolveByEigenvalues(int spectrum) {
    const std::size_t stride = kernels::paddedStride(size(nwave_));
    square_.resize(size(nwave_) * size(nwave_));
    for (int i = 0; i < nwave_; ++i) {
        for (int j = i; j < nwave_; ++j) {
            const double value = schur_[size(i) * stride + size(j)];
            square_[size(i) * size(nwave_) + size(j)] = value;
            square_[size(j) * size(nwave_) + size(i)] = value;
        }
    }
    if (!eigen_.compute(square_.data(), nwave_)) return false;
    const std::vector<double>& values = eigen_.values();
    report_.condition = std::max(report_.condition, values.front() > 0.0 ? values.back() / values.front()
                                                                         : std::numeric_limits<double>::infinity());
    eigenRoots_.resize(size(nwave_));
    for (std::size_t i = 0; i < eigenRoots_.size(); ++i) eigenRoots_[i] = std::sqrt(std::max(values[i], 0.0));
    eigen_.compose(eigenRoots_, q_);
    applyResolution(q_.data(), nwave_, spectrum * nwave_);
    return true;
}

/// Q = iCov^(1/2) over the whole patch.
bool PatchSolver::resolvePatch() {
    const int n = nspec_ * nwave_;
    const std::size_t stride = kernels::paddedStride(size(halfBand_) + 1);
    square_.assign(size(n) * size(n), 0.0);
    for (int w1 = 0; w1 < nwave_; ++w1) {
        for (int s1 = 0; s1 < nspec_; ++s1) {
            const int a = bandIndex(s1, w1);
            for (int w2 = w1; w2 <= std::min(w1 + reach_, nwave_ - 1); ++w2) {
                for (int s2 = w2 == w1 ? s1 : 0; s2 < nspec_; ++s2) {
                    const double value = icov_[size(a) * stride + size(bandIndex(s2, w2) - a)];
                    square_[flat(s1, w1) * size(n) + flat(s2, w2)] = value;
                    square_[flat(s2, w2) * size(n) + flat(s1, w1)] = value;
                }
            }
            square_[flat(s1, w1) * size(n) + flat(s1, w1)] += prior_[flat(s1, w1)];
        }
    }
    if (!eigen_.compute(square_.data(), n)) return false;
    const std::vector<double>& values = eigen_.values();
    report_.condition = values.front() > 0.0 ? values.back() / values.front() : std::numeric_limits<double>::infinity();
    eigenRoots_.resize(size(n));
    for (std::size_t i = 0; i < eigenRoots_.size(); ++i) eigenRoots_[i] = std::sqrt(std::max(values[i], 0.0));
    eigen_.compose(eigenRoots_, q_);
    applyResolution(q_.data(), n, 0);
    return true;
}

/// s = Q 1, R = Q/s, ivar = s^2, flux = R xflux, for `count` bins from flat index `firstBin` on; keeps the band of R.
void PatchSolver::applyResolution(const double* q, int count, int firstBin) {
    const std::size_t bandRows = size(2 * ndiag_ + 1);
    const std::size_t n = size(nspec_) * size(nwave_);
    for (int i = 0; i < count; ++i) {
        const std::size_t bin = size(firstBin + i);
        const double* row = q + size(i) * size(count);
        double sum = 0.0;
        double product = 0.0;
        for (int j = 0; j < count; ++j) {
            sum += row[j];
            product += row[j] * xflux_[size(firstBin + j)];
        }
        // A bin without light has no flux, and its row and column of R are zero (it is coupled to nothing).
        if (fluxweight_[bin] == 0.0 || sum == 0.0 || !std::isfinite(sum)) continue;
        flux_[bin] = product / sum;
        ivar_[bin] = sum * sum;
        const int ispec = static_cast<int>(bin) / nwave_;
        const int iwave = static_cast<int>(bin) % nwave_;
        for (int j = std::max(0, iwave - ndiag_); j <= std::min(nwave_ - 1, iwave + ndiag_); ++j) {
            if (fluxweight_[flat(ispec, j)] == 0.0) continue;
            const int column = static_cast<int>(flat(ispec, j)) - firstBin;
            const int k = iwave - j + ndiag_; // stored: R[j - ndiag + k, j]
            band_[(size(ispec) * bandRows + size(k)) * size(nwave_) + size(j)] = row[column] / sum;
        }
        if (denseResolution_ != nullptr) {
            for (int j = 0; j < count; ++j) {
                if (fluxweight_[size(firstBin + j)] != 0.0)
                    (*denseResolution_)[bin * n + size(firstBin + j)] = row[j] / sum;
            }
        }
    }
}

/// Model, chi2pix and pixmask_fraction.
void PatchSolver::measureQuality(const FrameInput& input, const SpotTile& tile) {
    const int nx = tile.stampX();
    const int ny = tile.stampY();
    const int first = patch_.spectra.first;
    const int bin0 = patch_.bins.first;
    const CcdView& ccd = input.ccd;
    const int width = window_.x.count();
    const std::size_t pixels = window_.empty() ? 0 : size(width) * size(window_.y.count());
    model_.assign(pixels, 0.0);
    chi2_.assign(pixels, 0.0);
    counted_.assign(pixels, 0.0);

    const auto forEachSpot = [&](auto&& body) {
        for (int ispec = 0; ispec < nspec_; ++ispec)
            for (int iwave = 0; iwave < nwave_; ++iwave) {
                const int cx = tile.cornerX(first + ispec, bin0 + iwave);
                const int cy = tile.cornerY(first + ispec, bin0 + iwave);
                body(flat(ispec, iwave), tile.stamp(first + ispec, bin0 + iwave), cx, cy);
            }
    };

    if (!window_.empty()) {
        forEachSpot([&](std::size_t i, const double* stamp, int cx, int cy) {
            const Clip part = clip(cx, cy, nx, ny, window_);
            const double flux = xflux_[i];
            if (part.empty() || flux == 0.0) return;
            for (int iy = part.y0; iy < part.y1; ++iy) {
                double* row = model_.data() + static_cast<std::ptrdiff_t>(cy + iy - window_.y.first) * width +
                              (cx - window_.x.first);
                for (int ix = part.x0; ix < part.x1; ++ix) row[ix] += flux * stamp[iy * nx + ix];
            }
        });
        std::size_t p = 0;
        for (int y = window_.y.first; y < window_.y.last; ++y) {
            for (int x = window_.x.first; x < window_.x.last; ++x, ++p) {
                const std::size_t pixel = size(y) * size(ccd.nx) + size(x);
                const double weight = static_cast<double>(ccd.weights[pixel]);
                if (!pixelCounts(weight, model_[p])) continue;
                counted_[p] = 1.0;
                chi2_[p] = pixelChi2(static_cast<double>(ccd.pixels[pixel]), weight, model_[p], input.plan->psferr);
            }
        }
    }

    forEachSpot([&](std::size_t i, const double* stamp, int cx, int cy) {
        const PixelWindow whole{{0, ccd.nx}, {0, ccd.ny}};
        const Clip onCcd = clip(cx, cy, nx, ny, whole);
        const Clip inWindow = window_.empty() ? Clip{0, 0, 0, 0} : clip(cx, cy, nx, ny, window_);
        double unmasked = 0.0;
        double total = 0.0;
        double weightedChi2 = 0.0;
        double weightCounted = 0.0;
        spotOnCcd_[i] = onCcd.empty() ? 0 : 1;
        for (int iy = 0; iy < ny; ++iy)
            for (int ix = 0; ix < nx; ++ix) total += stamp[iy * nx + ix];
        if (!onCcd.empty()) {
            for (int iy = onCcd.y0; iy < onCcd.y1; ++iy) {
                const float* weights = ccd.weights + static_cast<std::ptrdiff_t>(cy + iy) * ccd.nx + cx;
                for (int ix = onCcd.x0; ix < onCcd.x1; ++ix)
                    if (weights[ix] > 0.0F) unmasked += stamp[iy * nx + ix];
            }
        }
        if (!inWindow.empty()) {
            for (int iy = inWindow.y0; iy < inWindow.y1; ++iy) {
                const std::ptrdiff_t p =
                    static_cast<std::ptrdiff_t>(cy + iy - window_.y.first) * width + (cx - window_.x.first);
                for (int ix = inWindow.x0; ix < inWindow.x1; ++ix) {
                    weightedChi2 += stamp[iy * nx + ix] * chi2_[static_cast<std::size_t>(p + ix)];
                    weightCounted += stamp[iy * nx + ix] * counted_[static_cast<std::size_t>(p + ix)];
                }
            }
        }
        pixmaskFraction_[i] = std::max(0.0, total - unmasked);
        chi2pix_[i] = weightCounted > 0.0 ? weightedChi2 / weightCounted : 0.0;
    });
}

void PatchSolver::writeOutput(const FrameInput& input, const SpotTile&, const FrameOutput& output) const {
    const Plan& plan = *input.plan;
    ExtractedFrame& frame = *output.frame;
    const std::size_t bandRows = size(2 * ndiag_ + 1);
    for (int spectrum = patch_.core.first; spectrum < patch_.core.last; ++spectrum) {
        if (spectrum < plan.specmin || spectrum >= plan.specmin + plan.nspec)
            continue; // part of the subbundle, but not asked for
        const std::size_t row = size(spectrum - plan.specmin);
        const int ispec = spectrum - patch_.spectra.first;
        for (int bin = patch_.keepBins.first; bin < patch_.keepBins.last; ++bin) {
            const std::size_t column = size(bin - plan.grid.pad);
            const int iwave = bin - patch_.bins.first;
            const std::size_t i = flat(ispec, iwave);
            frame.flux(row, column) = flux_[i];
            frame.ivar(row, column) = ivar_[i];
            frame.xflux(row, column) = xflux_[i];
            frame.fluxweight(row, column) = fluxweight_[i];
            frame.chi2pix(row, column) = chi2pix_[i];
            frame.pixmaskFraction(row, column) = pixmaskFraction_[i];
            frame.mask(row, column) = binMask(pixmaskFraction_[i], fluxweight_[i], spotOnCcd_[i] != 0);
            for (std::size_t k = 0; k < bandRows; ++k)
                frame.resolution(row, k, column) = band_[(size(ispec) * bandRows + k) * size(nwave_) + size(iwave)];
        }
    }
    for (int spectrum = patch_.core.first; output.modelFlux != nullptr && spectrum < patch_.core.last; ++spectrum) {
        if (spectrum < plan.specmin || spectrum >= plan.specmin + plan.nspec) continue;
        const std::vector<double>& flux = plan.options.modelFlux == ModelFlux::Reconvolved ? flux_ : xflux_;
        for (int bin = patch_.coreBins.first; bin < patch_.coreBins.last; ++bin)
            (*output.modelFlux)(size(spectrum - plan.specmin), size(bin - plan.grid.pad)) =
                flux[flat(spectrum - patch_.spectra.first, bin - patch_.bins.first)];
    }
    if (output.reports != nullptr)
        output.reports[size(patch_.subbundle) * size(plan.nsteps) + size(patch_.step)] = report_;
}

void PatchSolver::fillDetail(const FrameInput& input, const SpotTile&, PatchDetail& detail) {
    const CcdView& ccd = input.ccd;
    const std::size_t n = size(nspec_) * size(nwave_);
    detail.patch = patch_;
    detail.window = window_;
    detail.report = report_;
    const auto perBin = [&](const std::vector<double>& values) {
        Array2<double> out(size(nspec_), size(nwave_));
        out.values() = values;
        return out;
    };
    detail.y = perBin(y_);
    detail.xflux = perBin(xflux_);
    detail.flux = perBin(flux_);
    detail.ivar = perBin(ivar_);
    detail.fluxweight = perBin(fluxweight_);
    detail.chi2pix = perBin(chi2pix_);
    detail.pixmaskFraction = perBin(pixmaskFraction_);

    detail.icov = Array2<double>(n, n);
    const std::size_t stride = kernels::paddedStride(size(halfBand_) + 1);
    for (int w1 = 0; w1 < nwave_; ++w1) {
        for (int s1 = 0; s1 < nspec_; ++s1) {
            const int a = bandIndex(s1, w1);
            for (int w2 = w1; w2 <= std::min(w1 + reach_, nwave_ - 1); ++w2) {
                for (int s2 = w2 == w1 ? s1 : 0; s2 < nspec_; ++s2) {
                    double value = icov_[size(a) * stride + size(bandIndex(s2, w2) - a)];
                    if (s1 == s2 && w1 == w2) value += prior_[flat(s1, w1)];
                    detail.icov(flat(s1, w1), flat(s2, w2)) = value;
                    detail.icov(flat(s2, w2), flat(s1, w1)) = value;
                }
            }
        }
    }
    const bool solved = (report_.status & (static_cast<std::uint32_t>(PatchStatus::NoPixels) |
                                           static_cast<std::uint32_t>(PatchStatus::Failed))) == 0;
    if (!solved) std::fill(detail.resolution.values().begin(), detail.resolution.values().end(), 0.0);
    if (solved) detail.condition = condition_;

    if (window_.empty()) return;
    const std::size_t rows = size(window_.y.count());
    const std::size_t columns = size(window_.x.count());
    for (Array2<double>* image : {&detail.image, &detail.pixivar, &detail.model, &detail.chi, &detail.pixmask})
        *image = Array2<double>(rows, columns);
    detail.model.values() = model_;
    for (std::size_t y = 0; y < rows; ++y) {
        for (std::size_t x = 0; x < columns; ++x) {
            const std::size_t pixel = (y + size(window_.y.first)) * size(ccd.nx) + x + size(window_.x.first);
            detail.image(y, x) = static_cast<double>(ccd.pixels[pixel]);
            detail.pixivar(y, x) = static_cast<double>(ccd.weights[pixel]);
            detail.pixmask(y, x) = ccd.weights[pixel] > 0.0F ? 0.0 : 1.0;
            const double chi2 = chi2_[y * columns + x];
            const double difference = detail.image(y, x) - detail.model(y, x);
            detail.chi(y, x) = counted_[y * columns + x] > 0.0 ? std::copysign(std::sqrt(chi2), difference) : 0.0;
        }
    }
}

namespace {

/// Largest eigenvalue of a symmetric operator of order n by Lanczos' method, to a few percent: `apply(x, y)` puts A x into y.
template <class Apply> double largestEigenvalue(int n, const Apply& apply) {
    constexpr int steps = 10;
    const Eigen::Index order = n;
    const Eigen::Index count = std::min<Eigen::Index>(steps, order);
    Eigen::MatrixXd basis(order, count);
    Eigen::VectorXd diagonal(count);
    Eigen::VectorXd below(count);
    Eigen::VectorXd next(order);
    for (Eigen::Index i = 0; i < order; ++i)
        basis(i, 0) = 1.0 + 0.5 * std::sin(1.7 * static_cast<double>(i)); // not orthogonal to anything likely
    basis.col(0).normalize();
    Eigen::Index taken = 0;
    for (Eigen::Index k = 0; k < count; ++k) {
        apply(basis.col(k).data(), next.data());
        diagonal[k] = basis.col(k).dot(next);
        ++taken;
        // Orthogonal to all vectors so far, not only to the last two: rounding would bring the first ones back.
        next -= basis.leftCols(k + 1) * (basis.leftCols(k + 1).transpose() * next);
        below[k] = next.norm();
        if (k + 1 == count || !(below[k] > 1e-12 * std::abs(diagonal[0]))) break;
        basis.col(k + 1) = next / below[k];
    }
    Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> small;
    small.computeFromTridiagonal(diagonal.head(taken), below.head(taken - 1), Eigen::EigenvaluesOnly);
    return small.eigenvalues()[taken - 1];
}

} // namespace

double PatchSolver::conditionEstimate() {
    const int n = nspec_ * nwave_;
    const kernels::BandView u = bandView(factor_, n, halfBand_);
    const kernels::BandView matrix = bandView(icov_, n, halfBand_);
    const double largest = largestEigenvalue(n, [&](const double* x, double* out) {
        kernels::multiplyBand(matrix, x, out);
        for (int i = 0; i < n; ++i) out[i] += prior_[flat(i % nspec_, i / nspec_)] * x[i];
    });
    const double largestInverse = largestEigenvalue(n, [&](const double* x, double* out) {
        std::copy_n(x, n, out);
        kernels::solveBand(u, out);
    });
    return largest * largestInverse;
}

} // namespace patchlight
