#pragma once

#include <QRect>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace patchlight::widgets {

/// An image and its copies at 1/2, 1/4, 1/8 and 1/16 of the size, so that a whole CCD is drawn from few pixels and without moire.
/// float: the mean of the finite pixels (NaN where there is none). uint32: all bits of the pixels.
template <class T> class Pyramid {
public:
    static constexpr int levels = 5;

    Pyramid() = default;
    ~Pyramid() = default;
    Pyramid(const Pyramid&) = delete;
    Pyramid& operator=(const Pyramid&) = delete;
    Pyramid(Pyramid&&) noexcept = default;
    Pyramid& operator=(Pyramid&&) noexcept = default;
    /// @param owner keeps `data` ([ny][nx]) alive
    Pyramid(std::shared_ptr<const void> owner, const T* data, int nx, int ny);

    [[nodiscard]] bool empty() const { return data_[0] == nullptr; }
    [[nodiscard]] int nx(int level = 0) const { return nx_[static_cast<std::size_t>(level)]; }
    [[nodiscard]] int ny(int level = 0) const { return ny_[static_cast<std::size_t>(level)]; }
    [[nodiscard]] const T* data(int level = 0) const { return data_[static_cast<std::size_t>(level)]; }
    [[nodiscard]] T at(int x, int y) const {
        return data_[0][static_cast<std::size_t>(y) * static_cast<std::size_t>(nx_[0]) + static_cast<std::size_t>(x)];
    }
    /// Makes the smaller levels again where pixels of the full size have changed.
    void update(const QRect& region);

private:
    std::shared_ptr<const void> owner_;
    std::array<const T*, levels> data_{};
    std::array<int, levels> nx_{};
    std::array<int, levels> ny_{};
    std::array<std::vector<T>, levels> own_;
};

extern template class Pyramid<float>;
extern template class Pyramid<std::uint32_t>;

} // namespace patchlight::widgets
