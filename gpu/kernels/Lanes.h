#pragma once

#include "core/base/HostDevice.h"

/// Sixteen lanes that do the same to different numbers: half a warp on the device, a small array on the host. Bodies written over a
/// *group* use its Value as if it were a number, and have no other state.
namespace patchlight::gpu {

inline constexpr int groupLanes = 16;
/// Groups that share a block of CUDA threads.
inline constexpr int groupsPerBlock = 4;

#if defined(__CUDACC__)
/// Half a warp; a Value is a register.
class DeviceGroup {
public:
    using Value = double;
    PATCHLIGHT_HOST_DEVICE explicit DeviceGroup(int lane) : lane_(lane) {}
    /// The value that f gives each lane.
    template <class F> PATCHLIGHT_HOST_DEVICE Value make(const F& f) const { return f(lane_); }
    /// The same from each lane's value.
    template <class F> PATCHLIGHT_HOST_DEVICE Value make(const Value& value, const F& f) const {
        return f(lane_, value);
    }
    /// Calls f(lane, value of the lane).
    template <class F> PATCHLIGHT_HOST_DEVICE void each(const Value& value, const F& f) const { f(lane_, value); }
    template <class F> PATCHLIGHT_HOST_DEVICE void lanes(const F& f) const { f(lane_); }
    [[nodiscard]] PATCHLIGHT_HOST_DEVICE Value load(const double* p) const { return p[lane_]; }
    PATCHLIGHT_HOST_DEVICE void store(const Value& value, double* p) const { p[lane_] = value; }
    /// Stores lane 0's value.
    PATCHLIGHT_HOST_DEVICE void storeFirst(const Value& value, double* p) const {
        if (lane_ == 0) *p = value;
    }
    /// What one lane wrote to memory is seen by the others from here on.
    PATCHLIGHT_HOST_DEVICE void sync() const {
#if defined(__CUDA_ARCH__)
        __syncwarp(mask());
#endif
    }
    /// Sums of eight values over all lanes: lane l is given that of value l mod 8. Pairs are added in a fixed order.
    PATCHLIGHT_HOST_DEVICE Value sumEach(const Value (&v)[8]) const {
#if defined(__CUDA_ARCH__)
        double four[4];
        double two[2];
        const bool b2 = (lane_ & 4) != 0;
        const bool b1 = (lane_ & 2) != 0;
        const bool b0 = (lane_ & 1) != 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) four[i] = (b2 ? v[i + 4] : v[i]) + exchange(b2 ? v[i] : v[i + 4], 4);
#pragma unroll
        for (int i = 0; i < 2; ++i) two[i] = (b1 ? four[i + 2] : four[i]) + exchange(b1 ? four[i] : four[i + 2], 2);
        const double one = (b0 ? two[1] : two[0]) + exchange(b0 ? two[0] : two[1], 1);
        return one + exchange(one, 8);
#else
        return v[0];
#endif
    }
    /// The largest over all lanes, NaN where one is; the same in all of them.
    PATCHLIGHT_HOST_DEVICE double largest(Value v) const {
#if defined(__CUDA_ARCH__)
        for (int distance = 8; distance > 0; distance /= 2) {
            const double other = exchange(v, distance);
            v = v > other ? v : (other == other ? (v == v ? other : v) : other);
        }
#endif
        return v;
    }
    /// The lowest lane for which `value` is true; groupLanes for none.
    PATCHLIGHT_HOST_DEVICE int firstPositive(Value v) const {
#if defined(__CUDA_ARCH__)
        const unsigned votes = (__ballot_sync(mask(), v > 0.0) >> shift()) & 0xFFFFU;
        return votes == 0 ? groupLanes : __ffs(static_cast<int>(votes)) - 1;
#else
        return v > 0.0 ? 0 : groupLanes;
#endif
    }

private:
#if defined(__CUDA_ARCH__)
    PATCHLIGHT_HOST_DEVICE static unsigned shift() { return threadIdx.x & 16U; }
    PATCHLIGHT_HOST_DEVICE static unsigned mask() { return 0xFFFFU << shift(); }
    PATCHLIGHT_HOST_DEVICE static double exchange(double v, int distance) {
        return __shfl_xor_sync(mask(), v, distance, groupLanes);
    }
#endif
    int lane_;
};
#endif

