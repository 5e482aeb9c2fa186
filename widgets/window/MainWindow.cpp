#include "widgets/window/MainWindow.h"

#include "core/analysis/TruthSpectra.h"
#include "core/base/Error.h"
#include "core/base/Version.h"
#include "core/engine/Options.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "widgets/ccd/CcdPanel.h"
#include "widgets/ccd/ColorMap.h"
#include "widgets/control/Document.h"
#include "widgets/patch/PatchInspector.h"
#include "widgets/psf/PsfInspector.h"
#include "widgets/quality/FrameQualityPanel.h"
#include "widgets/quality/QualityReportPdf.h"
#include "widgets/resolution/ResolutionView.h"
#include "widgets/spectrum/SpectrumView.h"
#include "widgets/timing/TimingPanel.h"
#include "widgets/window/ActionList.h"
#include "widgets/window/CommandPalette.h"
#include "widgets/window/GoTo.h"
#include "widgets/window/JobsPanel.h"
#include "widgets/window/LinkedViews.h"
#include "widgets/window/OptionsPanel.h"

#include <QAction>
#include <QApplication>
#include <QClipboard>
#include <QCloseEvent>
#include <QDir>
#include <QDockWidget>
#include <QDragEnterEvent>
#include <QFile>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QInputDialog>
#include <QJsonArray>
#include <QJsonDocument>
#include <QLabel>
#include <QLineEdit>
#include <QMenu>
#include <QMenuBar>
#include <QMessageBox>
#include <QMimeData>
#include <QPainter>
#include <QPdfWriter>
#include <QSaveFile>
#include <QSettings>
#include <QStatusBar>
#include <QStyle>
#include <QToolButton>
#include <QUrl>
#include <QVBoxLayout>

#include <cmath>
#include <utility>

