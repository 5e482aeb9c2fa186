#include "core/base/Error.h"
#include "core/io/FitsFile.h"
#include "core/io/FitsTableLayout.h"
#include "core/io/FitsWriter.h"
#include "core/psf/Psf.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <set>
#include <string_view>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace patchlight {

namespace {

constexpr std::int64_t maxPixels = 100000;     ///< NPIX_X, NPIX_Y
constexpr std::int64_t maxLegendreDegree = 31; ///< pack() takes 32 coefficients
constexpr double maxTrace = 1e6; ///< pixels; a trace coefficient beyond that is damage, and must not become an index
constexpr std::uint64_t maxPackedBytes = std::uint64_t{1} << 29;

/// Rows of the PSF table that the spots are made of; others (CONT, BUNDLE, STATUS ...) are kept but may hold anything.
bool isSpotParameter(std::string_view name) {
    return name == "X" || name == "Y" || name.starts_with("GH") || name.starts_with("TAIL");
}

/// A keyword of the PSF table's header that must be an integer of a range.
int requireInteger(const FitsFile& file, const FitsHdu& hdu, const char* keyword, std::int64_t lowest,
                   std::int64_t highest) {
    const std::optional<std::int64_t> value = hdu.header.integer(keyword);
    if (!value || *value < lowest || *value > highest) {
        const std::optional<std::string> text = hdu.header.text(keyword);
        file.fail(hdu, fmt::format("{} {}, {} to {} expected", keyword, text ? "= " + printable(*text) : "is missing",
                                   lowest, highest));
    }
    return static_cast<int>(*value);
}

double requireNumber(const FitsFile& file, const FitsHdu& hdu, const char* keyword) {
    const std::optional<double> value = hdu.header.number(keyword);
    if (!value) {
        const std::optional<std::string> text = hdu.header.text(keyword);
        file.fail(hdu, fmt::format("{} {}, a number expected", keyword, text ? "= " + printable(*text) : "is missing"));
    }
    return *value;
}

void checkDomain(const FitsFile& file, const FitsHdu& hdu, const std::string& parameter, double wavemin,
                 double wavemax) {
    if (!std::isfinite(wavemin) || !std::isfinite(wavemax) || !(wavemin < wavemax))
        file.fail(hdu, fmt::format("{}WAVEMIN = {}, WAVEMAX = {}: WAVEMIN must be below WAVEMAX",
                                   parameter.empty() ? "" : parameter + ": ", wavemin, wavemax));
}

void checkCoefficients(const FitsFile& file, const FitsHdu& hdu, const std::string& parameter,
                       const std::vector<double>& coeff, int ncoeff) {
    const bool trace = parameter == "X" || parameter == "Y";
    for (std::size_t i = 0; i < coeff.size(); ++i) {
        if (std::isfinite(coeff[i]) && !(trace && std::abs(coeff[i]) > maxTrace)) continue;
        file.fail(hdu, fmt::format("{} has the coefficient {} (spectrum {}, order {}), {} expected", parameter,
                                   coeff[i], i / static_cast<std::size_t>(ncoeff), i % static_cast<std::size_t>(ncoeff),
                                   trace ? fmt::format("a trace within {} pixels", maxTrace) : "finite numbers"));
    }
}

/// PSFTYPE from the header of the table, else from the primary's.
PsfType readType(const FitsFile& file, const FitsHdu& table) {
    constexpr std::string_view readable = "GAUSS-HERMITE or GAUSS-HERMITE2";
    for (const FitsHdu* hdu : {&table, &file.hdus().front()}) {
        const std::optional<std::string> type = hdu->header.text("PSFTYPE");
        if (!type) continue;
        if (sameFitsName(*type, "GAUSS-HERMITE")) return PsfType::GaussHermite;
        if (sameFitsName(*type, "GAUSS-HERMITE2")) return PsfType::GaussHermite2;
        file.fail(*hdu, fmt::format("PSFTYPE = '{}', {} expected", printable(*type), readable));
    }
    throw Error(fmt::format("{}: PSFTYPE is missing, {} expected: not a PSF file", printable(file.path()), readable));
}

/// The table of parameters: HDU PSF, else (PSFVER 1 and 2) the first table.
const FitsHdu& findTable(const FitsFile& file) {
    if (const FitsHdu* named = file.find("PSF")) return *named;
    // A PSF of another type may hold no table at all: its type is the better message.
    const FitsHdu& primary = file.hdus().front();
    if (primary.header.has("PSFTYPE")) (void)readType(file, primary);
    for (const FitsHdu& hdu : file.hdus())
        if (hdu.kind == FitsHduKind::Table && hdu.header.has("PSFTYPE")) return hdu;
    for (const FitsHdu& hdu : file.hdus())
        if (hdu.kind == FitsHduKind::Table) return hdu;
    if (!primary.header.has("PSFTYPE")) (void)readType(file, primary);
    throw Error(
        fmt::format("{}: the table of PSF parameters is missing (HDU PSF, or for PSFVER 1 and 2 the first table)",
                    printable(file.path())));
}

/// XTRACE or YTRACE of a PSFVER 3 file.
LegendreSeries readTrace(FitsFile& file, const char* name, const char* parameter, int& nspec) {
    const FitsHdu& hdu = file.require(name);
    // One spectrum may come as an image of one axis.
    if (!hdu.isImage(2) && !hdu.isImage(1))
        file.fail(hdu, fmt::format("{}, an image of coefficients x spectra expected", hdu.shapeText()));
    if (hdu.shape[0] > maxLegendreDegree + 1)
        file.fail(hdu, fmt::format("NAXIS1 = {}: 1 to {} Legendre coefficients expected", hdu.shape[0],
                                   maxLegendreDegree + 1));
    const std::int64_t rows = hdu.shape.size() == 2 ? hdu.shape[1] : 1;
    if (rows > std::numeric_limits<int>::max()) file.fail(hdu, fmt::format("NAXIS2 = {}: too many spectra", rows));
    nspec = static_cast<int>(rows);
    LegendreSeries series;
    series.ncoeff = static_cast<int>(hdu.shape[0]);
    series.coeff.resize(file.pixelCount(hdu));
    file.readImage(hdu, std::span<double>(series.coeff));
    series.wavemin = requireNumber(file, hdu, "WAVEMIN");
    series.wavemax = requireNumber(file, hdu, "WAVEMAX");
    checkDomain(file, hdu, "", series.wavemin, series.wavemax);
    checkCoefficients(file, hdu, parameter, series.coeff, series.ncoeff);
    return series;
}

/// Legendre coefficients a spectrum in the column COEFF: from its TDIM, else from LEGDEG or NCOEFMAX.
int coefficientsPerSpectrum(const FitsFile& file, const FitsHdu& hdu, const FitsColumn& column) {
    std::int64_t fromKeyword = 0;
    if (hdu.header.has("LEGDEG"))
        fromKeyword = requireInteger(file, hdu, "LEGDEG", 0, maxLegendreDegree) + 1;
    else if (hdu.header.has("NCOEFMAX"))
        fromKeyword = requireInteger(file, hdu, "NCOEFMAX", 1, maxLegendreDegree + 1);
    std::int64_t count = fromKeyword;
    if (!column.dims.empty())
        count = static_cast<std::int64_t>(column.dims[0]);
    else if (fromKeyword == 0)
        file.fail(hdu,
                  fmt::format("neither LEGDEG nor TDIM{} tells how many coefficients a spectrum has", column.number));
    if (count < 1 || count > maxLegendreDegree + 1)
        file.fail(hdu, fmt::format("TDIM{}: {} Legendre coefficients, 1 to {} expected", column.number, count,
                                   maxLegendreDegree + 1));
    if (fromKeyword != 0 && fromKeyword != count)
        spdlog::warn("{}: LEGDEG tells of {} coefficients, TDIM{} of {}; these are read", file.where(hdu), fromKeyword,
                     column.number, count);
    return static_cast<int>(count);
}

void readParameters(FitsFile& file, const FitsHdu& hdu, Psf& psf) {
    const bool ownDomains = psf.version < 3;
    const FitsTable table = file.readTable(hdu);
    const std::vector<FitsColumn> columns = fitsColumns(table.header, table.rowBytes, file.where(hdu));
    const auto column =
        std::find_if(columns.begin(), columns.end(), [](const FitsColumn& c) { return sameFitsName(c.name, "COEFF"); });
    if (column == columns.end() || !table.hasColumn("PARAM"))
        file.fail(hdu, fmt::format("column {} is missing", column == columns.end() ? "COEFF" : "PARAM"));
    const std::vector<std::string> names = table.texts("PARAM");
    const std::vector<double> coeff = table.numbers("COEFF");
    const int ncoeff = coefficientsPerSpectrum(file, hdu, *column);
    const std::size_t perRow = column->repeat;
    if (perRow == 0 || perRow % static_cast<std::size_t>(ncoeff) != 0)
        file.fail(hdu, fmt::format("COEFF has {} numbers a row, a multiple of {} (coefficients a spectrum) expected",
                                   perRow, ncoeff));
    const std::size_t nspec = perRow / static_cast<std::size_t>(ncoeff);
    if (!ownDomains && nspec != static_cast<std::size_t>(psf.nspec))
        file.fail(hdu, fmt::format("COEFF holds {} spectra, XTRACE {}", nspec, psf.nspec));
    if (nspec > static_cast<std::size_t>(std::numeric_limits<int>::max()))
        file.fail(hdu, fmt::format("COEFF holds {} spectra: too many", nspec));
    psf.nspec = static_cast<int>(nspec);

    std::vector<double> wavemin(table.rowCount);
    std::vector<double> wavemax(table.rowCount);
    if (ownDomains) {
        wavemin = table.numbers("WAVEMIN");
        wavemax = table.numbers("WAVEMAX");
        if (wavemin.size() != table.rowCount || wavemax.size() != table.rowCount)
            file.fail(hdu, "columns WAVEMIN and WAVEMAX: one number a row expected");
    } else {
        wavemin.assign(table.rowCount, requireNumber(file, hdu, "WAVEMIN"));
        wavemax.assign(table.rowCount, requireNumber(file, hdu, "WAVEMAX"));
        checkDomain(file, hdu, "", wavemin.empty() ? 0 : wavemin[0], wavemax.empty() ? 1 : wavemax[0]);
    }
    for (std::size_t row = 0; row < table.rowCount; ++row) {
        const std::string name = printable(names[row].substr(
            names[row].find_first_not_of(' ') == std::string::npos ? 0 : names[row].find_first_not_of(' ')));
        if (name.empty()) continue;
        LegendreSeries series;
        series.ncoeff = ncoeff;
        series.wavemin = wavemin[row];
        series.wavemax = wavemax[row];
        const auto first = coeff.begin() + static_cast<std::ptrdiff_t>(row * perRow);
        series.coeff.assign(first, first + static_cast<std::ptrdiff_t>(perRow));
        if (isSpotParameter(name)) {
            checkDomain(file, hdu, name, series.wavemin, series.wavemax);
            checkCoefficients(file, hdu, name, series.coeff, ncoeff);
        } else if (!(series.wavemin < series.wavemax)) {
            continue; // a row that nobody evaluates
        }
        psf.series.insert_or_assign(name, std::move(series));
    }
    // The other parameters are looked for by pack(); without these there would be no spot, or none that can be placed.
    for (const char* name : {"X", "Y", "GHSIGX", "GHSIGY", "GH-0-0"})
        if (!psf.series.contains(name)) file.fail(hdu, fmt::format("the row PARAM = '{}' is missing", name));
}

/// BnnRCHI2 of each bundle, with the STATUS of its spectra where the file has that row.
std::vector<BundleFit> readBundleFits(const Psf& psf) {
    std::vector<BundleFit> fits;
    const auto bundles = psf.series.find("BUNDLE");
    const auto status = psf.series.find("STATUS");
    const auto constantTerm = [](const LegendreSeries& series, int spectrum) {
        return series.coeff[static_cast<std::size_t>(spectrum) * static_cast<std::size_t>(series.ncoeff)];
    };
    std::set<int> present;
    if (bundles != psf.series.end())
        for (int spectrum = 0; spectrum < psf.nspec; ++spectrum)
            if (const double value = constantTerm(bundles->second, spectrum); value >= 0 && value < 100)
                present.insert(static_cast<int>(value));
    constexpr int mostBundles = 100; // two digits in the keyword
    for (int bundle = 0; bundle < mostBundles; ++bundle) {
        const std::optional<double> rchi2 = psf.header.number(fmt::format("B{:02}RCHI2", bundle));
        if (!rchi2 || (!present.empty() && !present.contains(bundle)))
            continue; // specex leaves the keywords of all bundles in a file that holds one
        BundleFit fit;
        fit.bundle = bundle;
        fit.rchi2 = *rchi2;
        if (status != psf.series.end() && !present.empty())
            for (int spectrum = 0; spectrum < psf.nspec; ++spectrum)
                if (constantTerm(bundles->second, spectrum) == bundle) {
                    const double value = constantTerm(status->second, spectrum);
                    // One spectrum that was not fitted marks its bundle.
                    if (std::abs(value) < 1e6 &&
                        (value < 0 ? value < fit.status : fit.status >= 0 && value > fit.status))
                        fit.status = static_cast<int>(value);
                }
        fits.push_back(fit);
    }
    return fits;
}

void readOffsets(FitsFile& file, Psf& psf) {
    for (const FitsHdu& hdu : file.hdus()) {
        const bool internal = sameFitsName(hdu.name, "INTOFF");
        if (!internal && !sameFitsName(hdu.name, "EXTOFF")) continue;
        try {
            const FitsTable table = file.readTable(hdu);
            WavelengthOffsets offsets;
            offsets.name = internal ? "INTOFF" : "EXTOFF";
            offsets.fiber = table.integers("FIBER");
            offsets.wave = table.numbers("WAVE");
            offsets.dwave = table.numbers("DWAVE");
            offsets.dwaveError = table.numbers("DWAVE_ERR");
            psf.offsets.push_back(std::move(offsets));
        } catch (const Error& error) {
            // They are shown, not used: no reason to fail.
            spdlog::warn("{}; the table is left out", error.what());
        }
    }
}

Psf psfFrom(FitsFile& file) {
    Psf psf;
    psf.path = file.path();
    const FitsHdu& table = findTable(file);
    psf.type = readType(file, table);
    psf.primaryHeader = file.hdus().front().header;
    psf.header = table.header;

    std::optional<double> version = table.header.number("PSFVER");
    if (!version) version = psf.primaryHeader.number("PSFVER");
    if (!version) version = file.find("XTRACE") != nullptr ? 3 : 2; // the layout tells
    if (!(*version >= 1 && *version < 4)) file.fail(table, fmt::format("PSFVER = {}, 1, 2 or 3 expected", *version));
    psf.version = static_cast<int>(*version);

    psf.nx = requireInteger(file, table, "NPIX_X", 1, maxPixels);
    psf.ny = requireInteger(file, table, "NPIX_Y", 1, maxPixels);
    constexpr int maxHalfSize = (maxStampSize - 1) / 2;
    psf.hsizeX = requireInteger(file, table, "HSIZEX", 1, maxHalfSize);
    psf.hsizeY = requireInteger(file, table, "HSIZEY", 1, maxHalfSize);
    psf.degX = requireInteger(file, table, "GHDEGX", 0, maxHermiteDegree);
    psf.degY = requireInteger(file, table, "GHDEGY", 0, maxHermiteDegree);
    if (psf.type == PsfType::GaussHermite2) {
        psf.degX2 = requireInteger(file, table, "GHDEGX2", 0, maxHermiteDegree);
        psf.degY2 = requireInteger(file, table, "GHDEGY2", 0, maxHermiteDegree);
    }
    // specex writes PSFERROR, specter reads PSFERR.
    const double psferror = table.header.number("PSFERROR").value_or(0.0);
    psf.psferr = table.header.number("PSFERR").value_or(psferror > 0 ? psferror : 0.01);
    if (!(psf.psferr >= 0 && psf.psferr < 1e6))
        file.fail(table, fmt::format("PSFERR = {}, a fraction from 0 up expected", psf.psferr));

    if (psf.version >= 3) {
        int rows = 0;
        psf.series["X"] = readTrace(file, "XTRACE", "X", psf.nspec);
        psf.series["Y"] = readTrace(file, "YTRACE", "Y", rows);
        if (rows != psf.nspec)
            file.fail(file.require("YTRACE"), fmt::format("{} spectra, XTRACE holds {}", rows, psf.nspec));
    }
    readParameters(file, table, psf);

    const std::optional<std::int64_t> fibermin = table.header.integer("FIBERMIN");
    const std::optional<std::int64_t> fibermax = table.header.integer("FIBERMAX");
    constexpr std::int64_t anyFiber = 1000000000;
    if (fibermin && std::abs(*fibermin) <= anyFiber) psf.fibermin = static_cast<int>(*fibermin);
    if (fibermin && fibermax && std::abs(*fibermin) <= anyFiber && std::abs(*fibermax) <= anyFiber &&
        *fibermax - *fibermin + 1 != psf.nspec)
        spdlog::warn("{}: FIBERMIN = {}, FIBERMAX = {}, but the coefficients are of {} spectra; these are used",
                     file.where(table), *fibermin, *fibermax, psf.nspec);

    // A few bytes of file must not become gigabytes of packed zeros.
    const std::uint64_t parameters = FirstGaussHermite + static_cast<std::uint64_t>((psf.degX + 1) * (psf.degY + 1) +
                                                                                    (psf.degX2 + 1) * (psf.degY2 + 1));
    std::uint64_t ncoeff = 1;
    for (const auto& [name, series] : psf.series) ncoeff = std::max(ncoeff, static_cast<std::uint64_t>(series.ncoeff));
    if (static_cast<std::uint64_t>(psf.nspec) * parameters * ncoeff * sizeof(double) > maxPackedBytes)
        file.fail(table, fmt::format("{} spectra x {} parameters x {} coefficients: more than a PSF holds", psf.nspec,
                                     parameters, ncoeff));
    psf.bundleFits = readBundleFits(psf);
    readOffsets(file, psf);
    psf.pack();
    return psf;
}

} // namespace