/// Sixteen numbers on the host.
struct Pack {
    double v[groupLanes];
    Pack() = default;
    Pack(double one) { // NOLINT(google-explicit-constructor): a number stands for sixteen of it
        for (double& x : v) x = one;
    }
};
inline Pack operator+(const Pack& a, const Pack& b) {
    Pack c;
    for (int i = 0; i < groupLanes; ++i) c.v[i] = a.v[i] + b.v[i];
    return c;
}
inline Pack operator-(const Pack& a, const Pack& b) {
    Pack c;
    for (int i = 0; i < groupLanes; ++i) c.v[i] = a.v[i] - b.v[i];
    return c;
}
inline Pack operator*(const Pack& a, const Pack& b) {
    Pack c;
    for (int i = 0; i < groupLanes; ++i) c.v[i] = a.v[i] * b.v[i];
    return c;
}
inline Pack operator/(const Pack& a, const Pack& b) {
    Pack c;
    for (int i = 0; i < groupLanes; ++i) c.v[i] = a.v[i] / b.v[i];
    return c;
}
/// a where a <= b, else b; NaN where either is.
inline Pack lowerOrNaN(const Pack& a, const Pack& b) {
    Pack c;
    for (int i = 0; i < groupLanes; ++i) c.v[i] = b.v[i] > a.v[i] ? a.v[i] : (a.v[i] == a.v[i] ? b.v[i] : a.v[i]);
    return c;
}
PATCHLIGHT_HOST_DEVICE inline double lowerOrNaN(double a, double b) { return b > a ? a : (a == a ? b : a); }
/// a where it is positive, else 0.
inline Pack positiveOrZero(const Pack& a) {
    Pack c;
    for (int i = 0; i < groupLanes; ++i) c.v[i] = a.v[i] > 0.0 ? a.v[i] : 0.0;
    return c;
}
PATCHLIGHT_HOST_DEVICE inline double positiveOrZero(double a) { return a > 0.0 ? a : 0.0; }

class HostGroup {
public:
    using Value = Pack;
    template <class F> Value make(const F& f) const {
        Pack p;
        for (int i = 0; i < groupLanes; ++i) p.v[i] = f(i);
        return p;
    }
    template <class F> Value make(const Value& value, const F& f) const {
        Pack p;
        for (int i = 0; i < groupLanes; ++i) p.v[i] = f(i, value.v[i]);
        return p;
    }
    template <class F> void each(const Value& value, const F& f) const {
        for (int i = 0; i < groupLanes; ++i) f(i, value.v[i]);
    }
    template <class F> void lanes(const F& f) const {
        for (int i = 0; i < groupLanes; ++i) f(i);
    }
    [[nodiscard]] Value load(const double* p) const {
        Pack out;
        for (int i = 0; i < groupLanes; ++i) out.v[i] = p[i];
        return out;
    }
    void store(const Value& value, double* p) const {
        for (int i = 0; i < groupLanes; ++i) p[i] = value.v[i];
    }
    void storeFirst(const Value& value, double* p) const { *p = value.v[0]; }
    void sync() const {}
    /// In the order of DeviceGroup::sumEach.
    Value sumEach(const Value (&v)[8]) const {
        Pack out;
        for (int value = 0; value < 8; ++value) {
            double t[groupLanes];
            for (int i = 0; i < groupLanes; ++i) t[i] = v[value].v[i];
            for (const int distance : {4, 2, 1, 8}) {
                double next[groupLanes];
                for (int i = 0; i < groupLanes; ++i) next[i] = t[i] + t[i ^ distance];
                for (int i = 0; i < groupLanes; ++i) t[i] = next[i];
            }
            out.v[value] = out.v[value + 8] = t[value];
        }
        return out;
    }
    double largest(const Value& value) const {
        double one = value.v[0];
        for (int i = 1; i < groupLanes; ++i) {
            const double other = value.v[i];
            one = one > other ? one : (other == other ? (one == one ? other : one) : other);
        }
        return one;
    }
    int firstPositive(const Value& value) const {
        for (int i = 0; i < groupLanes; ++i)
            if (value.v[i] > 0.0) return i;
        return groupLanes;
    }
};

} // namespace patchlight::gpu
