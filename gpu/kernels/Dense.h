#pragma once

#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Team.h"

#include <cmath>

namespace patchlight::gpu {

/// The patches that all bands have left open, but those whose condition is beyond the ladder, are solved with full blocks. They are few:
/// each takes a slot of memory, the first such patch the first, and blocks without one end at once.
PATCHLIGHT_HOST_DEVICE inline bool wantsFullBlocks(const PatchState& state) {
    return state.open != 0 && state.failed == 0 && state.empty == 0;
}
/// @return the patch that has a slot; -1: none
PATCHLIGHT_HOST_DEVICE inline int patchOfSlot(const BatchView& b, int slot) {
    int before = 0;
    for (int p = 0; p < b.patches; ++p)
        if (wantsFullBlocks(b.states[p]) && before++ == slot) return p;
    return -1;
}

/// Doubles of a slot: blocks of all spectra, one for the other direction, an augmented matrix, and the eigenvectors of every spectrum.
PATCHLIGHT_HOST_DEVICE inline std::size_t denseSlotSize(int nspec, int n) {
    const std::size_t order = static_cast<std::size_t>(n);
    return order * order * static_cast<std::size_t>(2 * nspec + 1) + order * (2 * order + 1) +
           static_cast<std::size_t>(nspec + 2) * order;
}

/// F, G and S = F + G - D with nothing cut off but second neighbours, and xflux; a block a patch (docs/method.md, "The fast path").
struct DenseKernel {
    static constexpr const char* name = "gpu full blocks";
    BatchView b;

    [[nodiscard]] int blocks() const { return b.denseSlots; }
    [[nodiscard]] int threads() const { return 256; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return 1; }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int slot) const {
        const int patch = patchOfSlot(b, slot);
        if (patch < 0) return;
        const PatchTask& task = b.tasks[patch];
        const int n = task.nwave;
        const std::size_t square = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
        double* left = b.dense + static_cast<std::size_t>(slot) * denseSlotSize(b.maxSpec, b.maxWave); // [nspec][n][n]
        double* right = left + square * static_cast<std::size_t>(2 * task.nspec);
        double* work = right + square;
        double* leftY = work + static_cast<std::size_t>(n) * static_cast<std::size_t>(2 * n + 1);
        double* rightY = leftY + static_cast<std::size_t>(task.nspec) * static_cast<std::size_t>(n);

        for (int s = 0; s < task.nspec; ++s) {
            double* f = left + square * static_cast<std::size_t>(s);
            double* y = leftY + s * n;
            copyOwn(team, patch, s, n, f, y);
            team.sync();
            if (s > 0) eliminate(team, patch, s - 1, false, n, f - square, y - n, work, f, y);
        }
        for (int s = task.nspec - 1; s >= 0; --s) {
            double* f = left + square * static_cast<std::size_t>(s);
            double* y = leftY + s * n;
            if (s + 1 == task.nspec) {
                copyOwn(team, patch, s, n, right, rightY);
                team.sync();
            } else {
                // G of the spectrum to the right is used up while that of this one is made, in what will be scratch: work holds its factor.
                factorise(team, patch, s, true, n, right, rightY, work);
                copyOwn(team, patch, s, n, right, rightY);
                team.sync();
                subtractGram(team, n, work, right, rightY);
            }
            // S takes the place of F.
            for (int item = team.rank(); item < n * n; item += team.size()) {
                const int i = item / n;
                const int j = item % n;
                if (j >= i) f[item] += right[item] - own(patch, s, i, j - i);
            }
            for (int i = team.rank(); i < n; i += team.size()) y[i] += rightY[i] - b.patchY[b.flat(patch, s, i)];
            team.sync();
            solve(team, n, f, y, work, b.x + b.flat(patch, s, 0));
            team.sync();
        }
    }

private:
    PATCHLIGHT_HOST_DEVICE double own(int patch, int s, int i, int d) const {
        return d < b.ownWidth ? b.patchOwn[b.flat(patch, s, i) * static_cast<std::size_t>(b.ownWidth) +
                                           static_cast<std::size_t>(d)]
                              : 0.0;
    }
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void copyOwn(Team& team, int patch, int s, int n, double* block, double* y) const {
        for (int item = team.rank(); item < n * n; item += team.size())
            block[item] = item % n >= item / n ? own(patch, s, item / n, item % n - item / n) : 0.0;
        for (int i = team.rank(); i < n; i += team.size()) y[i] = b.patchY[b.flat(patch, s, i)];
    }

