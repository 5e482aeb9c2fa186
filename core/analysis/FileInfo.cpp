#include "core/analysis/FileInfo.h"

#include "core/analysis/MaskNames.h"
#include "core/analysis/Statistics.h"
#include "core/analysis/TruthSpectra.h"
#include "core/engine/Options.h"
#include "core/engine/PatchFile.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/io/FitsFile.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <utility>

namespace patchlight {

namespace {

constexpr double fwhmPerSigma = 2.354820045030949; // sqrt(8 ln 2)

/// Collects the facts of a file.
class InfoBuilder {
public:
    explicit InfoBuilder(FileInfo& info) : info_(info) {}

    /// @param text empty: not shown to people, since another item of the line says it
    void add(std::string key, std::string label, InfoValue value, std::string text) {
        info_.items.push_back({std::move(key), std::move(label), std::move(value), std::move(text)});
    }
    void add(std::string key, std::string label, const InfoValue& value) {
        add(std::move(key), std::move(label), value, infoText(value));
    }
    /// Smallest, median and largest of some numbers; left out where there are none. NaN does not count.
    void addRange(const std::string& key, const std::string& label, std::vector<double> values, const std::string& unit,
                  const std::string& what = {}) {
        std::erase_if(values, [](double value) { return !std::isfinite(value); });
        if (values.empty()) return;
        const auto [smallest, largest] = std::minmax_element(values.begin(), values.end());
        const double low = *smallest;
        const double high = *largest;
        const double middle = medianInPlace(std::span<double>(values));
        std::string text =
            low == high ? fmt::format("{:.4g}", low) : fmt::format("{:.4g} ({:.4g} to {:.4g})", middle, low, high);
        if (!unit.empty()) text += " " + unit;
        if (!what.empty()) text = what + " " + text;
        add(key, label, std::vector<double>{low, middle, high}, text);
    }
    InfoTable& table(std::string key, std::string title, std::vector<std::string> columns) {
        info_.tables.push_back({std::move(key), std::move(title), std::move(columns), {}});
        return info_.tables.back();
    }

private:
    FileInfo& info_;
};

std::string lower(std::string text) {
    for (char& c : text) {
        if (c == '-') c = '_';
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    }
    return text;
}

/// Text of a keyword; specex wraps some in quotes within the quotes.
std::optional<std::string> cleanText(const FitsHeader& header, const char* keyword) {
    std::optional<std::string> text = header.text(keyword);
    if (!text) return text;
    std::erase(*text, '\'');
    const auto last = text->find_last_not_of(' ');
    text->erase(last == std::string::npos ? 0 : last + 1);
    return printable(*text);
}

void addExposure(InfoBuilder& build, const FitsHeader& header) {
    const std::string label = "exposure";
    if (const auto camera = cleanText(header, "CAMERA")) build.add("camera", label, *camera, "camera " + *camera);
    for (const char* keyword : {"NIGHT", "EXPID"}) {
        if (const auto value = header.integer(keyword))
            build.add(lower(keyword), label, *value, fmt::format("{} {}", lower(keyword), *value));
    }
    if (const auto value = header.number("EXPTIME")) build.add("exptime", label, *value, fmt::format("{:g} s", *value));
    if (const auto flavor = cleanText(header, "FLAVOR")) build.add("flavor", label, *flavor);
    for (const char* keyword : {"MJD-OBS", "MJD"}) {
        if (const auto value = header.number(keyword)) {
            build.add("mjd", label, *value, fmt::format("MJD {:.5f}", *value));
            break;
        }
    }
}

void addFibermap(InfoBuilder& build, const FitsTable& table) {
    const std::string label = "fibers";
    build.add("fibermap_rows", label, static_cast<std::int64_t>(table.rowCount),
              fmt::format("{} in FIBERMAP", table.rowCount));
    if (table.rowCount == 0) return;
    if (table.hasColumn("FIBER")) {
        const std::vector<std::int64_t> fibers = table.integers("FIBER");
        const auto [first, last] = std::minmax_element(fibers.begin(), fibers.end());
        build.add("fiber_first", label, *first, fmt::format("{} to {}", *first, *last));
        build.add("fiber_last", label, *last, "");
    }
    if (table.hasColumn("OBJTYPE")) {
        std::map<std::string, std::int64_t> counts;
        for (const std::string& type : table.texts("OBJTYPE")) ++counts[type.empty() ? "(blank)" : printable(type)];
        InfoTable& kinds = build.table("objtypes", "", {"objtype", "fibers"});
        std::string text;
        for (const auto& [type, count] : counts) {
            kinds.rows.push_back({type, count});
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, type);
        }
        build.add("", label, std::monostate{}, text);
    }
    if (table.hasColumn("FIBERSTATUS")) {
        const std::vector<std::int64_t> status = table.integers("FIBERSTATUS");
        const std::int64_t bad =
            std::count_if(status.begin(), status.end(), [](std::int64_t value) { return value != 0; });
        build.add("fiberstatus_nonzero", label, bad, fmt::format("{} with FIBERSTATUS not 0", bad));
    }
}

void addHdus(InfoBuilder& build, const FitsFile& file) {
    InfoTable& table = build.table("hdus", "HDUs", {"hdu", "name", "kind", "shape", "type"});
    for (const FitsHdu& hdu : file.hdus()) {
        std::string kind;
        std::string shape = hdu.shapeText();
        std::string type;
        const auto imageType = [&] {
            const bool unsignedInt = hdu.bitpix == 32 && hdu.header.number("BZERO").value_or(0.0) == 2147483648.0;
            switch (hdu.bitpix) {
            case -32:
                return std::string("float32");
            case -64:
                return std::string("float64");
            default:
                return fmt::format("{}int{}", unsignedInt || hdu.bitpix == 8 ? "u" : "", hdu.bitpix);
            }
        };
        switch (hdu.kind) {
        case FitsHduKind::Image:
            kind = "image";
            type = hdu.shape.empty() ? "" : imageType();
            break;
        case FitsHduKind::CompressedImage:
            kind = "image, compressed";
            type = imageType();
            break;
        case FitsHduKind::Table:
            kind = "table";
            shape = fmt::format("{} rows, {} columns", hdu.rowCount, hdu.header.integer("TFIELDS").value_or(0));
            break;
        case FitsHduKind::Other:
            kind = "other";
            break;
        }
        table.rows.push_back({std::int64_t{hdu.index}, printable(hdu.name), kind, shape, type});
    }
}

// PSF

std::string compactList(const std::vector<int>& numbers) {
    std::string text;
    for (std::size_t i = 0; i < numbers.size(); ++i) {
        std::size_t last = i;
        while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
        text += fmt::format("{}{}", text.empty() ? "" : ", ", numbers[i]);
        if (last > i) text += fmt::format("-{}", numbers[last]);
        i = last;
    }
    return text;
}

void inspectPsf(InfoBuilder& build, const std::string& path) {
    const Psf psf = readPsf(path);
    const bool two = psf.type == PsfType::GaussHermite2;
    build.add("psftype", "type", std::string(two ? "GAUSS-HERMITE2" : "GAUSS-HERMITE"));
    build.add("psfver", "type", std::int64_t{psf.version}, fmt::format("PSFVER {}", psf.version));
    for (const FitsHeader* header : {&psf.header, &psf.primaryHeader}) {
        if (const auto camera = cleanText(*header, "CAMERA"); camera && !camera->empty()) {
            build.add("camera", "type", *camera, "camera " + *camera);
            break;
        }
    }
    build.add("nspec", "spectra", std::int64_t{psf.nspec});
    build.add("fibermin", "spectra", std::int64_t{psf.fibermin}, fmt::format("FIBERMIN {}", psf.fibermin));
    build.add("nx", "CCD", std::int64_t{psf.nx}, fmt::format("{} x {} pixels (columns x rows)", psf.nx, psf.ny));
    build.add("ny", "CCD", std::int64_t{psf.ny}, "");
    const PsfView view = psf.view();
    build.add(
        "hsizex", "stamp", std::int64_t{psf.hsizeX},
        fmt::format("{} x {} pixels (HSIZEX {}, HSIZEY {})", view.stampX(), view.stampY(), psf.hsizeX, psf.hsizeY));
    build.add("hsizey", "stamp", std::int64_t{psf.hsizeY}, "");
    build.add("ghdegx", "degrees", std::int64_t{psf.degX}, fmt::format("Hermite {} x {}", psf.degX, psf.degY));
    build.add("ghdegy", "degrees", std::int64_t{psf.degY}, "");
    if (two) {
        build.add("ghdegx2", "degrees", std::int64_t{psf.degX2},
                  fmt::format("second core {} x {}", psf.degX2, psf.degY2));
        build.add("ghdegy2", "degrees", std::int64_t{psf.degY2}, "");
    }
    build.add("legendre_degree", "degrees", std::int64_t{view.ncoeff - 1},
              fmt::format("Legendre {} (traces {}, {})", view.ncoeff - 1, view.ncoeffX - 1, view.ncoeffY - 1));
    build.add("trace_degree_x", "degrees", std::int64_t{view.ncoeffX - 1}, "");
    build.add("trace_degree_y", "degrees", std::int64_t{view.ncoeffY - 1}, "");
    build.add("wavemin", "domain", psf.wavemin(),
              fmt::format("{:.6g} to {:.6g} Angstrom", psf.wavemin(), psf.wavemax()));
    build.add("wavemax", "domain", psf.wavemax(), "");
    build.add("trace_wavemin", "domain", view.domainX[0],
              fmt::format("traces {:.6g} to {:.6g}", view.domainX[0], view.domainX[1]));
    build.add("trace_wavemax", "domain", view.domainX[1], "");
    build.add("psferr", "psferr", psf.psferr);

    // Widths and traces, sampled over all spectra and nine wavelengths. Spectra of bundles without a fit have sigma 0.
    std::vector<double> sigmaX, sigmaY, dispersion, fwhm, xs, ys, tail;
    const auto sample = [&](const char* name, int spectrum, double wavelength) -> std::optional<double> {
        const auto found = psf.series.find(name);
        if (found == psf.series.end()) return std::nullopt;
        const LegendreSeries& series = found->second;
        const double domain[2] = {series.wavemin, series.wavemax};
        return legendreSum(series.coeff.data() + static_cast<std::ptrdiff_t>(spectrum) * series.ncoeff, series.ncoeff,
                           legendreArgument(wavelength, domain));
    };
    constexpr int samples = 9;
    for (int spectrum = 0; spectrum < psf.nspec; ++spectrum) {
        for (int k = 0; k < samples; ++k) {
            const double wavelength = psf.wavemin() + (psf.wavemax() - psf.wavemin()) * k / (samples - 1);
            const double perRow = 2.0 / (psf.y(spectrum, wavelength + 1.0) - psf.y(spectrum, wavelength - 1.0));
            xs.push_back(psf.x(spectrum, wavelength));
            ys.push_back(psf.y(spectrum, wavelength));
            dispersion.push_back(std::abs(perRow));
            if (const auto amplitude = sample("TAILAMP", spectrum, wavelength)) tail.push_back(*amplitude);
            const auto sx = sample("GHSIGX", spectrum, wavelength);
            const auto sy = sample("GHSIGY", spectrum, wavelength);
            if (sx && *sx != 0.0) sigmaX.push_back(*sx);
            if (sy && *sy != 0.0) {
                sigmaY.push_back(*sy);
                fwhm.push_back(fwhmPerSigma * *sy * std::abs(perRow));
            }
        }
    }
    build.addRange("sigma_x", "sigma x", sigmaX, "pixels");
    build.addRange("sigma_y", "sigma y", sigmaY, "pixels");
    build.addRange("fwhm", "sigma y", fwhm, "Angstrom FWHM");
    build.addRange("dispersion", "dispersion", dispersion, "Angstrom a row");
    build.addRange("trace_x", "traces", xs, "columns");
    build.addRange("trace_y", "traces", ys, "rows");
    if (view.hasTail) {
        build.addRange("tail_amplitude", "tail", tail, "", "TAILAMP");
    } else {
        build.add("tail_amplitude", "tail", 0.0, "none");
    }
    if (!psf.bundleFits.empty()) {
        InfoTable& table = build.table("bundles", "", {"bundle", "rchi2", "status", "fitted"});
        std::vector<double> rchi2;
        std::vector<int> missing;
        for (const BundleFit& fit : psf.bundleFits) {
            table.rows.push_back({std::int64_t{fit.bundle}, fit.rchi2, std::int64_t{fit.status}, fit.fitted()});
            if (fit.fitted()) {
                rchi2.push_back(fit.rchi2);
            } else {
                missing.push_back(fit.bundle);
            }
        }
        const auto fitted = static_cast<std::int64_t>(rchi2.size());
        build.add("bundles_fitted", "bundles", fitted, fmt::format("{} of {} fitted", fitted, psf.bundleFits.size()));
        build.addRange("bundle_rchi2", "bundles", rchi2, "", "reduced chi2");
        if (!missing.empty()) build.add("", "bundles", std::monostate{}, "not fitted: " + compactList(missing));
    }
    if (!psf.offsets.empty()) {
        InfoTable& table = build.table("offsets", "wavelength offsets on sky lines",
                                       {"table", "measurements", "median [Angstrom]", "spread [Angstrom]"});
        for (const WavelengthOffsets& offsets : psf.offsets) {
            std::vector<double> values = offsets.dwave;
            std::erase_if(values, [](double value) { return !std::isfinite(value); });
            const double middle = median(values);
            table.rows.push_back(
                {offsets.name, static_cast<std::int64_t>(offsets.dwave.size()), middle, robustSigmaInPlace(values)});
        }
    }
    if (const auto original = cleanText(psf.header, "IN_PSF")) build.add("in_psf", "made from", *original);
}

// CCD image

/// Median of the unmasked pixels of a part of an image; at most about a million are looked at.
double medianOfPart(const std::vector<float>& values, const std::vector<float>& weights, int nx, IndexRange columns,
                    IndexRange rows) {
    const double pixels = static_cast<double>(columns.count()) * rows.count();
    const int stride = std::max(1, static_cast<int>(std::sqrt(pixels / 1e6)));
    std::vector<float> part;
    for (int y = rows.first; y < rows.last; y += stride) {
        for (int x = columns.first; x < columns.last; x += stride) {
            const std::size_t p = static_cast<std::size_t>(y) * nx + x;
            if (weights[p] > 0.0F && std::isfinite(values[p])) part.push_back(values[p]);
        }
    }
    return medianInPlace(std::span<float>(part));
}

void inspectImage(InfoBuilder& build, const std::string& path) {
    CcdImage image = readCcdImage(path, {.readnoise = true});
    build.add("nx", "CCD", std::int64_t{image.nx}, fmt::format("{} x {} pixels (columns x rows)", image.nx, image.ny));
    build.add("ny", "CCD", std::int64_t{image.ny}, "");
    addExposure(build, image.header);
    const std::size_t n = image.pixels.size();

    // Masked pixels by bit; those without weight for whatever reason.
    std::array<std::int64_t, 32> bits{};
    std::int64_t anyBit = 0;
    for (const std::int32_t value : image.mask) {
        const auto mask = static_cast<std::uint32_t>(value);
        if (mask == 0) continue;
        anyBit += (mask & ccdMaskedBits) != 0 ? 1 : 0;
        for (std::size_t bit = 0; bit < bits.size(); ++bit) bits[bit] += mask >> bit & 1U;
    }
    std::int64_t noIvar = 0;
    std::int64_t notFinite = 0;
    for (std::size_t p = 0; p < n; ++p) {
        const bool finite = std::isfinite(image.pixels[p]) && std::isfinite(image.ivar[p]);
        notFinite += finite ? 0 : 1;
        noIvar += finite && !(image.ivar[p] > 0.0F) ? 1 : 0;
    }
    const WeightedPixels weighted = weightedPixels(image);
    const std::int64_t weightless =
        std::count_if(weighted.weights.begin(), weighted.weights.end(), [](float weight) { return !(weight > 0.0F); });
    const auto percent = [n](std::int64_t count) {
        return 100.0 * static_cast<double>(count) / static_cast<double>(n);
    };
    build.add("pixels_masked", "masked", weightless,
              fmt::format("{} pixels without weight ({:.3g} %)", weightless, percent(weightless)));
    if (!image.mask.empty()) build.add("pixels_mask_bits", "masked", anyBit, fmt::format("{} by MASK", anyBit));
    build.add("pixels_ivar_zero", "masked", noIvar, fmt::format("{} with IVAR <= 0", noIvar));
    build.add("pixels_not_finite", "masked", notFinite, fmt::format("{} not finite", notFinite));
    if (image.mask.empty()) {
        build.add("has_mask", "MASK", false, "none");
    } else {
        InfoTable& table = build.table("mask_bits", "MASK", {"bit", "name", "pixels", "percent"});
        for (std::size_t bit = 0; bit < bits.size(); ++bit) {
            if (bits[bit] > 0)
                table.rows.push_back({static_cast<std::int64_t>(bit), ccdMaskBitName(static_cast<int>(bit)), bits[bit],
                                      percent(bits[bit])});
        }
    }

    const IndexRange allColumns{0, image.nx};
    const IndexRange allRows{0, image.ny};
    const double middle = medianOfPart(weighted.pixels, weighted.weights, image.nx, allColumns, allRows);
    const double weight = medianOfPart(weighted.weights, weighted.weights, image.nx, allColumns, allRows);
    float largest = -std::numeric_limits<float>::infinity();
    for (std::size_t p = 0; p < n; ++p) {
        if (weighted.weights[p] > 0.0F) largest = std::max(largest, weighted.pixels[p]);
    }
    build.add("pixel_median", "pixels", middle, fmt::format("median {:.4g}", middle));
    build.add("pixel_largest", "pixels", static_cast<double>(largest),
              fmt::format("largest {:.6g} electrons", largest));
    build.add("pixel_noise", "pixels", 1.0 / std::sqrt(weight),
              fmt::format("median error {:.4g} electrons", 1.0 / std::sqrt(weight)));
    if (!image.readnoise.empty()) {
        const int midX = image.nx / 2;
        const int midY = image.ny / 2;
        const std::pair<IndexRange, IndexRange> quadrants[] = {{{0, midX}, {0, midY}},
                                                               {{midX, image.nx}, {0, midY}},
                                                               {{0, midX}, {midY, image.ny}},
                                                               {{midX, image.nx}, {midY, image.ny}}};
        std::vector<double> noise;
        std::string text;
        for (const auto& [columns, rows] : quadrants) {
            noise.push_back(medianOfPart(image.readnoise, weighted.weights, image.nx, columns, rows));
            text += fmt::format("{}{:.3g}", text.empty() ? "" : ", ", noise.back());
        }
        build.add("readnoise", "read noise", noise,
                  text + " electrons (lower left, lower right, upper left, upper right)");
    }
    if (image.fibermap) addFibermap(build, *image.fibermap);
}

// Extracted frame

void inspectFrame(InfoBuilder& build, const std::string& path) {
    const ExtractedFrame frame = readFrame(path);
    const std::size_t nspec = frame.nspec();
    const std::size_t nwave = frame.nwave();
    build.add("nspec", "spectra", static_cast<std::int64_t>(nspec), fmt::format("{} from {} on", nspec, frame.specmin));
    build.add("specmin", "spectra", std::int64_t{frame.specmin}, "");
    const double dw =
        nwave > 1 ? (frame.wavelength.back() - frame.wavelength.front()) / static_cast<double>(nwave - 1) : 0.0;
    build.add("nwave", "wavelengths", static_cast<std::int64_t>(nwave),
              nwave > 0 ? fmt::format("{}: {:.8g} to {:.8g} in steps of {:.6g} Angstrom", nwave,
                                      frame.wavelength.front(), frame.wavelength.back(), dw)
                        : "0");
    if (nwave > 0) {
        build.add("wavemin", "wavelengths", frame.wavelength.front(), "");
        build.add("wavemax", "wavelengths", frame.wavelength.back(), "");
        build.add("wavestep", "wavelengths", dw, "");
    }
    if (const auto factor = frame.header.number("HELIOCOR"))
        build.add("heliocor", "wavelengths", *factor, fmt::format("HELIOCOR {:.9f}", *factor));
    addExposure(build, frame.header);

    std::vector<double> snr;    // of each spectrum
    std::vector<double> signal; // work
    std::vector<double> chi2;
    std::int64_t noData = 0;
    std::int64_t notFinite = 0;
    for (std::size_t s = 0; s < nspec; ++s) {
        signal.clear();
        for (std::size_t i = 0; i < nwave; ++i) {
            const double flux = frame.flux(s, i);
            const double ivar = frame.ivar(s, i);
            if (!std::isfinite(flux) || !std::isfinite(ivar)) {
                ++notFinite;
                continue;
            }
            if (!(ivar > 0.0)) {
                ++noData;
                continue;
            }
            signal.push_back(flux * std::sqrt(ivar));
            if (!frame.chi2pix.empty() && frame.chi2pix(s, i) > 0.0) chi2.push_back(frame.chi2pix(s, i));
        }
        if (!signal.empty()) snr.push_back(medianInPlace(std::span<double>(signal)));
    }
    const auto bins = static_cast<std::int64_t>(nspec * nwave);
    build.add("bins", "data", bins, fmt::format("{} of {} bins with data", bins - noData - notFinite, bins));
    build.add("bins_no_data", "data", noData, "");
    build.add("bins_not_finite", "data", notFinite, notFinite > 0 ? fmt::format("{} NOT FINITE", notFinite) : "");
    build.addRange("snr", "S/N of a bin", snr, "(median of each spectrum)");
    if (!chi2.empty()) {
        const double middle = medianInPlace(std::span<double>(chi2));
        build.add("chi2pix_median", "chi2pix", middle, fmt::format("median {:.4g}", middle));
    }

    if (frame.resolution.size() > 0 && nwave > 0) {
        std::vector<double> fwhm;
        std::vector<double> blue, middle, red;
        for (std::size_t s = 0; s < nspec; ++s) {
            for (std::size_t i = 0; i < nwave; ++i) {
                const double width = dw * resolutionFwhm(&frame.resolution(s, 0, i), frame.resolution.rows(), nwave);
                if (!std::isfinite(width)) continue;
                fwhm.push_back(width);
                (3 * i < nwave ? blue : (3 * i < 2 * nwave ? middle : red)).push_back(width);
            }
        }
        build.add("ndiag", "resolution", static_cast<std::int64_t>(frame.ndiag()),
                  fmt::format("{} diagonals", 2 * frame.ndiag() + 1));
        if (!fwhm.empty()) {
            const double medians[] = {medianInPlace(std::span<double>(fwhm)), median(blue), median(middle),
                                      median(red)};
            build.add("resolution_fwhm", "resolution", medians[0],
                      fmt::format("FWHM {:.3g} Angstrom (blue third {:.3g}, middle {:.3g}, red {:.3g})", medians[0],
                                  medians[1], medians[2], medians[3]));
        }
    }

    if (!frame.mask.empty()) {
        std::array<std::int64_t, 32> bits{};
        std::int64_t any = 0;
        for (const std::uint32_t mask : frame.mask.values()) {
            if (mask == 0) continue;
            ++any;
            for (std::size_t bit = 0; bit < bits.size(); ++bit) bits[bit] += mask >> bit & 1U;
        }
        build.add("bins_masked", "masked", any,
                  fmt::format("{} bins ({:.3g} %)", any,
                              100.0 * static_cast<double>(any) / static_cast<double>(std::max<std::int64_t>(bins, 1))));
        InfoTable& table = build.table("mask_bits", "MASK", {"bit", "name", "bins", "percent"});
        for (std::size_t bit = 0; bit < bits.size(); ++bit) {
            if (bits[bit] == 0) continue;
            table.rows.push_back({static_cast<std::int64_t>(bit), specMaskBitName(static_cast<int>(bit)), bits[bit],
                                  100.0 * static_cast<double>(bits[bit]) / static_cast<double>(bins)});
        }
    }
    if (frame.fibermap) addFibermap(build, *frame.fibermap);
    if (frame.scores) {
        for (const char* camera : {"B", "R", "Z"}) {
            const std::string column = fmt::format("MEDIAN_RAW_SNR_{}", camera);
            if (frame.scores->hasColumn(column))
                build.addRange(lower(column), "scores", frame.scores->numbers(column), "", column);
        }
    }

    // How it was made. Options that are as their default says are not worth a line.
    for (const char* keyword : {"IN_IMG", "IN_PSF", "EXTRSOFT"}) {
        if (const auto text = cleanText(frame.header, keyword)) build.add(lower(keyword), "made from", *text);
    }
    if (frame.header.has("EXTRSOFT")) {
        const ExtractionOptions defaults;
        for (const OptionSpec& option : optionTable()) {
            const auto text = option.keyword.empty() ? std::nullopt : cleanText(frame.header, option.keyword.c_str());
            if (!text || option.kind == OptionSpec::Kind::Wavelength) continue;
            const bool flag = option.kind == OptionSpec::Kind::Flag;
            const std::string value = flag ? (*text == "T" || *text == "true" ? "true" : "false") : *text;
            // An option without a default of its own has been given one by the input: not worth mentioning either.
            const std::string usual = option.get(defaults);
            bool isUsual = value == usual || usual.empty();
            if (option.kind == OptionSpec::Kind::Real && !isUsual)
                isUsual = frame.header.number(option.keyword) == std::stod(usual);
            build.add("option_" + lower(option.name), "options", value,
                      isUsual ? "" : fmt::format("{} {}", option.name, value));
        }
    }
}

// Patch file

std::vector<double> readDoubles(const FitsFile& file, const char* name) {
    const FitsHdu* hdu = file.find(name);
    if (hdu == nullptr || hdu->shape.empty()) return {};
    std::vector<double> values(file.pixelCount(*hdu));
    file.readImage(*hdu, std::span<double>(values));
    return values;
}

void inspectPatch(InfoBuilder& build, const FitsFile& file) {
    const FitsHdu& primary = file.hdus().front();
    const FitsHeader& header = primary.header;
    const auto integer = [&](const char* keyword) {
        const auto value = header.integer(keyword);
        if (!value) file.fail(primary, fmt::format("keyword {} is missing, a whole number expected", keyword));
        return *value;
    };
    const auto number = [&](const char* keyword) {
        const auto value = header.number(keyword);
        if (!value) file.fail(primary, fmt::format("keyword {} is missing, a number expected", keyword));
        return *value;
    };
    const std::int64_t specmin = integer("SPECMIN");
    const std::int64_t nspec = integer("NSPEC");
    const std::int64_t corespec = integer("CORESPEC");
    const std::int64_t ncore = integer("NCORE");
    const std::int64_t nwave = integer("NWAVE");
    const std::int64_t pad = integer("WAVEPAD");
    const std::int64_t ncorewave = integer("NCOREWAV");
    const double wave0 = number("WAVE0");
    const double dw = number("DW");
    addExposure(build, header);
    build.add("specmin", "spectra", specmin,
              fmt::format("{} to {}, of which {} to {} are kept", specmin, specmin + nspec - 1, corespec,
                          corespec + ncore - 1));
    build.add("nspec", "spectra", nspec, "");
    build.add("corespec", "spectra", corespec, "");
    build.add("ncore", "spectra", ncore, "");
    const double core0 = wave0 + static_cast<double>(pad) * dw;
    build.add("wave0", "wavelengths", wave0,
              fmt::format("{} from {:.2f} to {:.2f} in steps of {:g} Angstrom", nwave, wave0,
                          wave0 + static_cast<double>(nwave - 1) * dw, dw));
    build.add("nwave", "wavelengths", nwave,
              fmt::format("of which {} are kept, {:.2f} to {:.2f}", ncorewave, core0,
                          core0 + static_cast<double>(ncorewave - 1) * dw));
    build.add("ncorewav", "wavelengths", ncorewave, "");
    build.add("wavepad", "wavelengths", pad, "");
    build.add("dw", "wavelengths", dw, "");
    const std::int64_t xmin = integer("XMIN");
    const std::int64_t ymin = integer("YMIN");
    const std::int64_t nx = integer("NX");
    const std::int64_t ny = integer("NY");
    build.add("xmin", "pixels", xmin,
              nx > 0 && ny > 0 ? fmt::format("{} x {}: columns {} to {}, rows {} to {}", nx, ny, xmin, xmin + nx - 1,
                                             ymin, ymin + ny - 1)
                               : "none on the CCD");
    build.add("ymin", "pixels", ymin, "");
    build.add("nx", "pixels", nx, "");
    build.add("ny", "pixels", ny, "");
    const std::vector<double> masked = readDoubles(file, "PIXMASK");
    if (!masked.empty()) {
        const std::int64_t count =
            std::count_if(masked.begin(), masked.end(), [](double value) { return value != 0.0; });
        build.add("pixels_masked", "pixels", count, fmt::format("{} masked", count));
    }
    const std::int64_t status = integer("STATUS");
    build.add("status", "status", status, describeStatus(static_cast<std::uint32_t>(status)));
    const double condition = number("CONDEST");
    build.add("condest", "condition", condition,
              fmt::format("{:.4g} of iCov ({} x {})", condition, nspec * nwave, nspec * nwave));
    if (const auto block = header.number("CONDSPEC"))
        build.add("condspec", "condition", *block, fmt::format("{:.4g} of the worst decorrelated block", *block));

    std::vector<double> chi = readDoubles(file, "CHI");
    std::erase(chi, 0.0);
    if (!chi.empty()) {
        double squares = 0.0;
        double largest = 0.0;
        for (const double value : chi) {
            squares += value * value;
            largest = std::max(largest, std::abs(value));
        }
        const double rms = std::sqrt(squares / static_cast<double>(chi.size()));
        build.add("chi_rms", "residual", rms, fmt::format("rms {:.4g} sigma over {} pixels", rms, chi.size()));
        build.add("chi_largest", "residual", largest, fmt::format("largest {:.4g}", largest));
    }
    const std::vector<double> flux = readDoubles(file, "FLUX");
    const std::vector<double> ivar = readDoubles(file, "IVAR");
    if (!flux.empty() && flux.size() == ivar.size() && flux.size() == static_cast<std::size_t>(nspec * nwave)) {
        std::vector<double> snr;
        std::int64_t noData = 0;
        for (std::int64_t s = corespec - specmin; s < corespec - specmin + ncore; ++s) {
            for (std::int64_t i = pad; i < pad + ncorewave; ++i) {
                const auto index = static_cast<std::size_t>(s * nwave + i);
                if (s < 0 || s >= nspec || i >= nwave) continue;
                if (ivar[index] > 0.0) {
                    snr.push_back(flux[index] * std::sqrt(ivar[index]));
                } else {
                    ++noData;
                }
            }
        }
        build.addRange("snr", "S/N of a bin", snr, "(core bins)");
        build.add("bins_no_data", "S/N of a bin", noData,
                  noData > 0 ? fmt::format("{} bins without data", noData) : "");
    }
    if (const auto text = cleanText(header, "DECORREL")) build.add("decorrelate", "options", *text);
}

// Truth, model

void inspectTruth(InfoBuilder& build, const std::string& path) {
    const TruthSpectra truth = readTruth(path);
    addExposure(build, truth.header);
    build.add("nspec", "spectra", static_cast<std::int64_t>(truth.flux.rows()));
    const std::size_t n = truth.wavelength.size();
    const double step = n > 1 ? (truth.wavelength.back() - truth.wavelength.front()) / static_cast<double>(n - 1) : 0.0;
    build.add("nwave", "wavelengths", static_cast<std::int64_t>(n),
              fmt::format("{}: {:.8g} to {:.8g} in steps of {:.6g} Angstrom", n, truth.wavelength.front(),
                          truth.wavelength.back(), step));
    build.add("wavemin", "wavelengths", truth.wavelength.front(), "");
    build.add("wavemax", "wavelengths", truth.wavelength.back(), "");
    build.add("wavestep", "wavelengths", step, "");
    const auto wmin = truth.header.number("EXTWMIN");
    const auto wmax = truth.header.number("EXTWMAX");
    const auto extractionStep = truth.header.number("EXTDW");
    if (wmin && wmax && extractionStep) {
        const std::string onGrid = truth.header.text("ONGRID").value_or("");
        build.add("extraction_grid", "made for", std::vector<double>{*wmin, *wmax, *extractionStep},
                  fmt::format("extraction with -w {:g},{:g},{:g}{}", *wmin, *wmax, *extractionStep,
                              onGrid == "T" ? ", all light on that grid" : ""));
    }
    std::vector<double> medians;
    double largest = 0.0;
    for (std::size_t s = 0; s < truth.flux.rows(); ++s) {
        const auto row = truth.flux.row(s);
        std::vector<double> values(row.begin(), row.end());
        largest = std::max(largest, *std::max_element(values.begin(), values.end()));
        medians.push_back(medianInPlace(std::span<double>(values)));
    }
    build.addRange("flux_median", "flux", medians, "photons/Angstrom (median of each spectrum)");
    build.add("flux_largest", "flux", largest, fmt::format("largest {:.5g}", largest));
    const FitsFile file(path, [](const FitsHdu& hdu) { return hdu.kind == FitsHduKind::Table; });
    if (const FitsHdu* hdu = file.find("TRUTH"); hdu != nullptr && hdu->kind == FitsHduKind::Table) {
        const FitsTable table = file.readTable(*hdu);
        if (table.hasColumn("TRUETYPE")) {
            std::map<std::string, std::int64_t> counts;
            for (const std::string& type : table.texts("TRUETYPE")) ++counts[printable(type)];
            InfoTable& kinds = build.table("types", "", {"type", "fibers"});
            std::string text;
            for (const auto& [type, count] : counts) {
                kinds.rows.push_back({type, count});
                text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, type);
            }
            build.add("", "fibers", std::monostate{}, text);
        }
    }
}