Psf readPsf(const std::string& path) {
    try {
        FitsFile file(path);
        return psfFrom(file);
    } catch (const std::bad_alloc&) {
        throw Error(fmt::format("{}: not enough memory for this PSF", printable(path)));
    }
}

namespace {

/// Bytes of table rows, big-endian.
class RowBuilder {
public:
    explicit RowBuilder(FitsTable& table) : table_(table) {}
    void text(std::string_view value, std::size_t width) {
        for (std::size_t i = 0; i < width; ++i)
            table_.bytes.push_back(static_cast<std::uint8_t>(i < value.size() ? value[i] : ' '));
    }
    void number(double value) {
        std::uint64_t bits = 0;
        std::memcpy(&bits, &value, sizeof bits);
        put(bits, sizeof bits);
    }
    void integer64(std::int64_t value) { put(static_cast<std::uint64_t>(value), sizeof value); }

private:
    void put(std::uint64_t bits, int bytes) {
        for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8)
            table_.bytes.push_back(static_cast<std::uint8_t>(bits >> shift));
    }
    FitsTable& table_;
};

struct ColumnSpec {
    const char* name;
    std::string format;
    const char* unit = "";
};

/// An empty table: TTYPEn, TFORMn, TUNITn.
FitsTable makeTable(const std::string& name, const std::vector<ColumnSpec>& columns) {
    FitsTable table;
    table.name = name;
    table.header.set("TFIELDS", static_cast<std::int64_t>(columns.size()));
    for (std::size_t i = 0; i < columns.size(); ++i) {
        table.header.set(fmt::format("TTYPE{}", i + 1), columns[i].name);
        table.header.set(fmt::format("TFORM{}", i + 1), columns[i].format);
        if (columns[i].unit[0] != '\0') table.header.set(fmt::format("TUNIT{}", i + 1), columns[i].unit);
    }
    for (const FitsColumn& column : fitsColumns(table.header, std::numeric_limits<std::size_t>::max(), name))
        table.rowBytes += column.bytes();
    return table;
}

