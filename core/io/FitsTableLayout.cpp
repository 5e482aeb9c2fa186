#include "core/io/FitsTableLayout.h"

#include "core/base/Error.h"

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

namespace patchlight {

namespace {

constexpr std::string_view columnTypes = "LXBIJKAEDCMPQ";

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

/// TDIMn such as "( 4, 500)"; empty where it cannot be read.
std::vector<std::size_t> parseDims(const std::string& text) {
    std::vector<std::size_t> dims;
    std::size_t i = text.find('(');
    if (i == std::string::npos) return {};
    while (i < text.size() && text[i] != ')') {
        ++i;
        while (i < text.size() && text[i] == ' ') ++i;
        std::size_t value = 0;
        const auto [end, error] = std::from_chars(text.data() + i, text.data() + text.size(), value);
        if (error != std::errc() || value == 0) return {};
        dims.push_back(value);
        i = static_cast<std::size_t>(end - text.data());
        while (i < text.size() && text[i] == ' ') ++i;
        if (i >= text.size() || (text[i] != ',' && text[i] != ')')) return {};
    }
    return dims;
}

} // namespace

std::size_t FitsColumn::elementBytes() const {
    switch (type) {
    case 'I':
        return 2;
    case 'J':
    case 'E':
        return 4;
    case 'K':
    case 'D':
    case 'C':
    case 'P':
        return 8;
    case 'M':
    case 'Q':
        return 16;
    default:
        return 1;
    }
}

std::size_t FitsColumn::bytes() const { return type == 'X' ? (repeat + 7) / 8 : repeat * elementBytes(); }

std::vector<FitsColumn> fitsColumns(const FitsHeader& header, std::size_t rowBytes, const std::string& what) {
    const std::optional<std::int64_t> fields = header.integer("TFIELDS");
    if (!fields || *fields < 0 || *fields > maxFitsColumns)
        throw Error(fmt::format("{}: TFIELDS = {}, a number from 0 to {} expected", what,
                                header.text("TFIELDS").value_or("(missing)"), maxFitsColumns));
    std::vector<FitsColumn> columns;
    std::size_t offset = 0;
    for (int n = 1; n <= *fields; ++n) {
        FitsColumn column;
        column.number = n;
        column.offset = offset;
        column.name = header.text(fmt::format("TTYPE{}", n)).value_or("");
        const std::optional<std::string> format = header.text(fmt::format("TFORM{}", n));
        if (!format) throw Error(fmt::format("{}: TFORM{} is missing", what, n));
        column.format = *format;
        const char* first = column.format.data();
        const char* last = first + column.format.size();
        while (first < last && *first == ' ') ++first;
        if (first < last && *first >= '0' && *first <= '9') {
            const auto [end, error] = std::from_chars(first, last, column.repeat);
            // A row is at most 2^31 bytes or so; the sum of all columns must not overflow.
            if (error != std::errc() || column.repeat > (std::size_t{1} << 40))
                throw Error(fmt::format("{}: TFORM{} = '{}': the repeat count is too large", what, n, column.format));
            first = end;
        }
        column.type = first < last ? upper(*first) : ' ';
        if (columnTypes.find(column.type) == std::string_view::npos)
            throw Error(fmt::format("{}: TFORM{} = '{}', a count and one of the letters {} expected", what, n,
                                    column.format, columnTypes));
        if (column.isVariable() && column.repeat > 1)
            throw Error(
                fmt::format("{}: TFORM{} = '{}', at most one array descriptor a row expected", what, n, column.format));
        offset += column.bytes();
        if (offset > rowBytes)
            throw Error(fmt::format("{}: columns 1 to {} take {} bytes a row, NAXIS1 = {}", what, n, offset, rowBytes));
        column.dims = parseDims(header.text(fmt::format("TDIM{}", n)).value_or(""));
        std::size_t product = 1;
        for (const std::size_t dim : column.dims)
            product = dim > column.repeat || product > column.repeat ? column.repeat + 1 : product * dim;
        if (product != column.repeat) column.dims.clear();
        columns.push_back(std::move(column));
    }
    return columns;
}

bool sameFitsName(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return upper(x) == upper(y); });
}

} // namespace patchlight
