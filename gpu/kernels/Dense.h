#pragma once

#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Team.h"

#include <cmath>

namespace patchlight::gpu {

/// The patches that the bands have left open, but those whose second neighbours matter, are solved with full blocks. Each takes a slot of
/// memory, the first such patch the first; blocks of other patches end at once.
PATCHLIGHT_HOST_DEVICE inline bool wantsFullBlocks(const PatchState& state) {
    return state.open != 0 && state.failed == 0 && state.empty == 0;
}
/// @return -1: none
template <class Team> PATCHLIGHT_HOST_DEVICE int slotOf(Team& team, const BatchView& b, int patch) {
    if (!wantsFullBlocks(b.states[patch])) return -1;
    const int before =
        static_cast<int>(team.sum(patch, [&](int p) { return wantsFullBlocks(b.states[p]) ? 1.0 : 0.0; }));
    return before < b.denseSlots ? before : -1;
}

/// Where things lie that full blocks need, in doubles.
struct DenseLayout {
    static constexpr int corner = 16; ///< a panel's corner
    /// Columns of E side by side with those of F and with y: four parts, so that members side by side read side by side.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static int tiles(int n) { return (n + 3) / 4; }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static int width(int n) { return n + 4 * tiles(n) + 1; }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static std::size_t augmented(int n) {
        return static_cast<std::size_t>(n) * static_cast<std::size_t>(width(n));
    }
    /// A row of a matrix of the roots: odd, so that both rows and columns are read without conflicts of banks, and room for a right-hand side.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static int stride(int n) { return (n + 1) | 1; }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static std::size_t matrix(int n) {
        return static_cast<std::size_t>(n) * static_cast<std::size_t>(stride(n));
    }
    /// Two of them.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static std::size_t matrices(int n) { return 2 * matrix(n); }
    /// Vectors of the roots.
    static constexpr int polesAtATime = 16;
    static constexpr int groups = 4; ///< members that share a column
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static std::size_t vectors(int n) {
        return static_cast<std::size_t>(mostRungs + 1) +
               static_cast<std::size_t>(n) * static_cast<std::size_t>(4 + groups + 3 + 2 * polesAtATime);
    }
    /// Memory of a slot: F and G of all spectra with their right-hand sides; and the matrices, where they do not fit into shared memory.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static std::size_t blocks(int nspec, int n) {
        const std::size_t order = static_cast<std::size_t>(n);
        return 2 * static_cast<std::size_t>(nspec) * order * (order + 1);
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static std::size_t slot(int nspec, int n, bool shared) {
        return blocks(nspec, n) +
               (shared ? 0 : larger(2 * augmented(n), static_cast<std::size_t>(nspec) * matrices(n)));
    }
};

/// A slot's blocks: upper triangles, [n][n]; F gives way to all of S where Q is wanted.
class DenseBlocks {
public:
    PATCHLIGHT_HOST_DEVICE DenseBlocks(const BatchView& b, int slot, int nspec, int n)
        : first_(b.dense + static_cast<std::size_t>(slot) * DenseLayout::slot(b.maxSpec, b.maxWave, b.denseShared)),
          nspec_(static_cast<std::size_t>(nspec)), n_(static_cast<std::size_t>(n)) {}
    /// F (direction 0; in the end S) or G of a spectrum, and its right-hand side.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE double* block(int direction, int s) const {
        return first_ + (static_cast<std::size_t>(direction) * nspec_ + static_cast<std::size_t>(s)) * n_ * (n_ + 1);
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE double* side(int direction, int s) const {
        return block(direction, s) + n_ * n_;
    }
    /// Memory for what does not fit into shared memory.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE double* scratch(const BatchView& b) const {
        return first_ + DenseLayout::blocks(b.maxSpec, b.maxWave);
    }

private:
    double* first_;
    std::size_t nspec_;
    std::size_t n_;
};

/// Element (i, i + d) of a spectrum's own block.
PATCHLIGHT_HOST_DEVICE inline double ownElement(const BatchView& b, int patch, int s, int i, int d) {
    return d < b.ownWidth
               ? b.patchOwn[b.flat(patch, s, i) * static_cast<std::size_t>(b.ownWidth) + static_cast<std::size_t>(d)]
               : 0.0;
}

