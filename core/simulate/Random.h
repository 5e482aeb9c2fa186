#pragma once

#include <cstdint>

namespace patchlight::simulate {

/// What a stream of random numbers is for. Each purpose has its own streams, so that switching one effect on or off leaves the
/// others' random numbers as they were.
enum class StreamPurpose : std::uint64_t {
    Instrument = 1,
    Pointing,
    FiberPlan,
    Target,
    Cosmic,
    BadColumn,
    Poisson,
    ReadNoise,
    Sky,
};

/// A stream of random numbers that is the same with every compiler and standard library (those of <random>'s distributions are
/// not): xoshiro256++ (Blackman & Vigna 2021, ACM TOMS 47, 36), its state filled by splitmix64 from a key.
///
/// There is a stream for each thing that is simulated (a fiber, a CCD row, a cosmic ray), keyed by purpose and index, so that
/// results do not depend on the number of threads or on the order of work.
class RandomStream {
public:
    RandomStream(std::uint64_t seed, StreamPurpose purpose, std::uint64_t index);

    /// 64 random bits.
    std::uint64_t next() {
        const std::uint64_t result = rotate(state_[0] + state_[3], 23) + state_[0];
        const std::uint64_t t = state_[1] << 17U;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = rotate(state_[3], 45);
        return result;
    }
    /// Uniform in (0, 1): the middles of 2^52 equal intervals, so that neither end is ever given.
    double uniform() { return (static_cast<double>(next() >> 12U) + 0.5) * 0x1p-52; }
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    /// Uniform integer in [0, count).
    std::uint64_t below(std::uint64_t count);
    /// Normal with mean 0 and standard deviation 1 (Marsaglia's polar method).
    double normal();
    /// Exponential with mean 1.
    double exponential();
    /// Poisson: inversion below a mean of 10, above it transformed rejection (PTRS; Hoermann 1993, Insurance: Mathematics and
    /// Economics 12, 39). A mean of 0 or less gives 0.
    std::int64_t poisson(double mean);

private:
    static std::uint64_t rotate(std::uint64_t x, unsigned k) { return (x << k) | (x >> (64U - k)); }
    std::int64_t poissonByInversion(double mean);
    std::int64_t poissonByRejection(double mean);

    std::uint64_t state_[4];
    double spare_ = 0.0; ///< the polar method's second number
    bool hasSpare_ = false;
};

/// Mixes a further number into a seed (splitmix64's finaliser), e.g. the exposure and the camera.
[[nodiscard]] std::uint64_t mixSeed(std::uint64_t seed, std::uint64_t value);

} // namespace patchlight::simulate
