#include "core/simulate/Instrument.h"

#include "core/base/Error.h"
#include "core/simulate/Random.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include <fmt/format.h>

namespace patchlight::simulate {

namespace {

/// What tells the arms apart. The dispersion is (1 + quadratic t + cubic t^2)/scale with t the wavelength from the centre in units
/// of 1100 Angstrom; signs and sizes as real cameras of this kind have them, numbers chosen for this program.
struct Arm {
    char name;
    int nx;
    int ny;
    double centre; ///< Angstrom in the middle row
    double scale;  ///< Angstrom a pixel there
    double quadratic;
    double cubic;
    WavelengthRange range; ///< that DESI's pipeline extracts
    std::uint64_t key;     ///< of the camera's own random numbers
};

constexpr std::array<Arm, 3> arms = {{
    {'b', 4096, 4096, 4700.0, 0.59, 0.012, 0.008, {3600.0, 5800.0, 0.8}, 11},
    {'r', 4114, 4128, 6690.0, 0.54, 0.040, 0.011, {5760.0, 7620.0, 0.8}, 12},
    {'z', 4114, 4128, 8672.0, 0.60, -0.010, 0.010, {7520.0, 9824.0, 0.8}, 13},
}};

const Arm& findArm(char name) {
    const auto it = std::find_if(arms.begin(), arms.end(), [&](const Arm& arm) { return arm.name == name; });
    if (it == arms.end()) throw UsageError(fmt::format("camera arm '{}' is not b, r or z", name));
    return *it;
}

constexpr double waveUnit = 1100.0;   ///< Angstrom, scale of t
constexpr double slitHalf = 1910.0;   ///< pixels from the middle of the CCD where the slit coordinate v is 1
constexpr double smile = 112.0;       ///< rows that the ends of the slit lie above its middle
constexpr double domainMargin = 20.0; ///< rows beyond the CCD that the PSF's domain covers

/// Where light of a wavelength from a place on the slit falls.
class Optics {
public:
    explicit Optics(const InstrumentOptions& options) : options_(options), arm_(findArm(options.camera.arm)) {
        // The smile of a slit narrower than the full one is centred too: half of it above and half below the middle row.
        const double width = bundleSpan(options);
        vMax_ = 0.5 * width / slitHalf;
    }

    /// Pixels between the first and the last trace.
    static double bundleSpan(const InstrumentOptions& o) {
        const int gaps = (o.nspec - 1) / o.bundlesize;
        return (o.nspec - 1) * o.fiberSpacing + gaps * o.bundleGap;
    }

    [[nodiscard]] double row(double wavelength, double v) const {
        const double t = (wavelength - options_.waveCentre) / waveUnit;
        const double along =
            (wavelength - options_.waveCentre) / options_.pixelScale * (1.0 + arm_.quadratic * t + arm_.cubic * t * t);
        const double bow = smile * (v * v - 0.5 * vMax_ * vMax_) * (1.0 + 0.11 * t);
        return 0.5 * (options_.ny - 1) + along + bow;
    }

    [[nodiscard]] double column(double wavelength, double v) const {
        const double t = (wavelength - options_.waveCentre) / waveUnit;
        const double bend = 5.2 * t + 3.0 * (t * t - 0.3) + 0.4 * t * t * t - 6.2 * (t * t * t * t - 0.2);
        return 0.5 * (options_.nx - 1) + slitHalf * v + v * bend;
    }

    /// Wavelength of a row (the dispersion is monotonic), Angstrom.
    [[nodiscard]] double wavelength(double row, double v) const {
        double wave = options_.waveCentre;
        for (int i = 0; i < 60; ++i) wave += (row - this->row(wave, v)) * options_.pixelScale * 0.9;
        return wave;
    }