/// Keywords of the table that follow from the PSF itself.
void setPsfKeywords(FitsHeader& header, const Psf& psf, int version, int ncoeff, std::size_t parameters) {
    header.set("PSFTYPE", psf.type == PsfType::GaussHermite ? "GAUSS-HERMITE" : "GAUSS-HERMITE2");
    header.set("PSFVER", fmt::format("{}", version)); // text, as specex writes it and specter expects it
    header.set("NPIX_X", psf.nx, "number of columns of the CCD image");
    header.set("NPIX_Y", psf.ny, "number of rows of the CCD image");
    header.set("HSIZEX", psf.hsizeX, "half size of the PSF, columns");
    header.set("HSIZEY", psf.hsizeY, "half size of the PSF, rows");
    header.set("FIBERMIN", psf.fibermin, "first fiber");
    header.set("FIBERMAX", psf.fibermin + psf.nspec - 1, "last fiber (included)");
    header.set("NPARAMS", static_cast<std::int64_t>(parameters), "number of PSF parameters");
    header.set("LEGDEG", ncoeff - 1, "degree of the Legendre series in wavelength");
    header.set("GHDEGX", psf.degX, "degree of Hermite polynomials along columns");
    header.set("GHDEGY", psf.degY, "degree of Hermite polynomials along rows");
    if (psf.type == PsfType::GaussHermite2) {
        header.set("GHDEGX2", psf.degX2, "degree along columns, second core");
        header.set("GHDEGY2", psf.degY2, "degree along rows, second core");
    }
    header.set("PSFERR", psf.psferr, "fractional error of the PSF model");
    for (const BundleFit& fit : psf.bundleFits)
        if (fit.bundle >= 0 && fit.bundle < 100 && std::isfinite(fit.rchi2))
            header.set(fmt::format("B{:02}RCHI2", fit.bundle), fit.rchi2,
                       fmt::format("chi2/ndf of the fit of bundle {}", fit.bundle));
}

