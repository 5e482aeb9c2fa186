#pragma once

#include <QString>

#include <optional>

namespace patchlight {
struct Patch;
struct Plan;
} // namespace patchlight

namespace patchlight::widgets {

/// A patch with the plan that its indices belong to.
struct PlannedPatch {
    const Patch& patch;
    const Plan& plan;
};

/// What is added to a bin's index in plan `a` to have the index of the same wavelength in plan `b`; nothing where the grids do not coincide to 1e-6
/// of a step.
[[nodiscard]] std::optional<int> binOffset(const Plan& a, const Plan& b);
/// Whether two patches keep bins of the same fibers and wavelengths, all or some of them.
[[nodiscard]] bool shareBins(const PlannedPatch& a, const PlannedPatch& b);
/// Why two patches about the same place cannot be compared bin by bin; empty where they can, or are about different places.
[[nodiscard]] QString whyNotComparable(const PlannedPatch& a, const PlannedPatch& b);

} // namespace patchlight::widgets