/// F = U^T U in the first n of `columns` columns, carried over to the others: [F | B] becomes [U | U^-T B], with 1/u_ii in place of u_ii. Four
/// rows at a time; each column is one member's. Pivots that are not positive make everything NaN.
/// @param corner [16]; @param start start(c) is the first row of column c that is not zero
template <class Team, class Start>
PATCHLIGHT_HOST_DEVICE void factorisePanels(Team& team, int n, int columns, int width, double* m, double* corner,
                                            const Start& start) {
    for (int k0 = 0; k0 < n; k0 += 4) {
        const int rows = smaller(4, n - k0);
        double* panel = m + static_cast<std::size_t>(k0) * static_cast<std::size_t>(width);
        for (int c = k0 + team.rank(); c < columns; c += team.size()) {
            const int first = start(c);
            if (first >= k0 + 4) continue;
            double t[4];
            PATCHLIGHT_KERNEL_UNROLL
            for (int r = 0; r < 4; ++r) t[r] = r < rows ? panel[r * width + c] : 0.0;
            for (int k = first; k < k0; ++k) {
                const double* row = m + static_cast<std::size_t>(k) * static_cast<std::size_t>(width);
                const double value = row[c];
                PATCHLIGHT_KERNEL_UNROLL
                for (int r = 0; r < 4; ++r) t[r] -= row[k0 + r] * value; // rows beyond the last are not kept
            }
            PATCHLIGHT_KERNEL_UNROLL
            for (int r = 0; r < 4; ++r) {
                if (r >= rows) continue;
                panel[r * width + c] = t[r];
                if (c - k0 < rows) corner[4 * r + c - k0] = t[r];
            }
        }
        team.sync();
        // The corner's own factor, by every member for itself.
        double u[4][4];
        PATCHLIGHT_KERNEL_UNROLL
        for (int r = 0; r < 4; ++r) {
            PATCHLIGHT_KERNEL_UNROLL
            for (int c = 0; c < 4; ++c) {
                if (c < r) continue;
                u[r][c] = r < rows && c < rows ? corner[4 * r + c] : c == r ? 1.0 : 0.0;
            }
        }
        PATCHLIGHT_KERNEL_UNROLL
        for (int r = 0; r < 4; ++r) {
            PATCHLIGHT_KERNEL_UNROLL
            for (int k = 0; k < 4; ++k) {
                if (k >= r) continue;
                PATCHLIGHT_KERNEL_UNROLL
                for (int c = 0; c < 4; ++c)
                    if (c >= r) u[r][c] -= u[k][r] * u[k][c];
            }
            u[r][r] = 1.0 / std::sqrt(u[r][r]);
            PATCHLIGHT_KERNEL_UNROLL
            for (int c = 0; c < 4; ++c)
                if (c > r) u[r][c] *= u[r][r];
        }
        for (int c = k0 + team.rank(); c < columns; c += team.size()) {
            if (start(c) >= k0 + 4) continue;
            double x[4];
            PATCHLIGHT_KERNEL_UNROLL
            for (int r = 0; r < 4; ++r) {
                x[r] = r < rows ? panel[r * width + c] : 0.0;
                PATCHLIGHT_KERNEL_UNROLL
                for (int k = 0; k < 4; ++k)
                    if (k < r) x[r] -= u[k][r] * x[k];
                x[r] *= u[r][r];
            }
            PATCHLIGHT_KERNEL_UNROLL
            for (int r = 0; r < 4; ++r)
                if (r < rows) panel[r * width + c] = c == k0 + r ? u[r][r] : x[r];
        }
        team.sync();
    }
}

/// F (from the left) or G (from the right) of all spectra of a patch with nothing cut off but second neighbours (docs/method.md, "The fast path"). A
/// block a patch and direction, with the matrix at hand in shared memory where that is large enough.
struct DenseKernel {
    static constexpr const char* name = "gpu full blocks";
    BatchView b;