void inspectModel(InfoBuilder& build, const FitsFile& file) {
    const FitsHdu& hdu = file.require("MODEL");
    if (!hdu.isImage(2)) file.fail(hdu, fmt::format("{}, an image of columns x rows expected", hdu.shapeText()));
    build.add("nx", "CCD", hdu.shape[0], fmt::format("{} x {} pixels (columns x rows)", hdu.shape[0], hdu.shape[1]));
    build.add("ny", "CCD", hdu.shape[1], "");
    addExposure(build, file.hdus().front().header);
    std::vector<float> values(file.pixelCount(hdu));
    file.readImage(hdu, std::span<float>(values));
    double sum = 0.0;
    std::int64_t lit = 0;
    double largest = 0.0;
    for (const float value : values) {
        if (!(std::abs(value) > 0.0F)) continue;
        ++lit;
        sum += static_cast<double>(value);
        largest = std::max(largest, static_cast<double>(value));
    }
    build.add("electrons", "light", sum, fmt::format("{:.6g} electrons in {} pixels", sum, lit));
    build.add("pixels_lit", "light", lit, "");
    build.add("pixel_largest", "light", largest, fmt::format("largest {:.6g}", largest));
}

} // namespace

const InfoItem* FileInfo::find(std::string_view key) const {
    const auto found = std::find_if(items.begin(), items.end(), [&](const InfoItem& item) { return item.key == key; });
    return found == items.end() ? nullptr : &*found;
}

