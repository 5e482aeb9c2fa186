#include "app/patchlight/Commands.h"
#include "core/base/Error.h"
#include "core/frame/ExtractedFrame.h"
#include "core/io/AtomicFile.h"
#include "core/simulate/FrameSimulator.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace patchlight::commands {

namespace {

using simulate::Camera;
using simulate::FrameOptions;
using simulate::InstrumentOptions;

/// What the command line says; what it leaves out comes from the preset, the camera and the size of the frame.
struct SimulateArguments {
    std::string preset = "full";
    std::optional<std::string> camera;
    std::optional<std::string> psfFile;
    std::optional<std::string> image;
    std::optional<std::string> outPsf;
    std::optional<std::string> truth;
    std::optional<std::string> model;
    std::optional<std::string> wavelength;
    std::optional<std::int64_t> exposure;
    std::optional<std::int64_t> expid;
    std::optional<std::string> cameras;
    bool gzip = false;
    bool plainMask = false;

    std::optional<int> nspec, bundlesize, nx, ny;
    std::optional<double> waveCentre, pixelScale;
    InstrumentOptions instrument;
    FrameOptions frame;
    std::optional<int> cosmics, badColumns, skyFibers, deadFibers;
    bool noNoise = false;
    std::vector<std::string> faults;
};

/// `small`: two bundles of five fibers on 200 x 300 pixels, around bright sky lines; everything takes a moment.
void applyPreset(SimulateArguments& a, const Camera& camera) {
    const bool small = a.preset == "small";
    InstrumentOptions& o = a.instrument;
    o.camera = camera;
    o.nspec = a.nspec.value_or(small ? 10 : 500);
    o.bundlesize = a.bundlesize.value_or(small ? 5 : 25);
    o.nx = a.nx.value_or(small ? 200 : 0);
    o.ny = a.ny.value_or(small ? 300 : 0);
    o.pixelScale = a.pixelScale.value_or(0.0);
    o.waveCentre = 0.0;
    if (a.waveCentre) {
        o.waveCentre = *a.waveCentre;
    } else if (a.wavelength && (small || a.ny)) {
        const WavelengthRange range = parseWavelengthRange(*a.wavelength);
        o.waveCentre = 0.5 * (range.wmin + range.wmax);
    } else if (small) {
        o.waveCentre = camera.arm == 'b' ? 5560.0 : camera.arm == 'r' ? 6330.0 : 8430.0;
    }
    a.frame.camera = camera;
    a.frame.skyFibers = a.skyFibers.value_or(small ? std::min(2, o.nspec) : -1);
    a.frame.deadFibers = a.deadFibers.value_or(-1);
    a.frame.cosmics = a.cosmics.value_or(-1);
    a.frame.badColumns = a.badColumns.value_or(small ? 1 : -1);
    a.frame.noise = !a.noNoise;
    a.frame.faults.clear();
    for (const std::string& text : a.faults) a.frame.faults.push_back(simulate::parsePlantedFault(text));
    for (const auto& [name, value] : {std::pair{"cosmics", a.cosmics},
                                      {"bad-columns", a.badColumns},
                                      {"sky-fibers", a.skyFibers},
                                      {"dead-fibers", a.deadFibers}})
        if (value && *value < 0) throw UsageError(fmt::format("--{} {}: must be 0 or above", name, *value));
    for (const auto& [name, value] :
         {std::pair{"nspec", a.nspec}, {"bundlesize", a.bundlesize}, {"nx", a.nx}, {"ny", a.ny}})
        if (value && *value < 1) throw UsageError(fmt::format("--{} {}: must be 1 or above", name, *value));
}

/// The camera a PSF file names in CAMERA (specex writes it with quotes of its own), else none.
std::optional<Camera> cameraOf(const Psf& psf) {
    for (const FitsHeader* header : {&psf.header, &psf.primaryHeader}) {
        std::string name = header->text("CAMERA").value_or("");
        std::erase_if(name, [](char c) { return c == '\'' || c == ' '; });
        if (!name.empty()) {
            try {
                return simulate::parseCamera(name, "camera");
            } catch (const UsageError&) {
                spdlog::debug("{}: CAMERA = {} is not a camera's name", psf.path, name);
            }
        }
    }
    return std::nullopt;
}

/// Simulates one camera and writes the files that have a name.
void simulateCamera(SimulateArguments& a, std::optional<Camera> camera, const std::string& imagePath,
                    const std::string& psfPath, const std::string& truthPath, const std::string& modelPath) {
    for (const std::string& path : {imagePath, psfPath, truthPath, modelPath})
        if (!path.empty()) requireWritable(path);
    const auto start = std::chrono::steady_clock::now();
    Psf psf;
    if (a.psfFile) {
        psf = readPsf(*a.psfFile);
        if (!camera) camera = cameraOf(psf);
        applyPreset(a, camera.value_or(Camera{}));
    } else {
        applyPreset(a, camera.value_or(Camera{}));
        psf = simulate::makePsf(simulate::completed(a.instrument));
    }
    a.frame.grid =
        a.wavelength ? parseWavelengthRange(*a.wavelength) : simulate::defaultWavelengthRange(psf, a.frame.camera.arm);
    constexpr double slack = 5.0; // Angstrom, as extract allows
    if (a.frame.grid.wmin < psf.wavemin() - slack || a.frame.grid.wmax > psf.wavemax() + slack)
        throw UsageError(fmt::format("--wavelength {},{},{}: the PSF covers {:.1f} to {:.1f} Angstrom",
                                     a.frame.grid.wmin, a.frame.grid.wmax, a.frame.grid.dw, psf.wavemin(),
                                     psf.wavemax()));
    a.frame.keepModel = !modelPath.empty();

    const simulate::SimulatedFrame frame = simulate::simulateFrame(psf, a.frame);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    spdlog::info(
        "{}: {} spectra on {} x {} pixels, {} cosmic rays, {} bad columns, {} saturated pixels, simulated in {:.2f} s",
        a.frame.camera.name(), psf.nspec, psf.nx, psf.ny, frame.cosmics, frame.badColumns, frame.saturatedPixels,
        seconds);
    spdlog::info("{}: extract with -w {},{},{}", a.frame.camera.name(), a.frame.grid.wmin, a.frame.grid.wmax,
                 a.frame.grid.dw);
    const auto wrote = [](const std::string& path) { spdlog::info("wrote {}", path); };
    if (!psfPath.empty()) {
        writePsf(psfPath, psf);
        wrote(psfPath);
    }
    if (!truthPath.empty()) {
        simulate::writeTruth(truthPath, frame.truth);
        wrote(truthPath);
    }
    if (!modelPath.empty()) {
        writeModelImage(modelPath, frame.model, psf.nx, psf.ny, frame.image.header);
        wrote(modelPath);
    }
    writeCcdImage(imagePath, frame.image, !a.plainMask);
    wrote(imagePath);
}

/// "all", or a list such as "b0,r0,z": an arm alone means all ten spectrographs.
std::vector<Camera> parseCameras(const std::string& text) {
    std::vector<Camera> cameras;
    const auto addArm = [&](char arm) {
        for (int spectrograph = 0; spectrograph < 10; ++spectrograph) cameras.push_back({arm, spectrograph});
    };
    if (text == "all") {
        for (const char arm : {'b', 'r', 'z'}) addArm(arm);
        return cameras;
    }
    std::size_t begin = 0;
    while (begin <= text.size()) {
        const std::size_t end = std::min(text.find(',', begin), text.size());
        const std::string name = text.substr(begin, end - begin);
        const Camera camera = simulate::parseCamera(name, "cameras");
        if (name.size() == 1)
            addArm(camera.arm);
        else
            cameras.push_back(camera);
        begin = end + 1;
    }
    return cameras;
}

void runExposure(SimulateArguments& a) {
    if (!a.image) throw UsageError("--output is missing: the folder that the exposure's files go to");
    for (const auto& [name, value] : {std::pair{"out-psf", a.outPsf},
                                      {"truth", a.truth},
                                      {"out-model", a.model},
                                      {"psf", a.psfFile},
                                      {"camera", a.camera}})
        if (value)
            throw UsageError(fmt::format(
                "--{} goes with one camera; --exposure names its files itself (--cameras says which)", name));
    if (a.expid) throw UsageError("--expid goes with one camera; --exposure has the exposure's number already");
    if (*a.exposure < 0 || *a.exposure > 99999999)
        throw UsageError(fmt::format("--exposure {}: must be 0 to 99999999", *a.exposure));
    const std::vector<Camera> cameras = parseCameras(a.cameras.value_or("all"));
    a.frame.expid = *a.exposure;
    const std::filesystem::path folder = *a.image;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw Error(fmt::format("{}: the folder cannot be made: {}", folder.string(), error.message()));
    for (const Camera& camera : cameras) {
        const std::string tail = fmt::format("{}-{:08}.fits", camera.name(), *a.exposure);
        const auto path = [&](const char* what, const char* suffix) {
            return (folder / fmt::format("{}-{}{}", what, tail, suffix)).string();
        };
        const char* suffix = a.gzip ? ".gz" : "";
        simulateCamera(a, camera, path("preproc", suffix), path("psf", ""), path("simtruth", suffix), "");
    }
}

void run(SimulateArguments& a) {
    if (a.exposure) {
        runExposure(a);
        return;
    }
    if (!a.image) throw UsageError("--output is missing: the file that the image is written to");
    if (a.cameras) throw UsageError("--cameras goes with --exposure; one frame has a --camera");
    if (a.gzip)
        throw UsageError("--gzip goes with --exposure; a single file is compressed where its name ends with .gz");
    a.frame.expid = a.expid.value_or(1);
    std::optional<Camera> camera;
    if (a.camera) camera = simulate::parseCamera(*a.camera, "camera");
    simulateCamera(a, camera, *a.image, a.outPsf.value_or(""), a.truth.value_or(""), a.model.value_or(""));
}

} // namespace

