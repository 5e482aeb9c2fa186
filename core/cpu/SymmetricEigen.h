#pragma once

#include <vector>

namespace patchlight {

/// Eigen-decomposition of a symmetric matrix by LAPACK's dsyevd, with workspace kept between calls.
class SymmetricEigen {
public:
    /// Decomposes the symmetric matrix `a` ([n][n], either triangle filled as both).
    /// @return false where LAPACK does not converge or the matrix holds NaN
    [[nodiscard]] bool compute(const double* a, int n);
    /// Only the eigenvalues, several times as fast; vectors() are not to be used then.
    [[nodiscard]] bool computeValues(const double* a, int n);
    /// Ascending, [n].
    [[nodiscard]] const std::vector<double>& values() const { return values_; }
    /// Eigenvector k at [k * n, (k + 1) * n).
    [[nodiscard]] const std::vector<double>& vectors() const { return vectors_; }
    /// out = V diag(f) V^T, [n][n]. @param f [n]
    void compose(const std::vector<double>& f, std::vector<double>& out);

private:
    int n_ = 0;
    std::vector<double> values_;
    std::vector<double> vectors_;
    std::vector<double> work_;
    std::vector<int> iwork_;
    std::vector<double> scaled_;
};

/// Inverse of a symmetric, positive definite matrix by Cholesky's factors, [n][n], both triangles.
/// @return false where it is not positive definite
[[nodiscard]] bool invertPositive(const double* a, int n, std::vector<double>& out);

} // namespace patchlight
