#include "app/patchlight/AddressSpace.h"
#include "app/patchlight/Backends.h"
#include "app/patchlight/Commands.h"
#include "app/patchlight/ExtractionArguments.h"
#include "app/patchlight/FrameHeader.h"
#include "core/analysis/Barycentric.h"
#include "core/base/Error.h"
#include "core/engine/Engine.h"
#include "core/engine/PatchFile.h"
#include "core/image/CcdImage.h"
#include "core/io/AtomicFile.h"
#include "core/psf/Psf.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace patchlight::commands {

namespace {

struct PatchArguments {
    std::string input;
    std::string psf;
    std::string output;
    std::optional<int> fiber;
    std::optional<double> wave;
    std::vector<double> xy;
    ExtractionOptions options;
    RunArguments run;
};

/// A spectrum and a core wavelength index of the plan's grid.
struct Bin {
    int spectrum = 0;
    int core = 0;
};

int coreIndex(const Plan& plan, double wavelength, const std::string& option) {
    const double index = std::round((wavelength - plan.grid.wmin) / plan.grid.dw);
    if (!(index >= 0) || index >= plan.grid.nwave)
        throw UsageError(
            fmt::format("{}: wavelength {:.2f} Angstrom is outside the grid, {:.2f} to {:.2f} (--wavelength)", option,
                        wavelength, plan.grid.wmin, plan.grid.outputWavelength(plan.grid.nwave - 1)));
    return static_cast<int>(index);
}

int spectrumOf(const Plan& plan, int fiber) {
    if (fiber < plan.specmin || fiber >= plan.specmin + plan.nspec)
        throw UsageError(fmt::format("--fiber: spectrum {} is not among those to extract, {} to {}", fiber,
                                     plan.specmin, plan.specmin + plan.nspec - 1));
    return fiber;
}

/// The spectrum whose trace is nearest in x at row y, and the wavelength there.
Bin binAtPixel(const Plan& plan, const Psf& psf, double x, double y) {
    Bin best;
    double distance = std::numeric_limits<double>::infinity();
    double wavelength = 0;
    for (int spectrum = plan.specmin; spectrum < plan.specmin + plan.nspec; ++spectrum) {
        const double w = psf.wavelengthAt(spectrum, y);
        const double d = std::abs(psf.x(spectrum, w) - x);
        if (d < distance) {
            distance = d;
            best.spectrum = spectrum;
            wavelength = w;
        }
    }
    best.core = coreIndex(plan, wavelength * plan.grid.scale, "--xy");
    return best;
}

void runPatch(PatchArguments& arguments) {
    validate(arguments.options);
    const bool byFiber = arguments.fiber.has_value() || arguments.wave.has_value();
    if (byFiber == !arguments.xy.empty() || arguments.fiber.has_value() != arguments.wave.has_value())
        throw UsageError("say which patch: --fiber F --wave W, or --xy X,Y");
    const std::unique_ptr<Backend> backend = makeBackend(arguments.run.backend);
    const std::array inputs{OptionFile{"--input", arguments.input}, OptionFile{"--psf", arguments.psf}};
    const std::array outputs{OptionFile{"--output", arguments.output}};
    requireDistinctFiles(inputs, outputs);
    requireWritable(arguments.output);

    const Psf psf = readPsf(arguments.psf);
    CcdImage image = readCcdImage(arguments.input);
    requireSameSize(image, psf);
    double factor = 1.0;
    if (arguments.options.barycentricCorrection)
        factor =
            barycentricFactor(image.header, image.fibermap ? &image.fibermap->header : nullptr, kittPeak, image.path);
    const Plan plan = makePlan(psf, arguments.options, factor);
    if (!byFiber &&
        !(arguments.xy[0] >= 0 && arguments.xy[0] < image.nx && arguments.xy[1] >= 0 && arguments.xy[1] < image.ny))
        throw UsageError(fmt::format("--xy: pixel {:g},{:g} is not on the CCD of {} x {} pixels", arguments.xy[0],
                                     arguments.xy[1], image.nx, image.ny));
    const Bin bin = byFiber ? Bin{spectrumOf(plan, *arguments.fiber), coreIndex(plan, *arguments.wave, "--wave")}
                            : binAtPixel(plan, psf, arguments.xy[0], arguments.xy[1]);
    const Patch patch = plan.patchAt(bin.spectrum, bin.core);

    ExtractedFrame described;
    describeFrame(described, image, psf, plan, arguments.input, arguments.psf, *backend, factor);
    const WeightedPixels pixels = weightedPixels(std::move(image));
    requireAddressSpace(1);
    const PatchDetail detail = extractPatch(*backend, pixels.view(), psf, plan, patch);
    writePatchFile(arguments.output, detail, plan, described.header);
    spdlog::info("patch of spectra {}-{} at {:.1f}-{:.1f} Angstrom, pixels x {}-{} y {}-{}, condition of iCov {:.3g}, "
                 "status {}; wrote {}",
                 patch.core.first, patch.core.last - 1,
                 plan.grid.outputWavelength(patch.coreBins.first - plan.grid.pad),
                 plan.grid.outputWavelength(patch.keepBins.last - 1 - plan.grid.pad), detail.window.x.first,
                 detail.window.x.last - 1, detail.window.y.first, detail.window.y.last - 1, detail.condition,
                 describeStatus(detail.report.status), arguments.output);
}

} // namespace

void addPatch(CLI::App& app) {
    CLI::App* command = app.add_subcommand("patch", "extracts one patch with all its intermediates, for debugging");
    auto arguments = std::make_shared<PatchArguments>();
    command->add_option("-i,--input", arguments->input, "CCD image (preproc file: IMAGE, IVAR, MASK, ...)")
        ->required()
        ->type_name("FILE");
    command->add_option("-p,--psf", arguments->psf, "PSF (GAUSS-HERMITE or GAUSS-HERMITE2)")
        ->required()
        ->type_name("FILE");
    command->add_option("-o,--output", arguments->output, "patch file to write")->required()->type_name("FILE");
    command->add_option("--fiber", arguments->fiber, "spectrum (row of the PSF, zero-based) that the patch holds")
        ->type_name("INT");
    command->add_option("--wave", arguments->wave, "wavelength that the patch holds")->type_name("[Angstrom]");
    command->add_option("--xy", arguments->xy, "pixel X,Y (zero-based) that the patch holds")
        ->delimiter(',')
        ->expected(2)
        ->type_name("[pixels]");
    addExtractionOptions(*command, arguments->options);
    addRunOptions(*command, arguments->run);
    command->callback([arguments] { runPatch(*arguments); });
}

} // namespace patchlight::commands
