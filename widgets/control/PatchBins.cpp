#include "widgets/control/PatchBins.h"

#include "core/engine/Plan.h"

#include <QObject>

#include <algorithm>
#include <cmath>

namespace patchlight::widgets {

namespace {

bool overlap(IndexRange a, IndexRange b) { return std::max(a.first, b.first) < std::min(a.last, b.last); }

} // namespace

std::optional<int> binOffset(const Plan& a, const Plan& b) {
    const WavelengthGrid& g = a.grid;
    const WavelengthGrid& h = b.grid;
    constexpr double tolerance = 1e-6; // of a step
    if (!(g.dw > 0) || std::abs(h.dw / g.dw - 1) * std::max(1, std::max(g.nwave, h.nwave)) > tolerance) return {};
    if (std::abs(h.scale / g.scale - 1) * g.wmin / g.dw > tolerance) return {};
    const double shift = (g.wmin - h.wmin) / g.dw;
    if (!(std::abs(shift) < 1e8) || std::abs(shift - std::round(shift)) > tolerance) return {};
    return static_cast<int>(std::lround(shift)) + h.pad - g.pad;
}

bool shareBins(const PlannedPatch& a, const PlannedPatch& b) {
    const std::optional<int> offset = binOffset(a.plan, b.plan);
    if (!offset) return false;
    const IndexRange keep{a.patch.keepBins.first + *offset, a.patch.keepBins.last + *offset};
    return overlap(a.patch.core, b.patch.core) && overlap(keep, b.patch.keepBins);
}

QString whyNotComparable(const PlannedPatch& a, const PlannedPatch& b) {
    if (binOffset(a.plan, b.plan) || !overlap(a.patch.core, b.patch.core)) return {};
    const auto low = [](const PlannedPatch& p) { return p.plan.grid.wavelength(p.patch.keepBins.first); };
    const auto high = [](const PlannedPatch& p) { return p.plan.grid.wavelength(p.patch.keepBins.last - 1); };
    if (std::max(low(a), low(b)) > std::min(high(a), high(b))) return {};
    const WavelengthGrid& g = a.plan.grid;
    const WavelengthGrid& h = b.plan.grid;
    if (g.dw != h.dw)
        return QObject::tr("no comparison with the patch before: its bins were %1 \u00c5 wide, these are %2 \u00c5")
            .arg(g.dw)
            .arg(h.dw);
    return QObject::tr("no comparison with the patch before: its wavelengths lie between these (its grid began at %1 "
                       "\u00c5, this one at %2 \u00c5)")
        .arg(g.wmin, 0, 'g', 8)
        .arg(h.wmin, 0, 'g', 8);
}

} // namespace patchlight::widgets
