#include "core/engine/FrameHeader.h"

#include "core/base/Error.h"
#include "core/base/Version.h"
#include "core/psf/Psf.h"

#include <cctype>
#include <cstdint>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace patchlight {

namespace {

constexpr int fibersPerSpectrograph =
    500; // DESI's numbering of fibers, used only where a file does not name its fibers

/// Number of the first extracted fiber: from the fibermap, else from CAMERA's spectrograph digit, else from the PSF.
std::int64_t firstFiber(const ExtractedFrame& frame, const CcdImage& image, const Psf& psf, const Plan& plan) {
    if (frame.fibermap && frame.fibermap->hasColumn("FIBER")) {
        const std::vector<std::int64_t> fibers = frame.fibermap->integers("FIBER");
        if (!fibers.empty()) return fibers.front();
    }
    const std::string camera = image.header.text("CAMERA").value_or("");
    if (camera.size() >= 2 && std::isdigit(static_cast<unsigned char>(camera[1])) != 0)
        return fibersPerSpectrograph * (camera[1] - '0') + plan.specmin;
    return psf.fibermin + plan.specmin;
}

} // namespace

void requireSameSize(const CcdImage& image, const Psf& psf) {
    if ((psf.nx > 0 && psf.nx != image.nx) || (psf.ny > 0 && psf.ny != image.ny))
        throw Error(fmt::format(
            "{}: the CCD image has {} x {} pixels (columns x rows), the PSF {} is for {} x {} (NPIX_X, NPIX_Y)",
            image.path, image.nx, image.ny, psf.path, psf.nx, psf.ny));
}

void describePlan(FitsHeader& header, const Plan& plan, const std::string& imagePath, const std::string& psfPath) {
    writeOptions(header, plan.options);
    header.set("NSPEC", plan.nspec, "Number of spectra");
    header.set("SPECMIN", plan.specmin, "first spectrum: row of the PSF");
    header.set("WAVEMIN", plan.grid.wmin, "First wavelength [Angstroms]");
    header.set("WAVEMAX", plan.grid.outputWavelength(plan.grid.nwave - 1), "Last wavelength [Angstroms]");
    header.set("WAVESTEP", plan.grid.dw, "Wavelength step size [Angstroms]");
    header.set("PSFERR", plan.psferr, "fractional PSF error used for chi2pix");
    header.set("IN_PSF", psfPath, "Input spectral PSF");
    header.set("IN_IMG", imagePath, "Input image");
}

void describeFrame(ExtractedFrame& frame, const CcdImage& image, const Psf& psf, const Plan& plan,
                   const std::string& imagePath, const std::string& psfPath, const Backend& backend,
                   double barycentricFactor) {
    if (image.fibermap) {
        const auto first = static_cast<std::size_t>(plan.specmin);
        const auto count = static_cast<std::size_t>(plan.nspec);
        if (first + count > image.fibermap->rowCount)
            throw Error(fmt::format("{}[FIBERMAP]: {} rows, but spectra {} to {} are to be extracted", image.path,
                                    image.fibermap->rowCount, plan.specmin, plan.specmin + plan.nspec - 1));
        frame.fibermap = image.fibermap->selectRows(first, count);
    } else {
        spdlog::warn("{}: no FIBERMAP, so the frame will have none", image.path);
    }

    FitsHeader& header = frame.header;
    for (const std::string& card : image.header.cards())
        if (!FitsHeader::isStructural(card)) header.addCard(card);
    describePlan(header, plan, imagePath, psfPath);
    if (const auto original = psf.header.text("IN_PSF"))
        header.set("ORIG_PSF", *original, "PSF that the input PSF was made from");
    header.set("FIBERMIN", firstFiber(frame, image, psf, plan), "First fiber");
    if (!header.has("FLAVOR")) {
        spdlog::warn("{}: no FLAVOR keyword; writing 'science', since a frame needs one", image.path);
        header.set("FLAVOR", "science", "not in the image: assumed");
    }
    if (barycentricFactor != 1.0) header.set("HELIOCOR", barycentricFactor, "wavelengths were divided by this");
    header.set("EXTRSOFT", fmt::format("patchlight {}", version()), "software that extracted this");
    if (!gitDescribe().empty()) header.set("EXTRVERS", gitDescribe(), "its source");
    header.set("EXTRBACK", backend.name(), "backend");
}

} // namespace patchlight