    /// Rows [U | X | z] in place of [F | E | y]: F = U^T U, X = U^-T E, z = U^-T y. @param s the spectrum of E's rows, or of its columns
    /// where `transposed`
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void factorise(Team& team, int patch, int s, bool transposed, int n, const double* block,
                                          const double* y, double* m) const {
        const int width = 2 * n + 1;
        const double* e = b.patchNext + b.flat(patch, s, 0) * static_cast<std::size_t>(b.nextWidth());
        for (int item = team.rank(); item < n * width; item += team.size()) {
            const int k = item / width;
            const int c = item % width;
            const int j = c - n;
            double value = 0.0;
            if (c < n)
                value = block[k * n + c];
            else if (c == 2 * n)
                value = y[k];
            else if (k - j <= b.reach && j - k <= b.reach)
                value = transposed ? e[j * b.nextWidth() + k - j + b.reach] : e[k * b.nextWidth() + j - k + b.reach];
            m[item] = value;
        }
        team.sync();
        reduce(team, n, width, b.reach, m);
    }
    /// Cholesky's algorithm on the first n columns, carried over to the others, of which column n + j is zero above row j - reach.
    template <class Team> PATCHLIGHT_HOST_DEVICE void reduce(Team& team, int n, int width, int reach, double* m) const {
        for (int k = 0; k < n; ++k) {
            double* row = m + static_cast<std::size_t>(k) * static_cast<std::size_t>(width);
            const double inverse = 1.0 / std::sqrt(row[k]);
            team.sync(); // all have read the pivot
            for (int c = k + team.rank(); c < width; c += team.size()) row[c] *= inverse;
            team.sync();
            const int columns = width - k - 1;
            for (int item = team.rank(); item < (n - k - 1) * columns; item += team.size()) {
                const int i = k + 1 + item / columns;
                const int c = k + 1 + item % columns;
                if (c < i || (c >= n && c < width - 1 && c - n > k + reach)) continue;
                m[static_cast<std::size_t>(i) * static_cast<std::size_t>(width) + static_cast<std::size_t>(c)] -=
                    row[i] * row[c];
            }
            team.sync();
        }
    }
    /// block -= X^T X, y -= X^T z.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void subtractGram(Team& team, int n, const double* m, double* block, double* y) const {
        const int width = 2 * n + 1;
        for (int item = team.rank(); item < n * n; item += team.size()) {
            const int i = item / n;
            const int j = item % n;
            if (j < i) continue;
            double sum = 0.0;
            for (int k = larger(0, j - b.reach); k < n; ++k) sum += m[k * width + n + i] * m[k * width + n + j];
            block[item] -= sum;
        }
        for (int j = team.rank(); j < n; j += team.size()) {
            double sum = 0.0;
            for (int k = larger(0, j - b.reach); k < n; ++k) sum += m[k * width + n + j] * m[k * width + 2 * n];
            y[j] -= sum;
        }
        team.sync();
    }
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void eliminate(Team& team, int patch, int s, bool transposed, int n, const double* from,
                                          const double* fromY, double* work, double* to, double* toY) const {
        factorise(team, patch, s, transposed, n, from, fromY, work);
        subtractGram(team, n, work, to, toY);
    }
    /// x = S^-1 y.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void solve(Team& team, int n, const double* block, const double* y, double* m,
                                      double* x) const {
        const int width = n + 1;
        for (int item = team.rank(); item < n * width; item += team.size())
            m[item] = item % width < n ? block[item / width * n + item % width] : y[item / width];
        team.sync();
        reduce(team, n, width, n, m);
        for (int i = n - 1; i >= 0; --i) {
            const double value = m[i * width + n] / m[i * width + i];
            team.sync(); // all have read it
            if (team.rank() == 0) x[i] = value;
            for (int k = team.rank(); k < i; k += team.size()) m[k * width + n] -= m[k * width + i] * value;
            team.sync();
        }
    }
};

