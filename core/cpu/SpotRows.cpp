#include "core/cpu/SpotRows.h"

#include "core/cpu/Unroll.h"
#include "core/engine/Physics.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Traces.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/SpotRows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/cache_control.h>

#include "core/cpu/LaneSpots-inl.h" // after foreach_target.h

#ifndef PATCHLIGHT_SPOT_ROWS_ONCE
#define PATCHLIGHT_SPOT_ROWS_ONCE
namespace patchlight {

/// Pixels that a trace may move sideways within a spot's height.
inline constexpr int mostSlant = 16;

} // namespace patchlight
#endif

HWY_BEFORE_NAMESPACE();
namespace patchlight::HWY_NAMESPACE {

static_assert(mostLanes == SpotRows::groupBins);

/// The numbers of one column, or any other `Slots` of them in a row of memory: whole vectors and, of 12 in vectors of 8, half a one.
template <int Slots> struct SlotVector {
    static constexpr int lanes = hn::MaxLanes(Tag());
    static constexpr int whole = Slots / lanes;
    static constexpr bool hasHalf = Slots % lanes != 0;
    using HalfTag = hn::CappedTag<double, 4>;
    static_assert(!hasHalf || (lanes == 8 && Slots % lanes == 4));

    Vec part[whole];
    hn::Vec<HalfTag> half;

    static HWY_INLINE SlotVector load(const double* from) {
        SlotVector v;
        PATCHLIGHT_UNROLL
        for (int p = 0; p < whole; ++p) v.part[p] = hn::LoadU(Tag(), from + p * lanes);
        if constexpr (hasHalf) v.half = hn::LoadU(HalfTag(), from + whole * lanes);
        return v;
    }
    HWY_INLINE void store(double* to) const {
        PATCHLIGHT_UNROLL
        for (int p = 0; p < whole; ++p) hn::StoreU(part[p], Tag(), to + p * lanes);
        if constexpr (hasHalf) hn::StoreU(half, HalfTag(), to + whole * lanes);
    }
    HWY_INLINE void scale(double factor) {
        PATCHLIGHT_UNROLL
        for (int p = 0; p < whole; ++p) part[p] = hn::Mul(hn::Set(Tag(), factor), part[p]);
        if constexpr (hasHalf) half = hn::Mul(hn::Set(HalfTag(), factor), half);
    }
    /// this += factor v.
    HWY_INLINE void add(double factor, const SlotVector& v) {
        PATCHLIGHT_UNROLL
        for (int p = 0; p < whole; ++p) part[p] = hn::MulAdd(hn::Set(Tag(), factor), v.part[p], part[p]);
        if constexpr (hasHalf) half = hn::MulAdd(hn::Set(HalfTag(), factor), v.half, half);
    }
};

template <int Slots>
void evaluateGroupOf(SpotRows& spots, const PsfView& psf, const WavelengthGrid& grid, bool withTail, int group0) {
    const Tag d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const IndexRange bins = spots.bins();
    const IndexRange rows = spots.rows();
    const std::size_t rowSize = spots.rowStride();
    const int stampX = spots.stampX();
    const int stampY = spots.stampY();
    const std::size_t stampSize = static_cast<std::size_t>(stampX * stampY * lanes);
    double* stamp = spots.work.require(stampSize + spotGroupWork(psf, lanes));
    double* work = stamp + stampSize;
    const int ready = spots.rowsReady(group0);

    for (int spectrum = spots.spectra().first; spectrum < spots.spectra().last; ++spectrum) {
        int& touched = spots.touched(spectrum); // rows before it have been written
        const auto clearTo = [&](int end) {
            end = std::min(end, rows.last);
            if (touched >= end) return;
            std::memset(spots.row(spectrum, touched), 0,
                        static_cast<std::size_t>(end - touched) * rowSize * sizeof(double));
            touched = end;
        };
        for (int base = group0; base < group0 + SpotRows::groupBins; base += lanes) {
            const int first = std::max(base, bins.first);
            const int last = std::min(base + lanes, bins.last);
            if (first >= last) continue;
            HWY_ALIGN double wavelength[mostLanes];
            HWY_ALIGN double x[mostLanes];
            HWY_ALIGN double y[mostLanes];
            HWY_ALIGN double scales[mostLanes];
            for (int lane = 0; lane < lanes; ++lane) {
                const int bin = std::clamp(base + lane, first, last - 1);
                wavelength[lane] = grid.wavelength(bin);
                x[lane] = *spots.traceX(spectrum, bin) - spots.cornerX(spectrum, bin);
                y[lane] = *spots.traceY(spectrum, bin) - spots.cornerY(spectrum, bin);
            }
            evaluateGroup({&psf, spectrum, wavelength, x, y, withTail}, stamp, scales, work);

            clearTo(spots.cornerY(spectrum, last - 1) + stampY);
            for (int bin = first; bin < last; ++bin) {
                const int lane = bin - base;
                const double scale = scales[lane];
                spots.setSpotSum(spectrum, bin, scale > 0.0 ? 1.0 : 0.0);
                if (!(scale > 0.0)) continue;
                const int corner = spots.cornerY(spectrum, bin);
                for (int row = std::max(corner, rows.first); row < std::min(corner + stampY, rows.last); ++row) {
                    const double* from = stamp + (row - corner) * stampX * lanes + lane;
                    double* to = spots.row(spectrum, row) + bin % Slots +
                                 (spots.cornerX(spectrum, bin) - spots.columnOrigin(spectrum, row)) * Slots;
                    scaleStrided(from, static_cast<std::size_t>(lanes), to, Slots, stampX, scale);
                }
            }
        }
        clearTo(ready); // rows that others may use now, where these bins have no light
    }
}

void EvaluateGroup(SpotRows& spots, const PsfView& psf, const WavelengthGrid& grid, bool withTail, int group0) {
    if (spots.slotCount() == SpotRows::fewSlots)
        evaluateGroupOf<SpotRows::fewSlots>(spots, psf, grid, withTail, group0);
    else
        evaluateGroupOf<SpotRows::manySlots>(spots, psf, grid, withTail, group0);
}

/// acc[a][:] += sum over columns of w[c] left[c][a] right[c][:].
template <int Slots>
HWY_INLINE void addProducts(const double* weight, const double* left, const double* right, int columns, double* acc) {
    using V = SlotVector<Slots>;
    // As many values of a at a time as leave registers for the rest.
    constexpr int registers = V::lanes == 8 ? 24 : 12;
    constexpr int most = registers / (V::whole + (V::hasHalf ? 1 : 0));
    constexpr int block = most >= Slots ? Slots : most >= 4 ? 4 : most >= 2 ? 2 : 1;
    static_assert(Slots % block == 0);
    for (int a0 = 0; a0 < Slots; a0 += block) {
        V sum[block];
        PATCHLIGHT_UNROLL
        for (int a = 0; a < block; ++a) sum[a] = V::load(acc + (a0 + a) * Slots);
        const double* l = left + a0;
        const double* r = right;
        for (int c = 0; c < columns; ++c, l += Slots, r += Slots) {
            V v = V::load(r);
            v.scale(weight[c]);
            PATCHLIGHT_UNROLL
            for (int a = 0; a < block; ++a) sum[a].add(l[a], v);
        }
        PATCHLIGHT_UNROLL
        for (int a = 0; a < block; ++a) sum[a].store(acc + (a0 + a) * Slots);
    }
}

/// The products of one row of spectrum s with spectrum t >= s, over the columns that both have: overwrites acc [Slots][Slots].
template <int Slots> void rowProducts(const SpotRows& spots, const double* weight, int s, int t, int row, double* acc) {
    std::memset(acc, 0, sizeof(double) * Slots * Slots);
    const int shift = spots.columnOrigin(t, row) - spots.columnOrigin(s, row);
    const int first = std::max(0, shift);
    const int last = std::min(spots.width(), spots.width() + shift);
    if (first >= last) return;
    addProducts<Slots>(weight + first, spots.row(s, row) + first * Slots, spots.row(t, row) + (first - shift) * Slots,
                       last - first, acc);
}

void RowProducts(const SpotRows& spots, const double* weight, int s, int t, int row, double* acc) {
    if (spots.slotCount() == SpotRows::fewSlots)
        rowProducts<SpotRows::fewSlots>(spots, weight, s, t, row, acc);
    else
        rowProducts<SpotRows::manySlots>(spots, weight, s, t, row, acc);
}

#if HWY_TARGET != HWY_SCALAR
/// In every block of two lanes, the sums of a's and of b's two.
HWY_INLINE Vec addPairs(Vec a, Vec b) {
    return hn::Add(hn::InterleaveLower(Tag(), a, b), hn::InterleaveUpper(Tag(), a, b));
}
/// Lower half: a's two halves added; upper half: b's.
HWY_INLINE Vec addHalves(Vec a, Vec b) {
    return hn::Add(hn::ConcatLowerLower(Tag(), b, a), hn::ConcatUpperUpper(Tag(), b, a));
}
#endif

/// model[c] += sum over slots of values[c][slot] flux[slot]. Reads up to 8 columns of what follows the row.
template <int Slots> void addModelRow(const double* values, int width, const double* flux, double* model) {
    const Tag d;
    constexpr int lanes = hn::MaxLanes(Tag());
    // Rows are visited going up, several spectra in turn: too many streams for the hardware to foresee.
    const double* ahead = values + 2 * width * Slots;
    for (int i = 0; i < width * Slots; i += 8) hwy::Prefetch(ahead + i);
    const auto part = [&](const double* from, int slot) {
        return hn::Mul(hn::LoadU(d, from + slot), hn::LoadU(d, flux + slot));
    };
    /// Products of a column, which a sum over lanes adds up.
    const auto product = [&](int c) {
        const double* from = values + c * Slots;
        Vec sum = part(from, 0);
        for (int slot = lanes; slot + lanes <= Slots; slot += lanes)
            sum = hn::MulAdd(hn::LoadU(d, from + slot), hn::LoadU(d, flux + slot), sum);
        return sum;
    };
#if HWY_TARGET == HWY_SCALAR
    for (int c = 0; c < width; ++c) model[c] += hn::GetLane(product(c));
#else
    // As many columns at a time as there are lanes: their sums over lanes are a transposition and a few additions.
    const auto add = [&](Vec sums, int c, int count) {
        if (count == lanes && c + lanes <= width) {
            hn::StoreU(hn::Add(sums, hn::LoadU(d, model + c)), d, model + c);
            return;
        }
        HWY_ALIGN double last[mostLanes];
        hn::Store(sums, d, last);
        for (int i = 0; i < count && c + i < width; ++i) model[c + i] += last[i];
    };
    if constexpr (lanes == 8) {
        // Of two columns of 12 slots, three vectors: what the one in the middle has of either is added to its other part.
        [[maybe_unused]] const Vec lower = hn::LoadU(d, flux);
        [[maybe_unused]] const Vec upper = hn::LoadU(d, flux + Slots - lanes);
        [[maybe_unused]] const Vec middle = hn::ConcatLowerUpper(d, lower, upper);
        const auto pairSums = [&](int c) {
            if constexpr (Slots % lanes == 0) {
                return addPairs(product(c), product(c + 1));
            } else {
                const double* from = values + c * Slots;
                const Vec both = hn::Mul(hn::LoadU(d, from + lanes), middle);
                const Vec a = hn::MulAdd(hn::LoadU(d, from), lower, hn::ZeroExtendVector(d, hn::LowerHalf(both)));
                const Vec b = hn::MulAdd(hn::LoadU(d, from + 2 * lanes), upper,
                                         hn::ZeroExtendVector(d, hn::UpperHalf(hn::Half<Tag>(), both)));
                return addPairs(a, b);
            }
        };
        int c = 0;
        for (; c + 4 < width; c += 8) {
            // Columns in this order come out in order.
            const Vec t01 = pairSums(c);
            const Vec t23 = pairSums(c + 2);
            const Vec t45 = pairSums(c + 4);
            const Vec t67 = pairSums(c + 6);
            const Vec even = addHalves(t01, t45);
            const Vec odd = addHalves(t23, t67);
            add(hn::OddEvenBlocks(hn::Add(odd, hn::SwapAdjacentBlocks(odd)),
                                  hn::Add(even, hn::SwapAdjacentBlocks(even))),
                c, 8);
        }
        for (; c < width; c += 2) { // a few more, a pair at a time
            const Vec t = pairSums(c);
            const Vec half = addHalves(t, t);
            add(hn::Add(half, hn::SwapAdjacentBlocks(half)), c, 2);
        }
    } else if constexpr (lanes == 4) {
        for (int c = 0; c < width; c += 4)
            add(addHalves(addPairs(product(c), product(c + 1)), addPairs(product(c + 2), product(c + 3))), c, 4);
    } else {
        for (int c = 0; c < width; c += 2) add(addPairs(product(c), product(c + 1)), c, 2);
    }
#endif
}

void AddModelRow(const double* values, int width, int slots, const double* flux, double* model) {
    if (slots == SpotRows::fewSlots)
        addModelRow<SpotRows::fewSlots>(values, width, flux, model);
    else
        addModelRow<SpotRows::manySlots>(values, width, flux, model);
}

template <int Slots>
void addChi2Row(const double* values, int width, const double* chi2, const double* counted, double* sum) {
    using V = SlotVector<Slots>;
    V above = V::load(sum);
    V below = V::load(sum + Slots);
    for (int c = 0; c < width; ++c) {
        const V a = V::load(values + c * Slots);
        above.add(chi2[c], a);
        below.add(counted[c], a);
    }
    above.store(sum);
    below.store(sum + Slots);
}

void AddChi2Row(const double* values, int width, int slots, const double* chi2, const double* counted, double* sum) {
    if (slots == SpotRows::fewSlots)
        addChi2Row<SpotRows::fewSlots>(values, width, chi2, counted, sum);
    else
        addChi2Row<SpotRows::manySlots>(values, width, chi2, counted, sum);
}

void PixelQuality(const float* pixels, const float* weights, const double* model, int count, double psferr,
                  double* chi2, double* counted) {
    const Tag d;
    const hn::Rebind<float, Tag> single;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const Vec one = hn::Set(d, 1.0);
    int i = 0;
    for (; i + lanes <= count; i += lanes) {
        const Vec p = hn::PromoteTo(d, hn::LoadU(single, pixels + i));
        const Vec w = hn::PromoteTo(d, hn::LoadU(single, weights + i));
        const Vec m = hn::LoadU(d, model + i);
        const auto counts = hn::And(hn::Gt(w, hn::Zero(d)), hn::Ne(m, hn::Zero(d)));
        const Vec difference = hn::Sub(p, m);
        const Vec error = hn::Mul(hn::Set(d, psferr), m);
        const Vec variance = hn::MulAdd(error, error, hn::Div(one, w));
        hn::StoreU(hn::IfThenElseZero(counts, hn::Div(hn::Mul(difference, difference), variance)), d, chi2 + i);
        hn::StoreU(hn::IfThenElseZero(counts, one), d, counted + i);
    }
    for (; i < count; ++i) {
        const double w = static_cast<double>(weights[i]);
        const bool counts = pixelCounts(w, model[i]);
        chi2[i] = counts ? pixelChi2(static_cast<double>(pixels[i]), w, model[i], psferr) : 0.0;
        counted[i] = counts ? 1.0 : 0.0;
    }
}

/// Bins of a spectrum whose last row this is.
HWY_INLINE IndexRange ending(const SpotRows& spots, int spectrum, int row) {
    const IndexRange here = spots.active(spectrum, row);
    if (row + 1 == spots.rows().last) return here;
    return {here.first, std::min(here.last, std::max(here.first, spots.active(spectrum, row + 1).first))};
}

/// Stores a finished sum over rows of A_{s, bin} w A_{t, other}.
HWY_INLINE void keepProduct(PairSums& sums, int s, int t, int bin, int other, double product) {
    const std::size_t i = sums.index(s, bin);
    if (t == s) {
        if (other >= bin) sums.selfSums[i * sums.selfWidth() + static_cast<std::size_t>(other - bin)] = product;
    } else if (t == s + 1) {
        sums.nextSums[i * sums.stride() + static_cast<std::size_t>(other - bin + sums.reach())] = product;
    } else {
        sums.largestSecond[i] = std::max(sums.largestSecond[i], product);
    }
}

template <int Slots> void accumulate(PairSums& sums, const SpotRows& spots, const CcdView& ccd, IndexRange rows) {
    using V = SlotVector<Slots>;
    constexpr int slots = Slots;
    const IndexRange spectra = spots.spectra();
    const int width = spots.width();
    std::vector<double>& pixel = sums.pixelWork; // w, w p, [w > 0] of a row's columns

    // Row by row, so that a row of spots is used for all its sums while it is in the cache.
    for (int row = rows.first; row < rows.last; ++row) {
        int left = ccd.nx;
        int right = 0;
        for (int s = spectra.first; s < spectra.last; ++s) {
            if (spots.active(s, row).empty()) continue;
            left = std::min(left, spots.columnOrigin(s, row));
            right = std::max(right, spots.columnOrigin(s, row) + width);
        }
        if (left >= right) continue;
        const int columns = right - left;
        pixel.assign(static_cast<std::size_t>(3 * columns), 0.0); // pixels off the CCD weigh nothing
        double* weight = pixel.data();
        double* weighted = weight + columns;
        double* good = weighted + columns;
        const std::size_t line = static_cast<std::size_t>(row) * static_cast<std::size_t>(ccd.nx);
        for (int x = std::max(0, left); x < std::min(ccd.nx, right); ++x) {
            const double w = static_cast<double>(ccd.weights[line + static_cast<std::size_t>(x)]);
            weight[x - left] = w;
            weighted[x - left] = w * static_cast<double>(ccd.pixels[line + static_cast<std::size_t>(x)]);
            good[x - left] = w > 0.0 ? 1.0 : 0.0;
        }

        for (int s = spectra.first; s < spectra.last; ++s) {
            const IndexRange mine = spots.active(s, row);
            if (mine.empty()) continue;
            double* const runningY = sums.running(s);
            double* const runningWeight = runningY + slots;
            double* const runningUnmasked = runningWeight + slots;
            const auto running = [&](int t) { return runningUnmasked + slots + (t - s) * slots * slots; };
            const int origin = spots.columnOrigin(s, row);
            const double* v = spots.row(s, row);
            const double* w = weight + (origin - left);
            addProducts<slots>(w, v, v, width, running(s));
            const double* wp = weighted + (origin - left);
            const double* ok = good + (origin - left);
            V y = V::load(runningY);
            V f = V::load(runningWeight);
            V u = V::load(runningUnmasked);
            for (int c = 0; c < width; ++c) {
                const V a = V::load(v + c * slots);
                y.add(wp[c], a);
                f.add(w[c], a);
                u.add(ok[c], a);
            }
            y.store(runningY);
            f.store(runningWeight);
            u.store(runningUnmasked);
            for (int t = s + 1; t <= s + 2 && t < spectra.last; ++t) {
                if (spots.active(t, row).empty()) continue;
                const int shift = spots.columnOrigin(t, row) - origin;
                const int first = std::max(0, shift);
                const int last = std::min(width, width + shift);
                if (first < last)
                    addProducts<slots>(w + first, v + first * slots, spots.row(t, row) + (first - shift) * slots,
                                       last - first, running(t));
            }

            // Bins whose last row this was: their sums are complete, and their slots free for the bins that follow.
            const IndexRange done = ending(spots, s, row);
            for (int bin = done.first; bin < done.last; ++bin) {
                const int a = bin % slots;
                const std::size_t i = sums.index(s, bin);
                sums.ySums[i] = runningY[a];
                sums.fluxweights[i] = runningWeight[a];
                sums.unmaskedShares[i] = runningUnmasked[a];
                runningY[a] = runningWeight[a] = runningUnmasked[a] = 0.0;
                for (int t = s; t <= s + 2 && t < spectra.last; ++t) {
                    double* product = running(t);
                    const IndexRange theirs = spots.active(t, row);
                    for (int other = theirs.first; other < theirs.last; ++other)
                        keepProduct(sums, s, t, bin, other, product[a * slots + other % slots]);
                    for (int l = 0; l < slots; ++l) product[a * slots + l] = 0.0;
                    if (t == s)
                        for (int l = 0; l < slots; ++l) product[l * slots + a] = 0.0;
                }
            }
            // The same for neighbours' bins that end while ours go on.
            for (int t = s + 1; t <= s + 2 && t < spectra.last; ++t) {
                double* product = running(t);
                const IndexRange theirs = ending(spots, t, row);
                for (int other = theirs.first; other < theirs.last; ++other) {
                    const int l = other % slots;
                    for (int bin = done.last; bin < mine.last; ++bin)
                        keepProduct(sums, s, t, bin, other, product[(bin % slots) * slots + l]);
                    for (int a = 0; a < slots; ++a) product[a * slots + l] = 0.0;
                }
            }
        }
    }
}

void Accumulate(PairSums& sums, const SpotRows& spots, const CcdView& ccd, IndexRange rows) {
    if (spots.slotCount() == SpotRows::fewSlots)
        accumulate<SpotRows::fewSlots>(sums, spots, ccd, rows);
    else
        accumulate<SpotRows::manySlots>(sums, spots, ccd, rows);
}

} // namespace patchlight::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace patchlight {

