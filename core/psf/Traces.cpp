#include "core/psf/Traces.h"

#include "core/psf/GaussHermite.h"

#include <algorithm>
#include <cstddef>

namespace patchlight {

void legendreSums(const double* coeff, int ncoeff, const double domain[2], int count,
                  const std::vector<double>& wavelength, double* out) {
    const std::size_t bins = wavelength.size();
    std::vector<double> u(bins);
    std::vector<double> before(bins); // Clenshaw's b of the step before
    for (std::size_t i = 0; i < bins; ++i) u[i] = legendreArgument(wavelength[i], domain);
    for (const double* c = coeff; count > 0; --count, c += ncoeff, out += bins) {
        if (ncoeff == 1) {
            std::fill_n(out, bins, c[0]);
            continue;
        }
        std::fill(before.begin(), before.end(), c[ncoeff - 2]);
        std::fill_n(out, bins, c[ncoeff - 1]);
        for (int n = ncoeff - 1; n >= 2; --n) {
            const double lower = static_cast<double>(n - 1) / n;
            const double upper = static_cast<double>(2 * n - 1) / n;
            for (std::size_t i = 0; i < bins; ++i) {
                const double previous = before[i];
                before[i] = c[n - 2] - out[i] * lower;
                out[i] = previous + out[i] * u[i] * upper;
            }
        }
        for (std::size_t i = 0; i < bins; ++i) out[i] = before[i] + out[i] * u[i];
    }
}

} // namespace patchlight
