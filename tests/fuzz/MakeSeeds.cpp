#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/io/GzipStream.h"
#include "core/psf/Psf.h"
#include "tests/io/SmallPsf.h"

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <fitsio.h>

/// Small files of the kinds that simulated ones do not cover: tile-compressed floats, gzip tiles, PSFs of two cores and of
/// PSFVER 2, frames of others. usage: fuzz_make_seeds FOLDER     writes FOLDER/psf, FOLDER/image, FOLDER/frame

using namespace patchlight;

namespace {

constexpr long columns = 12;
constexpr long rows = 10;

std::vector<float> ramp(float step) {
    std::vector<float> values;
    for (int i = 0; i < columns * rows; ++i) values.push_back(static_cast<float>((i * 37) % 101) * step);
    return values;
}

/// Three compressed images in a file, as fpack makes them.
/// @param maskAlgorithm of the third
void writeTiles(const std::string& path, int algorithm, float quantize, long tileColumns, long tileRows,
                const char* first, const char* third, int maskAlgorithm) {
    std::remove(path.c_str());
    fitsfile* file = nullptr;
    int status = 0;
    long shape[2] = {columns, rows};
    long tile[2] = {tileColumns, tileRows};
    std::vector<float> pixels = ramp(0.37F);
    std::vector<short> bits(columns * rows, 3);
    fits_create_diskfile(&file, path.c_str(), &status);
    for (const char* name : {first, "IVAR", third}) {
        const bool mask = name == third;
        fits_set_compression_type(file, mask ? maskAlgorithm : algorithm, &status);
        fits_set_tile_dim(file, 2, tile, &status);
        fits_set_quantize_level(file, quantize, &status);
        fits_set_quantize_dither(file, SUBTRACTIVE_DITHER_1, &status);
        fits_create_img(file, mask ? SHORT_IMG : FLOAT_IMG, 2, shape, &status);
        fits_write_key(file, TSTRING, "EXTNAME", const_cast<char*>(name), nullptr, &status);
        if (mask)
            fits_write_img(file, TSHORT, 1, columns * rows, bits.data(), &status);
        else
            fits_write_img(file, TFLOAT, 1, columns * rows, pixels.data(), &status);
    }
    fits_set_compression_type(file, 0, &status);
    long length = columns;
    fits_create_img(file, DOUBLE_IMG, 1, &length, &status);
    fits_write_key(file, TSTRING, "EXTNAME", const_cast<char*>("WAVELENGTH"), nullptr, &status);
    fits_write_img(file, TFLOAT, 1, columns, pixels.data(), &status);
    fits_close_file(file, &status);
    if (status != 0) {
        fits_report_error(stderr, status);
        throw std::runtime_error(path);
    }
}

/// The same file in two gzip members.
void writeTwoMembers(const std::string& from, const std::string& to) {
    std::ifstream in(from, std::ios::binary);
    const std::vector<char> bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    std::ofstream out(to, std::ios::binary);
    constexpr std::size_t middle = 3000;
    for (const auto& [first, last] : {std::pair<std::size_t, std::size_t>(0, middle), {middle, bytes.size()}}) {
        GzipStream stream(1, 1, [&](const std::uint8_t* packed, std::size_t count) {
            out.write(reinterpret_cast<const char*>(packed), static_cast<std::streamsize>(count));
        });
        stream.write(reinterpret_cast<const std::uint8_t*>(bytes.data()) + first, last - first);
        stream.finish();
    }
    if (!out.flush()) throw std::runtime_error(to);
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    try {
        const std::string folder = argv[1];
        writePsf(folder + "/psf/one-core.fits", smallPsf());
        writePsf(folder + "/psf/two-cores.fits", smallPsf(2, 1, 2, PsfType::GaussHermite2));
        Psf domains = smallPsf(2, 0, 2);
        domains.series["GHSIGY"].wavemax += 10;
        writePsf(folder + "/psf/version2.fits", domains);
        writePsf(folder + "/psf/gzip.fits.gz", smallPsf(1, 0, 1));

        CcdImage image;
        image.nx = columns;
        image.ny = rows;
        image.pixels = image.ivar = image.readnoise = ramp(1.0F);
        image.mask.assign(columns * rows, 1);
        writeCcdImage(folder + "/image/rice-mask.fits", image);
        writeCcdImage(folder + "/image/gzip.fits.gz", image, false);
        for (const char* kind : {"image", "frame"}) {
            const bool isImage = kind == std::string("image");
            const std::string begin = folder + "/" + kind;
            const char* first = isImage ? "IMAGE" : "FLUX";
            writeTiles(begin + "/rice.fits", RICE_1, 16, columns, 1, first, "MASK", RICE_1);
            writeTiles(begin + "/rice-blocks.fits", RICE_1, 4, 5, 4, first, "MASK", RICE_1);
            writeTiles(begin + "/gzip1.fits", GZIP_1, 16, columns, 1, first, "MASK", GZIP_1);
            writeTiles(begin + "/gzip2.fits", GZIP_2, 0, 7, 3, first, "MASK", GZIP_2);
            writeTiles(begin + "/plio.fits", RICE_1, 16, columns, 1, first, "MASK", PLIO_1);
            writeTwoMembers(begin + "/plio.fits", begin + "/members.fits.gz");
        }

        ExtractedFrame frame;
        frame.flux = Array2<double>(2, columns, 1.0);
        frame.ivar = Array2<double>(2, columns, 2.0);
        frame.mask = Array2<std::uint32_t>(2, columns);
        frame.chi2pix = frame.ivar;
        frame.resolution = Array3<double>(2, 3, columns, 0.3);
        for (int i = 0; i < columns; ++i) frame.wavelength.push_back(5000 + i);
        writeFrame(folder + "/frame/plain.fits", frame);
        writeFrame(folder + "/frame/gzip.fits.gz", frame);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
