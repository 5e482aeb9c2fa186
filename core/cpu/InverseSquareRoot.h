#pragma once

#include "core/engine/ErrorBounds.h"

#include <vector>

namespace patchlight {

/// A rational approximation of x^(-1/2) on [1, kappa]: sum_k weight[k] / (x + pole[k]), Zolotarev's best for its number of poles.
///
/// Midpoint rule for x^(-1/2) = (2/pi) int dt/(x + t^2) in the variable of Jacobi's elliptic functions (Hale, Higham & Trefethen 2008,
/// SIAM J. Numer. Anal. 46, 2505, method 3), scaled so that its largest errors above and below are equal.
struct InverseSquareRoot {
    double kappa = 0;
    double error = 0; ///< largest relative error on [1, kappa], measured on a fine grid when made
    std::vector<double> pole;
    std::vector<double> weight;

    /// The approximation with `poles` poles for condition numbers up to `kappa`.
    [[nodiscard]] static InverseSquareRoot make(double kappa, int poles);
};

/// The rungs of the ladder, by condition number: each entry's error is at most inverseSquareRootError(). Made once.
[[nodiscard]] const std::vector<InverseSquareRoot>& inverseSquareRootLadder();
/// The same with errors of at most 1e-13, for matrices of which a pole costs next to nothing.
[[nodiscard]] const std::vector<InverseSquareRoot>& inverseSquareRootFineLadder();

} // namespace patchlight