/// The order in which specex writes the rows: sigmas, core i fastest, second core, tail, the rest.
std::vector<std::string> parameterOrder(const Psf& psf, bool withTraces) {
    std::vector<std::string> order;
    const auto add = [&](const std::string& name) {
        if (psf.series.contains(name) && std::find(order.begin(), order.end(), name) == order.end())
            order.push_back(name);
    };
    if (withTraces)
        for (const char* name : {"X", "Y"}) add(name);
    for (const char* name : {"GHSIGX", "GHSIGY", "GHNSIG", "GHSIGX2", "GHSIGY2"}) add(name);
    for (int j = 0; j <= psf.degY; ++j)
        for (int i = 0; i <= psf.degX; ++i) add(fmt::format("GH-{}-{}", i, j));
    for (int j = 0; j <= psf.degY2; ++j)
        for (int i = 0; i <= psf.degX2; ++i) add(fmt::format("GH2-{}-{}", i, j));
    for (const char* name : {"TAILAMP", "TAILCORE", "TAILXSCA", "TAILYSCA", "TAILINDE"}) add(name);
    for (const auto& [name, series] : psf.series)
        if (withTraces || (name != "X" && name != "Y")) add(name);
    return order;
}

void writeTrace(FitsWriter& writer, const Psf& psf, const char* name, const char* parameter,
                const FitsHeader& carried) {
    const LegendreSeries& series = psf.series.at(parameter);
    FitsImageSpec spec;
    spec.name = name;
    spec.shape = {series.ncoeff, psf.nspec};
    spec.header = carried;
    spec.header.set("FIBERMIN", psf.fibermin);
    spec.header.set("FIBERMAX", psf.fibermin + psf.nspec - 1);
    spec.header.set("WAVEMIN", series.wavemin, "Angstrom, u = -1");
    spec.header.set("WAVEMAX", series.wavemax, "Angstrom, u = +1");
    writer.addImage(spec, std::span<const double>(series.coeff));
}

} // namespace

