#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

class FitsHeader;

/// A wavelength grid as given by -w: wmin, wmin + dw, ... <= wmax + dw/2, Angstrom.
struct WavelengthRange {
    double wmin = 0;
    double wmax = 0;
    double dw = 0;
};

/// How fluxes are made uncorrelated (Bolton & Schlegel 2010).
enum class Decorrelate {
    Signal, ///< Q from each spectrum's block of the covariance, eqs 17-19: no cross-talk between fibers
    Noise,  ///< Q = iCov^(1/2) over the whole patch, eqs 10-13
};

/// How a bundle is divided.
enum class Method {
    Patches,  ///< into overlapping patches, of which the cores are kept, as DESI's pipeline does
    Seamless, ///< not at all: the exact solution of the whole bundle
};

/// What the model image is painted with.
enum class ModelFlux {
    Deconvolved, ///< core xflux: data - model is noise
    Reconvolved, ///< core flux, as gpu_specter paints it: broader than the data
};

/// Every option of an extraction that can change its result, with its default. optionTable() describes them to the command line,
/// to the window, to the output header and to the docs.
struct ExtractionOptions {
    std::optional<WavelengthRange> wavelength; ///< default: the PSF's domain in steps of 0.8 Angstrom
    int specmin = 0;
    int nspec = 0; ///< 0: all from specmin on
    Method method = Method::Patches;
    double regularize = 0.0;
    int bundlesize = 25;
    int nsubbundles = 5;
    int nwavestep = 50;
    int wavepad = 10;
    double wavepadFrac = 0.2;
    double pixpadFrac = 0.8;
    std::optional<double> psferr; ///< default: the PSF's own
    Decorrelate decorrelate = Decorrelate::Signal;
    bool psfTail = true;
    ModelFlux modelFlux = ModelFlux::Deconvolved;
    bool barycentricCorrection = false;
    bool scores = true;
};

/// Description of one option: enough to parse it, print it, write it to a FITS header and document it.
struct OptionSpec {
    enum class Kind { Flag, Integer, Real, Choice, Wavelength };

    std::string name;                 ///< long name without dashes: "nwavestep"
    char shortName = 0;               ///< 'w', or 0
    std::vector<std::string> aliases; ///< other long names, as gpu_specter or desispec have them
    std::string keyword;              ///< FITS keyword of the output header, at most 8 characters
    Kind kind = Kind::Integer;
    std::string unit; ///< "Angstrom", "bins", "spectra", or ""
    std::string help;
    std::string defaultText;          ///< as --help prints it
    std::vector<std::string> choices; ///< for Kind::Choice
    std::string range;                ///< in words, for help and errors: "above 0"

    /// Sets the option from text. @throws UsageError naming option, what was found and what would be right.
    std::function<void(ExtractionOptions&, std::string_view)> set;
    /// The option's value as text (what `set` would take); for a flag "true" or "false"; "" where an optional value is not set.
    std::function<std::string(const ExtractionOptions&)> get;
};

/// All extraction options, in the order of --help.
[[nodiscard]] std::span<const OptionSpec> optionTable();

/// The option of that long name. @throws UsageError
[[nodiscard]] const OptionSpec& findOption(std::string_view name);

/// Parses "wmin,wmax,dw". @throws UsageError
[[nodiscard]] WavelengthRange parseWavelengthRange(std::string_view text);

/// Checks the options against each other (each one's own range is checked by its `set`). @throws UsageError
void validate(const ExtractionOptions& options);

/// Writes the options as keywords of an output header.
void writeOptions(FitsHeader& header, const ExtractionOptions& options);

} // namespace patchlight
