#pragma once

#include "core/base/HostDevice.h"

#include <cstddef>
#include <cstdint>
#include <new>

/// What kernel bodies are written over, so that the same source runs as CUDA threads and on the host.
///
/// A *team* is a block: members with a rank, a barrier, and memory that all of them see. A body must be right for any number of
/// members, one included; what a member remembers across a barrier it keeps in `items`, one for each index it is responsible for.
/// Unrolls the loop that follows, so that an array indexed by its counter stays in registers.
#if defined(__CUDA_ARCH__)
#define PATCHLIGHT_KERNEL_UNROLL _Pragma("unroll")
#elif defined(__CUDACC__) || defined(__clang__)
#define PATCHLIGHT_KERNEL_UNROLL
#else
#define PATCHLIGHT_KERNEL_UNROLL _Pragma("GCC unroll 8")
#endif

namespace patchlight::gpu {

/// Members of a team at most: with more, the registers of a multiprocessor would not do for the largest kernels.
inline constexpr int mostMembers = 512;

template <class T> PATCHLIGHT_HOST_DEVICE constexpr T smaller(T a, T b) { return b < a ? b : a; }
template <class T> PATCHLIGHT_HOST_DEVICE constexpr T larger(T a, T b) { return a < b ? b : a; }
/// The larger of two; NaN where either is.
PATCHLIGHT_HOST_DEVICE inline double largerOrNaN(double a, double b) { return a > b || !(a == a) ? a : b; }

#if defined(__CUDACC__)
/// A block of CUDA threads.
class DeviceTeam {
public:
    template <class State> struct Items { State own; };
    PATCHLIGHT_HOST_DEVICE explicit DeviceTeam(double* shared) : shared_(shared) {}
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int rank() const {
#if defined(__CUDA_ARCH__)
        return static_cast<int>(threadIdx.x);
#else
        return 0;
#endif
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE int size() const {
#if defined(__CUDA_ARCH__)
        return static_cast<int>(blockDim.x);
#else
        return 1;
#endif
    }
    PATCHLIGHT_HOST_DEVICE void sync() const {
#if defined(__CUDA_ARCH__)
        __syncthreads();
#endif
    }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE double* shared() const { return shared_; }
    /// f(0) + ... + f(count - 1), known to all members, in the order of HostTeam::sum. Every warp adds up for itself, so that no barrier is
    /// needed; all members must call it.
    template <class F> PATCHLIGHT_HOST_DEVICE double sum(int count, const F& f) const {
        double mine = 0.0;
#if defined(__CUDA_ARCH__)
        for (int i = static_cast<int>(threadIdx.x % 32U); i < count; i += 32) mine += f(i);
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2) mine += __shfl_xor_sync(0xFFFFFFFFU, mine, distance);
#else
        for (int i = 0; i < count; ++i) mine += f(i);
#endif
        return mine;
    }
    /// State of `count` items, at most one a thread: it lives in registers.
    template <class State> PATCHLIGHT_HOST_DEVICE Items<State> items(int) const { return {}; }
    template <class State, class Body>
    PATCHLIGHT_HOST_DEVICE void each(Items<State>& items, int count, const Body& body) const {
        if (rank() < count) body(rank(), items.own);
    }

private:
    double* shared_;
};
#endif

/// Waits for all members of a team on the host.
class HostBarrier {
public:
    virtual ~HostBarrier() = default;
    HostBarrier() = default;
    HostBarrier(const HostBarrier&) = delete;
    HostBarrier& operator=(const HostBarrier&) = delete;
    virtual void wait() = 0;
};

/// One member of a block on the host: alone in it, or one of several threads.
class HostTeam {
public:
    template <class State> struct Items { State* first = nullptr; };
    /// @param memory for items, `bytes` long
    HostTeam(int rank, int size, double* shared, HostBarrier* barrier, std::byte* memory, std::size_t bytes)
        : rank_(rank), size_(size), shared_(shared), barrier_(barrier), memory_(memory), left_(bytes) {}
    [[nodiscard]] int rank() const { return rank_; }
    [[nodiscard]] int size() const { return size_; }
    void sync() const {
        if (barrier_ != nullptr) barrier_->wait();
    }
    [[nodiscard]] double* shared() const { return shared_; }
    /// f(0) + ... + f(count - 1): every 32nd to begin with, then pairs of these.
    template <class F> double sum(int count, const F& f) const {
        double parts[32] = {};
        for (int i = 0; i < count; i += 32)
            for (int k = 0; k < 32 && i + k < count; ++k) parts[k] += f(i + k);
        for (int distance = 16; distance > 0; distance /= 2)
            for (int k = 0; k < distance; ++k) parts[k] += parts[k + distance];
        return parts[0];
    }
    template <class State> Items<State> items(int count) {
        const std::size_t bytes = (static_cast<std::size_t>(count) * sizeof(State) + 63) / 64 * 64;
        if (bytes > left_) outOfItems(bytes);
        State* first = reinterpret_cast<State*>(memory_);
        for (int i = 0; i < count; ++i) new (first + i) State;
        memory_ += bytes;
        left_ -= bytes;
        return {first};
    }
    template <class State, class Body> void each(Items<State>& items, int count, const Body& body) const {
        for (int i = rank_; i < count; i += size_) body(i, items.first[i]);
    }

private:
    [[noreturn]] static void outOfItems(std::size_t bytes);
    int rank_;
    int size_;
    double* shared_;
    HostBarrier* barrier_;
    std::byte* memory_;
    std::size_t left_;
};

} // namespace patchlight::gpu
