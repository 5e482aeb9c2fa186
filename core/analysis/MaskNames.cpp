#include "core/analysis/MaskNames.h"

#include <fmt/format.h>

#include <array>
#include <span>
#include <string_view>

namespace patchlight {

namespace {

constexpr std::array<std::string_view, 13> specNames = {
    "SOMEBADPIX", "ALLBADPIX", "COSMIC",   "LOWFLAT",   "BADFIBERFLAT", "BRIGHTSKY",   "BADSKY",
    "BAD2DFIT",   "NODATA",    "BADFIBER", "BADCOLUMN", "SATURATED",    "CONTAMINATED"};
constexpr std::array<std::string_view, 10> ccdNames = {
    "BAD", "HOT", "DEAD", "SATURATED", "COSMIC", "PIXFLATZERO", "PIXFLATLOW", "HIGHVAR", "BADREADNOISE", "BADAMP"};

std::string bitName(std::span<const std::string_view> names, int bit) {
    const auto index = static_cast<std::size_t>(bit);
    return bit >= 0 && index < names.size() ? std::string(names[index]) : fmt::format("bit {}", bit);
}

std::string maskNames(std::span<const std::string_view> names, std::uint32_t mask) {
    std::string text;
    for (int bit = 0; bit < 32; ++bit) {
        if ((mask >> static_cast<unsigned>(bit) & 1U) == 0) continue;
        if (!text.empty()) text += '|';
        text += bitName(names, bit);
    }
    return text;
}

} // namespace

std::string specMaskBitName(int bit) { return bitName(specNames, bit); }
std::string ccdMaskBitName(int bit) { return bitName(ccdNames, bit); }
std::string specMaskNames(std::uint32_t mask) { return maskNames(specNames, mask); }
std::string ccdMaskNames(std::uint32_t mask) { return maskNames(ccdNames, mask); }

} // namespace patchlight
