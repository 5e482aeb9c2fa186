#include "core/analysis/TruthSpectra.h"

#include "core/base/Error.h"
#include "core/io/FitsFile.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <span>

namespace patchlight {

bool isTruthFile(const FitsFile& file) {
    const FitsHdu* flux = file.findMain("FLUX");
    return flux != nullptr && flux->isImage(2) && file.find("WAVELENGTH") != nullptr && file.find("IVAR") == nullptr;
}

TruthSpectra readTruth(const std::string& path) {
    const FitsFile file(path);
    const FitsHdu& fluxHdu = file.requireMain("FLUX");
    const FitsHdu& waveHdu = file.require("WAVELENGTH");
    if (!fluxHdu.isImage(2))
        file.fail(fluxHdu, fmt::format("{}, an image of spectra x wavelengths expected", fluxHdu.shapeText()));
    if (!waveHdu.isImage(1)) file.fail(waveHdu, fmt::format("{}, a list of wavelengths expected", waveHdu.shapeText()));
    const std::size_t nwave = file.pixelCount(waveHdu);
    (void)file.pixelCount(fluxHdu); // what the header claims must be in the file, before memory is asked for
    if (static_cast<std::uint64_t>(fluxHdu.shape[0]) != nwave) {
        file.fail(fluxHdu, fmt::format("{}, but WAVELENGTH has {} values: as many columns expected",
                                       fluxHdu.shapeText(), nwave));
    }
    TruthSpectra truth;
    truth.path = file.path();
    truth.header = fluxHdu.header;
    truth.wavelength.resize(nwave);
    file.readImage(waveHdu, std::span<double>(truth.wavelength));
    for (std::size_t i = 0; i < nwave; ++i) {
        if (!std::isfinite(truth.wavelength[i]) || (i > 0 && !(truth.wavelength[i] > truth.wavelength[i - 1]))) {
            file.fail(waveHdu,
                      fmt::format("value {} is {}, wavelengths in increasing order expected", i, truth.wavelength[i]));
        }
    }
    truth.flux = Array2<double>(static_cast<std::size_t>(fluxHdu.shape[1]), nwave);
    file.readImage(fluxHdu, std::span<double>(truth.flux.values()));
    for (const double value : truth.flux.values()) {
        if (!std::isfinite(value))
            file.fail(fluxHdu, "holds values that are not finite, photons per Angstrom expected");
    }
    const auto first = fluxHdu.header.integer("SPECMIN");
    if (first && *first >= 0 && *first <= std::numeric_limits<int>::max()) truth.specmin = static_cast<int>(*first);
    for (const char* name : {"TRUTH", "FIBERMAP"}) {
        const FitsHdu* table = file.find(name);
        if (table == nullptr || table->kind != FitsHduKind::Table || table->rowCount != truth.flux.rows()) continue;
        const FitsTable columns = file.readTable(*table);
        if (!columns.hasColumn("FIBER")) continue;
        truth.fiber = columns.integers("FIBER");
        break;
    }
    const auto fibermin = fluxHdu.header.integer("FIBERMIN");
    if (truth.fiber.empty() && fibermin) {
        for (std::size_t row = 0; row < truth.flux.rows(); ++row)
            truth.fiber.push_back(*fibermin + static_cast<std::int64_t>(row));
    }
    return truth;
}

} // namespace patchlight
