#include "widgets/psf/PsfInspector.h"

#include "core/analysis/PsfFigures.h"
#include "core/analysis/Statistics.h"
#include "core/base/Nan.h"
#include "core/engine/Plan.h"
#include "core/psf/Psf.h"
#include "widgets/control/Document.h"
#include "widgets/control/SeenRefresh.h"
#include "widgets/plot/LinePlot.h"
#include "widgets/plot/MatrixView.h"
#include "widgets/vtk/SurfaceCanvas.h"
#include "widgets/window/ActionList.h"

#include <QAction>
#include <QComboBox>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QSplitter>
#include <QStackedWidget>
#include <QTabWidget>
#include <QTableWidget>
#include <QToolBar>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

namespace patchlight::widgets {

namespace {

QString nameOf(const Psf& psf) { return QFileInfo(QString::fromStdString(psf.path)).fileName(); }

MatrixContent pixelsOf(const SpotStamp& spot, const QString& title) {
    MatrixContent content;
    content.title = title;
    content.values = toFloat(spot.values);
    content.rowsUpwards = true;
    content.x0 = spot.cornerX;
    content.y0 = spot.cornerY;
    content.xLabel = PsfInspector::tr("CCD column");
    content.yLabel = PsfInspector::tr("CCD row");
    content.mark = QPointF(spot.x - spot.cornerX, spot.y - spot.cornerY);
    return content;
}

Surface surfaceOf(const MatrixContent& content) {
    Surface surface;
    surface.title = content.title;
    surface.nx = static_cast<int>(content.values.columns());
    surface.ny = static_cast<int>(content.values.rows());
    surface.low = content.low;
    surface.high = content.high;
    surface.heights = content.values.values();
    const ColourMap map(content.map);
    for (const float value : surface.heights)
        surface.colours.push_back(map.colour(static_cast<double>(value), content.low, content.high));
    return surface;
}

} // namespace

PsfInspector::PsfInspector(Document& document, QWidget* parent)
    : QWidget(parent), document_(document), pictures_(new QStackedWidget(this)), spot_(new MatrixView(this)),
      second_(new MatrixView(this)), difference_(new MatrixView(this)), surfaces_(new SurfaceCanvas(this)),
      profileX_(new LinePlot(this)), profileY_(new LinePlot(this)), pages_(new QTabWidget(this)),
      table_(new QTableWidget(this)), offsetBox_(new QComboBox(this)), offsetText_(new QLabel(this)),
      offsetMap_(new MatrixView(this)), offsetPlot_(new LinePlot(this)), waveOffsets_(new LinePlot(this)),
      strip_(new QLabel(this)), seen_(new SeenRefresh(this, [this] { refresh(); })) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    auto* bar = new QToolBar(tr("PSF"), this);
    bar->setToolButtonStyle(Qt::ToolButtonTextOnly);
    QAction* const open = bar->addAction(tr("Second PSF..."), this, &PsfInspector::openSecondRequested);
    open->setToolTip(tr("Open another PSF file to compare with"));
    QAction* const swap = bar->addAction(tr("Swap"), this, &PsfInspector::swap);
    swap->setToolTip(
        tr("The second PSF in the first one's place: the patch is extracted with it, before and after in sigma"));
    const auto toggle = [&](const QString& text, const QString& tip) {
        QAction* const action = bar->addAction(text);
        action->setCheckable(true);
        action->setToolTip(tip);
        return action;
    };
    sameTraceAction_ =
        toggle(tr("Same trace"), tr("The second PSF's shape on the first one's traces: shapes alone are compared"));
    logAction_ = toggle(tr("log"), tr("Colours by the logarithm, for the wings"));
    surfacesAction_ = toggle(tr("3-D"), tr("Pictures or surfaces"));
    followAction_ = toggle(tr("Follow mouse"), tr("The spot under the mouse, not that of the cursor"));
    layout->addWidget(bar);

