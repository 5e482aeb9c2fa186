#pragma once

#include "core/base/Memory.h"

#include <cstddef>
#include <span>
#include <vector>

namespace patchlight {

/// Owning array of shape [rows][columns], row-major.
template <class T> class Array2 {
public:
    Array2() = default;
    Array2(std::size_t rows, std::size_t columns, T value = T{})
        : rows_(rows), columns_(columns), values_(rows * columns, value) {}
    /// All T{}, the memory of a large array made by several threads (0: all cores).
    [[nodiscard]] static Array2 madeInParallel(std::size_t rows, std::size_t columns, int threads) {
        Array2 array;
        array.rows_ = rows;
        array.columns_ = columns;
        resizeInParallel(array.values_, rows * columns, threads);
        return array;
    }

    [[nodiscard]] std::size_t rows() const { return rows_; }
    [[nodiscard]] std::size_t columns() const { return columns_; }
    [[nodiscard]] std::size_t size() const { return values_.size(); }
    [[nodiscard]] bool empty() const { return values_.empty(); }
    [[nodiscard]] T* data() { return values_.data(); }
    [[nodiscard]] const T* data() const { return values_.data(); }
    [[nodiscard]] T& operator()(std::size_t row, std::size_t column) { return values_[row * columns_ + column]; }
    [[nodiscard]] const T& operator()(std::size_t row, std::size_t column) const {
        return values_[row * columns_ + column];
    }
    [[nodiscard]] std::span<T> row(std::size_t row) { return {values_.data() + row * columns_, columns_}; }
    [[nodiscard]] std::span<const T> row(std::size_t row) const { return {values_.data() + row * columns_, columns_}; }
    [[nodiscard]] std::vector<T>& values() { return values_; }
    [[nodiscard]] const std::vector<T>& values() const { return values_; }

private:
    std::size_t rows_ = 0;
    std::size_t columns_ = 0;
    std::vector<T> values_;
};

/// The same in single precision.
[[nodiscard]] inline Array2<float> toFloat(const Array2<double>& array) {
    Array2<float> out(array.rows(), array.columns());
    for (std::size_t i = 0; i < array.size(); ++i) out.values()[i] = static_cast<float>(array.values()[i]);
    return out;
}

/// Owning array of shape [planes][rows][columns], the last index fastest.
template <class T> class Array3 {
public:
    Array3() = default;
    Array3(std::size_t planes, std::size_t rows, std::size_t columns, T value = T{})
        : planes_(planes), rows_(rows), columns_(columns), values_(planes * rows * columns, value) {}
    /// All T{}, the memory of a large array made by several threads (0: all cores).
    [[nodiscard]] static Array3 madeInParallel(std::size_t planes, std::size_t rows, std::size_t columns, int threads) {
        Array3 array;
        array.planes_ = planes;
        array.rows_ = rows;
        array.columns_ = columns;
        resizeInParallel(array.values_, planes * rows * columns, threads);
        return array;
    }

    [[nodiscard]] std::size_t planes() const { return planes_; }
    [[nodiscard]] std::size_t rows() const { return rows_; }
    [[nodiscard]] std::size_t columns() const { return columns_; }
    [[nodiscard]] std::size_t size() const { return values_.size(); }
    [[nodiscard]] bool empty() const { return values_.empty(); }
    [[nodiscard]] T* data() { return values_.data(); }
    [[nodiscard]] const T* data() const { return values_.data(); }
    [[nodiscard]] T& operator()(std::size_t plane, std::size_t row, std::size_t column) {
        return values_[(plane * rows_ + row) * columns_ + column];
    }
    [[nodiscard]] const T& operator()(std::size_t plane, std::size_t row, std::size_t column) const {
        return values_[(plane * rows_ + row) * columns_ + column];
    }
    [[nodiscard]] std::vector<T>& values() { return values_; }
    [[nodiscard]] const std::vector<T>& values() const { return values_; }

private:
    std::size_t planes_ = 0;
    std::size_t rows_ = 0;
    std::size_t columns_ = 0;
    std::vector<T> values_;
};

} // namespace patchlight
