#include "core/cpu/BandKernels.h"

#include "core/base/Error.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "core/cpu/BandKernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace patchlight::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
// At most kernelPad lanes, so that the padding of rows is enough on machines with longer vectors.
using Tag = hn::CappedTag<double, kernelPad>;

/// y[0, count) -= c * x[0, count), running over into the padding.
HWY_INLINE void subtractScaled(const double* x, double c, double* y, int count) {
    const Tag d;
    const auto vc = hn::Set(d, c);
    const int lanes = static_cast<int>(hn::Lanes(d));
    for (int j = 0; j < count; j += lanes)
        hn::StoreU(hn::NegMulAdd(vc, hn::LoadU(d, x + j), hn::LoadU(d, y + j)), d, y + j);
}

HWY_INLINE void scale(double* x, double c, int count) {
    const Tag d;
    const auto vc = hn::Set(d, c);
    const int lanes = static_cast<int>(hn::Lanes(d));
    for (int j = 0; j < count; j += lanes) hn::StoreU(hn::Mul(vc, hn::LoadU(d, x + j)), d, x + j);
}

/// Four multiples of rows, to be subtracted: y[0, count) -= c[0] x[0][0, count) + ... + c[3] x[3][0, count).
struct FourRows {
    const double* x[panelRows];
    double c[panelRows];

    [[nodiscard]] bool empty() const { return c[0] == 0.0 && c[1] == 0.0 && c[2] == 0.0 && c[3] == 0.0; }
    HWY_INLINE void subtractFrom(double* y, int count) const {
        const Tag d;
        const auto c0 = hn::Set(d, c[0]);
        const auto c1 = hn::Set(d, c[1]);
        const auto c2 = hn::Set(d, c[2]);
        const auto c3 = hn::Set(d, c[3]);
        const int lanes = static_cast<int>(hn::Lanes(d));
        for (int j = 0; j < count; j += lanes) {
            auto first = hn::NegMulAdd(c0, hn::LoadU(d, x[0] + j), hn::LoadU(d, y + j));
            auto second = hn::Mul(c1, hn::LoadU(d, x[1] + j));
            first = hn::NegMulAdd(c2, hn::LoadU(d, x[2] + j), first);
            second = hn::MulAdd(c3, hn::LoadU(d, x[3] + j), second);
            hn::StoreU(hn::Sub(first, second), d, y + j);
        }
    }
    /// The same, and other multiples of the same rows from a second one.
    HWY_INLINE void subtractFrom(double* y, const FourRows& other, double* z, int count) const {
        const Tag d;
        const auto c0 = hn::Set(d, c[0]);
        const auto c1 = hn::Set(d, c[1]);
        const auto c2 = hn::Set(d, c[2]);
        const auto c3 = hn::Set(d, c[3]);
        const auto e0 = hn::Set(d, other.c[0]);
        const auto e1 = hn::Set(d, other.c[1]);
        const auto e2 = hn::Set(d, other.c[2]);
        const auto e3 = hn::Set(d, other.c[3]);
        const int lanes = static_cast<int>(hn::Lanes(d));
        for (int j = 0; j < count; j += lanes) {
            const auto x0 = hn::LoadU(d, x[0] + j);
            const auto x1 = hn::LoadU(d, x[1] + j);
            const auto x2 = hn::LoadU(d, x[2] + j);
            const auto x3 = hn::LoadU(d, x[3] + j);
            const auto first = hn::NegMulAdd(c2, x2, hn::NegMulAdd(c0, x0, hn::LoadU(d, y + j)));
            const auto second = hn::NegMulAdd(e2, x2, hn::NegMulAdd(e0, x0, hn::LoadU(d, z + j)));
            hn::StoreU(hn::Sub(first, hn::MulAdd(c3, x3, hn::Mul(c1, x1))), d, y + j);
            hn::StoreU(hn::Sub(second, hn::MulAdd(e3, x3, hn::Mul(e1, x1))), d, z + j);
        }
    }
};

/// Divides row k by its pivot's root. @return false where the pivot is not positive
HWY_INLINE bool dividePivot(const BandView& a, int k) {
    double* row = a.values + static_cast<std::size_t>(k) * a.stride;
    const double pivot = row[0];
    if (!(pivot > 0.0)) return false;
    scale(row, 1.0 / std::sqrt(pivot), std::min(a.halfBand, a.n - 1 - k) + 1);
    return true;
}

