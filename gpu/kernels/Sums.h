#pragma once

#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Team.h"

namespace patchlight::gpu {

/// Sum over the CCD's pixels of A_{s,i} w A_{t,j}, on rows [y0, y1).
PATCHLIGHT_HOST_DEVICE inline double overlap(const BatchView& b, int s, int i, int t, int j, int y0, int y1) {
    const std::size_t one = b.spot(s, i);
    const std::size_t two = b.spot(t, j);
    const int left = larger(larger(b.cornerX[one], b.cornerX[two]), b.stripX);
    const int right = smaller(smaller(b.cornerX[one], b.cornerX[two]) + b.stampX, b.stripX + b.stripNx);
    const int low = larger(larger(b.cornerY[one], b.cornerY[two]), larger(y0, b.stripY));
    const int high = smaller(smaller(b.cornerY[one], b.cornerY[two]) + b.stampY, smaller(y1, b.stripY + b.stripNy));
    double sum = 0.0;
    for (int y = low; y < high; ++y) {
        const double* a = b.stamp(s, i) + (y - b.cornerY[one]) * b.stampX - b.cornerX[one];
        const double* c = b.stamp(t, j) + (y - b.cornerY[two]) * b.stampX - b.cornerX[two];
        const float* w = b.weights + b.pixel(0, y);
        for (int x = left; x < right; ++x) sum += a[x] * (static_cast<double>(w[x]) * c[x]);
    }
    return sum;
}

/// Normal equations of a whole bundle, over the whole CCD: overlaps of spots with their own spectrum's, the next one's and the one's after,
/// and A^T W p, A^T w. Patches take theirs from here (GatherKernel). Some bins of a spectrum a block, whose spots times weights
/// lie in shared memory, as do the spots that they overlap with, a spectrum at a time; a pair of spots a member.
struct SumsKernel {
    static constexpr const char* name = "gpu normal equations";
    BatchView b;
    int binsPerBlock = 8;

    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int groups() const { return (b.nbins + binsPerBlock - 1) / binsPerBlock; }
    [[nodiscard]] int blocks() const { return b.nspec * groups(); }
    [[nodiscard]] int threads() const { return 128; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const {
        return static_cast<std::size_t>(binsPerBlock + others()) * static_cast<std::size_t>(b.stampStride) +
               static_cast<std::size_t>(binsPerBlock) * static_cast<std::size_t>(b.nextWidth());
    }
    /// Spots of a spectrum that those of a block may overlap with.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int others() const {
        return binsPerBlock - 1 + larger(b.ownWidth, b.nextWidth());
    }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int block) const {
        const int s = block / groups();
        const int first = (block % groups()) * binsPerBlock;
        const int count = smaller(binsPerBlock, b.nbins - first);
        const int size = b.stampX * b.stampY;
        double* weighted = team.shared();
        double* theirs = weighted + binsPerBlock * b.stampStride;
        double* far = theirs + others() * b.stampStride; // [bins][nextWidth]

        for (int item = team.rank(); item < count * size; item += team.size()) {
            const int k = item / size;
            const int p = item % size;
            const std::size_t at = b.spot(s, first + k);
            const int x = b.cornerX[at] + p % b.stampX;
            const int y = b.cornerY[at] + p / b.stampX;
            const bool on = x >= b.stripX && x < b.stripX + b.stripNx && y >= b.stripY && y < b.stripY + b.stripNy;
            weighted[k * b.stampStride + p] =
                on ? b.stamp(s, first + k)[p] * static_cast<double>(b.weights[b.pixel(x, y)]) : 0.0;
        }
        const int width = b.nextWidth();
        for (int t = s; t < s + 3; ++t) {
            // Bins [from, to) of spectrum t.
            const int pairs = t == s ? b.ownWidth : width;
            const int before = t == s ? 0 : b.reach;
            const int from = larger(0, first - before);
            const int to = t < b.nspec ? smaller(b.nbins, first - before + count - 1 + pairs) : from;
            const double* stamps = b.stamps + b.spot(t, from) * static_cast<std::size_t>(b.stampStride);
            for (int item = team.rank(); item < (to - from) * b.stampStride; item += team.size())
                theirs[item] = stamps[item];
            team.sync();
            for (int item = team.rank(); item < count * (pairs + (t == s ? 1 : 0)); item += team.size()) {
                const int k = item % count;
                const int pair = item / count;
                const int bin = first + k;
                const int other = bin + pair - before;
                const double* a = weighted + k * b.stampStride;
                if (pair == pairs) {
                    sums(a, theirs + (bin - from) * b.stampStride, s, bin);
                    continue;
                }
                double* out = t == s       ? b.own + b.spot(s, bin) * static_cast<std::size_t>(pairs)
                              : t == s + 1 ? b.next + b.spot(s, bin) * static_cast<std::size_t>(pairs)
                                           : far + k * width;
                out[pair] = other >= from && other < to
                                ? product(a, s, bin, theirs + (other - from) * b.stampStride, t, other)
                                : 0.0;
            }
            team.sync();
        }
        for (int k = team.rank(); k < count; k += team.size()) {
            double most = 0.0;
            for (int d = 0; d < width; ++d) most = larger(most, far[k * width + d]);
            b.second[b.spot(s, first + k)] = most;
        }
    }

private:
    PATCHLIGHT_HOST_DEVICE double product(const double* a, int s, int i, const double* c, int t, int j) const {
        const std::size_t one = b.spot(s, i);
        const std::size_t two = b.spot(t, j);
        const int dx = b.cornerX[two] - b.cornerX[one];
        const int dy = b.cornerY[two] - b.cornerY[one];
        const int columns = b.stampX - (dx < 0 ? -dx : dx);
        const int rows = b.stampY - (dy < 0 ? -dy : dy);
        if (columns <= 0 || rows <= 0) return 0.0;
        const double* left = a + larger(dy, 0) * b.stampX + larger(dx, 0);
        const double* right = c + larger(-dy, 0) * b.stampX + larger(-dx, 0);
        double sum = 0.0;
        for (int y = 0; y < rows; ++y, left += b.stampX, right += b.stampX)
            for (int x = 0; x < columns; ++x) sum += left[x] * right[x];
        return sum;
    }

    PATCHLIGHT_HOST_DEVICE void sums(const double* a, const double* stamp, int s, int bin) const {
        const std::size_t at = b.spot(s, bin);
        double y = 0.0;
        double fluxweight = 0.0;
        double unmasked = 0.0;
        const int x0 = larger(b.cornerX[at], b.stripX);
        const int x1 = smaller(b.cornerX[at] + b.stampX, b.stripX + b.stripNx);
        const int y0 = larger(b.cornerY[at], b.stripY);
        const int y1 = smaller(b.cornerY[at] + b.stampY, b.stripY + b.stripNy);
        for (int row = y0; row < y1; ++row)
            for (int column = x0; column < x1; ++column) {
                const int p = (row - b.cornerY[at]) * b.stampX + column - b.cornerX[at];
                const std::size_t pixel = b.pixel(column, row);
                y += a[p] * static_cast<double>(b.pixels[pixel]);
                fluxweight += a[p];
                if (b.weights[pixel] > 0.0F) unmasked += stamp[p];
            }
        b.y[at] = y;
        b.fluxweight[at] = fluxweight;
        b.unmasked[at] = unmasked;
    }
};

} // namespace patchlight::gpu
