#include "core/cpu/SymmetricEigen.h"

#include <cmath>
#include <cstddef>

extern "C" {
// LAPACK and BLAS, Fortran interface.
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w, double* work,
             const int* lwork, int* iwork, const int* liwork, int* info);
void dgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k, const double* alpha,
            const double* a, const int* lda, const double* b, const int* ldb, const double* beta, double* c,
            const int* ldc);
}

namespace patchlight {

bool SymmetricEigen::compute(const double* a, int n) {
    n_ = n;
    const auto order = static_cast<std::size_t>(n);
    for (std::size_t i = 0; i < order * order; ++i)
        if (!std::isfinite(a[i])) return false; // LAPACK may loop for ever on NaN
    vectors_.assign(a, a + order * order);
    values_.resize(order);
    // Sizes that dsyevd asks for with eigenvectors (LAPACK users' guide).
    const int lwork = 1 + 6 * n + 2 * n * n;
    const int liwork = 3 + 5 * n;
    work_.resize(static_cast<std::size_t>(lwork));
    iwork_.resize(static_cast<std::size_t>(liwork));
    int info = 0;
    dsyevd_("V", "L", &n, vectors_.data(), &n, values_.data(), work_.data(), &lwork, iwork_.data(), &liwork, &info);
    return info == 0;
}

void SymmetricEigen::compose(const std::vector<double>& f, std::vector<double>& out) {
    const auto order = static_cast<std::size_t>(n_);
    scaled_.resize(order * order);
    out.resize(order * order);
    for (std::size_t k = 0; k < order; ++k)
        for (std::size_t i = 0; i < order; ++i) scaled_[k * order + i] = vectors_[k * order + i] * f[k];
    const double one = 1.0;
    const double zero = 0.0;
    dgemm_("N", "T", &n_, &n_, &n_, &one, scaled_.data(), &n_, vectors_.data(), &n_, &zero, out.data(), &n_);
}

} // namespace patchlight
