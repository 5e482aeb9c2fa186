#pragma once

#include "core/base/Error.h"

#include <QFile>
#include <QString>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <fitsio.h>

/// FITS files made of bytes, without the code that is tested.
namespace fitsbytes {

inline std::string card(std::string text) {
    text.resize(80, ' ');
    return text;
}

/// "KEYWORD =                value", or with a quoted value as it stands.
inline std::string card(const std::string& keyword, const std::string& value) {
    std::string text = keyword;
    text.resize(8, ' ');
    const std::string padding(value.size() < 20 && value.front() != '\'' ? 20 - value.size() : 0, ' ');
    return card(text + "= " + padding + value);
}
inline std::string card(const std::string& keyword, long long value) { return card(keyword, std::to_string(value)); }

inline std::string padded(std::string bytes, char filler) {
    bytes.resize((bytes.size() + 2879) / 2880 * 2880, filler);
    return bytes;
}

inline std::string hdu(const std::vector<std::string>& cards, const std::string& data = {}) {
    std::string header;
    for (const std::string& one : cards) header += one;
    return padded(header + card("END"), ' ') + padded(data, '\0');
}

/// Big-endian bytes of a value.
template <class T> std::string bigEndian(T value) {
    std::string bytes(reinterpret_cast<const char*>(&value), sizeof value);
    if constexpr (std::endian::native == std::endian::little) std::reverse(bytes.begin(), bytes.end());
    return bytes;
}
template <class T> std::string bigEndian(const std::vector<T>& values) {
    std::string bytes;
    for (const T value : values) bytes += bigEndian(value);
    return bytes;
}

inline std::vector<std::string> imageCards(bool primary, int bitpix, const std::vector<long long>& shape,
                                           const std::string& name = {}) {
    std::vector<std::string> cards = {primary ? card("SIMPLE", "T") : card("XTENSION", "'IMAGE   '"),
                                      card("BITPIX", bitpix), card("NAXIS", static_cast<long long>(shape.size()))};
    for (std::size_t i = 0; i < shape.size(); ++i) cards.push_back(card("NAXIS" + std::to_string(i + 1), shape[i]));
    if (!primary) {
        cards.push_back(card("PCOUNT", 0));
        cards.push_back(card("GCOUNT", 1));
    }
    if (!name.empty()) cards.push_back(card("EXTNAME", "'" + name + "'"));
    return cards;
}

inline std::vector<std::string> tableCards(const std::string& name, long long rowBytes, long long rows,
                                           const std::vector<std::pair<std::string, std::string>>& columns,
                                           long long heap = 0) {
    std::vector<std::string> cards = {card("XTENSION", "'BINTABLE'"),
                                      card("BITPIX", 8),
                                      card("NAXIS", 2),
                                      card("NAXIS1", rowBytes),
                                      card("NAXIS2", rows),
                                      card("PCOUNT", heap),
                                      card("GCOUNT", 1),
                                      card("TFIELDS", static_cast<long long>(columns.size()))};
    for (std::size_t i = 0; i < columns.size(); ++i) {
        cards.push_back(card("TTYPE" + std::to_string(i + 1), "'" + columns[i].first + "'"));
        cards.push_back(card("TFORM" + std::to_string(i + 1), "'" + columns[i].second + "'"));
    }
    if (!name.empty()) cards.push_back(card("EXTNAME", "'" + name + "'"));
    return cards;
}

inline void save(const QString& path, std::string_view bytes) {
    QFile::remove(path); // a file that is cut short and written anew is waited for by ext4
    QFile file(path);
    if (!file.open(QIODevice::WriteOnly) ||
        file.write(bytes.data(), static_cast<qint64>(bytes.size())) != static_cast<qint64>(bytes.size()))
        throw std::runtime_error("cannot write " + path.toStdString());
}

inline std::string load(const QString& path) {
    QFile file(path);
    if (!file.open(QIODevice::ReadOnly)) throw std::runtime_error("cannot read " + path.toStdString());
    return file.readAll().toStdString();
}

/// Begin of the n-th header card (from 0) that starts like this, searching every 80 bytes.
inline std::size_t findCard(const std::string& bytes, const std::string& start, int occurrence = 0) {
    for (std::size_t at = 0; at + 80 <= bytes.size(); at += 80)
        if (bytes.compare(at, start.size(), start) == 0 && occurrence-- == 0) return at;
    throw std::runtime_error("no card " + start);
}

/// Puts another card in the place of the n-th that has this keyword.
inline void replaceCard(std::string& bytes, std::string keyword, const std::string& with, int occurrence = 0) {
    keyword.resize(8, ' ');
    bytes.replace(findCard(bytes, keyword + "=", occurrence), 80, card(with));
}

/// Gives a keyword another value (as it is written in the card).
inline void setValue(std::string& bytes, const std::string& keyword, const std::string& value, int occurrence = 0) {
    replaceCard(bytes, keyword, card(keyword, value), occurrence);
}

/// Where the HDUs of a file with plain headers end.
inline std::vector<std::size_t> hduEnds(const std::string& path) {
    fitsfile* file = nullptr;
    int status = 0;
    std::vector<std::size_t> ends;
    fits_open_diskfile(&file, path.c_str(), READONLY, &status);
    int count = 0;
    fits_get_num_hdus(file, &count, &status);
    for (int i = 1; i <= count; ++i) {
        LONGLONG end = 0;
        fits_movabs_hdu(file, i, nullptr, &status);
        fits_get_hduaddrll(file, nullptr, nullptr, &end, &status);
        ends.push_back(static_cast<std::size_t>(end));
    }
    fits_close_file(file, &status);
    if (status != 0) throw std::runtime_error("CFITSIO cannot read " + path);
    return ends;
}

/// The message of the Error that a call throws; empty where it throws none.
template <class Call> std::string messageOf(Call call) {
    try {
        call();
    } catch (const patchlight::Error& error) {
        return error.what();
    }
    return {};
}

} // namespace fitsbytes