void addSimulate(CLI::App& app) {
    auto a = std::make_shared<SimulateArguments>();
    CLI::App* sub = app.add_subcommand(
        "simulate", "Makes a CCD image with known spectra: a PSF of DESI's shape (or a given one), sky, "
                    "objects, noise, cosmic rays. The same options give the same files, byte for byte.");
    const auto group = [](CLI::Option* option, const char* name) { return option->group(name); };

    const char* files = "Files";
    group(sub->add_option("-o,--output", a->image, "CCD image to write (.fits, .fits.gz); with --exposure the folder"),
          files);
    group(sub->add_option("--out-psf", a->outPsf, "PSF to write"), files);
    group(sub->add_option("--truth", a->truth, "true spectra to write"), files);
    group(sub->add_option("--out-model", a->model, "noiseless image to write"), files);
    group(sub->add_option("-p,--psf", a->psfFile, "PSF to simulate with (default: made for the camera)"), files);
    group(sub->add_flag("--plain-mask", a->plainMask, "write MASK uncompressed (default: RICE tiles, as DESI's files)"),
          files);

    const char* exposures = "Exposures of many cameras";
    group(sub->add_option(
              "--exposure", a->exposure,
              "exposure number: write preproc-CAMERA-EXPID.fits, psf-... and simtruth-... for each of --cameras"),
          exposures);
    group(sub->add_option("--cameras", a->cameras, "all, or a list such as b0,r0,z0; b is b0 to b9 (default: all)"),
          exposures);
    group(sub->add_flag("--gzip", a->gzip, "write images and truth as .fits.gz"), exposures);

    const char* instrument = "Instrument";
    group(sub->add_option("--preset", a->preset,
                          "full: 500 fibers on a whole CCD; small: 2 bundles of 5 fibers on 200 x 300 pixels")
              ->check(CLI::IsMember({"full", "small"}))
              ->capture_default_str(),
          instrument);
    group(sub->add_option("--camera", a->camera,
                          "b, r or z and the spectrograph's number (default: the --psf file's, else r0)"),
          instrument);
    group(sub->add_option("-w,--wavelength", a->wavelength,
                          "wmin,wmax,dw of the extraction to come, Angstrom (default: b 3600,5800,0.8, r "
                          "5760,7620,0.8, z 7520,9824,0.8, "
                          "or what is on the CCD)"),
          instrument);
    group(sub->add_option("--nspec", a->nspec, "fibers (default: 500, small 10)"), instrument);
    group(sub->add_option("--bundlesize", a->bundlesize, "fibers a bundle (default: 25, small 5)"), instrument);
    group(sub->add_option("--nx", a->nx, "CCD columns, pixels (default: 4096 for b, 4114 for r and z, small 200)"),
          instrument);
    group(sub->add_option("--ny", a->ny, "CCD rows, pixels (default: 4096 for b, 4128 for r and z, small 300)"),
          instrument);
    group(
        sub->add_option("--fiber-spacing", a->instrument.fiberSpacing, "pixels between traces")->capture_default_str(),
        instrument);
    group(sub->add_option("--bundle-gap", a->instrument.bundleGap, "pixels more than that between bundles")
              ->capture_default_str(),
          instrument);
    group(
        sub->add_option("--wave-centre", a->waveCentre,
                        "Angstrom in the middle row (default: 4700, 6690, 8672 for b, r, z; small: 5560, 6330, 8430)"),
        instrument);
    group(sub->add_option("--pixel-scale", a->pixelScale, "Angstrom a pixel (default: 0.59, 0.54, 0.60 for b, r, z)"),
          instrument);
    group(sub->add_option("--hsizex", a->instrument.hsizeX, "half width of a spot, pixels")->capture_default_str(),
          instrument);
    group(sub->add_option("--hsizey", a->instrument.hsizeY, "half height of a spot, pixels")->capture_default_str(),
          instrument);
    group(sub->add_option("--ghdeg", a->instrument.hermiteDegree, "degree of the Gauss-Hermite terms")
              ->capture_default_str(),
          instrument);
    group(sub->add_option("--legdeg", a->instrument.legendreDegree, "Legendre degree of PSF parameters in wavelength")
              ->capture_default_str(),
          instrument);
    group(sub->add_option("--tracedeg", a->instrument.traceDegree, "Legendre degree of traces")->capture_default_str(),
          instrument);
    group(sub->add_option("--tail", a->instrument.tail, "amplitude of the spots' power-law tail (0: none)")
              ->capture_default_str(),
          instrument);

    const char* scene = "Exposure";
    group(sub->add_option("--seed", a->frame.seed, "seed of all random numbers")->capture_default_str(), scene);
    group(sub->add_option("--expid", a->expid, "exposure number (default: 1)"), scene);
    group(sub->add_option("--night", a->frame.night, "night, YYYYMMDD")->capture_default_str(), scene);
    group(sub->add_option("--exptime", a->frame.exptime, "exposure time, s")->capture_default_str(), scene);
    group(sub->add_option("--sky-fibers", a->skyFibers, "fibers on the sky (default: 8 % of them, small 2)"), scene);
    group(sub->add_option("--dead-fibers", a->deadFibers, "fibers without light (default: 0.4 % of them)"), scene);
    group(sub->add_option("--sky-scale", a->frame.skyScale, "brightness of the sky, 1: a dark night")
              ->capture_default_str(),
          scene);
    group(sub->add_option("--object-scale", a->frame.objectScale, "brightness of the objects")->capture_default_str(),
          scene);
    group(sub->add_flag("--truth-on-grid", a->frame.truthOnGrid,
                        "all light at the extraction's wavelengths (default: lines between them, as in nature)"),
          scene);

    const char* detector = "Detector";
    group(sub->add_flag("--no-noise", a->noNoise, "neither Poisson nor read noise"), detector);
    group(
        sub->add_option("--readnoise", a->frame.readnoise, "read noise, electrons; each amplifier has its own near it")
            ->capture_default_str(),
        detector);
    group(sub->add_option("--cosmics", a->cosmics, "cosmic rays (default: 100 a million pixels and 900 s)"), detector);
    group(sub->add_option("--unmasked-cosmics", a->frame.unmaskedCosmics,
                          "fraction of cosmic rays that MASK does not know, 0 to 1")
              ->capture_default_str(),
          detector);
    group(sub->add_option("--bad-columns", a->badColumns, "bad columns (default: one a thousand columns, small 1)"),
          detector);
    group(sub->add_option("--saturation", a->frame.saturation, "electrons that a pixel holds; 0: any number")
              ->capture_default_str(),
          detector);
    group(sub->add_flag("--ivar-from-data", a->frame.ivarFromData,
                        "variance from the noisy pixels, which biases fluxes low (default: from the noiseless light)"),
          detector);
    const char* faults = "Faults that neither MASK nor the PSF knows of";
    group(sub->add_option(
                 "--plant", a->faults,
                 "cosmic:FIBER,WAVE[,ELECTRONS] a cosmic ray over a trace; trace:FIBER,PIXELS a trace beside the "
                 "PSF's; width:FRACTION a PSF too narrow by that; column:X a column that loses charge; amplifier:A "
                 "one that reads noise only (A to D); neighbour:FIBER,FACTOR a fiber that much brighter; "
                 "saturated:FIBER,WAVE[,PHOTONS] a line beyond saturation. May be given several times")
              ->take_all()
              ->expected(1)
              ->type_name("FAULT"),
          faults);
    sub->add_option("--threads", a->frame.threads, "threads, 0: all cores; the files do not depend on it")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    sub->callback([a] { run(*a); });
}

} // namespace patchlight::commands
