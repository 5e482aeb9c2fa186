#pragma once

#include "core/cpu/AlignedBuffer.h"
#include "core/engine/Backend.h"
#include "core/engine/Plan.h"
#include "core/psf/PsfView.h"

#include <cstddef>
#include <utility>
#include <vector>

namespace patchlight {

/// The spots of a rectangle of spectra x bins, laid out by CCD row.
///
/// On a CCD row only a few consecutive bins of one spectrum have light (a spot is 11 rows high; bins of 0.8 Angstrom are 1.4 rows apart and
/// at most 8 on a row in DESI's r camera, 1.3 rows and 10 in b and z), so a row of a spectrum is a small dense matrix: columns of the
/// CCD x slots, slot = bin mod slotCount(). Normal matrix, model and chi2pix are sums over these rows.
class SpotRows {
public:
    static constexpr int fewSlots = 8;
    static constexpr int manySlots = 12;
    /// Bins that are evaluated at a time.
    static constexpr int groupBins = 8;
    /// Most bins on a row that rows of so many slots are used for: beyond 12 the solvers' bands are too narrow.
    [[nodiscard]] static constexpr int mostBins(int slotCount) { return slotCount; }
    /// What suits spots of which at most `bins` are on a row (mostBinsOnRow()). The results' roundings depend on it, so it is chosen for a
    /// bundle, not for a batch.
    [[nodiscard]] static constexpr int slotsFor(int bins) { return bins <= fewSlots ? fewSlots : manySlots; }

    /// Where the spots lie. @param slotCount fewSlots or manySlots
    /// @return false where the layout does not fit: more than mostBins(slotCount) bins on a row, or traces that turn back
    [[nodiscard]] bool locate(const PsfView& psf, const WavelengthGrid& grid, IndexRange spectra, IndexRange bins,
                              int ccdRows, int slotCount) {
        return locate(psf, grid, spectra, bins, IndexRange{0, ccdRows}, slotCount);
    }
    /// The same for some of the CCD's rows: what lies on others is left out.
    [[nodiscard]] bool locate(const PsfView& psf, const WavelengthGrid& grid, IndexRange spectra, IndexRange bins,
                              IndexRange ccdRows, int slotCount);
    [[nodiscard]] int slotCount() const { return slots_; }
    /// Numbers that row() has room for, after locate().
    [[nodiscard]] std::size_t valueCount() const {
        return static_cast<std::size_t>(corners_.spectra.count()) * static_cast<std::size_t>(rows_.count()) *
                   rowStride() +
               static_cast<std::size_t>(8 * slots_); // kernels read on over a row's end
    }
    /// Takes over another's memory for row(), and gives up its own; the values of both are lost.
    void takeMemory(SpotRows& other) {
        values_ = AlignedBuffer();
        std::swap(values_, other.values_);
    }
    /// Evaluates the spots; call after locate().
    void evaluate(const PsfView& psf, const WavelengthGrid& grid, bool withTail);

    // The same a few bins at a time, so that what is made can be used while it is in the cache: startEvaluation(), then evaluate() for
    // group = firstGroup(), firstGroup() + groupBins, ... < bins().last.
    void startEvaluation();
    [[nodiscard]] int firstGroup() const { return corners_.bins.first / groupBins * groupBins; }
    /// Evaluates the spots of bins [group, group + groupBins) of all spectra.
    void evaluate(const PsfView& psf, const WavelengthGrid& grid, bool withTail, int group);
    /// CCD rows before this one are complete once `group` has been evaluated.
    [[nodiscard]] int rowsReady(int group) const;

    [[nodiscard]] const SpotCorners& corners() const { return corners_; }
    [[nodiscard]] IndexRange spectra() const { return corners_.spectra; }
    [[nodiscard]] IndexRange bins() const { return corners_.bins; }
    /// CCD rows that are held, within the CCD.
    [[nodiscard]] IndexRange rows() const { return rows_; }
    [[nodiscard]] int width() const { return width_; }
    [[nodiscard]] int stampX() const { return stampX_; }
    [[nodiscard]] int stampY() const { return stampY_; }

