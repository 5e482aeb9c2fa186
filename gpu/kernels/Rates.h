#pragma once

#include "gpu/kernels/Team.h"

#include <cmath>

/// What a device can do, to be timed: nothing that an extraction needs.
namespace patchlight::gpu {

/// Multiplies and adds, eight numbers a member side by side.
struct ArithmeticKernel {
    static constexpr const char* name = "arithmetic rate";
    static constexpr int items = 256; ///< a block
    static constexpr int numbers = 8;
    int teams = 1;
    int rounds = 1;
    double* out = nullptr; ///< [teams][items]

    [[nodiscard]] int blocks() const { return teams; }
    [[nodiscard]] int threads() const { return items; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return 0; }
    [[nodiscard]] double operations() const { return 2.0 * numbers * items * static_cast<double>(teams) * rounds; }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int block) const {
        for (int item = team.rank(); item < items; item += team.size()) {
            double a[numbers];
            PATCHLIGHT_KERNEL_UNROLL
            for (int i = 0; i < numbers; ++i) a[i] = 1e-3 * item + i;
            for (int round = 0; round < rounds; ++round) {
                PATCHLIGHT_KERNEL_UNROLL
                for (double& number : a) number = number * 0.999 + 0.5;
            }
            double sum = 0.0;
            PATCHLIGHT_KERNEL_UNROLL
            for (const double number : a) sum += number;
            out[block * items + item] = sum;
        }
    }
};

/// Copies.
struct CopyKernel {
    static constexpr const char* name = "memory rate";
    static constexpr int piece = 4096; ///< a block
    const double* from = nullptr;
    double* to = nullptr;
    std::size_t count = 0; ///< a multiple of `piece`

    [[nodiscard]] int blocks() const { return static_cast<int>(count / piece); }
    [[nodiscard]] int threads() const { return 256; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return 0; }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int block) const {
        const std::size_t first = static_cast<std::size_t>(block) * piece;
        for (int item = team.rank(); item < piece; item += team.size())
            to[first + static_cast<std::size_t>(item)] = from[first + static_cast<std::size_t>(item)];
    }
};

/// Steps that wait for each other: a root, a division, a look at shared memory and a barrier each.
struct StepKernel {
    static constexpr const char* name = "step time";
    int steps = 1;
    double* out = nullptr;

    [[nodiscard]] int blocks() const { return 1; }
    [[nodiscard]] int threads() const { return 128; }
    [[nodiscard]] std::size_t itemBytes() const { return 0; }
    [[nodiscard]] std::size_t sharedDoubles() const { return 2; }

    template <class Team> PATCHLIGHT_HOST_DEVICE void operator()(Team& team, int) const {
        double* shared = team.shared();
        if (team.rank() == 0) shared[0] = 2.0;
        team.sync();
        for (int step = 0; step < steps; ++step) {
            const double value = 1.0 / std::sqrt(shared[step & 1]);
            if (team.rank() == 0) shared[(step + 1) & 1] = value + 1.0;
            team.sync();
        }
        if (team.rank() == 0) *out = shared[steps & 1];
    }
};

} // namespace patchlight::gpu