/// Right-looking, a panel of four rows at a time: each row is subtracted from those after it in the panel, then all four from the rows below,
/// which so are loaded and stored once for four updates.
bool CholeskyBand(const BandView& a) {
    const auto row = [&](int i) { return a.values + static_cast<std::size_t>(i) * a.stride; };
    for (int k = 0; k < a.n; k += panelRows) {
        const int panelEnd = std::min(k + panelRows, a.n);
        for (int i = k; i < panelEnd; ++i) {
            if (!dividePivot(a, i)) return false;
            const int reach = std::min(a.halfBand, a.n - 1 - i);
            for (int j = i + 1; j < std::min(panelEnd, i + reach + 1); ++j)
                if (row(i)[j - i] != 0.0) subtractScaled(row(i) + (j - i), row(i)[j - i], row(j), i + reach + 1 - j);
        }
        // The panel's rows end one after the other; beyond their ends lie zeros.
        const int last = std::min(panelEnd + a.halfBand, a.n);
        for (int j = panelEnd; j < last; ++j) {
            FourRows four;
            for (int p = 0; p < panelRows; ++p) {
                four.x[p] = row(k + p) + (j - k - p);
                four.c[p] = j - k - p <= a.halfBand ? *four.x[p] : 0.0;
            }
            if (!four.empty()) four.subtractFrom(row(j), last - j);
        }
    }
    return true;
}

void ForwardSubstitute(const BandView& u, double* x, std::size_t stride, const int* columns) {
    const auto row = [&](int i) { return u.values + static_cast<std::size_t>(i) * u.stride; };
    const auto values = [&](int i) { return x + static_cast<std::size_t>(i) * stride; };
    for (int k = 0; k < u.n; k += panelRows) {
        const int panelEnd = std::min(k + panelRows, u.n);
        for (int i = k; i < panelEnd; ++i) {
            scale(values(i), 1.0 / row(i)[0], columns[i]);
            for (int j = i + 1; j < std::min(panelEnd, i + u.halfBand + 1); ++j)
                if (row(i)[j - i] != 0.0) subtractScaled(values(i), row(i)[j - i], values(j), columns[i]);
        }
        // From two rows at a time, which share the panel's loads.
        const int last = std::min(panelEnd + u.halfBand, u.n);
        const auto panel = [&](int j) {
            FourRows four;
            for (int p = 0; p < panelRows; ++p) {
                four.x[p] = values(k + p);
                four.c[p] = j - k - p <= u.halfBand ? row(k + p)[j - k - p] : 0.0;
            }
            return four;
        };
        int j = panelEnd;
        for (; j + 2 <= last; j += 2) {
            const FourRows first = panel(j);
            const FourRows second = panel(j + 1);
            if (!first.empty() || !second.empty())
                first.subtractFrom(values(j), second, values(j + 1), columns[panelEnd - 1]);
        }
        if (j < last) panel(j).subtractFrom(values(j), columns[panelEnd - 1]);
    }
}

void SubtractGram(const double* x, std::size_t stride, const int* columns, int n, double* s, int m) {
    // Four rows of X at a time, so that a row of S is loaded and stored once for four updates.
    const Tag d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    int k = 0;
    for (; k + 4 <= n; k += 4) {
        const int count = columns[k + 3];
        const double* x0 = x + static_cast<std::size_t>(k) * stride;
        const double* x1 = x0 + stride;
        const double* x2 = x1 + stride;
        const double* x3 = x2 + stride;
        for (int i = 0; i < count; ++i) {
            if (x0[i] == 0.0 && x1[i] == 0.0 && x2[i] == 0.0 && x3[i] == 0.0) continue;
            const auto c0 = hn::Set(d, x0[i]);
            const auto c1 = hn::Set(d, x1[i]);
            const auto c2 = hn::Set(d, x2[i]);
            const auto c3 = hn::Set(d, x3[i]);
            double* row = s + static_cast<std::size_t>(i) * stride;
            // From a whole vector on: a few elements left of the diagonal come along.
            for (int j = i / lanes * lanes; j < count; j += lanes) {
                auto sum = hn::LoadU(d, row + j);
                sum = hn::NegMulAdd(c0, hn::LoadU(d, x0 + j), sum);
                sum = hn::NegMulAdd(c1, hn::LoadU(d, x1 + j), sum);
                sum = hn::NegMulAdd(c2, hn::LoadU(d, x2 + j), sum);
                sum = hn::NegMulAdd(c3, hn::LoadU(d, x3 + j), sum);
                hn::StoreU(sum, d, row + j);
            }
        }
    }
    for (; k < n; ++k) {
        const double* xk = x + static_cast<std::size_t>(k) * stride;
        for (int i = 0; i < std::min(columns[k], m); ++i)
            subtractScaled(xk + i, xk[i], s + static_cast<std::size_t>(i) * stride + i, columns[k] - i);
    }
}

/// Inner product of two rows of any length and alignment.
HWY_INLINE double dot(const double* a, const double* b, int count) {
    const Tag d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    auto even = hn::Zero(d);
    auto odd = hn::Zero(d);
    int j = 0;
    for (; j + 2 * lanes <= count; j += 2 * lanes) {
        even = hn::MulAdd(hn::LoadU(d, a + j), hn::LoadU(d, b + j), even);
        odd = hn::MulAdd(hn::LoadU(d, a + j + lanes), hn::LoadU(d, b + j + lanes), odd);
    }
    for (; j + lanes <= count; j += lanes) even = hn::MulAdd(hn::LoadU(d, a + j), hn::LoadU(d, b + j), even);
    double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
    for (; j < count; ++j) sum += a[j] * b[j];
    return sum;
}