HWY_EXPORT(EvaluateGroup);
HWY_EXPORT(Accumulate);
HWY_EXPORT(RowProducts);
HWY_EXPORT(AddModelRow);
HWY_EXPORT(AddChi2Row);
HWY_EXPORT(PixelQuality);

void SpotRows::rowProducts(const double* weight, int s, int t, int ccdRow, double* product) const {
    HWY_DYNAMIC_DISPATCH(RowProducts)(*this, weight, s, t, ccdRow, product);
}

void SpotRows::addModelRow(int spectrum, int ccdRow, const double* flux, double* model) const {
    HWY_DYNAMIC_DISPATCH(AddModelRow)(row(spectrum, ccdRow), width_, slots_, flux, model);
}

void SpotRows::addChi2Row(int spectrum, int ccdRow, const double* chi2, const double* counted, double* sum) const {
    HWY_DYNAMIC_DISPATCH(AddChi2Row)(row(spectrum, ccdRow), width_, slots_, chi2, counted, sum);
}

void pixelQuality(const float* pixels, const float* weights, const double* model, int count, double psferr,
                  double* chi2, double* counted) {
    HWY_DYNAMIC_DISPATCH(PixelQuality)(pixels, weights, model, count, psferr, chi2, counted);
}

bool SpotRows::locate(const PsfView& psf, const WavelengthGrid& grid, IndexRange spectra, IndexRange bins,
                      IndexRange ccdRows, int slotCount) {
    slots_ = slotCount;
    corners_.spectra = spectra;
    corners_.bins = bins;
    stampX_ = psf.stampX();
    stampY_ = psf.stampY();
    const std::size_t count = static_cast<std::size_t>(spectra.count()) * static_cast<std::size_t>(bins.count());
    corners_.x.resize(count);
    corners_.y.resize(count);
    x_.resize(count);
    y_.resize(count);
    sums_.assign(count, 0.0);
    std::vector<double> wavelength(static_cast<std::size_t>(bins.count()));
    for (int bin = bins.first; bin < bins.last; ++bin)
        wavelength[static_cast<std::size_t>(bin - bins.first)] = grid.wavelength(bin);
    const auto trace = [&](const double* coeff, int ncoeff, const double* domain, double* out) {
        legendreSums(coeff + static_cast<std::ptrdiff_t>(spectra.first) * ncoeff, ncoeff, domain, spectra.count(),
                     wavelength, out);
    };
    trace(psf.coeffX, psf.ncoeffX, psf.domainX, x_.data());
    trace(psf.coeffY, psf.ncoeffY, psf.domainY, y_.data());
    rows_ = {ccdRows.last, ccdRows.first};
    for (int s = spectra.first; s < spectra.last; ++s) {
        for (int bin = bins.first; bin < bins.last; ++bin) {
            const std::size_t i = corners_.index(s, bin);
            corners_.x[i] = spotCorner(psf.type, x_[i], psf.hsizeX);
            corners_.y[i] = spotCorner(psf.type, y_[i], psf.hsizeY);
            if (bin > bins.first && corners_.y[i] < corners_.y[i - 1]) return false; // the trace turns back
            rows_.first = std::min(rows_.first, corners_.y[i]);
            rows_.last = std::max(rows_.last, corners_.y[i] + stampY_);
        }
    }
    rows_ = {std::max(ccdRows.first, rows_.first), std::min(ccdRows.last, rows_.last)};
    if (rows_.empty()) rows_ = {0, 0};

    const std::size_t rowCount = static_cast<std::size_t>(spectra.count()) * static_cast<std::size_t>(rows_.count());
    origin_.assign(rowCount, 0);
    active_.assign(rowCount, IndexRange{});
    width_ = stampX_;
    for (int s = spectra.first; s < spectra.last; ++s) {
        int low = bins.first;
        int high = bins.first;
        for (int row = rows_.first; row < rows_.last; ++row) {
            while (low < bins.last && cornerY(s, low) + stampY_ <= row) ++low;
            high = std::max(high, low);
            while (high < bins.last && cornerY(s, high) <= row) ++high;
            if (high - low > mostBins(slots_)) return false;
            active_[rowIndex(s, row)] = {low, high};
            if (low == high) continue;
            int left = cornerX(s, low);
            int right = left;
            for (int bin = low; bin < high; ++bin) {
                left = std::min(left, cornerX(s, bin));
                right = std::max(right, cornerX(s, bin));
            }
            origin_[rowIndex(s, row)] = left;
            width_ = std::max(width_, right - left + stampX_);
        }
    }
    width_ += slots_ == fewSlots ? 0 : width_ % 2; // so that rows of 12 slots begin at a multiple of 8
    return width_ <= stampX_ + mostSlant;
}