    /// Values [width][slotCount()] of a spectrum on a CCD row; zero in slots without light.
    [[nodiscard]] const double* row(int spectrum, int ccdRow) const {
        return values_.data() + rowIndex(spectrum, ccdRow) * rowStride();
    }
    [[nodiscard]] double* row(int spectrum, int ccdRow) {
        return values_.data() + rowIndex(spectrum, ccdRow) * rowStride();
    }
    /// CCD column of row()'s first column.
    [[nodiscard]] int columnOrigin(int spectrum, int ccdRow) const { return origin_[rowIndex(spectrum, ccdRow)]; }
    /// Bins with light on a row.
    [[nodiscard]] IndexRange active(int spectrum, int ccdRow) const { return active_[rowIndex(spectrum, ccdRow)]; }
    [[nodiscard]] int cornerX(int spectrum, int bin) const { return corners_.x[corners_.index(spectrum, bin)]; }
    [[nodiscard]] int cornerY(int spectrum, int bin) const { return corners_.y[corners_.index(spectrum, bin)]; }
    /// 1 where the spot has light at all (0: a fiber that was not fitted).
    [[nodiscard]] double spotSum(int spectrum, int bin) const { return sums_[corners_.index(spectrum, bin)]; }

    /// True where the spot's stamp has a pixel on a CCD of nx x ny.
    [[nodiscard]] bool onCcd(int spectrum, int bin, int nx, int ny) const {
        const int x = cornerX(spectrum, bin);
        const int y = cornerY(spectrum, bin);
        return x < nx && y < ny && x + stampX_ > 0 && y + stampY_ > 0;
    }
    /// sum over columns of weight[c] A_s[c][a] A_t[c][b] on a row, for the columns that spectra s and t both have: product
    /// [slotCount()][slotCount()].
    /// @param weight [width], columns of spectrum s
    void rowProducts(const double* weight, int s, int t, int ccdRow, double* product) const;
    /// model[c] += sum over slots of A[c][slot] flux[slot]. @param flux [slotCount()]; model [width]
    void addModelRow(int spectrum, int ccdRow, const double* flux, double* model) const;
    /// sum[slot] += A^T chi2, sum[slotCount() + slot] += A^T counted. @param chi2, counted [width];
    /// sum [2][slotCount()]
    void addChi2Row(int spectrum, int ccdRow, const double* chi2, const double* counted, double* sum) const;

    // For the kernels that fill this object.
    [[nodiscard]] std::size_t rowIndex(int spectrum, int ccdRow) const {
        return static_cast<std::size_t>(spectrum - corners_.spectra.first) * static_cast<std::size_t>(rows_.count()) +
               static_cast<std::size_t>(ccdRow - rows_.first);
    }
    [[nodiscard]] int& touched(int spectrum) {
        return touched_[static_cast<std::size_t>(spectrum - corners_.spectra.first)];
    }
    [[nodiscard]] std::size_t rowStride() const {
        return static_cast<std::size_t>(width_) * static_cast<std::size_t>(slots_);
    }
    [[nodiscard]] const double* traceX(int spectrum, int bin) const {
        return x_.data() + corners_.index(spectrum, bin);
    }
    [[nodiscard]] const double* traceY(int spectrum, int bin) const {
        return y_.data() + corners_.index(spectrum, bin);
    }
    void setSpotSum(int spectrum, int bin, double sum) { sums_[corners_.index(spectrum, bin)] = sum; }
    AlignedBuffer work; ///< scratch of the kernels

private:
    SpotCorners corners_;
    IndexRange rows_;
    int slots_ = fewSlots;
    int width_ = 0;
    int stampX_ = 0;
    int stampY_ = 0;
    std::vector<double> x_, y_;      ///< traces, [spectra][bins]
    std::vector<double> sums_;       ///< [spectra][bins]
    std::vector<int> origin_;        ///< [spectra][rows]
    std::vector<IndexRange> active_; ///< [spectra][rows]
    std::vector<int> touched_;       ///< [spectra]
    AlignedBuffer values_;           ///< [spectra][rows][width][slots]
};

/// Sums over pixels that patches share: overlaps of spots with themselves and their neighbours, and the right-hand sides, each over the
/// whole CCD (patches subtract what lies outside their window).
class PairSums {
public:
    /// Adds up all rows of `spots`. Neighbours are the next spectrum and the one after, within the tile.
    void accumulate(const SpotRows& spots, const CcdView& ccd);
    // The same a few rows at a time: start() after SpotRows::locate(), then accumulate() up to rows that are complete.
    void start(const SpotRows& spots);
    void accumulate(const SpotRows& spots, const CcdView& ccd, int rowsReady);

