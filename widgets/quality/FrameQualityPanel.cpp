#include "widgets/quality/FrameQualityPanel.h"

#include "core/analysis/MaskNames.h"
#include "core/analysis/NoiseCheck.h"
#include "core/base/Error.h"
#include "core/base/Nan.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "widgets/ccd/ColorMap.h"
#include "widgets/control/Document.h"
#include "widgets/control/ExtractionController.h"
#include "widgets/control/SeenRefresh.h"
#include "widgets/plot/Colours.h"
#include "widgets/plot/SeriesPlot.h"
#include "widgets/quality/QualityModels.h"
#include "widgets/window/ActionList.h"

#include <QAction>
#include <QCheckBox>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QLineEdit>
#include <QSignalBlocker>
#include <QSlider>
#include <QSortFilterProxyModel>
#include <QSplitter>
#include <QTabWidget>
#include <QTableView>
#include <QTimer>
#include <QVBoxLayout>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <span>
#include <utility>

namespace patchlight::widgets {

namespace {

/// Filters findings by kind.
class KindFilter : public QSortFilterProxyModel {
public:
    explicit KindFilter(QObject* parent) : QSortFilterProxyModel(parent) { setSortRole(FindingModel::sortRole); }
    void setKind(int kind) {
        kind_ = kind;
        invalidateFilter();
    }

protected:
    [[nodiscard]] bool filterAcceptsRow(int row, const QModelIndex& parent) const override {
        return kind_ == 0 || sourceModel()->index(row, 0, parent).data(FindingModel::kindRole).toInt() == kind_;
    }

private:
    int kind_ = 0;
};

QTableView* makeTable(QAbstractItemModel* model, const QString& name, QWidget* parent) {
    auto* table = new QTableView(parent);
    table->setModel(model);
    table->setSortingEnabled(true);
    table->setSelectionBehavior(QAbstractItemView::SelectRows);
    table->setSelectionMode(QAbstractItemView::SingleSelection);
    table->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table->setAlternatingRowColors(true);
    table->setWordWrap(false);
    table->verticalHeader()->setVisible(false);
    table->verticalHeader()->setDefaultSectionSize(table->fontMetrics().height() + 6);
    table->horizontalHeader()->setHighlightSections(false);
    table->setAccessibleName(name);
    return table;
}

/// A plane of the quality figures, kept alive by the whole.
std::shared_ptr<const Array2<float>> member(const std::shared_ptr<const FrameQuality>& quality,
                                            const Array2<float>& plane) {
    if (plane.empty()) return nullptr;
    return {quality, &plane};
}

DisplaySettings fixedRange(double low, double high, const char* map) {
    DisplaySettings display;
    display.cuts = Cuts::Fixed;
    display.range = {low, high};
    display.map = QString::fromLatin1(map);
    return display;
}

DisplaySettings foundRange(Cuts cuts, const char* map) {
    DisplaySettings display;
    display.cuts = cuts;
    display.map = QString::fromLatin1(map);
    return display;
}

} // namespace

QualityInput FrameQualityPanel::Measurement::input() const {
    QualityInput input;
    input.frame = frame.get();
    input.image = image.get();
    input.psf = psf.get();
    input.plan = plan.get();
    input.reports = reports.get();
    return input;
}

QColor FrameQualityPanel::kindColour(BadBinKind kind) {
    // Okabe and Ito's, with lighter and darker ones of the same hues where there are more causes than colours.
    static const std::array<const char*, badBinKindCount> names{"#000000", "#ff00aa", "#6c6c80", "#c00000", "#56b4e9",
                                                                "#e69f00", "#f0e442", "#ff5a2a", "#009e73", "#cc79a7",
                                                                "#0072b2", "#a0a0a0", "#d55e00"};
    return QColor(QLatin1String(names.at(static_cast<std::size_t>(kind))));
}

QString FrameQualityPanel::mapName(Map map) {
    switch (map) {
    case Map::Cause:
        return tr("cause of alarm");
    case Map::Flux:
        return tr("flux");
    case Map::Ivar:
        return tr("ivar");
    case Map::Snr:
        return tr("S/N");
    case Map::Chi2pix:
        return tr("chi2pix");
    case Map::Chi2Ratio:
        return tr("chi2pix / medians");
    case Map::Masked:
        return tr("masked fraction");
    case Map::Mask:
        return tr("MASK");
    case Map::RowSum:
        return tr("resolution row sum");
    case Map::Fluxweight:
        return tr("fluxweight");
    case Map::Neighbour:
        return tr("neighbours' share");
    case Map::PeakPull:
        return tr("peak pull");
    case Map::WhatIf:
        return tr("BAD2DFIT, what if");
    }
    return {};
}

FrameQualityPanel::FrameQualityPanel(Document& document, ExtractionController& controller, QWidget* parent)
    : QWidget(parent), document_(document), controller_(controller), mapBox_(new QComboBox(this)),
      cutsBox_(new QComboBox(this)), status_(new QLabel(this)), map_(new FrameMap(this)), legend_(new QLabel(this)),
      sentence_(new QLabel(this)), tabs_(new QTabWidget(this)), findings_(new FindingModel(this)),
      findingFilter_(new KindFilter(this)), kindBox_(new QComboBox(this)), fibers_(new FiberModel(this)),
      fiberFilter_(new FiberFilter(this)), fiberWords_(new QLineEdit(this)),
      alarmsOnly_(new QCheckBox(tr("with alarms"), this)), histogram_(new SeriesPlot(this)),
      pulls_(new SeriesPlot(this)), columns_(new SeriesPlot(this)), rows_(new SeriesPlot(this)),
      offsets_(new SeriesPlot(this)), shifts_(new SeriesPlot(this)), profile_(new SeriesPlot(this)),
      factorSlider_(new QSlider(Qt::Horizontal, this)), factorBox_(new QDoubleSpinBox(this)),
      psferrBox_(new QDoubleSpinBox(this)), whatIf_(new QLabel(this)), psferrTimer_(new QTimer(this)),
      seen_(new SeenRefresh(this, [this] { measureNow(); })),
      cursorSeen_(new SeenRefresh(this, [this] { cursorMoved(); })) {
    for (int i = 0; i < mapCount; ++i) mapBox_->addItem(mapName(static_cast<Map>(i)));
    mapBox_->setAccessibleName(tr("Map"));
    mapBox_->setToolTip(tr("What the map shows"));
    cutsBox_->setAccessibleName(tr("Cuts of the map"));
    cutsBox_->setToolTip(tr("Range of values that the colours cover"));
    cutsBox_->addItem(tr("usual range"));
    for (const Cuts cuts : {Cuts::Zscale, Cuts::MinMax, Cuts::Percent98, Cuts::Percent995})
        cutsBox_->addItem(cutsName(cuts), static_cast<int>(cuts));
    status_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    auto* top = new QHBoxLayout;
    top->addWidget(mapBox_);
    top->addWidget(cutsBox_);
    top->addWidget(status_, 1);

    legend_->setTextFormat(Qt::RichText);
    legend_->setWordWrap(true);
    sentence_->setWordWrap(true);
    sentence_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    sentence_->setAccessibleName(tr("Why is this bin bad?"));
    QFont strong = sentence_->font();
    strong.setBold(true);
    sentence_->setFont(strong);
    sentence_->setMinimumHeight(2 * sentence_->fontMetrics().height() + 6);
    sentence_->setAlignment(Qt::AlignLeft | Qt::AlignTop);

    // The what-if.
    factorSlider_->setRange(10, 200);
    factorSlider_->setAccessibleName(tr("BAD2DFIT factor"));
    factorBox_->setRange(1.0, 20.0);
    factorBox_->setSingleStep(0.5);
    factorBox_->setDecimals(1);
    factorBox_->setAccessibleName(tr("BAD2DFIT factor"));
    psferrBox_->setRange(0.0, 0.5);
    psferrBox_->setSingleStep(0.005);
    psferrBox_->setDecimals(3);
    psferrBox_->setAccessibleName(tr("psferr"));
    psferrBox_->setToolTip(
        tr("Fractional error of the PSF's model in chi2pix, as if the frame had been extracted with it"));
    const QString factorHelp =
        tr("chi2pix above this many times its medians over fibers and over wavelengths would be BAD2DFIT");
    factorSlider_->setToolTip(factorHelp);
    factorBox_->setToolTip(factorHelp);
    auto* sliders = new QHBoxLayout;
    sliders->addWidget(new QLabel(tr("What if: factor"), this));
    sliders->addWidget(factorSlider_, 1);
    sliders->addWidget(factorBox_);
    sliders->addWidget(new QLabel(tr("psferr"), this));
    sliders->addWidget(psferrBox_);
    sliders->addWidget(whatIf_);

    auto* upper = new QWidget(this);
    auto* upperLayout = new QVBoxLayout(upper);
    upperLayout->setContentsMargins(4, 4, 4, 0);
    upperLayout->setSpacing(3);
    upperLayout->addLayout(top);
    upperLayout->addWidget(map_, 1);
    upperLayout->addWidget(legend_);
    upperLayout->addWidget(sentence_);
    upperLayout->addLayout(sliders);

    // Findings.
    findingFilter_->setSourceModel(findings_);
    findingTable_ = makeTable(findingFilter_, tr("Findings"), this);
    findingTable_->sortByColumn(-1, Qt::AscendingOrder); // worst first within a kind, as measured
    findingTable_->horizontalHeader()->setStretchLastSection(true);
    kindBox_->addItem(tr("all causes"), 0);
    kindBox_->setAccessibleName(tr("Causes shown"));
    auto* findingPage = new QWidget(this);
    auto* findingLayout = new QVBoxLayout(findingPage);
    findingLayout->setContentsMargins(2, 2, 2, 2);
    findingLayout->addWidget(kindBox_);
    findingLayout->addWidget(findingTable_, 1);
    tabs_->addTab(findingPage, tr("Findings"));

    // Fibers.
    fiberFilter_->setSourceModel(fibers_);
    fiberTable_ = makeTable(fiberFilter_, tr("Fibers"), this);
    fiberTable_->sortByColumn(FiberModel::Spectrum, Qt::AscendingOrder);
    fiberWords_->setPlaceholderText(tr("Filter: fiber, target, type or cause"));
    fiberWords_->setClearButtonEnabled(true);
    fiberWords_->setAccessibleName(tr("Filter of the fibers"));
    auto* filterRow = new QHBoxLayout;
    filterRow->addWidget(fiberWords_, 1);
    filterRow->addWidget(alarmsOnly_);
    auto* fiberPage = new QWidget(this);
    auto* fiberLayout = new QVBoxLayout(fiberPage);
    fiberLayout->setContentsMargins(2, 2, 2, 2);
    fiberLayout->addLayout(filterRow);
    fiberLayout->addWidget(fiberTable_, 1);
    tabs_->addTab(fiberPage, tr("Fibers"));
    connect(fiberWords_, &QLineEdit::textChanged, fiberFilter_, &FiberFilter::setWords);
    connect(alarmsOnly_, &QCheckBox::toggled, fiberFilter_, &FiberFilter::setAlarmsOnly);

    tabs_->addTab(histogram_, tr("Histogram"));
    const auto pair = [this](SeriesPlot* first, SeriesPlot* second, const QString& title) {
        auto* page = new QWidget(this);
        auto* layout = new QHBoxLayout(page);
        layout->setContentsMargins(0, 0, 0, 0);
        layout->setSpacing(2);
        layout->addWidget(first);
        layout->addWidget(second);
        tabs_->addTab(page, title);
    };
    tabs_->addTab(pulls_, tr("Pulls"));
    pair(columns_, rows_, tr("Columns and rows"));
    tabs_->addTab(profile_, tr("Profile"));
    pair(offsets_, shifts_, tr("Traces"));

    auto* splitter = new QSplitter(Qt::Vertical, this);
    splitter->addWidget(upper);
    splitter->addWidget(tabs_);
    splitter->setStretchFactor(0, 3);
    splitter->setStretchFactor(1, 2);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(splitter);

    connect(mapBox_, &QComboBox::currentIndexChanged, this, [this] { showMap(); });
    connect(cutsBox_, &QComboBox::currentIndexChanged, this, [this] { showMap(); });
    connect(map_, &FrameMap::binChosen, this, &FrameQualityPanel::chooseBin);
    connect(map_, &FrameMap::binHovered, this, [this](int row, int bin) {
        if (row >= 0)
            document_.setHover(document_.cursorAtBin(measurement_.quality->specmin + row,
                                                     measurement_.quality->wavelength[static_cast<std::size_t>(bin)]));
        status_->setText(row >= 0 ? describe(row, bin) : describe(row_, bin_));
    });
    connect(kindBox_, &QComboBox::currentIndexChanged, this,
            [this] { static_cast<KindFilter*>(findingFilter_)->setKind(kindBox_->currentData().toInt()); });
    connect(findingTable_, &QTableView::clicked, this, &FrameQualityPanel::chooseFinding);
    connect(findingTable_, &QTableView::activated, this, &FrameQualityPanel::chooseFinding);
    const auto chooseFiber = [this](const QModelIndex& index) {
        const int row = fiberFilter_->mapToSource(index).row();
        if (!measurement_.quality || row < 0) return;
        const FrameQuality& quality = *measurement_.quality;
        // The worst bin of the fiber, else where the cursor is.
        int bin = bin_ >= 0 ? bin_ : static_cast<int>(quality.nwave() / 2);
        float worst = 0;
        for (std::size_t j = 0; j < quality.nwave(); ++j)
            if (quality.severity(static_cast<std::size_t>(row), j) > worst) {
                worst = quality.severity(static_cast<std::size_t>(row), j);
                bin = static_cast<int>(j);
            }
        chooseBin(row, bin);
        map_->showBin(row, bin);
    };
    connect(fiberTable_, &QTableView::clicked, this, chooseFiber);
    connect(fiberTable_, &QTableView::activated, this, chooseFiber);
    for (SeriesPlot* plot : {pulls_, offsets_, shifts_})
        connect(plot, &SeriesPlot::picked, this, [this](double x) {
            if (!measurement_.quality) return;
            const int row = static_cast<int>(std::lround(x)) - measurement_.quality->specmin;
            if (row >= 0 && row < static_cast<int>(measurement_.quality->nspec()))
                chooseBin(row, bin_ >= 0 ? bin_ : static_cast<int>(measurement_.quality->nwave() / 2));
        });
    connect(factorSlider_, &QSlider::valueChanged, this, [this](int value) { setBad2dFactor(0.1 * value); });
    connect(factorBox_, &QDoubleSpinBox::valueChanged, this, &FrameQualityPanel::setBad2dFactor);
    connect(psferrBox_, &QDoubleSpinBox::valueChanged, this, [this] { psferrTimer_->start(); });
    psferrTimer_->setSingleShot(true);
    psferrTimer_->setInterval(300);
    connect(psferrTimer_, &QTimer::timeout, this, &FrameQualityPanel::startPsferr);
    const auto invalidate = [this] {
        constexpr int together = 100; // ms: image, PSF and frame of one opening come one after the other
        seen_->requestWithin(together);
    };
    connect(&document_, &Document::frameChanged, this, invalidate);
    connect(&document_, &Document::imageChanged, this, invalidate);
    connect(&document_, &Document::psfChanged, this, invalidate);
    connect(&document_, &Document::cursorChanged, cursorSeen_, &SeenRefresh::request);
    setBad2dFactor(QualityLimits().bad2dFactor);
    refreshPlots();
    refreshSentence();
}

FrameQualityPanel::~FrameQualityPanel() = default;

void FrameQualityPanel::addActions(ActionList& actions) {
    const QString menu = tr("Frame");
    const auto add = [&](const QString& id, const QString& in, const QString& text, const QString& keys,
                         const QString& help, bool separator, std::function<void()> run) {
        actions.add({QStringLiteral("frame.") + id, in, text, keys, help, false, false, this, separator},
                    std::move(run));
    };
    add(QStringLiteral("finding.next"), menu, tr("&Next finding"), QStringLiteral("N"),
        tr("The next of the table of findings, in all views"), false, [this] { walkFindings(+1); });
    add(QStringLiteral("finding.previous"), menu, tr("Finding &before"), QStringLiteral("Shift+N"),
        tr("The one before of the table of findings, in all views"), false, [this] { walkFindings(-1); });
    add(QStringLiteral("cause"), menu, tr("Findings of the next &cause"), QStringLiteral("K"),
        tr("The table of findings shows those of one cause, or all"), false,
        [this] { kindBox_->setCurrentIndex((kindBox_->currentIndex() + 1) % std::max(1, kindBox_->count())); });
    static const char* const letters = "CFISXRPKUWNLB"; // in the order of Map
    for (int i = 0; i < mapCount; ++i)
        add(QStringLiteral("map.%1").arg(i + 1), menu + QStringLiteral("/Map"), mapName(static_cast<Map>(i)),
            QStringLiteral("M, %1").arg(QLatin1Char(letters[i])), tr("What the map of the frame shows"), false,
            [this, i] { setMap(static_cast<Map>(i)); });
    add(QStringLiteral("cuts"), menu, tr("Next c&uts"), QStringLiteral("Q"),
        tr("Range of values that the colours of the map cover"), false,
        [this] { cutsBox_->setCurrentIndex((cutsBox_->currentIndex() + 1) % cutsBox_->count()); });
    add(QStringLiteral("map.all"), menu, tr("Show &all"), QStringLiteral("0;Home"), tr("All fibers and wavelengths"),
        false, [this] { map_->showAll(); });
    for (int i = 0; i < tabs_->count(); ++i)
        add(QStringLiteral("page.%1").arg(i + 1), menu + QStringLiteral("/Page"), tabs_->tabText(i),
            QString::number(i + 1), tr("The page under the map"), false, [this, i] { tabs_->setCurrentIndex(i); });
    add(QStringLiteral("filter"), menu, tr("&Filter the fibers"), QStringLiteral("/"),
        tr("By fiber, target, type or cause"), true, [this] {
            showTabNamed(tr("Fibers"));
            fiberWords_->setFocus();
        });
    QAction* const alarms = actions.addToggle({QStringLiteral("frame.alarms"), menu, tr("Only fibers &with alarms"),
                                               QStringLiteral("A"), tr("In the table of fibers"), true, false, this},
                                              [this](bool on) { alarmsOnly_->setChecked(on); });
    connect(alarmsOnly_, &QCheckBox::toggled, alarms, &QAction::setChecked);
    const QString whatIf = tr("A what-if: the frame's own mask stays");
    constexpr double factorStep = 0.5;
    add(QStringLiteral("factor.more"), menu, tr("&Higher BAD2DFIT factor"), QStringLiteral("]"), whatIf, true,
        [this] { factorBox_->setValue(factorBox_->value() + factorStep); });
    add(QStringLiteral("factor.less"), menu, tr("&Lower BAD2DFIT factor"), QStringLiteral("["), whatIf, false,
        [this] { factorBox_->setValue(factorBox_->value() - factorStep); });
    add(QStringLiteral("psferr"), menu, tr("What if &psferr were..."), QStringLiteral("E"), whatIf, false, [this] {
        psferrBox_->setFocus();
        psferrBox_->selectAll();
    });
}

void FrameQualityPanel::walkFindings(int step) {
    const int count = findingFilter_->rowCount();
    if (count == 0) return;
    const int now = findingTable_->currentIndex().row();
    const int row = now < 0 ? (step > 0 ? 0 : count - 1) : std::clamp(now + step, 0, count - 1);
    const QModelIndex index = findingFilter_->index(row, 0);
    findingTable_->setCurrentIndex(index);
    chooseFinding(index);
}

void FrameQualityPanel::chooseFinding(const QModelIndex& index) {
    const Finding* finding = findings_->finding(findingFilter_->mapToSource(index).row());
    if (finding == nullptr) return;
    chooseBin(finding->row, finding->bin);
    map_->showBin(finding->row, finding->bin);
}

int FrameQualityPanel::measure() {
    if (!seen_->isStale()) return 0;
    seen_->markFresh();
    return measureNow();
}

int FrameQualityPanel::measureNow() {
    const OpenFrame& open = document_.frame();
    if (!open || open.done) {
        map_->clear(open ? tr("The extracted frame is not complete yet")
                         : tr("No extracted frame yet: open one (Ctrl+O), or extract the whole frame"));
        return 0;
    }
    if (job_ != 0 && controller_.isRunning(job_)) controller_.cancel(job_);
    Measurement next;
    next.frame = open.frame;
    next.image = document_.image();
    next.psf = document_.psf();
    next.plan = open.plan;
    next.reports = open.reports;
    const int serial = ++serial_;
    status_->setText(tr("measuring..."));
    job_ = controller_.runInBackground(
        tr("measure %1").arg(open.label), [this, next, serial](const std::stop_token& stop) mutable {
            QualityInput input = next.input();
            input.stop = stop;
            auto quality = std::make_shared<FrameQuality>();
            try {
                *quality = measureFrameQuality(input);
            } catch (const Cancelled&) {
                throw;
            } catch (const Error& error) { // image or PSF of another exposure: the frame can be measured without them
                if (input.image == nullptr || input.psf == nullptr) throw;
                input.image = nullptr;
                next.image = nullptr;
                *quality = measureFrameQuality(input);
                quality->notes.insert(quality->notes.begin(), error.what());
            }
            QString text = tr("%1 of %2 bins have an alarm").arg(quality->alarms()).arg(quality->kind.size());
            next.quality = std::move(quality);
            QMetaObject::invokeMethod(
                this,
                [this, next, serial] {
                    if (serial == serial_) take(next);
                },
                Qt::QueuedConnection);
            return text;
        });
    return job_;
}

void FrameQualityPanel::take(Measurement measurement) {
    measurement_ = std::move(measurement);
    whatIfRatio_ = nullptr;
    const FrameQuality& quality = *measurement_.quality;
    findings_->setQuality(measurement_.quality);
    fibers_->setQuality(measurement_.quality);
    const QSignalBlocker kindBlock(kindBox_);
    kindBox_->clear();
    kindBox_->addItem(tr("all causes (%1 findings)").arg(quality.findings.size()), 0);
    for (int k = 1; k < badBinKindCount; ++k)
        if (const auto count = quality.counts[static_cast<std::size_t>(k)]; count > 0)
            kindBox_->addItem(
                tr("%1 (%2 bins)").arg(QString::fromLatin1(badBinKindName(static_cast<BadBinKind>(k)))).arg(count), k);
    static_cast<KindFilter*>(findingFilter_)->setKind(0);
    findingTable_->resizeColumnsToContents();
    fiberTable_->resizeColumnsToContents();
    {
        const QSignalBlocker block(psferrBox_);
        psferrBox_->setValue(quality.psferr);
        psferrBox_->setEnabled(quality.pixels);
    }
    row_ = bin_ = -1;
    showMap();
    refreshPlots();
    refreshWhatIf();
    cursorMoved();
    refreshSentence();
    Q_EMIT measured();
}

FrameMap::Plane FrameQualityPanel::plane(Map map) const {
    FrameMap::Plane plane;
    plane.name = mapName(map);
    if (!measurement_.quality) return plane;
    const std::shared_ptr<const FrameQuality>& q = measurement_.quality;
    const ExtractedFrame& frame = *measurement_.frame;
    using Pooling = FrameMap::Pooling;
    const auto set = [&](std::shared_ptr<const Array2<float>> values, const DisplaySettings& display, Pooling pooling,
                         const QString& unit = {}) {
        plane.values = std::move(values);
        plane.display = display;
        plane.pooling = pooling;
        plane.unit = unit;
    };
    switch (map) {
    case Map::Cause:
        // Behind the causes the chi2pix ratio, in greys.
        set(q->chi2Ratio.empty() ? member(q, q->snr) : member(q, q->chi2Ratio),
            fixedRange(0, q->chi2Ratio.empty() ? 50 : 10, "gray"), Pooling::Mean);
        plane.name = q->chi2Ratio.empty() ? mapName(Map::Snr) : mapName(Map::Chi2Ratio);
        plane.categories = std::shared_ptr<const Array2<std::uint8_t>>([&] {
            auto kinds = std::make_shared<Array2<std::uint8_t>>(q->kind.rows(), q->kind.columns());
            std::transform(q->kind.values().begin(), q->kind.values().end(), kinds->values().begin(),
                           [](BadBinKind kind) { return static_cast<std::uint8_t>(kind); });
            return kinds;
        }());
        for (int k = 0; k < badBinKindCount; ++k)
            plane.categoryColours.push_back(kindColour(static_cast<BadBinKind>(k)).rgb());
        break;
    case Map::Flux:
        set(std::make_shared<const Array2<float>>(toFloat(frame.flux)), foundRange(Cuts::Zscale, "gray"), Pooling::Mean,
            tr("electron/\u00c5"));
        break;
    case Map::Ivar:
        set(std::make_shared<const Array2<float>>(toFloat(frame.ivar)), foundRange(Cuts::Percent98, "gray"),
            Pooling::Mean, tr("(electron/\u00c5)\u207b\u00b2"));
        break;
    case Map::Snr:
        set(member(q, q->snr), foundRange(Cuts::Percent98, "sea"), Pooling::Mean);
        break;
    case Map::Chi2pix:
        set(member(q, q->chi2pix), fixedRange(0, 5, "ember"), Pooling::Largest);
        break;
    case Map::Chi2Ratio:
        set(member(q, q->chi2Ratio), fixedRange(0, 10, "ember"), Pooling::Largest);
        break;
    case Map::Masked:
        set(member(q, q->maskedFraction), fixedRange(0, 1, "ember"), Pooling::Largest);
        break;
    case Map::Mask: {
        set(std::make_shared<const Array2<float>>(toFloat(frame.flux)), foundRange(Cuts::Zscale, "gray"), Pooling::Mean,
            tr("bits over the flux"));
        auto bits = std::make_shared<Array2<std::uint8_t>>(frame.mask.rows(), frame.mask.columns());
        std::transform(frame.mask.values().begin(), frame.mask.values().end(), bits->values().begin(),
                       [](std::uint32_t mask) {
                           return static_cast<std::uint8_t>(
                               mask == 0 ? 0 : 1 + static_cast<int>(std::log2(static_cast<double>(mask))));
                       });
        plane.categories = bits;
        PlotColours colours;
        colours.dark = true;
        colours.text = Qt::white;
        plane.categoryColours.push_back(0);
        for (int bit = 0; bit < 32; ++bit) plane.categoryColours.push_back(colours.series(bit).rgb());
        break;
    }
    case Map::RowSum:
        set(member(q, q->rowSum), foundRange(Cuts::Percent98, "diverging"), Pooling::Mean);
        break;
    case Map::Fluxweight:
        set(member(q, q->fluxweight), foundRange(Cuts::Percent995, "sea"), Pooling::Mean, tr("electron\u207b\u00b2"));
        break;
    case Map::Neighbour:
        set(member(q, q->neighbour), fixedRange(0, 1, "sea"), Pooling::Largest);
        break;
    case Map::PeakPull:
        set(member(q, q->peakPull), fixedRange(0, 10, "ember"), Pooling::Largest, tr("sigma"));
        break;
    case Map::WhatIf: {
        const std::shared_ptr<const Array2<float>> ratio = whatIfRatio_ ? whatIfRatio_ : member(q, q->chi2Ratio);
        if (!ratio) break;
        set(ratio, fixedRange(0, 10, "gray"), Pooling::Mean);
        auto over = std::make_shared<Array2<std::uint8_t>>(ratio->rows(), ratio->columns());
        const auto factor = static_cast<float>(factorBox_->value());
        std::transform(ratio->values().begin(), ratio->values().end(), over->values().begin(),
                       [factor](float value) { return static_cast<std::uint8_t>(value > factor ? 1 : 0); });
        plane.categories = over;
        plane.categoryColours = {0, kindColour(BadBinKind::PoorFit).rgb()};
        break;
    }
    }
    return plane;
}

FrameQualityPanel::Map FrameQualityPanel::currentMap() const {
    return static_cast<Map>(std::max(0, mapBox_->currentIndex()));
}

void FrameQualityPanel::setMap(Map map) { mapBox_->setCurrentIndex(static_cast<int>(map)); }

QStringList FrameQualityPanel::mapNames() {
    QStringList names;
    for (int i = 0; i < mapCount; ++i) names << mapName(static_cast<Map>(i));
    return names;
}

bool FrameQualityPanel::showMapNamed(const QString& name) {
    for (int i = 0; i < mapCount; ++i)
        if (mapName(static_cast<Map>(i)).compare(name, Qt::CaseInsensitive) == 0) {
            setMap(static_cast<Map>(i));
            return true;
        }
    return false;
}

bool FrameQualityPanel::showTabNamed(const QString& name) {
    for (int i = 0; i < tabs_->count(); ++i)
        if (tabs_->tabText(i).remove(QLatin1Char('&')).compare(name, Qt::CaseInsensitive) == 0) {
            tabs_->setCurrentIndex(i);
            return true;
        }
    return false;
}

void FrameQualityPanel::showMap() {
    if (!measurement_.quality) return;
    const FrameQuality& quality = *measurement_.quality;
    FrameMap::Plane next = plane(currentMap());
    legend_->clear();
    if (!next.values) {
        map_->clear(tr("%1 is not known: %2")
                        .arg(next.name, quality.notes.empty() ? tr("the frame does not hold it")
                                                              : QString::fromStdString(quality.notes.front())));
        refreshHistogram();
        return;
    }
    if (cutsBox_->currentIndex() > 0) next.display.cuts = static_cast<Cuts>(cutsBox_->currentData().toInt());
    QStringList names;
    const auto entry = [&](QRgb colour, const QString& text) {
        names << QStringLiteral("<span style='color:%1'>\u25a0</span>&nbsp;%2").arg(QColor(colour).name(), text);
    };
    if (currentMap() == Map::Cause)
        for (int k = 1; k < badBinKindCount; ++k)
            if (const auto count = quality.counts[static_cast<std::size_t>(k)]; count > 0)
                entry(next.categoryColours[static_cast<std::size_t>(k)],
                      QStringLiteral("%1&nbsp;(%2)")
                          .arg(QString::fromLatin1(badBinKindName(static_cast<BadBinKind>(k)))
                                   .replace(QLatin1Char(' '), QStringLiteral("&nbsp;")))
                          .arg(count));
    if (currentMap() == Map::Mask) {
        std::uint32_t all = 0;
        for (const std::uint32_t mask : measurement_.frame->mask.values()) all |= mask;
        for (int bit = 0; bit < 32; ++bit)
            if ((all >> static_cast<unsigned>(bit) & 1U) != 0)
                entry(next.categoryColours[static_cast<std::size_t>(bit + 1)],
                      QString::fromStdString(specMaskBitName(bit)));
    }
    if (currentMap() == Map::WhatIf) entry(next.categoryColours[1], tr("would be BAD2DFIT"));
    if (currentMap() == Map::Cause && names.isEmpty()) names << tr("no alarm in any bin");
    legend_->setText(names.join(QStringLiteral("  ")));
    legend_->setVisible(!names.isEmpty());
    map_->setPlane(std::move(next), quality.wavelength, quality.specmin);
    map_->setCursorBin(row_, bin_);
    refreshHistogram();
    status_->setText(row_ >= 0 ? describe(row_, bin_)
                               : tr("%1 of %2 bins have an alarm").arg(quality.alarms()).arg(quality.kind.size()));
}

void FrameQualityPanel::chooseBin(int row, int bin) {
    if (!measurement_.quality) return;
    const FrameQuality& quality = *measurement_.quality;
    const Cursor cursor =
        document_.cursorAtBin(quality.specmin + row, quality.wavelength[static_cast<std::size_t>(bin)]);
    document_.setCursor(cursor);
    document_.selectPatch(document_.patchAt(cursor));
    Q_EMIT placeChosen(cursor);
}

void FrameQualityPanel::cursorMoved() {
    if (!measurement_.quality) return;
    const FrameQuality& quality = *measurement_.quality;
    const Cursor& cursor = document_.cursor();
    int row = -1;
    int bin = -1;
    if (cursor.hasBin()) {
        row = cursor.spectrum - quality.specmin;
        const auto next = std::lower_bound(quality.wavelength.begin(), quality.wavelength.end(), cursor.wavelength);
        bin = static_cast<int>(next - quality.wavelength.begin());
        const int last = static_cast<int>(quality.nwave()) - 1;
        if (bin > 0 && (bin > last || cursor.wavelength - quality.wavelength[static_cast<std::size_t>(bin - 1)] <
                                          quality.wavelength[static_cast<std::size_t>(bin)] - cursor.wavelength))
            --bin;
        const double step = last > 0 ? (quality.wavelength.back() - quality.wavelength.front()) / last : 1;
        if (row < 0 || row >= static_cast<int>(quality.nspec()) ||
            std::abs(quality.wavelength[static_cast<std::size_t>(bin)] - cursor.wavelength) > step)
            row = bin = -1;
    }
    if (row == row_ && bin == bin_) return;
    row_ = row;
    bin_ = bin;
    map_->setCursorBin(row, bin);
    status_->setText(describe(row, bin));
    for (SeriesPlot* plot : {pulls_, offsets_, shifts_}) plot->setMarker(row >= 0 ? quality.specmin + row : nan);
    columns_->setMarker(cursor.hasPixel() ? cursor.x : nan);
    rows_->setMarker(cursor.hasPixel() ? cursor.y : nan);
    refreshProfile();
    refreshSentence();
}

void FrameQualityPanel::refreshSentence() {
    if (!measurement_.quality || row_ < 0) {
        sentence_->setText(tr("Why is a bin bad? Click into the map, or choose a finding."));
        return;
    }
    const BinDiagnosis diagnosis = diagnoseBin(measurement_.input(), *measurement_.quality, row_, bin_);
    sentence_->setText(QString::fromStdString(diagnosis.sentence));
    QStringList more;
    for (std::size_t i = 1; i < diagnosis.causes.size(); ++i)
        more << tr("Also: %1").arg(QString::fromStdString(diagnosis.causes[i].text));
    for (const std::string& note : diagnosis.notes) more << tr("Note: %1").arg(QString::fromStdString(note));
    sentence_->setToolTip(more.join(QLatin1Char('\n')));
    if (!more.isEmpty()) sentence_->setText(sentence_->text() + QLatin1Char('\n') + more.join(QStringLiteral("; ")));
}

QString FrameQualityPanel::describe(int row, int bin) const {
    if (!measurement_.quality || row < 0) return {};
    const BadBinKind kind = measurement_.quality->kind(static_cast<std::size_t>(row), static_cast<std::size_t>(bin));
    const std::uint32_t mask = measurement_.frame->mask(static_cast<std::size_t>(row), static_cast<std::size_t>(bin));
    QString text = map_->describe(row, bin);
    if (kind != BadBinKind::None) text += QStringLiteral(", ") + QString::fromLatin1(badBinKindName(kind));
    if (mask != 0) text += QStringLiteral(", ") + QString::fromStdString(specMaskNames(mask));
    return text;
}

QString FrameQualityPanel::sentence() const { return sentence_->text(); }

void FrameQualityPanel::refreshHistogram() {
    PlotContent content;
    content.empty = tr("Nothing to count");
    const FrameMap::Plane& shown = map_->plane();
    if (shown.values) {
        ValueRange range = map_->range();
        const double margin = 0.25 * (range.high - range.low);
        range = {range.low - margin, range.high + margin};
        const ValueRange most = minMax(shown.values->data(), shown.values->size());
        range = {std::max(range.low, most.low), std::min(range.high, most.high)};
        if (!(range.high > range.low)) range = {most.low - 0.5, most.high + 0.5};
        constexpr int intervals = 160;
        const Histogram counts =
            makeHistogram(std::span(shown.values->data(), shown.values->size()), range.low, range.high, intervals);
        PlotSeries series;
        series.style = PlotSeries::Style::Bars;
        const double width = (counts.high - counts.low) / intervals;
        for (int i = 0; i < intervals; ++i) {
            series.x.push_back(counts.low + (i + 0.5) * width);
            series.y.push_back(static_cast<double>(counts.counts[static_cast<std::size_t>(i)]));
        }
        content.series.push_back(std::move(series));
        content.logY = true;
        content.title = tr("%1: %2 bins below, %3 above, %4 unknown")
                            .arg(shown.name)
                            .arg(counts.below)
                            .arg(counts.above)
                            .arg(counts.notFinite);
        content.xLabel = shown.unit.isEmpty() ? shown.name : QStringLiteral("%1 (%2)").arg(shown.name, shown.unit);
        content.yLabel = tr("bins");
        if (currentMap() == Map::WhatIf || currentMap() == Map::Chi2Ratio)
            content.verticals.push_back(factorBox_->value());
    }
    histogram_->setContent(std::move(content));
}

void FrameQualityPanel::refreshPlots() {
    const FrameQuality* q = measurement_.quality.get();
    const QString noPixels = tr("The CCD image and the PSF of the frame are needed for this");
    PlotContent pulls;
    pulls.empty = noPixels;
    PlotContent offsets = pulls;
    PlotContent shifts;
    shifts.empty = tr("Sky lines in five fibers or more are needed for this");
    PlotContent columns = pulls;
    PlotContent rows = pulls;
    if (q != nullptr) {
        PlotSeries mean{tr("mean"), {}, {}, {}, PlotSeries::Style::Points, 0};
        PlotSeries sigma{tr("sigma"), {}, {}, {}, PlotSeries::Style::Points, 1};
        PlotSeries expected{tr("sigma of noise alone"), {}, {}, {}, PlotSeries::Style::Line, 7};
        PlotSeries offset{tr("offset"), {}, {}, {}, PlotSeries::Style::Points, 0};
        PlotSeries shift{tr("shift"), {}, {}, {}, PlotSeries::Style::Points, 2};
        for (const FiberQuality& fiber : q->fibers) {
            const double x = fiber.spectrum;
            if (fiber.pulls.count > 0) {
                for (PlotSeries* series : {&mean, &sigma, &expected}) series->x.push_back(x);
                mean.y.push_back(fiber.pulls.mean);
                mean.error.push_back(fiber.pulls.sigma / std::sqrt(static_cast<double>(fiber.pulls.count)));
                sigma.y.push_back(fiber.pulls.sigma);
                expected.y.push_back(fiber.pulls.expectedSigma);
            }
            if (fiber.traceOffset.known()) {
                offset.x.push_back(x);
                offset.y.push_back(fiber.traceOffset.value);
                offset.error.push_back(fiber.traceOffset.error);
            }
            if (fiber.wavelengthShift.known()) {
                shift.x.push_back(x);
                shift.y.push_back(fiber.wavelengthShift.value);
                shift.error.push_back(fiber.wavelengthShift.error);
            }
        }
        if (!mean.x.empty()) pulls.series = {std::move(expected), std::move(sigma), std::move(mean)};
        if (!offset.x.empty()) offsets.series = {std::move(offset)};
        if (!shift.x.empty()) shifts.series = {std::move(shift)};
        QString amplifiers;
        for (const AmplifierQuality& amp : q->amplifiers)
            amplifiers += tr("   %1: %2 \u00b1 %3")
                              .arg(QString::fromStdString(amp.name))
                              .arg(amp.pulls.mean, 0, 'f', 3)
                              .arg(amp.pulls.sigma, 0, 'f', 3);
        pulls.title = tr("Pulls of data minus model, by amplifier (mean \u00b1 sigma):%1").arg(amplifiers);
        const auto medians = [](const std::vector<float>& values, PlotContent& content, const QString& first,
                                const QString& second) {
            const std::size_t n = values.size() / 2;
            for (int half = 0; half < 2 && n > 0; ++half) {
                PlotSeries series;
                series.name = half == 0 ? first : second;
                series.colour = half;
                for (std::size_t i = 0; i < n; ++i) {
                    series.x.push_back(static_cast<double>(i));
                    series.y.push_back(static_cast<double>(values[static_cast<std::size_t>(half) * n + i]));
                }
                content.series.push_back(std::move(series));
            }
        };
        medians(q->noise.columnPull, columns, tr("lower half"), tr("upper half"));
        medians(q->noise.rowPull, rows, tr("left half"), tr("right half"));
    }
    pulls.xLabel = offsets.xLabel = shifts.xLabel = tr("fiber");
    pulls.yLabel = tr("sigma");
    pulls.horizontals = {0};
    offsets.title = tr("Light minus trace, along x");
    offsets.yLabel = tr("pixels");
    offsets.horizontals = {0};
    shifts.title = tr("Wavelengths of sky lines against all fibers'");
    shifts.yLabel = tr("\u00c5");
    shifts.horizontals = {0};
    columns.title = tr("Median pull of columns");
    columns.xLabel = tr("column (pixel)");
    rows.title = tr("Median pull of rows");
    rows.xLabel = tr("row (pixel)");
    columns.yLabel = rows.yLabel = tr("sigma");
    pulls_->setContent(std::move(pulls));
    offsets_->setContent(std::move(offsets));
    shifts_->setContent(std::move(shifts));
    columns_->setContent(std::move(columns));
    rows_->setContent(std::move(rows));
    refreshProfile();
    refreshHistogram();
}

void FrameQualityPanel::refreshProfile() {
    PlotContent content;
    content.empty = measurement_.quality && measurement_.quality->pixels
                        ? tr("Choose a place")
                        : tr("The CCD image and the PSF of the frame are needed for this");
    const Cursor& cursor = document_.cursor();
    if (measurement_.quality && measurement_.quality->pixels && cursor.hasPixel()) {
        constexpr int halfRows = 10;
        constexpr int halfColumns = 40;
        const CrossProfile profile =
            crossProfile(*measurement_.image, measurement_.quality->model, static_cast<int>(std::lround(cursor.x)),
                         static_cast<int>(std::lround(cursor.y)), halfRows, halfColumns);
        PlotSeries light{tr("data"), {}, profile.data, profile.error, PlotSeries::Style::Points, 0};
        PlotSeries model{tr("model"), {}, profile.model, {}, PlotSeries::Style::Line, 1};
        for (const int column : profile.column) light.x.push_back(column);
        model.x = light.x;
        double largest = 0;
        for (const double value : profile.data) largest = std::max(largest, std::isfinite(value) ? value : 0);
        content.series = {std::move(light), std::move(model)};
        content.logY = true;
        content.y = Interval{std::max(0.05, 1e-5 * largest), std::max(1.0, 2 * largest)};
        content.title = tr("Across the traces, mean of rows %1 to %2").arg(profile.y0).arg(profile.y1 - 1);
        content.xLabel = tr("column (pixel)");
        content.yLabel = tr("electrons a pixel");
        content.marker = cursor.x;
    }
    profile_->setContent(std::move(content));
}

void FrameQualityPanel::setBad2dFactor(double factor) {
    const QSignalBlocker slider(factorSlider_);
    const QSignalBlocker box(factorBox_);
    factorSlider_->setValue(static_cast<int>(std::lround(10 * factor)));
    factorBox_->setValue(factor);
    refreshWhatIf();
}

void FrameQualityPanel::setPsferr(double psferr) { psferrBox_->setValue(psferr); }

std::int64_t FrameQualityPanel::whatIfCount() const {
    if (!measurement_.quality) return 0;
    const Array2<float>& ratio = whatIfRatio_ ? *whatIfRatio_ : measurement_.quality->chi2Ratio;
    const auto factor = static_cast<float>(factorBox_->value());
    return std::count_if(ratio.values().begin(), ratio.values().end(),
                         [factor](float value) { return value > factor; });
}

void FrameQualityPanel::refreshWhatIf() {
    whatIf_->setText(measurement_.quality ? tr("%1 bins").arg(whatIfCount()) : QString());
    if (currentMap() == Map::WhatIf) showMap();
    if (currentMap() == Map::Chi2Ratio) refreshHistogram();
}

void FrameQualityPanel::startPsferr() {
    if (!measurement_.quality || !measurement_.quality->pixels) return;
    const int serial = serial_;
    const double psferr = psferrBox_->value();
    controller_.runInBackground(tr("chi2pix with psferr %1").arg(psferr), [this, measurement = measurement_, serial,
                                                                           psferr](const std::stop_token& stop) {
        QualityInput input = measurement.input();
        input.stop = stop;
        const Array2<float> chi2 = chi2pixWith(input, *measurement.quality, psferr);
        auto ratio = std::make_shared<const Array2<float>>(chi2Ratios(chi2, measurement.frame->ivar));
        QMetaObject::invokeMethod(
            this,
            [this, ratio, serial, psferr] {
                if (serial != serial_ || psferr != psferrBox_->value()) return;
                whatIfRatio_ = ratio;
                refreshWhatIf();
            },
            Qt::QueuedConnection);
        return QString();
    });
}

} // namespace patchlight::widgets