    auto* row = new QWidget(this);
    auto* rowLayout = new QHBoxLayout(row);
    rowLayout->setContentsMargins(0, 0, 0, 0);
    rowLayout->setSpacing(2);
    for (MatrixView* view : {spot_, second_, difference_}) rowLayout->addWidget(view, 1);
    pictures_->addWidget(row);
    pictures_->addWidget(surfaces_);
    auto* profiles = new QWidget(this);
    auto* profilesLayout = new QHBoxLayout(profiles);
    profilesLayout->setContentsMargins(0, 0, 0, 0);
    profilesLayout->setSpacing(2);
    profilesLayout->addWidget(profileX_);
    profilesLayout->addWidget(profileY_);
    for (LinePlot* plot : {profileX_, profileY_}) {
        plot->setLogY(true, 6);
        plot->setCursorX(0);
    }

    table_->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table_->setSelectionBehavior(QAbstractItemView::SelectRows);
    table_->setAlternatingRowColors(true);
    table_->verticalHeader()->hide();
    table_->verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 4);
    table_->setAccessibleName(tr("Parameters of the PSF"));
    pages_->addTab(table_, tr("Parameters"));
    auto* offsetPage = new QWidget(this);
    auto* offsetLayout = new QVBoxLayout(offsetPage);
    offsetLayout->setContentsMargins(0, 2, 0, 0);
    offsetLayout->setSpacing(2);
    auto* offsetBar = new QHBoxLayout;
    offsetBox_->addItems({tr("x, pixels"), tr("y, pixels"), tr("wavelength, \u00c5")});
    offsetBox_->setAccessibleName(tr("Offset shown"));
    offsetBar->addWidget(offsetBox_);
    offsetBar->addWidget(offsetText_, 1);
    offsetText_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Preferred);
    offsetText_->setAccessibleName(tr("Trace offsets in numbers"));
    offsetLayout->addLayout(offsetBar);
    auto* offsetSplit = new QSplitter(Qt::Horizontal, offsetPage);
    offsetSplit->addWidget(offsetMap_);
    offsetSplit->addWidget(offsetPlot_);
    offsetLayout->addWidget(offsetSplit, 1);
    pages_->addTab(offsetPage, tr("Trace offsets"));
    pages_->addTab(waveOffsets_, tr("INTOFF, EXTOFF"));
    auto* splitter = new QSplitter(Qt::Vertical, this);
    splitter->addWidget(pictures_);
    splitter->addWidget(profiles);
    splitter->addWidget(pages_);
    for (int i = 0; i < 3; ++i) splitter->setStretchFactor(i, i == 1 ? 3 : 4);
    layout->addWidget(splitter, 1);
    strip_->setContentsMargins(6, 2, 6, 2);
    strip_->setTextFormat(Qt::PlainText);
    strip_->setWordWrap(true);
    strip_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    strip_->setAccessibleName(tr("The PSF at the cursor"));
    strip_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Fixed);
    strip_->setFixedHeight(4 * fontMetrics().height() + 6);
    strip_->setAlignment(Qt::AlignLeft | Qt::AlignTop);
    layout->addWidget(strip_);
    setFocusProxy(spot_);

    connect(sameTraceAction_, &QAction::toggled, this, &PsfInspector::setSameTrace);
    connect(logAction_, &QAction::toggled, this, &PsfInspector::setLog);
    connect(surfacesAction_, &QAction::toggled, this, &PsfInspector::showSurfaces);
    connect(offsetBox_, &QComboBox::currentIndexChanged, this, [this](int i) { setOffset(static_cast<Offset>(i)); });
    connect(pages_, &QTabWidget::currentChanged, this, &PsfInspector::refreshSoon);
    for (MatrixView* view : {spot_, second_, difference_}) {
        connect(view, &MatrixView::hovered, this, [this, view](int column, int line) {
            const MatrixContent& content = view->content();
            if (column < 0 || line < 0 || column >= static_cast<int>(content.values.columns()) ||
                line >= static_cast<int>(content.values.rows()))
                return;
            const auto value =
                static_cast<double>(content.values(static_cast<std::size_t>(line), static_cast<std::size_t>(column)));
            const double x = content.x0 + column;
            const double y = content.y0 + line;
            strip_->setText(tr("%1, x %2 y %3: %4 % of the light")
                                .arg(content.title)
                                .arg(x, 0, 'f', 0)
                                .arg(y, 0, 'f', 0)
                                .arg(100 * value, 0, 'g', 4));
            document_.setHover(document_.cursorAtPixel(x, y));
        });
        connect(view, &MatrixView::left, this, [this] {
            strip_->setText(summary());
            document_.setHover({});
        });
    }
    for (LinePlot* plot : {profileX_, profileY_}) {
        connect(plot, &LinePlot::hovered, this, [this, plot](double x) {
            strip_->setText(tr("%1 pixels from the trace: %2").arg(x, 0, 'f', 2).arg(plot->readout(x)));
        });
        connect(plot, &LinePlot::left, this, [this] { strip_->setText(summary()); });
    }
    const auto choose = [this](int spectrum, double wavelength) {
        const double scale = document_.plan() ? document_.plan()->grid.scale : 1.0;
        const Cursor cursor = document_.cursorAtBin(spectrum, wavelength * scale);
        document_.setCursor(cursor);
        Q_EMIT placeChosen(cursor);
    };
    connect(offsetMap_, &MatrixView::clicked, this, [this, choose](int column, int line) {
        if (offsets_) choose(line, offsets_->wavelength[static_cast<std::size_t>(column)]);
    });
    connect(offsetMap_, &MatrixView::hovered, this, [this](int column, int line) {
        const MatrixContent& content = offsetMap_->content();
        if (!offsets_ || column < 0 || line < 0 || column >= static_cast<int>(content.values.columns()) ||
            line >= static_cast<int>(content.values.rows()))
            return;
        const auto s = static_cast<std::size_t>(line);
        const auto j = static_cast<std::size_t>(column);
        strip_->setText(tr("fiber %1, %2 \u00c5: second minus first %3 px in x, %4 px in y, %5 \u00c5 in wavelength")
                            .arg(line)
                            .arg(offsets_->wavelength[j], 0, 'f', 1)
                            .arg(offsets_->dx(s, j), 0, 'f', 4)
                            .arg(offsets_->dy(s, j), 0, 'f', 4)
                            .arg(offsets_->dwave(s, j), 0, 'f', 4));
    });
    connect(offsetMap_, &MatrixView::left, this, [this] { strip_->setText(summary()); });
    connect(offsetPlot_, &LinePlot::clicked, this,
            [this, choose](double wavelength) { choose(document_.cursor().spectrum, wavelength); });
    connect(&document_, &Document::cursorChanged, this, &PsfInspector::refreshSoon);
    connect(&document_, &Document::hoverChanged, this, [this] {
        if (followAction_->isChecked() && !underMouse()) refreshSoon();
    });
    connect(followAction_, &QAction::toggled, this, &PsfInspector::refreshSoon);
    connect(&document_, &Document::optionsChanged, this, &PsfInspector::refreshSoon);
    const auto psfsChanged = [this] {
        offsetsStale_ = true;
        refreshSoon();
    };
    connect(&document_, &Document::psfChanged, this, psfsChanged);
    connect(&document_, &Document::secondPsfChanged, this, psfsChanged);
}

