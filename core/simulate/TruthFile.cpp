#include "core/io/FitsWriter.h"
#include "core/simulate/FrameSimulator.h"

#include <span>

namespace patchlight::simulate {

void writeTruth(const std::string& path, const Truth& truth) {
    const auto nwave = static_cast<std::int64_t>(truth.wavelength.size());
    FitsImageSpec flux{"FLUX", {nwave, static_cast<std::int64_t>(truth.flux.rows())}, "photon/Angstrom", truth.header};
    FitsWriter writer(path);
    writer.addImageAsFloat(flux, std::span<const double>(truth.flux.values()));
    writer.addImage({"WAVELENGTH", {nwave}, "Angstrom", {}}, std::span<const double>(truth.wavelength));
    writer.addTable(truth.targets);
    writer.commit();
}

} // namespace patchlight::simulate
