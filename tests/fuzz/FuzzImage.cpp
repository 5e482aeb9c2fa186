#include "core/base/Error.h"
#include "core/image/ArrivingImage.h"
#include "core/image/CcdImage.h"
#include "tests/fuzz/FuzzFile.h"

#include <algorithm>
#include <cstdlib>
#include <optional>

namespace patchlight {

namespace {

std::optional<WeightedPixels> readAtOnce(const std::string& path) {
    try {
        return weightedPixels(readCcdImage(path));
    } catch (const Error&) {
        return std::nullopt;
    }
}

/// Row by row: the same image, or refused as well.
void readAsItArrives(const std::string& path, const std::optional<WeightedPixels>& whole) {
    try {
        ArrivingImage image(path, 2);
        image.finish();
        const CcdView view = image.view();
        if (!whole || view.nx != whole->nx || view.ny != whole->ny ||
            !std::equal(whole->pixels.begin(), whole->pixels.end(), view.pixels) ||
            !std::equal(whole->weights.begin(), whole->weights.end(), view.weights))
            std::abort();
    } catch (const Error&) {
        if (whole) std::abort();
    }
}

} // namespace

} // namespace patchlight

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    patchlight::fuzz::withFile(data, size, ".fits", [](const std::string& path) {
        patchlight::readAsItArrives(path, patchlight::readAtOnce(path));
    });
    return 0;
}
