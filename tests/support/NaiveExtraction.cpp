#include "tests/support/NaiveExtraction.h"

#include <Eigen/Dense>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace patchlight::test {

Eigen::VectorXd naiveMinimumWeights(const Plan& plan, const Patch& patch, const Eigen::VectorXd& fluxweight) {
    const int nwave = patch.bins.count();
    Eigen::VectorXd out = Eigen::VectorXd::Constant(fluxweight.size(), 1e-4 * fluxweight.maxCoeff());
    if (plan.options.method != Method::Seamless) return out;
    const int half = (plan.options.nwavestep + 2 * plan.grid.pad) / 2;
    for (int s = patch.spectra.first; s < patch.spectra.last; ++s)
        for (int i = 0; i < nwave; ++i) {
            double largest = 0;
            for (const Subbundle& sub : plan.subbundles)
                if (sub.core.contains(s))
                    for (int t = sub.padded.first; t < sub.padded.last; ++t)
                        for (int j = std::max(0, i - half); j <= std::min(nwave - 1, i + half); ++j)
                            if (patch.spectra.contains(t))
                                largest = std::max(largest, fluxweight[(t - patch.spectra.first) * nwave + j]);
            out[(s - patch.spectra.first) * nwave + i] = 1e-4 * largest;
        }
    return out;
}