void writePsf(const std::string& path, const Psf& psf) {
    Psf checked = psf; // pack() tells what is inconsistent
    checked.path = path;
    checked.pack();

    // PSFVER 3 has one wavelength domain for all rows of the table. A PSF that needs more, or two cores, is written as PSFVER 2.
    const LegendreSeries& sigma = psf.series.at("GHSIGX");
    int version = psf.type == PsfType::GaussHermite ? 3 : 2;
    for (const auto& [name, series] : psf.series)
        if (name != "X" && name != "Y" && (series.wavemin != sigma.wavemin || series.wavemax != sigma.wavemax))
            version = 2;
    const std::vector<std::string> order = parameterOrder(psf, version < 3);
    int ncoeff = 1;
    for (const std::string& name : order) ncoeff = std::max(ncoeff, psf.series.at(name).ncoeff);
    const std::size_t perRow = static_cast<std::size_t>(psf.nspec) * static_cast<std::size_t>(ncoeff);
    std::size_t width = 8;
    for (const std::string& name : order) width = std::max(width, name.size());

    std::vector<ColumnSpec> columns = {{"PARAM", fmt::format("{}A", width)}};
    if (version < 3) {
        columns.push_back({"WAVEMIN", "D", "Angstrom"});
        columns.push_back({"WAVEMAX", "D", "Angstrom"});
    }
    columns.push_back({"COEFF", fmt::format("{}D", perRow)});
    FitsTable table = makeTable(version < 3 ? "" : "PSF", columns);
    table.header.set(fmt::format("TDIM{}", columns.size()), fmt::format("({},{})", ncoeff, psf.nspec));
    for (const std::string& card : psf.header.cards())
        if (!FitsHeader::isStructural(card) && !card.starts_with("EXTNAME ") && !card.starts_with("NCOEFMAX"))
            table.header.addCard(card);
    setPsfKeywords(table.header, psf, version, ncoeff, order.size());
    if (version >= 3) {
        table.header.set("WAVEMIN", sigma.wavemin, "Angstrom, u = -1");
        table.header.set("WAVEMAX", sigma.wavemax, "Angstrom, u = +1");
    }
    table.rowCount = order.size();
    table.bytes.reserve(table.rowBytes * table.rowCount);
    RowBuilder rows(table);
    for (const std::string& name : order) {
        const LegendreSeries& series = psf.series.at(name);
        rows.text(name, width);
        if (version < 3) {
            rows.number(series.wavemin);
            rows.number(series.wavemax);
        }
        for (int spectrum = 0; spectrum < psf.nspec; ++spectrum)
            for (int order1 = 0; order1 < ncoeff; ++order1)
                rows.number(
                    order1 < series.ncoeff
                        ? series.coeff[static_cast<std::size_t>(spectrum) * static_cast<std::size_t>(series.ncoeff) +
                                       static_cast<std::size_t>(order1)]
                        : 0.0);
    }

    FitsWriter writer(path);
    FitsHeader primary = psf.primaryHeader;
    primary.set("PSFTYPE", psf.type == PsfType::GaussHermite ? "GAUSS-HERMITE" : "GAUSS-HERMITE2");
    primary.set("PSFVER", fmt::format("{}", version));
    if (version >= 3) {
        writeTrace(writer, psf, "XTRACE", "X", primary);
        writeTrace(writer, psf, "YTRACE", "Y", {});
    } else {
        FitsImageSpec empty;
        empty.header = primary;
        for (const char* keyword :
             {"WAVEMIN", "WAVEMAX", "FIBERMIN", "FIBERMAX"}) // of an XTRACE that the primary may have been
            empty.header.remove(keyword);
        writer.addImage(empty, std::span<const float>());
    }
    writer.addTable(table);
    for (const WavelengthOffsets& offsets : psf.offsets) {
        FitsTable out = makeTable(
            offsets.name,
            {{"FIBER", "K"}, {"WAVE", "D", "Angstrom"}, {"DWAVE", "D", "Angstrom"}, {"DWAVE_ERR", "D", "Angstrom"}});
        const std::size_t count = offsets.fiber.size();
        if (offsets.wave.size() != count || offsets.dwave.size() != count || offsets.dwaveError.size() != count)
            throw Error(fmt::format("{}: {}: columns of different length", printable(path), offsets.name));
        out.rowCount = count;
        RowBuilder builder(out);
        for (std::size_t i = 0; i < count; ++i) {
            builder.integer64(offsets.fiber[i]);
            builder.number(offsets.wave[i]);
            builder.number(offsets.dwave[i]);
            builder.number(offsets.dwaveError[i]);
        }
        writer.addTable(out);
    }
    writer.commit();
}

} // namespace patchlight
