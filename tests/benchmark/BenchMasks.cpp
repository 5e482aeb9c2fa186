// Not a test: what masks cost the fast path, and how far it is then from the exact one. One bundle of a CCD image, with masks put on its
// traces. Usage: bench_masks IMAGE PSF [SPECMIN [WMIN,WMAX,DW [METHOD]]] (default 25 5760,7620,0.8 patches). A line for each kind of mask: CPU time of
// the fast path (one thread, median of five) and its ratio to the image as it is (median of five pairs in turn), patches that climbed and that took a last rung, and
// the largest differences from the exact path (seamless: from itself with bounds of 1e-9 sigma, which dense algebra confirms in test_seamless) in flux (sigma), ivar (relative, also over bins of more than 1e-4 of the largest ivar) and resolution (absolute).

#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "tests/support/SmallExposure.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <random>
#include <string>

using namespace patchlight;

namespace {

struct Case {
    const char* name;
    int side;    ///< of square masks, pixels
    int squares; ///< how many
    int columns; ///< width of dead columns, pixels
    int sets;    ///< how many of them
    int spacing; ///< between sets, pixels
    bool amplifier;
};

constexpr Case cases[] = {{"as it is", 0, 0, 0, 0, 0, false},       {"300 x 3 x 3", 3, 300, 0, 0, 0, false},
                          {"300 x 5 x 5", 5, 300, 0, 0, 0, false},  {"300 x 7 x 7", 7, 300, 0, 0, 0, false},
                          {"20 x 11 x 11", 11, 20, 0, 0, 0, false}, {"200 x 11 x 11", 11, 200, 0, 0, 0, false},
                          {"9 columns", 0, 0, 1, 9, 21, false},     {"7 columns", 0, 0, 7, 1, 0, false},
                          {"6 x 7 columns", 0, 0, 7, 6, 30, false}, {"amplifier", 0, 0, 0, 0, 0, true},
                          {"20, 7 and amp.", 11, 20, 7, 1, 0, true}};

void applyMasks(const Case& masks, WeightedPixels& pixels, const Psf& psf, int specmin, double middle) {
    std::mt19937 random(3);
    for (int i = 0; i < masks.squares; ++i) {
        const int spectrum = specmin + static_cast<int>(random() % 25);
        const int y = 60 + static_cast<int>(random() % static_cast<unsigned>(pixels.ny - 128));
        const int x = static_cast<int>(std::lround(psf.x(spectrum, psf.wavelengthAt(spectrum, y)))) +
                      static_cast<int>(random() % 5) - 2;
        const int left = x - masks.side / 2;
        const int bottom = y - masks.side / 2;
        test::maskPixels(pixels, left, left + masks.side, bottom, bottom + masks.side);
    }
    const int first = static_cast<int>(std::lround(psf.x(specmin, middle)));
    for (int i = 0; i < masks.sets; ++i) {
        const int left = first + 10 + i * masks.spacing;
        test::maskPixels(pixels, left, left + masks.columns, 0, pixels.ny);
    }
    if (masks.amplifier) test::maskPixels(pixels, 0, pixels.nx, pixels.ny / 2, pixels.ny);
}

double cpuSeconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

void run(int argc, char** argv) {
    const Psf psf = readPsf(argv[2]);
    const CcdImage image = readCcdImage(argv[1]);
    ExtractionOptions options;
    options.specmin = argc > 3 ? std::atoi(argv[3]) : 25;
    options.nspec = 25;
    findOption("wavelength").set(options, argc > 4 ? argv[4] : "5760,7620,0.8");
    if (argc > 5) findOption("method").set(options, argv[5]);
    const Plan plan = makePlan(psf, options);
    RunControl control;
    control.threads = 1;
    const auto fast = makeCpuBackend();
    const bool seamless = options.method == Method::Seamless;
    const auto exact = makeCpuBackend(seamless ? CpuOptions{.exact = false, .bounds = {1e-9, 1e-10, 1e-10}}
                                               : CpuOptions{.exact = true, .bounds = {}});
    const WeightedPixels clean = weightedPixels(image);
    std::printf("%-14s %6s %6s %8s %6s %9s %9s %9s %9s\n", "masks", "ms", "ratio", "climbed", "last", "flux", "ivar",
                "lit ivar", "R");
    for (const Case& masks : cases) {
        WeightedPixels pixels = weightedPixels(image);
        applyMasks(masks, pixels, psf, options.specmin, 0.5 * (options.wavelength->wmin + options.wavelength->wmax));
        std::array<double, 5> seconds{};
        std::array<double, 5> ratios{};
        ExtractionResult got;
        for (std::size_t i = 0; i < seconds.size(); ++i) {
            const double start = cpuSeconds();
            (void)extractFrame(*fast, clean.view(), psf, plan, control);
            const double between = cpuSeconds();
            got = extractFrame(*fast, pixels.view(), psf, plan, control);
            seconds[i] = cpuSeconds() - between;
            ratios[i] = seconds[i] / (between - start);
        }
        std::sort(seconds.begin(), seconds.end());
        std::sort(ratios.begin(), ratios.end());
        const ExtractionResult want = extractFrame(*exact, pixels.view(), psf, plan, control);
        const double brightest = *std::max_element(want.frame.ivar.values().begin(), want.frame.ivar.values().end());
        double flux = 0;
        double ivar = 0;
        double litIvar = 0;
        double resolution = 0;
        for (std::size_t s = 0; s < want.frame.nspec(); ++s)
            for (std::size_t j = 0; j < want.frame.nwave(); ++j) {
                const double own = want.frame.ivar(s, j);
                if (!(own > 0)) continue;
                flux = std::max(flux, std::abs(got.frame.flux(s, j) - want.frame.flux(s, j)) * std::sqrt(own));
                const double relative = std::abs(got.frame.ivar(s, j) / own - 1);
                ivar = std::max(ivar, relative);
                if (own > 1e-4 * brightest) litIvar = std::max(litIvar, relative);
                for (std::size_t k = 0; k < want.frame.resolution.rows(); ++k)
                    resolution =
                        std::max(resolution, std::abs(got.frame.resolution(s, k, j) - want.frame.resolution(s, k, j)));
            }
        const auto count = [&](PatchStatus bit) {
            return std::count_if(got.reports.begin(), got.reports.end(), [&](const PatchReport& report) {
                return (report.status & static_cast<std::uint32_t>(bit)) != 0;
            });
        };
        std::printf("%-14s %6.0f %6.2f %8td %6td %9.1e %9.1e %9.1e %9.1e\n", masks.name, 1e3 * seconds[2], ratios[2],
                    count(PatchStatus::WideBand), count(PatchStatus::Exact), flux, ivar, litIvar, resolution);
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s IMAGE PSF [SPECMIN [WMIN,WMAX,DW [METHOD]]]\n", argv[0]);
        return 2;
    }
    try {
        run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
