#pragma once

#include <QProcess>
#include <QStandardPaths>
#include <QString>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include <fitsio.h>

/// Files written and read by CFITSIO alone, to compare with.
namespace cfitsio {

template <class T> constexpr int typeCode() {
    if constexpr (std::is_same_v<T, float>) return TFLOAT;
    if constexpr (std::is_same_v<T, double>) return TDOUBLE;
    if constexpr (std::is_same_v<T, std::int16_t>) return TSHORT;
    if constexpr (std::is_same_v<T, std::int32_t>) return TINT;
    if constexpr (std::is_same_v<T, std::uint32_t>) return TUINT;
    return 0;
}

inline void check(int status, const std::string& what) {
    if (status == 0) return;
    char text[FLEN_STATUS] = {};
    fits_get_errstatus(status, text);
    fits_clear_errmsg();
    throw std::runtime_error(what + ": " + text);
}

/// How the next image is compressed.
struct Compression {
    int type = 0;           ///< RICE_1, GZIP_1, ...; 0: plain
    std::vector<long> tile; ///< empty: rows
    float quantize = 0;     ///< of floats; 0: lossless
    int dither = 0;         ///< NO_DITHER, SUBTRACTIVE_DITHER_1, ...
};

class Writer {
public:
    explicit Writer(const QString& path) {
        int status = 0;
        fits_create_diskfile(&file_, path.toStdString().c_str(), &status);
        check(status, "create");
    }
    ~Writer() {
        int status = 0;
        fits_close_file(file_, &status);
    }
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    /// bitpix: BYTE_IMG ... DOUBLE_IMG, ULONG_IMG
    template <class T>
    void image(const char* name, int bitpix, std::vector<long> shape, const std::vector<T>& pixels,
               const Compression& compression = {}) {
        int status = 0;
        fits_set_compression_type(file_, compression.type, &status);
        if (compression.type != 0) {
            if (!compression.tile.empty())
                fits_set_tile_dim(file_, static_cast<int>(shape.size()), const_cast<long*>(compression.tile.data()),
                                  &status);
            fits_set_quantize_level(file_, compression.quantize, &status);
            if (compression.dither != 0) fits_set_quantize_dither(file_, compression.dither, &status);
        }
        fits_create_img(file_, bitpix, static_cast<int>(shape.size()), shape.data(), &status);
        if (name != nullptr) fits_write_key(file_, TSTRING, "EXTNAME", const_cast<char*>(name), nullptr, &status);
        // Floats: NaN becomes the undefined value of a quantized image.
        if constexpr (std::is_floating_point_v<T>) {
            T undefined = -1e30F;
            std::vector<T> marked = pixels;
            for (T& value : marked)
                if (std::isnan(value)) value = undefined;
            fits_write_imgnull(file_, typeCode<T>(), 1, static_cast<LONGLONG>(marked.size()), marked.data(), &undefined,
                               &status);
        } else {
            fits_write_img(file_, typeCode<T>(), 1, static_cast<LONGLONG>(pixels.size()), const_cast<T*>(pixels.data()),
                           &status);
        }
        check(status, name != nullptr ? name : "unnamed");
    }
    void key(const char* keyword, const char* text) {
        int status = 0;
        fits_write_key_longstr(file_, keyword, text, nullptr, &status);
        check(status, keyword);
    }

private:
    fitsfile* file_ = nullptr;
};

/// Pixels of HDU `number` (from 1) as CFITSIO reads them; undefined ones become `null`.
template <class T> std::vector<T> pixels(const QString& path, int number, T null = T{}) {
    fitsfile* file = nullptr;
    int status = 0;
    fits_open_diskfile(&file, path.toStdString().c_str(), READONLY, &status);
    fits_movabs_hdu(file, number, nullptr, &status);
    long shape[6] = {1, 1, 1, 1, 1, 1};
    fits_get_img_size(file, 6, shape, &status);
    check(status, "open");
    std::vector<T> values(static_cast<std::size_t>(shape[0] * shape[1] * shape[2]));
    fits_read_img(file, typeCode<T>(), 1, static_cast<LONGLONG>(values.size()), &null, values.data(), nullptr, &status);
    check(status, "read");
    fits_close_file(file, &status);
    return values;
}

/// What fitsverify says of a file; empty where all is well. `missing` where it is not installed.
inline QString fitsverify(const QString& path, bool& missing) {
    const QString program = QStandardPaths::findExecutable(QStringLiteral("fitsverify"));
    missing = program.isEmpty();
    if (missing) return {};
    QProcess process;
    process.start(program, {path});
    process.waitForFinished();
    const QString report = QString::fromLatin1(process.readAllStandardOutput());
    return report.contains("found 0 warning(s) and 0 error(s)") ? QString() : report;
}

} // namespace cfitsio
