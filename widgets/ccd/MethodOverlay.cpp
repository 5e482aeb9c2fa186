#include "widgets/ccd/MethodOverlay.h"

#include "core/analysis/BinDifference.h"
#include "core/base/Parallel.h"
#include "core/engine/PatchResult.h"
#include "core/frame/ExtractedFrame.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"
#include "widgets/control/Document.h"
#include "widgets/control/PatchBins.h"
#include "widgets/control/TraceMap.h"
#include "widgets/plot/Colours.h"

#include <QCoreApplication>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

namespace patchlight::widgets {

namespace {

QString overlayText(const char* text) { return QCoreApplication::translate("MethodOverlay", text); }

/// The method that a frame was extracted with; nothing where it is not known.
std::optional<Method> methodOf(const OpenFrame& open) {
    if (!open || open.done) return {}; // a run that is not finished
    if (open.plan) return open.plan->options.method;
    const auto word = open.frame->header.text("METHOD");
    if (word && *word == "patches") return Method::Patches;
    if (word && *word == "seamless") return Method::Seamless;
    return {};
}

} // namespace

void MethodOverlay::prepare() {
    if (valid_) return;
    valid_ = true;
    rows_.clear();
    what_.clear();
    range_ = 0;
    prepareFrames();
    if (rows_.empty()) preparePatches();
    finish();
}

void MethodOverlay::prepareFrames() {
    const OpenFrame* patches = nullptr;
    const OpenFrame* seamless = nullptr;
    for (const OpenFrame* open : {&document_.frame(), &document_.previousFrame(), &document_.secondFrame()}) {
        const auto method = methodOf(*open);
        if (method == Method::Patches && patches == nullptr) patches = open;
        if (method == Method::Seamless && seamless == nullptr) seamless = open;
    }
    if (patches == nullptr || seamless == nullptr) return;
    const BinDifference difference = differenceInSigma(*patches->frame, *seamless->frame);
    if (difference.bins == 0) return;
    for (std::size_t i = 0; i < difference.sigma.rows(); ++i) {
        const auto values = difference.sigma.row(i);
        rows_.push_back(
            {difference.specmin + static_cast<int>(i), difference.wavelength, {values.begin(), values.end()}, {}, {}});
    }
    what_ = overlayText("patches (%1) minus seamless (%2)").arg(patches->label, seamless->label);
}

void MethodOverlay::preparePatches() {
    const PatchRun& now = document_.patchRun();
    const PatchRun& before = document_.previousPatchRun();
    if (!now || !before || now.plan->options.method == before.plan->options.method) return;
    const bool nowPatches = now.plan->options.method == Method::Patches;
    const PatchDetail& a = nowPatches ? *now.detail : *before.detail;
    const PatchDetail& b = nowPatches ? *before.detail : *now.detail;
    const Plan& plan = nowPatches ? *now.plan : *before.plan;
    const Plan& other = nowPatches ? *before.plan : *now.plan;
    const std::optional<int> offset = binOffset(plan, other);
    if (!offset) return;
    for (int s = a.patch.core.first; s < a.patch.core.last; ++s) {
        Row row;
        row.spectrum = s;
        for (int bin = a.patch.keepBins.first; bin < a.patch.keepBins.last; ++bin) {
            if (!b.patch.bins.contains(bin + *offset) || !b.patch.spectra.contains(s)) continue;
            const auto rowA = static_cast<std::size_t>(s - a.patch.spectra.first);
            const auto rowB = static_cast<std::size_t>(s - b.patch.spectra.first);
            const auto columnA = static_cast<std::size_t>(bin - a.patch.bins.first);
            const auto columnB = static_cast<std::size_t>(bin + *offset - b.patch.bins.first);
            const double ivar = std::min(a.ivar(rowA, columnA), b.ivar(rowB, columnB));
            row.wavelength.push_back(plan.grid.outputWavelength(bin - plan.grid.pad));
            row.sigma.push_back(
                ivar > 0 ? static_cast<float>((a.flux(rowA, columnA) - b.flux(rowB, columnB)) * std::sqrt(ivar))
                         : std::numeric_limits<float>::quiet_NaN());
        }
        rows_.push_back(std::move(row));
    }
    what_ = overlayText("patches minus seamless, this patch");
}

/// Places on the CCD, range, legend.
void MethodOverlay::finish() {
    if (rows_.empty() || !document_.psf()) {
        rows_.clear();
        legend_ = overlayText(
            "patches minus seamless: extract the patch, or a frame, once with each method (Options, method)");
        return;
    }
    const PsfView psf = document_.psf()->view();
    const double scale = document_.plan() ? document_.plan()->grid.scale : 1.0;
    std::erase_if(rows_, [&](const Row& row) { return row.spectrum < 0 || row.spectrum >= psf.nspec; });
    forEachParallel(rows_.size(), 0, [&](std::size_t i, std::size_t) {
        Row& row = rows_[i];
        row.x.resize(row.wavelength.size());
        row.y.resize(row.wavelength.size());
        for (std::size_t j = 0; j < row.wavelength.size(); ++j) {
            row.x[j] = static_cast<float>(traceX(psf, row.spectrum, row.wavelength[j] / scale));
            row.y[j] = static_cast<float>(traceY(psf, row.spectrum, row.wavelength[j] / scale));
        }
        if (row.x.empty()) return;
        const auto [left, right] = std::minmax_element(row.x.begin(), row.x.end());
        row.left = *left;
        row.right = *right;
        row.upwards = std::is_sorted(row.y.begin(), row.y.end());
    });
    std::vector<float> sizes;
    double sum = 0;
    for (const Row& row : rows_)
        for (const float value : row.sigma)
            if (std::isfinite(value)) {
                sizes.push_back(std::abs(value));
                sum += static_cast<double>(value) * static_cast<double>(value);
            }
    if (sizes.empty()) {
        rows_.clear();
        legend_ = what_ + overlayText(": no bin has an ivar in both");
        return;
    }
    const double rms = std::sqrt(sum / static_cast<double>(sizes.size()));
    const auto high = sizes.begin() + static_cast<std::ptrdiff_t>(0.995 * static_cast<double>(sizes.size() - 1));
    std::nth_element(sizes.begin(), high, sizes.end());
    range_ = static_cast<double>(*high);
    const double largest = static_cast<double>(*std::max_element(high, sizes.end()));
    if (!(range_ > 0)) range_ = largest > 0 ? largest : 1.0;
    legend_ = overlayText("%1: colours \u00b1%2 sigma; rms %3, largest %4")
                  .arg(what_)
                  .arg(range_, 0, 'g', 2)
                  .arg(rms, 0, 'g', 2)
                  .arg(largest, 0, 'g', 2);
}

const QString& MethodOverlay::legend() {
    prepare();
    return legend_;
}

double MethodOverlay::range() {
    prepare();
    return range_;
}

double MethodOverlay::valueAt(int spectrum, double wavelength) {
    prepare();
    for (const Row& row : rows_)
        if (row.spectrum == spectrum && !row.wavelength.empty()) {
            const auto after = std::lower_bound(row.wavelength.begin(), row.wavelength.end(), wavelength);
            auto j = std::min(static_cast<std::size_t>(after - row.wavelength.begin()), row.wavelength.size() - 1);
            if (j > 0 && wavelength - row.wavelength[j - 1] < row.wavelength[j] - wavelength) --j;
            return static_cast<double>(row.sigma[j]);
        }
    return std::numeric_limits<double>::quiet_NaN();
}

void MethodOverlay::paint(QImage& picture, const QRectF& ccd) {
    prepare();
    if (rows_.empty() || ccd.isEmpty() || !document_.traces()) return;
    static const ColourMap map(ColourMap::Kind::Diverging);
    const double scaleX = picture.width() / ccd.width();
    const double scaleY = picture.height() / ccd.height();
    const double half = std::max(0.5, 0.38 * document_.traces()->spacing() * scaleX);
    for (const Row& row : rows_) {
        const std::size_t count = row.sigma.size();
        if (count < 2) continue;
        const double margin = half / scaleX;
        if (static_cast<double>(row.right) + margin < ccd.left() ||
            static_cast<double>(row.left) - margin > ccd.right())
            continue;
        std::size_t begin = 0;
        std::size_t end = count;
        if (row.upwards) { // only what is in sight, and one more at each end
            const auto at = [&](double y) {
                return static_cast<std::size_t>(std::lower_bound(row.y.begin(), row.y.end(), static_cast<float>(y)) -
                                                row.y.begin());
            };
            begin = at(ccd.top());
            begin = begin > 0 ? begin - 1 : 0;
            end = std::min(count, at(ccd.bottom()) + 2);
        }
        int line = -1; // the screen's row being filled: of several bins the largest difference is seen
        float worst = 0;
        float column = 0;
        const auto flush = [&] {
            if (line < 0 || line >= picture.height()) return;
            const double x = (static_cast<double>(column) - ccd.left()) * scaleX;
            const int first = std::max(0, static_cast<int>(std::lround(x - half)));
            const int last = std::min(picture.width() - 1, static_cast<int>(std::lround(x + half)) - 1);
            if (first > last) return;
            auto* const pixels = reinterpret_cast<QRgb*>(picture.scanLine(line));
            // What is small lets the image through.
            const double share = std::clamp(std::abs(static_cast<double>(worst)) / range_, 0.0, 1.0);
            const QRgb colour = map.colour(static_cast<double>(worst), -range_, range_);
            std::fill(pixels + first, pixels + last + 1,
                      qPremultiply(qRgba(qRed(colour), qGreen(colour), qBlue(colour),
                                         static_cast<int>(255.0 * std::sqrt(share)))));
        };
        for (std::size_t j = begin; j < end; ++j) {
            if (!std::isfinite(row.sigma[j])) continue;
            const float step = j + 1 < count ? row.y[j + 1] - row.y[j] : row.y[j] - row.y[j - 1];
            const double y0 = (ccd.bottom() - static_cast<double>(row.y[j] + 0.5F * step)) * scaleY;
            const double y1 = (ccd.bottom() - static_cast<double>(row.y[j] - 0.5F * step)) * scaleY;
            if (std::max(y0, y1) < 0 || std::min(y0, y1) > picture.height()) continue;
            const int top = static_cast<int>(std::floor(std::min(y0, y1)));
            const int bottom = std::max(top, static_cast<int>(std::floor(std::max(y0, y1))) - 1);
            for (int at = bottom; at >= top; --at) {
                if (at != line) {
                    flush();
                    line = at;
                    worst = 0;
                }
                column = row.x[j];
                if (std::abs(row.sigma[j]) >= std::abs(worst)) worst = row.sigma[j];
            }
        }
        flush();
    }
}

} // namespace patchlight::widgets