/// Q = S^(1/2) of a core spectrum that is still open, by Jacobi's rotations; a block a spectrum. Rotations of a round touch disjoint pairs of
/// rows, so they are done side by side.
struct DenseRootsKernel {
    static constexpr const char* name = "gpu eigenvectors";
    BatchView b;

    [[nodiscard]] int blocks() const { return b.denseSlots * b.maxSpec; }
    [[nodiscard]] int threads() const { return 256; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return static_cast<std::size_t>(6 * b.maxWave + 16); }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int block) const {
        const int slot = block / b.maxSpec;
        const int s = block % b.maxSpec;
        const int patch = patchOfSlot(b, slot);
        if (patch < 0) return;
        const PatchTask& task = b.tasks[patch];
        if (s < task.core || s >= task.core + task.ncore || b.accepted[b.spectrumOf(patch, s)] != 0) return;
        const int n = task.nwave;
        const std::size_t square = static_cast<std::size_t>(n) * static_cast<std::size_t>(n);
        double* a = b.dense + static_cast<std::size_t>(slot) * denseSlotSize(b.maxSpec, b.maxWave) +
                    square * static_cast<std::size_t>(s);
        double* v = a + square * static_cast<std::size_t>(task.nspec); // columns are eigenvectors
        const int even = (n + 1) / 2 * 2;
        double* cosine = team.shared(); // [even / 2]
        double* sine = cosine + even / 2;
        double* turned = sine + even / 2; // by pair: whether a rotation of this sweep was worth it
        double* root = turned + even / 2; // [n]
        double* ones = root + n;          // [n]: V^T 1, V^T x, times the roots
        double* xs = ones + n;

        for (int item = team.rank(); item < n * n; item += team.size()) {
            const int i = item / n;
            const int j = item % n;
            if (j < i) a[item] = a[j * n + i];
            v[item] = i == j ? 1.0 : 0.0;
        }
        team.sync();
        constexpr int mostSweeps = 20;
        bool done = false;
        for (int sweep = 0; sweep < mostSweeps && !done; ++sweep) {
            for (int pair = team.rank(); pair < even / 2; pair += team.size()) turned[pair] = 0.0;
            for (int round = 0; round < even - 1; ++round) {
                for (int pair = team.rank(); pair < even / 2; pair += team.size()) {
                    int p = 0;
                    int q = 0;
                    members(round, pair, even, p, q);
                    rotation(a, n, p, q, cosine[pair], sine[pair], turned[pair]);
                }
                team.sync();
                // Columns of A and of V, then rows of A.
                for (int item = team.rank(); item < even / 2 * 2 * n; item += team.size()) {
                    const int pair = item % (even / 2);
                    const int i = item / (even / 2) % n;
                    double* matrix = item / (even / 2) < n ? a : v;
                    int p = 0;
                    int q = 0;
                    members(round, pair, even, p, q);
                    if (q >= n || sine[pair] == 0.0) continue;
                    turn(matrix[i * n + p], matrix[i * n + q], cosine[pair], sine[pair]);
                }
                team.sync();
                for (int item = team.rank(); item < even / 2 * n; item += team.size()) {
                    const int pair = item / n;
                    const int j = item % n;
                    int p = 0;
                    int q = 0;
                    members(round, pair, even, p, q);
                    if (q >= n || sine[pair] == 0.0) continue;
                    turn(a[p * n + j], a[q * n + j], cosine[pair], sine[pair]);
                }
                team.sync();
            }
            done = true;
            for (int pair = 0; pair < even / 2; ++pair) done = done && turned[pair] == 0.0;
            team.sync(); // before it is cleared
        }

        double smallest = HUGE_VAL;
        double largest = 0.0;
        for (int k = 0; k < n; ++k) {
            smallest = smaller(smallest, a[k * n + k]);
            largest = larger(largest, a[k * n + k]);
        }
        const std::size_t first = b.flat(patch, s, 0);
        const bool good = done && smallest > 0.0 && largest < HUGE_VAL;
        if (team.rank() == 0) b.condition[b.spectrumOf(patch, s)] = good ? largest / smallest : 0.0;
        if (!good) return;
        for (int k = team.rank(); k < n; k += team.size()) {
            double one = 0.0;
            double x = 0.0;
            for (int i = 0; i < n; ++i) {
                one += v[i * n + k];
                x += v[i * n + k] * b.x[first + static_cast<std::size_t>(i)];
            }
            root[k] = std::sqrt(a[k * n + k]);
            ones[k] = root[k] * one;
            xs[k] = root[k] * x;
        }
        team.sync();
        const int values = b.ndiag + 3;
        for (int item = team.rank(); item < n * values; item += team.size()) {
            const int i = item / values;
            const int d = item % values - 2;
            const double* row = v + static_cast<std::size_t>(i) * static_cast<std::size_t>(n);
            const std::size_t at = first + static_cast<std::size_t>(i);
            double sum = 0.0;
            if (d == -2) {
                for (int k = 0; k < n; ++k) sum += row[k] * ones[k];
                b.rowSum[at] = sum;
            } else if (d == -1) {
                for (int k = 0; k < n; ++k) sum += row[k] * xs[k];
                b.qx[at] = sum;
            } else {
                if (i + d < n)
                    for (int k = 0; k < n; ++k) sum += row[k] * root[k] * row[d * n + k];
                b.q[at * static_cast<std::size_t>(b.ndiag + 1) + static_cast<std::size_t>(d)] = sum;
            }
        }
    }

