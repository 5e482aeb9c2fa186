#include "core/cpu/SymmetricEigen.h"

#include <cmath>
#include <cstddef>
#include <mutex>

extern "C" {
// LAPACK and BLAS, Fortran interface.
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w, double* work,
             const int* lwork, int* iwork, const int* liwork, int* info);
void dgemm_(const char* transa, const char* transb, const int* m, const int* n, const int* k, const double* alpha,
            const double* a, const int* lda, const double* b, const int* ldb, const double* beta, double* c,
            const int* ldc);
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info);
void dpotri_(const char* uplo, const int* n, double* a, const int* lda, int* info);
// OpenBLAS's own functions, where that is the library: weak, so that any LAPACK will do.
[[gnu::weak]] int openblas_get_parallel();
[[gnu::weak]] void openblas_set_num_threads(int count);
}

namespace patchlight {

namespace {

/// Makes calls of LAPACK safe and of one thread each: our threads have a patch each, so that the library's own would only compete
/// with them, and change the rounding of results. OpenBLAS built without threads keeps its buffers without locks: then calls from
/// several threads give wrong results (seen with Debian's libopenblas0-serial), so one thread at a time may enter.
class LapackGuard {
public:
    LapackGuard() {
        if (needsLock()) lock_ = std::unique_lock(mutex());
    }

private:
    static bool needsLock() {
        static const bool serial = [] {
            if (openblas_set_num_threads != nullptr) openblas_set_num_threads(1);
            return openblas_get_parallel != nullptr && openblas_get_parallel() == 0;
        }();
        return serial;
    }
    static std::mutex& mutex() {
        static std::mutex one;
        return one;
    }
    std::unique_lock<std::mutex> lock_;
};

} // namespace

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
    const LapackGuard guard;
    dsyevd_("V", "L", &n, vectors_.data(), &n, values_.data(), work_.data(), &lwork, iwork_.data(), &liwork, &info);
    return info == 0;
}

bool SymmetricEigen::computeValues(const double* a, int n) {
    n_ = n;
    const auto order = static_cast<std::size_t>(n);
    for (std::size_t i = 0; i < order * order; ++i)
        if (!std::isfinite(a[i])) return false;
    vectors_.assign(a, a + order * order);
    values_.resize(order);
    // As the library asks for: its blocks are what makes it quick.
    int lwork = -1;
    int liwork = -1;
    int info = 0;
    double bestWork = 0;
    int bestIwork = 0;
    const LapackGuard guard;
    dsyevd_("N", "L", &n, vectors_.data(), &n, values_.data(), &bestWork, &lwork, &bestIwork, &liwork, &info);
    if (info != 0) return false;
    lwork = static_cast<int>(bestWork);
    liwork = bestIwork;
    work_.resize(static_cast<std::size_t>(lwork));
    iwork_.resize(static_cast<std::size_t>(liwork));
    dsyevd_("N", "L", &n, vectors_.data(), &n, values_.data(), work_.data(), &lwork, iwork_.data(), &liwork, &info);
    return info == 0;
}

bool invertPositive(const double* a, int n, std::vector<double>& out) {
    const auto order = static_cast<std::size_t>(n);
    out.assign(a, a + order * order);
    int info = 0;
    {
        const LapackGuard guard;
        dpotrf_("L", &n, out.data(), &n, &info);
        if (info == 0) dpotri_("L", &n, out.data(), &n, &info);
    }
    // LAPACK's lower triangle, by columns, is the upper one by rows.
    for (std::size_t i = 0; i < order; ++i)
        for (std::size_t j = 0; j < i; ++j) out[i * order + j] = out[j * order + i];
    return info == 0;
}

void SymmetricEigen::compose(const std::vector<double>& f, std::vector<double>& out) {
    const auto order = static_cast<std::size_t>(n_);
    scaled_.resize(order * order);
    out.resize(order * order);
    for (std::size_t k = 0; k < order; ++k)
        for (std::size_t i = 0; i < order; ++i) scaled_[k * order + i] = vectors_[k * order + i] * f[k];
    const LapackGuard guard;
    const double one = 1.0;
    const double zero = 0.0;
    dgemm_("N", "T", &n_, &n_, &n_, &one, scaled_.data(), &n_, vectors_.data(), &n_, &zero, out.data(), &n_);
}

} // namespace patchlight