    [[nodiscard]] int blocks() const { return 2 * b.patches; }
    /// A member for each column.
    [[nodiscard]] int threads() const { return smaller(mostMembers, (DenseLayout::width(b.maxWave) + 31) / 32 * 32); }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const {
        return static_cast<std::size_t>(DenseLayout::corner) +
               (b.denseShared ? DenseLayout::augmented(b.maxWave) : std::size_t{0});
    }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int index) const {
        const int patch = index / 2;
        const int direction = index % 2;
        const int slot = slotOf(team, b, patch);
        if (slot < 0) return;
        if (direction == 0 && team.rank() == 0) b.states[patch].slot = slot;
        const DenseBlocks blocks(b, slot, b.tasks[patch].nspec, b.tasks[patch].nwave);
        // Twice, so that the compiler knows shared memory for what it is.
        if (b.denseShared)
            eliminate(team, patch, direction, blocks, team.shared() + DenseLayout::corner);
        else
            eliminate(team, patch, direction, blocks,
                      blocks.scratch(b) + static_cast<std::size_t>(direction) * DenseLayout::augmented(b.maxWave));
    }

private:
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void eliminate(Team& team, int patch, int direction, const DenseBlocks& blocks,
                                          double* m) const {
        const PatchTask& task = b.tasks[patch];
        const int n = task.nwave;
        const int begin = direction == 0 ? 0 : task.nspec - 1;
        const int step = direction == 0 ? 1 : -1;
        const int tiles = DenseLayout::tiles(n);
        const int width = DenseLayout::width(n);
        {
            double* block = blocks.block(direction, begin);
            double* side = blocks.side(direction, begin);
            for (int j = team.rank(); j < n; j += team.size()) {
                for (int i = 0; i <= j; ++i) block[i * n + j] = ownElement(b, patch, begin, i, j - i);
                side[j] = b.patchY[b.flat(patch, begin, j)];
            }
            team.sync();
        }
        // Column c of E, in four parts: bin 4 t + p is column t of part p.
        const auto bin = [&](int c) { return (c - n) % tiles * 4 + (c - n) / tiles; };
        const auto start = [&](int c) {
            if (c < n || c == width - 1) return 0;
            const int j = bin(c);
            return j < n ? larger(0, j - b.reach) : n;
        };
        for (int s = begin; s + step >= 0 && s + step < task.nspec; s += step) {
            const double* block = blocks.block(direction, s);
            const double* side = blocks.side(direction, s);
            const double* e =
                b.patchNext + b.flat(patch, direction == 0 ? s : s - 1, 0) * static_cast<std::size_t>(b.nextWidth());
            for (int c = team.rank(); c < width; c += team.size()) {
                const int j = c >= n && c < width - 1 ? bin(c) : n;
                for (int k = 0; k < n; ++k) {
                    double value = 0.0;
                    if (c < n)
                        value = c >= k ? block[k * n + c] : 0.0;
                    else if (c == width - 1)
                        value = side[k];
                    else if (j < n && k - j <= b.reach && j - k <= b.reach)
                        value = direction == 0 ? e[k * b.nextWidth() + j - k + b.reach]
                                               : e[j * b.nextWidth() + k - j + b.reach];
                    m[k * width + c] = value;
                }
            }
            team.sync();
            factorisePanels(team, n, width, width, m, team.shared(), start);
            subtractGram(team, patch, s + step, n, m, blocks.block(direction, s + step),
                         blocks.side(direction, s + step));
            team.sync();
        }
    }

    /// The next spectrum's block is its own less X^T X, and its right-hand side y - X^T z; four by four elements a member.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void subtractGram(Team& team, int patch, int s, int n, const double* m, double* to,
                                             double* toSide) const {
        const int tiles = DenseLayout::tiles(n);
        const int width = DenseLayout::width(n);
        // Pairs of tiles left <= right: rows of the triangle from both ends make up one row of tiles + 1 pairs.
        for (int item = team.rank(); item < (tiles + 1) / 2 * (tiles + 1); item += team.size()) {
            const int row = item / (tiles + 1);
            const int column = item % (tiles + 1);
            int left = row;
            int right = row + column;
            if (column >= tiles - row) {
                left = tiles - 1 - row;
                if (left == row) continue;
                right = left + column - (tiles - row);
            }
            double t[4][4] = {};
            for (int k = larger(0, 4 * right - b.reach); k < n; ++k) {
                const double* x = m + static_cast<std::size_t>(k) * static_cast<std::size_t>(width) + n;
                double l[4];
                double r[4];
                PATCHLIGHT_KERNEL_UNROLL
                for (int p = 0; p < 4; ++p) {
                    l[p] = x[p * tiles + left];
                    r[p] = x[p * tiles + right];
                }
                PATCHLIGHT_KERNEL_UNROLL
                for (int p = 0; p < 4; ++p) {
                    PATCHLIGHT_KERNEL_UNROLL
                    for (int q = 0; q < 4; ++q) t[p][q] += l[p] * r[q];
                }
            }
            PATCHLIGHT_KERNEL_UNROLL
            for (int p = 0; p < 4; ++p) {
                PATCHLIGHT_KERNEL_UNROLL
                for (int q = 0; q < 4; ++q) {
                    const int i = 4 * left + p;
                    const int j = 4 * right + q;
                    if (i <= j && j < n) to[i * n + j] = ownElement(b, patch, s, i, j - i) - t[p][q];
                }
            }
        }
        for (int j = team.rank(); j < n; j += team.size()) {
            const double* x = m + n + (j & 3) * tiles + (j >> 2);
            double sum = 0.0;
            for (int k = larger(0, j - b.reach); k < n; ++k) sum += x[k * width] * m[k * width + width - 1];
            toSide[j] = b.patchY[b.flat(patch, s, j)] - sum;
        }
    }
};

