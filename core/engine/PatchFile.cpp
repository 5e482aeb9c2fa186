#include "core/engine/PatchFile.h"

#include "core/io/FitsHeader.h"
#include "core/io/FitsWriter.h"

#include <cstdint>
#include <vector>

namespace patchlight {

std::string describeStatus(std::uint32_t status) {
    std::string words;
    const auto add = [&](PatchStatus bit, const char* word) {
        if ((status & static_cast<std::uint32_t>(bit)) == 0) return;
        if (!words.empty()) words += ", ";
        words += word;
    };
    add(PatchStatus::Regularized, "regularized");
    add(PatchStatus::NoPixels, "no pixels");
    add(PatchStatus::Failed, "failed");
    add(PatchStatus::WideBand, "wide band");
    add(PatchStatus::Exact, "exact path");
    add(PatchStatus::IllConditioned, "ill-conditioned");
    add(PatchStatus::Leaking, "band leaks");
    add(PatchStatus::Bright, "bright");
    add(PatchStatus::Layout, "layout");
    return words.empty() ? "ok" : words;
}

void writePatchFile(const std::string& path, const PatchDetail& detail, const Plan& plan, const FitsHeader& header) {
    const Patch& patch = detail.patch;
    const Subbundle& sub = plan.subbundles[static_cast<std::size_t>(patch.subbundle)];

    FitsImageSpec primary;
    primary.name = "PATCH";
    primary.header = header;
    FitsHeader& keys = primary.header;
    keys.remove("BUNIT");
    keys.set("BUNDLE", sub.bundle, "bundle of the patch");
    keys.set("BSPECMIN", patch.spectra.first, "first spectrum, padding included");
    keys.set("SPECMIN", patch.spectra.first, "first spectrum, padding included");
    keys.set("NSPEC", patch.spectra.count(), "spectra, padding included");
    keys.set("CORESPEC", patch.core.first, "first core spectrum");
    keys.set("NCORE", patch.core.count(), "core spectra");
    keys.set("WAVE0", plan.grid.outputWavelength(patch.bins.first - plan.grid.pad),
             "first wavelength, padding included [Angstrom]");
    keys.set("DW", plan.grid.dw, "wavelength step [Angstrom]");
    keys.set("NWAVE", patch.bins.count(), "wavelengths, padding included");
    keys.set("WAVEPAD", patch.coreBins.first - patch.bins.first, "wavelengths of padding below");
    keys.set("NCOREWAV", patch.coreBins.count(), "core wavelengths");
    keys.set("NKEEPWAV", patch.keepBins.count(), "core wavelengths that the frame keeps");
    keys.set("XMIN", detail.window.x.first, "first column of the pixel window");
    keys.set("YMIN", detail.window.y.first, "first row of the pixel window");
    keys.set("NX", detail.window.x.count(), "columns of the pixel window");
    keys.set("NY", detail.window.y.count(), "rows of the pixel window");
    keys.set("STATUS", static_cast<std::int64_t>(detail.report.status), describeStatus(detail.report.status));
    keys.set("CONDEST", detail.condition, "condition number of ICOV, estimated");
    keys.set("CONDSPEC", detail.report.condition, "largest condition number of a decorrelated block");

    FitsWriter file(path);
    file.addImage(primary, std::vector<double>{});
    const auto add = [&](const char* name, const Array2<double>& values, const char* unit) {
        if (values.empty()) return; // no pixel window: the patch lies off the CCD
        FitsImageSpec spec;
        spec.name = name;
        spec.shape = {static_cast<std::int64_t>(values.columns()), static_cast<std::int64_t>(values.rows())};
        spec.unit = unit;
        file.addImage(spec, std::span<const double>(values.data(), values.size()));
    };
    add("IMAGE", detail.image, "electron");
    add("PIXIVAR", detail.pixivar, "electron^-2");
    add("PIXMASK", detail.pixmask, "");
    add("MODEL", detail.model, "electron");
    add("CHI", detail.chi, "");
    add("ICOV", detail.icov, "");
    add("Y", detail.y, "");
    add("XFLUX", detail.xflux, "photon");
    add("FLUX", detail.flux, "photon");
    add("IVAR", detail.ivar, "photon^-2");
    add("FLUXWEIGHT", detail.fluxweight, "");
    add("CHI2PIX", detail.chi2pix, "");
    add("PIXMASK_FRACTION", detail.pixmaskFraction, "");
    add("RESOLUTION", detail.resolution, "");
    file.commit();
}

} // namespace patchlight