    /// Largest distance in bins at which spots of neighbouring spectra share a row.
    [[nodiscard]] int reach() const { return reach_; }
    /// sum A_b w A_{b + d}, d = 0 .. selfWidth() - 1, of one spectrum.
    [[nodiscard]] const double* self(int spectrum, int bin) const {
        return selfSums.data() + index(spectrum, bin) * selfWidth_;
    }
    /// sum A_{s, b} w A_{s + 1, b + d}, d = -reach .. reach, at [d + reach].
    [[nodiscard]] const double* next(int spectrum, int bin) const {
        return nextSums.data() + index(spectrum, bin) * stride();
    }
    /// Largest |sum A_{s, b} w A_{s + 2, b'}| over b': what ignoring second neighbours leaves out.
    [[nodiscard]] double second(int spectrum, int bin) const { return largestSecond[index(spectrum, bin)]; }
    [[nodiscard]] double y(int spectrum, int bin) const { return ySums[index(spectrum, bin)]; }
    [[nodiscard]] double fluxweight(int spectrum, int bin) const { return fluxweights[index(spectrum, bin)]; }
    /// Share of the spot's light on unmasked pixels of the CCD.
    [[nodiscard]] double unmasked(int spectrum, int bin) const { return unmaskedShares[index(spectrum, bin)]; }
    /// SpotRows::mostBins().
    [[nodiscard]] std::size_t selfWidth() const { return selfWidth_; }
    [[nodiscard]] std::size_t stride() const { return static_cast<std::size_t>(2 * reach_ + 1); }
    [[nodiscard]] std::size_t index(int spectrum, int bin) const {
        return static_cast<std::size_t>(spectrum - spectra_.first) * static_cast<std::size_t>(bins_.count()) +
               static_cast<std::size_t>(bin - bins_.first);
    }

    /// Sums that are being made of one spectrum, by slot: y, fluxweight, unmasked [slots] each, then products [slots][slots] with itself,
    /// with the next spectrum and with the one after.
    [[nodiscard]] double* running(int spectrum) {
        return running_.data() + static_cast<std::size_t>(spectrum - spectra_.first) * runningSize(slots_);
    }
    [[nodiscard]] static constexpr std::size_t runningSize(int slotCount) {
        return static_cast<std::size_t>(3 * slotCount * (1 + slotCount));
    }

    // Filled by the kernels.
    std::vector<double> selfSums, nextSums, largestSecond, ySums, fluxweights, unmaskedShares;
    std::vector<double> pixelWork;

private:
    IndexRange spectra_;
    IndexRange bins_;
    AlignedBuffer running_;
    int slots_ = 0;
    int reach_ = 0;
    std::size_t selfWidth_ = 0;
    int nextRow_ = 0; ///< first row that is not in the sums yet
};

/// chi2 and whether they count, for `count` pixels of a row (pixelChi2, pixelCounts).
void pixelQuality(const float* pixels, const float* weights, const double* model, int count, double psferr,
                  double* chi2, double* counted);

} // namespace patchlight