/// y[0, count) += c * x[0, count) for rows of any length and alignment.
HWY_INLINE void addScaled(const double* x, double c, double* y, int count) {
    const Tag d;
    const auto vc = hn::Set(d, c);
    const int lanes = static_cast<int>(hn::Lanes(d));
    int j = 0;
    for (; j + lanes <= count; j += lanes)
        hn::StoreU(hn::MulAdd(vc, hn::LoadU(d, x + j), hn::LoadU(d, y + j)), d, y + j);
    for (; j < count; ++j) y[j] += c * x[j];
}

void SolveBand(const BandView& u, double* x) {
    for (int k = 0; k < u.n; ++k) {
        const double* row = u.values + static_cast<std::size_t>(k) * u.stride;
        x[k] *= 1.0 / row[0]; // the quotient does not wait for x
        addScaled(row + 1, -x[k], x + k + 1, std::min(u.halfBand, u.n - 1 - k));
    }
    for (int k = u.n - 1; k >= 0; --k) {
        const double* row = u.values + static_cast<std::size_t>(k) * u.stride;
        x[k] = (x[k] - dot(row + 1, x + k + 1, std::min(u.halfBand, u.n - 1 - k))) * (1.0 / row[0]);
    }
}

void MultiplyBand(const BandView& a, const double* x, double* out) {
    for (int i = 0; i < a.n; ++i) out[i] = a.values[static_cast<std::size_t>(i) * a.stride] * x[i];
    for (int i = 0; i < a.n; ++i) {
        const double* row = a.values + static_cast<std::size_t>(i) * a.stride + 1;
        const int reach = std::min(a.halfBand, a.n - 1 - i);
        out[i] += dot(row, x + i + 1, reach);
        addScaled(row, x[i], out + i + 1, reach);
    }
}

double Overlap(const double* a, std::size_t strideA, const double* b, std::size_t strideB, int rows, int width) {
    const Tag d;
    const int lanes = static_cast<int>(hn::Lanes(d));
    const int whole = width / lanes * lanes;
    const auto tail = hn::FirstN(d, static_cast<std::size_t>(width - whole));
    auto sum = hn::Zero(d);
    auto tailSum = hn::Zero(d);
    for (int row = 0; row < rows; ++row) {
        for (int i = 0; i < whole; i += lanes) sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
        tailSum = hn::MulAdd(hn::LoadU(d, a + whole), hn::LoadU(d, b + whole), tailSum);
        a += strideA;
        b += strideB;
    }
    // Past the width the rectangles hold other numbers: their products are dropped at the end.
    sum = hn::Add(sum, hn::IfThenElseZero(tail, tailSum));
    return hn::GetLane(hn::SumOfLanes(d, sum));
}

const char* TargetName() { return hwy::TargetName(HWY_TARGET); }

} // namespace patchlight::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace patchlight::kernels {

HWY_EXPORT(CholeskyBand);
HWY_EXPORT(ForwardSubstitute);
HWY_EXPORT(SubtractGram);
HWY_EXPORT(SolveBand);
HWY_EXPORT(MultiplyBand);
HWY_EXPORT(Overlap);
HWY_EXPORT(TargetName);

void limitInstructionSet() {
    const char* wanted = std::getenv("PATCHLIGHT_SIMD");
    if (wanted == nullptr || *wanted == 0) return;
    const std::string word = wanted;
#if HWY_ARCH_X86
    constexpr std::int64_t avx512 = HWY_AVX3 | HWY_AVX3_DL;
    if (word == "avx2")
        hwy::DisableTargets(avx512);
    else if (word == "baseline")
        hwy::DisableTargets(avx512 | HWY_AVX2 | HWY_SSE4 | HWY_SSSE3);
    else
        throw UsageError("PATCHLIGHT_SIMD: avx2 or baseline expected, got '" + word + "'");
#else
    throw UsageError("PATCHLIGHT_SIMD: this machine has one instruction set only; unset it");
#endif
}

const char* instructionSet() { return HWY_DYNAMIC_DISPATCH(TargetName)(); }
bool choleskyBand(const BandView& matrix) { return HWY_DYNAMIC_DISPATCH(CholeskyBand)(matrix); }
void forwardSubstitute(const BandView& factor, double* x, std::size_t stride, const int* columns) {
    HWY_DYNAMIC_DISPATCH(ForwardSubstitute)(factor, x, stride, columns);
}
void subtractGram(const double* x, std::size_t stride, const int* columns, int n, double* s, int m) {
    HWY_DYNAMIC_DISPATCH(SubtractGram)(x, stride, columns, n, s, m);
}
void solveBand(const BandView& factor, double* x) { HWY_DYNAMIC_DISPATCH(SolveBand)(factor, x); }
void multiplyBand(const BandView& matrix, const double* x, double* out) {
    HWY_DYNAMIC_DISPATCH(MultiplyBand)(matrix, x, out);
}
double overlap(const double* a, std::size_t strideA, const double* b, std::size_t strideB, int rows, int width) {
    return HWY_DYNAMIC_DISPATCH(Overlap)(a, strideA, b, strideB, rows, width);
}

} // namespace patchlight::kernels
#endif