PsfInspector::~PsfInspector() = default;

void PsfInspector::addActions(ActionList& actions) {
    const QString menu = tr("PSF");
    actions.add({"psf.second", menu, tr("Open a &second PSF to compare..."), "Ctrl+Alt+P",
                 tr("Beside the present one: difference, parameters, trace offsets")},
                [this] { Q_EMIT openSecondRequested(); });
    actions.add(
        {"psf.swap", menu, tr("S&wap the two PSFs"), "Ctrl+Alt+W",
         tr("What if this were the PSF: the patch is extracted with the second one, before and after in sigma")},
        [this] { swap(); });
    actions.add({"psf.drop", menu, tr("Drop the second PSF"), "Ctrl+Alt+Shift+P", tr("Compare no longer")},
                [this] { document_.setSecondPsf(nullptr); });
    const auto link = [&](const char* id, const QString& text, const QString& keys, QAction* own, bool separator) {
        QAction* const action = actions.addToggle(
            {QLatin1String(id), menu, text, keys, own->toolTip(), true, own->isChecked(), this, separator},
            [own](bool on) { own->setChecked(on); });
        connect(own, &QAction::toggled, action, &QAction::setChecked);
    };
    link("psf.sametrace", tr("Same &trace for both"), QStringLiteral("T"), sameTraceAction_, true);
    link("psf.log", tr("Colours by &logarithm"), QStringLiteral("L"), logAction_, false);
    link("psf.follow", tr("&Follow the mouse"), QStringLiteral("F"), followAction_, false);
    link("psf.surfaces", tr("As s&urfaces (3-D)"), QStringLiteral("D"), surfacesAction_, false);
    const QString pages[] = {tr("&Parameters"), tr("Trace &offsets"), tr("&INTOFF, EXTOFF")};
    for (int i = 0; i < 3; ++i)
        actions.add({QStringLiteral("psf.page.%1").arg(i + 1), menu, pages[i], QString::number(i + 1),
                     tr("In the PSF view"), false, false, this, i == 0},
                    [this, i] { showPage(i); });
    actions.add({"psf.offset", menu, tr("Next offset: &x, y, wavelength"), "X",
                 tr("What the map of trace offsets shows"), false, false, this},
                [this] { setOffset(static_cast<Offset>((static_cast<int>(offset_) + 1) % 3)); });
}

