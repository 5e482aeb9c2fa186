#include "core/simulate/Random.h"

#include <array>
#include <cmath>

namespace patchlight::simulate {

namespace {

constexpr std::uint64_t goldenGamma = 0x9E3779B97F4A7C15ULL;

std::uint64_t finalise(std::uint64_t z) {
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31U);
}

/// ln k!. std::lgamma writes a global variable (signgam), so two threads must not call it at once.
double logFactorial(double k) {
    constexpr int tabulated = 32;
    static const std::array<double, tabulated> table = [] {
        std::array<double, tabulated> t{};
        for (int i = 1; i < tabulated; ++i)
            t[static_cast<std::size_t>(i)] = t[static_cast<std::size_t>(i - 1)] + std::log(static_cast<double>(i));
        return t;
    }();
    if (k < tabulated) return table[static_cast<std::size_t>(k)];
    // Stirling's series; the first term left out is below 1e-13 here.
    constexpr double halfLog2Pi = 0.91893853320467274178;
    const double r = 1.0 / (k * k);
    return (k + 0.5) * std::log(k) - k + halfLog2Pi + (1.0 / 12.0 - r * (1.0 / 360.0 - r * (1.0 / 1260.0))) / k;
}

} // namespace

std::uint64_t mixSeed(std::uint64_t seed, std::uint64_t value) {
    return finalise(finalise(seed + goldenGamma) ^ (value * goldenGamma + 0x632BE59BD9B4E019ULL));
}

RandomStream::RandomStream(std::uint64_t seed, StreamPurpose purpose, std::uint64_t index) {
    std::uint64_t x = mixSeed(mixSeed(seed, static_cast<std::uint64_t>(purpose)), index);
    for (std::uint64_t& word : state_) {
        x += goldenGamma;
        word = finalise(x);
    }
}

std::uint64_t RandomStream::below(std::uint64_t count) {
    // Bits below the smallest mask that covers the range; those outside are drawn again, so that all values are equally likely.
    std::uint64_t mask = count - 1;
    for (unsigned shift = 1; shift < 64; shift *= 2) mask |= mask >> shift;
    while (true) {
        const std::uint64_t value = next() & mask;
        if (value < count) return value;
    }
}

double RandomStream::normal() {
    if (hasSpare_) {
        hasSpare_ = false;
        return spare_;
    }
    while (true) {
        const double a = 2.0 * uniform() - 1.0;
        const double b = 2.0 * uniform() - 1.0;
        const double r2 = a * a + b * b;
        if (r2 < 1.0 && r2 > 0.0) {
            const double scale = std::sqrt(-2.0 * std::log(r2) / r2);
            spare_ = b * scale;
            hasSpare_ = true;
            return a * scale;
        }
    }
}

double RandomStream::exponential() { return -std::log(uniform()); }

std::int64_t RandomStream::poisson(double mean) {
    if (!(mean > 0.0)) return 0;
    return mean < 10.0 ? poissonByInversion(mean) : poissonByRejection(mean);
}

std::int64_t RandomStream::poissonByInversion(double mean) {
    double u = uniform();
    double probability = std::exp(-mean);
    std::int64_t k = 0;
    while (u > probability) {
        u -= probability;
        ++k;
        probability *= mean / static_cast<double>(k);
        if (k > 200) // rounding has eaten the tail: P(k > 200 | mean < 10) is below 1e-170
            break;
    }
    return k;
}

std::int64_t RandomStream::poissonByRejection(double mean) {
    // Constants of the hat: Hoermann 1993, algorithm PTRS.
    const double root = std::sqrt(mean);
    const double logMean = std::log(mean);
    const double b = 0.931 + 2.53 * root;
    const double a = -0.059 + 0.02483 * b;
    const double inverseAlpha = 1.1239 + 1.1328 / (b - 3.4);
    const double vr = 0.9277 - 3.6224 / (b - 2.0);
    while (true) {
        const double u = uniform() - 0.5;
        const double v = uniform();
        const double us = 0.5 - std::abs(u);
        const double k = std::floor((2.0 * a / us + b) * u + mean + 0.43);
        if (us >= 0.07 && v <= vr) return static_cast<std::int64_t>(k);
        if (k < 0.0 || (us < 0.013 && v > us)) continue;
        if (std::log(v * inverseAlpha / (a / (us * us) + b)) <= -mean + k * logMean - logFactorial(k))
            return static_cast<std::int64_t>(k);
    }
}

} // namespace patchlight::simulate
