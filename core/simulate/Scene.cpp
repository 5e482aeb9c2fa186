#include "core/simulate/Scene.h"

#include "core/base/Error.h"
#include "core/simulate/Random.h"
#include "core/simulate/SkyLines.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <fmt/format.h>

namespace patchlight::simulate {

namespace {

constexpr double pi = 3.14159265358979323846;
constexpr double fieldRadius = 1.6; ///< degrees, of DESI's focal plane

/// Photons/s/Angstrom that a 20th magnitude (AB) object sends down a fiber at 6500 Angstrom: 5.5e6/6500 photons/s/cm^2/Angstrom
/// at magnitude 0, 1e5 cm^2 of mirror, half of the light missing the fiber.
constexpr double objectRate = 0.42;

/// Photons/s of a sky line of 1 Rayleigh: 1e6/(4 pi) photons/s/cm^2/sr over 1e5 cm^2 and a fiber of 1.5 arcsec.
constexpr double photonsPerRayleigh = 0.33;

/// Vacuum wavelengths (Angstrom; NIST Atomic Spectra Database) of nebular lines and their strength relative to H alpha or to
/// [O III] in a star-forming galaxy, in round numbers.
struct NebularLine {
    double wavelength;
    double strength;
};
constexpr NebularLine nebularLines[] = {
    {3727.09, 0.70}, {3729.88, 0.95}, {3869.86, 0.10}, {4102.89, 0.09}, {4341.68, 0.17},
    {4862.68, 0.36}, {4960.30, 0.22}, {5008.24, 0.66}, {6549.86, 0.10}, {6564.61, 1.00},
    {6585.27, 0.30}, {6718.29, 0.18}, {6732.67, 0.13},
};
constexpr NebularLine broadLines[] = {{1215.67, 3.0}, {1549.06, 1.2}, {1908.73, 0.7},
                                      {2799.12, 0.6}, {4862.68, 0.5}, {6564.61, 1.5}};
/// Depth of stellar absorption lines: H, Ca II H and K, Mg b, Na D (vacuum).
constexpr NebularLine stellarLines[] = {{3934.78, 0.45}, {3969.59, 0.45}, {4102.89, 0.3}, {4341.68, 0.32},
                                        {4862.68, 0.35}, {5176.6, 0.2},   {5895.6, 0.15}, {6564.61, 0.35},
                                        {8500.4, 0.1},   {8544.4, 0.2},   {8664.5, 0.17}};

/// Smooth step from 0 below `centre` to 1 above.
double step(double wavelength, double centre, double width) {
    return 1.0 / (1.0 + std::exp(-(wavelength - centre) / width));
}

/// Fraction of photons that an arm detects: dichroics at 5750 and 7600 Angstrom, optics and CCD falling off at both ends.
double throughput(char arm, double wavelength) {
    switch (arm) {
    case 'b':
        return 0.34 * step(wavelength, 3680.0, 140.0) * step(-wavelength, -5830.0, 35.0);
    case 'r':
        return 0.44 * step(wavelength, 5700.0, 35.0) * step(-wavelength, -7700.0, 40.0);
    default:
        return 0.46 * step(wavelength, 7500.0, 40.0) * step(-wavelength, -9780.0, 120.0);
    }
}

/// Sky continuum, photons/s/Angstrom at unit throughput: zodiacal light, starlight and airglow, redder than the objects.
double skyContinuum(double wavelength) {
    const double x = wavelength / 6500.0;
    return 0.40 * (0.55 + 0.45 * x * x) *
           (1.0 + 0.06 * std::sin(wavelength / 173.0) + 0.04 * std::sin(wavelength / 61.0));
}

Target makeTarget(const SceneOptions& options, int fiber, TargetKind kind) {
    const std::uint64_t key = mixSeed(mixSeed(options.seed, static_cast<std::uint64_t>(options.expid)),
                                      static_cast<std::uint64_t>(options.spectrograph));
    RandomStream random(key, StreamPurpose::Target, static_cast<std::uint64_t>(fiber));
    Target target;
    target.kind = kind;
    // A 64-bit id beyond 2^53, so that a reader that takes it for a double is found out.
    target.id =
        39627000000000000LL + (options.expid % 1000000) * 10000LL + options.spectrograph * options.nspec + fiber;
    target.transmission = kind == TargetKind::Dead ? 0.0 : random.uniform(0.9, 1.1);

    // The petal of this spectrograph: a tenth of the field, from the centre outwards.
    const double angle = 2.0 * pi * (options.spectrograph + random.uniform()) / 10.0;
    const double radius = fieldRadius * std::sqrt(random.uniform(0.01, 1.0));
    target.dec = options.pointingDec + radius * std::sin(angle);
    target.ra = options.pointingRa + radius * std::cos(angle) / std::cos(options.pointingDec * pi / 180.0);
    target.ra -= 360.0 * std::floor(target.ra / 360.0);

    const auto addLine = [&](double rest, double velocity, double strength, bool absorption) {
        const double wavelength = rest * (1.0 + target.redshift);
        // Not narrower than 0.7 Angstrom: sampling at 0.8 Angstrom still holds all of a Gaussian of that width to 5e-7.
        const double sigma = std::max(0.7, wavelength * velocity / 299792.458);
        target.lines.push_back({wavelength, sigma, strength, absorption});
    };
    const auto photonRate = [&](double magnitude) { return objectRate * std::pow(10.0, -0.4 * (magnitude - 20.0)); };
    switch (kind) {
    case TargetKind::Star: {
        target.magnitude = random.uniform(15.5, 19.5);
        target.slope = random.uniform(-2.5, 1.5);
        target.redshift = random.normal() * 2e-4;
        const double depth = random.uniform(0.3, 1.2);
        for (const NebularLine& line : stellarLines)
            addLine(line.wavelength, random.uniform(120.0, 260.0), -std::min(0.8, depth * line.strength), true);
        break;
    }
    case TargetKind::Galaxy: {
        target.magnitude = random.uniform(18.0, 21.5);
        target.slope = random.uniform(-0.5, 2.0);
        target.redshift = random.uniform(0.05, 1.0);
        target.breakStrength = random.uniform(0.2, 0.6);
        const double velocity = random.uniform(150.0, 280.0);
        for (const NebularLine& line : stellarLines) addLine(line.wavelength, velocity, -0.5 * line.strength, true);
        const double lineRate = photonRate(target.magnitude) * 15.0 * random.uniform();
        for (const NebularLine& line : nebularLines)
            addLine(line.wavelength, velocity, lineRate * line.strength, false);
        break;
    }
    case TargetKind::EmissionGalaxy: {
        target.magnitude = random.uniform(21.5, 24.0);
        target.slope = random.uniform(-1.0, 0.5);
        target.redshift = random.uniform(0.1, 1.6);
        const double velocity = random.uniform(40.0, 120.0);
        const double lineRate = random.uniform(0.3, 3.0);
        for (const NebularLine& line : nebularLines)
            addLine(line.wavelength, velocity, lineRate * line.strength, false);
        break;
    }
    case TargetKind::Quasar: {
        target.magnitude = random.uniform(19.0, 22.5);
        target.slope = random.uniform(-1.0, 0.3);
        target.redshift = random.uniform(0.5, 3.5);
        for (const NebularLine& line : broadLines)
            addLine(line.wavelength, random.uniform(1500.0, 4000.0),
                    photonRate(target.magnitude) * 50.0 * line.strength, false);
        break;
    }
    case TargetKind::Sky:
    case TargetKind::Dead:
        break;
    }
    return target;
}

} // namespace

const char* kindName(TargetKind kind) {
    switch (kind) {
    case TargetKind::Sky:
        return "SKY";
    case TargetKind::Star:
        return "STAR";
    case TargetKind::Galaxy:
        return "GALAXY";
    case TargetKind::EmissionGalaxy:
        return "ELG";
    case TargetKind::Quasar:
        return "QSO";
    case TargetKind::Dead:
        break;
    }
    return "DEAD";
}

Scene::Scene(const SceneOptions& options) : options_(options) {
    if (options.skyFibers < 0 || options.deadFibers < 0 || options.skyFibers + options.deadFibers > options.nspec)
        throw UsageError(fmt::format("--sky-fibers {} and --dead-fibers {}: together must be 0 to {} fibers",
                                     options.skyFibers, options.deadFibers, options.nspec));
    // Sky and dead fibers are the first of a shuffled list. Dead fibers belong to the spectrograph, not to the exposure.
    std::vector<int> order(static_cast<std::size_t>(options.nspec));
    std::iota(order.begin(), order.end(), 0);
    RandomStream plan(mixSeed(options.seed, static_cast<std::uint64_t>(options.spectrograph)), StreamPurpose::FiberPlan,
                      0);
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[plan.below(i)]);
    std::vector<TargetKind> kinds(order.size(), TargetKind::Galaxy);
    for (std::size_t i = 0; i < order.size(); ++i) {
        TargetKind& kind = kinds[static_cast<std::size_t>(order[i])];
        const int rank = static_cast<int>(i);
        if (rank < options.deadFibers) {
            kind = TargetKind::Dead;
        } else if (rank < options.deadFibers + options.skyFibers) {
            kind = TargetKind::Sky;
        } else {
            constexpr TargetKind mix[] = {TargetKind::EmissionGalaxy, TargetKind::Galaxy, TargetKind::Star,
                                          TargetKind::EmissionGalaxy, TargetKind::Quasar, TargetKind::Galaxy,
                                          TargetKind::EmissionGalaxy};
            kind = mix[i % std::size(mix)];
        }
    }
    targets_.reserve(order.size());
    for (int fiber = 0; fiber < options.nspec; ++fiber)
        targets_.push_back(makeTarget(options, fiber, kinds[static_cast<std::size_t>(fiber)]));
}

