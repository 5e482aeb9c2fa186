#include "widgets/control/Document.h"

#include "core/analysis/Barycentric.h"
#include "core/analysis/TruthSpectra.h"
#include "core/base/Error.h"
#include "core/engine/FrameHeader.h"
#include "core/engine/PatchResult.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "widgets/control/PatchBins.h"
#include "widgets/control/TraceMap.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace patchlight::widgets {

Document::Document(QObject* parent) : QObject(parent) {
    qRegisterMetaType<Cursor>();
    replan();
}

Document::~Document() = default;

void Document::setOptions(const ExtractionOptions& options) {
    options_ = options;
    ++generation_;
    Q_EMIT optionsChanged();
    replan();
}

void Document::replan() {
    plan_.reset();
    planProblem_.clear();
    if (!psf_) {
        planProblem_ = tr("no PSF is open");
    } else {
        try {
            double factor = 1.0;
            if (image_) {
                requireSameSize(*image_, *psf_);
                if (options_.barycentricCorrection)
                    factor = barycentricFactor(image_->header, image_->fibermap ? &image_->fibermap->header : nullptr,
                                               kittPeak, image_->path);
            }
            validate(options_);
            plan_ = std::make_shared<const Plan>(makePlan(*psf_, options_, factor));
        } catch (const std::exception& error) {
            planProblem_ = QString::fromUtf8(error.what());
        }
    }
    std::optional<Patch> selected;
    if (selected_ && cursor_.hasBin()) selected = patchAt(cursor_);
    selected_ = selected;
    Q_EMIT planChanged();
    Q_EMIT patchSelected();
}

void Document::setMaskEdits(const QHash<int, bool>& edits) {
    if (edits == maskEdits_) return;
    maskEdits_ = edits;
    ++generation_;
    Q_EMIT maskEditsChanged();
}

void Document::setCursor(const Cursor& cursor) {
    if (cursor == cursor_) return;
    cursor_ = cursor;
    Q_EMIT cursorChanged(cursor_);
}

void Document::setHover(const Cursor& cursor) {
    if (cursor == hover_) return;
    hover_ = cursor;
    Q_EMIT hoverChanged(hover_);
}

Cursor Document::cursorAtPixel(double x, double y) const {
    Cursor cursor;
    cursor.x = x;
    cursor.y = y;
    if (!traces_ || !psf_) return cursor;
    cursor.spectrum = traces_->nearest(x, y);
    if (cursor.spectrum < 0) return cursor;
    const double scale = plan_ ? plan_->grid.scale : 1.0;
    cursor.wavelength = psf_->wavelengthAt(cursor.spectrum, y) * scale;
    return cursor;
}

Cursor Document::cursorAtBin(int spectrum, double wavelength) const {
    Cursor cursor;
    cursor.spectrum = spectrum;
    cursor.wavelength = wavelength;
    if (psf_ && spectrum >= 0 && spectrum < psf_->nspec) {
        const double scale = plan_ ? plan_->grid.scale : 1.0;
        cursor.x = psf_->x(spectrum, wavelength / scale);
        cursor.y = psf_->y(spectrum, wavelength / scale);
    }
    return cursor;
}

int Document::coreIndex(double wavelength) const {
    if (!plan_ || !std::isfinite(wavelength)) return -1;
    const double index = std::round((wavelength - plan_->grid.wmin) / plan_->grid.dw);
    return index >= 0 && index < plan_->grid.nwave ? static_cast<int>(index) : -1;
}

std::optional<Patch> Document::patchAt(const Cursor& cursor) const {
    if (!plan_ || !cursor.hasBin()) return {};
    if (cursor.spectrum < plan_->specmin || cursor.spectrum >= plan_->specmin + plan_->nspec) return {};
    const int core = coreIndex(cursor.wavelength);
    if (core < 0) return {};
    return plan_->patchAt(cursor.spectrum, core);
}

void Document::selectPatch(const std::optional<Patch>& patch) {
    selected_ = patch;
    Q_EMIT patchSelected();
}

QString Document::describePatch(const Patch& patch) const {
    if (!plan_) return {};
    const WavelengthGrid& grid = plan_->grid;
    return tr("bundle %1, spectra %2-%3, %4-%5 \u00c5")
        .arg(plan_->subbundles[static_cast<std::size_t>(patch.subbundle)].bundle)
        .arg(patch.core.first)
        .arg(patch.core.last - 1)
        .arg(grid.outputWavelength(patch.keepBins.first - grid.pad), 0, 'f', 1)
        .arg(grid.outputWavelength(patch.keepBins.last - 1 - grid.pad), 0, 'f', 1);
}

void Document::setImage(std::shared_ptr<const CcdImage> image, std::shared_ptr<const WeightedPixels> pixels) {
    const bool sameSize = image_ && image && image_->nx == image->nx && image_->ny == image->ny;
    const bool sameFile = sameSize && image_->path == image->path;
    image_ = std::move(image);
    pixels_ = std::move(pixels);
    ++generation_;
    model_.reset();
    blankModel_.reset();
    patchRun_ = {};
    previousPatchRun_ = {};
    previousPatchProblem_.clear();
    if (!sameFile && !maskEdits_.isEmpty()) {
        maskEdits_.clear();
        Q_EMIT maskEditsChanged();
    }
    Q_EMIT imageChanged();
    Q_EMIT modelChanged({});
    Q_EMIT patchRunChanged();
    replan();
}