void SpotRows::evaluate(const PsfView& psf, const WavelengthGrid& grid, bool withTail) {
    startEvaluation();
    for (int group = firstGroup(); group < corners_.bins.last; group += groupBins) evaluate(psf, grid, withTail, group);
}

void SpotRows::startEvaluation() {
    values_.require(valueCount());
    touched_.assign(static_cast<std::size_t>(corners_.spectra.count()), rows_.first);
}

void SpotRows::evaluate(const PsfView& psf, const WavelengthGrid& grid, bool withTail, int group) {
    HWY_DYNAMIC_DISPATCH(EvaluateGroup)(*this, psf, grid, withTail, group);
}

int SpotRows::rowsReady(int group) const {
    const int next = group + groupBins;
    if (next >= corners_.bins.last) return rows_.last;
    int ready = rows_.last;
    for (int s = corners_.spectra.first; s < corners_.spectra.last; ++s) ready = std::min(ready, cornerY(s, next));
    return std::max(ready, rows_.first);
}

void PairSums::start(const SpotRows& spots) {
    spectra_ = spots.spectra();
    bins_ = spots.bins();
    // How far apart bins of neighbouring spectra can share a row.
    slots_ = spots.slotCount();
    selfWidth_ = static_cast<std::size_t>(SpotRows::mostBins(slots_));
    reach_ = SpotRows::fewSlots - 1;
    for (int s = spectra_.first; s + 1 < spectra_.last; ++s)
        for (int row = spots.rows().first; row < spots.rows().last; ++row) {
            const IndexRange a = spots.active(s, row);
            const IndexRange b = spots.active(s + 1, row);
            if (!a.empty() && !b.empty()) reach_ = std::max({reach_, b.last - 1 - a.first, a.last - 1 - b.first});
        }
    const std::size_t count = static_cast<std::size_t>(spectra_.count()) * static_cast<std::size_t>(bins_.count());
    selfSums.assign(count * selfWidth_, 0.0);
    nextSums.assign(count * stride(), 0.0);
    largestSecond.assign(count, 0.0);
    ySums.assign(count, 0.0);
    fluxweights.assign(count, 0.0);
    unmaskedShares.assign(count, 0.0);
    const std::size_t needed = static_cast<std::size_t>(spectra_.count()) * runningSize(slots_);
    std::fill_n(running_.require(needed), needed, 0.0);
    nextRow_ = spots.rows().first;
}

void PairSums::accumulate(const SpotRows& spots, const CcdView& ccd, int rowsReady) {
    if (rowsReady <= nextRow_) return;
    HWY_DYNAMIC_DISPATCH(Accumulate)(*this, spots, ccd, {nextRow_, rowsReady});
    nextRow_ = rowsReady;
}

void PairSums::accumulate(const SpotRows& spots, const CcdView& ccd) {
    start(spots);
    accumulate(spots, ccd, spots.rows().last);
}

} // namespace patchlight
#endif