double Scene::smoothFlux(int fiber, char arm, double wavelength) const {
    const Target& target = targets_[static_cast<std::size_t>(fiber)];
    if (target.kind == TargetKind::Dead) return 0.0;
    double rate = options_.skyScale * skyContinuum(wavelength);
    if (target.kind != TargetKind::Sky) {
        double object =
            objectRate * std::pow(10.0, -0.4 * (target.magnitude - 20.0)) * std::pow(wavelength / 6500.0, target.slope);
        if (target.breakStrength > 0.0)
            object *= 1.0 - target.breakStrength * (1.0 - step(wavelength / (1.0 + target.redshift), 4000.0, 25.0));
        double emission = 0.0;
        for (const ObjectLine& line : target.lines) {
            const double x = (wavelength - line.wavelength) / line.sigma;
            if (std::abs(x) > 8.0) continue;
            const double gauss = std::exp(-0.5 * x * x);
            if (line.absorption)
                object *= 1.0 + line.strength * gauss;
            else
                emission += line.strength * gauss / (line.sigma * std::sqrt(2.0 * pi));
        }
        rate += options_.objectScale * (object + emission);
    }
    return rate * throughput(arm, wavelength) * target.transmission * options_.exptime;
}

std::vector<Scene::Spike> Scene::skySpikes(int fiber, char arm, double low, double high) const {
    const Target& target = targets_[static_cast<std::size_t>(fiber)];
    std::vector<Spike> spikes;
    if (target.kind == TargetKind::Dead) return spikes;
    for (const SkyLine& line : skyLines()) {
        const double wavelength = vacuumWavelength(line.airWavelength);
        if (wavelength < low || wavelength > high) continue;
        const double photons = line.strength * photonsPerRayleigh * options_.skyScale * throughput(arm, wavelength) *
                               target.transmission * options_.exptime;
        if (photons > 0.0) spikes.push_back({wavelength, photons});
    }
    return spikes;
}

} // namespace patchlight::simulate
