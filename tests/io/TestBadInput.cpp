#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "tests/io/CfitsioFile.h"
#include "tests/io/FitsBytes.h"
#include "tests/io/SmallPsf.h"
#include "tests/support/Sanitizers.h"

#include <QDir>
#include <QElapsedTimer>
#include <QFile>
#include <QObject>
#include <QTemporaryDir>
#include <QTest>

#include <spdlog/spdlog.h>

#include <algorithm>
#include <functional>
#include <random>
#include <set>

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

using namespace patchlight;
using namespace fitsbytes;

/// What the readers say of files that are damaged, absurd or something else: one line that names the culprit, never a crash, a
/// hang or a giant allocation.
class TestBadInput : public QObject {
    Q_OBJECT
private slots:
    void initTestCase();
    void goodFilesAreGood();
    void notAFile_data();
    void notAFile();
    void damaged_data();
    void damaged();
    void truncated_data();
    void truncated();
    void randomDamage_data();
    void randomDamage();
    void outOfMemory_data();
    void outOfMemory();

private:
    QTemporaryDir folder_;
    [[nodiscard]] QString file(const QString& name) const { return folder_.filePath(name); }
    [[nodiscard]] std::string path(const QString& name) const { return file(name).toStdString(); }
};

namespace {

using Reader = std::function<void(const std::string&)>;

const std::map<std::string, Reader>& readers() {
    static const std::map<std::string, Reader> all = {
        {"image", [](const std::string& path) { (void)readCcdImage(path, {true}); }},
        {"psf", [](const std::string& path) { (void)readPsf(path); }},
        {"frame", [](const std::string& path) { (void)readFrame(path); }},
    };
    return all;
}

std::string gzip(const std::string& bytes) {
    z_stream stream = {};
    deflateInit2(&stream, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
    std::string out(bytes.size() + 1000, '\0');
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
    stream.avail_in = static_cast<uInt>(bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(out.size());
    deflate(&stream, Z_FINISH);
    out.resize(out.size() - stream.avail_out);
    deflateEnd(&stream);
    return out;
}

/// One way to damage a good file.
struct Damage {
    const char* name;
    const char* file; ///< the good file; its begin ("image", "psf", "frame") tells the reader
    std::function<void(std::string&)> apply;
    std::vector<std::string> says; ///< parts of the message
};

std::function<void(std::string&)> value(const char* keyword, const char* text, int occurrence = 0) {
    return [=](std::string& bytes) { setValue(bytes, keyword, text, occurrence); };
}
std::function<void(std::string&)> drop(const char* keyword, int occurrence = 0) {
    return [=](std::string& bytes) { replaceCard(bytes, keyword, "COMMENT was " + std::string(keyword), occurrence); };
}
/// Renames an HDU.
std::function<void(std::string&)> rename(const char* from, const char* to) {
    return [=](std::string& bytes) {
        const std::size_t at = findCard(bytes, "EXTNAME = '" + std::string(from));
        bytes.replace(at, 80, card("EXTNAME", "'" + std::string(to) + "'"));
    };
}
/// Puts other bytes at the begin of an HDU's data, `offset` bytes from there. HDUs are found by EXTNAME.
std::function<void(std::string&)> data(const char* name, std::size_t offset, const std::string& with) {
    return [=](std::string& bytes) {
        std::size_t at = findCard(bytes, "EXTNAME = '" + std::string(name));
        while (bytes.compare(at, 8, "END     ") != 0) at += 80;
        at = (at / 2880 + 1) * 2880;
        bytes.replace(at + offset, with.size(), with);
    };
}
std::function<void(std::string&)> both(const std::function<void(std::string&)>& a,
                                       const std::function<void(std::string&)>& b) {
    return [=](std::string& bytes) {
        a(bytes);
        b(bytes);
    };
}

const std::string nanBytes = bigEndian(std::numeric_limits<double>::quiet_NaN());

const std::vector<Damage>& damages() {
    static const std::vector<Damage> all = {
        // Structure, whatever the file holds.
        {"SIMPLE missing", "image.fits", drop("SIMPLE"), {"not a FITS file", "SIMPLE"}},
        {"BITPIX 7", "image.fits", value("BITPIX", "7"), {"HDU 0 (IMAGE)", "BITPIX = 7"}},
        {"BITPIX text", "image.fits", value("BITPIX", "'many'"), {"HDU 0 (IMAGE)", "BITPIX = many"}},
        {"NAXIS missing", "image.fits", drop("NAXIS"), {"HDU 0 (IMAGE)", "NAXIS expected as card 3"}},
        {"NAXIS negative", "image.fits", value("NAXIS", "-2"), {"NAXIS = -2"}},
        {"NAXIS 999", "image.fits", value("NAXIS", "999"), {"NAXIS = 999"}},
        {"NAXIS 1", "image.fits", value("NAXIS", "1"), {"HDU 0 (IMAGE)", "12, an image of two axes"}},
        {"NAXIS 3", "image.fits", value("NAXIS", "3"), {"HDU 0 (IMAGE)", "NAXIS3 expected as card 6"}},
        {"NAXIS1 negative", "image.fits", value("NAXIS1", "-12"), {"NAXIS1 = -12"}},
        {"NAXIS1 0", "image.fits", value("NAXIS1", "0"), {"0 x 10"}},
        {"NAXIS1 a little too large",
         "image.fits",
         value("NAXIS1", "1200"),
         {"HDU 0 (IMAGE)", "1200 x 10", "truncated"}},
        {"NAXIS1 2^31", "image.fits", value("NAXIS1", "2147483648"), {"HDU 0 (IMAGE)", "2147483648 x 10", "truncated"}},
        {"NAXIS1 2^62",
         "image.fits",
         value("NAXIS1", "4611686018427387904"),
         {"HDU 0 (IMAGE)", "NAXISn", "more data than any file"}},
        {"NAXIS1 beyond 64 bits",
         "image.fits",
         value("NAXIS1", "92233720368547758080"),
         {"NAXIS1 = 92233720368547758080"}},
        {"NAXIS1 real", "image.fits", value("NAXIS1", "12.5"), {"NAXIS1 = 12.5"}},
        {"product overflows",
         "image.fits",
         both(value("NAXIS1", "4294967296"), value("NAXIS2", "4294967296")),
         {"NAXISn", "more data than any"}},
        {"PCOUNT missing", "image.fits", drop("PCOUNT"), {"HDU 1 (IVAR)", "PCOUNT expected"}},
        {"PCOUNT negative", "image.fits", value("PCOUNT", "-1"), {"HDU 1 (IVAR)", "PCOUNT = -1"}},
        {"GCOUNT huge", "image.fits", value("GCOUNT", "9223372036854775807"), {"HDU 1 (IVAR)", "more data than any"}},
        {"no END",
         "image.fits",
         [](std::string& bytes) { bytes = padded(bytes.substr(0, 80 * 5), ' '); },
         {"no END", "truncated"}},
        {"a header without end",
         "image.fits",
         [](std::string& bytes) { bytes = bytes.substr(0, 240) + std::string(20'000'000 / 2880 * 2880 - 240, ' '); },
         {"no END"}},
        // Images.
        {"image: no IMAGE", "image.fits", rename("IMAGE", "BIAS"), {"HDU IMAGE is missing", "BIAS, IVAR, MASK"}},
        {"image: no IVAR", "image.fits", rename("IVAR", "VARIANCE"), {"HDU IVAR is missing", "VARIANCE"}},
        {"image: a PSF", "psf3.fits image", [](std::string&) {}, {"HDU IMAGE is missing", "XTRACE"}},
        {"image: IVAR of another shape",
         "image.fits",
         both(value("NAXIS1", "10", 1), value("NAXIS2", "12", 1)),
         {"HDU 1 (IVAR)", "10 x 12", "12 x 10 expected as in IMAGE"}},
        {"image: MASK of another shape",
         "plainmask.fits image",
         both(value("NAXIS1", "10", 2), value("NAXIS2", "12", 2)),
         {"HDU 2 (MASK)", "10 x 12"}},
        {"image: MASK of floats", "plainmask.fits image", value("BITPIX", "-32", 2), {"HDU 2 (MASK)", "BITPIX = -32"}},
        {"image: MASK scaled",
         "plainmask.fits image",
         [](std::string& bytes) { bytes.replace(findCard(bytes, "EXTNAME = 'MASK") + 80, 80, card("BSCALE", "1.5")); },
         {"HDU 2 (MASK)", "BSCALE = 1.5"}},
        {"image: READNOISE of another shape",
         "image.fits",
         both(value("NAXIS1", "10", 3), value("NAXIS2", "12", 3)),
         {"HDU 3 (READNOISE)"}},
        {"image: BZERO text",
         "image.fits",
         [](std::string& bytes) {
             bytes.replace(findCard(bytes, "EXTNAME = 'IVAR") + 80, 80, card("BZERO", "'zero'"));
         },
         {"HDU 1 (IVAR)", "BZERO = zero"}},
        {"image: too long a side",
         "image.fits",
         [](std::string& bytes) {
             setValue(bytes, "BITPIX", "8");
             setValue(bytes, "NAXIS1", "200000");
             setValue(bytes, "NAXIS2", "1");
             bytes.insert(2880, std::string(200000, '\0'));
             bytes.resize(padded(bytes, ' ').size());
         },
         {"HDU 0 (IMAGE)", "200000 x 1"}},
        {"image: FIBERMAP is no table",
         "image.fits",
         value("XTENSION", "'STRANGE '", 3),
         {"HDU 4 (FIBERMAP)", "BINTABLE"}},
        {"image: FIBERMAP columns too wide",
         "image.fits",
         value("TFORM2", "'99J'"),
         {"HDU 4 (FIBERMAP)", "NAXIS1 = 12"}},
        {"image: FIBERMAP compressed",
         "image.fits",
         [](std::string& bytes) {
             bytes.replace(findCard(bytes, "EXTNAME = 'FIBERMAP") + 80 * 5, 80, card("ZTABLE", "T"));
         },
         {"HDU 4 (FIBERMAP)", "ZTABLE"}},
        // Tile-compressed images.
        {"tiles: ZCMPTYPE unknown", "image.fits", value("ZCMPTYPE", "'LZMA_9'"), {"HDU 2 (MASK)", "ZCMPTYPE = LZMA_9"}},
        {"tiles: HCOMPRESS",
         "image.fits",
         value("ZCMPTYPE", "'HCOMPRESS_1'"),
         {"HDU 2 (MASK)", "ZCMPTYPE = HCOMPRESS_1"}},
        {"tiles: ZBITPIX", "image.fits", value("ZBITPIX", "5"), {"HDU 2 (MASK)", "ZBITPIX = 5"}},
        {"tiles: ZBITPIX 64", "image.fits", value("ZBITPIX", "64"), {"HDU 2 (MASK)", "ZBITPIX = 64"}},
        {"tiles: ZNAXIS", "image.fits", value("ZNAXIS", "99"), {"HDU 2 (MASK)", "ZNAXIS = 99"}},
        {"tiles: ZNAXIS1 missing", "image.fits", drop("ZNAXIS1"), {"HDU 2 (MASK)", "ZNAXIS1"}},
        {"tiles: ZNAXIS1 huge", "image.fits", value("ZNAXIS1", "2000000000"), {"HDU 2 (MASK)", "2000000000 x 10"}},
        {"tiles: ZNAXIS2 and rows disagree", "image.fits", value("ZNAXIS2", "11"), {"HDU 2 (MASK)", "12 x 11"}},
        {"tiles: ZTILE1 0", "image.fits", value("ZTILE1", "0"), {"HDU 2 (MASK)", "ZTILE1 = 0"}},
        {"tiles: ZTILE1 too small", "image.fits", value("ZTILE1", "1"), {"HDU 2 (MASK)", "10 rows", "120 tiles"}},
        {"tiles: BLOCKSIZE 0", "image.fits", value("ZVAL1", "0"), {"HDU 2 (MASK)", "ZVAL1 = 0"}},
        {"tiles: BYTEPIX 8", "image.fits", value("ZVAL2", "8"), {"HDU 2 (MASK)", "ZVAL2 = 8"}},
        {"tiles: column missing",
         "image.fits",
         value("TTYPE1", "'SOMETHING'"),
         {"HDU 2 (MASK)", "COMPRESSED_DATA is missing"}},
        {"tiles: column of another type", "image.fits", value("TFORM1", "'2J'"), {"HDU 2 (MASK)", "TFORM1 = '2J'"}},
        {"tiles: descriptor beyond the heap",
         "image.fits",
         data("MASK", 0, bigEndian(std::uint32_t{100000})),
         {"HDU 2 (MASK)", "tile 0", "100000"}},
        {"tiles: offset beyond the heap",
         "image.fits",
         data("MASK", 12, bigEndian(std::uint32_t{0xFFFFFFF0})),
         {"HDU 2 (MASK)", "tile 1"}},
        {"tiles: empty tile",
         "image.fits",
         data("MASK", 16, bigEndian(std::uint32_t{0})),
         {"HDU 2 (MASK)", "tile 2 has no compressed data"}},
        {"tiles: short tile",
         "image.fits",
         data("MASK", 16, bigEndian(std::uint32_t{3})),
         {"HDU 2 (MASK)", "tile 2 has 3 bytes"}},
        {"tiles: gzip of another size", "gzipmask.fits image", value("ZTILE1", "6"), {"HDU 2 (MASK)", "tiles"}},
        {"tiles: gzip damaged",
         "gzipmask.fits image",
         data("MASK", 80 + 12, "\xFF\xFF\xFF\xFF"),
         {"HDU 2 (MASK)", "tile 0: the gzip stream is damaged"}},
        {"tiles: PLIO of floats", "pliomask.fits image", value("ZBITPIX", "-32"), {"HDU 2 (MASK)", "ZBITPIX = -32"}},
        {"tiles: PLIO in bytes",
         "pliomask.fits image",
         value("TFORM1", "'1PB(26)'"),
         {"HDU 2 (MASK)", "TFORM1 = '1PB"}},
        {"tiles: PLIO beyond the heap",
         "pliomask.fits image",
         data("MASK", 0, bigEndian(std::uint32_t{30000})),
         {"HDU 2 (MASK)", "tile 0", "60000 bytes"}},
        {"tiles: PLIO too long",
         "pliomask.fits image",
         data("MASK", 80 + 6, bigEndian(std::int16_t{3000})),
         {"HDU 2 (MASK)", "tile 0", "PLIO code end before"}},
        {"tiles: PLIO cut",
         "pliomask.fits image",
         data("MASK", 0, bigEndian(std::uint32_t{9})),
         {"HDU 2 (MASK)", "tile 0: 9 words of PLIO code end before"}},
        // PSFs.
        {"psf: an image", "image.fits psf", [](std::string&) {}, {"PSFTYPE is missing", "not a PSF file"}},
        {"psf: PCA",
         "psf3.fits",
         both(value("PSFTYPE", "'PCA-PIX'"), value("PSFTYPE", "'PCA-PIX'", 1)),
         {"PSFTYPE = 'PCA-PIX'", "GAUSS-HERMITE or GAUSS-HERMITE2"}},
        {"psf: spot grid",
         "psf2.fits",
         both(value("PSFTYPE", "'SPOTGRID'"), value("PSFTYPE", "'SPOTGRID'", 1)),
         {"PSFTYPE = 'SPOTGRID'"}},
        {"psf: PSFTYPE missing", "psf3.fits", both(drop("PSFTYPE"), drop("PSFTYPE")), {"PSFTYPE is missing"}},
        {"psf: PSFVER 4", "psf3.fits", both(value("PSFVER", "4"), value("PSFVER", "4", 1)), {"PSFVER = 4"}},
        {"psf: no XTRACE", "psf3.fits", rename("XTRACE", "OTHER"), {"HDU XTRACE is missing"}},
        {"psf: no YTRACE", "psf3.fits", rename("YTRACE", "OTHER"), {"HDU YTRACE is missing"}},
        {"psf: no PSF table", "psf3.fits", rename("PSF", "OTHER"), {}}, // the first table is taken
        {"psf: XTRACE 1 axis too many",
         "psf3.fits",
         [](std::string& bytes) {
             setValue(bytes, "NAXIS", "3");
             const std::size_t at = findCard(bytes, "NAXIS2") + 80;
             bytes.erase(findCard(bytes, "END     ") - 80, 80);
             bytes.insert(at, card("NAXIS3", 1));
         },
         {"HDU 0 (XTRACE)", "3 x 3 x 1"}},
        {"psf: YTRACE with fewer spectra",
         "psf3.fits",
         value("NAXIS2", "2", 1),
         {"HDU 1 (YTRACE)", "2 spectra, XTRACE holds 3"}},
        {"psf: table with fewer spectra",
         "psf3.fits",
         both(value("NAXIS2", "2", 0), value("NAXIS2", "2", 1)),
         {"HDU 2 (PSF)", "3 spectra, XTRACE 2"}},
        {"psf: nspec 0",
         "psf3.fits",
         [](std::string& bytes) {
             setValue(bytes, "NAXIS2", "0");
             bytes.erase((findCard(bytes, "END     ") / 2880 + 1) * 2880, 2880); // the data
         },
         {"HDU 0 (XTRACE)", "3 x 0"}},
        {"psf: 200 coefficients",
         "psf3.fits",
         both(value("NAXIS1", "200"), value("NAXIS2", "1")),
         {"HDU 0 (XTRACE)", "NAXIS1 = 200"}},
        {"psf: WAVEMIN missing", "psf3.fits", drop("WAVEMIN"), {"HDU 0 (XTRACE)", "WAVEMIN is missing"}},
        {"psf: WAVEMAX missing in the table", "psf3.fits", drop("WAVEMAX", 2), {"HDU 2 (PSF)", "WAVEMAX is missing"}},
        {"psf: WAVEMIN NaN", "psf3.fits", value("WAVEMIN", "NaN"), {"HDU 0 (XTRACE)", "WAVEMIN = NaN"}},
        {"psf: WAVEMIN = WAVEMAX",
         "psf3.fits",
         value("WAVEMIN", "5050.0"),
         {"HDU 0 (XTRACE)", "WAVEMIN = 5050", "WAVEMAX = 5050"}},
        {"psf: WAVEMIN > WAVEMAX in the table",
         "psf3.fits",
         value("WAVEMIN", "9000.0", 2),
         {"HDU 2 (PSF)", "WAVEMIN = 9000"}},
        {"psf: a row's WAVEMIN = WAVEMAX",
         "psf2.fits",
         data("", 8, bigEndian(5050.0)),
         {"HDU 1 (unnamed)", "X: WAVEMIN = 5050"}},
        {"psf: a row's WAVEMAX NaN", "psf2.fits", data("", 16, nanBytes), {"HDU 1 (unnamed)", "X: ", "WAVEMAX = nan"}},
        {"psf: NPIX_X missing", "psf3.fits", drop("NPIX_X"), {"HDU 2 (PSF)", "NPIX_X is missing"}},
        {"psf: NPIX_Y negative", "psf3.fits", value("NPIX_Y", "-4128"), {"NPIX_Y = -4128"}},
        {"psf: HSIZEX 0", "psf3.fits", value("HSIZEX", "0"), {"HDU 2 (PSF)", "HSIZEX = 0"}},
        {"psf: HSIZEX 10000", "psf3.fits", value("HSIZEX", "10000"), {"HSIZEX = 10000"}},
        {"psf: HSIZEY missing", "psf3.fits", drop("HSIZEY"), {"HSIZEY is missing"}},
        {"psf: HSIZEY beyond int", "psf3.fits", value("HSIZEY", "4294967301"), {"HSIZEY = 4294967301"}},
        {"psf: GHDEGX 100", "psf3.fits", value("GHDEGX", "100"), {"GHDEGX = 100"}},
        {"psf: GHDEGY -1", "psf3.fits", value("GHDEGY", "-1"), {"GHDEGY = -1"}},
        {"psf: GHDEGX2 missing", "psfgh2.fits", drop("GHDEGX2"), {"GHDEGX2 is missing"}},
        {"psf: LEGDEG negative", "psf3.fits", value("LEGDEG", "-3"), {"LEGDEG = -3"}},
        {"psf: LEGDEG huge", "psf3.fits", value("LEGDEG", "1000000000000"), {"LEGDEG = 1000000000000"}},
        {"psf: neither LEGDEG nor TDIM", "psf3.fits", both(drop("LEGDEG"), drop("TDIM2")), {"LEGDEG", "TDIM2"}},
        {"psf: LEGDEG alone, not a divisor",
         "psf3.fits",
         both(value("LEGDEG", "4"), drop("TDIM2")),
         {"COEFF has 9 numbers", "multiple of 5"}},
        {"psf: PSFERR negative", "psf3.fits", value("PSFERR", "-0.1"), {"PSFERR = -0.1"}},
        {"psf: no column COEFF", "psf3.fits", value("TTYPE2", "'OTHER'"), {"HDU 2 (PSF)", "column COEFF is missing"}},
        {"psf: no column PARAM", "psf3.fits", value("TTYPE1", "'OTHER'"), {"column PARAM is missing"}},
        {"psf: COEFF is text", "psf3.fits", both(value("TFORM2", "'72A'"), drop("TDIM2")), {"COEFF", "TFORM2 = '72A'"}},
        {"psf: COEFF is empty", "psf3.fits", value("TFORM2", "'0D'"), {"COEFF has 0 numbers"}},
        {"psf: PARAM is a number", "psf3.fits", value("TFORM1", "'D'"), {"PARAM", "TFORM1 = 'D'"}},
        {"psf: no GHSIGX", "psf3.fits", data("PSF", 0, "NOTHING "), {"HDU 2 (PSF)", "PARAM = 'GHSIGX' is missing"}},
        {"psf: no GH-0-0", "psf3.fits", data("PSF", 2 * (8 + 72), "NOTHING "), {"PARAM = 'GH-0-0' is missing"}},
        {"psf: no rows", "psf3.fits", value("NAXIS2", "0", 2), {"PARAM = 'GHSIGX' is missing"}},
        {"psf: no X", "psf2.fits", data("", 0, "NOTHING "), {"PARAM = 'X' is missing"}},
        {"psf: NaN in XTRACE",
         "psf3.fits",
         data("XTRACE", 8, nanBytes),
         {"HDU 0 (XTRACE)", "X has the coefficient nan", "spectrum 0, order 1"}},
        {"psf: NaN in the table",
         "psf3.fits",
         data("PSF", 8 + 32, nanBytes),
         {"HDU 2 (PSF)", "GHSIGX has the coefficient nan", "spectrum 1, order 1"}},
        {"psf: infinite sigma",
         "psf3.fits",
         data("PSF", 8, bigEndian(std::numeric_limits<double>::infinity())),
         {"GHSIGX has the coefficient inf"}},
        {"psf: trace at 1e300",
         "psf3.fits",
         data("YTRACE", 0, bigEndian(1e300)),
         {"HDU 1 (YTRACE)", "Y has the coefficient 1e+300"}},
        // Frames.
        {"frame: an image", "image.fits frame", [](std::string&) {}, {"HDU FLUX is missing", "IMAGE"}},
        {"frame: no IVAR", "frame.fits", rename("IVAR", "OTHER"), {"HDU IVAR is missing"}},
        {"frame: no WAVELENGTH", "frame.fits", rename("WAVELENGTH", "OTHER"), {"HDU WAVELENGTH is missing"}},
        {"frame: IVAR of another shape",
         "frame.fits",
         both(value("NAXIS1", "3", 1), value("NAXIS2", "21", 1)),
         {"HDU 1 (IVAR)", "3 x 21, 21 x 3 expected"}},
        {"frame: MASK of another shape",
         "frame.fits",
         both(value("NAXIS1", "3", 2), value("NAXIS2", "21", 2)),
         {"HDU 2 (MASK)"}},
        {"frame: fewer wavelengths",
         "frame.fits",
         value("NAXIS1", "20", 3),
         {"HDU 3 (WAVELENGTH)", "20, 21 wavelengths expected"}},
        {"frame: an even number of diagonals",
         "frame.fits",
         value("NAXIS2", "4", 3),
         {"HDU 4 (RESOLUTION)", "21 x 4 x 3"}},
        {"frame: RESOLUTION of fewer spectra",
         "frame.fits",
         value("NAXIS3", "2"),
         {"HDU 4 (RESOLUTION)", "21 x 5 x 2"}},
        {"frame: FLUX of one axis", "frame.fits", value("NAXIS", "1"), {"HDU 0 (FLUX)"}},
        {"frame: SPECMIN negative", "frame.fits", value("SPECMIN", "-5"), {"SPECMIN = -5"}},
        {"frame: FLUX huge", "frame.fits", value("NAXIS2", "1000000000"), {"HDU 0 (FLUX)", "truncated"}},
    };
    return all;
}

std::string readerOf(const std::string& file) {
    const std::size_t space = file.find(' ');
    if (space != std::string::npos) return file.substr(space + 1);
    for (const auto& [name, reader] : readers())
        if (file.starts_with(name)) return name;
    throw std::runtime_error("no reader for " + file);
}

/// A message fit for a terminal: one line that begins with the file's name.
bool isOneLine(const std::string& message, const std::string& path) {
    return message.starts_with(path) && std::all_of(message.begin(), message.end(), [](char c) { return c >= ' '; });
}

} // namespace

void TestBadInput::initTestCase() {
    spdlog::set_level(spdlog::level::err); // thousands of damaged files give warnings too
    CcdImage image;
    image.nx = 12;
    image.ny = 10;
    for (int i = 0; i < 120; ++i) {
        image.pixels.push_back(static_cast<float>(i) * 0.5F);
        image.ivar.push_back(1.0F);
        image.mask.push_back((i * 7919) % 512);
        image.readnoise.push_back(3.0F);
    }
    FitsTable fibermap;
    fibermap.name = "FIBERMAP";
    for (const std::string& one : tableCards("FIBERMAP", 12, 3, {{"TARGETID", "K"}, {"FIBER", "J"}}))
        fibermap.header.addCard(one);
    fibermap.rowBytes = 12;
    fibermap.rowCount = 3;
    fibermap.bytes.assign(36, 1);
    image.fibermap = fibermap;
    writeCcdImage(path("image.fits"), image);
    writeCcdImage(path("plainmask.fits"), image, false);
    {
        cfitsio::Writer writer(file("gzipmask.fits"));
        writer.image("IMAGE", FLOAT_IMG, {12, 10}, image.pixels);
        writer.image("IVAR", FLOAT_IMG, {12, 10}, image.ivar);
        writer.image("MASK", LONG_IMG, {12, 10}, image.mask, {GZIP_1, {}, 0, 0});
    }
    {
        cfitsio::Writer writer(file("pliomask.fits"));
        writer.image("IMAGE", FLOAT_IMG, {12, 10}, image.pixels);
        writer.image("IVAR", FLOAT_IMG, {12, 10}, image.ivar);
        writer.image("MASK", LONG_IMG, {12, 10}, image.mask, {PLIO_1, {}, 0, 0});
    }
    writePsf(path("psf3.fits"), smallPsf());
    Psf domains = smallPsf();
    domains.series["GHSIGY"].wavemax += 10;
    writePsf(path("psf2.fits"), domains);
    // The unnamed table of PSFVER 2 is found by an empty EXTNAME in the damages above.
    std::string bytes = load(file("psf2.fits"));
    replaceCard(bytes, "CAMERA", card("EXTNAME", "''"));
    save(file("psf2.fits"), bytes);
    writePsf(path("psfgh2.fits"), smallPsf(3, 2, 3, PsfType::GaussHermite2));

    ExtractedFrame frame;
    frame.flux = Array2<double>(3, 21, 1.0);
    frame.ivar = Array2<double>(3, 21, 2.0);
    frame.mask = Array2<std::uint32_t>(3, 21);
    frame.chi2pix = frame.ivar;
    frame.resolution = Array3<double>(3, 5, 21, 0.2);
    for (int i = 0; i < 21; ++i) frame.wavelength.push_back(5000 + i);
    frame.fibermap = fibermap;
    writeFrame(path("frame.fits"), frame);
}

void TestBadInput::goodFilesAreGood() {
    for (const char* name : {"image.fits", "plainmask.fits", "gzipmask.fits", "pliomask.fits"})
        QCOMPARE(QString::fromStdString(messageOf([&] { (void)readCcdImage(path(name), {true}); })), QString());
    for (const char* name : {"psf3.fits", "psf2.fits", "psfgh2.fits"})
        QCOMPARE(QString::fromStdString(messageOf([&] { (void)readPsf(path(name)); })), QString());
    QCOMPARE(QString::fromStdString(messageOf([&] { (void)readFrame(path("frame.fits")); })), QString());
}

void TestBadInput::notAFile_data() {
    QTest::addColumn<QString>("name");
    QTest::addColumn<QByteArray>("content");
    QTest::addColumn<QString>("says");
    const auto row = [](const char* what, const char* name, const QByteArray& content, const char* says) {
        QTest::newRow(what) << name << content << says;
    };
    row("missing", "missing.fits", {}, "missing.fits: no such file (nor with .gz)");
    row("folder", ".", {}, "a directory, a FITS file expected");
    row("below a file", "image.fits/below.fits", {}, "Not a directory");
    row("device", "/dev/null", {}, "not a regular file");
    QVERIFY(::mkfifo(path("pipe.fits").c_str(), 0600) == 0);
    row("pipe", "pipe.fits", {}, "pipe.fits: not a regular file");
    row("name of two lines", "two\nlines.fits", {}, "two?lines.fits: no such file");
    row("empty", "empty.fits", QByteArray(""), "empty.fits: the file is empty");
    row("text", "text.fits", "Dear reader, this is no FITS file.\n",
        "text.fits: not a FITS file: it begins with 'Dear read'");
    row("one byte", "byte.fits", "S", "not a FITS file: it begins with 'S'");
    row("binary", "binary.fits", QByteArray::fromHex("00010203ff0a1b"), "not a FITS file: it begins with '???");
    row("a PDF", "paper.fits", "%PDF-1.4 " + QByteArray(10000, 'x'), "not a FITS file: it begins with '%PDF-1.4 '");
    row("SIMPLE alone", "simple.fits", "SIMPLE  =                    T", "truncated");
    row("SIMPLE and nothing", "simple2.fits", ("SIMPLE  =" + QByteArray(20, ' ') + "T").leftJustified(2880), "no END");
    row("empty gzip", "empty.fits.gz", QByteArray::fromStdString(gzip("")), "not a FITS file");
    row("gzip of text", "text.fits.gz", QByteArray::fromStdString(gzip("hello")),
        "not a FITS file: it begins with 'hello'");
    row("gzip header alone", "stub.fits.gz", QByteArray::fromHex("1f8b"), "gzip stream is truncated");
    row("gzip of garbage", "garbage.fits.gz", QByteArray::fromHex("1f8b0800000000000003") + QByteArray(100, '\xFF'),
        "gzip stream is damaged");
    row("zeros", "zeros.fits", QByteArray(28800, '\0'), "not a FITS file");
}

void TestBadInput::notAFile() {
    QFETCH(QString, name);
    QFETCH(QByteArray, content);
    QFETCH(QString, says);
    const QString full = name.startsWith('/') ? name : file(name);
    if (!content.isNull()) save(full, content.toStdString());
    for (const auto& [kind, reader] : readers()) {
        const QString message = QString::fromStdString(messageOf([&, &read = reader] { read(full.toStdString()); }));
        QVERIFY2(message.contains(says), qPrintable(message));
        QVERIFY(!message.contains('\n'));
    }
}

void TestBadInput::damaged_data() {
    QTest::addColumn<int>("index");
    QTest::addColumn<bool>("zip");
    for (std::size_t i = 0; i < damages().size(); ++i) {
        QTest::newRow(damages()[i].name) << static_cast<int>(i) << false;
        QTest::newRow(qPrintable(QString(damages()[i].name) + " (gzip)")) << static_cast<int>(i) << true;
    }
}

void TestBadInput::damaged() {
    QFETCH(int, index);
    QFETCH(bool, zip);
    const Damage& damage = damages()[static_cast<std::size_t>(index)];
    const std::string source = damage.file;
    std::string bytes = load(file(QString::fromStdString(source.substr(0, source.find(' ')))));
    try {
        damage.apply(bytes);
    } catch (const std::runtime_error& error) {
        QFAIL(error.what());
    }
    const QString name = file(zip ? "damaged.fits.gz" : "damaged.fits");
    QFile::remove(file("damaged.fits"));
    QFile::remove(file("damaged.fits.gz"));
    save(name, zip ? gzip(bytes) : bytes);
    QElapsedTimer timer;
    timer.start();
    const std::string message = messageOf([&] { readers().at(readerOf(source))(name.toStdString()); });
    QVERIFY(timer.elapsed() < 10000);
    if (damage.says.empty()) {
        QCOMPARE(QString::fromStdString(message), QString());
        return;
    }
    QVERIFY2(isOneLine(message, name.toStdString()), message.c_str());
    for (const std::string& part : damage.says)
        QVERIFY2(message.find(part) != std::string::npos,
                 qPrintable(QString::fromStdString(message).append("  lacks  ").append(part.c_str())));
}

void TestBadInput::truncated_data() {
    QTest::addColumn<QString>("name");
    QTest::addColumn<bool>("zip");
    for (const char* name :
         {"image.fits", "plainmask.fits", "gzipmask.fits", "pliomask.fits", "psf3.fits", "psf2.fits", "frame.fits"}) {
        QTest::newRow(name) << name << false;
        QTest::newRow(qPrintable(QString(name) + ".gz")) << name << true;
    }
}

void TestBadInput::truncated() {
    QFETCH(QString, name);
    QFETCH(bool, zip);
    const std::string whole = load(file(name));
    const std::vector<std::size_t> ends = hduEnds(path(name));
    const std::string bytes = zip ? gzip(whole) : whole;
    const std::string kind = name.contains("mask") ? "image" : readerOf(name.toStdString());
    std::set<std::size_t> lengths = {
        0, 1, 2, 79, 80, 81, 2879, 2880, 2881, bytes.size() - 1, bytes.size() - 2, bytes.size() - 9};
    const std::size_t step = (zip ? 7 : 401) * (test::watchingThreads ? 10 : 1);
    for (std::size_t length = 0; length < bytes.size(); length += step) lengths.insert(length);
    if (!zip)
        for (std::size_t length = 2880; length < bytes.size(); length += 2880) lengths.insert(length);
    const QString cut = file(zip ? "cut.fits.gz" : "cut.fits");
    for (const std::size_t length : lengths) {
        if (length >= bytes.size()) continue;
        save(cut, bytes.substr(0, length));
        const std::string message = messageOf([&] { readers().at(kind)(cut.toStdString()); });
        // At the end of an HDU what is left is a whole file, which may lack nothing but optional HDUs.
        const bool boundary = !zip && std::find(ends.begin(), ends.end(), length) != ends.end();
        if (boundary && message.empty()) continue;
        QVERIFY2(isOneLine(message, cut.toStdString()),
                 qPrintable(QString("%1 bytes: %2").arg(length).arg(QString::fromStdString(message))));
        QVERIFY2(boundary || message.find("truncated") != std::string::npos || length < 20, message.c_str());
    }
}

void TestBadInput::randomDamage_data() { truncated_data(); }

void TestBadInput::randomDamage() {
    QFETCH(QString, name);
    QFETCH(bool, zip);
    const std::string whole = load(file(name));
    const std::string kind = name.contains("mask") ? "image" : readerOf(name.toStdString());
    const QString damagedName = file("random.fits");
    std::mt19937 random(12345);
    const auto upTo = [&](std::size_t limit) { return random() % limit; };
    static const std::string alphabet = " 0123456789-+.'=/TFANXSIEDPQZB\xFF\x01";
    int refused = 0;
    const int rounds = test::watchingThreads ? 25 : 400; // their threads are those of any file
    for (int round = 0; round < rounds; ++round) {
        std::string bytes = whole;
        const std::size_t changes = 1 + upTo(4);
        for (std::size_t i = 0; i < changes; ++i) {
            const std::size_t at = upTo(bytes.size());
            switch (upTo(4)) {
            case 0:
                bytes[at] = static_cast<char>(random());
                break;
            case 1:
                bytes[at] = alphabet[upTo(alphabet.size())];
                break;
            case 2:
                bytes[at / 80 * 80 + 10 + upTo(20)] = alphabet[upTo(12)];
                break; // the value of a card
            default:
                bytes.replace(at / 80 * 80, 80, bytes.substr(upTo(bytes.size() / 80) * 80, 80));
                break; // another card
            }
        }
        save(damagedName, zip ? gzip(bytes) : bytes);
        try {
            readers().at(kind)(damagedName.toStdString());
        } catch (const Error& error) {
            QVERIFY2(isOneLine(error.what(), damagedName.toStdString()), error.what());
            ++refused;
        }
    }
    QVERIFY(refused > (test::watchingThreads ? 0 : 20));
}

void TestBadInput::outOfMemory_data() {
    QTest::addColumn<QString>("kind");
    QTest::newRow("image") << "image";
    QTest::newRow("frame") << "frame";
}

void TestBadInput::outOfMemory() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    QSKIP("sanitizers need more address space than this test leaves");
#endif
    // A file of 400 MB that takes no space on the disk, and 100 MB more address space than the process has now.
    QFETCH(QString, kind);
    const bool image = kind == "image";
    std::string header = hdu(imageCards(true, -32, {10000, 10000}, image ? "IMAGE" : "FLUX"));
    const QString name = file("large.fits");
    QFile::remove(name);
    QFile large(name);
    QVERIFY(large.open(QIODevice::WriteOnly));
    const qint64 size = 400'000'000 / 2880 * 2880 + 2880;
    const std::string second = hdu(imageCards(false, -32, {10000, 10000}, "IVAR"));
    const std::string third = hdu(imageCards(false, -64, {10000}, "WAVELENGTH"));
    QVERIFY(large.write(header.data(), static_cast<qint64>(header.size())) > 0 && large.seek(2880 + size));
    QVERIFY(large.write(second.data(), static_cast<qint64>(second.size())) > 0 && large.seek(2 * (2880 + size)));
    QVERIFY(large.write(third.data(), static_cast<qint64>(third.size())) > 0);
    QVERIFY(large.resize(2 * (2880 + size) + 2880 + 80640));
    large.close();
    rlimit old = {};
    getrlimit(RLIMIT_AS, &old);
    const std::string statm = load("/proc/self/statm");
    const auto pages = static_cast<rlim_t>(std::stoull(statm));
    const rlimit limit = {pages * static_cast<rlim_t>(sysconf(_SC_PAGESIZE)) + 100'000'000, old.rlim_max};
    setrlimit(RLIMIT_AS, &limit);
    const std::string message = messageOf([&] { readers().at(kind.toStdString())(name.toStdString()); });
    setrlimit(RLIMIT_AS, &old);
    QVERIFY2(isOneLine(message, name.toStdString()) && message.find("not enough memory") != std::string::npos,
             message.c_str());
}

QTEST_APPLESS_MAIN(TestBadInput)
#include "TestBadInput.moc"