private:
    /// Pairs of a round of a tournament of `even` players: everybody meets everybody once in even - 1 rounds.
    PATCHLIGHT_HOST_DEVICE static void members(int round, int pair, int even, int& p, int& q) {
        const int others = even - 1;
        const int one = pair == 0 ? others : (round + pair) % others;
        const int two = pair == 0 ? round : (round - pair + others) % others;
        p = smaller(one, two);
        q = larger(one, two);
    }
    /// The rotation that makes A(p, q) zero (Golub & Van Loan, "Matrix Computations", 8.5); none where it is a rounding of the diagonal.
    PATCHLIGHT_HOST_DEVICE static void rotation(const double* a, int n, int p, int q, double& cosine, double& sine,
                                                double& turned) {
        constexpr double negligible = 4e-16;
        cosine = 1.0;
        sine = 0.0;
        if (q >= n) return;
        const double apq = a[p * n + q];
        const double app = a[p * n + p];
        const double aqq = a[q * n + q];
        if (!(std::abs(apq) > negligible * std::sqrt(std::abs(app) * std::abs(aqq)))) return;
        const double tau = (aqq - app) / (2.0 * apq);
        const double t = (tau >= 0.0 ? 1.0 : -1.0) / (std::abs(tau) + std::sqrt(1.0 + tau * tau));
        cosine = 1.0 / std::sqrt(1.0 + t * t);
        sine = t * cosine;
        turned = 1.0;
    }
    PATCHLIGHT_HOST_DEVICE static void turn(double& p, double& q, double cosine, double sine) {
        const double one = p;
        const double two = q;
        p = cosine * one - sine * two;
        q = sine * one + cosine * two;
    }
};

} // namespace patchlight::gpu
