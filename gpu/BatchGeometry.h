#pragma once

#include "core/engine/Plan.h"
#include "core/image/CcdImage.h"
#include "gpu/kernels/BatchView.h"

#include <cstddef>
#include <vector>

namespace patchlight::gpu {

/// Where the spots and patches of a batch lie, worked out on the host: traces, corners, pixel windows, which bins a CCD row has, and so how
/// large the batch's arrays are.
class BatchGeometry {
public:
    /// Widest blocks that the kernels take: diagonals of a spectrum's own, distance in bins of coupled neighbours.
    static constexpr int widestOwn = 13;
    static constexpr int longestReach = 24;
    /// Bins on both sides that a bundle's segments are solved with by the seamless method, so that the light beyond does not matter; more where bins
    /// are narrow (docs/method.md).
    [[nodiscard]] static int seamlessContext(const PsfView& psf, const Plan& plan, int subbundle, int ny);

    /// @return false where the kernels' layout does not suit: traces that turn back, or too many bins on a CCD row
    [[nodiscard]] bool locate(const PsfView& psf, const Plan& plan, const Batch& batch, const CcdView& ccd);

    /// Spots alone, of some spectra and bins, for the model image.
    [[nodiscard]] bool locateSpots(const PsfView& psf, const Plan& plan, IndexRange spectra, IndexRange bins, int nx,
                                   int ny);
    /// Writes where the spots lie: wavelengths, traces, corners, rows.
    void fillSpots(const BatchView& view) const;

    /// Puts the batch's sizes into a view.
    void describe(BatchView& view) const;
    /// Writes what is copied to the device: the strip of the CCD, traces, corners, rows, patches.
    void fill(const BatchView& view, const CcdView& ccd) const;

    [[nodiscard]] const SpotCorners& corners() const { return corners_; }
    [[nodiscard]] const std::vector<PatchTask>& tasks() const { return tasks_; }
    /// Of all patches' windows.
    [[nodiscard]] std::size_t pixels() const { return pixels_; }
    /// Spectrum of the PSF in the output's first row, and core wavelength in its first column.
    [[nodiscard]] int firstRow() const { return rows_.first; }
    [[nodiscard]] int firstColumn() const { return columns_.first; }

private:
    /// Rows that spots of a patch's core bins touch.
    [[nodiscard]] IndexRange coreRows(const Patch& patch) const;

    SpotCorners corners_;
    std::vector<double> wavelength_, x_, y_;
    std::vector<int> active_;
    std::vector<PatchTask> tasks_;
    std::vector<SubbundleTask> subbundles_;
    std::size_t pixels_ = 0;
    IndexRange rows_;    ///< spectra of the output
    IndexRange columns_; ///< core wavelengths of the output
    IndexRange stripX_, stripY_;
    int stampX_ = 0, stampY_ = 0;
    int ownWidth_ = 1, reach_ = 0;
    int maxSpec_ = 0, maxWave_ = 0;
    int pad_ = 0, around_ = 0;
    bool seamless_ = false;
    bool bandsFirst_ = true;
    int modelColumns_ = 0;
};

} // namespace patchlight::gpu