/// Where the spot is looked at. The mouse in this view itself is not followed: the spot would run away from it.
const Cursor& PsfInspector::place() const {
    const Cursor& hover = document_.hover();
    return followAction_->isChecked() && !underMouse() && hover.hasBin() ? hover : document_.cursor();
}

void PsfInspector::swap() {
    if (document_.psf() && document_.secondPsf())
        document_.swapPsfs();
    else
        Q_EMIT message(tr("There is no second PSF: open one with Ctrl+Alt+P"));
}

void PsfInspector::setSameTrace(bool on) {
    sameTrace_ = on;
    sameTraceAction_->setChecked(on);
    refreshSoon();
}

void PsfInspector::setLog(bool on) {
    log_ = on;
    logAction_->setChecked(on);
    refreshSoon();
}

void PsfInspector::showSurfaces(bool on) {
    surfacesAction_->setChecked(on);
    pictures_->setCurrentIndex(on ? 1 : 0);
    refreshSoon();
}

void PsfInspector::setOffset(Offset offset) {
    offset_ = offset;
    offsetBox_->setCurrentIndex(static_cast<int>(offset));
    refreshSoon();
}

void PsfInspector::showPage(int page) { pages_->setCurrentIndex(std::clamp(page, 0, 2)); }

void PsfInspector::refreshSoon() { seen_->request(); }

void PsfInspector::refresh() {
    refreshSpot();
    if (pages_->currentIndex() == 0) refreshParameters();
    if (pages_->currentIndex() == 1) refreshOffsets();
    if (pages_->currentIndex() == 2) refreshWaveOffsets();
    strip_->setText(summary());
}