    [[nodiscard]] double vMax() const { return vMax_; }

private:
    const InstrumentOptions& options_;
    const Arm& arm_;
    double vMax_ = 0.0;
};

double legendre(int n, double u) {
    double before = 1.0;
    double here = u;
    if (n == 0) return before;
    for (int k = 2; k <= n; ++k) {
        const double next = ((2 * k - 1) * u * here - (k - 1) * before) / k;
        before = here;
        here = next;
    }
    return here;
}

/// Legendre coefficients 0..degree of f on [-1, 1]: projection by Gauss-Legendre quadrature with 24 nodes, exact to rounding for
/// the low polynomials that the optics consists of.
std::vector<double> project(const std::function<double(double)>& f, int degree) {
    constexpr int nodes = 24;
    std::vector<double> coeff(static_cast<std::size_t>(degree + 1), 0.0);
    for (int i = 0; i < nodes; ++i) {
        // Node by Newton from Tricomi's estimate, derivative from P_n and P_{n-1}.
        double u = std::cos(3.14159265358979323846 * (i + 0.75) / (nodes + 0.5));
        double derivative = 0.0;
        for (int step = 0; step < 10; ++step) {
            const double p = legendre(nodes, u);
            derivative = nodes * (u * p - legendre(nodes - 1, u)) / (u * u - 1.0);
            u -= p / derivative;
        }
        const double weight = 2.0 / ((1.0 - u * u) * derivative * derivative);
        const double value = f(u);
        for (int n = 0; n <= degree; ++n)
            coeff[static_cast<std::size_t>(n)] += 0.5 * (2 * n + 1) * weight * value * legendre(n, u);
    }
    return coeff;
}

/// Size of the Gauss-Hermite term i, j and the part of it that all fibers share. Widths are described by GHSIG, so terms of order
/// 1 and 2 are small; even terms of order 4 and 6 are positive, as a fiber's disc image is flatter than a Gaussian inside and
/// falls faster outside.
struct TermSize {
    double shared = 0.0;
    double varying = 0.0;
};

TermSize termSize(int i, int j) {
    switch (i + j) {
    case 0:
        return {1.0, 0.0};
    case 1:
        return {0.0, 0.006};
    case 2:
        return {i == 1 ? 0.0 : 0.005, 0.007};
    case 3:
        return {0.0, 0.005};
    case 4:
        return {i % 2 == 0 ? 0.006 : 0.0, 0.003};
    case 5:
        return {0.0, 0.0012};
    case 6:
        return {i % 2 == 0 ? 0.003 : 0.0, 0.0008};
    default:
        return {0.0, 0.0004};
    }
}

/// Adds one parameter whose Legendre terms n in wavelength vary as quadratic polynomials along the slit.
/// @param sizes  half ranges of the terms n = 0, 1, 2, 3 (beyond: halved each time)
LegendreSeries varyingSeries(const std::vector<double>& slit, double wavemin, double wavemax, int degree, double shared,
                             const std::array<double, 4>& sizes, RandomStream& random) {
    LegendreSeries series{wavemin, wavemax, degree + 1, {}};
    const std::size_t ncoeff = static_cast<std::size_t>(degree + 1);
    series.coeff.assign(slit.size() * ncoeff, 0.0);
    for (std::size_t n = 0; n < ncoeff; ++n) {
        const double size = n < 4 ? sizes[n] : sizes[3] * std::pow(0.5, static_cast<double>(n) - 3.0);
        const double a = random.uniform(-0.4, 0.4) * size;
        const double b = random.uniform(-0.6, 0.6) * size;
        const double c = random.uniform(-0.4, 0.4) * size;
        for (std::size_t s = 0; s < slit.size(); ++s) {
            const double v = slit[s];
            series.coeff[s * ncoeff + n] = (n == 0 ? shared : 0.0) + a + b * v + c * (2.0 * v * v - 1.0);
        }
    }
    return series;
}

LegendreSeries constantSeries(std::size_t nspec, double wavemin, double wavemax, int degree,
                              const std::function<double(std::size_t)>& value) {
    const std::size_t ncoeff = static_cast<std::size_t>(degree + 1);
    LegendreSeries series{wavemin, wavemax, degree + 1, std::vector<double>(nspec * ncoeff, 0.0)};
    for (std::size_t s = 0; s < nspec; ++s) series.coeff[s * ncoeff] = value(s);
    return series;
}

void require(bool condition, const char* option, const std::string& found, const char* right) {
    if (!condition) throw UsageError(fmt::format("--{} {}: {}", option, found, right));
}

} // namespace

Camera parseCamera(const std::string& text, const std::string& option) {
    Camera camera;
    const bool arm = !text.empty() && (text[0] == 'b' || text[0] == 'r' || text[0] == 'z');
    const bool digit = text.size() == 2 && text[1] >= '0' && text[1] <= '9';
    if (!arm || text.size() > 2 || (text.size() == 2 && !digit))
        throw UsageError(
            fmt::format("--{} {}: a camera is b, r or z and a spectrograph from 0 to 9, such as r0", option, text));
    camera.arm = text[0];
    camera.spectrograph = digit ? text[1] - '0' : 0;
    return camera;
}

InstrumentOptions completed(InstrumentOptions o) {
    const Arm& arm = findArm(o.camera.arm);
    if (o.nx == 0) o.nx = arm.nx;
    if (o.ny == 0) o.ny = arm.ny;
    if (o.pixelScale == 0.0) o.pixelScale = arm.scale;
    if (o.waveCentre == 0.0) o.waveCentre = arm.centre;
    require(o.camera.spectrograph >= 0 && o.camera.spectrograph <= 9, "camera", o.camera.name(),
            "spectrographs are 0 to 9");
    require(o.nspec >= 1 && o.nspec <= 100000, "nspec", fmt::to_string(o.nspec), "must be 1 to 100000 fibers");
    require(o.bundlesize >= 1, "bundlesize", fmt::to_string(o.bundlesize), "must be at least 1 fiber");
    require(o.nx >= 16 && o.nx <= 32768, "nx", fmt::to_string(o.nx), "must be 16 to 32768 pixels");
    require(o.ny >= 16 && o.ny <= 32768, "ny", fmt::to_string(o.ny), "must be 16 to 32768 pixels");
    require(o.fiberSpacing >= 1.0 && o.fiberSpacing <= 1000.0, "fiber-spacing", fmt::to_string(o.fiberSpacing),
            "must be 1 to 1000 pixels");
    require(o.bundleGap >= 0.0 && o.bundleGap <= 1000.0, "bundle-gap", fmt::to_string(o.bundleGap),
            "must be 0 to 1000 pixels");
    require(o.pixelScale >= 0.1 && o.pixelScale <= 3.0, "pixel-scale", fmt::to_string(o.pixelScale),
            "must be 0.1 to 3 Angstrom a pixel");
    require(o.waveCentre >= 3000.0 && o.waveCentre <= 11000.0, "wave-centre", fmt::to_string(o.waveCentre),
            "must be 3000 to 11000 Angstrom");
    // The dispersion formula stays monotonic and the traces polynomials of low degree over this range.
    require(o.ny * o.pixelScale <= 3000.0, "ny", fmt::to_string(o.ny),
            "rows times --pixel-scale must be at most 3000 Angstrom, the range of the optics formula");
    require(o.hsizeX >= 2 && o.hsizeX <= 31, "hsizex", fmt::to_string(o.hsizeX), "must be 2 to 31 pixels");
    require(o.hsizeY >= 2 && o.hsizeY <= 31, "hsizey", fmt::to_string(o.hsizeY), "must be 2 to 31 pixels");
    require(o.hermiteDegree >= 0 && o.hermiteDegree <= maxHermiteDegree, "ghdeg", fmt::to_string(o.hermiteDegree),
            "must be 0 to 15");
    require(o.legendreDegree >= 0 && o.legendreDegree <= 15, "legdeg", fmt::to_string(o.legendreDegree),
            "must be 0 to 15");
    require(o.traceDegree >= 4 && o.traceDegree <= 15, "tracedeg", fmt::to_string(o.traceDegree),
            "must be 4 (the degree of the traces' formula) to 15");
    require(o.tail >= 0.0 && o.tail <= 0.1, "tail", fmt::to_string(o.tail), "must be 0 to 0.1");
    // The outermost traces stay on the CCD, with the sideways bend of up to 6 pixels that slits as wide as DESI's have.
    const double span = Optics::bundleSpan(o);
    const double needed = span * (1.0 + 12.0 / (2.0 * slitHalf)) + 2.0;
    require(needed <= o.nx, "nx", fmt::to_string(o.nx),
            fmt::format("{} fibers at --fiber-spacing {} with --bundle-gap {} need {:.0f} columns", o.nspec,
                        o.fiberSpacing, o.bundleGap, std::ceil(needed))
                .c_str());
    return o;
}

Psf makePsf(const InstrumentOptions& options) {
    const Arm& arm = findArm(options.camera.arm);
    const Optics optics(options);
    const std::size_t nspec = static_cast<std::size_t>(options.nspec);
    const std::uint64_t key = mixSeed(arm.key, static_cast<std::uint64_t>(options.camera.spectrograph));
    RandomStream random(key, StreamPurpose::Instrument, 0);

    // The slit: bundles are mounted to a few tenths of a pixel, fibers in them to a few hundredths.
    std::vector<double> slit(nspec);
    double bundleShift = 0.0;
    for (std::size_t s = 0; s < nspec; ++s) {
        const int fiber = static_cast<int>(s);
        const int bundle = fiber / options.bundlesize;
        if (fiber % options.bundlesize == 0)
            bundleShift = random.uniform(-0.3, 0.3) * std::min(1.0, options.bundleGap / 12.0);
        const double jitter = random.uniform(-0.035, 0.035);
        const double place = fiber * options.fiberSpacing + bundle * options.bundleGap + bundleShift + jitter;
        slit[s] = (place - 0.5 * Optics::bundleSpan(options)) / slitHalf;
    }

    Psf psf;
    psf.type = PsfType::GaussHermite;
    psf.version = 3;
    psf.nspec = options.nspec;
    psf.fibermin = 0;
    psf.nx = options.nx;
    psf.ny = options.ny;
    psf.hsizeX = options.hsizeX;
    psf.hsizeY = options.hsizeY;
    psf.degX = options.hermiteDegree;
    psf.degY = options.hermiteDegree;
    psf.psferr = 0.01;

    // All light on the CCD, whichever fiber has the first and the last of it, and some rows more.
    const auto reach = [&](double row, bool lowest) {
        const double middle = optics.wavelength(row, 0.0);
        const double end = optics.wavelength(row, optics.vMax());
        return lowest ? std::min(middle, end) : std::max(middle, end);
    };
    const double wavemin = std::floor(reach(-domainMargin, true));
    const double wavemax = std::ceil(reach(options.ny - 1 + domainMargin, false));

    const auto traceSeries = [&](const std::function<double(double, double)>& position) {
        LegendreSeries series{wavemin, wavemax, options.traceDegree + 1, {}};
        for (const double v : slit) {
            const std::vector<double> coeff =
                project([&](double u) { return position(wavemin + 0.5 * (u + 1.0) * (wavemax - wavemin), v); },
                        options.traceDegree);
            series.coeff.insert(series.coeff.end(), coeff.begin(), coeff.end());
        }
        return series;
    };
    psf.series["X"] = traceSeries([&](double wave, double v) { return optics.column(wave, v); });
    psf.series["Y"] = traceSeries([&](double wave, double v) { return optics.row(wave, v); });

    const auto varying = [&](double shared, const std::array<double, 4>& sizes) {
        return varyingSeries(slit, wavemin, wavemax, options.legendreDegree, shared, sizes, random);
    };
    psf.series["GHSIGX"] = varying(1.060, {0.030, 0.020, 0.020, 0.008});
    psf.series["GHSIGY"] = varying(1.085, {0.025, 0.025, 0.015, 0.008});
    for (int i = 0; i <= options.hermiteDegree; ++i) {
        for (int j = 0; j <= options.hermiteDegree; ++j) {
            const TermSize size = termSize(i, j);
            psf.series[fmt::format("GH-{}-{}", i, j)] =
                varying(size.shared, {size.varying, 0.6 * size.varying, 0.6 * size.varying, 0.3 * size.varying});
        }
    }
    const auto constant = [&](const char* name, const std::function<double(std::size_t)>& value) {
        psf.series[name] = constantSeries(nspec, wavemin, wavemax, options.legendreDegree, value);
    };
    constant("TAILAMP", [&](std::size_t) { return options.tail; });
    constant("TAILCORE", [](std::size_t) { return 1.0; });
    constant("TAILXSCA", [](std::size_t) { return 1.0; });
    constant("TAILYSCA", [](std::size_t) { return 1.0; });
    constant("TAILINDE", [](std::size_t) { return 2.0; });
    constant("BUNDLE", [&](std::size_t s) {
        const int bundle = static_cast<int>(s) / options.bundlesize;
        return static_cast<double>(bundle);
    });
    constant("STATUS", [](std::size_t) { return 0.0; });

    const int nbundles = (options.nspec + options.bundlesize - 1) / options.bundlesize;
    for (int bundle = 0; bundle < nbundles; ++bundle) psf.bundleFits.push_back({bundle, 1.0, 0});

    FitsHeader& header = psf.header;
    header.set("CAMERA", options.camera.name(), "camera");
    header.set("PSFERR", psf.psferr, "fractional error of the PSF");
    header.set("BUNDLMIN", 0, "first bundle");
    header.set("BUNDLMAX", nbundles - 1, "last bundle (included)");
    header.set("SIMPSF", true, "made by patchlight simulate, not fitted to data");
    psf.primaryHeader.set("CAMERA", options.camera.name(), "camera");
    psf.pack();
    return psf;
}

WavelengthRange defaultWavelengthRange(const Psf& psf, char armName) {
    // Lowest and highest wavelength that every spectrum has on the CCD, six rows from its edges.
    double low = psf.wavemin();
    double high = psf.wavemax();
    for (int s = 0; s < psf.nspec; ++s) {
        low = std::max(low, psf.wavelengthAt(s, psf.hsizeY + 1.0));
        high = std::min(high, psf.wavelengthAt(s, psf.ny - psf.hsizeY - 2.0));
    }
    const WavelengthRange own = findArm(armName).range;
    if (low <= own.wmin && own.wmax <= high) return own;
    WavelengthRange range{std::ceil(low), std::floor(high), own.dw};
    if (!(range.wmax > range.wmin))
        throw Error(fmt::format("{}: no wavelength is on the CCD in all spectra", psf.path.empty() ? "PSF" : psf.path));
    return range;
}

} // namespace patchlight::simulate
