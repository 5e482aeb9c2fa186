#include "core/io/FitsTable.h"

#include "core/base/Error.h"
#include "core/io/FitsTableLayout.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>
#include <type_traits>

#include <fmt/format.h>

namespace patchlight {

namespace {

std::string nameOf(const FitsTable& table) {
    if (!table.origin.empty()) return table.origin;
    return table.name.empty() ? "table" : fmt::format("table {}", table.name);
}

/// Element of a big-endian row.
template <class T> T load(const std::uint8_t* bytes) {
    using Bits =
        std::conditional_t<sizeof(T) == 1, std::uint8_t,
                           std::conditional_t<sizeof(T) == 2, std::uint16_t,
                                              std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>>;
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) bits = (bits << 8) | bytes[i];
    return std::bit_cast<T>(static_cast<Bits>(bits));
}

/// Column by name with its scale, and the table's rows checked against NAXIS1 and NAXIS2.
struct Selected {
    FitsColumn column;
    double scale = 1;
    double zero = 0;
};

Selected select(const FitsTable& table, std::string_view name) {
    const std::vector<FitsColumn> columns = fitsColumns(table.header, table.rowBytes, nameOf(table));
    const auto found =
        std::find_if(columns.begin(), columns.end(), [&](const FitsColumn& c) { return sameFitsName(c.name, name); });
    if (found == columns.end()) throw Error(fmt::format("{}: column {} is missing", nameOf(table), name));
    if (table.rowBytes != 0 && table.bytes.size() / table.rowBytes < table.rowCount)
        throw Error(fmt::format("{}: {} bytes, {} rows of {} bytes expected", nameOf(table), table.bytes.size(),
                                table.rowCount, table.rowBytes));
    Selected selected{*found};
    selected.scale = table.header.number(fmt::format("TSCAL{}", found->number)).value_or(1.0);
    selected.zero = table.header.number(fmt::format("TZERO{}", found->number)).value_or(0.0);
    return selected;
}

[[noreturn]] void failType(const FitsTable& table, const FitsColumn& column, std::string_view wanted) {
    throw Error(fmt::format("{}: column {} has TFORM{} = '{}', {} expected", nameOf(table), column.name, column.number,
                            column.format, wanted));
}

/// Calls use(row, element, address of the element) for every element of a column.
template <class Use> void forEach(const FitsTable& table, const FitsColumn& column, Use use) {
    const std::size_t size = column.elementBytes();
    for (std::size_t row = 0; row < table.rowCount; ++row) {
        const std::uint8_t* first = table.bytes.data() + row * table.rowBytes + column.offset;
        for (std::size_t i = 0; i < column.repeat; ++i) use(first + i * size);
    }
}

} // namespace

bool FitsTable::hasColumn(std::string_view columnName) const {
    const std::int64_t fields = header.integer("TFIELDS").value_or(0);
    for (std::int64_t i = 1; i <= fields && i <= maxFitsColumns; ++i)
        if (sameFitsName(header.text(fmt::format("TTYPE{}", i)).value_or(""), columnName)) return true;
    return false;
}

std::vector<std::int64_t> FitsTable::integers(std::string_view columnName) const {
    const Selected selected = select(*this, columnName);
    const FitsColumn& column = selected.column;
    if (selected.scale != 1.0) failType(*this, column, "an integer column without TSCAL");
    std::vector<std::int64_t> values;
    values.reserve(rowCount * column.repeat);
    const auto read = [&]<class T>(T) {
        forEach(*this, column, [&](const std::uint8_t* p) { values.push_back(static_cast<std::int64_t>(load<T>(p))); });
    };
    switch (column.type) {
    case 'L':
        forEach(*this, column, [&](const std::uint8_t* p) { values.push_back(*p == 'T' ? 1 : 0); });
        break;
    case 'B':
        read(std::uint8_t{});
        break;
    case 'I':
        read(std::int16_t{});
        break;
    case 'J':
        read(std::int32_t{});
        break;
    case 'K':
        read(std::int64_t{});
        break;
    default:
        failType(*this, column, "an integer column (B, I, J, K or L)");
    }
    if (selected.zero != 0.0) {
        // TZERO shifts unsigned integers (2^15, 2^31, 2^63) and signed bytes (-128).
        const bool unsigned64 = selected.zero == 9223372036854775808.0;
        if (!unsigned64 && (std::abs(selected.zero) > 9007199254740992.0 || selected.zero != std::floor(selected.zero)))
            failType(*this, column, "an integer column with an integer TZERO");
        for (std::int64_t& value : values) {
            if (unsigned64) {
                if (value >= 0)
                    throw Error(fmt::format("{}: column {} holds an unsigned value above the range of int64",
                                            nameOf(*this), column.name));
                value = static_cast<std::int64_t>(static_cast<std::uint64_t>(value) ^ (std::uint64_t{1} << 63));
            } else {
                std::int64_t sum = 0;
                if (__builtin_add_overflow(value, static_cast<std::int64_t>(selected.zero), &sum))
                    throw Error(fmt::format("{}: column {} plus its TZERO is beyond the range of int64", nameOf(*this),
                                            column.name));
                value = sum;
            }
        }
    }
    return values;
}

std::vector<double> FitsTable::numbers(std::string_view columnName) const {
    const Selected selected = select(*this, columnName);
    const FitsColumn& column = selected.column;
    std::vector<double> values;
    values.reserve(rowCount * column.repeat);
    const auto read = [&]<class T>(T) {
        forEach(*this, column, [&](const std::uint8_t* p) {
            values.push_back(static_cast<double>(load<T>(p)) * selected.scale + selected.zero);
        });
    };
    switch (column.type) {
    case 'B':
        read(std::uint8_t{});
        break;
    case 'I':
        read(std::int16_t{});
        break;
    case 'J':
        read(std::int32_t{});
        break;
    case 'K':
        read(std::int64_t{});
        break;
    case 'E':
        read(float{});
        break;
    case 'D':
        read(double{});
        break;
    default:
        failType(*this, column, "a column of numbers (B, I, J, K, E or D)");
    }
    return values;
}

std::vector<std::string> FitsTable::texts(std::string_view columnName) const {
    const Selected selected = select(*this, columnName);
    const FitsColumn& column = selected.column;
    if (column.type != 'A') failType(*this, column, "a column of text (A)");
    std::vector<std::string> values;
    values.reserve(rowCount);
    for (std::size_t row = 0; row < rowCount; ++row) {
        const char* first = reinterpret_cast<const char*>(bytes.data() + row * rowBytes + column.offset);
        std::string text(first, column.repeat);
        text.resize(std::min(text.find('\0'), text.size())); // a NUL ends the text early
        while (!text.empty() && text.back() == ' ') text.pop_back();
        values.push_back(std::move(text));
    }
    return values;
}

FitsTable FitsTable::selectRows(std::size_t first, std::size_t count) const {
    if (first > rowCount || count > rowCount - first)
        throw Error(
            fmt::format("{}: rows {} to {} asked for, it has {}", nameOf(*this), first, first + count, rowCount));
    FitsTable part;
    part.name = name;
    part.origin = origin;
    part.header = header;
    part.header.set("NAXIS2", static_cast<std::int64_t>(count), "number of rows in table");
    part.rowBytes = rowBytes;
    part.rowCount = count;
    const auto begin = bytes.begin() + static_cast<std::ptrdiff_t>(first * rowBytes);
    part.bytes.assign(begin, begin + static_cast<std::ptrdiff_t>(count * rowBytes));
    part.heap = heap; // the rows' descriptors point into it
    return part;
}

} // namespace patchlight