/// S = F + G - D of a spectrum, for those that are still open in place of F, and xflux = S^-1 (yF + yG - y). A block a spectrum, a member for each
/// column.
/// @tparam Shared the matrix lies in shared memory; else in the slot
template <bool Shared> struct SolutionsOfBlocks {
    static constexpr const char* name = "gpu full solutions";
    BatchView b;

    [[nodiscard]] int blocks() const { return b.patches * b.maxSpec; }
    static constexpr int mostThreads = 256;
    [[nodiscard]] int threads() const { return smaller(mostThreads, (b.maxWave + 1 + 31) / 32 * 32); }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const {
        return static_cast<std::size_t>(DenseLayout::corner) +
               (Shared ? DenseLayout::matrix(b.maxWave) : std::size_t{0});
    }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int index) const {
        const int patch = index / b.maxSpec;
        const int s = index % b.maxSpec;
        const PatchTask& task = b.tasks[patch];
        const int slot = b.states[patch].slot;
        if (slot < 0 || s >= task.nspec) return;
        const DenseBlocks blocks(b, slot, task.nspec, task.nwave);
        if constexpr (Shared)
            solve(team, patch, s, blocks, team.shared() + DenseLayout::corner);
        else
            solve(team, patch, s, blocks,
                  blocks.scratch(b) + static_cast<std::size_t>(s) * DenseLayout::matrices(b.maxWave));
    }

private:
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void solve(Team& team, int patch, int s, const DenseBlocks& blocks, double* m) const {
        const PatchTask& task = b.tasks[patch];
        const int n = task.nwave;
        const int stride = DenseLayout::stride(n);
        const bool open = s >= task.core && s < task.core + task.ncore && b.accepted[b.spectrumOf(patch, s)] == 0;
        double* f = blocks.block(0, s);
        const double* g = blocks.block(1, s);
        const std::size_t first = b.flat(patch, s, 0);
        for (int j = team.rank(); j < n; j += team.size()) {
            for (int i = 0; i <= j; ++i) {
                const double value = f[i * n + j] + g[i * n + j] - ownElement(b, patch, s, i, j - i);
                m[i * stride + j] = value;
                if (open) f[i * n + j] = f[j * n + i] = value;
            }
            m[j * stride + n] =
                blocks.side(0, s)[j] + blocks.side(1, s)[j] - b.patchY[first + static_cast<std::size_t>(j)];
        }
        team.sync();
        factorisePanels(team, n, n + 1, stride, m, team.shared(), [](int) { return 0; });
        for (int i = n - 1; i >= 0; --i) {
            const double value = m[i * stride + n] * m[i * stride + i];
            for (int k = team.rank(); k < i; k += team.size()) m[k * stride + n] -= m[k * stride + i] * value;
            if (team.rank() == 0) b.x[first + static_cast<std::size_t>(i)] = value;
            team.sync();
        }
    }
};

using DenseSolutionsKernel = SolutionsOfBlocks<true>;
using WideDenseSolutionsKernel = SolutionsOfBlocks<false>;

