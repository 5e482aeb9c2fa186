#pragma once

#include "core/io/FitsTable.h"

#include <cstdint>
#include <string>
#include <vector>

namespace patchlight::simulate {

/// Builds a FitsTable column by column. All columns must have as many rows as the table.
class TableBuilder {
public:
    TableBuilder(std::string name, std::size_t rows) : name_(std::move(name)), rows_(rows) {}

    void addInt16(const std::string& column, const std::vector<std::int64_t>& values, const std::string& unit = {});
    void addInt32(const std::string& column, const std::vector<std::int64_t>& values, const std::string& unit = {});
    void addInt64(const std::string& column, const std::vector<std::int64_t>& values, const std::string& unit = {});
    void addFloat(const std::string& column, const std::vector<double>& values, const std::string& unit = {});
    void addDouble(const std::string& column, const std::vector<double>& values, const std::string& unit = {});
    /// Text cut or filled with blanks to `width` characters.
    void addText(const std::string& column, const std::vector<std::string>& values, std::size_t width);

    [[nodiscard]] FitsTable build() const;

private:
    struct Column {
        std::string name;
        std::string format;
        std::string unit;
        std::size_t width = 0;           ///< bytes a row
        std::vector<std::uint8_t> bytes; ///< [rows][width], big-endian
    };
    template <class T>
    void add(const std::string& column, const std::string& format, const std::vector<T>& values,
             const std::string& unit);

    std::string name_;
    std::size_t rows_;
    std::vector<Column> columns_;
};

} // namespace patchlight::simulate
