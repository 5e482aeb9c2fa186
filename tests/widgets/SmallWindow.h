#pragma once

#include "core/cpu/CpuBackend.h"
#include "core/engine/Engine.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "tests/support/SmallExposure.h"
#include "widgets/control/Document.h"
#include "widgets/control/ExtractionController.h"
#include "widgets/control/TraceMap.h"
#include "widgets/window/MainWindow.h"

#include <QDockWidget>
#include <QTest>

#include <memory>
#include <string>

namespace patchlight::test {

/// A window with a small exposure open: 10 fibers in bundles of 5, patches of 15 wavelengths.
struct SmallWindow {
    widgets::MainWindow window{[](const std::string&) { return makeCpuBackend(); }};
    std::shared_ptr<Psf> psf;

    SmallWindow() {
        const SmallExposure small = smallExposure();
        psf = std::make_shared<Psf>(small.psf);
        psf->path = "first.fits";
        psf->pack();
        auto image = std::make_shared<CcdImage>();
        image->path = "small.fits";
        image->nx = small.pixels.nx;
        image->ny = small.pixels.ny;
        image->pixels = small.pixels.pixels;
        image->ivar = small.pixels.weights;
        image->mask.assign(image->pixels.size(), 0);
        document().setOptions(smallPatches(small));
        document().setImage(image, std::make_shared<WeightedPixels>(small.pixels));
        document().setPsf(psf, std::make_shared<widgets::TraceMap>(*psf, image->nx, image->ny));
        window.resize(1600, 1000);
        window.show();
    }
    widgets::Document& document() { return window.document(); }
    widgets::LinkedViews& views() { return window.linkedViews(); }
    widgets::ResolutionView& resolution() { return window.resolutionView(); }
    widgets::PsfInspector& inspector() { return window.psfInspector(); }
    void raise(const char* dock) {
        window.dock(QLatin1String(dock))->show();
        window.dock(QLatin1String(dock))->raise();
        QVERIFY(
            QTest::qWaitFor([&] { return !window.dock(QLatin1String(dock))->widget()->visibleRegion().isEmpty(); }));
        QTest::qWait(50); // what was behind another tab catches up
    }
    /// Selects the patch of a bin and waits for its extraction.
    bool select(int spectrum, int core) {
        const widgets::Cursor cursor = document().cursorAtBin(spectrum, document().plan()->grid.outputWavelength(core));
        document().setCursor(cursor);
        const PatchDetail* const before = document().patchRun().detail.get();
        document().selectPatch(document().patchAt(cursor));
        return QTest::qWaitFor([&] {
            return document().patchRun() && document().patchRun().detail.get() != before &&
                   window.controller().activeJobs() == 0;
        });
    }
    /// Another PSF: a quarter of a pixel to the right, 5 % wider in x.
    [[nodiscard]] std::shared_ptr<Psf> otherPsf() const {
        auto other = std::make_shared<Psf>(*psf);
        other->path = "second.fits";
        for (std::size_t s = 0; s < static_cast<std::size_t>(other->nspec); ++s) {
            LegendreSeries& x = other->series["X"];
            x.coeff[s * static_cast<std::size_t>(x.ncoeff)] += 0.25;
            LegendreSeries& sigma = other->series["GHSIGX"];
            for (int i = 0; i < sigma.ncoeff; ++i)
                sigma.coeff[s * static_cast<std::size_t>(sigma.ncoeff) + static_cast<std::size_t>(i)] *= 1.05;
        }
        other->pack();
        return other;
    }
};

} // namespace patchlight::test
