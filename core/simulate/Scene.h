#pragma once

#include "core/simulate/Instrument.h"

#include <cstdint>
#include <string>
#include <vector>

namespace patchlight::simulate {

/// What a fiber looks at.
enum class TargetKind { Sky, Star, Galaxy, EmissionGalaxy, Quasar, Dead };

/// FITS text of a kind: "SKY", "STAR", "GALAXY", "ELG", "QSO", "DEAD".
[[nodiscard]] const char* kindName(TargetKind kind);

/// A line in an object's spectrum: a Gaussian in wavelength.
struct ObjectLine {
    double wavelength = 0; ///< observed, vacuum, Angstrom
    double sigma = 0;      ///< Angstrom
    double strength =
        0; ///< photons/s at unit throughput, or, for an absorption line, minus the fraction of continuum taken out
    bool absorption = false;
};

/// A fiber's target. The same in the three cameras of a spectrograph.
struct Target {
    TargetKind kind = TargetKind::Sky;
    std::int64_t id = 0;  ///< TARGETID
    double ra = 0;        ///< degrees
    double dec = 0;       ///< degrees
    double magnitude = 0; ///< AB, at 6500 Angstrom; 0 for sky and dead fibers
    double redshift = 0;
    double slope = 0;         ///< continuum photons per Angstrom ~ (wavelength/6500)^slope
    double breakStrength = 0; ///< fraction by which the continuum falls below the 4000 Angstrom break
    double transmission = 1;  ///< of the fiber, relative; 0 for dead fibers
    std::vector<ObjectLine> lines;
};

/// What the sky and the fibers are like in an exposure.
struct SceneOptions {
    std::uint64_t seed = 1;
    std::int64_t expid = 0;
    int spectrograph = 0;
    int nspec = 500;
    double exptime = 900.0; ///< s
    int skyFibers = 40;
    int deadFibers = 2;
    double skyScale = 1.0;    ///< brightness of the sky, 1: a dark night
    double objectScale = 1.0; ///< brightness of the objects
    double pointingRa = 0;    ///< degrees
    double pointingDec = 0;   ///< degrees
};

/// Targets of a spectrograph's fibers and the light that reaches the CCD from them.
class Scene {
public:
    explicit Scene(const SceneOptions& options);

    [[nodiscard]] const std::vector<Target>& targets() const { return targets_; }
    [[nodiscard]] const SceneOptions& options() const { return options_; }

    /// Detected photons per Angstrom of a fiber, without the unresolved sky lines: sky continuum, object continuum and lines, all
    /// smooth on the scale of 0.8 Angstrom. @param wavelength vacuum, Angstrom
    [[nodiscard]] double smoothFlux(int fiber, char arm, double wavelength) const;

    /// An unresolved sky line.
    struct Spike {
        double wavelength = 0; ///< vacuum, Angstrom
        double photons = 0;    ///< detected
    };
    /// Sky lines of a fiber between two wavelengths, by wavelength.
    [[nodiscard]] std::vector<Spike> skySpikes(int fiber, char arm, double low, double high) const;

private:
    SceneOptions options_;
    std::vector<Target> targets_;
};

} // namespace patchlight::simulate
