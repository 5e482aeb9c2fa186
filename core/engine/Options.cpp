#include "core/engine/Options.h"

#include "core/base/Error.h"
#include "core/io/FitsHeader.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/format.h>

namespace patchlight {

namespace {

/// The whole text as a number, or nothing.
template <class T> std::optional<T> parseNumber(std::string_view text) {
    if (text.starts_with('+')) text.remove_prefix(1);
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
    if constexpr (std::is_floating_point_v<T>)
        if (!std::isfinite(value)) return std::nullopt;
    return value;
}

[[noreturn]] void refuse(std::string_view option, std::string_view found, std::string_view right) {
    throw UsageError(fmt::format("--{}: {} expected, got '{}'", option, right, found));
}

OptionSpec integerOption(const std::string& name, char shortName, std::string keyword, std::string unit,
                         std::string help, std::string defaultText, int ExtractionOptions::*member, int minimum) {
    OptionSpec spec;
    spec.name = name;
    spec.shortName = shortName;
    spec.keyword = std::move(keyword);
    spec.kind = OptionSpec::Kind::Integer;
    spec.unit = std::move(unit);
    spec.help = std::move(help);
    spec.defaultText = std::move(defaultText);
    spec.range = fmt::format("a whole number of at least {}", minimum);
    spec.set = [name, member, minimum, range = spec.range](ExtractionOptions& options, std::string_view text) {
        const auto value = parseNumber<int>(text);
        if (!value || *value < minimum) refuse(name, text, range);
        options.*member = *value;
    };
    spec.get = [member](const ExtractionOptions& options) { return fmt::format("{}", options.*member); };
    return spec;
}

OptionSpec realOption(const std::string& name, char shortName, std::string keyword, std::string unit, std::string help,
                      std::string defaultText, double ExtractionOptions::*member, double minimum, double maximum) {
    OptionSpec spec;
    spec.name = name;
    spec.shortName = shortName;
    spec.keyword = std::move(keyword);
    spec.kind = OptionSpec::Kind::Real;
    spec.unit = std::move(unit);
    spec.help = std::move(help);
    spec.defaultText = std::move(defaultText);
    spec.range = std::isfinite(maximum) ? fmt::format("a number from {} to {}", minimum, maximum)
                                        : fmt::format("a number of at least {}", minimum);
    spec.set = [name, member, minimum, maximum, range = spec.range](ExtractionOptions& options, std::string_view text) {
        const auto value = parseNumber<double>(text);
        if (!value || *value < minimum || *value > maximum) refuse(name, text, range);
        options.*member = *value;
    };
    spec.get = [member](const ExtractionOptions& options) { return fmt::format("{}", options.*member); };
    return spec;
}

/// A flag without a value on the command line; `whenGiven` is what the member becomes.
OptionSpec flagOption(const std::string& name, std::string keyword, std::string help, bool ExtractionOptions::*member,
                      bool whenGiven) {
    OptionSpec spec;
    spec.name = name;
    spec.keyword = std::move(keyword);
    spec.kind = OptionSpec::Kind::Flag;
    spec.help = std::move(help);
    spec.defaultText = "off";
    spec.range = "true or false";
    spec.set = [name, member, whenGiven](ExtractionOptions& options, std::string_view text) {
        if (text != "true" && text != "false") refuse(name, text, "true or false");
        options.*member = (text == "true") == whenGiven;
    };
    spec.get = [member, whenGiven](const ExtractionOptions& options) {
        return options.*member == whenGiven ? "true" : "false";
    };
    return spec;
}

template <class E>
OptionSpec choiceOption(const std::string& name, std::string keyword, std::string help,
                        std::vector<std::string> choices, E ExtractionOptions::*member) {
    OptionSpec spec;
    spec.name = name;
    spec.keyword = std::move(keyword);
    spec.kind = OptionSpec::Kind::Choice;
    spec.help = std::move(help);
    spec.defaultText = choices.front();
    spec.choices = choices;
    spec.range = fmt::format("{}", fmt::join(choices, " or "));
    spec.set = [name, choices, member, range = spec.range](ExtractionOptions& options, std::string_view text) {
        const auto it = std::find(choices.begin(), choices.end(), text);
        if (it == choices.end()) refuse(name, text, range);
        options.*member = static_cast<E>(it - choices.begin());
    };
    spec.get = [choices, member](const ExtractionOptions& options) {
        return choices[static_cast<std::size_t>(options.*member)];
    };
    return spec;
}

OptionSpec wavelengthOption() {
    OptionSpec spec;
    spec.name = "wavelength";
    spec.shortName = 'w';
    spec.kind = OptionSpec::Kind::Wavelength;
    spec.unit = "Angstrom";
    spec.help = "wavelength grid wmin,wmax,dw";
    spec.defaultText = "the PSF's domain in steps of 0.8";
    spec.range = "wmin,wmax,dw";
    spec.set = [](ExtractionOptions& options, std::string_view text) {
        options.wavelength = parseWavelengthRange(text);
    };
    spec.get = [](const ExtractionOptions& options) {
        if (!options.wavelength) return std::string();
        return fmt::format("{},{},{}", options.wavelength->wmin, options.wavelength->wmax, options.wavelength->dw);
    };
    return spec;
}

OptionSpec psferrOption() {
    OptionSpec spec;
    spec.name = "psferr";
    spec.keyword = "PSFERR";
    spec.kind = OptionSpec::Kind::Real;
    spec.help = "fractional error of the PSF model, for chi2pix and masks only";
    spec.defaultText = "the PSF's own, else 0.01";
    spec.range = "a number of at least 0";
    spec.set = [range = spec.range](ExtractionOptions& options, std::string_view text) {
        const auto value = parseNumber<double>(text);
        if (!value || *value < 0) refuse("psferr", text, range);
        options.psferr = *value;
    };
    spec.get = [](const ExtractionOptions& options) {
        return options.psferr ? fmt::format("{}", *options.psferr) : std::string();
    };
    return spec;
}

std::vector<OptionSpec> makeTable() {
    constexpr double unbounded = std::numeric_limits<double>::infinity();
    using O = ExtractionOptions;
    std::vector<OptionSpec> table;
    table.push_back(wavelengthOption());
    table.push_back(
        integerOption("specmin", 's', "SPECMIN", "", "first spectrum to extract, zero-based", "0", &O::specmin, 0));
    table.push_back(integerOption("nspec", 'n', "", "spectra", "number of spectra to extract; 0: all from specmin on",
                                  "all", &O::nspec, 0));
    table.push_back(choiceOption<Method>(
        "method", "METHOD",
        "patches: overlapping patches, as DESI's pipeline; seamless: the exact solution of each whole bundle",
        {"patches", "seamless"}, &O::method));
    table.push_back(realOption("regularize", 'r', "REGULARI", "",
                               "regularisation added to the diagonal of iCov as its square", "0", &O::regularize, 0,
                               unbounded));
    table.push_back(integerOption("bundlesize", 0, "BUNDLESZ", "spectra", "spectra in a bundle of fibers", "25",
                                  &O::bundlesize, 1));
    table.push_back(
        integerOption("nsubbundles", 0, "NSUBBUN", "", "parts that a bundle is extracted in", "5", &O::nsubbundles, 1));
    table.push_back(integerOption("nwavestep", 0, "NWAVSTEP", "bins", "wavelengths in a patch, without padding", "50",
                                  &O::nwavestep, 1));
    table.push_back(integerOption("wavepad", 0, "WAVEPAD", "bins", "wavelengths of padding at each end of a patch",
                                  "10", &O::wavepad, 0));
    table.push_back(realOption("wavepad-frac", 0, "WPADFRAC", "", "more padding, as a fraction of wavepad", "0.2",
                               &O::wavepadFrac, 0, 100));
    table.push_back(realOption("pixpad-frac", 0, "PPADFRAC", "",
                               "fraction of the padding wavelengths' pixel rows to use", "0.8", &O::pixpadFrac, 0, 1));
    table.push_back(psferrOption());
    table.push_back(choiceOption<Decorrelate>(
        "decorrelate", "DECORREL", "signal: no cross-talk between fibers; noise: uncorrelated noise between them",
        {"signal", "noise"}, &O::decorrelate));
    table.push_back(flagOption("no-psf-tail", "NOTAIL", "leave the PSF's power-law tail out, as gpu_specter does",
                               &O::psfTail, false));
    table.push_back(choiceOption<ModelFlux>(
        "model-flux", "MODFLUX",
        "paint the model image with the deconvolved flux, so that data - model is noise, or with the reconvolved one",
        {"deconvolved", "reconvolved"}, &O::modelFlux));
    table.push_back(flagOption("barycentric-correction", "BARYCORR",
                               "extract at wavelengths of the solar system's barycentre", &O::barycentricCorrection,
                               true));
    table.push_back(flagOption("no-scores", "NOSCORES", "write no SCORES table", &O::scores, false));
    return table;
}

} // namespace

std::span<const OptionSpec> optionTable() {
    static const std::vector<OptionSpec> table = makeTable();
    return table;
}

const OptionSpec& findOption(std::string_view name) {
    for (const OptionSpec& spec : optionTable())
        if (spec.name == name) return spec;
    throw UsageError(fmt::format("there is no extraction option --{}", name));
}

WavelengthRange parseWavelengthRange(std::string_view text) {
    std::vector<double> values;
    std::string_view rest = text;
    while (true) {
        const std::size_t comma = rest.find(',');
        const auto value = parseNumber<double>(rest.substr(0, comma));
        if (!value) refuse("wavelength", text, "wmin,wmax,dw in Angstrom");
        values.push_back(*value);
        if (comma == std::string_view::npos) break;
        rest.remove_prefix(comma + 1);
    }
    if (values.size() != 3) refuse("wavelength", text, "three numbers wmin,wmax,dw in Angstrom");
    if (!(values[2] > 0)) refuse("wavelength", text, "a step dw above 0");
    if (!(values[0] > 0) || values[1] < values[0]) refuse("wavelength", text, "0 < wmin <= wmax");
    constexpr double mostBins = 1e6;
    if ((values[1] - values[0]) / values[2] > mostBins) refuse("wavelength", text, "at most a million wavelengths");
    return {values[0], values[1], values[2]};
}

void validate(const ExtractionOptions& options) {
    if (options.nsubbundles > options.bundlesize)
        throw UsageError(fmt::format("--nsubbundles: {} parts cannot be cut from a bundle of {} spectra "
                                     "(--bundlesize); at most {} would be right",
                                     options.nsubbundles, options.bundlesize, options.bundlesize));
    if (options.method == Method::Seamless && options.decorrelate == Decorrelate::Noise)
        throw UsageError("--decorrelate: noise is decorrelated over a patch, and --method seamless has none; "
                         "--decorrelate signal or --method patches would be right");
    constexpr int mostSpectra = 10000;
    constexpr int mostBins = 100000;
    if (options.bundlesize > mostSpectra)
        refuse("bundlesize", fmt::format("{}", options.bundlesize), fmt::format("at most {}", mostSpectra));
    if (options.nwavestep > mostBins)
        refuse("nwavestep", fmt::format("{}", options.nwavestep), fmt::format("at most {}", mostBins));
    if (options.wavepad * (1.0 + options.wavepadFrac) > mostBins)
        refuse("wavepad", fmt::format("{}", options.wavepad),
               fmt::format("at most {} with --wavepad-frac added", mostBins));
}

void writeOptions(FitsHeader& header, const ExtractionOptions& options) {
    for (const OptionSpec& spec : optionTable()) {
        if (spec.keyword.empty()) continue;
        const std::string value = spec.get(options);
        if (value.empty()) continue;
        // A card holds 80 characters: keyword and value take 30, " / " three more.
        const std::string comment = spec.help.substr(0, 44);
        switch (spec.kind) {
        case OptionSpec::Kind::Flag:
            header.set(spec.keyword, value == "true", comment);
            break;
        case OptionSpec::Kind::Integer:
            header.set(spec.keyword, *parseNumber<int>(value), comment);
            break;
        case OptionSpec::Kind::Real:
            header.set(spec.keyword, *parseNumber<double>(value), comment);
            break;
        default:
            header.set(spec.keyword, value, comment);
            break;
        }
    }
}

} // namespace patchlight