/// Q = S^(1/2) of a spectrum that is still open, by way of a tridiagonal matrix (docs/method.md, "The fast path": full blocks). A block a spectrum; a
/// column is shared by `groups` members.
/// @tparam Shared the matrices lie in shared memory; else in the slot, where registers for wider addresses are needed
template <bool Shared> struct RootsOfBlocks {
    static constexpr const char* name = "gpu full roots";
    BatchView b;

    [[nodiscard]] int blocks() const { return b.patches * b.maxSpec; }
    static constexpr int mostThreads = 384; ///< a group's members and 96 columns; what is more takes its turn
    [[nodiscard]] int threads() const { return smaller(mostThreads, DenseLayout::groups * wholeWarps(b.maxWave)); }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const {
        return DenseLayout::vectors(b.maxWave) + (Shared ? DenseLayout::matrices(b.maxWave) : std::size_t{0});
    }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int index) const {
        const int patch = index / b.maxSpec;
        const int s = index % b.maxSpec;
        const PatchTask& task = b.tasks[patch];
        const int slot = b.states[patch].slot;
        if (slot < 0 || b.states[patch].failed != 0 || s < task.core || s >= task.core + task.ncore ||
            b.accepted[b.spectrumOf(patch, s)] != 0)
            return;
        const DenseBlocks blocks(b, slot, task.nspec, task.nwave);
        if constexpr (Shared)
            solve(team, patch, s, blocks, team.shared() + DenseLayout::vectors(b.maxWave));
        else
            solve(team, patch, s, blocks,
                  blocks.scratch(b) + static_cast<std::size_t>(s) * DenseLayout::matrices(b.maxWave));
    }