NaiveResult naivePatch(const CcdView& ccd, const PsfView& psf, const Plan& plan, const Patch& patch,
                       double regularize) {
    const int nspec = patch.spectra.count();
    const int nwave = patch.bins.count();
    const int n = nspec * nwave;
    const int nx = psf.stampX();
    const int ny = psf.stampY();
    NaiveResult out;

    std::vector<std::vector<double>> spots(static_cast<std::size_t>(n),
                                           std::vector<double>(static_cast<std::size_t>(nx * ny)));
    std::vector<int> cx(static_cast<std::size_t>(n));
    std::vector<int> cy(static_cast<std::size_t>(n));
    for (int s = 0; s < nspec; ++s)
        for (int w = 0; w < nwave; ++w) {
            const auto i = static_cast<std::size_t>(s * nwave + w);
            evaluateSpot(psf, patch.spectra.first + s, plan.grid.wavelength(patch.bins.first + w), plan.options.psfTail,
                         spots[i].data(), cx[i], cy[i]);
        }

    // Pixel window.
    int xlo = 1 << 30, xhi = -(1 << 30), ypadmin = 1 << 30, ypadmax = -(1 << 30), ymin = 1 << 30, ymax = -(1 << 30);
    for (int s = 0; s < nspec; ++s)
        for (int w = 0; w < nwave; ++w) {
            const auto i = static_cast<std::size_t>(s * nwave + w);
            xlo = std::min(xlo, cx[i]);
            xhi = std::max(xhi, cx[i] + nx);
            ypadmin = std::min(ypadmin, cy[i]);
            ypadmax = std::max(ypadmax, cy[i] + ny);
            const int bin = patch.bins.first + w;
            if (bin >= patch.coreBins.first && bin < patch.coreBins.last) {
                ymin = std::min(ymin, cy[i]);
                ymax = std::max(ymax, cy[i] + ny);
            }
        }
    const double frac = plan.options.pixpadFrac;
    out.ymin = ypadmin + static_cast<int>((ymin - ypadmin) * (1 - frac));
    out.ymax = ypadmin + static_cast<int>((ymax - ypadmin) + (ypadmax - ymax) * frac);
    out.ymin = std::max(out.ymin, 0);
    out.ymax = std::min(out.ymax, ccd.ny);
    out.xmin = std::max(xlo, 0);
    out.xmax = std::min(xhi, ccd.nx);
    const int columns = std::max(0, out.xmax - out.xmin);
    const int rows = columns > 0 ? std::max(0, out.ymax - out.ymin) : 0;
    const int npix = rows * columns;

    // A, W, p.
    Eigen::MatrixXd a = Eigen::MatrixXd::Zero(npix, n);
    Eigen::VectorXd weight = Eigen::VectorXd::Zero(npix);
    Eigen::VectorXd pixel = Eigen::VectorXd::Zero(npix);
    for (int p = 0; p < npix; ++p) {
        const int x = out.xmin + p % columns;
        const int y = out.ymin + p / columns;
        const auto at = static_cast<std::size_t>(y) * static_cast<std::size_t>(ccd.nx) + static_cast<std::size_t>(x);
        weight[p] = static_cast<double>(ccd.weights[at]);
        pixel[p] = static_cast<double>(ccd.pixels[at]);
        for (int i = 0; i < n; ++i) {
            const int ix = x - cx[static_cast<std::size_t>(i)];
            const int iy = y - cy[static_cast<std::size_t>(i)];
            if (ix >= 0 && ix < nx && iy >= 0 && iy < ny)
                a(p, i) = spots[static_cast<std::size_t>(i)][static_cast<std::size_t>(iy * nx + ix)];
        }
    }

    // BS eq 4, the prior, the deconvolved flux.
    out.icov = a.transpose() * weight.asDiagonal() * a;
    out.y = a.transpose() * weight.cwiseProduct(pixel);
    out.fluxweight = a.transpose() * weight;
    const Eigen::VectorXd minweight =
        npix > 0 ? naiveMinimumWeights(plan, patch, out.fluxweight) : Eigen::VectorXd(Eigen::VectorXd::Zero(n));
    for (int i = 0; i < n; ++i) {
        const double alpha = out.fluxweight[i] < minweight[i] ? minweight[i] - out.fluxweight[i] : regularize;
        out.icov(i, i) += alpha * alpha + 1e-15;
    }
    const bool empty = npix == 0 || out.fluxweight.maxCoeff() <= 0;
    const auto squareRoot = [](const Eigen::MatrixXd& m) {
        const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> e(m);
        return Eigen::MatrixXd(e.eigenvectors() * e.eigenvalues().cwiseMax(0.0).cwiseSqrt().asDiagonal() *
                               e.eigenvectors().transpose());
    };
    out.xflux = Eigen::VectorXd::Zero(n);
    out.flux = Eigen::VectorXd::Zero(n);
    out.ivar = Eigen::VectorXd::Zero(n);
    out.r = Eigen::MatrixXd::Zero(n, n);
    if (!empty) {
        out.xflux = out.icov.ldlt().solve(out.y);
        Eigen::MatrixXd q = Eigen::MatrixXd::Zero(n, n);
        if (plan.options.decorrelate == Decorrelate::Noise) {
            q = squareRoot(out.icov); // BS eq 10
        } else {
            for (int s = 0; s < nspec; ++s) { // BS eqs 17-19: Q_s = C_s^(-1/2), by the Schur complement of iCov onto s
                std::vector<int> others;
                for (int i = 0; i < n; ++i)
                    if (i / nwave != s) others.push_back(i);
                std::vector<int> own;
                for (int w = 0; w < nwave; ++w) own.push_back(s * nwave + w);
                Eigen::MatrixXd schur = out.icov(own, own);
                if (!others.empty())
                    schur -=
                        out.icov(own, others) *
                        Eigen::MatrixXd(out.icov(others, others)).ldlt().solve(Eigen::MatrixXd(out.icov(others, own)));
                q.block(s * nwave, s * nwave, nwave, nwave) = squareRoot(0.5 * (schur + schur.transpose()));
            }
        }
        const Eigen::VectorXd sums = q.rowwise().sum();
        out.r = sums.cwiseInverse().asDiagonal() * q;
        out.ivar = sums.cwiseProduct(sums);
        out.flux = out.r * out.xflux;
        for (int i = 0; i < n; ++i)
            if (out.fluxweight[i] == 0) {
                out.flux[i] = 0;
                out.ivar[i] = 0;
                out.r.row(i).setZero();
                out.r.col(i).setZero();
            }
    }

    // Quality.
    out.model = a * out.xflux;
    Eigen::VectorXd chi2 = Eigen::VectorXd::Zero(npix);
    Eigen::VectorXd counted = Eigen::VectorXd::Zero(npix);
    for (int p = 0; p < npix; ++p)
        if (weight[p] > 0 && out.model[p] != 0) {
            counted[p] = 1;
            chi2[p] = std::pow(pixel[p] - out.model[p], 2) / (1 / weight[p] + std::pow(plan.psferr * out.model[p], 2));
        }
    const Eigen::VectorXd above = a.transpose() * chi2;
    const Eigen::VectorXd below = a.transpose() * counted;
    out.chi2pix = Eigen::VectorXd::Zero(n);
    out.pixmaskFraction = Eigen::VectorXd::Zero(n);
    for (int i = 0; i < n; ++i) {
        if (below[i] > 0) out.chi2pix[i] = above[i] / below[i];
        for (int iy = 0; iy < ny; ++iy)
            for (int ix = 0; ix < nx; ++ix) {
                const int x = cx[static_cast<std::size_t>(i)] + ix;
                const int y = cy[static_cast<std::size_t>(i)] + iy;
                const bool onCcd = x >= 0 && x < ccd.nx && y >= 0 && y < ccd.ny;
                const auto at =
                    onCcd ? static_cast<std::size_t>(y) * static_cast<std::size_t>(ccd.nx) + static_cast<std::size_t>(x)
                          : 0;
                if (!onCcd || !(ccd.weights[at] > 0))
                    out.pixmaskFraction[i] +=
                        spots[static_cast<std::size_t>(i)][static_cast<std::size_t>(iy * nx + ix)];
            }
    }
    return out;
}

} // namespace patchlight::test
