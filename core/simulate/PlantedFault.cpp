#include "core/simulate/PlantedFault.h"

#include "core/base/Error.h"

#include <charconv>
#include <cmath>
#include <vector>

#include <fmt/format.h>

namespace patchlight::simulate {

namespace {

constexpr const char* forms =
    "cosmic:FIBER,WAVE[,ELECTRONS], trace:FIBER,PIXELS, width:FRACTION, column:X, amplifier:A, "
    "neighbour:FIBER,FACTOR or saturated:FIBER,WAVE[,PHOTONS]";

[[noreturn]] void refuse(const std::string& text, const char* right) {
    throw UsageError(fmt::format("--plant {}: must be {}", text, right));
}

std::vector<double> numbers(const std::string& text, const std::string& list, std::size_t least, std::size_t most,
                            const char* right) {
    std::vector<double> values;
    const char* at = list.data();
    const char* const end = list.data() + list.size();
    while (at <= end) {
        double value = 0;
        const auto [next, error] = std::from_chars(at, end, value);
        if (error != std::errc() || !std::isfinite(value) || (next != end && *next != ',')) refuse(text, right);
        values.push_back(value);
        if (next == end) break;
        at = next + 1;
    }
    if (values.size() < least || values.size() > most) refuse(text, right);
    return values;
}

int index(const std::string& text, double value, const char* right) {
    constexpr double most = 1e6;
    if (value != std::floor(value) || value < 0 || value > most) refuse(text, right);
    return static_cast<int>(value);
}

} // namespace

PlantedFault parsePlantedFault(const std::string& text) {
    using Kind = PlantedFault::Kind;
    PlantedFault fault;
    fault.text = text;
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos) refuse(text, forms);
    const std::string kind = text.substr(0, colon);
    const std::string list = text.substr(colon + 1);
    constexpr double cosmicCharge = 1500; // electrons a pixel
    if (kind == "cosmic") {
        const char* const right = "cosmic:FIBER,WAVE[,ELECTRONS], electrons a pixel above 0";
        const auto v = numbers(text, list, 2, 3, right);
        fault.kind = Kind::Cosmic;
        fault.spectrum = index(text, v[0], right);
        fault.wavelength = v[1];
        fault.amount = v.size() > 2 ? v[2] : cosmicCharge;
        if (fault.amount <= 0) refuse(text, right);
    } else if (kind == "trace") {
        const char* const right = "trace:FIBER,PIXELS, at most 5 pixels";
        const auto v = numbers(text, list, 2, 2, right);
        fault.kind = Kind::Trace;
        fault.spectrum = index(text, v[0], right);
        fault.amount = v[1];
        if (std::abs(fault.amount) > 5) refuse(text, right);
    } else if (kind == "width") {
        const char* const right = "width:FRACTION that the PSF is too narrow by, -0.5 to 0.5";
        fault.kind = Kind::Width;
        fault.amount = numbers(text, list, 1, 1, right)[0];
        if (std::abs(fault.amount) > 0.5) refuse(text, right);
    } else if (kind == "column") {
        const char* const right = "column:X, a column of the CCD counted from 0";
        fault.kind = Kind::Column;
        fault.column = index(text, numbers(text, list, 1, 1, right)[0], right);
    } else if (kind == "amplifier") {
        if (list.size() != 1 || list[0] < 'A' || list[0] > 'D') refuse(text, "amplifier:A, B, C or D");
        fault.kind = Kind::Amplifier;
        fault.amplifier = list[0];
    } else if (kind == "neighbour") {
        const char* const right = "neighbour:FIBER,FACTOR, 0 to 1e6";
        const auto v = numbers(text, list, 2, 2, right);
        fault.kind = Kind::Neighbour;
        fault.spectrum = index(text, v[0], right);
        fault.amount = v[1];
        if (fault.amount < 0 || fault.amount > 1e6) refuse(text, right);
    } else if (kind == "saturated") {
        const char* const right = "saturated:FIBER,WAVE[,PHOTONS], photons above 0";
        const auto v = numbers(text, list, 2, 3, right);
        fault.kind = Kind::Saturated;
        fault.spectrum = index(text, v[0], right);
        fault.wavelength = v[1];
        fault.amount = v.size() > 2 ? v[2] : 0;
        if (fault.amount < 0) refuse(text, right);
    } else {
        refuse(text, forms);
    }
    return fault;
}

} // namespace patchlight::simulate