private:
    static constexpr int groups = DenseLayout::groups;
    static constexpr int polesAtATime = DenseLayout::polesAtATime;
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static int wholeWarps(int count) { return (count + 31) / 32 * 32; }

    /// The vectors in shared memory.
    struct Vectors {
        double* verdict; // [mostRungs]
        double*
            mixed; // [n][4]: v and w of the reflection to come into the matrix, and v of the one at hand; the last two in turn
        double* part;     // [groups][n]
        double* diagonal; // [n]
        double* off;      // [n]
        double* tau;      // [n]
        double* minus;    // [n][polesAtATime]
        double* own;      // [n][polesAtATime]
    };

    template <class Team>
    PATCHLIGHT_HOST_DEVICE void solve(Team& team, int patch, int s, const DenseBlocks& blocks, double* a) const {
        const int n = b.tasks[patch].nwave;
        const int stride = DenseLayout::stride(n);
        double* m = a + static_cast<std::size_t>(n) * static_cast<std::size_t>(stride);
        Vectors v{};
        v.verdict = team.shared();
        v.mixed = v.verdict + mostRungs + 1;
        v.part = v.mixed + 4 * n;
        v.diagonal = v.part + groups * n;
        v.off = v.diagonal + n;
        v.tau = v.off + n;
        v.minus = v.tau + n;
        v.own = v.minus + polesAtATime * n;

        const double* from = blocks.block(0, s);
        for (int item = team.rank(); item < n * n; item += team.size()) a[item / n * stride + item % n] = from[item];
        team.sync();
        tridiagonalise(team, n, stride, a, v);
        const int rung = chooseRung(team, patch, s, n, v);
        if (rung < 0) return;
        rootOfTridiagonal(team, rung, b.largest[b.spectrumOf(patch, s)], n, stride, m, v);
        transformBack(team, n, stride, a, m, v);
        write(team, n, stride, m, b.flat(patch, s, 0), v);
    }

    /// Calls body(group, column) for columns [first, n): members of a group of whole warps read rows side by side.
    template <class Team, class Body>
    PATCHLIGHT_HOST_DEVICE static void eachColumn(Team& team, int first, int n, const Body& body) {
        const int padded = wholeWarps(n - first);
        for (int item = team.rank(); item < groups * padded; item += team.size()) {
            const int column = first + item % padded;
            if (column < n) body(item / padded, column);
        }
    }

    /// S = H T H^T with tridiagonal T and H a product of reflections 1 - tau_k v_k v_k^T (Householder; Golub & Van Loan, "Matrix Computations",
    /// algorithm 8.3.1). v_k takes the place of row k's elements right of the diagonal. A reflection enters the matrix in the pass that takes
    /// its product with the next one.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void tridiagonalise(Team& team, int n, int stride, double* a, const Vectors& v) const {
        double* mixed = v.mixed;
        for (int i = team.rank(); i < 4 * n; i += team.size()) mixed[i] = 0.0;
        team.sync();
        for (int k = 0; k < n; ++k) {
            double* row = a + static_cast<std::size_t>(k) * static_cast<std::size_t>(stride);
            if (team.rank() == 0) {
                v.diagonal[k] = row[k];
                v.tau[k] = 0.0;
                v.off[k] = 0.0;
            }
            if (k + 1 == n) break;
            const double head = row[k + 1];
            if (k + 2 == n) {
                if (team.rank() == 0) {
                    v.off[k] = head;
                    row[stride + k + 1] -= 2.0 * mixed[4 * (k + 1)] * mixed[4 * (k + 1) + 1];
                }
                continue; // the same member reads it
            }
            const double rest = team.sum(n - k - 2, [&](int i) { return row[k + 2 + i] * row[k + 2 + i]; });
            const bool done = rest == 0.0; // no light, no coupling
            const double norm = std::sqrt(head * head + rest);
            const double alpha = head > 0.0 ? -norm : norm;
            const double tau = done ? 0.0 : 1.0 / (norm * (norm + std::abs(head)));
            if (team.rank() == 0) {
                v.off[k] = done ? head : alpha;
                v.tau[k] = tau;
            }
            for (int j = k + 1 + team.rank(); j < n; j += team.size())
                mixed[4 * j + 2] = j == k + 1 ? head - alpha : row[j];
            team.sync();
            eachColumn(team, k + 1, n, [&](int group, int j) {
                const double vj = mixed[4 * j];
                const double wj = mixed[4 * j + 1];
                double sum = 0.0;
                for (int i = k + 1 + group; i < n; i += groups) {
                    const double* mine = mixed + 4 * i;
                    const double value = a[i * stride + j] - (mine[0] * wj + mine[1] * vj);
                    a[i * stride + j] = value;
                    sum += value * mine[2];
                }
                v.part[group * n + j] = sum;
            });
            team.sync();
            const double f = takeSide(team, k, k + 1, n, tau, 2, v);
            // The next row.
            const double vNext = mixed[4 * (k + 1) + 2];
            const double wNext = side(k + 1, n, tau, f, vNext, v);
            double* next = row + stride;
            for (int j = k + 1 + team.rank(); j < n; j += team.size())
                next[j] -= vNext * mixed[4 * j + 1] + wNext * mixed[4 * j];
            if (team.rank() == 0) row[k + 1] = vNext;
            team.sync();
        }
        team.sync();
    }

    /// (tau/2) v^T p with p = tau A v, of which `part` has A v.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE double factor(Team& team, int k, int n, double tau, int at, const Vectors& v) const {
        return 0.5 * tau * tau * team.sum(n - k - 1, [&](int i) {
            const int j = k + 1 + i;
            return v.mixed[4 * j + at] * product(j, n, v);
        });
    }
    PATCHLIGHT_HOST_DEVICE static double product(int j, int n, const Vectors& v) {
        double sum = v.part[j];
        PATCHLIGHT_KERNEL_UNROLL
        for (int group = 1; group < groups; ++group) sum += v.part[group * n + j];
        return sum;
    }
    /// w_j = p_j - (tau/2) (v^T p) v_j, of which A -= v w^T + w v^T applies the reflection from both sides.
    PATCHLIGHT_HOST_DEVICE static double side(int j, int n, double tau, double factor, double vj, const Vectors& v) {
        return tau * product(j, n, v) - factor * vj;
    }
    /// v and w of reflection k, for columns from `first` on, to where the next pass finds them. @param at where `mixed` has v
    /// @return (tau/2) v^T p
    template <class Team>
    PATCHLIGHT_HOST_DEVICE double takeSide(Team& team, int k, int first, int n, double tau, int at,
                                           const Vectors& v) const {
        const double f = factor(team, k, n, tau, at, v);
        for (int j = first + team.rank(); j < n; j += team.size()) {
            const double vj = j > k ? v.mixed[4 * j + at] : 0.0;
            v.mixed[4 * j] = vj;
            v.mixed[4 * j + 1] = side(j, n, tau, f, vj, v);
        }
        return f;
    }

    /// The rung of the fine ladder whose condition number T is proved to have: a factorisation of T - lmin has positive pivots only. @return -1: none
    template <class Team>
    PATCHLIGHT_HOST_DEVICE int chooseRung(Team& team, int patch, int s, int n, const Vectors& v) const {
        const Ladder& ladder = *b.fineLadder;
        for (int i = team.rank(); i < n; i += team.size())
            v.part[i] = std::abs(v.diagonal[i]) + (i > 0 ? std::abs(v.off[i - 1]) : 0.0) +
                        (i + 1 < n ? std::abs(v.off[i]) : 0.0);
        team.sync();
        double largest = 0.0; // Gershgorin
        for (int i = 0; i < n; ++i) largest = largerOrNaN(largest, v.part[i]);
        for (int r = team.rank(); r < ladder.rungs; r += team.size()) {
            const double shift = -largest / ladder.kappa[r];
            double pivot = v.diagonal[0] + shift;
            bool positive = pivot > 0.0;
            for (int i = 1; i < n; ++i) {
                pivot = v.diagonal[i] + shift - v.off[i - 1] * v.off[i - 1] / pivot;
                positive = positive && pivot > 0.0;
            }
            v.verdict[r] = positive ? 1.0 : 0.0;
        }
        team.sync();
        int rung = 0;
        while (rung < ladder.rungs && v.verdict[rung] == 0.0) ++rung;
        if (rung == ladder.rungs) rung = -1;
        if (team.rank() == 0) {
            b.largest[b.spectrumOf(patch, s)] = largest;
            b.condition[b.spectrumOf(patch, s)] = rung >= 0 ? ladder.kappa[rung] : 0.0;
        }
        team.sync();
        return rung;
    }

    /// M = T^(1/2) = sum_k c_k (1 - p_k (T + p_k)^-1). Of the inverse of T + p = L D L^T: G_ii = 1/d_i + l_i^2 G_i+1,i+1, and above its diagonal
    /// G_ij = -l_i G_i+1,j.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void rootOfTridiagonal(Team& team, int rung, double largest, int n, int stride, double* m,
                                                  const Vectors& v) const {
        const Ladder& ladder = *b.fineLadder;
        const double lowest = largest / ladder.kappa[rung];
        const double scale = std::sqrt(lowest);
        const int poles = ladder.poles[rung];
        double total = 0.0;
        for (int k = 0; k < poles; ++k) total += ladder.weight[rung][k] * scale;
        for (int first = 0; first < poles; first += polesAtATime) {
            for (int q = team.rank(); q < polesAtATime; q += team.size()) {
                const bool used = first + q < poles;
                const double pole = used ? ladder.pole[rung][first + q] * lowest : largest;
                const double weight = used ? ladder.weight[rung][first + q] * scale * pole : 0.0;
                double inverse = 0.0;
                for (int i = 0; i < n; ++i) {
                    const double e = i > 0 ? v.off[i - 1] : 0.0;
                    inverse = 1.0 / (v.diagonal[i] + pole - e * e * inverse);
                    v.own[i * polesAtATime + q] = inverse;
                    v.minus[i * polesAtATime + q] = i + 1 < n ? -v.off[i] * inverse : 0.0;
                }
                double after = 0.0;
                for (int i = n - 1; i >= 0; --i) {
                    const double l = v.minus[i * polesAtATime + q];
                    after = v.own[i * polesAtATime + q] + l * l * after;
                    v.own[i * polesAtATime + q] = weight * after;
                }
            }
            team.sync();
            for (int j = team.rank(); j < n; j += team.size()) {
                for (int half = 0; half < polesAtATime && first + half < poles; half += 8) {
                    const bool begin = first + half == 0;
                    double g[8];
                    double sum = 0.0;
                    PATCHLIGHT_KERNEL_UNROLL
                    for (int q = 0; q < 8; ++q) {
                        g[q] = v.own[j * polesAtATime + half + q];
                        sum += g[q];
                    }
                    m[j * stride + j] = (begin ? total : m[j * stride + j]) - sum;
                    for (int i = n - 2; i >= 0; --i) { // the same row for all members
                        if (i >= j) continue;
                        sum = 0.0;
                        PATCHLIGHT_KERNEL_UNROLL
                        for (int q = 0; q < 8; ++q) {
                            g[q] *= v.minus[i * polesAtATime + half + q];
                            sum += g[q];
                        }
                        m[i * stride + j] = (begin ? 0.0 : m[i * stride + j]) - sum;
                    }
                }
            }
            team.sync();
        }
        for (int j = team.rank(); j < n; j += team.size())
            for (int i = 0; i < j; ++i) m[j * stride + i] = m[i * stride + j];
        team.sync();
    }

    /// M = H M H^T. At reflection k only rows from k + 1 on are read and kept; of the rows above, what changes is read as columns, and taken over when
    /// its turn comes.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void transformBack(Team& team, int n, int stride, const double* a, double* m,
                                              const Vectors& v) const {
        double* mixed = v.mixed;
        const auto reflection = [&](int k) { // v_k, as `mixed` is to have it
            const double* row = a + static_cast<std::size_t>(k) * static_cast<std::size_t>(stride);
            for (int i = k + 1 + team.rank(); i < n; i += team.size()) mixed[4 * i + 2 + (k & 1)] = row[i];
        };
        for (int i = team.rank(); i < n; i += team.size()) mixed[4 * i] = mixed[4 * i + 1] = 0.0;
        if (n >= 3) reflection(n - 3);
        team.sync();
        for (int k = n - 3; k >= 0; --k) {
            const int at = 2 + (k & 1);
            const double tau = v.tau[k];
            eachColumn(team, 0, n, [&](int group, int j) {
                const double vj = mixed[4 * j];
                const double wj = mixed[4 * j + 1];
                double sum = 0.0;
                int i = k + 1 + group;
                if (group == 0) { // taken over with the reflection before
                    sum = m[i * stride + j] * mixed[4 * i + at];
                    i += groups;
                }
                for (; i < n; i += groups) {
                    const double* mine = mixed + 4 * i;
                    const double value = m[i * stride + j] - (mine[0] * wj + mine[1] * vj);
                    m[i * stride + j] = value;
                    sum += value * mine[at];
                }
                v.part[group * n + j] = sum;
            });
            team.sync();
            (void)takeSide(team, k, 0, n, tau, at, v);
            const double wk = tau * product(k, n, v);
            for (int j = k + 1 + team.rank(); j < n; j += team.size())
                m[k * stride + j] = m[j * stride + k] - wk * mixed[4 * j + at];
            if (k > 0) reflection(k - 1);
            team.sync();
        }
        // The last one.
        eachColumn(team, 0, n, [&](int group, int j) {
            const double vj = mixed[4 * j];
            const double wj = mixed[4 * j + 1];
            for (int i = 1 + group; i < n; i += groups) m[i * stride + j] -= mixed[4 * i] * wj + mixed[4 * i + 1] * vj;
        });
        team.sync();
    }

    /// Q's band, Q 1 and Q xflux.
    template <class Team>
    PATCHLIGHT_HOST_DEVICE void write(Team& team, int n, int stride, const double* m, std::size_t first,
                                      const Vectors& v) const {
        eachColumn(team, 0, n, [&](int group, int i) {
            double one = 0.0;
            double x = 0.0;
            for (int r = group; r < n; r += groups) {
                const double value = m[r * stride + i];
                one += value;
                x += value * b.x[first + static_cast<std::size_t>(r)];
            }
            v.part[group * n + i] = one;
            v.mixed[4 * i + group] = x;
        });
        team.sync();
        for (int i = team.rank(); i < n; i += team.size()) {
            b.rowSum[first + static_cast<std::size_t>(i)] = product(i, n, v);
            double x = v.mixed[4 * i];
            PATCHLIGHT_KERNEL_UNROLL
            for (int group = 1; group < groups; ++group) x += v.mixed[4 * i + group];
            b.qx[first + static_cast<std::size_t>(i)] = x;
        }
        const int diagonals = b.ndiag + 1;
        for (int item = team.rank(); item < n * diagonals; item += team.size()) {
            const int i = item / diagonals;
            const int d = item % diagonals;
            b.q[(first + static_cast<std::size_t>(i)) * static_cast<std::size_t>(diagonals) +
                static_cast<std::size_t>(d)] = i + d < n ? m[i * stride + i + d] : 0.0;
        }
    }
};

using DenseRootsKernel = RootsOfBlocks<true>;
using WideDenseRootsKernel = RootsOfBlocks<false>;

} // namespace patchlight::gpu
