#include "core/simulate/FrameSimulator.h"

#include "core/base/Error.h"
#include "core/psf/GaussHermite.h"
#include "core/simulate/Random.h"
#include "core/simulate/TableBuilder.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include <asio/post.hpp>
#include <asio/thread_pool.hpp>
#include <fmt/format.h>

namespace patchlight::simulate {

namespace {

/// CCD rows that one task paints and adds noise to. Spots over the edge of a stripe are evaluated for both stripes (5 % more
/// work); in return no two tasks touch a pixel, and every pixel adds up its spots in one order whatever the number of threads.
constexpr int stripeRows = 192;

/// Off the grid, smooth light is painted at every third point of the truth's grid: see simulateFrame.
constexpr int smoothStride = 3;

/// Photons of a planted line, in units of saturation: its brightest pixel has about 2.
constexpr double saturatedLine = 15.0;

/// Calls task(0) ... task(count - 1), each once, on `threads` threads; throws what the first failed task threw.
void forEachParallel(int count, int threads, const std::function<void(int)>& task) {
    std::atomic<int> next{0};
    std::exception_ptr failure;
    std::mutex failureMutex;
    const auto work = [&] {
        for (int i = next++; i < count; i = next++) {
            try {
                task(i);
            } catch (...) {
                const std::lock_guard lock(failureMutex);
                if (!failure) failure = std::current_exception();
                next = count;
            }
        }
    };
    const int workers = std::min(threads, count);
    if (workers <= 1) {
        work();
    } else {
        asio::thread_pool pool(static_cast<std::size_t>(workers));
        for (int i = 0; i < workers; ++i) asio::post(pool, work);
        pool.join();
    }
    if (failure) std::rethrow_exception(failure);
}

int threadCount(int asked) {
    return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// Four amplifiers: A lower left, B lower right, C upper left, D upper right.
struct Amplifier {
    char name;
    int x0, x1, y0, y1; ///< columns [x0, x1), rows [y0, y1)
    double readnoise;   ///< electrons
};

std::vector<Amplifier> amplifiers(int nx, int ny, double readnoise) {
    const int xm = nx / 2;
    const int ym = ny / 2;
    return {{'A', 0, xm, 0, ym, 0.94 * readnoise},
            {'B', xm, nx, 0, ym, 1.03 * readnoise},
            {'C', 0, xm, ym, ny, 1.06 * readnoise},
            {'D', xm, nx, ym, ny, 0.97 * readnoise}};
}

/// Charge of a cosmic ray in one pixel.
struct CosmicHit {
    int x = 0;
    int y = 0;
    double charge = 0; ///< electrons
    bool masked = true;
};

/// Tracks of particles through the CCD: straight, of random direction and length, with charge that fluctuates along the way and
/// spreads a little. Sorted by row.
std::vector<CosmicHit> makeCosmics(std::uint64_t key, int count, double unmasked, int nx, int ny) {
    std::vector<CosmicHit> hits;
    for (int ray = 0; ray < count; ++ray) {
        RandomStream random(key, StreamPurpose::Cosmic, static_cast<std::uint64_t>(ray));
        const bool masked = random.uniform() >= unmasked;
        const double x0 = random.uniform(-0.5, nx - 0.5);
        const double y0 = random.uniform(-0.5, ny - 0.5);
        const double angle = random.uniform(0.0, 6.283185307179586);
        const double length = std::min(120.0, 1.0 + 9.0 * random.exponential()); // pixels
        const double perPixel = 300.0 + 700.0 * random.exponential();            // electrons
        constexpr double stepLength = 0.2;                                       // pixels
        constexpr double diffusion = 0.35;                                       // pixels
        for (double s = 0.0; s < length; s += stepLength) {
            const double charge = perPixel * stepLength * random.exponential();
            const int x = static_cast<int>(std::floor(x0 + s * std::cos(angle) + diffusion * random.normal() + 0.5));
            const int y = static_cast<int>(std::floor(y0 + s * std::sin(angle) + diffusion * random.normal() + 0.5));
            if (x >= 0 && x < nx && y >= 0 && y < ny) hits.push_back({x, y, charge, masked});
        }
    }
    std::stable_sort(hits.begin(), hits.end(), [](const CosmicHit& a, const CosmicHit& b) { return a.y < b.y; });
    return hits;
}

/// A column, or the part of it behind a defect as seen from the read-out at the top or bottom, that holds no usable charge.
struct BadColumn {
    int x = 0;
    int y0 = 0;
    int y1 = 0; ///< rows [y0, y1)
};

std::vector<BadColumn> makeBadColumns(std::uint64_t key, int count, int nx, int ny) {
    std::vector<BadColumn> columns;
    for (int i = 0; i < count; ++i) {
        RandomStream random(key, StreamPurpose::BadColumn, static_cast<std::uint64_t>(i));
        BadColumn column{static_cast<int>(random.below(static_cast<std::uint64_t>(nx))), 0, ny};
        const int half = ny / 2;
        switch (random.below(3)) {
        case 0: // lower amplifiers
            column.y0 = static_cast<int>(random.below(static_cast<std::uint64_t>(half)));
            column.y1 = half;
            break;
        case 1: // upper amplifiers
            column.y0 = half;
            column.y1 = ny - static_cast<int>(random.below(static_cast<std::uint64_t>(half)));
            break;
        default: // all of it
            break;
        }
        columns.push_back(column);
    }
    return columns;
}

/// The wavelengths that light is painted at, and how much.
struct Light {
    std::vector<double> wavelength; ///< [nwave], Angstrom
    Array2<double> photons;         ///< [nspec][nwave]
};

/// Truth and what is painted, on a grid that covers all light on the CCD.
void makeSpectra(const Psf& psf, const Scene& scene, const FrameOptions& options, int threads, Truth& truth,
                 Light& light) {
    const double dw = options.grid.dw;
    // Light further outside leaves no photon on the CCD; beyond its domain a PSF means nothing.
    double low = psf.wavemax();
    double high = psf.wavemin();
    for (int s = 0; s < psf.nspec; ++s) {
        low = std::min(low, psf.wavelengthAt(s, -psf.hsizeY - 1.0));
        high = std::max(high, psf.wavelengthAt(s, psf.ny + psf.hsizeY + 1.0));
    }
    const LegendreSeries& trace = psf.series.at("Y");
    low = std::max({low, psf.wavemin(), trace.wavemin});
    high = std::min({high, psf.wavemax(), trace.wavemax});
    if (!(high > low))
        throw Error(
            fmt::format("{}: no light of the PSF's domain falls on the CCD", psf.path.empty() ? "PSF" : psf.path));

    truth.onGrid = options.truthOnGrid;
    truth.grid = options.grid;
    truth.step = options.truthOnGrid ? dw : dw / 4.0;
    const double offset = options.truthOnGrid ? 0.0 : 0.5; // off the grid: never at a wavelength of the extraction
    const std::int64_t first = static_cast<std::int64_t>(std::ceil((low - options.grid.wmin) / truth.step - offset));
    const std::int64_t last = static_cast<std::int64_t>(std::floor((high - options.grid.wmin) / truth.step - offset));
    for (std::int64_t k = first; k <= last; ++k)
        truth.wavelength.push_back(options.grid.wmin + (static_cast<double>(k) + offset) * truth.step);
    light.wavelength = truth.wavelength;

    const std::size_t nwave = truth.wavelength.size();
    const std::size_t nspec = static_cast<std::size_t>(psf.nspec);
    truth.flux = Array2<double>(nspec, nwave);
    light.photons = Array2<double>(nspec, nwave);
    const char arm = options.camera.arm;
    forEachParallel(psf.nspec, threads, [&](int s) {
        const std::size_t row = static_cast<std::size_t>(s);
        for (std::size_t k = 0; k < nwave; ++k) {
            const double smooth = scene.smoothFlux(s, arm, truth.wavelength[k]);
            truth.flux(row, k) = smooth;
            if (options.truthOnGrid)
                light.photons(row, k) = smooth * dw;
            else if (k % smoothStride == 0)
                light.photons(row, k) = smooth * smoothStride * truth.step;
        }
        for (const Scene::Spike& spike : scene.skySpikes(s, arm, truth.wavelength.front(), truth.wavelength.back())) {
            const auto nearest = std::llround((spike.wavelength - truth.wavelength.front()) / truth.step);
            const std::size_t k = std::min(nwave - 1, static_cast<std::size_t>(nearest));
            truth.flux(row, k) += spike.photons / truth.step;
            light.photons(row, k) += spike.photons;
        }
        for (const PlantedFault& fault : options.faults) {
            if (fault.kind == PlantedFault::Kind::Neighbour && fault.spectrum == s) {
                for (std::size_t k = 0; k < nwave; ++k) {
                    truth.flux(row, k) *= fault.amount;
                    light.photons(row, k) *= fault.amount;
                }
            } else if (fault.kind == PlantedFault::Kind::Saturated && fault.spectrum == s) {
                const auto nearest = std::llround((fault.wavelength - truth.wavelength.front()) / truth.step);
                const std::size_t k = std::min(nwave - 1, static_cast<std::size_t>(std::max(0LL, nearest)));
                const double photons = fault.amount > 0 ? fault.amount : saturatedLine * options.saturation;
                truth.flux(row, k) += photons / truth.step;
                light.photons(row, k) += photons;
            }
        }
    });
}

/// The PSF that light really has: the given one, but for what was planted.
Psf paintedPsf(const Psf& psf, const std::vector<PlantedFault>& faults) {
    Psf painted = psf;
    for (const PlantedFault& fault : faults) {
        if (fault.kind == PlantedFault::Kind::Trace) {
            LegendreSeries& x = painted.series.at("X");
            x.coeff[static_cast<std::size_t>(fault.spectrum) * static_cast<std::size_t>(x.ncoeff)] += fault.amount;
        } else if (fault.kind == PlantedFault::Kind::Width) {
            for (const char* name : {"GHSIGX", "GHSIGY"})
                for (double& value : painted.series.at(name).coeff) value /= 1.0 - fault.amount;
        }
    }
    painted.pack();
    return painted;
}

void checkFaults(const std::vector<PlantedFault>& faults, const Psf& psf, double saturation) {
    using Kind = PlantedFault::Kind;
    for (const PlantedFault& fault : faults) {
        const bool hasFiber = fault.kind == Kind::Cosmic || fault.kind == Kind::Trace ||
                              fault.kind == Kind::Neighbour || fault.kind == Kind::Saturated;
        if (hasFiber && fault.spectrum >= psf.nspec)
            throw UsageError(fmt::format("--plant {}: fiber 0 to {} would be right", fault.text, psf.nspec - 1));
        if (fault.kind == Kind::Column && fault.column >= psf.nx)
            throw UsageError(fmt::format("--plant {}: column 0 to {} would be right", fault.text, psf.nx - 1));
        if (fault.kind == Kind::Saturated && saturation <= 0.0)
            throw UsageError(fmt::format("--plant {}: nothing saturates with --saturation 0", fault.text));
        if (fault.kind == Kind::Cosmic || fault.kind == Kind::Saturated) {
            const double y = psf.y(fault.spectrum, fault.wavelength);
            if (!(y >= 0.0 && y <= psf.ny - 1.0))
                throw UsageError(fmt::format("--plant {}: that wavelength is not on the CCD", fault.text));
        }
    }
}

/// A track of six pixels over the trace, upwards and to the right.
void addPlantedCosmics(const std::vector<PlantedFault>& faults, const Psf& psf, std::vector<CosmicHit>& hits) {
    for (const PlantedFault& fault : faults) {
        if (fault.kind != PlantedFault::Kind::Cosmic) continue;
        const int x0 = static_cast<int>(std::lround(psf.x(fault.spectrum, fault.wavelength)));
        const int y0 = static_cast<int>(std::lround(psf.y(fault.spectrum, fault.wavelength)));
        for (int i = -2; i <= 3; ++i) {
            const CosmicHit hit{x0 + i, y0 + (i > 0 ? 1 : 0), fault.amount, false};
            if (hit.x >= 0 && hit.x < psf.nx && hit.y >= 0 && hit.y < psf.ny) hits.push_back(hit);
        }
    }
    std::stable_sort(hits.begin(), hits.end(), [](const CosmicHit& a, const CosmicHit& b) { return a.y < b.y; });
}

/// What is planted into pixels, as the read-out goes over them.
class PixelFaults {
public:
    PixelFaults(const std::vector<PlantedFault>& faults, const Psf& psf)
        : column_(static_cast<std::size_t>(psf.nx), false) {
        for (const PlantedFault& fault : faults) {
            if (fault.kind == PlantedFault::Kind::Column) column_[static_cast<std::size_t>(fault.column)] = true;
            if (fault.kind == PlantedFault::Kind::Amplifier) dead_ += fault.amplifier;
            if (fault.kind == PlantedFault::Kind::Saturated)
                lines_.push_back({static_cast<int>(std::lround(psf.x(fault.spectrum, fault.wavelength))),
                                  static_cast<int>(std::lround(psf.y(fault.spectrum, fault.wavelength)))});
        }
    }
    [[nodiscard]] bool losesCharge(int x) const { return column_[static_cast<std::size_t>(x)]; }
    [[nodiscard]] bool isDead(char amplifier) const { return dead_.find(amplifier) != std::string::npos; }
    /// Saturation here is not told to MASK.
    [[nodiscard]] bool hidesSaturation(int x, int y) const {
        constexpr int reach = 8; // pixels
        return std::any_of(lines_.begin(), lines_.end(), [&](const Place& line) {
            return std::abs(line.x - x) <= reach && std::abs(line.y - y) <= reach;
        });
    }

private:
    struct Place {
        int x = 0;
        int y = 0;
    };
    std::vector<bool> column_;
    std::string dead_;
    std::vector<Place> lines_;
};

/// Adds the light that falls on rows [y0, y1) to sum[y1 - y0][nx].
void paintStripe(const Psf& psf, const PsfView& view, const Light& light, int y0, int y1, int nx,
                 std::vector<double>& sum) {
    std::vector<double> stamp(static_cast<std::size_t>(view.stampX() * view.stampY()));
    for (int s = 0; s < psf.nspec; ++s) {
        const auto photons = light.photons.row(static_cast<std::size_t>(s));
        // Rows rise with wavelength: the first spot that reaches the stripe, then on until one begins above it.
        const auto below = [&](double wavelength) {
            return spotCorner(view.type, traceY(view, s, wavelength), view.hsizeY) + view.stampY() <= y0;
        };
        const auto begin = std::partition_point(light.wavelength.begin(), light.wavelength.end(), below);
        for (std::size_t k = static_cast<std::size_t>(begin - light.wavelength.begin()); k < light.wavelength.size();
             ++k) {
            const double amount = photons[k];
            const double wavelength = light.wavelength[k];
            if (spotCorner(view.type, traceY(view, s, wavelength), view.hsizeY) >= y1) break;
            if (amount == 0.0) continue;
            int cornerX = 0;
            int cornerY = 0;
            evaluateSpot(view, s, wavelength, true, stamp.data(), cornerX, cornerY);
            const int firstX = std::max(0, -cornerX);
            const int lastX = std::min(view.stampX(), nx - cornerX);
            const int firstY = std::max(0, y0 - cornerY);
            const int lastY = std::min(view.stampY(), y1 - cornerY);
            for (int y = firstY; y < lastY; ++y) {
                const double* from = stamp.data() + y * view.stampX();
                double* to = sum.data() + static_cast<std::size_t>(cornerY + y - y0) * static_cast<std::size_t>(nx);
                for (int x = firstX; x < lastX; ++x) to[cornerX + x] += amount * from[x];
            }
        }
    }
}

FitsTable makeFibermap(const Scene& scene, const FrameOptions& options) {
    const std::vector<Target>& targets = scene.targets();
    const std::size_t n = targets.size();
    std::vector<std::int64_t> id, petal, device, location, fiber, status, desiTarget;
    std::vector<double> ra, dec, fluxR, x, y;
    std::vector<std::string> objtype;
    for (std::size_t i = 0; i < n; ++i) {
        const Target& target = targets[i];
        const bool dead = target.kind == TargetKind::Dead;
        const std::int64_t index = static_cast<std::int64_t>(i);
        id.push_back(target.id);
        petal.push_back(options.camera.spectrograph);
        device.push_back(index);
        location.push_back(1000 * options.camera.spectrograph + index);
        fiber.push_back(options.camera.spectrograph * static_cast<std::int64_t>(n) + index);
        constexpr std::int64_t brokenFiber = 4; // desispec's fibermask: bit 2, BROKENFIBER
        status.push_back(dead ? brokenFiber : 0);
        objtype.emplace_back(dead ? "BAD" : target.kind == TargetKind::Sky ? "SKY" : "TGT");
        constexpr std::int64_t elgBit = 2, qsoBit = 4, skyBit = 1LL << 32U, galaxyBit = 1LL << 60U,
                               starBit = 1LL << 61U; // desitarget
        desiTarget.push_back(target.kind == TargetKind::EmissionGalaxy ? elgBit
                             : target.kind == TargetKind::Quasar       ? qsoBit
                             : target.kind == TargetKind::Galaxy       ? galaxyBit
                             : target.kind == TargetKind::Star         ? starBit
                                                                       : skyBit);
        ra.push_back(target.ra);
        dec.push_back(target.dec);
        fluxR.push_back(target.magnitude > 0.0 ? std::pow(10.0, 0.4 * (22.5 - target.magnitude)) : 0.0);
        // Focal plane: 250 mm a degree is near enough for a table that nothing is measured with.
        x.push_back(250.0 * (target.ra - scene.options().pointingRa) * std::cos(target.dec * 0.017453292519943295));
        y.push_back(250.0 * (target.dec - scene.options().pointingDec));
    }
    TableBuilder table("FIBERMAP", n);
    table.addInt64("TARGETID", id);
    table.addInt16("PETAL_LOC", petal);
    table.addInt32("DEVICE_LOC", device);
    table.addInt64("LOCATION", location);
    table.addInt32("FIBER", fiber);
    table.addInt32("FIBERSTATUS", status);
    table.addDouble("TARGET_RA", ra, "deg");
    table.addDouble("TARGET_DEC", dec, "deg");
    table.addText("OBJTYPE", objtype, 3);
    table.addInt64("DESI_TARGET", desiTarget);
    table.addFloat("FLUX_R", fluxR, "nanomaggy");
    table.addFloat("FIBERASSIGN_X", x, "mm");
    table.addFloat("FIBERASSIGN_Y", y, "mm");
    return table.build();
}

FitsTable makeTruthTable(const Scene& scene, const FrameOptions& options) {
    const std::size_t n = scene.targets().size();
    std::vector<std::int64_t> id, fiber;
    std::vector<std::string> kind;
    std::vector<double> z, magnitude, slope, transmission;
    for (std::size_t i = 0; i < n; ++i) {
        const Target& target = scene.targets()[i];
        id.push_back(target.id);
        fiber.push_back(options.camera.spectrograph * static_cast<std::int64_t>(n) + static_cast<std::int64_t>(i));
        kind.emplace_back(kindName(target.kind));
        z.push_back(target.redshift);
        magnitude.push_back(target.magnitude);
        slope.push_back(target.slope);
        transmission.push_back(target.transmission);
    }
    TableBuilder table("TRUTH", n);
    table.addInt64("TARGETID", id);
    table.addInt32("FIBER", fiber);
    table.addText("TRUETYPE", kind, 8);
    table.addDouble("TRUEZ", z);
    table.addFloat("MAG", magnitude, "mag");
    table.addFloat("SLOPE", slope);
    table.addFloat("TRANSMISSION", transmission);
    return table.build();
}

/// Modified Julian date of noon-to-noon night YYYYMMDD's beginning, 0 h UT of that day. @throws UsageError
double nightToMjd(std::int64_t night) {
    using namespace std::chrono;
    const year_month_day date{year{static_cast<int>(night / 10000)}, month{static_cast<unsigned>(night / 100 % 100)},
                              day{static_cast<unsigned>(night % 100)}};
    if (night < 19000101 || night > 21001231 || !date.ok())
        throw UsageError(fmt::format("--night {}: must be a date YYYYMMDD", night));
    return static_cast<double>((sys_days{date} - sys_days{year{1858} / November / 17}).count());
}

void setExposureKeywords(FitsHeader& header, const FrameOptions& options, double ra, double dec) {
    // At Kitt Peak the night of a date is the UT morning of the next one; exposures of a night follow each other.
    const double mjd = nightToMjd(options.night) + 1.0 + (3.0 + 0.35 * static_cast<double>(options.expid % 24)) / 24.0;
    using namespace std::chrono;
    const sys_seconds start = sys_days{year{1858} / November / 17} + seconds{std::llround(mjd * 86400.0)};
    const sys_days date = floor<days>(start);
    const year_month_day ymd{date};
    const hh_mm_ss time{start - date};
    header.set("CAMERA", options.camera.name(), "camera: arm and spectrograph");
    header.set("SPECGRPH", options.camera.spectrograph, "spectrograph");
    header.set("NIGHT", options.night, "night, local date of its evening");
    header.set("EXPID", options.expid, "exposure number");
    header.set("EXPTIME", options.exptime, "[s] exposure time");
    header.set("FLAVOR", "science", "kind of exposure");
    header.set("OBSTYPE", "SCIENCE", "kind of exposure");
    header.set("PROGRAM", "SIMULATED", "made by patchlight simulate");
    header.set("DATE-OBS",
               fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", static_cast<int>(ymd.year()),
                           static_cast<unsigned>(ymd.month()), static_cast<unsigned>(ymd.day()), time.hours().count(),
                           time.minutes().count(), time.seconds().count()),
               "[UTC] start of exposure");
    header.set("MJD-OBS", mjd, "[d] start of exposure");
    header.set("TARGTRA", ra, "[deg] pointing, right ascension");
    header.set("TARGTDEC", dec, "[deg] pointing, declination");
}

void setSimulationKeywords(FitsHeader& header, const FrameOptions& options) {
    header.set("SEED", options.seed, "simulation: seed of the random numbers");
    header.set("ONGRID", options.truthOnGrid, "simulation: truth on the extraction grid");
    header.set("EXTWMIN", options.grid.wmin, "[Angstrom] extraction grid: first");
    header.set("EXTWMAX", options.grid.wmax, "[Angstrom] extraction grid: last");
    header.set("EXTDW", options.grid.dw, "[Angstrom] extraction grid: step");
    header.set("SKYSCALE", options.skyScale, "simulation: brightness of the sky");
    header.set("OBJSCALE", options.objectScale, "simulation: brightness of the objects");
    header.set("NSKYFIB", options.skyFibers, "simulation: sky fibers");
    header.set("NDEADFIB", options.deadFibers, "simulation: dead fibers");
}

void checkOptions(const FrameOptions& o) {
    const auto require = [](bool condition, const char* option, double found, const char* right) {
        if (!condition) throw UsageError(fmt::format("--{} {}: must be {}", option, found, right));
    };
    require(o.exptime > 0.0 && o.exptime <= 1e6, "exptime", o.exptime, "above 0 and at most 1e6 s");
    require(o.readnoise >= 0.1 && o.readnoise <= 1000.0, "readnoise", o.readnoise,
            "0.1 to 1000 electrons (--no-noise for an image without noise)");
    require(o.skyScale >= 0.0 && o.skyScale <= 1e4, "sky-scale", o.skyScale, "0 to 10000");
    require(o.objectScale >= 0.0 && o.objectScale <= 1e4, "object-scale", o.objectScale, "0 to 10000");
    require(o.unmaskedCosmics >= 0.0 && o.unmaskedCosmics <= 1.0, "unmasked-cosmics", o.unmaskedCosmics, "0 to 1");
    require(o.cosmics <= 10000000, "cosmics", o.cosmics, "0 to 10000000");
    require(o.badColumns <= 100000, "bad-columns", o.badColumns, "0 to 100000");
    require(o.saturation >= 0.0, "saturation", o.saturation, "0 (none) or above");
    require(o.seed >= 0, "seed", static_cast<double>(o.seed), "0 or above");
    require(o.expid >= 0 && o.expid <= 99999999, "expid", static_cast<double>(o.expid), "0 to 99999999");
}

} // namespace

SimulatedFrame simulateFrame(const Psf& psf, const FrameOptions& given) {
    FrameOptions options = given;
    checkOptions(options);
    checkFaults(options.faults, psf, options.saturation);
    const int nx = psf.nx;
    const int ny = psf.ny;
    if (nx < 1 || ny < 1)
        throw Error(
            fmt::format("{}: NPIX_X = {}, NPIX_Y = {}: the PSF does not say how large the CCD is", psf.path, nx, ny));
    const double megapixels = 1e-6 * nx * ny;
    if (options.skyFibers < 0) options.skyFibers = (8 * psf.nspec + 50) / 100;
    if (options.deadFibers < 0) options.deadFibers = (4 * psf.nspec + 500) / 1000;
    if (options.cosmics < 0)
        options.cosmics = static_cast<int>(std::lround(100.0 * megapixels * options.exptime / 900.0));
    if (options.badColumns < 0) options.badColumns = nx / 1000;
    const int threads = threadCount(options.threads);

    const std::uint64_t exposureKey =
        mixSeed(static_cast<std::uint64_t>(options.seed), static_cast<std::uint64_t>(options.expid));
    const std::uint64_t frameKey =
        mixSeed(mixSeed(exposureKey, static_cast<std::uint64_t>(options.camera.spectrograph)),
                static_cast<std::uint64_t>(options.camera.arm));
    RandomStream pointing(exposureKey, StreamPurpose::Pointing, 0);
    SceneOptions sceneOptions;
    sceneOptions.seed = static_cast<std::uint64_t>(options.seed);
    sceneOptions.expid = options.expid;
    sceneOptions.spectrograph = options.camera.spectrograph;
    sceneOptions.nspec = psf.nspec;
    sceneOptions.exptime = options.exptime;
    sceneOptions.skyFibers = options.skyFibers;
    sceneOptions.deadFibers = options.deadFibers;
    sceneOptions.skyScale = options.skyScale;
    sceneOptions.objectScale = options.objectScale;
    sceneOptions.pointingRa = std::round(1e4 * pointing.uniform(0.0, 360.0)) / 1e4;
    sceneOptions.pointingDec = std::round(1e4 * pointing.uniform(-10.0, 60.0)) / 1e4;
    const Scene scene(sceneOptions);

    SimulatedFrame frame;
    Light light;
    makeSpectra(psf, scene, options, threads, frame.truth, light);

    const std::vector<Amplifier> amps = amplifiers(nx, ny, options.readnoise);
    std::vector<CosmicHit> cosmics = makeCosmics(frameKey, options.cosmics, options.unmaskedCosmics, nx, ny);
    addPlantedCosmics(options.faults, psf, cosmics);
    const PixelFaults planted(options.faults, psf);
    const std::vector<BadColumn> badColumns = makeBadColumns(frameKey, options.badColumns, nx, ny);
    frame.cosmics = options.cosmics;
    frame.badColumns = options.badColumns;

    CcdImage& image = frame.image;
    image.nx = nx;
    image.ny = ny;
    const std::size_t width = static_cast<std::size_t>(nx);
    const std::size_t npix = width * static_cast<std::size_t>(ny);
    image.pixels.resize(npix);
    image.ivar.resize(npix);
    image.mask.assign(npix, 0);
    image.readnoise.resize(npix);
    if (options.keepModel) frame.model.resize(npix);

    const Psf painted = paintedPsf(psf, options.faults);
    const PsfView view = painted.view();
    std::atomic<std::int64_t> saturated{0};
    const int stripes = (ny + stripeRows - 1) / stripeRows;
    forEachParallel(stripes, threads, [&](int stripe) {
        const int y0 = stripe * stripeRows;
        const int y1 = std::min(ny, y0 + stripeRows);
        std::vector<double> sum(static_cast<std::size_t>(y1 - y0) * width, 0.0);
        paintStripe(painted, view, light, y0, y1, nx, sum);

        std::vector<double> charge(width);
        std::int64_t saturatedHere = 0;
        for (int y = y0; y < y1; ++y) {
            const double* model = sum.data() + static_cast<std::size_t>(y - y0) * width;
            const std::size_t rowStart = static_cast<std::size_t>(y) * width;
            std::int32_t* mask = image.mask.data() + rowStart;
            std::fill(charge.begin(), charge.end(), 0.0);
            const auto hit = std::lower_bound(cosmics.begin(), cosmics.end(), y,
                                              [](const CosmicHit& h, int row) { return h.y < row; });
            for (auto it = hit; it != cosmics.end() && it->y == y; ++it) {
                charge[static_cast<std::size_t>(it->x)] += it->charge;
                if (it->masked) mask[it->x] |= static_cast<std::int32_t>(CcdMaskBit::Cosmic);
            }

            for (const BadColumn& column : badColumns)
                if (y >= column.y0 && y < column.y1) mask[column.x] |= static_cast<std::int32_t>(CcdMaskBit::Bad);

            RandomStream poisson(frameKey, StreamPurpose::Poisson, static_cast<std::uint64_t>(y));
            RandomStream normal(frameKey, StreamPurpose::ReadNoise, static_cast<std::uint64_t>(y));
            for (const Amplifier& amp : amps) {
                if (y < amp.y0 || y >= amp.y1) continue;
                for (int x = amp.x0; x < amp.x1; ++x) {
                    const std::size_t i = static_cast<std::size_t>(x);
                    const bool dead = planted.isDead(amp.name);
                    double value = dead ? 0.0 : model[i] + charge[i];
                    if (options.noise) {
                        const double read = static_cast<double>(poisson.poisson(model[i])) + charge[i];
                        value = (dead ? 0.0 : read) + amp.readnoise * normal.normal();
                    }
                    const double light0 = options.ivarFromData ? std::max(value, 0.0) : dead ? 0.0 : model[i];
                    image.ivar[rowStart + i] = static_cast<float>(1.0 / (light0 + amp.readnoise * amp.readnoise));
                    image.readnoise[rowStart + i] = static_cast<float>(amp.readnoise);
                    if ((mask[i] & static_cast<std::int32_t>(CcdMaskBit::Bad)) != 0 || planted.losesCharge(x))
                        value = 0.3 * value + 40.0; // charge lost on the way, and a leak
                    if (options.saturation > 0.0 && value > options.saturation) {
                        value = options.saturation;
                        if (!planted.hidesSaturation(x, y)) mask[i] |= static_cast<std::int32_t>(CcdMaskBit::Saturated);
                        ++saturatedHere;
                    }
                    image.pixels[rowStart + i] = static_cast<float>(value);
                    if (options.keepModel) frame.model[rowStart + i] = static_cast<float>(model[i]);
                }
            }
        }
        saturated += saturatedHere;
    });
    frame.saturatedPixels = saturated;

    FitsHeader& header = image.header;
    setExposureKeywords(header, options, sceneOptions.pointingRa, sceneOptions.pointingDec);
    header.set("BUNIT", "electron", "unit of the image");
    for (const Amplifier& amp : amps)
        header.set(fmt::format("CCDSEC{}", amp.name),
                   fmt::format("[{}:{},{}:{}]", amp.x0 + 1, amp.x1, amp.y0 + 1, amp.y1),
                   fmt::format("amplifier {}: part of the CCD", amp.name));
    for (const Amplifier& amp : amps)
        header.set(fmt::format("OBSRDN{}", amp.name), amp.readnoise,
                   fmt::format("[electron] read noise, amplifier {}", amp.name));
    header.set("RDNOISE", options.readnoise, "[electron] read noise, mean of the amplifiers");
    setSimulationKeywords(header, options);
    header.set("NOISE", options.noise, "simulation: Poisson and read noise");
    header.set("IVARDATA", options.ivarFromData, "simulation: variance from the noisy pixels");
    header.set("NCOSMIC", options.cosmics, "simulation: cosmic rays");
    header.set("UNMASKCR", options.unmaskedCosmics, "simulation: fraction of them not in MASK");
    header.set("NBADCOL", options.badColumns, "simulation: bad columns");
    header.set("SATURATE", options.saturation, "[electron] simulation: saturation, 0: none");
    for (std::size_t i = 0; i < options.faults.size(); ++i)
        header.set(fmt::format("PLANT{}", i), options.faults[i].text, "simulation: planted fault");
    image.fibermap = makeFibermap(scene, options);

    FitsHeader& truthHeader = frame.truth.header;
    setExposureKeywords(truthHeader, options, sceneOptions.pointingRa, sceneOptions.pointingDec);
    setSimulationKeywords(truthHeader, options);
    truthHeader.set("SPECMIN", 0, "spectrum index of the first row");
    truthHeader.set("WAVESTEP", frame.truth.step, "[Angstrom] distance of the wavelengths");
    frame.truth.targets = makeTruthTable(scene, options);
    return frame;
}

} // namespace patchlight::simulate