const InfoTable* FileInfo::findTable(std::string_view key) const {
    const auto found =
        std::find_if(tables.begin(), tables.end(), [&](const InfoTable& table) { return table.key == key; });
    return found == tables.end() ? nullptr : &*found;
}

std::string infoText(const InfoValue& value) {
    struct Visitor {
        std::string operator()(std::monostate) const { return {}; }
        std::string operator()(bool flag) const { return flag ? "yes" : "no"; }
        std::string operator()(std::int64_t number) const { return fmt::format("{}", number); }
        std::string operator()(double number) const { return fmt::format("{:.6g}", number); }
        std::string operator()(const std::string& text) const { return text; }
        std::string operator()(const std::vector<double>& numbers) const {
            std::string text;
            for (const double number : numbers) text += fmt::format("{}{:.6g}", text.empty() ? "" : " - ", number);
            return text;
        }
    };
    return std::visit(Visitor{}, value);
}

double resolutionFwhm(const double* column, std::size_t count, std::size_t stride) {
    std::size_t peak = 0;
    for (std::size_t k = 1; k < count; ++k) {
        if (column[k * stride] > column[peak * stride]) peak = k;
    }
    const double half = 0.5 * column[peak * stride];
    if (!(half > 0.0)) return std::numeric_limits<double>::quiet_NaN();
    const auto crossing = [&](int direction) -> double {
        auto k = static_cast<std::ptrdiff_t>(peak);
        while (true) {
            const std::ptrdiff_t next = k + direction;
            if (next < 0 || next >= static_cast<std::ptrdiff_t>(count)) return std::numeric_limits<double>::quiet_NaN();
            const double here = column[static_cast<std::size_t>(k) * stride];
            const double there = column[static_cast<std::size_t>(next) * stride];
            if (there <= half) return static_cast<double>(k) + direction * (here - half) / (here - there);
            k = next;
        }
    };
    return crossing(+1) - crossing(-1);
}

FileInfo inspectFile(const std::string& path) {
    // Headers first: the readers open the file again, and its data should not be in memory twice.
    const FitsFile headers(path, [](const FitsHdu&) { return false; });
    FileInfo info;
    info.path = headers.path();
    info.kind = fileKind(headers);
    info.bytes = headers.fileBytes();
    InfoBuilder build(info);
    switch (info.kind) {
    case FileKind::Psf:
        inspectPsf(build, path);
        break;
    case FileKind::CcdImage:
        inspectImage(build, path);
        break;
    case FileKind::Frame:
        inspectFrame(build, path);
        break;
    case FileKind::PatchFile:
        inspectPatch(build, FitsFile(path));
        break;
    case FileKind::Truth:
        inspectTruth(build, path);
        break;
    case FileKind::Model:
        inspectModel(build, FitsFile(path));
        break;
    case FileKind::Other:
        addExposure(build, headers.hdus().front().header);
        break;
    }
    addHdus(build, headers);
    return info;
}

} // namespace patchlight
