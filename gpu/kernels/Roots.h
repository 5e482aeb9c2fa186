#pragma once

#include "gpu/kernels/BatchView.h"
#include "gpu/kernels/Dense.h"
#include "gpu/kernels/Lanes.h"
#include "gpu/kernels/Team.h"

#include <cmath>

namespace patchlight::gpu {

/// What the roots of bands of W off-diagonals are made with: matrices (c - m, c) at [c (W + 1) + m], with W + 1 columns of the unit matrix after the last,
/// and factors by rows in the group's piece of work memory. The window of rows that a factorisation looks back at stays in registers.
template <int W> struct BandRoots {
    /// A row of factors: u_1 .. u_W, 1/pivot, and the two right-hand sides.
    static constexpr int rowSize = W + 3;
    enum class Kept { None, First, All };
    /// Doubles that a matrix takes, and the factors of all lanes.
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static constexpr std::size_t matrixSize(int n) {
        return static_cast<std::size_t>(n + W + 1) * (W + 1);
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static constexpr std::size_t rowsSize(int n) {
        return static_cast<std::size_t>(n) * rowSize * groupLanes;
    }

    /// Gershgorin's bound of the largest eigenvalue.
    template <class Group>
    PATCHLIGHT_HOST_DEVICE static double largestEigenvalue(const Group& group, const double* schur, int n) {
        return group.largest(group.make([&](int lane) {
            double most = 0.0;
            for (int i = lane; i < n; i += groupLanes) {
                double sum = 0.0;
                for (int d = 0; d <= W; ++d) {
                    if (i - d >= 0) sum += std::abs(schur[i * (W + 1) + d]);
                    if (d > 0 && i + d < n) sum += std::abs(schur[(i + d) * (W + 1) + d]);
                }
                most = largerOrNaN(most, sum);
            }
            return most;
        }));
    }

    /// The first lane whose rung is proved by its pivots; groupLanes: none.
    template <class Group>
    PATCHLIGHT_HOST_DEVICE static int firstProved(const Group& group, const typename Group::Value& pivots, int rungs) {
        return group.firstPositive(group.make(
            pivots, [&](int lane, double pivot) { return lane > 0 && lane <= rungs && pivot > 0.0 ? 1.0 : 0.0; }));
    }

    /// Q 1, Q x and the diagonals of Q = sum_k c_k (1 - p_k (S + p_k)^-1) of the bins from `first` on, a lane a pole.
    /// @param afterPoles (factor of each lane's pole), called when the factors of so many poles and both solutions are there
    template <class Group, class AfterPoles>
    PATCHLIGHT_HOST_DEVICE static void root(const Group& group, const BatchView& b, int rung, double largest,
                                            const double* schur, double* rows, int n, std::size_t first,
                                            const AfterPoles& afterPoles) {
        using Value = typename Group::Value;
        const Ladder& ladder = *b.ladder;
        const double smallest = largest / ladder.kappa[rung];
        const double* x = b.x + first;
        for (int k0 = 0; k0 < ladder.poles[rung]; k0 += groupLanes) {
            const Value pole = group.make([&](int lane) {
                return k0 + lane < ladder.poles[rung] ? ladder.pole[rung][k0 + lane] * smallest : largest;
            });
            Value none = Value(1e300);
            (void)factorise<Kept::All>(group, schur, pole, n, rows, 0, n, none);
            group.sync(); // not needed, but the compiler carries less of one loop through the next
            solveBoth(
                group, n, [](int) { return Value(1.0); }, [&](int i) { return Value(x[i]); }, rows);
            const double root = std::sqrt(smallest);
            const Value factor = group.make([&](int lane) {
                return k0 + lane < ladder.poles[rung]
                           ? ladder.weight[rung][k0 + lane] * root * (ladder.pole[rung][k0 + lane] * smallest)
                           : 0.0;
            });
            double total = 0.0;
            for (int k = 0; k < ladder.poles[rung]; ++k) total += ladder.weight[rung][k] * root;
            subtractInverse(group, b, rows, n, factor, k0 == 0, total, first);
            afterPoles(factor);
        }
        if (b.ndiag > W)
            group.lanes([&](int lane) {
                for (int item = lane; item < n * (b.ndiag - W); item += groupLanes)
                    b.q[(first + static_cast<std::size_t>(item / (b.ndiag - W))) *
                            static_cast<std::size_t>(b.ndiag + 1) +
                        static_cast<std::size_t>(W + 1 + item % (b.ndiag - W))] = 0.0;
            });
    }

    /// S + shift = U^T D U; outside of [proveBin, proveBinEnd) a row whose pivot is not positive is taken out, so that those after it speak of the
    /// rest, a principal submatrix. @param beyond the smallest pivot outside of the range, if it is below this
    /// @return smallest pivot of that range, NaN where one is
    /// @tparam Factors that are kept: every lane's, as [row][rowSize][lanes], or lane 0's alone, as [row][rowSize]
    template <Kept Factors, class Group>
    PATCHLIGHT_HOST_DEVICE static typename Group::Value
    factorise(const Group& group, const double* schur, const typename Group::Value& shift, int n, double* rows,
              int proveBin, int proveBinEnd, typename Group::Value& beyond) {
        using Value = typename Group::Value;
        // What is left of rows i .. i + W - 1. The column that row i reaches besides comes from memory: registers are scarce.
        Value t[W * (W + 1) / 2];
        PATCHLIGHT_KERNEL_UNROLL
        for (int c = 0; c < W; ++c) {
            PATCHLIGHT_KERNEL_UNROLL
            for (int m = 0; m < W; ++m) {
                if (m > c) continue;
                t[corner(m, c)] = Value(schur[c * (W + 1) + c - m]);
            }
            t[corner(c, c)] = t[corner(c, c)] + shift;
        }
        Value lowest = Value(1e300);
        for (int i = 0; i < n; ++i) {
            Value inverse = Value(1.0) / t[0];
            if (i >= proveBin && i < proveBinEnd) {
                lowest = lowerOrNaN(lowest, t[0]);
            } else {
                beyond = lowerOrNaN(beyond, t[0]);
                inverse = positiveOrZero(inverse);
            }
            const auto keep = [&](const Value& value, int at) {
                if constexpr (Factors == Kept::All)
                    group.store(value, rows + (static_cast<std::size_t>(i) * rowSize + at) * groupLanes);
                else if constexpr (Factors == Kept::First)
                    group.storeFirst(value, rows + static_cast<std::size_t>(i) * rowSize + at);
            };
            const double* entering = schur + static_cast<std::size_t>(i + W) * (W + 1); // column i + W
            Value pivotRow[W + 1];
            PATCHLIGHT_KERNEL_UNROLL
            for (int c = 1; c < W; ++c) pivotRow[c] = t[corner(0, c)];
            pivotRow[W] = Value(entering[W]);
            PATCHLIGHT_KERNEL_UNROLL
            for (int m = 1; m <= W; ++m) {
                const Value u = pivotRow[m] * inverse;
                keep(u, m - 1);
                PATCHLIGHT_KERNEL_UNROLL
                for (int c = 1; c < W; ++c) {
                    if (c < m) continue;
                    t[corner(m - 1, c - 1)] = t[corner(m, c)] - u * pivotRow[c];
                }
                Value last = Value(entering[W - m]);
                if (m == W) last = last + shift;
                t[corner(m - 1, W - 1)] = last - u * pivotRow[W];
            }
            keep(inverse, W);
        }
        return lowest;
    }

    /// (U^T D U)^-1 of two vectors, of every lane's factors, into what a row has room for. In loops of its own: registers are scarce in
    /// the others. @param first, second of a row: its element; called for each row once
    template <class Group, class First, class Second>
    PATCHLIGHT_HOST_DEVICE static void solveBoth(const Group& group, int n, const First& first, const Second& second,
                                                 double* rows) {
        using Value = typename Group::Value;
        Value b1[W];
        Value bx[W];
        PATCHLIGHT_KERNEL_UNROLL
        for (int c = 0; c < W; ++c) {
            b1[c] = c < n ? first(c) : Value(0.0);
            bx[c] = c < n ? second(c) : Value(0.0);
        }
        for (int i = 0; i < n; ++i) {
            double* row = rows + static_cast<std::size_t>(i) * rowSize * groupLanes;
            const Value one = b1[0];
            const Value x = bx[0];
            PATCHLIGHT_KERNEL_UNROLL
            for (int m = 1; m <= W; ++m) {
                const Value u = group.load(row + (m - 1) * groupLanes);
                b1[m - 1] = (m < W ? b1[m % W] : i + W < n ? first(i + W) : Value(0.0)) - u * one;
                bx[m - 1] = (m < W ? bx[m % W] : i + W < n ? second(i + W) : Value(0.0)) - u * x;
            }
            const Value inverse = group.load(row + W * groupLanes);
            group.store(one * inverse, row + (W + 1) * groupLanes);
            group.store(x * inverse, row + (W + 2) * groupLanes);
        }
        PATCHLIGHT_KERNEL_UNROLL
        for (int m = 0; m < W; ++m) b1[m] = bx[m] = Value(0.0); // of the rows after
        for (int i = n - 1; i >= 0; --i) {
            double* row = rows + static_cast<std::size_t>(i) * rowSize * groupLanes;
            Value one = group.load(row + (W + 1) * groupLanes);
            Value x = group.load(row + (W + 2) * groupLanes);
            PATCHLIGHT_KERNEL_UNROLL
            for (int m = W; m >= 1; --m) {
                const Value u = group.load(row + (m - 1) * groupLanes);
                one = one - u * b1[m - 1];
                x = x - u * bx[m - 1];
            }
            group.store(one, row + (W + 1) * groupLanes);
            group.store(x, row + (W + 2) * groupLanes);
            PATCHLIGHT_KERNEL_UNROLL
            for (int m = W - 1; m >= 1; --m) {
                b1[m] = b1[m - 1];
                bx[m] = bx[m - 1];
            }
            b1[0] = one;
            bx[0] = x;
        }
    }

    /// Takes `factor` times the band of (S + pole)^-1 (Takahashi's recurrence), and times its products with 1 and with x, summed over
    /// lanes, from q, Q 1 and Q x; these begin as `total` times the unit matrix on the first pass.
    template <class Group>
    PATCHLIGHT_HOST_DEVICE static void subtractInverse(const Group& group, const BatchView& b, const double* rows,
                                                       int n, const typename Group::Value& factor, bool begin,
                                                       double total, std::size_t first) {
        using Value = typename Group::Value;
        constexpr int values = (W + 3 + 7) / 8 * 8;
        Value z[W * (W + 1) / 2]; // (r, c) of the rows after, 1 <= r <= c <= W, at corner(r - 1, c - 1)
        PATCHLIGHT_KERNEL_UNROLL
        for (int k = 0; k < W * (W + 1) / 2; ++k) z[k] = Value(0.0);
        const int wanted = smaller(b.ndiag, W) + 3;
        for (int i = n - 1; i >= 0; --i) {
            const double* row = rows + static_cast<std::size_t>(i) * rowSize * groupLanes;
            Value t[values]; // Q 1, Q x, then the diagonals
            PATCHLIGHT_KERNEL_UNROLL
            for (int k = 0; k < values; ++k) t[k] = Value(0.0);
            PATCHLIGHT_KERNEL_UNROLL
            for (int m = W; m >= 1; --m) {
                const Value u = group.load(row + (m - 1) * groupLanes);
                PATCHLIGHT_KERNEL_UNROLL
                for (int d = 1; d <= W; ++d)
                    t[2 + d] = t[2 + d] - u * z[m < d ? corner(m - 1, d - 1) : corner(d - 1, m - 1)];
            }
            Value diagonal = group.load(row + W * groupLanes);
            PATCHLIGHT_KERNEL_UNROLL
            for (int m = W; m >= 1; --m) diagonal = diagonal - group.load(row + (m - 1) * groupLanes) * t[2 + m];
            t[0] = group.load(row + (W + 1) * groupLanes);
            t[1] = group.load(row + (W + 2) * groupLanes);
            t[2] = diagonal;
            // The window moves up by a row.
            PATCHLIGHT_KERNEL_UNROLL
            for (int r = W - 1; r >= 1; --r) {
                PATCHLIGHT_KERNEL_UNROLL
                for (int c = W - 1; c >= 1; --c) {
                    if (c < r) continue;
                    z[corner(r, c)] = z[corner(r - 1, c - 1)];
                }
            }
            PATCHLIGHT_KERNEL_UNROLL
            for (int d = 0; d < W; ++d) z[corner(0, d)] = t[2 + d];

            PATCHLIGHT_KERNEL_UNROLL
            for (int chunk = 0; chunk < values / 8; ++chunk) {
                if (8 * chunk >= wanted) continue;
                Value eight[8];
                PATCHLIGHT_KERNEL_UNROLL
                for (int k = 0; k < 8; ++k) eight[k] = factor * t[8 * chunk + k];
                const Value sums = group.sumEach(eight);
                group.each(sums, [&](int lane, double sum) {
                    const int k = 8 * chunk + lane;
                    if (lane >= 8 || k >= wanted) return;
                    const std::size_t at = first + static_cast<std::size_t>(i);
                    double* to = k == 0   ? b.rowSum + at
                                 : k == 1 ? b.qx + at
                                          : b.q + at * static_cast<std::size_t>(b.ndiag + 1) + (k - 2);
                    const double start = !begin ? *to : k == 0 || k == 2 ? total : k == 1 ? total * b.x[at] : 0.0;
                    *to = start - sum;
                });
            }
        }
    }

private:
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE static constexpr int corner(int m, int c) { // of a triangle, m <= c < W
        return m * W - m * (m - 1) / 2 + c - m;
    }
};

/// S_s = F_s + G_s - D_s of each spectrum of each patch, its deconvolved flux, a proved bound of its condition number, and for core spectra
/// Q_s = S_s^(1/2) as Q 1, Q xflux and ndiag + 1 diagonals (docs/method.md, "The fast path", 4). A group of sixteen lanes a spectrum:
/// first a lane for xflux and one for each rung of the ladder of condition numbers, then a lane for each pole.
template <int W> struct RootsKernel {
    static constexpr const char* name = "gpu roots";
    BatchView b;
    /// false: x alone, from the right-hand sides that the elimination left; true: x once more, from its residual (ResidualKernel), and Q.
    bool again = false;

    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int groups() const { return b.patches * b.maxSpec; }
    /// Doubles of work that a group needs.
    [[nodiscard]] static std::size_t workSize(int n) {
        return Bands::matrixSize(n) + static_cast<std::size_t>(n + W + 1) + Bands::rowsSize(n);
    }

    template <class Group> PATCHLIGHT_HOST_DEVICE void operator()(const Group& group, int index, double* work) const {
        using Value = typename Group::Value;
        const int patch = index / b.maxSpec;
        const int s = index % b.maxSpec;
        const PatchTask& task = b.tasks[patch];
        if (s >= task.nspec || b.states[patch].open == 0) return;
        const int n = task.nwave;
        const Ladder& ladder = *b.ladder;
        double* schur = work;
        double* side = schur + Bands::matrixSize(n);
        double* rows = side + n + W + 1;

        const std::size_t first = b.flat(patch, s, 0);
        const double* f = b.block[0] + first * (W + 1);
        const double* g = b.block[1] + first * (W + 1);
        group.lanes([&](int lane) {
            for (int item = lane; item < (n + W + 1) * (W + 1); item += groupLanes) {
                const int c = item / (W + 1);
                const int m = item % (W + 1);
                const int r = c - m;
                double value = c >= n && m == 0 ? 1.0 : 0.0;
                if (c < n && r >= 0) {
                    value = f[r * (W + 1) + m] + g[r * (W + 1) + m];
                    if (m < b.ownWidth)
                        value -=
                            b.patchOwn[(first + static_cast<std::size_t>(r)) * static_cast<std::size_t>(b.ownWidth) +
                                       static_cast<std::size_t>(m)];
                }
                schur[item] = value;
            }
            for (int i = lane; i < n; i += groupLanes)
                side[i] = again ? b.residual[first + static_cast<std::size_t>(i)]
                                : b.side[0][first + static_cast<std::size_t>(i)] +
                                      b.side[1][first + static_cast<std::size_t>(i)] -
                                      b.patchY[first + static_cast<std::size_t>(i)];
        });
        group.sync();

        const double largest = Bands::largestEigenvalue(group, schur, n);
        const double leak = group.largest(group.make([&](int lane) {
            double most = 0.0;
            for (int i = task.checkBin + lane; i < task.checkBinEnd; i += groupLanes)
                most = largerOrNaN(most, largerOrNaN(b.leak[0][first + static_cast<std::size_t>(i)],
                                                     b.leak[1][first + static_cast<std::size_t>(i)]));
            return most;
        }));

        const bool wanted =
            again && s >= task.core && s < task.core + task.ncore && b.accepted[b.spectrumOf(patch, s)] == 0;
        const Value shift = group.make([&](int lane) {
            return wanted && lane > 0 && lane <= ladder.rungs ? -largest / ladder.kappa[lane - 1] : 0.0;
        });
        Value beyond = Value(1e300);
        const Value lowest = Bands::template factorise<Bands::Kept::First>(group, schur, shift, n, rows, task.proveBin,
                                                                           task.proveBinEnd, beyond);
        solve(group, n, side, rows, b.x + first);
        group.sync();
        if (!again) return;

        const int proved = Bands::firstProved(group, lowest, ladder.rungs);
        // The square root is taken for the condition number of all bins, since an error where it is worst falls off slowly; the last rung has to do.
        const int all = larger(proved, Bands::firstProved(group, beyond, ladder.rungs));
        group.lanes([&](int lane) {
            if (lane != 0) return;
            b.largest[b.spectrumOf(patch, s)] = largest;
            b.relativeLeak[b.spectrumOf(patch, s)] = leak / largest;
            b.condition[b.spectrumOf(patch, s)] = wanted && proved < groupLanes ? ladder.kappa[proved - 1] : 0.0;
        });
        if (!wanted || proved == groupLanes) return;
        Bands::root(group, b, smaller(all, ladder.rungs) - 1, largest, schur, rows, n, first, [](const Value&) {});
    }

private:
    using Bands = BandRoots<W>;
    static constexpr int rowSize = Bands::rowSize;

    /// x = (U^T D U)^-1 from, of lane 0's factors; the second time it is added to x.
    template <class Group>
    PATCHLIGHT_HOST_DEVICE void solve(const Group& group, int n, const double* from, double* rows, double* x) const {
        group.lanes([&](int lane) {
            if (lane != 0) return;
            double before[W];
            PATCHLIGHT_KERNEL_UNROLL
            for (int c = 0; c < W; ++c) before[c] = c < n ? from[c] : 0.0;
            for (int i = 0; i < n; ++i) {
                double* row = rows + static_cast<std::size_t>(i) * rowSize;
                const double value = before[0];
                PATCHLIGHT_KERNEL_UNROLL
                for (int m = 1; m <= W; ++m)
                    before[m - 1] = (m < W ? before[m % W] : i + W < n ? from[i + W] : 0.0) - row[m - 1] * value;
                row[W + 2] = value * row[W];
            }
            double after[W];
            for (int m = 0; m < W; ++m) after[m] = 0.0;
            for (int i = n - 1; i >= 0; --i) {
                const double* row = rows + static_cast<std::size_t>(i) * rowSize;
                double sum = row[W + 2];
                PATCHLIGHT_KERNEL_UNROLL
                for (int m = W; m >= 1; --m) sum -= row[m - 1] * after[m - 1];
                PATCHLIGHT_KERNEL_UNROLL
                for (int m = W - 1; m >= 1; --m) after[m] = after[m - 1];
                after[0] = sum;
                x[i] = again ? x[i] + sum : sum;
            }
        });
    }
};

/// Q of the spectra that full blocks have S_s and xflux of, by the root of S_s' band B: as much as C = S_s - B adds to Q 1 and Q xflux to first order,
/// (S + p)^-1 b = u - (B + p)^-1 C u + ..., u = (B + p)^-1 b, and the diagonals of B's root (docs/method.md, "The fast path"). A group a spectrum, a lane a pole.
template <int W> struct CorrectedRootsKernel {
    static constexpr const char* name = "gpu corrected roots";
    BatchView b;

    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int groups() const { return b.patches * b.maxSpec; }
    /// Doubles of work that a group needs.
    [[nodiscard]] static std::size_t workSize(int n) {
        return Bands::matrixSize(n) + Bands::rowsSize(n) + static_cast<std::size_t>(n) * 2 * groupLanes;
    }

    template <class Group> PATCHLIGHT_HOST_DEVICE void operator()(const Group& group, int index, double* work) const {
        using Value = typename Group::Value;
        const int patch = index / b.maxSpec;
        const int s = index % b.maxSpec;
        const PatchTask& task = b.tasks[patch];
        const int slot = b.states[patch].slot;
        const std::size_t at = b.spectrumOf(patch, s);
        if (slot < 0 || s < task.core || s >= task.core + task.ncore || b.accepted[at] != 0) return;
        const int n = task.nwave;
        const double* full = DenseBlocks(b, slot, task.nspec, n).block(0, s);
        double* schur = work;
        double* rows = schur + Bands::matrixSize(n);
        double* outer = rows + Bands::rowsSize(n); // [n][2][lanes]: C u
        group.lanes([&](int lane) {
            for (int item = lane; item < (n + W + 1) * (W + 1); item += groupLanes) {
                const int c = item / (W + 1);
                const int m = item % (W + 1);
                schur[item] = c >= n ? (m == 0 ? 1.0 : 0.0) : c >= m ? full[(c - m) * n + c] : 0.0;
            }
        });
        group.sync();

        // Largest element of C, and its norm: no more than its largest sum over a row.
        const auto overRows = [&](const auto& take) {
            return group.largest(group.make([&](int lane) {
                double most = 0.0;
                for (int i = lane; i < n; i += groupLanes) {
                    double value = 0.0;
                    for (int j = 0; j < n; ++j)
                        if (j - i > W || i - j > W) value = take(value, std::abs(full[j * n + i]));
                    most = largerOrNaN(most, value);
                }
                return most;
            }));
        };
        const double norm = overRows([](double sum, double c) { return sum + c; });
        const double element = overRows([](double most, double c) { return largerOrNaN(most, c); });
        const double largest = Bands::largestEigenvalue(group, schur, n) + norm;

        const Ladder& ladder = *b.ladder;
        // S's eigenvalues may be that much lower than B's.
        const Value shift = group.make([&](int lane) {
            return lane > 0 && lane <= ladder.rungs ? -largest / ladder.kappa[lane - 1] - norm : 0.0;
        });
        Value none = Value(1e300);
        const Value lowest = Bands::template factorise<Bands::Kept::None>(group, schur, shift, n, rows, 0, n, none);
        const int proved = Bands::firstProved(group, lowest, ladder.rungs);
        group.lanes([&](int lane) {
            if (lane != 0) return;
            const double condition = proved < groupLanes ? ladder.kappa[proved - 1] : 0.0;
            const double contraction = norm / largest * condition;
            b.largest[at] = largest;
            b.condition[at] = condition;
            b.relativeOuter[at] = element / largest;
            b.relativeLeak[at] =
                contraction <= 0.1 ? contraction * (element / largest) : 1.0; // the square of C is left
        });
        if (proved == groupLanes) return;
        const std::size_t first = b.flat(patch, s, 0);
        Bands::root(group, b, proved - 1, largest, schur, rows, n, first, [&](const Value& factor) {
            multiplyOuter(group, full, n, rows, outer);
            Bands::solveBoth(
                group, n, [&](int i) { return group.load(outer + 2 * i * groupLanes); },
                [&](int i) { return group.load(outer + (2 * i + 1) * groupLanes); }, rows);
            group.sync(); // other lanes add to Q 1 and Q x than before
            addSolutions(group, rows, n, factor, first);
            group.sync();
        });
    }

private:
    using Bands = BandRoots<W>;
    static constexpr int together = 8; ///< rows of C

    /// C u of both solutions, of each lane's pole. @param full S, [n][n]
    template <class Group>
    PATCHLIGHT_HOST_DEVICE static void multiplyOuter(const Group& group, const double* full, int n, const double* rows,
                                                     double* out) {
        using Value = typename Group::Value;
        for (int i0 = 0; i0 < n; i0 += together) {
            Value one[together];
            Value x[together];
            PATCHLIGHT_KERNEL_UNROLL
            for (int r = 0; r < together; ++r) one[r] = x[r] = Value(0.0);
            // Rows beyond the last are zero, and not kept.
            const auto add = [&](int begin, int end, bool all) {
                for (int j = begin; j < end; ++j) {
                    const double* row = rows + static_cast<std::size_t>(j) * Bands::rowSize * groupLanes;
                    const Value u1 = group.load(row + (W + 1) * groupLanes);
                    const Value ux = group.load(row + (W + 2) * groupLanes);
                    const double* from = full + j * n + i0;
                    PATCHLIGHT_KERNEL_UNROLL
                    for (int r = 0; r < together; ++r) {
                        const bool outside = all || j - (i0 + r) > W || i0 + r - j > W;
                        const Value c = Value(outside && i0 + r < n ? from[r] : 0.0);
                        one[r] = one[r] + c * u1;
                        x[r] = x[r] + c * ux;
                    }
                }
            };
            const int left = larger(0, i0 - W);
            const int right = smaller(n, i0 + together + W);
            add(0, left, true);
            add(left, smaller(n, i0 + together - 1 - W), false);
            add(i0 + W + 1, right, false);
            add(right, n, true);
            PATCHLIGHT_KERNEL_UNROLL
            for (int r = 0; r < together; ++r) {
                if (i0 + r >= n) continue;
                group.store(one[r], out + 2 * (i0 + r) * groupLanes);
                group.store(x[r], out + (2 * (i0 + r) + 1) * groupLanes);
            }
        }
    }

    /// Adds `factor` times the solutions, summed over lanes, to Q 1 and Q x.
    template <class Group>
    PATCHLIGHT_HOST_DEVICE void addSolutions(const Group& group, const double* rows, int n,
                                             const typename Group::Value& factor, std::size_t first) const {
        using Value = typename Group::Value;
        for (int i0 = 0; i0 < n; i0 += 4) {
            Value eight[8];
            PATCHLIGHT_KERNEL_UNROLL
            for (int r = 0; r < 4; ++r) {
                const double* row = rows + static_cast<std::size_t>(i0 + r) * Bands::rowSize * groupLanes;
                eight[2 * r] = i0 + r < n ? factor * group.load(row + (W + 1) * groupLanes) : Value(0.0);
                eight[2 * r + 1] = i0 + r < n ? factor * group.load(row + (W + 2) * groupLanes) : Value(0.0);
            }
            const Value sums = group.sumEach(eight);
            group.each(sums, [&](int lane, double sum) {
                const int i = i0 + lane / 2;
                if (lane >= 8 || i >= n) return;
                double& to = (lane % 2 == 0 ? b.rowSum : b.qx)[first + static_cast<std::size_t>(i)];
                to += sum;
            });
        }
    }
};

} // namespace patchlight::gpu