void PsfInspector::refreshSpot() {
    stamp_.reset();
    secondStamp_.reset();
    const Psf* psf = document_.psf().get();
    const Psf* other = document_.secondPsf().get();
    const Cursor& cursor = place();
    const double scale = document_.plan() ? document_.plan()->grid.scale : 1.0;
    const bool tail = document_.options().psfTail;
    if (psf != nullptr && cursor.hasBin() && cursor.spectrum < psf->nspec) {
        stamp_ = std::make_unique<SpotStamp>(spotStamp(psf->view(), cursor.spectrum, cursor.wavelength / scale, tail));
        if (other != nullptr && cursor.spectrum < other->nspec)
            secondStamp_ = std::make_unique<SpotStamp>(
                sameTrace_
                    ? spotStampOnTrace(other->view(), psf->view(), cursor.spectrum, cursor.wavelength / scale, tail)
                    : spotStamp(other->view(), cursor.spectrum, cursor.wavelength / scale, tail));
    }
    const QString problem = psf == nullptr ? tr("No PSF is open: open one with Ctrl+O.")
                                           : tr("Click into the CCD image, or go to a fiber and wavelength (Ctrl+G).");
    second_->setVisible(other != nullptr);
    difference_->setVisible(other != nullptr);
    std::vector<MatrixContent> contents(3);
    if (!stamp_) {
        for (MatrixContent& content : contents) content.problem = problem;
    } else {
        double peak = largestMagnitude(stamp_->values.values());
        if (secondStamp_) peak = std::max(peak, largestMagnitude(secondStamp_->values.values()));
        const auto spotContent = [&](const SpotStamp& stamp, const QString& title) {
            MatrixContent content = pixelsOf(stamp, title);
            content.map = ColourMap::Kind::Heat;
            content.low = 0;
            content.high = peak > 0 ? peak : 1;
            content.symlog = log_;
            content.linear = 1e-5 * content.high;
            return content;
        };
        contents[0] = spotContent(*stamp_, nameOf(*psf));
        if (secondStamp_) {
            contents[1] = spotContent(*secondStamp_, nameOf(*other));
            const SpotStamp difference = spotDifference(*stamp_, *secondStamp_);
            contents[2] = pixelsOf(difference, tr("second \u2212 first"));
            const double most = largestMagnitude(difference.values.values());
            contents[2].high = most > 0 ? most : 1e-6 * contents[0].high;
            contents[2].low = -contents[2].high;
            contents[2].symlog = log_;
            contents[2].linear = 1e-3 * contents[2].high;
        } else if (other != nullptr) {
            for (std::size_t i = 1; i < 3; ++i)
                contents[i].problem = tr("%1 has no fiber %2").arg(nameOf(*other)).arg(cursor.spectrum);
        }
    }
    // Three beside each other have no room for axes: their titles and the strip say where they are.
    if (other != nullptr)
        for (MatrixContent& content : contents) content.xLabel = content.yLabel = QString();
    if (surfacesAction_->isChecked()) {
        std::vector<Surface> list;
        for (const MatrixContent& content : contents)
            if (!content.values.empty()) list.push_back(surfaceOf(content));
        surfaces_->setSurfaces(std::move(list));
    }
    spot_->setContent(std::move(contents[0]));
    second_->setContent(std::move(contents[1]));
    difference_->setContent(std::move(contents[2]));

    // Profiles about the first trace.
    for (const bool x : {true, false}) {
        LinePlot* const plot = x ? profileX_ : profileY_;
        plot->setProblem(stamp_ ? QString() : problem);
        std::vector<LineSeries> series;
        const auto add = [&](const SpotStamp& stamp, const QString& name, int colour) {
            const SpotProfiles profiles = spotProfiles(stamp);
            LineSeries one{name, {}, x ? profiles.x : profiles.y, {}, colour, LineSeries::Style::Steps};
            for (std::size_t i = 0; i < one.y.size(); ++i)
                one.x.push_back((x ? stamp.cornerX : stamp.cornerY) + static_cast<double>(i) -
                                (x ? stamp_->x : stamp_->y));
            series.push_back(std::move(one));
        };
        if (secondStamp_) add(*secondStamp_, tr("second"), 1);
        if (stamp_) add(*stamp_, secondStamp_ ? tr("first") : tr("PSF"), 0);
        plot->setLabels(x ? tr("Light a column") : tr("Light a row"),
                        x ? tr("columns from the trace") : tr("rows from the trace"), QString());
        plot->setSeries(std::move(series));
    }
}

