#pragma once

#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Team.h"

#include <cmath>

namespace patchlight::gpu {

/// Eliminates a patch's spectra one after the other, from the left (F) or from the right (G), a block for each:
/// F_{s+1} = D_{s+1} - E_s^T F_s^-1 E_s, kept to W off-diagonals (docs/method.md, "The fast path").
///
/// Rows of F_s are eliminated in turn. A row's pivot updates at once what is left of F_s (a triangle of W + 1 rows in shared memory), what is
/// left of every column of E_s (W + 1 elements, held by the column's member) and of the right-hand side; the row that comes out, U^-T E_s,
/// goes into X^T X there and then, so that X itself is never stored. One barrier a row.
template <int W> struct EliminateKernel {
    static constexpr const char* name = "gpu elimination";
    BatchView b;

    [[nodiscard]] int blocks() const { return 2 * b.patches; }
    /// A member for each column and one for the right-hand side.
    [[nodiscard]] int threads() const { return (b.maxWave + 1 + 31) / 32 * 32; }
    static constexpr int triangle = (W + 1) * (W + 2) / 2;
    [[nodiscard]] std::size_t sharedDoubles() const {
        const std::size_t n = static_cast<std::size_t>(b.maxWave);
        return n * (W + 1) + n * static_cast<std::size_t>(b.nextWidth()) + n + 2 * (W + 1) * (W + 1) + 2 * (n + 1);
    }

    /// A column of E: the rows that the pivots reach, and its products with the columns before it.
    struct Column {
        double left[W + 1];
        double gram[W + 2];
        double side;
        double x;
    };
    [[nodiscard]] std::size_t itemBytes() const {
        return static_cast<std::size_t>(b.maxWave + 1) * sizeof(Column) + 64;
    }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int block) const {
        const int patch = block / 2;
        const int direction = block % 2;
        if (b.states[patch].open == 0) return;
        const PatchTask& task = b.tasks[patch];
        const int n = task.nwave;
        const int begin = direction == 0 ? 0 : task.nspec - 1;
        const int step = direction == 0 ? 1 : -1;

        double* band = team.shared();                                    // [n][W + 1], F_s
        double* coupling = band + static_cast<std::size_t>(n) * (W + 1); // [n][nextWidth], E_s
        double* side = coupling + static_cast<std::size_t>(n) * static_cast<std::size_t>(b.nextWidth());
        double* window = side + n;                    // [2][W + 1][W + 1]
        double* row = window + 2 * (W + 1) * (W + 1); // [2][n + 1]
        auto columns = team.template items<Column>(n + 1);

        // The first spectrum's block is its own.
        for (int item = team.rank(); item < n * (W + 1); item += team.size())
            blockOf(direction, patch, begin)[item] = own(patch, begin, item / (W + 1), item % (W + 1));
        for (int i = team.rank(); i < n; i += team.size()) {
            b.side[direction][b.flat(patch, begin, i)] = b.patchY[b.flat(patch, begin, i)];
            b.leak[direction][b.flat(patch, begin, i)] = 0.0;
        }
        team.sync();

        for (int s = begin; s + step >= 0 && s + step < task.nspec; s += step) {
            const double* f = blockOf(direction, patch, s);
            const double* e =
                b.patchNext + b.flat(patch, direction == 0 ? s : s - 1, 0) * static_cast<std::size_t>(b.nextWidth());
            for (int item = team.rank(); item < n * (W + 1); item += team.size()) band[item] = f[item];
            for (int item = team.rank(); item < n * b.nextWidth(); item += team.size()) coupling[item] = e[item];
            for (int i = team.rank(); i < n; i += team.size()) side[i] = b.side[direction][b.flat(patch, s, i)];
            team.sync();

            // Element (k, j) of E: row k of this spectrum, column j of the neighbour.
            const auto element = [&](int k, int j) {
                if (k >= n || k - j > b.reach || j - k > b.reach) return 0.0;
                return direction == 0 ? coupling[k * b.nextWidth() + j - k + b.reach]
                                      : coupling[j * b.nextWidth() + k - j + b.reach];
            };
            for (int item = team.rank(); item < (W + 1) * (W + 1); item += team.size()) {
                const int m = item / (W + 1);
                const int c = item % (W + 1);
                window[item] = c < m ? 0.0 : c < n ? band[m * (W + 1) + c - m] : c == m ? 1.0 : 0.0;
            }
            team.each(columns, n + 1, [&](int j, Column& column) {
                PATCHLIGHT_KERNEL_UNROLL
                for (int m = 0; m <= W; ++m) column.left[m] = j < n ? element(m, j) : m < n ? side[m] : 0.0;
                PATCHLIGHT_KERNEL_UNROLL
                for (int d = 0; d <= W + 1; ++d) column.gram[d] = 0.0;
                column.side = 0.0;
                column.x = 0.0;
            });
            team.sync();

            for (int k = 0; k <= n; ++k) {
                const double* now = window + (k & 1) * (W + 1) * (W + 1);
                double* then = window + ((k + 1) & 1) * (W + 1) * (W + 1);
                const double* before = row + ((k + 1) & 1) * (n + 1); // x of row k - 1
                double* out = row + (k & 1) * (n + 1);
                const double inverse = 1.0 / std::sqrt(now[0]);
                team.each(columns, n + 1, [&](int j, Column& column) {
                    // Columns that have not begun are zero.
                    const bool begun = j - b.reach < k || j == n;
                    if (k > 0 && j < n && begun) {
                        PATCHLIGHT_KERNEL_UNROLL
                        for (int d = 0; d <= W + 1; ++d)
                            if (d <= j) column.gram[d] += column.x * before[j - d];
                        column.side += column.x * before[n];
                    }
                    if (k == n) return;
                    if (j < n && k + W + 1 < j - b.reach) { // nor has what enters next
                        out[j] = 0.0;
                        return;
                    }
                    const double x = column.left[0] * inverse;
                    column.x = x;
                    out[j] = x;
                    PATCHLIGHT_KERNEL_UNROLL
                    for (int m = 1; m <= W; ++m) column.left[m - 1] = column.left[m] - now[m] * inverse * x;
                    const int entering = k + 1 + W;
                    column.left[W] = j < n ? element(entering, j) : entering < n ? side[entering] : 0.0;
                });
                if (k == n) break;
                for (int item = team.rank(); item < (W + 1) * (W + 1); item += team.size()) {
                    const int m = item / (W + 1);
                    const int c = item % (W + 1);
                    if (c < m) continue;
                    const int entering = k + 1 + m;
                    then[item] = c < W ? now[(m + 1) * (W + 1) + c + 1] - now[m + 1] * inverse * (now[c + 1] * inverse)
                                 : k + 1 + W < n ? band[entering * (W + 1) + W - m]
                                 : m == W        ? 1.0
                                                 : 0.0;
                }
                team.sync();
            }

            // The neighbour's block, and what the band leaves out of it.
            const int t = s + step;
            double* to = blockOf(direction, patch, t);
            team.each(columns, n + 1, [&](int j, Column& column) {
                if (j == n) return;
                PATCHLIGHT_KERNEL_UNROLL
                for (int d = 0; d <= W; ++d)
                    if (d <= j) to[(j - d) * (W + 1) + d] = own(patch, t, j - d, d) - column.gram[d];
                for (int d = 0; d <= W; ++d)
                    if (j + d >= n) to[j * (W + 1) + d] = 0.0;
                b.leak[direction][b.flat(patch, t, j)] = j >= W + 1 ? std::abs(column.gram[W + 1]) : 0.0;
                b.side[direction][b.flat(patch, t, j)] = b.patchY[b.flat(patch, t, j)] - column.side;
            });
            team.sync();
        }
    }

private:
    PATCHLIGHT_HOST_DEVICE double* blockOf(int direction, int patch, int s) const {
        return b.block[direction] + b.flat(patch, s, 0) * (W + 1);
    }
    PATCHLIGHT_HOST_DEVICE double own(int patch, int s, int i, int d) const {
        return d < b.ownWidth ? b.patchOwn[b.flat(patch, s, i) * static_cast<std::size_t>(b.ownWidth) +
                                           static_cast<std::size_t>(d)]
                              : 0.0;
    }
};

} // namespace patchlight::gpu
