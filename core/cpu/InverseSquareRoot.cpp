#include "core/cpu/InverseSquareRoot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <utility>

namespace patchlight {

namespace {

/// Jacobi's sn, cn, dn of parameter 1 - m1, and the quarter period K, by the arithmetic-geometric mean (DLMF 22.20).
class Jacobi {
public:
    explicit Jacobi(double m1) {
        double a = 1.0;
        double b = std::sqrt(m1);
        double c = std::sqrt(1.0 - m1);
        while (std::abs(c) > 1e-17 * a && count_ < steps) {
            ratio_[static_cast<std::size_t>(count_)] = c / a;
            const double next = 0.5 * (a + b);
            c = 0.5 * (a - b);
            b = std::sqrt(a * b);
            a = next;
            ++count_;
            scale_ *= 2.0;
        }
        mean_ = a;
        last_ = c;
    }
    [[nodiscard]] double quarterPeriod() const { return std::numbers::pi / (2.0 * mean_); }

    void evaluate(double u, double& sn, double& cn, double& dn) const {
        double phi = scale_ * mean_ * u;
        double before = phi;
        // Descending Landen transformation, from the last ratio c_n/a_n back to the first.
        for (int n = count_; n > 0; --n) {
            const double ratio = n == count_ ? last_ / mean_ : ratio_[static_cast<std::size_t>(n)];
            before = phi;
            phi = 0.5 * (phi + std::asin(ratio * std::sin(phi)));
        }
        sn = std::sin(phi);
        cn = std::cos(phi);
        const double difference = std::cos(before - phi);
        dn = difference != 0.0 ? cn / difference : 1.0;
    }

private:
    static constexpr int steps = 24;
    std::array<double, steps> ratio_{}; ///< c_n/a_n
    int count_ = 0;
    double scale_ = 1.0;
    double mean_ = 1.0;
    double last_ = 0.0;
};

double approximate(const InverseSquareRoot& f, double x) {
    double sum = 0.0;
    for (std::size_t k = 0; k < f.pole.size(); ++k) sum += f.weight[k] / (x + f.pole[k]);
    return sum;
}

} // namespace

InverseSquareRoot InverseSquareRoot::make(double kappa, int poles) {
    InverseSquareRoot f;
    f.kappa = kappa;
    const Jacobi jacobi(1.0 / kappa);
    const double period = jacobi.quarterPeriod();
    for (int k = 0; k < poles; ++k) {
        double sn = 0;
        double cn = 0;
        double dn = 0;
        jacobi.evaluate((k + 0.5) * period / poles, sn, cn, dn);
        f.pole.push_back(sn * sn / (cn * cn));
        f.weight.push_back(2.0 * period / (std::numbers::pi * poles) * dn / (cn * cn));
    }
    // Equal errors above and below.
    constexpr int grid = 4000;
    double low = 1e300;
    double high = 0.0;
    for (int i = 0; i <= grid; ++i) {
        const double x = std::exp(std::log(kappa) * i / grid);
        const double value = std::sqrt(x) * approximate(f, x);
        low = std::min(low, value);
        high = std::max(high, value);
    }
    for (double& weight : f.weight) weight *= 2.0 / (low + high);
    f.error = (high - low) / (high + low);
    return f;
}

namespace {

template <class Bound> std::vector<InverseSquareRoot> makeLadder(double largest, const Bound& bound) {
    std::vector<InverseSquareRoot> rungs;
    for (const double kappa : {300.0, 700.0, 2000.0, 6000.0, 2e4, 1e5, 1e6, 1e7, 1e9, 1e11}) {
        if (kappa > largest) break;
        int poles = rungs.empty() ? 8 : static_cast<int>(rungs.back().pole.size()); // never fewer than the rung before
        while (poles < 64) {
            InverseSquareRoot f = InverseSquareRoot::make(kappa, poles);
            if (f.error <= bound(kappa)) {
                rungs.push_back(std::move(f));
                break;
            }
            ++poles;
        }
    }
    return rungs;
}

} // namespace

const std::vector<InverseSquareRoot>& inverseSquareRootLadder() {
    static const std::vector<InverseSquareRoot> ladder = makeLadder(1e9, inverseSquareRootError);
    return ladder;
}

const std::vector<InverseSquareRoot>& inverseSquareRootFineLadder() {
    static const std::vector<InverseSquareRoot> ladder = makeLadder(1e11, [](double) { return 1e-13; });
    return ladder;
}

} // namespace patchlight