void PsfInspector::refreshParameters() {
    const Psf* psf = document_.psf().get();
    const Psf* other = document_.secondPsf().get();
    const Cursor& cursor = place();
    const double scale = document_.plan() ? document_.plan()->grid.scale : 1.0;
    std::vector<PsfParameterValue> values;
    std::map<std::string, double> second;
    if (psf != nullptr && cursor.hasBin()) {
        values = psfParameters(*psf, cursor.spectrum, cursor.wavelength / scale);
        if (other != nullptr)
            for (const PsfParameterValue& value : psfParameters(*other, cursor.spectrum, cursor.wavelength / scale)) {
                second[value.name] = value.value;
                if (std::none_of(values.begin(), values.end(),
                                 [&](const PsfParameterValue& known) { return known.name == value.name; }))
                    values.push_back({value.name, nan});
            }
    }
    QStringList heads{tr("parameter"), tr("value")};
    if (other != nullptr) heads << tr("second") << tr("second \u2212 first") << tr("relative");
    table_->setColumnCount(static_cast<int>(heads.size()));
    table_->setHorizontalHeaderLabels(heads);
    table_->setRowCount(static_cast<int>(values.size()));
    const auto cell = [this](int row, int column, const QString& text) {
        QTableWidgetItem* item = table_->item(row, column);
        if (item == nullptr) {
            item = new QTableWidgetItem;
            if (column > 0) item->setTextAlignment(Qt::AlignRight | Qt::AlignVCenter);
            table_->setItem(row, column, item);
        }
        item->setText(text);
    };
    const auto number = [](double value) { return std::isfinite(value) ? QString::number(value, 'g', 7) : QString(); };
    for (int row = 0; row < static_cast<int>(values.size()); ++row) {
        const PsfParameterValue& value = values[static_cast<std::size_t>(row)];
        cell(row, 0, QString::fromStdString(value.name));
        cell(row, 1, number(value.value));
        if (other == nullptr) continue;
        const auto found = second.find(value.name);
        const double its = found == second.end() ? nan : found->second;
        cell(row, 2, number(its));
        cell(row, 3, number(its - value.value));
        cell(row, 4,
             std::isfinite(its) && value.value != 0 ? tr("%1 %").arg(100 * (its / value.value - 1), 0, 'f', 3)
                                                    : QString());
    }
    for (int column = 0; column < table_->columnCount(); ++column)
        table_->setColumnWidth(column, fontMetrics().horizontalAdvance(QStringLiteral("-0.00000000e-00")) + 10);
}

void PsfInspector::refreshOffsets() {
    const Psf* psf = document_.psf().get();
    const Psf* other = document_.secondPsf().get();
    if (offsetsStale_) {
        offsetsStale_ = false;
        offsets_.reset();
        offsetsProblem_.clear();
        if (psf == nullptr || other == nullptr) {
            offsetsProblem_ = tr("Open a second PSF to compare its traces with this one's (Ctrl+Alt+P).");
        } else {
            try {
                offsets_ = std::make_unique<TraceOffsets>(traceOffsets(*psf, *other));
            } catch (const std::exception& error) {
                offsetsProblem_ = QString::fromUtf8(error.what());
            }
        }
    }
    refreshOffsetPlots();
}