void Document::setPsf(std::shared_ptr<const Psf> psf, std::shared_ptr<const TraceMap> traces) {
    psf_ = std::move(psf);
    traces_ = std::move(traces);
    ++generation_;
    Q_EMIT psfChanged();
    replan();
}

void Document::setSecondPsf(std::shared_ptr<const Psf> psf, std::shared_ptr<const TraceMap> traces) {
    secondPsf_ = std::move(psf);
    secondTraces_ = std::move(traces);
    Q_EMIT secondPsfChanged();
}

void Document::swapPsfs() {
    if (!psf_ || !secondPsf_) return;
    if (!secondTraces_)
        secondTraces_ = std::make_shared<const TraceMap>(*secondPsf_, image_ ? image_->nx : secondPsf_->nx,
                                                         image_ ? image_->ny : secondPsf_->ny);
    std::swap(psf_, secondPsf_);
    std::swap(traces_, secondTraces_);
    ++generation_;
    Q_EMIT psfChanged();
    Q_EMIT secondPsfChanged();
    replan();
}

void Document::setFrame(OpenFrame frame) {
    if (frame_) previousFrame_ = std::move(frame_);
    replaceFrame(std::move(frame));
}

void Document::replaceFrame(OpenFrame frame) {
    frame_ = std::move(frame);
    Q_EMIT frameChanged();
}

void Document::setSecondFrame(OpenFrame frame) {
    secondFrame_ = std::move(frame);
    Q_EMIT secondFrameChanged();
}

void Document::setTruth(std::shared_ptr<const TruthSpectra> truth) {
    truth_ = std::move(truth);
    Q_EMIT truthChanged();
}

void Document::setModel(std::vector<float> model) {
    model_ = std::make_shared<std::vector<float>>(std::move(model));
    blankModel_.reset();
    Q_EMIT modelChanged({});
}

void Document::setPatchRun(PatchRun run) {
    // Options may cut patches otherwise: what was extracted of the same fibers and wavelengths is compared.
    previousPatchProblem_.clear();
    if (run && patchRun_) {
        const PlannedPatch now{run.detail->patch, *run.plan};
        const PlannedPatch before{patchRun_.detail->patch, *patchRun_.plan};
        if (!shareBins(now, before)) {
            previousPatchProblem_ = whyNotComparable(now, before);
            patchRun_ = {};
        }
    }
    previousPatchRun_ = run ? std::move(patchRun_) : PatchRun{};
    patchRun_ = std::move(run);
    paintPatchModel();
    Q_EMIT patchRunChanged();
}

/// Puts the patch's model into the model image where its core bins are, so that neighbouring patches tile: what lies outside lacks the
/// light of spectra and wavelengths that this patch does not hold.
void Document::paintPatchModel() {
    if (!patchRun_ || !image_) return;
    const PatchDetail& detail = *patchRun_.detail;
    const PixelWindow& window = detail.window;
    const Psf& psf = *patchRun_.psf;
    const WavelengthGrid& grid = patchRun_.plan->grid;
    const int bundlesize = patchRun_.plan->options.bundlesize;
    const auto nx = static_cast<std::size_t>(image_->nx);
    if (window.empty() || window.x.last > image_->nx || window.y.last > image_->ny) return;
    if (!model_ && blankModel_ && blankModel_->size() == nx * static_cast<std::size_t>(image_->ny))
        model_ = std::move(blankModel_);
    if (!model_)
        model_ = std::make_shared<std::vector<float>>(nx * static_cast<std::size_t>(image_->ny),
                                                      std::numeric_limits<float>::quiet_NaN());
    const Patch& patch = detail.patch;
    const double low = grid.wavelength(patch.keepBins.first) - 0.5 * grid.step();
    const double high = grid.wavelength(patch.keepBins.last - 1) + 0.5 * grid.step();
    for (int s = patch.core.first; s < patch.core.last; ++s)
        for (int y = window.y.first; y < window.y.last; ++y) {
            const double wavelength = psf.wavelengthAt(s, y);
            if (wavelength < low || wavelength >= high) continue;
            const double x = psf.x(s, wavelength);
            // Half-way to the neighbours; at a bundle's edge as far as the spot reaches.
            const auto border = [&](int side) {
                const int other = s + side;
                if (other < 0 || other >= psf.nspec || other / bundlesize != s / bundlesize)
                    return x + side * psf.hsizeX;
                return 0.5 * (x + psf.x(other, psf.wavelengthAt(other, y)));
            };
            const int first = std::max(window.x.first, static_cast<int>(std::ceil(border(-1))));
            const int last = std::min(window.x.last, static_cast<int>(std::ceil(border(+1))));
            for (int column = first; column < last; ++column)
                (*model_)[static_cast<std::size_t>(y) * nx + static_cast<std::size_t>(column)] =
                    static_cast<float>(detail.model(static_cast<std::size_t>(y - window.y.first),
                                                    static_cast<std::size_t>(column - window.x.first)));
        }
    Q_EMIT modelChanged(QRect(window.x.first, window.y.first, window.x.count(), window.y.count()));
}

} // namespace patchlight::widgets
