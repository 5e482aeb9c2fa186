#include "widgets/ccd/Pyramid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

namespace patchlight::widgets {

namespace {

template <class T> T combine(T a, T b, T c, T d) {
    if constexpr (std::is_same_v<T, float>) {
        const float sum = a + b + c + d;
        if (std::isfinite(sum)) return 0.25F * sum;
        float total = 0;
        int count = 0;
        for (const float value : {a, b, c, d})
            if (std::isfinite(value)) {
                total += value;
                ++count;
            }
        return count > 0 ? total / static_cast<float>(count) : std::numeric_limits<float>::quiet_NaN();
    } else {
        return a | b | c | d;
    }
}

} // namespace

template <class T>
Pyramid<T>::Pyramid(std::shared_ptr<const void> owner, const T* data, int nx, int ny) : owner_(std::move(owner)) {
    if (data == nullptr || nx <= 0 || ny <= 0) return;
    data_[0] = data;
    nx_[0] = nx;
    ny_[0] = ny;
    for (std::size_t k = 1; k < levels; ++k) {
        nx_[k] = (nx_[k - 1] + 1) / 2;
        ny_[k] = (ny_[k - 1] + 1) / 2;
        own_[k].resize(static_cast<std::size_t>(nx_[k]) * static_cast<std::size_t>(ny_[k]));
        data_[k] = own_[k].data();
    }
    update(QRect(0, 0, nx, ny));
}

template <class T> void Pyramid<T>::update(const QRect& region) {
    if (empty()) return;
    QRect part = region.intersected(QRect(0, 0, nx_[0], ny_[0]));
    for (std::size_t k = 1; k < levels; ++k) {
        const int x0 = part.left() / 2;
        const int x1 = part.right() / 2;
        const int y0 = part.top() / 2;
        const int y1 = part.bottom() / 2;
        const int width = nx_[k - 1];
        for (int y = y0; y <= y1; ++y) {
            const T* const upper = data_[k - 1] + static_cast<std::size_t>(2 * y) * static_cast<std::size_t>(width);
            const T* const lower = 2 * y + 1 < ny_[k - 1] ? upper + width : upper;
            T* const out = own_[k].data() + static_cast<std::size_t>(y) * static_cast<std::size_t>(nx_[k]);
            const int inner = std::min(x1, width / 2 - 1);
            for (int x = x0; x <= inner; ++x)
                out[x] = combine<T>(upper[2 * x], upper[2 * x + 1], lower[2 * x], lower[2 * x + 1]);
            for (int x = std::max(x0, inner + 1); x <= x1; ++x)
                out[x] = combine<T>(upper[2 * x], upper[2 * x], lower[2 * x], lower[2 * x]);
        }
        part = QRect(QPoint(x0, y0), QPoint(x1, y1));
    }
}

template class Pyramid<float>;
template class Pyramid<std::uint32_t>;

} // namespace patchlight::widgets