void PsfInspector::refreshOffsetPlots() {
    MatrixContent content;
    content.problem = offsetsProblem_;
    content.rowsUpwards = true;
    content.square = false;
    offsetPlot_->setProblem(offsetsProblem_);
    offsetText_->setText(offsets_ ? tr("x: rms %1, largest %2 px; y: rms %3, largest %4 px")
                                        .arg(offsets_->rmsX, 0, 'g', 3)
                                        .arg(offsets_->largestX, 0, 'g', 3)
                                        .arg(offsets_->rmsY, 0, 'g', 3)
                                        .arg(offsets_->largestY, 0, 'g', 3)
                                  : QString());
    std::vector<LineSeries> series;
    const Cursor& cursor = place();
    if (offsets_) {
        const Array2<double>& values = offset_ == Offset::X   ? offsets_->dx
                                       : offset_ == Offset::Y ? offsets_->dy
                                                              : offsets_->dwave;
        content.title = tr("second \u2212 first, %1").arg(offsetBox_->currentText());
        content.values = toFloat(values);
        const double most = largestMagnitude(values.values());
        content.high = most > 0 ? most : 1e-6;
        content.low = -content.high;
        content.unit = offset_ == Offset::Wavelength ? tr("\u00c5") : tr("px");
        content.x0 = offsets_->wavelength.front();
        content.dx = offsets_->wavelength[1] - offsets_->wavelength[0];
        content.xLabel = tr("wavelength (\u00c5)");
        content.yLabel = tr("fiber");
        if (cursor.spectrum >= 0 && cursor.spectrum < static_cast<int>(values.rows())) {
            const auto row = values.row(static_cast<std::size_t>(cursor.spectrum));
            series.push_back(
                {tr("fiber %1").arg(cursor.spectrum), offsets_->wavelength, {row.begin(), row.end()}, {}, 0});
        } else {
            offsetPlot_->setProblem(tr("No fiber is selected"));
        }
    }
    const double scale = document_.plan() ? document_.plan()->grid.scale : 1.0;
    std::optional<QPoint> at;
    if (offsets_ && cursor.hasBin() && cursor.spectrum < static_cast<int>(offsets_->dx.rows()))
        at = QPoint(static_cast<int>(std::lround((cursor.wavelength / scale - content.x0) / content.dx)),
                    cursor.spectrum);
    offsetMap_->setContent(std::move(content));
    offsetMap_->setCell(at);
    offsetPlot_->setReference(0);
    offsetPlot_->setLabels(offsetBox_->currentText(), tr("wavelength (\u00c5)"), QString());
    offsetPlot_->setCursorX(cursor.wavelength / scale);
    offsetPlot_->setSeries(std::move(series));
}

/// Wavelength offsets measured on sky lines: those of the cursor's fiber before all others.
void PsfInspector::refreshWaveOffsets() {
    const Psf* psf = document_.psf().get();
    const Cursor& cursor = place();
    std::vector<LineSeries> series;
    waveOffsets_->setLabels(tr("Wavelength offsets"), tr("wavelength (\u00c5)"), tr("\u00c5"));
    waveOffsets_->setReference(0);
    waveOffsets_->setProblem(psf == nullptr         ? tr("No PSF is open: open one with Ctrl+O.")
                             : psf->offsets.empty() ? tr("%1 has neither INTOFF nor EXTOFF: no wavelength offsets were "
                                                         "measured for it.")
                                                          .arg(nameOf(*psf))
                                                    : QString());
    for (std::size_t t = 0; psf != nullptr && t < psf->offsets.size(); ++t) {
        const WavelengthOffsets& offsets = psf->offsets[t];
        const QString name = QString::fromStdString(offsets.name);
        LineSeries all{tr("%1, all fibers").arg(name), {},  {}, {}, static_cast<int>(t),
                       LineSeries::Style::Points,      true};
        LineSeries mine{tr("%1, fiber %2").arg(name).arg(cursor.spectrum),
                        {},
                        {},
                        {},
                        static_cast<int>(t),
                        LineSeries::Style::Points};
        for (std::size_t i = 0; i < offsets.wave.size(); ++i) {
            // A table counts fibers within the spectrograph, or from its first fiber on.
            const std::int64_t fiber = i < offsets.fiber.size() ? offsets.fiber[i] : -1;
            const bool here =
                cursor.spectrum >= 0 && (fiber == cursor.spectrum || fiber == psf->fibermin + cursor.spectrum);
            LineSeries& to = here ? mine : all;
            to.x.push_back(offsets.wave[i]);
            to.y.push_back(offsets.dwave[i]);
            if (here) mine.error.push_back(i < offsets.dwaveError.size() ? offsets.dwaveError[i] : nan);
        }
        series.insert(series.begin(), std::move(all));
        series.push_back(std::move(mine));
    }
    waveOffsets_->setCursorX(cursor.wavelength);
    waveOffsets_->setSeries(std::move(series));
}

