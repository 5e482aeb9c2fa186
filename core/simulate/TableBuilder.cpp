#include "core/simulate/TableBuilder.h"

#include "core/base/Error.h"

#include <bit>

#include <fmt/format.h>

namespace patchlight::simulate {

namespace {

template <class T> void appendBigEndian(std::vector<std::uint8_t>& bytes, T value) {
    for (std::size_t shift = 8 * sizeof(T); shift > 0; shift -= 8)
        bytes.push_back(static_cast<std::uint8_t>(value >> (shift - 8)));
}

std::uint16_t bits(std::int16_t value) { return static_cast<std::uint16_t>(value); }
std::uint32_t bits(std::int32_t value) { return static_cast<std::uint32_t>(value); }
std::uint64_t bits(std::int64_t value) { return static_cast<std::uint64_t>(value); }
std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }
std::uint64_t bits(double value) { return std::bit_cast<std::uint64_t>(value); }

template <class To, class From> std::vector<To> converted(const std::vector<From>& values) {
    std::vector<To> result;
    result.reserve(values.size());
    for (const From value : values) result.push_back(static_cast<To>(value));
    return result;
}

void checkRows(const std::string& name, const std::string& column, std::size_t found, std::size_t rows) {
    if (found != rows)
        throw Error(fmt::format("table {}: column {} has {} values for {} rows", name, column, found, rows));
}

} // namespace

template <class T>
void TableBuilder::add(const std::string& column, const std::string& format, const std::vector<T>& values,
                       const std::string& unit) {
    checkRows(name_, column, values.size(), rows_);
    Column result{column, format, unit, sizeof(T), {}};
    result.bytes.reserve(rows_ * sizeof(T));
    for (const T value : values) appendBigEndian(result.bytes, bits(value));
    columns_.push_back(std::move(result));
}

void TableBuilder::addInt16(const std::string& column, const std::vector<std::int64_t>& values,
                            const std::string& unit) {
    add(column, "I", converted<std::int16_t>(values), unit);
}

void TableBuilder::addInt32(const std::string& column, const std::vector<std::int64_t>& values,
                            const std::string& unit) {
    add(column, "J", converted<std::int32_t>(values), unit);
}

void TableBuilder::addInt64(const std::string& column, const std::vector<std::int64_t>& values,
                            const std::string& unit) {
    add(column, "K", values, unit);
}

void TableBuilder::addFloat(const std::string& column, const std::vector<double>& values, const std::string& unit) {
    add(column, "E", converted<float>(values), unit);
}

void TableBuilder::addDouble(const std::string& column, const std::vector<double>& values, const std::string& unit) {
    add(column, "D", values, unit);
}

void TableBuilder::addText(const std::string& column, const std::vector<std::string>& values, std::size_t width) {
    checkRows(name_, column, values.size(), rows_);
    Column result{column, fmt::format("{}A", width), {}, width, {}};
    for (const std::string& value : values)
        for (std::size_t i = 0; i < width; ++i)
            result.bytes.push_back(static_cast<std::uint8_t>(i < value.size() ? value[i] : ' '));
    columns_.push_back(std::move(result));
}

FitsTable TableBuilder::build() const {
    FitsTable table;
    table.name = name_;
    table.rowCount = rows_;
    for (const Column& column : columns_) table.rowBytes += column.width;

    FitsHeader& header = table.header;
    header.set("XTENSION", "BINTABLE", "binary table extension");
    header.set("BITPIX", 8, "8-bit bytes");
    header.set("NAXIS", 2, "2-dimensional binary table");
    header.set("NAXIS1", static_cast<std::int64_t>(table.rowBytes), "width of table in bytes");
    header.set("NAXIS2", static_cast<std::int64_t>(table.rowCount), "number of rows in table");
    header.set("PCOUNT", 0, "size of special data area");
    header.set("GCOUNT", 1, "one data group");
    header.set("TFIELDS", static_cast<int>(columns_.size()), "number of fields in each row");
    for (std::size_t c = 0; c < columns_.size(); ++c) {
        const std::string number = std::to_string(c + 1);
        header.set("TTYPE" + number, columns_[c].name);
        header.set("TFORM" + number, columns_[c].format);
        if (!columns_[c].unit.empty()) header.set("TUNIT" + number, columns_[c].unit);
    }
    header.set("EXTNAME", name_);

    table.bytes.reserve(table.rowBytes * rows_);
    for (std::size_t row = 0; row < rows_; ++row)
        for (const Column& column : columns_) {
            const auto first = column.bytes.begin() + static_cast<std::ptrdiff_t>(row * column.width);
            table.bytes.insert(table.bytes.end(), first, first + static_cast<std::ptrdiff_t>(column.width));
        }
    return table;
}

} // namespace patchlight::simulate
