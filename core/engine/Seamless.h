#pragma once

#include "core/engine/Plan.h"

#include <vector>

/// The seamless method (docs/method.md): one solution for a whole bundle, whose patches are only views of it.
namespace patchlight::seamless {

/// Bins on both sides that a single patch is solved with, so that what lies further away does not matter: Q changes by less than 1e-9 over so many, and
/// flux by what light there leaks over.
inline constexpr int contextBins = 56;
/// Spectra on both sides that a single patch is solved with, for the same reason.
inline constexpr int contextSpectra = 3;

/// A bin's neighbourhood, for checks: what is further away changes its row of Q by less than 1e-6 of the change there.
inline constexpr int neighbourhood = 20;
/// A bin without a positive pivot is taken out where a condition number is proved; that proves nothing for bins as near as this.
/// Further away, eigenvectors below what the poles of the largest condition number cover change a bin's row of Q by 1e-9 at most.
inline constexpr int removalNeighbourhood = 30;

/// The same as contextBins for a patch that somebody looks at, who would rather not wait: ivar is right to 1e-7 then, and flux to 1e-3 sigma.
inline constexpr int viewBins = 30;
inline constexpr int viewSpectra = 2;

/// The subbundles of the plan that are in one bundle with `subbundle`.
[[nodiscard]] IndexRange subbundlesOfBundle(const Plan& plan, int subbundle);

/// The whole bundle as one patch: all its spectra and all wavelengths, padded at both ends as the first and the last patch are.
/// What the seamless method solves is this patch, with the prior of localMinimumWeights.
[[nodiscard]] Patch bundlePatch(const Plan& plan, int subbundle);

/// A patch with as much around it as its results feel: `bins` and `spectra` more on each side, where the bundle has them.
[[nodiscard]] Patch contextPatch(const Plan& plan, const Patch& patch, int bins = contextBins,
                                 int spectra = contextSpectra);

/// CCD rows of the bundle's pixel window, by the rule of patchWindow; traces run one way, so that the first and the last bins have the outermost rows.
[[nodiscard]] IndexRange bundleRows(const PsfView& psf, const Plan& plan, int subbundle, int ny);

/// Pixel window of a part of a bundle: all rows that its spots touch, as far as they are the bundle's. (A patch's own window leaves the outermost bins of
/// its padding without pixels, because of the light beyond; here that light is known.)
[[nodiscard]] PixelWindow partWindow(const PsfView& psf, const Plan& plan, const Patch& part,
                                     const SpotCorners& corners, int nx, int ny);

/// fluxweight below which a bin gets the weak flux = 0 prior: minimumWeight() of the largest fluxweight within half a padded patch of the bin,
/// over the (padded) spectra of its subbundle, so that the prior means what it means in a patch.
/// @param fluxweight [spectra][bins] of `region`; @param minweight the same shape, filled here
void localMinimumWeights(const Plan& plan, const Patch& region, const std::vector<double>& fluxweight,
                         std::vector<double>& minweight);

} // namespace patchlight::seamless