QString PsfInspector::summary() const {
    if (!stamp_) return document_.psf() ? tr("No place is selected") : tr("No PSF is open");
    const Cursor& cursor = place();
    const SpotFigures f = spotFigures(*stamp_);
    if (f.peak == 0)
        return tr("Fiber %1, %2 \u00c5: the PSF has no light here (the fiber was not fitted)")
            .arg(cursor.spectrum)
            .arg(cursor.wavelength, 0, 'f', 2);
    const Psf& psf = *document_.psf();
    const double perRow =
        psf.wavelengthAt(cursor.spectrum, stamp_->y + 0.5) - psf.wavelengthAt(cursor.spectrum, stamp_->y - 0.5);
    QString text = tr("Fiber %1, %2 \u00c5 at x %3, y %4: peak %5 %, FWHM %6 \u00d7 %7 px (%8 \u00c5), rms %9 \u00d7 ")
                       .arg(cursor.spectrum)
                       .arg(cursor.wavelength, 0, 'f', 2)
                       .arg(stamp_->x, 0, 'f', 2)
                       .arg(stamp_->y, 0, 'f', 2)
                       .arg(100 * f.peak, 0, 'f', 2)
                       .arg(f.fwhmX, 0, 'f', 3)
                       .arg(f.fwhmY, 0, 'f', 3)
                       .arg(f.fwhmY * std::abs(perRow), 0, 'f', 3)
                       .arg(f.rmsX, 0, 'f', 3);
    text += tr("%1 px, tilt %2, centroid off the trace by %3, %4 px, 50 % within %5 px, 90 % within %6 px")
                .arg(f.rmsY, 0, 'f', 3)
                .arg(f.correlation, 0, 'f', 3)
                .arg(f.offsetX, 0, 'f', 3)
                .arg(f.offsetY, 0, 'f', 3)
                .arg(f.radius50, 0, 'f', 2)
                .arg(f.radius90, 0, 'f', 2);
    if (secondStamp_) {
        const SpotFigures g = spotFigures(*secondStamp_);
        text += tr("; second minus first: peak %1 %, rms %2 % \u00d7 %3 %, moved by %4, %5 px%6")
                    .arg(100 * (g.peak / f.peak - 1), 0, 'f', 2)
                    .arg(100 * (g.rmsX / f.rmsX - 1), 0, 'f', 2)
                    .arg(100 * (g.rmsY / f.rmsY - 1), 0, 'f', 2)
                    .arg(secondStamp_->x - stamp_->x, 0, 'f', 3)
                    .arg(secondStamp_->y - stamp_->y, 0, 'f', 3)
                    .arg(sameTrace_ ? tr(" (same trace)") : QString());
    }
    return text;
}

QJsonObject PsfInspector::session() const {
    return {{QStringLiteral("same trace"), sameTrace_},
            {QStringLiteral("log"), log_},
            {QStringLiteral("surfaces"), surfacesAction_->isChecked()},
            {QStringLiteral("page"), pages_->currentIndex()},
            {QStringLiteral("offset"), static_cast<int>(offset_)}};
}

void PsfInspector::restore(const QJsonObject& json) {
    if (json.isEmpty()) return;
    setSameTrace(json[QStringLiteral("same trace")].toBool());
    setLog(json[QStringLiteral("log")].toBool());
    showSurfaces(json[QStringLiteral("surfaces")].toBool());
    showPage(json[QStringLiteral("page")].toInt());
    setOffset(static_cast<Offset>(std::clamp(json[QStringLiteral("offset")].toInt(), 0, 2)));
}

} // namespace patchlight::widgets