namespace patchlight::widgets {

namespace {

constexpr int recentCount = 12;
constexpr int sessionVersion = 1;
constexpr int stateVersion = 1; ///< of QMainWindow::saveState

QString relative(const QString& path, const QString& folder) {
    if (path.isEmpty()) return {};
    return QDir(folder).relativeFilePath(QFileInfo(path).absoluteFilePath());
}

QString absolute(const QString& path, const QString& folder) {
    return path.isEmpty() ? QString() : QDir::cleanPath(QDir(folder).absoluteFilePath(path));
}

const char* const cutsWords[] = {"zscale", "minmax", "90", "95", "98", "99", "99.5", "manual", "fixed"};
const char* const scalingWords[] = {"linear", "log", "asinh", "sqrt", "histogram"};

QJsonObject toJson(const DisplaySettings& settings) {
    return {{QStringLiteral("cuts"), QString::fromLatin1(cutsWords[static_cast<int>(settings.cuts)])},
            {QStringLiteral("low"), settings.range.low},
            {QStringLiteral("high"), settings.range.high},
            {QStringLiteral("scaling"), QString::fromLatin1(scalingWords[static_cast<int>(settings.scaling)])},
            {QStringLiteral("map"), settings.map},
            {QStringLiteral("invert"), settings.invert},
            {QStringLiteral("contrast"), settings.contrast},
            {QStringLiteral("bias"), settings.bias}};
}

DisplaySettings displayFromJson(const QJsonObject& json, DisplaySettings settings) {
    for (int i = 0; i < static_cast<int>(std::size(cutsWords)); ++i)
        if (json[QStringLiteral("cuts")].toString() == QLatin1String(cutsWords[i]))
            settings.cuts = static_cast<Cuts>(i);
    for (int i = 0; i < static_cast<int>(std::size(scalingWords)); ++i)
        if (json[QStringLiteral("scaling")].toString() == QLatin1String(scalingWords[i]))
            settings.scaling = static_cast<Scaling>(i);
    settings.range.low = json[QStringLiteral("low")].toDouble(settings.range.low);
    settings.range.high = json[QStringLiteral("high")].toDouble(settings.range.high);
    settings.map = json[QStringLiteral("map")].toString(settings.map);
    settings.invert = json[QStringLiteral("invert")].toBool(settings.invert);
    settings.contrast = json[QStringLiteral("contrast")].toDouble(settings.contrast);
    settings.bias = json[QStringLiteral("bias")].toDouble(settings.bias);
    return settings;
}

QString fitsFilter() { return MainWindow::tr("FITS files (*.fits *.fits.gz *.fits.fz *.fit);;All files (*)"); }

} // namespace

QPalette windowPalette(bool dark) {
    QPalette palette;
    const auto set = [&](QPalette::ColorRole role, const QColor& color) { palette.setColor(role, color); };
    const QColor window = dark ? QColor(43, 45, 48) : QColor(239, 240, 241);
    const QColor base = dark ? QColor(30, 31, 34) : QColor(255, 255, 255);
    const QColor text = dark ? QColor(223, 225, 229) : QColor(26, 28, 30);
    set(QPalette::Window, window);
    set(QPalette::WindowText, text);
    set(QPalette::Base, base);
    set(QPalette::AlternateBase, dark ? QColor(37, 39, 42) : QColor(245, 246, 247));
    set(QPalette::Text, text);
    set(QPalette::PlaceholderText, dark ? QColor(140, 144, 150) : QColor(120, 124, 130));
    set(QPalette::Button, dark ? QColor(57, 60, 64) : QColor(228, 230, 232));
    set(QPalette::ButtonText, text);
    set(QPalette::BrightText, QColor(255, 90, 90));
    set(QPalette::Light, dark ? QColor(75, 78, 83) : QColor(255, 255, 255));
    set(QPalette::Midlight, dark ? QColor(66, 69, 73) : QColor(245, 245, 246));
    set(QPalette::Mid, dark ? QColor(90, 94, 99) : QColor(176, 180, 184));
    set(QPalette::Dark, dark ? QColor(24, 25, 27) : QColor(140, 144, 148));
    set(QPalette::Shadow, QColor(0, 0, 0));
    set(QPalette::Highlight, dark ? QColor(46, 100, 160) : QColor(48, 120, 196));
    set(QPalette::HighlightedText, QColor(255, 255, 255));
    set(QPalette::Link, dark ? QColor(110, 170, 240) : QColor(20, 90, 180));
    set(QPalette::ToolTipBase, dark ? QColor(60, 63, 67) : QColor(255, 255, 225));
    set(QPalette::ToolTipText, text);
    for (const QPalette::ColorRole role : {QPalette::WindowText, QPalette::Text, QPalette::ButtonText})
        palette.setColor(QPalette::Disabled, role, dark ? QColor(120, 123, 128) : QColor(150, 153, 157));
    return palette;
}

MainWindow::MainWindow(ExtractionController::BackendFactory backends, QWidget* parent)
    : QMainWindow(parent), document_(new Document(this)),
      controller_(new ExtractionController(*document_, std::move(backends), this)), actions_(new ActionList(*this)),
      ccd_(new CcdPanel(*document_, this)), options_(new OptionsPanel(*document_, *controller_, this)),
      jobs_(new JobsPanel(*controller_, this)), views_(new LinkedViews(*document_, *controller_, this)),
      quality_(new FrameQualityPanel(*document_, *controller_, this)),
      resolution_(new ResolutionView(*document_, this)), psf_(new PsfInspector(*document_, this)),
      timing_(new TimingPanel(*document_, *controller_, this)), problemBar_(new QFrame(this)),
      problemText_(new QLabel(problemBar_)) {
    setObjectName(QStringLiteral("MainWindow"));
    setWindowTitle(QStringLiteral("Patchlight"));
    setAcceptDrops(true);
    setDockOptions(AnimatedDocks | AllowNestedDocks | AllowTabbedDocks);
    setCorner(Qt::BottomRightCorner, Qt::RightDockWidgetArea);

    problemBar_->setVisible(false);
    problemBar_->setAutoFillBackground(true);
    QPalette warning = problemBar_->palette();
    warning.setColor(QPalette::Window, QColor(150, 60, 20));
    warning.setColor(QPalette::WindowText, Qt::white);
    problemBar_->setPalette(warning);
    problemText_->setWordWrap(true);
    problemText_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    problemText_->setAccessibleName(tr("Problem"));
    auto* close = new QToolButton(problemBar_);
    close->setText(QStringLiteral("\u2715"));
    close->setAutoRaise(true);
    close->setAccessibleName(tr("Close the message"));
    connect(close, &QToolButton::clicked, problemBar_, &QWidget::hide);
    auto* bar = new QHBoxLayout(problemBar_);
    bar->setContentsMargins(8, 4, 4, 4);
    bar->addWidget(problemText_, 1);
    bar->addWidget(close);
    auto* central = new QWidget(this);
    auto* layout = new QVBoxLayout(central);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    layout->addWidget(problemBar_);
    layout->addWidget(ccd_, 1);
    setCentralWidget(central);
    statusBar()->setSizeGripEnabled(false);

    makeActions();
    QDockWidget* const options = addDock(QStringLiteral("options"), tr("Options"), options_, Qt::RightDockWidgetArea,
                                         nullptr, QStringLiteral("Alt+4"));
    addDock(QStringLiteral("jobs"), tr("Jobs and log"), jobs_, Qt::BottomDockWidgetArea, nullptr,
            QStringLiteral("Alt+5"));
    addDock(QStringLiteral("frame"), tr("Frame"), quality_, Qt::RightDockWidgetArea, options, QStringLiteral("Alt+8"));
    QDockWidget* const patchDock = addDock(QStringLiteral("patch"), tr("Patch"), views_->inspector(),
                                           Qt::RightDockWidgetArea, options, QStringLiteral("Alt+2"));
    addDock(QStringLiteral("timing"), tr("Timing"), timing_, Qt::BottomDockWidgetArea, dock(QStringLiteral("jobs")),
            QStringLiteral("Alt+9"));
    QDockWidget* const spectrumDock =
        addDock(QStringLiteral("spectrum"), tr("Spectrum"), views_->spectrum(), Qt::BottomDockWidgetArea,
                dock(QStringLiteral("jobs")), QStringLiteral("Alt+3"));
    addDock(QStringLiteral("resolution"), tr("Resolution"), resolution_, Qt::RightDockWidgetArea, patchDock,
            QStringLiteral("Alt+6"));
    addDock(QStringLiteral("psf"), tr("PSF"), psf_, Qt::RightDockWidgetArea, patchDock, QStringLiteral("Alt+7"));
    patchDock->raise();
    spectrumDock->raise();
    resize(1600, 1000);
    balance();
    connect(views_, &LinkedViews::neighbourRequested, this, &MainWindow::walk);
    connect(views_, &LinkedViews::placeChosen, this, &MainWindow::follow);
    connect(quality_, &FrameQualityPanel::placeChosen, this, &MainWindow::follow);
    connect(resolution_, &ResolutionView::placeChosen, this, &MainWindow::follow);
    connect(psf_, &PsfInspector::placeChosen, this, &MainWindow::follow);
    connect(psf_, &PsfInspector::openSecondRequested, this, [this] { chooseFiles(true); });
    connect(timing_, &TimingPanel::placeChosen, this, &MainWindow::follow);
    connect(psf_, &PsfInspector::message, this, [this](const QString& text) { statusBar()->showMessage(text, 8000); });
    defaultLayout_ = saveState(stateVersion);

    connect(&ccdView(), &CcdImageView::patchRequested, this, [this](const Cursor& cursor) {
        const auto patch = document_->patchAt(cursor);
        document_->selectPatch(patch);
        if (patch) return;
        statusBar()->showMessage(
            !document_->psf() ? tr("Patches need a PSF: open one with Ctrl+O")
            : document_->plan()
                ? tr("No patch here: fiber %1 at %2 \u00c5 is outside the wavelengths or spectra to extract")
                      .arg(cursor.spectrum)
                      .arg(cursor.wavelength, 0, 'f', 1)
                : document_->planProblem(),
            8000);
    });
    connect(&ccdView(), &CcdImageView::contextMenuRequested, this, [this](const QPoint& at) {
        QMenu menu;
        for (const char* id : {"go.to", "go.bookmark", "extract.patch", "extract.fiber", "extract.bundle", "view.fit",
                               "view.one", "view.contrast"})
            if (QAction* action = actions_->find(QString::fromLatin1(id))) menu.addAction(action);
        menu.exec(at);
    });
    connect(document_, &Document::patchSelected, this, &MainWindow::selectionChanged);
    connect(document_, &Document::maskEditsChanged, this, &MainWindow::selectionChanged);
    connect(document_, &Document::imageChanged, this, &MainWindow::refreshTitle);
    connect(document_, &Document::psfChanged, this, &MainWindow::refreshTitle);
    connect(document_, &Document::planChanged, this, [this] {
        if (document_->psf() && !document_->planProblem().isEmpty()) showProblem(document_->planProblem());
    });
    connect(controller_, &ExtractionController::message, this, [this](const QString& text, bool error) {
        if (error)
            showProblem(text);
        else
            statusBar()->showMessage(text, 8000);
    });

    QSettings settings;
    actions_->loadKeys(settings);
    setDark(settings.value(QStringLiteral("dark"), true).toBool());
    refreshRecent();
    refreshBookmarks();
    ccdView().setFocus();
}

MainWindow::~MainWindow() {
    // The controller's threads end before anything else goes.
    delete controller_;
    controller_ = nullptr;
}

CcdImageView& MainWindow::ccdView() { return ccd_->view(); }

void MainWindow::refreshTitle() {
    QStringList names;
    if (document_->image()) names << QFileInfo(QString::fromStdString(document_->image()->path)).fileName();
    if (document_->psf()) names << QFileInfo(QString::fromStdString(document_->psf()->path)).fileName();
    names << QStringLiteral("Patchlight");
    setWindowTitle(names.join(QStringLiteral(" \u2013 ")));
}

void MainWindow::selectionChanged() {
    if (document_->selectedPatch() && document_->pixels()) controller_->extractPatch(*document_->selectedPatch());
}

QDockWidget* MainWindow::addDock(const QString& name, const QString& title, QWidget* widget, Qt::DockWidgetArea area,
                                 QDockWidget* beside, const QString& keys) {
    auto* dock = new QDockWidget(title, this);
    dock->setObjectName(name);
    dock->setWidget(widget);
    if (beside)
        tabifyDockWidget(beside, dock);
    else
        addDockWidget(area, dock);
    docks_ << dock;
    QAction* const show = actions_->addToggle({QStringLiteral("window.") + name, tr("Window"), title, keys,
                                               tr("Show or hide this view"), true, true, nullptr, docks_.size() == 1},
                                              [dock](bool on) {
                                                  dock->setVisible(on);
                                                  if (on) dock->raise();
                                              });
    connect(dock->toggleViewAction(), &QAction::toggled, show, &QAction::setChecked);
    defaultLayout_ = saveState(stateVersion);
    return dock;
}

QDockWidget* MainWindow::dock(const QString& name) const {
    for (QDockWidget* dock : docks_)
        if (dock->objectName() == name) return dock;
    return nullptr;
}

void MainWindow::balance() {
    resizeDocks({dock(QStringLiteral("patch"))}, {width() * 45 / 100}, Qt::Horizontal);
    resizeDocks({dock(QStringLiteral("spectrum"))}, {height() / 3}, Qt::Vertical);
}

void MainWindow::resetLayout() {
    for (QDockWidget* dock : docks_) {
        dock->setFloating(false);
        dock->setVisible(true);
    }
    restoreState(defaultLayout_, stateVersion);
    balance();
}

// --- actions --------------------------------------------------------------------------------------------------------------------

void MainWindow::makeActions() {
    CcdImageView* const view = &ccdView();
    ActionList& a = *actions_;
    const QString file = QStringLiteral("File");
    a.add({"file.open", file, tr("&Open..."), "Ctrl+O",
           tr("Open a CCD image, a PSF, extracted frames, a truth file or a model image")},
          [this] { chooseFiles(false); });
    a.add({"file.second", file, tr("Open a second &frame or PSF to compare..."), "Ctrl+Shift+O",
           tr("Open an extracted frame, or a PSF, beside the present one")},
          [this] { chooseFiles(true); });
    a.add({"file.reload", file, tr("&Reload"), "F5", tr("Read the open files again; zoom and cuts stay")},
          [this] { controller_->reload(); });
    recentMenu_ = new QMenu(tr("Recent files"), this);
    a.add({"file.session.open", file, tr("Open session..."), "Ctrl+Alt+O",
           tr("Restore files, view, selection, layers and options"), false, false, nullptr, true},
          [this] {
              QSettings settings;
              const QString path = QFileDialog::getOpenFileName(this, tr("Open session"),
                                                                settings.value(QStringLiteral("folder")).toString(),
                                                                tr("Sessions (*.json)"));
              if (path.isEmpty()) return;
              if (const QString problem = loadSession(path); !problem.isEmpty()) showProblem(problem);
          });
    a.add({"file.session.save", file, tr("&Save session..."), "Ctrl+S",
           tr("Write files, view, selection, layers and options to a JSON file")},
          [this] {
              const QString path =
                  chooseSavePath(tr("Save session"), QStringLiteral("session.json"), tr("Sessions (*.json)"));
              if (path.isEmpty()) return;
              if (const QString problem = saveSession(path); !problem.isEmpty()) showProblem(problem);
          });
    a.add({"file.frame.save", file, tr("&Write extracted frame..."), "Ctrl+Shift+S",
           tr("Write the extracted frame to a FITS file"), false, false, nullptr, true},
          [this] {
              if (!document_->frame()) {
                  showProblem(
                      tr("there is no extracted frame to write: extract a fiber, a bundle or the whole frame first"));
                  return;
              }
              const QString path =
                  chooseSavePath(tr("Write extracted frame"), QStringLiteral("frame.fits"), fitsFilter());
              if (!path.isEmpty()) controller_->writeFrame(path);
          });
    a.add({"file.patch.save", file, tr("Write patch..."), "Ctrl+Alt+S",
           tr("Write the selected patch with all its intermediates to a FITS file")},
          [this] {
              if (!document_->patchRun()) {
                  showProblem(tr("there is no patch to write: click into the CCD view to extract one"));
                  return;
              }
              const QString path = chooseSavePath(tr("Write patch"), QStringLiteral("patch.fits"), fitsFilter());
              if (!path.isEmpty()) controller_->writePatch(path);
          });
    a.add(
        {"file.model.save", file, tr("Write model image..."), "Ctrl+Alt+M", tr("Write the model image to a FITS file")},
        [this] {
            if (!document_->model()) {
                showProblem(tr("there is no model image to write: extract something first"));
                return;
            }
            const QString path = chooseSavePath(tr("Write model image"), QStringLiteral("model.fits"), fitsFilter());
            if (!path.isEmpty()) controller_->writeModel(path);
        });
    a.add({"file.export", file, tr("&Export view..."), "Ctrl+E", tr("Write the view that has the focus as PNG or PDF"),
           false, false, nullptr, true},
          [this] { exportView(); });
    a.add({"file.export.window", file, tr("Export window..."), "Ctrl+Shift+E",
           tr("Write the whole window as PNG or PDF")},
          [this] {
              const QString path =
                  chooseSavePath(tr("Export window"), QStringLiteral("window.png"), tr("Pictures (*.png *.pdf)"));
              if (path.isEmpty()) return;
              if (const QString problem = exportWidget(*this, path); !problem.isEmpty()) showProblem(problem);
          });
    a.add({"file.report", file, tr("Quality report..."), "Ctrl+Alt+R",
           tr("Write a PDF report of the extracted frame's quality")},
          [this] {
              if (!quality_->measurement().quality) {
                  showProblem(
                      tr("there is nothing to report yet: open the Frame dock, which measures the extracted frame"));
                  return;
              }
              const QString path =
                  chooseSavePath(tr("Quality report"), QStringLiteral("quality.pdf"), tr("Reports (*.pdf)"));
              if (path.isEmpty()) return;
              if (const QString problem = writeQualityReport(*quality_, path); !problem.isEmpty()) showProblem(problem);
          });
    a.add({"file.command", file, tr("&Copy as command line"), "Ctrl+Shift+C",
           tr("Copy the patchlight command that repeats what was done last")},
          [this] {
              const QString command = controller_->lastCommand();
              if (command.isEmpty()) {
                  statusBar()->showMessage(tr("Nothing has been extracted yet"), 8000);
                  return;
              }
              QApplication::clipboard()->setText(command);
              const auto edits = document_->maskEdits().size();
              const QString without =
                  edits > 0 ? tr(" (without the %1 pixels masked or unmasked by hand, which no file holds)").arg(edits)
                            : QString();
              statusBar()->showMessage(tr("Copied%1: %2").arg(without, command), 8000);
              jobs_->addLine(command, false);
          });
    a.add({"file.quit", file, tr("&Quit"), "Ctrl+Q", tr("Close the window"), false, false, nullptr, true},
          [this] { close(); });

    const QString v = QStringLiteral("View");
    a.add({"view.fit", v, tr("&Fit"), "0;Home", tr("Show the whole CCD"), false, false, view}, [view] { view->fit(); });
    a.add({"view.one", v, tr("&1:1"), "1", tr("One screen pixel a CCD pixel"), false, false, view},
          [view] { view->oneToOne(); });
    a.add({"view.in", v, tr("Zoom &in"), "+;=;Ctrl++", tr("Zoom in"), false, false, view},
          [view] { view->zoomBy(1.5); });
    a.add({"view.out", v, tr("Zoom &out"), "-;Ctrl+-", tr("Zoom out"), false, false, view},
          [view] { view->zoomBy(1 / 1.5); });
    a.add({"view.back", v, tr("&Back"), "Alt+Left;Backspace", tr("The view before"), false, false, view},
          [view] { view->back(); });
    a.add({"view.forward", v, tr("F&orward"), "Alt+Right;Shift+Backspace", tr("The view after"), false, false, view},
          [view] { view->forward(); });
    const struct {
        const char* id;
        QString text;
        const char* keys;
        double x, y;
    } pans[] = {{"view.left", tr("Pan left"), "Ctrl+Left", -1, 0},
                {"view.right", tr("Pan right"), "Ctrl+Right", 1, 0},
                {"view.up", tr("Pan up"), "Ctrl+Up", 0, 1},
                {"view.down", tr("Pan down"), "Ctrl+Down", 0, -1}};
    for (const auto& pan : pans)
        a.add({QString::fromLatin1(pan.id), v, pan.text, QString::fromLatin1(pan.keys),
               tr("Move by a quarter of the view"), false, false, view},
              [view, x = pan.x, y = pan.y] {
                  ViewState state = view->view();
                  state.centerX += 0.25 * x * view->width() / state.zoom;
                  state.centerY += 0.25 * y * view->height() / state.zoom;
                  view->setView(state);
              });
    a.add({"view.contrast", v, tr("Reset &contrast"), "R",
           tr("Contrast and bias as at the start; so does a double click"), false, false, view, true},
          [view] { view->resetContrast(); });
    a.add({"view.zscale", v, tr("&zscale"), "Z", tr("Cuts by zscale"), false, false, view}, [view] {
        DisplaySettings s = view->settings(view->layer());
        s.cuts = view->layer() == Layer::Residual || view->layer() == Layer::Pull ? Cuts::Fixed : Cuts::Zscale;
        view->setSettings(view->layer(), s);
    });
    a.add({"view.minmax", v, tr("&Min to max"), "X", tr("Cuts at the smallest and largest value"), false, false, view},
          [view] {
              DisplaySettings s = view->settings(view->layer());
              s.cuts = Cuts::MinMax;
              view->setSettings(view->layer(), s);
          });
    a.add({"view.scaling", v, tr("Next &scaling"), "S", tr("linear, log, asinh, sqrt, histogram"), false, false, view},
          [view] {
              DisplaySettings s = view->settings(view->layer());
              s.scaling = static_cast<Scaling>((static_cast<int>(s.scaling) + 1) % 5);
              view->setSettings(view->layer(), s);
          });
    // What the controls above the view choose, for windows too narrow to show them.
    // Their keys are two, one after the other.
    const auto numbered = [](char letter, int i) {
        return QStringLiteral("%1, %2").arg(QLatin1Char(letter)).arg(i + 1);
    };
    int cutsKey = 0;
    for (const Cuts cuts : {Cuts::Percent90, Cuts::Percent95, Cuts::Percent98, Cuts::Percent99, Cuts::Percent995})
        a.add({QStringLiteral("view.cuts.") + QString::fromLatin1(cutsWords[static_cast<int>(cuts)]),
               QStringLiteral("View/Cuts"), cutsName(cuts), numbered('Q', cutsKey++),
               tr("Cuts that hold this share of the pixels"), false, false, view},
              [view, cuts] {
                  DisplaySettings s = view->settings(view->layer());
                  s.cuts = cuts;
                  view->setSettings(view->layer(), s);
              });
    a.add({"view.cuts.manual", QStringLiteral("View/Cuts"), tr("&Manual..."), "Q, M",
           tr("The values that the darkest and the brightest colour stand for"), false, false, view},
          [this] { askForCuts(); });
    for (int i = 0; i < 5; ++i)
        a.add({QStringLiteral("view.scaling.") + QString::fromLatin1(scalingWords[i]), QStringLiteral("View/Scaling"),
               scalingName(static_cast<Scaling>(i)), numbered('Y', i), tr("How values become colours"), false, false,
               view},
              [view, i] {
                  DisplaySettings s = view->settings(view->layer());
                  s.scaling = static_cast<Scaling>(i);
                  view->setSettings(view->layer(), s);
              });
    int mapKey = 0;
    for (const ColorMap& map : colorMaps())
        a.add({QStringLiteral("view.map.") + map.id, QStringLiteral("View/Colours"), map.name, numbered('K', mapKey++),
               tr("Colours of this layer"), false, false, view},
              [view, id = map.id] {
                  DisplaySettings s = view->settings(view->layer());
                  s.map = id;
                  view->setSettings(view->layer(), s);
              });
    a.add({"view.invert", v, tr("&Invert colours"), "I", tr("Dark where it was bright"), false, false, view}, [view] {
        DisplaySettings s = view->settings(view->layer());
        s.invert = !s.invert;
        view->setSettings(view->layer(), s);
    });
    a.addToggle({"view.dark", v, tr("&Dark window"), "Ctrl+Shift+D", tr("Dark or light"), true, true, nullptr, true},
                [this](bool on) { setDark(on); });
    a.addToggle({"view.full", v, tr("Full screen"), "F11", tr("The window without its frame")},
                [this](bool on) { on ? showFullScreen() : showNormal(); });

    const QString layers = QStringLiteral("Layer");
    const char* const layerKeys[] = {"F1", "F2", "F3", "F4", "F6", "F7"};
    for (int i = 0; i < layerCount; ++i) {
        const auto layer = static_cast<Layer>(i);
        a.add({QStringLiteral("layer.") + layerName(layer), layers, tr("Show %1").arg(layerName(layer)),
               QString::fromLatin1(layerKeys[i]), tr("Show this layer in the CCD view")},
              [view, layer] { view->setLayer(layer); });
    }
    // Tab itself is handled by the view: as a shortcut it would take the focus key from all other widgets.
    a.add({"layer.next", layers, tr("&Next layer"), "N", tr("Also Tab"), false, false, view, true},
          [view] { view->cycleLayer(+1); });
    a.add({"layer.previous", layers, tr("&Previous layer"), "Shift+N", tr("Also Shift+Tab"), false, false, view},
          [view] { view->cycleLayer(-1); });
    for (int i = 0; i < layerCount; ++i) {
        const auto layer = static_cast<Layer>(i);
        if (layer == Layer::Mask) continue;
        a.add({QStringLiteral("layer.fadeto.") + layerName(layer), QStringLiteral("Layer/Fade to"), layerName(layer),
               numbered('J', i), tr("The layer that the fade slider mixes in"), false, false, view},
              [view, layer] { view->setFadeLayer(layer); });
    }
    a.add({"layer.fade", layers, tr("&Fade half and half"), "F",
           tr("Half the layer shown, half the one to fade to; again: back"), false, false, view},
          [view] { view->setFade(view->fade() > 0 ? 0.0 : 0.5); });
    constexpr double fadeStep = 0.1;
    a.add({"layer.fade.more", layers, tr("Fade &more"), ">", tr("More of the layer to fade to"), false, false, view},
          [view] { view->setFade(std::min(1.0, view->fade() + fadeStep)); });
    a.add({"layer.fade.less", layers, tr("Fade &less"), "<", tr("Less of the layer to fade to"), false, false, view},
          [view] { view->setFade(std::max(0.0, view->fade() - fadeStep)); });

    const QString overlays = QStringLiteral("Overlays");
    const char* const overlayKeys[] = {"T", "W", "B", "G", "P", "M", "A", "O", "C", "D"};
    for (int i = 0; i < overlayCount; ++i) {
        const auto overlay = static_cast<Overlay>(i);
        QString text = overlayName(overlay);
        text[0] = text[0].toUpper();
        QAction* const action =
            a.addToggle({QStringLiteral("overlay.") + overlayWord(static_cast<Overlay>(i)), overlays, text,
                         QString::fromLatin1(overlayKeys[i]), tr("Draw or hide: %1").arg(overlayName(overlay)), true,
                         view->overlay(overlay), view},
                        [view, overlay](bool on) { view->setOverlay(overlay, on); });
        connect(view, &CcdImageView::overlaysChanged, action,
                [view, overlay, action] { action->setChecked(view->overlay(overlay)); });
    }

    const QString go = QStringLiteral("Go");
    a.add({"go.to", go, tr("&Go to..."), "Ctrl+G", tr("Go to a fiber and wavelength, or to a pixel")}, [this] {
        GoToDialog dialog(*document_, this);
        if (dialog.exec() == QDialog::Accepted) goTo(dialog.place());
    });
    a.add({"go.bookmark", go, tr("Add &bookmark"), "Ctrl+D", tr("Remember this place")}, [this] { addBookmark(); });
    const struct {
        const char* id;
        QString text;
        const char* keys;
        int subbundle, step;
    } walks[] = {{"go.patch.up", tr("Patch at longer wavelengths"), "Up", 0, 1},
                 {"go.patch.down", tr("Patch at shorter wavelengths"), "Down", 0, -1},
                 {"go.patch.left", tr("Patch of the fibers before"), "Left", -1, 0},
                 {"go.patch.right", tr("Patch of the next fibers"), "Right", 1, 0}};
    for (const auto& w : walks)
        a.add({QString::fromLatin1(w.id), go, w.text, QString::fromLatin1(w.keys),
               tr("Select and extract the neighbouring patch"), false, false, view, w.subbundle == 0 && w.step == 1},
              [this, s = w.subbundle, t = w.step] { walk(s, t); });
    const struct {
        const char* id;
        QString text;
        const char* keys;
        int by;
    } fibers[] = {{"go.fiber.next", tr("Next fiber"), "Ctrl+]", 1},
                  {"go.fiber.previous", tr("Previous fiber"), "Ctrl+[", -1}};
    for (const auto& f : fibers)
        a.add({QString::fromLatin1(f.id), go, f.text, QString::fromLatin1(f.keys),
               tr("The same wavelength of the neighbouring fiber")},
              [this, by = f.by] {
                  const Cursor& cursor = document_->cursor();
                  if (!cursor.hasBin() || !document_->psf() || cursor.spectrum + by < 0 ||
                      cursor.spectrum + by >= document_->psf()->nspec)
                      return;
                  document_->setCursor(document_->cursorAtBin(cursor.spectrum + by, cursor.wavelength));
                  document_->selectPatch(document_->patchAt(document_->cursor()));
              });
    bookmarkMenu_ = new QMenu(tr("Bookmarks"), this);

    const QString extract = QStringLiteral("Extract");
    a.add({"extract.patch", extract, tr("Extract the &patch again"), "Return", tr("Extract the selected patch"), false,
           false, view},
          [this] { selectionChanged(); });
    a.addToggle({"extract.live", extract, tr("&Live: extract while dragging"), "L",
                 tr("A left drag in the CCD view extracts every patch on its way"), true, false, view},
                [view](bool on) { view->setLive(on); });
    a.add({"extract.fiber", extract, tr("Extract this &fiber"), "Ctrl+F", tr("In the background"), false, false,
           nullptr, true},
          [this] { controller_->extract(ExtractionController::Scope::Fiber); });
    a.add({"extract.bundle", extract, tr("Extract this &bundle"), "Ctrl+B", tr("In the background")},
          [this] { controller_->extract(ExtractionController::Scope::Bundle); });
    a.add({"extract.frame", extract, tr("Extract the &whole frame"), "Ctrl+Shift+F",
           tr("In the background; spectra appear as they are done")},
          [this] {
              if (controller_->extract(ExtractionController::Scope::Frame) == 0 && !document_->plan())
                  showProblem(document_->image() ? document_->planProblem() : tr("no CCD image is open"));
          });
    a.add({"extract.cancel", extract, tr("&Cancel"), "Esc", tr("Stop the run in the background between two batches")},
          [this] { controller_->cancelAll(); });
    a.add({"extract.unmask", extract, tr("Drop all edits of the mask"), "Ctrl+Shift+U", tr("The mask as in the file"),
           false, false, nullptr, true},
          [this] { document_->setMaskEdits({}); });

    a.add({"extract.options", extract, tr("&Reset all options"), "Ctrl+Alt+Z", tr("All options at their defaults"),
           false, false, nullptr},
          [this] { options_->resetAll(); });

    views_->addActions(a);
    resolution_->addActions(a);
    psf_->addActions(a);
    quality_->addActions(a);
    timing_->addActions(a);

    const QString window = QStringLiteral("Window");
    a.add({"window.palette", window, tr("&Commands..."), "Ctrl+Shift+P", tr("All commands by name")},
          [this] { showPalette(); });
    a.add({"window.reset", window, tr("&Reset layout"), "Ctrl+Shift+R", tr("All docks where they were at first")},
          [this] { resetLayout(); });

    const QString help = QStringLiteral("Help");
    a.add({"help.keys", help, tr("&Keys..."), "?", tr("All keys, and how to change them")}, [this] {
        KeySheet sheet(*actions_, this);
        sheet.exec();
        QSettings settings;
        actions_->saveKeys(settings);
    });
    a.add({"help.about", help, tr("&About Patchlight"), "Shift+F1", tr("Version and licence")}, [this] {
        QMessageBox::about(
            this, tr("About Patchlight"),
            tr("Patchlight %1\n%2\n\nExtracts spectra from the CCD frames of fiber spectrographs by "
               "spectro-perfectionism.\nBSD 3-Clause licence.")
                .arg(QString::fromUtf8(version().data(), static_cast<qsizetype>(version().size())),
                     QString::fromUtf8(gitDescribe().data(), static_cast<qsizetype>(gitDescribe().size()))));
    });

    // The two menus that change: beside the entry they belong to.
    if (QAction* reload = a.find(QStringLiteral("file.reload")))
        for (QAction* menu : menuBar()->actions()) {
            if (menu->menu()->objectName() == file) menu->menu()->insertMenu(reload, recentMenu_);
            if (menu->menu()->objectName() == go)
                menu->menu()->insertMenu(a.find(QStringLiteral("go.patch.up")), bookmarkMenu_);
        }
}

void MainWindow::askForCuts() {
    CcdImageView& view = ccdView();
    DisplaySettings settings = view.settings(view.layer());
    QString text = tr("%1 to %2").arg(settings.range.low, 0, 'g', 6).arg(settings.range.high, 0, 'g', 6);
    QString question = tr("Lowest and highest value of the layer \"%1\":").arg(layerName(view.layer()));
    for (;;) {
        bool sure = false;
        text = QInputDialog::getText(this, tr("Manual cuts"), question, QLineEdit::Normal, text, &sure);
        if (!sure) return;
        if (const std::optional<ValueRange> range = parseCuts(text)) {
            settings.cuts = Cuts::Manual;
            settings.range = *range;
            view.setSettings(view.layer(), settings);
            return;
        }
        question = tr("Two numbers would be right, the lower one first, such as \"0 to 250\":");
    }
}

void MainWindow::walk(int subbundle, int step) {
    if (!document_->plan()) return;
    const Plan& plan = *document_->plan();
    std::optional<Patch> patch = document_->selectedPatch();
    if (!patch) patch = document_->patchAt(document_->cursor());
    if (!patch) return;
    const int s = patch->subbundle + subbundle;
    const int t = patch->step + step;
    if (s < 0 || s >= static_cast<int>(plan.subbundles.size()) || t < 0 || t >= plan.nsteps) return;
    const Patch next = plan.patch(s, t);
    const int middle = (next.keepBins.first + next.keepBins.last) / 2 - plan.grid.pad;
    const Cursor cursor =
        document_->cursorAtBin((next.core.first + next.core.last) / 2, plan.grid.outputWavelength(middle));
    document_->setCursor(cursor);
    document_->selectPatch(next);
    follow(cursor);
}

/// Moves the CCD view where a place would leave the screen.
void MainWindow::follow(const Cursor& cursor) {
    if (!cursor.hasPixel()) return;
    const QPointF at = ccdView().toWidget(cursor.x, cursor.y);
    if (!QRectF(ccdView().rect()).adjusted(40, 40, -40, -40).contains(at)) ccdView().centerOn(cursor.x, cursor.y);
}

void MainWindow::goTo(const Cursor& cursor) {
    document_->setCursor(cursor);
    if (cursor.hasPixel()) {
        constexpr double closeUp = 6.0;
        ccdView().centerOn(cursor.x, cursor.y, closeUp);
    }
    document_->selectPatch(document_->patchAt(cursor));
}

void MainWindow::showPalette() {
    CommandPalette palette(*actions_, this);
    if (palette.exec() != QDialog::Accepted) return;
    if (QAction* action = palette.selected()) action->trigger();
}

// --- files ----------------------------------------------------------------------------------------------------------------------

int MainWindow::openFiles(const QStringList& paths) {
    QStringList files;
    int traceJob = 0;
    for (const QString& text : paths) {
        const FileArgument argument = parseFileArgument(text);
        if (TimingPanel::isTrace(argument.path)) {
            traceJob = timing_->open(argument.path);
            dock(QStringLiteral("timing"))->show();
            dock(QStringLiteral("timing"))->raise();
            continue;
        }
        files << argument.path;
        if (argument.hdu.isEmpty() && !argument.section) continue;
        whenOpened([this, argument] {
            if (const auto layer = layerFromName(argument.hdu)) ccdView().setLayer(*layer);
            if (argument.section) {
                const QRect& box = *argument.section;
                ccdView().setView({box.x() + 0.5 * (box.width() - 1), box.y() + 0.5 * (box.height() - 1),
                                   std::min(static_cast<double>(ccdView().width()) / box.width(),
                                            static_cast<double>(ccdView().height()) / box.height())});
            }
        });
    }
    problemBar_->hide();
    if (files.isEmpty() && traceJob != 0) return traceJob;
    const int job = controller_->open(files);
    auto* once = new QObject(this);
    connect(controller_, &ExtractionController::jobEnded, once, [this, once, job, files](int ended, JobState state) {
        if (ended != job) return;
        if (state == JobState::Done) addRecent(files);
        once->deleteLater();
    });
    return job;
}

void MainWindow::whenOpened(std::function<void()> then) {
    // Queued, so that it comes after all that follows from the last job.
    auto* once = new QObject(this);
    connect(
        controller_, &ExtractionController::idle, once,
        [once, then = std::move(then)] {
            once->deleteLater();
            once->disconnect();
            then();
        },
        Qt::QueuedConnection);
}

void MainWindow::chooseFiles(bool second) {
    QSettings settings;
    const QStringList paths =
        QFileDialog::getOpenFileNames(this, second ? tr("Open a second frame or PSF") : tr("Open"),
                                      settings.value(QStringLiteral("folder")).toString(), fitsFilter());
    if (paths.isEmpty()) return;
    settings.setValue(QStringLiteral("folder"), QFileInfo(paths.front()).absolutePath());
    if (second)
        controller_->open(paths, true);
    else
        openFiles(paths);
}

QString MainWindow::chooseSavePath(const QString& title, const QString& suggestion, const QString& filter) {
    QSettings settings;
    const QString folder =
        settings.value(QStringLiteral("saveFolder"), settings.value(QStringLiteral("folder"))).toString();
    QString path = QFileDialog::getSaveFileName(this, title, QDir(folder).filePath(suggestion), filter);
    if (!path.isEmpty()) settings.setValue(QStringLiteral("saveFolder"), QFileInfo(path).absolutePath());
    return path;
}

void MainWindow::addRecent(const QStringList& paths) {
    QSettings settings;
    QStringList recent = settings.value(QStringLiteral("recent")).toStringList();
    for (auto it = paths.crbegin(); it != paths.crend(); ++it) {
        const QString path = QFileInfo(*it).absoluteFilePath();
        recent.removeAll(path);
        recent.prepend(path);
    }
    settings.setValue(QStringLiteral("recent"), QStringList(recent.mid(0, recentCount)));
    refreshRecent();
}

void MainWindow::refreshRecent() {
    recentMenu_->clear();
    const QSettings settings;
    for (const QString& path : settings.value(QStringLiteral("recent")).toStringList()) {
        QAction* const action = recentMenu_->addAction(QString(path).replace(QLatin1Char('&'), QStringLiteral("&&")));
        connect(action, &QAction::triggered, this, [this, path] { openFiles({path}); });
    }
    recentMenu_->setEnabled(!recentMenu_->isEmpty());
}

void MainWindow::addBookmark() {
    if (!document_->cursor().hasPixel() && !document_->cursor().hasBin()) {
        statusBar()->showMessage(tr("Click into the CCD view first: a bookmark is a place"), 8000);
        return;
    }
    bookmarks_.append({describePlace(document_->cursor()), document_->cursor()});
    refreshBookmarks();
    statusBar()->showMessage(tr("Bookmark: %1").arg(bookmarks_.back().first), 8000);
}

void MainWindow::refreshBookmarks() {
    bookmarkMenu_->clear();
    for (const auto& [name, cursor] : bookmarks_)
        connect(bookmarkMenu_->addAction(name), &QAction::triggered, this, [this, place = cursor] { goTo(place); });
    bookmarkMenu_->setEnabled(!bookmarks_.isEmpty());
}

void MainWindow::showProblem(const QString& text) {
    problemText_->setText(text);
    problemBar_->setVisible(!text.isEmpty());
}

QString MainWindow::problem() const { return problemBar_->isHidden() ? QString() : problemText_->text(); }

void MainWindow::exportView() {
    // The view with the focus: the dock it is in, else the CCD view.
    QWidget* target = &ccdView();
    QString name = QStringLiteral("ccd");
    for (QWidget* widget = QApplication::focusWidget(); widget; widget = widget->parentWidget())
        if (auto* dock = qobject_cast<QDockWidget*>(widget)) {
            target = dock->widget();
            name = dock->objectName();
        }
    auto* const spectrum = qobject_cast<SpectrumView*>(target);
    auto* const patch = qobject_cast<PatchInspector*>(target);
    const QString path = chooseSavePath(tr("Export view"), name + QStringLiteral(".png"),
                                        spectrum || patch ? tr("Pictures and numbers (*.png *.pdf *.csv)")
                                                          : tr("Pictures (*.png *.pdf)"));
    if (path.isEmpty()) return;
    const QString problem = spectrum ? spectrum->exportTo(path)
                            : patch  ? patch->exportTo(path)
                                     : exportWidget(*target, path);
    if (!problem.isEmpty())
        showProblem(problem);
    else
        statusBar()->showMessage(tr("wrote %1").arg(path), 8000);
}

QString MainWindow::exportWidget(QWidget& widget, const QString& path) {
    const QString suffix = QFileInfo(path).suffix().toLower();
    if (suffix == QStringLiteral("pdf")) {
        QPdfWriter writer(path);
        constexpr int dotsPerInch = 300;
        writer.setResolution(dotsPerInch);
        const double points = 72.0 / 96.0; // a screen pixel
        writer.setPageSize(QPageSize(QSizeF(widget.size()) * points, QPageSize::Point));
        writer.setPageMargins({});
        writer.setTitle(widget.accessibleName());
        QPainter painter;
        if (!painter.begin(&writer)) return tr("%1: cannot be written").arg(path);
        painter.scale(dotsPerInch / 96.0, dotsPerInch / 96.0);
        widget.render(&painter);
        return painter.end() ? QString() : tr("%1: cannot be written").arg(path);
    }
    if (suffix != QStringLiteral("png")) return tr("%1: pictures are written as .png or .pdf").arg(path);
    QSaveFile file(path);
    if (!file.open(QIODevice::WriteOnly)) return tr("%1: %2").arg(path, file.errorString());
    if (!widget.grab().toImage().save(&file, "PNG") || !file.commit())
        return tr("%1: %2").arg(path, file.errorString());
    return {};
}

void MainWindow::setDark(bool dark) {
    dark_ = dark;
    QApplication::setPalette(windowPalette(dark));
    if (QAction* action = actions_->find(QStringLiteral("view.dark"))) action->setChecked(dark);
}

// --- session --------------------------------------------------------------------------------------------------------------------

QJsonObject MainWindow::session(const QString& folder) const {
    QJsonObject json;
    json[QStringLiteral("patchlight session")] = sessionVersion;
    QJsonObject files;
    const auto add = [&](const char* name, const QString& path) {
        if (!path.isEmpty()) files[QLatin1String(name)] = relative(path, folder);
    };
    if (document_->image()) add("image", QString::fromStdString(document_->image()->path));
    if (document_->psf()) add("psf", QString::fromStdString(document_->psf()->path));
    if (document_->secondPsf()) add("second psf", QString::fromStdString(document_->secondPsf()->path));
    add("frame", document_->frame().path);
    add("second frame", document_->secondFrame().path);
    if (document_->truth()) add("truth", QString::fromStdString(document_->truth()->path));
    json[QStringLiteral("files")] = files;

    QJsonObject options;
    const ExtractionOptions defaults;
    for (const OptionSpec& spec : optionTable()) {
        const std::string value = spec.get(document_->options());
        if (value != spec.get(defaults)) options[QString::fromStdString(spec.name)] = QString::fromStdString(value);
    }
    json[QStringLiteral("options")] = options;
    json[QStringLiteral("engine")] = controller_->backendName();
    json[QStringLiteral("threads")] = controller_->threads();

    const CcdImageView& view = ccd_->view();
    const auto place = [](const Cursor& cursor) {
        QJsonObject object;
        if (cursor.hasBin()) {
            object[QStringLiteral("fiber")] = cursor.spectrum;
            object[QStringLiteral("wavelength")] = cursor.wavelength;
        }
        if (cursor.hasPixel()) {
            object[QStringLiteral("x")] = cursor.x;
            object[QStringLiteral("y")] = cursor.y;
        }
        return object;
    };
    json[QStringLiteral("cursor")] = place(document_->cursor());
    json[QStringLiteral("patch selected")] = document_->selectedPatch().has_value();
    json[QStringLiteral("view")] = QJsonObject{{QStringLiteral("x"), view.view().centerX},
                                               {QStringLiteral("y"), view.view().centerY},
                                               {QStringLiteral("zoom"), view.view().zoom}};
    json[QStringLiteral("layer")] = layerName(view.layer());
    json[QStringLiteral("fade")] = view.fade();
    json[QStringLiteral("fade to")] = layerName(view.fadeLayer());
    QJsonObject display;
    for (const Layer layer : {Layer::Image, Layer::Ivar, Layer::Residual, Layer::Pull})
        display[layerName(layer)] = toJson(view.settings(layer));
    json[QStringLiteral("display")] = display;
    json[QStringLiteral("spectrum")] = views_->session();
    json[QStringLiteral("resolution")] = resolution_->session();
    json[QStringLiteral("psf view")] = psf_->session();
    QJsonArray overlays;
    for (int i = 0; i < overlayCount; ++i)
        if (view.overlay(static_cast<Overlay>(i))) overlays << overlayWord(static_cast<Overlay>(i));
    json[QStringLiteral("overlays")] = overlays;
    QJsonArray bookmarks;
    for (const auto& [name, cursor] : bookmarks_) {
        QJsonObject object = place(cursor);
        object[QStringLiteral("name")] = name;
        bookmarks << object;
    }
    json[QStringLiteral("bookmarks")] = bookmarks;
    if (document_->image() && !document_->maskEdits().isEmpty()) {
        QJsonArray edits;
        const int nx = document_->image()->nx;
        for (auto it = document_->maskEdits().constBegin(); it != document_->maskEdits().constEnd(); ++it)
            edits << QJsonArray{it.key() % nx, it.key() / nx, it.value()};
        json[QStringLiteral("mask edits")] = edits;
    }
    json[QStringLiteral("dark")] = dark_;
    json[QStringLiteral("layout")] = QString::fromLatin1(saveState(stateVersion).toBase64());
    return json;
}

QString MainWindow::restoreSession(const QJsonObject& json, const QString& folder) {
    if (json[QStringLiteral("patchlight session")].toInt() != sessionVersion)
        return tr("not a session of this program: \"patchlight session\" is not %1").arg(sessionVersion);
    QStringList problems;
    ExtractionOptions options;
    const QJsonObject given = json[QStringLiteral("options")].toObject();
    for (auto it = given.begin(); it != given.end(); ++it) {
        try {
            findOption(it.key().toStdString()).set(options, it.value().toString().toStdString());
        } catch (const std::exception& error) {
            problems << QString::fromUtf8(error.what());
        }
    }
    document_->setOptions(options);
    controller_->setBackendName(json[QStringLiteral("engine")].toString(QStringLiteral("auto")));
    controller_->setThreads(json[QStringLiteral("threads")].toInt());
    options_->refreshRun();

    const auto place = [](const QJsonObject& object) {
        Cursor cursor;
        cursor.spectrum = object[QStringLiteral("fiber")].toInt(-1);
        cursor.wavelength = object[QStringLiteral("wavelength")].toDouble(std::numeric_limits<double>::quiet_NaN());
        cursor.x = object[QStringLiteral("x")].toDouble(std::numeric_limits<double>::quiet_NaN());
        cursor.y = object[QStringLiteral("y")].toDouble(std::numeric_limits<double>::quiet_NaN());
        return cursor;
    };
    bookmarks_.clear();
    for (const auto value : json[QStringLiteral("bookmarks")].toArray())
        bookmarks_.append({value.toObject()[QStringLiteral("name")].toString(), place(value.toObject())});
    refreshBookmarks();
    if (json.contains(QStringLiteral("dark"))) setDark(json[QStringLiteral("dark")].toBool());
    if (const QByteArray layout = QByteArray::fromBase64(json[QStringLiteral("layout")].toString().toLatin1());
        !layout.isEmpty() && !restoreState(layout, stateVersion))
        resetLayout();

    const auto showAll = [this, json, place] {
        CcdImageView& view = ccdView();
        const QJsonObject display = json[QStringLiteral("display")].toObject();
        for (const Layer layer : {Layer::Image, Layer::Ivar, Layer::Residual, Layer::Pull})
            if (display.contains(layerName(layer)))
                view.setSettings(layer, displayFromJson(display[layerName(layer)].toObject(), view.settings(layer)));
        if (json.contains(QStringLiteral("overlays"))) {
            const QJsonArray overlays = json[QStringLiteral("overlays")].toArray();
            for (int i = 0; i < overlayCount; ++i)
                view.setOverlay(static_cast<Overlay>(i), overlays.contains(overlayWord(static_cast<Overlay>(i))));
        }
        if (const auto layer = layerFromName(json[QStringLiteral("layer")].toString())) view.setLayer(*layer);
        if (const auto layer = layerFromName(json[QStringLiteral("fade to")].toString())) view.setFadeLayer(*layer);
        view.setFade(json[QStringLiteral("fade")].toDouble());
        views_->restore(json[QStringLiteral("spectrum")].toObject());
        resolution_->restore(json[QStringLiteral("resolution")].toObject());
        psf_->restore(json[QStringLiteral("psf view")].toObject());
        if (document_->image()) {
            QHash<int, bool> edits;
            const CcdImage& image = *document_->image();
            for (const auto value : json[QStringLiteral("mask edits")].toArray()) {
                const QJsonArray edit = value.toArray();
                const int x = edit.at(0).toInt(-1);
                const int y = edit.at(1).toInt(-1);
                if (x >= 0 && y >= 0 && x < image.nx && y < image.ny) edits[y * image.nx + x] = edit.at(2).toBool();
            }
            document_->setMaskEdits(edits);
        }
        Cursor cursor = place(json[QStringLiteral("cursor")].toObject());
        if (cursor.hasBin() && !cursor.hasPixel()) cursor = document_->cursorAtBin(cursor.spectrum, cursor.wavelength);
        document_->setCursor(cursor);
        if (json[QStringLiteral("patch selected")].toBool()) document_->selectPatch(document_->patchAt(cursor));
        const QJsonObject state = json[QStringLiteral("view")].toObject();
        if (state[QStringLiteral("zoom")].toDouble() > 0)
            view.setView({state[QStringLiteral("x")].toDouble(), state[QStringLiteral("y")].toDouble(),
                          state[QStringLiteral("zoom")].toDouble()});
    };
    const QJsonObject files = json[QStringLiteral("files")].toObject();
    QStringList paths;
    for (const char* name : {"image", "psf", "second psf", "frame", "second frame", "truth"})
        if (const QString path = files[QLatin1String(name)].toString(); !path.isEmpty())
            paths << absolute(path, folder);
    if (paths.isEmpty()) {
        showAll();
    } else {
        whenOpened(showAll);
        openFiles(paths);
    }
    return problems.join(QStringLiteral("; "));
}

QString MainWindow::saveSession(const QString& path) const {
    QSaveFile file(path);
    if (!file.open(QIODevice::WriteOnly)) return tr("%1: %2").arg(path, file.errorString());
    file.write(QJsonDocument(session(QFileInfo(path).absolutePath())).toJson());
    return file.commit() ? QString() : tr("%1: %2").arg(path, file.errorString());
}

QString MainWindow::loadSession(const QString& path) {
    QFile file(path);
    if (!file.open(QIODevice::ReadOnly)) return tr("%1: %2").arg(path, file.errorString());
    QJsonParseError error{};
    const QJsonDocument json = QJsonDocument::fromJson(file.readAll(), &error);
    if (!json.isObject())
        return tr("%1: not a session: %2 at byte %3").arg(path, error.errorString()).arg(error.offset);
    const QString problem = restoreSession(json.object(), QFileInfo(path).absolutePath());
    return problem.isEmpty() ? QString() : tr("%1: %2").arg(path, problem);
}

// --- window ---------------------------------------------------------------------------------------------------------------------

void MainWindow::closeEvent(QCloseEvent* event) {
    const Job* job = controller_->jobs().find(controller_->backgroundJob());
    if (job && !closing_) {
        const QString question = tr("A run is going on: %1, %2 of %3 patches. Stop it and close?")
                                     .arg(job->title)
                                     .arg(job->done)
                                     .arg(job->total);
        const bool sure =
            confirm ? confirm(question) : QMessageBox::question(this, tr("Close"), question) == QMessageBox::Yes;
        if (!sure) {
            event->ignore();
            return;
        }
    }
    closing_ = true;
    controller_->cancelAll();
    QSettings settings;
    settings.setValue(QStringLiteral("dark"), dark_);
    settings.setValue(QStringLiteral("geometry"), saveGeometry());
    settings.setValue(QStringLiteral("layout"), saveState(stateVersion));
    actions_->saveKeys(settings);
    event->accept();
}

void MainWindow::dragEnterEvent(QDragEnterEvent* event) {
    if (event->mimeData()->hasUrls()) event->acceptProposedAction();
}

void MainWindow::dropEvent(QDropEvent* event) {
    QStringList paths;
    for (const QUrl& url : event->mimeData()->urls())
        if (url.isLocalFile()) paths << url.toLocalFile();
    if (paths.size() == 1 && paths.front().endsWith(QStringLiteral(".json")) && !TimingPanel::isTrace(paths.front())) {
        if (const QString problem = loadSession(paths.front()); !problem.isEmpty()) showProblem(problem);
    } else if (!paths.isEmpty()) {
        openFiles(paths);
    }
    event->acceptProposedAction();
}

} // namespace patchlight::widgets
