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

bool CholeskyBand(const BandView& a) {
    for (int k = 0; k < a.n; ++k) {
        double* row = a.values + static_cast<std::size_t>(k) * a.stride;
        const double pivot = row[0];
        if (!(pivot > 0.0)) return false;
        const int reach = std::min(a.halfBand, a.n - 1 - k);
        scale(row, 1.0 / std::sqrt(pivot), reach + 1);
        // Right-looking: subtract the outer product of this row from the rows that it touches.
        for (int i = 1; i <= reach; ++i) {
            if (row[i] != 0.0)
                subtractScaled(row + i, row[i], row + static_cast<std::size_t>(i) * a.stride, reach + 1 - i);
        }
    }
    return true;
}

void ForwardSubstitute(const BandView& u, double* x, std::size_t stride, const int* columns) {
    for (int k = 0; k < u.n; ++k) {
        const double* row = u.values + static_cast<std::size_t>(k) * u.stride;
        double* xk = x + static_cast<std::size_t>(k) * stride;
        scale(xk, 1.0 / row[0], columns[k]);
        const int reach = std::min(u.halfBand, u.n - 1 - k);
        for (int i = 1; i <= reach; ++i) {
            if (row[i] != 0.0) subtractScaled(xk, row[i], xk + static_cast<std::size_t>(i) * stride, columns[k]);
        }
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
            for (int j = i; j < count; j += lanes) {
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

void SolveBand(const BandView& u, double* x) {
    for (int k = 0; k < u.n; ++k) {
        const double* row = u.values + static_cast<std::size_t>(k) * u.stride;
        x[k] /= row[0];
        const int reach = std::min(u.halfBand, u.n - 1 - k);
        for (int i = 1; i <= reach; ++i) x[k + i] -= row[i] * x[k];
    }
    for (int k = u.n - 1; k >= 0; --k) {
        const double* row = u.values + static_cast<std::size_t>(k) * u.stride;
        const int reach = std::min(u.halfBand, u.n - 1 - k);
        double sum = x[k];
        for (int i = 1; i <= reach; ++i) sum -= row[i] * x[k + i];
        x[k] = sum / row[0];
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
double overlap(const double* a, std::size_t strideA, const double* b, std::size_t strideB, int rows, int width) {
    return HWY_DYNAMIC_DISPATCH(Overlap)(a, strideA, b, strideB, rows, width);
}

} // namespace patchlight::kernels
#endif
