#pragma once

#include <cstddef>
#include <cstdint>

/// Inner loops of the CPU backend, vectorised for the instruction set of the machine at run time (Highway).
/// All matrices are double; "padded" rows may be read and written up to `kernelPad` elements past their end and hold zeros there.
namespace patchlight::kernels {

/// Elements that rows must be padded with.
inline constexpr std::size_t kernelPad = 8;

/// Rows that the factorisation takes at a time.
inline constexpr int panelRows = 4;

/// `count` rounded up to whole vectors, with room for the over-run of an unaligned last one that starts where a panel's last row does.
[[nodiscard]] constexpr std::size_t paddedStride(std::size_t count) {
    return (count + panelRows - 1 + kernelPad - 1) / kernelPad * kernelPad + kernelPad;
}

/// Keeps to an older instruction set where the environment variable PATCHLIGHT_SIMD asks for one: avx2 or baseline (anything else the
/// machine has is used by default). For tests and measurements; call before the first kernel. @throws UsageError for another word
void limitInstructionSet();

/// Instruction set in use: "AVX3_ZEN4", "AVX2", ...
[[nodiscard]] const char* instructionSet();

/// Symmetric band matrix of order n, upper triangle by rows: element (i, j), i <= j <= i + halfBand, at [i * stride + j - i].
struct BandView {
    double* values = nullptr; ///< [n][stride], zero beyond the band
    int n = 0;
    int halfBand = 0;
    std::size_t stride = 0; ///< paddedStride(halfBand + 1)
};

/// Cholesky factorisation A = U^T U in place. @return false where a pivot is not positive (A not positive definite, or NaN)
[[nodiscard]] bool choleskyBand(const BandView& matrix);

/// X = U^-T B in place, for many right-hand sides.
/// @param x       [n][stride], padded rows
/// @param columns per row: columns [0, columns[i]) may be non-zero once row i is done, the others are zero; they never decrease
void forwardSubstitute(const BandView& factor, double* x, std::size_t stride, const int* columns);

/// S -= X^T X, upper triangle (what is left of the diagonal is of no use after). @param s [m][stride], padded rows; m columns in x
void subtractGram(const double* x, std::size_t stride, const int* columns, int n, double* s, int m);

/// Solves U^T U x = b in place for one right-hand side.
void solveBand(const BandView& factor, double* x);

/// out = A x for the symmetric matrix itself.
void multiplyBand(const BandView& matrix, const double* x, double* out);

/// Inner product of two pixel rectangles: sum over rows of a[row * strideA + i] * b[row * strideB + i], i < width.
/// Both must hold readable, finite values up to kernelPad elements past the width of the last row.
[[nodiscard]] double overlap(const double* a, std::size_t strideA, const double* b, std::size_t strideB, int rows,
                             int width);

} // namespace patchlight::kernels
