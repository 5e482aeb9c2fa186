#include "widgets/control/TraceMap.h"

#include "core/analysis/Statistics.h"
#include "core/psf/Psf.h"

#include <algorithm>
#include <cmath>

namespace patchlight::widgets {

TraceMap::TraceMap(const Psf& psf, int nx, int ny) : nspec_(psf.nspec), samples_((ny + rowStep - 2) / rowStep + 1) {
    (void)nx;
    columns_.resize(static_cast<std::size_t>(nspec_) * static_cast<std::size_t>(samples_));
    for (int s = 0; s < nspec_; ++s)
        for (int k = 0; k < samples_; ++k)
            columns_[index(s, k)] = static_cast<float>(psf.x(s, psf.wavelengthAt(s, row(k))));
    std::vector<double> gaps;
    for (int s = 1; s < nspec_; ++s) gaps.push_back(std::abs(column(s, samples_ / 2) - column(s - 1, samples_ / 2)));
    spacing_ = gaps.empty() ? 0.0 : median(std::move(gaps));
}

double TraceMap::columnAt(int spectrum, double y) const {
    const double position = std::clamp(y / rowStep, 0.0, static_cast<double>(samples_ - 1));
    const int k = std::min(static_cast<int>(position), std::max(0, samples_ - 2));
    if (samples_ < 2) return column(spectrum, 0);
    const double t = position - k;
    return (1.0 - t) * column(spectrum, k) + t * column(spectrum, k + 1);
}

int TraceMap::nearest(double x, double y, double* distance) const {
    int best = -1;
    double smallest = 0;
    for (int s = 0; s < nspec_; ++s) {
        const double d = x - columnAt(s, y);
        if (best < 0 || std::abs(d) < std::abs(smallest)) {
            best = s;
            smallest = d;
        }
    }
    if (distance) *distance = smallest;
    return best;
}

void TraceMap::visible(double x0, double x1, double y0, double y1, int& first, int& last) const {
    const int k0 = std::clamp(static_cast<int>(std::floor(y0 / rowStep)), 0, samples_ - 1);
    const int k1 = std::clamp(static_cast<int>(std::ceil(y1 / rowStep)), 0, samples_ - 1);
    first = nspec_;
    last = 0;
    for (int s = 0; s < nspec_; ++s)
        for (int k = k0; k <= k1; ++k) {
            const double x = column(s, k);
            if (x < x0 || x > x1) continue;
            first = std::min(first, s);
            last = s + 1;
            break;
        }
    if (last < first) first = last = 0;
}

} // namespace patchlight::widgets
