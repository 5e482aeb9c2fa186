#include "widgets/window/LinkedViews.h"

#include "core/analysis/TruthSpectra.h"
#include "core/engine/PatchResult.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "widgets/control/Document.h"
#include "widgets/control/ExtractionController.h"
#include "widgets/control/SeenRefresh.h"
#include "widgets/patch/PatchImages.h"
#include "widgets/patch/PatchInspector.h"
#include "widgets/spectrum/SpectrumView.h"
#include "widgets/window/ActionList.h"

#include <QAction>
#include <QComboBox>
#include <QInputDialog>
#include <QMenu>
#include <QToolBar>
#include <QUndoStack>

#include <algorithm>
#include <cmath>
#include <optional>

namespace patchlight::widgets {

namespace {

/// A running frame changes many times a second; spectra need not.
constexpr int refreshMilliseconds = 150;

/// Row of a spectrum in a frame; -1 where it is not held.
int rowOf(const ExtractedFrame& frame, int spectrum) {
    const int row = spectrum - frame.specmin;
    return row >= 0 && row < static_cast<int>(frame.nspec()) ? row : -1;
}

void addFrame(SpectrumData& data, SpectrumOverlay::Kind kind, const QString& name, const OpenFrame& open) {
    if (!open) return;
    SpectrumOverlay overlay{kind, name, {}};
    for (const SpectrumCurve& curve : data.spectra)
        if (const int row = rowOf(*open.frame, curve.spectrum); row >= 0)
            overlay.curves.push_back(curveOfFrame(*open.frame, static_cast<std::size_t>(row)));
    if (!overlay.curves.empty()) data.overlays.push_back(std::move(overlay));
}

void addPatch(SpectrumData& data, SpectrumOverlay::Kind kind, const QString& name, const PatchRun& run) {
    if (!run) return;
    SpectrumOverlay overlay{kind, name, {}};
    for (const SpectrumCurve& curve : data.spectra)
        if (run.detail->patch.spectra.contains(curve.spectrum))
            overlay.curves.push_back(curveOfPatch(*run.detail, *run.plan, curve.spectrum));
    if (!overlay.curves.empty()) data.overlays.push_back(std::move(overlay));
}

template <class MakeCurve> void addTruth(SpectrumData& data, const MakeCurve& makeCurve) {
    SpectrumOverlay overlay{SpectrumOverlay::Kind::Truth, QObject::tr("truth, convolved"), {}};
    for (const SpectrumCurve& curve : data.spectra) {
        try {
            SpectrumCurve truth = makeCurve(curve.spectrum);
            if (!truth.empty()) overlay.curves.push_back(std::move(truth));
        } catch (const std::exception& error) {
            data.note = QObject::tr("No truth here: %1").arg(QString::fromUtf8(error.what()));
            return;
        }
    }
    if (!overlay.curves.empty()) data.overlays.push_back(std::move(overlay));
}

/// Fiber number of a spectrum, as the image's fibermap has it.
std::optional<std::int64_t> fiberNumber(const CcdImage* image, const Psf& psf, int spectrum) {
    if (image != nullptr && image->fibermap && image->fibermap->hasColumn("FIBER") &&
        static_cast<int>(image->fibermap->rowCount) == psf.nspec)
        return image->fibermap->integers("FIBER")[static_cast<std::size_t>(spectrum)];
    return psf.fibermin + spectrum;
}

} // namespace

LinkedViews::LinkedViews(Document& document, ExtractionController& controller, QWidget* parent)
    : QObject(parent), document_(document), controller_(controller), spectrum_(new SpectrumView(parent)),
      inspector_(new PatchInspector(parent)), sourceBox_(new QComboBox(spectrum_)),
      fibersBox_(new QComboBox(spectrum_)), spectrumSeen_(new SeenRefresh(spectrum_, [this] { refreshSpectrum(); })),
      patchSeen_(new SeenRefresh(inspector_, [this] { refreshPatch(); })) {
    sourceBox_->addItems({tr("auto"), tr("frame"), tr("patch")});
    sourceBox_->setToolTip(tr("Show the extracted frame or the patch; auto: the frame where there is one"));
    sourceBox_->setAccessibleName(tr("Source of the spectra"));
    fibersBox_->addItems({tr("1 fiber"), tr("subbundle"), tr("bundle")});
    fibersBox_->setToolTip(tr("The cursor's fiber, or those extracted with it stacked"));
    fibersBox_->setAccessibleName(tr("Fibers shown"));
    QToolBar* bar = spectrum_->toolBar();
    QAction* const first = bar->actions().constFirst();
    bar->insertWidget(first, sourceBox_);
    bar->insertWidget(first, fibersBox_);
    connect(sourceBox_, &QComboBox::currentIndexChanged, this,
            [this](int index) { setSource(static_cast<Source>(index)); });
    connect(fibersBox_, &QComboBox::currentIndexChanged, this,
            [this](int index) { setFibers(static_cast<Fibers>(index)); });

    connect(&document_, &Document::patchRunChanged, this, [this] {
        patchSeen_->request();
        spectrumSeen_->request();
    });
    connect(&document_, &Document::frameChanged, spectrumSeen_, &SeenRefresh::request);
    connect(&document_, &Document::secondFrameChanged, spectrumSeen_, &SeenRefresh::request);
    connect(&document_, &Document::truthChanged, spectrumSeen_, &SeenRefresh::request);
    connect(&document_, &Document::frameBinsChanged, this, [this](IndexRange spectra, IndexRange) {
        const auto& shown = spectrum_->data().spectra;
        if (shown.empty() || std::any_of(shown.begin(), shown.end(),
                                         [&](const SpectrumCurve& c) { return spectra.contains(c.spectrum); }))
            spectrumSeen_->requestWithin(refreshMilliseconds);
    });
    connect(&document_, &Document::maskEditsChanged, this, [this] { inspector_->setMaskEdits(document_.maskEdits()); });
    connect(&document_, &Document::cursorChanged, this, [this](const Cursor& cursor) {
        const auto& shown = spectrum_->data().spectra;
        const bool there = std::any_of(shown.begin(), shown.end(),
                                       [&](const SpectrumCurve& c) { return c.spectrum == cursor.spectrum; });
        if (there && fibers_ != Fibers::One)
            spectrum_->plot()->select(cursor.spectrum);
        else if (!there)
            spectrumSeen_->request();
        if (!cursor.hasBin()) return;
        spectrum_->setCursor(cursor.spectrum, cursor.wavelength);
        if (patchSeen_->isSeen())
            inspector_->selectBin(cursor.spectrum, cursor.wavelength);
        else
            patchSeen_->markStale();
    });
    connect(&document_, &Document::hoverChanged, this, [this](const Cursor& cursor) {
        if (spectrumSeen_->isSeen()) spectrum_->setCursor(cursor.spectrum, cursor.wavelength);
        if (patchSeen_->isSeen()) inspector_->setCursor(cursor.spectrum, cursor.wavelength, cursor.x, cursor.y);
    });

    connect(spectrum_, &SpectrumView::cursorMoved, this, [this](int spectrum, double wavelength) {
        document_.setHover(document_.cursorAtBin(spectrum, wavelength));
    });
    connect(spectrum_->plot(), &SpectrumPlot::cursorLeft, this, [this] { document_.setHover({}); });
    connect(spectrum_, &SpectrumView::binSelected, this,
            [this](int spectrum, double wavelength) { choose(document_.cursorAtBin(spectrum, wavelength)); });
    connect(spectrum_, &SpectrumView::fiberStepRequested, this, [this](int step) {
        const auto& shown = spectrum_->data().spectra;
        if (shown.empty()) return;
        const int next = spectrum_->plot()->selectedSpectrum() + step;
        const bool inFrame = document_.frame() && rowOf(*document_.frame().frame, next) >= 0;
        const Plan* plan = document_.plan().get();
        const bool inPlan = plan != nullptr && next >= plan->specmin && next < plan->specmin + plan->nspec;
        if (!inFrame && !inPlan) return;
        const double wavelength = std::isfinite(document_.cursor().wavelength)
                                      ? document_.cursor().wavelength
                                      : 0.5 * (spectrum_->plot()->view().x.low + spectrum_->plot()->view().x.high);
        choose(document_.cursorAtBin(next, wavelength));
    });
    connect(inspector_, &PatchInspector::cursorMoved, this,
            [this](double x, double y) { document_.setHover(document_.cursorAtPixel(x, y)); });
    connect(inspector_, &PatchInspector::cursorLeft, this, [this] { document_.setHover({}); });
    connect(inspector_, &PatchInspector::binSelected, this, [this](int spectrum, double wavelength) {
        const Cursor cursor = document_.cursorAtBin(spectrum, wavelength);
        document_.setCursor(cursor); // the bin may be padding: the patch stays selected
        Q_EMIT placeChosen(cursor);
    });
    connect(inspector_, &PatchInspector::neighbourRequested, this, &LinkedViews::neighbourRequested);
    connect(inspector_, &PatchInspector::extractRequested, this, [this] {
        if (document_.selectedPatch() && document_.pixels()) controller_.extractPatch(*document_.selectedPatch());
    });
    connect(inspector_, &PatchInspector::maskEdited, this,
            [this](const QHash<int, bool>& edits) { document_.setMaskEdits(edits); });
}

LinkedViews::~LinkedViews() = default;

void LinkedViews::addActions(ActionList& actions) {
    const QString menu = tr("Spectrum");
    SpectrumPlot* const plot = spectrum_->plot();
    plot->setOwnKeys(false);
    for (const SpectrumPlot::Command& command : SpectrumPlot::commands()) {
        const QString id = QLatin1String(command.id);
        actions.add({QStringLiteral("spectrum.") + id, menu, command.text, command.keys, command.help, false, false,
                     plot, id == QStringLiteral("all")},
                    [plot, id] { plot->run(id); });
    }
    const auto link = [&](const char* id, const QString& in, const QString& text, const QString& keys, QAction* own,
                          QWidget* scope, bool separator) {
        QAction* const action = actions.addToggle(
            {QLatin1String(id), in, text, keys, own->toolTip(), true, own->isChecked(), scope, separator},
            [own](bool on) { own->setChecked(on); });
        connect(own, &QAction::toggled, action, &QAction::setChecked);
    };
    struct Switch {
        const char* id;
        QString text;
        QString keys;
        bool SpectrumSettings::*field;
    };
    const Switch switches[] = {
        {"spectrum.errors", tr("&Errors"), QStringLiteral("B"), &SpectrumSettings::errorBand},
        {"spectrum.xflux", tr("&xflux"), QStringLiteral("X"), &SpectrumSettings::xflux},
        {"spectrum.overlays", tr("&Overlays"), QStringLiteral("O"), &SpectrumSettings::overlays},
        {"spectrum.residual", tr("Resi&dual"), QStringLiteral("R"), &SpectrumSettings::residual},
        {"spectrum.seams", tr("Patch s&eams"), QStringLiteral("I"), &SpectrumSettings::seams},
        {"spectrum.sky", tr("S&ky lines"), QStringLiteral("K"), &SpectrumSettings::skyLines},
        {"spectrum.galaxy", tr("&Galaxy lines"), QStringLiteral("G"), &SpectrumSettings::galaxyLines},
    };
    for (const Switch& s : switches)
        link(s.id, menu, s.text, s.keys, spectrum_->toggle(s.field), plot, s.field == &SpectrumSettings::errorBand);
    const auto unit = [&](const char* id, const QString& text, const QString& keys, const QString& help,
                          bool SpectrumSettings::*field) {
        QAction* const action = actions.addToggle({QLatin1String(id), menu, text, keys, help, true, false, plot, false},
                                                  [this, field](bool on) {
                                                      SpectrumSettings settings = spectrum_->settings();
                                                      settings.*field = on;
                                                      spectrum_->setSettings(settings);
                                                  });
        connect(spectrum_, &SpectrumView::settingsChanged, action,
                [this, action, field] { action->setChecked(spectrum_->settings().*field); });
    };
    unit("spectrum.nm", tr("Wavelengths in &nm"), QStringLiteral("N"), tr("Nanometres in place of Angstrom"),
         &SpectrumSettings::nanometres);
    unit("spectrum.perbin", tr("Flux per b&in"), QStringLiteral("U"), tr("Per bin in place of per Angstrom"),
         &SpectrumSettings::perBin);
    actions.add({"spectrum.against", menu, tr("Residual a&gainst the next"), "D",
                 tr("Of the spectra drawn over this one, the next is compared with"), false, false, plot},
                [this] { spectrum_->nextOverlay(); });
    // Two keys: the second is a letter, a the lowest bit.
    char letter = 'A';
    for (QAction* const own : spectrum_->maskMenu()->actions()) {
        if (own->isSeparator()) continue;
        const QString in = menu + QStringLiteral("/Shaded masks");
        const QString id = QStringLiteral("spectrum.shade.") + own->text().toLower();
        const QString keys = QStringLiteral("H, %1").arg(QLatin1Char(letter++));
        if (own->isCheckable()) {
            QAction* const action =
                actions.addToggle({id, in, own->text(), keys, tr("Shade bins with this bit of the frame's MASK"), true,
                                   own->isChecked(), plot},
                                  [own](bool on) { own->setChecked(on); });
            connect(own, &QAction::toggled, action, &QAction::setChecked);
        } else {
            actions.add({id, in, own->text(), keys, tr("Shaded bits of the frame's MASK"), false, false, plot},
                        [own] { own->trigger(); });
        }
    }
    actions.add(
        {"spectrum.redshift", menu, tr("Set redshift..."), "Z", tr("Redshift of the galaxy lines"), false, false, plot},
        [this] {
            SpectrumSettings settings = spectrum_->settings();
            bool sure = false;
            settings.redshift = QInputDialog::getDouble(spectrum_, tr("Redshift"), tr("Redshift of the galaxy lines:"),
                                                        settings.redshift, -0.01, 8.0, 4, &sure);
            if (!sure) return;
            settings.galaxyLines = true;
            spectrum_->setSettings(settings);
        });
    actions.add({"spectrum.fibers", menu, tr("One fiber, subbundle, b&undle"), "F",
                 tr("The cursor's fiber, or those extracted with it stacked"), false, false, plot, true},
                [this] { setFibers(static_cast<Fibers>((static_cast<int>(fibers_) + 1) % 3)); });
    actions.add({"spectrum.source", menu, tr("Frame or pa&tch"), "P",
                 tr("Show the extracted frame, the patch, or the frame where there is one"), false, false, plot},
                [this] { setSource(static_cast<Source>((static_cast<int>(source_) + 1) % 3)); });

    const QString patch = tr("Patch");
    PatchImages* const images = inspector_->images();
    images->setOwnKeys(false);
    struct Walk {
        const char* id;
        QString text;
        const char* keys;
        int subbundles;
        int steps;
    };
    const Walk walks[] = {{"patch.left", tr("Patch of the fibers &before"), "Left", -1, 0},
                          {"patch.right", tr("Patch of the &next fibers"), "Right", 1, 0},
                          {"patch.down", tr("Patch at &shorter wavelengths"), "Down", 0, -1},
                          {"patch.up", tr("Patch at &longer wavelengths"), "Up", 0, 1}};
    for (const Walk& walk : walks)
        actions.add({walk.id, patch, walk.text, walk.keys, tr("In the patch view"), false, false, images},
                    [this, walk] { Q_EMIT neighbourRequested(walk.subbundles, walk.steps); });
    actions.add({"patch.all", patch, tr("Show &all"), "Home", tr("All pixels of the patch"), false, false, images},
                [images] { images->showAll(); });
    actions.add({"patch.back", patch, tr("View &before"), "Alt+Left", tr("Zoom and place as they were before"), false,
                 false, images},
                [images] { images->back(); });
    actions.add({"patch.forward", patch, tr("View a&fter"), "Alt+Right", tr("Zoom and place as they were after"), false,
                 false, images},
                [images] { images->forward(); });
    actions.addToggle({"patch.asinh", patch, tr("Data and model in as&inh steps"), "S",
                       tr("Faint and bright pixels at once"), true, false, images},
                      [this](bool on) { inspector_->setAsinh(on); });
    actions.add({"patch.extract", patch, tr("&Extract again"), "Return;Enter", tr("With the present options and mask"),
                 false, false, images},
                [this] { Q_EMIT inspector_->extractRequested(); });
    link("patch.surfaces", patch, tr("As &surfaces (3-D)"), QStringLiteral("D"), inspector_->surfacesAction(),
         inspector_, true);
    link("patch.brush", patch, tr("&Mask brush"), QStringLiteral("M"), inspector_->brushAction(), inspector_, false);
    actions.add({"patch.brush.larger", patch, tr("Larger brush"), "]", tr("The mask brush, by two pixels"), false,
                 false, images},
                [this] { inspector_->growBrush(2); });
    actions.add({"patch.brush.smaller", patch, tr("Smaller brush"), "[", tr("The mask brush, by two pixels"), false,
                 false, images},
                [this] { inspector_->growBrush(-2); });
    link("patch.before", patch, tr("&Keep before"), QStringLiteral("K"), inspector_->keepBeforeAction(), inspector_,
         false);
    link("patch.padding", patch, tr("List the &padding"), QStringLiteral("P"), inspector_->paddingAction(), inspector_,
         false);
    link("patch.only", patch, tr("List &only bins of the pixel"), QStringLiteral("O"), inspector_->onlyAtPixelAction(),
         inspector_, false);
    actions.add({"patch.undo", patch, tr("&Undo an edit of the mask"), "Ctrl+Z",
                 tr("The last stroke of the mask brush"), false, false, nullptr, true},
                [this] { inspector_->undoStack()->undo(); });
    actions.add(
        {"patch.redo", patch, tr("&Redo an edit of the mask"), "Ctrl+Shift+Z", tr("The stroke that was undone")},
        [this] { inspector_->undoStack()->redo(); });
}

void LinkedViews::choose(const Cursor& cursor) {
    document_.setCursor(cursor);
    const auto patch = document_.patchAt(cursor);
    const auto& selected = document_.selectedPatch();
    const bool same = patch && selected && patch->subbundle == selected->subbundle && patch->step == selected->step;
    if (patch && !same && document_.pixels()) document_.selectPatch(patch);
    Q_EMIT placeChosen(cursor);
}

void LinkedViews::setSource(Source source) {
    source_ = source;
    sourceBox_->setCurrentIndex(static_cast<int>(source));
    spectrumSeen_->request();
}

void LinkedViews::setFibers(Fibers fibers) {
    fibers_ = fibers;
    fibersBox_->setCurrentIndex(static_cast<int>(fibers));
    spectrumSeen_->request();
}

void LinkedViews::refreshPatch() {
    const PatchRun& run = document_.patchRun();
    const PatchRun& before = document_.previousPatchRun();
    inspector_->setPatch({run.detail, run.plan, run.psf, document_.image()},
                         {before.detail, before.plan, before.psf, document_.image()}, document_.previousPatchProblem());
    const Cursor& cursor = document_.cursor();
    if (run && cursor.hasBin()) inspector_->selectBin(cursor.spectrum, cursor.wavelength);
}

bool LinkedViews::showsFrame() const {
    if (source_ == Source::Patch || !document_.frame()) return false;
    const int spectrum = document_.cursor().spectrum;
    return source_ == Source::Frame || spectrum < 0 || rowOf(*document_.frame().frame, spectrum) >= 0;
}

void LinkedViews::refreshSpectrum() {
    int spectrum = document_.cursor().spectrum;
    SpectrumData data;
    if (showsFrame()) {
        if (spectrum < 0) spectrum = document_.frame().frame->specmin;
        data = frameData(spectrum);
    } else if (document_.patchRun()) {
        const Patch& patch = document_.patchRun().detail->patch;
        if (!patch.spectra.contains(spectrum)) spectrum = patch.core.first;
        data = patchData(spectrum);
    }
    spectrum_->setData(std::move(data));
    spectrum_->plot()->select(spectrum);
    const Cursor& cursor = document_.cursor();
    if (cursor.hasBin()) spectrum_->setCursor(cursor.spectrum, cursor.wavelength);
}

SpectrumData LinkedViews::frameData(int spectrum) const {
    SpectrumData data;
    const OpenFrame& open = document_.frame();
    const ExtractedFrame& frame = *open.frame;
    data.source = open.label;
    IndexRange wanted{spectrum, spectrum + 1};
    const Plan* plan = open.plan ? open.plan.get() : document_.plan().get();
    if (fibers_ != Fibers::One) {
        const int size = plan != nullptr ? plan->options.bundlesize : ExtractionOptions().bundlesize;
        wanted = {spectrum / size * size, (spectrum / size + 1) * size};
        if (fibers_ == Fibers::Subbundle && plan != nullptr)
            for (const Subbundle& subbundle : plan->subbundles)
                if (subbundle.core.contains(spectrum)) wanted = subbundle.core;
    }
    for (int s = wanted.first; s < wanted.last; ++s)
        if (const int row = rowOf(frame, s); row >= 0)
            data.spectra.push_back(curveOfFrame(frame, static_cast<std::size_t>(row)));
    addFrame(data, SpectrumOverlay::Kind::Frame, document_.secondFrame().label, document_.secondFrame());
    if (document_.truth())
        addTruth(data, [&](int s) {
            return curveOfTruth(*document_.truth(), frame, static_cast<std::size_t>(s - frame.specmin));
        });
    addFrame(data, SpectrumOverlay::Kind::Previous, tr("before: %1").arg(document_.previousFrame().label),
             document_.previousFrame());
    addPatch(data, SpectrumOverlay::Kind::Previous, tr("patch"), document_.patchRun());
    if (plan != nullptr) data.seams = patchSeams(*plan);
    return data;
}

SpectrumData LinkedViews::patchData(int spectrum) const {
    SpectrumData data;
    const PatchRun& run = document_.patchRun();
    data.source = tr("patch");
    const IndexRange wanted = fibers_ == Fibers::One ? IndexRange{spectrum, spectrum + 1} : run.detail->patch.spectra;
    for (int s = wanted.first; s < wanted.last; ++s) data.spectra.push_back(curveOfPatch(*run.detail, *run.plan, s));
    addPatch(data, SpectrumOverlay::Kind::Previous, tr("patch before"), document_.previousPatchRun());
    addFrame(data, SpectrumOverlay::Kind::Frame, document_.frame().label, document_.frame());
    addFrame(data, SpectrumOverlay::Kind::Frame, document_.secondFrame().label, document_.secondFrame());
    if (document_.truth())
        addTruth(data, [&](int s) {
            return curveOfTruth(*document_.truth(), *run.detail, *run.plan, s,
                                fiberNumber(document_.image().get(), *run.psf, s));
        });
    data.seams = patchSeams(*run.plan);
    return data;
}

QJsonObject LinkedViews::session() const {
    const SpectrumSettings& s = spectrum_->settings();
    const SpectrumPlot::View& view = spectrum_->plot()->view();
    return {{QStringLiteral("source"), sourceBox_->currentText()},
            {QStringLiteral("fibers"), fibersBox_->currentText()},
            {QStringLiteral("nm"), s.nanometres},
            {QStringLiteral("per bin"), s.perBin},
            {QStringLiteral("errors"), s.errorBand},
            {QStringLiteral("xflux"), s.xflux},
            {QStringLiteral("residual"), s.residual},
            {QStringLiteral("overlays"), s.overlays},
            {QStringLiteral("seams"), s.seams},
            {QStringLiteral("sky lines"), s.skyLines},
            {QStringLiteral("galaxy lines"), s.galaxyLines},
            {QStringLiteral("redshift"), s.redshift},
            {QStringLiteral("smoothing"), s.smoothing},
            {QStringLiteral("shaded bits"), static_cast<qint64>(s.shadedBits)},
            {QStringLiteral("from"), view.x.low},
            {QStringLiteral("to"), view.x.high},
            {QStringLiteral("low"), view.y.low},
            {QStringLiteral("high"), view.y.high},
            {QStringLiteral("fit y"), view.fitY},
            {QStringLiteral("surfaces"), inspector_->showsSurfaces()}};
}

void LinkedViews::restore(const QJsonObject& json) {
    if (json.isEmpty()) return;
    SpectrumSettings s = spectrum_->settings();
    const auto flag = [&](const char* name, bool& value) { value = json[QLatin1String(name)].toBool(value); };
    flag("nm", s.nanometres);
    flag("per bin", s.perBin);
    flag("errors", s.errorBand);
    flag("xflux", s.xflux);
    flag("residual", s.residual);
    flag("overlays", s.overlays);
    flag("seams", s.seams);
    flag("sky lines", s.skyLines);
    flag("galaxy lines", s.galaxyLines);
    s.redshift = json[QStringLiteral("redshift")].toDouble(s.redshift);
    s.smoothing = json[QStringLiteral("smoothing")].toInt(s.smoothing);
    s.shadedBits = static_cast<std::uint32_t>(json[QStringLiteral("shaded bits")].toInteger(s.shadedBits));
    spectrum_->setSettings(s);
    const int source = sourceBox_->findText(json[QStringLiteral("source")].toString());
    if (source >= 0) setSource(static_cast<Source>(source));
    const int fibers = fibersBox_->findText(json[QStringLiteral("fibers")].toString());
    if (fibers >= 0) setFibers(static_cast<Fibers>(fibers));
    inspector_->showSurfaces(json[QStringLiteral("surfaces")].toBool());
    SpectrumPlot::View view;
    view.x = {json[QStringLiteral("from")].toDouble(), json[QStringLiteral("to")].toDouble()};
    view.y = {json[QStringLiteral("low")].toDouble(), json[QStringLiteral("high")].toDouble()};
    view.fitY = json[QStringLiteral("fit y")].toBool(true);
    if (view.x.span() > 0) spectrum_->plot()->setView(view);
}

} // namespace patchlight::widgets
