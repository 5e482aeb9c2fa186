#include "widgets/timing/TimingPanel.h"

#include "core/base/Error.h"
#include "core/io/AtomicFile.h"
#include "widgets/ccd/ColorMap.h"
#include "widgets/control/Document.h"
#include "widgets/control/ExtractionController.h"
#include "widgets/control/SeenRefresh.h"
#include "widgets/plot/Colours.h"
#include "widgets/plot/SeriesPlot.h"
#include "widgets/timing/NsysFile.h"
#include "widgets/timing/TimelineView.h"
#include "widgets/window/ActionList.h"

#include <QComboBox>
#include <QFile>
#include <QFileDialog>
#include <QFileInfo>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QSettings>
#include <QSignalBlocker>
#include <QSortFilterProxyModel>
#include <QSplitter>
#include <QTabWidget>
#include <QTableView>
#include <QToolButton>
#include <QVBoxLayout>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <map>
#include <tuple>
#include <utility>

namespace patchlight::widgets {

namespace {

QTableView* makeTable(QSortFilterProxyModel* proxy, QAbstractItemModel* model, const QString& name, QWidget* parent) {
    proxy->setSourceModel(model);
    proxy->setSortRole(RangeModel::sortRole);
    auto* table = new QTableView(parent);
    table->setModel(proxy);
    table->setSortingEnabled(true);
    table->setSelectionBehavior(QAbstractItemView::SelectRows);
    table->setSelectionMode(QAbstractItemView::SingleSelection);
    table->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table->setAlternatingRowColors(true);
    table->verticalHeader()->setVisible(false);
    table->verticalHeader()->setDefaultSectionSize(table->fontMetrics().height() + 6);
    table->setAccessibleName(name);
    return table;
}

/// From dim to bright, or on a light background from pale to dark: the long ones stand out on both.
std::array<QRgb, 256> timeColours(bool dark) {
    std::array<QRgb, 256> colours{};
    const ColorMap& map = colorMap(QStringLiteral("sea"));
    for (std::size_t i = 0; i < colours.size(); ++i) {
        // Neither end of the map, which would vanish in a background.
        const std::size_t at = 60 + i * 180 / 255;
        colours[i] = map.colors[dark ? at : 255 - at];
    }
    return colours;
}

/// Seconds that each call took in another run, found by frame, bundle and step; by order where the ranges say none. NaN: not there.
std::vector<double> matchingCalls(const Trace& trace, const std::vector<RangeCall>& calls, const Trace& other,
                                  const QString& name) {
    std::vector<double> seconds(calls.size(), std::nan(""));
    const auto found = std::find(other.names.begin(), other.names.end(), name.toStdString());
    if (found == other.names.end()) return seconds;
    const std::vector<RangeCall> there = callsOf(other, static_cast<int>(found - other.names.begin()));
    using Key = std::tuple<int, int, int, int>; // the last one counts calls of the same tags
    const auto keys = [](const Trace& of, const std::vector<RangeCall>& list) {
        std::map<std::tuple<int, int, int>, int> seen;
        std::vector<Key> out;
        for (const RangeCall& call : list) {
            const RangeTags& tags = of.ranges[static_cast<std::size_t>(call.range)].tags;
            const int count = seen[{tags.frame, tags.bundle, tags.step}]++;
            out.emplace_back(tags.frame, tags.bundle, tags.step, count);
        }
        return out;
    };
    std::map<Key, double> byKey;
    const std::vector<Key> theirs = keys(other, there);
    for (std::size_t i = 0; i < there.size(); ++i) byKey[theirs[i]] = there[i].seconds;
    const std::vector<Key> mine = keys(trace, calls);
    for (std::size_t i = 0; i < calls.size(); ++i)
        if (const auto at = byKey.find(mine[i]); at != byKey.end()) seconds[i] = at->second;
    return seconds;
}

} // namespace

void RangeModel::set(std::shared_ptr<const Trace> trace, std::vector<RangeStatistics> statistics) {
    beginResetModel();
    trace_ = std::move(trace);
    statistics_ = std::move(statistics);
    endResetModel();
}

int RangeModel::rowCount(const QModelIndex& parent) const {
    return parent.isValid() ? 0 : static_cast<int>(statistics_.size());
}
int RangeModel::columnCount(const QModelIndex& parent) const { return parent.isValid() ? 0 : ColumnCount; }

QVariant RangeModel::data(const QModelIndex& index, int role) const {
    if (!index.isValid() || index.row() >= rowCount()) return {};
    const RangeStatistics& s = statistics_[static_cast<std::size_t>(index.row())];
    if (role == nameRole) return s.name;
    if (role == Qt::TextAlignmentRole)
        return static_cast<int>((index.column() == Name ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
    if (role != Qt::DisplayRole && role != sortRole) return {};
    const bool sort = role == sortRole;
    const auto time = [&](double seconds) { return sort ? QVariant(seconds) : QVariant(durationText(seconds)); };
    switch (index.column()) {
    case Name:
        return QString::fromStdString(trace_->names[static_cast<std::size_t>(s.name)]);
    case Calls:
        return static_cast<qlonglong>(s.calls);
    case Total:
        return time(s.total);
    case Self:
        return time(s.self);
    case Mean:
        return time(s.mean);
    case Median:
        return time(s.median);
    case Smallest:
        return time(s.smallest);
    case Largest:
        return time(s.largest);
    case P95:
        return time(s.p95);
    case Deviation:
        return time(s.deviation);
    case Share:
        return sort ? QVariant(s.shareOfParent) : QVariant(QString::number(100 * s.shareOfParent, 'f', 1));
    default:
        return {};
    }
}

QVariant RangeModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal || section < 0 || section >= ColumnCount) return {};
    const QString titles[] = {tr("Range"), tr("Calls"), tr("Total"), tr("Self"),      tr("Mean"),       tr("Median"),
                              tr("Min"),   tr("Max"),   tr("95 %"),  tr("Std. dev."), tr("% of parent")};
    if (role == Qt::DisplayRole) return titles[section];
    if (role == Qt::ToolTipRole && section == Self) return tr("Without the ranges inside");
    if (role == Qt::ToolTipRole && section == Total) return tr("Summed over all lanes");
    if (role == Qt::ToolTipRole && section == Share)
        return tr("Of the ranges directly around; of the trace's time where there are none");
    return {};
}

void ChangeModel::set(std::vector<RangeChange> changes) {
    beginResetModel();
    changes_ = std::move(changes);
    endResetModel();
}

int ChangeModel::rowCount(const QModelIndex& parent) const {
    return parent.isValid() ? 0 : static_cast<int>(changes_.size());
}
int ChangeModel::columnCount(const QModelIndex& parent) const { return parent.isValid() ? 0 : ColumnCount; }

QVariant ChangeModel::data(const QModelIndex& index, int role) const {
    if (!index.isValid() || index.row() >= rowCount()) return {};
    const RangeChange& c = changes_[static_cast<std::size_t>(index.row())];
    if (role == Qt::TextAlignmentRole)
        return static_cast<int>((index.column() == Name ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
    if (role != Qt::DisplayRole && role != sortRole) return {};
    const bool sort = role == sortRole;
    const double ratio = c.totalA > 0 ? c.totalB / c.totalA : NAN;
    switch (index.column()) {
    case Name:
        return QString::fromStdString(c.name);
    case CallsA:
        return static_cast<qlonglong>(c.callsA);
    case CallsB:
        return static_cast<qlonglong>(c.callsB);
    case TotalA:
        return sort ? QVariant(c.totalA) : QVariant(durationText(c.totalA));
    case TotalB:
        return sort ? QVariant(c.totalB) : QVariant(durationText(c.totalB));
    case Difference:
        return sort ? QVariant(c.totalB - c.totalA)
                    : QVariant((c.totalB > c.totalA ? QStringLiteral("+") : QString()) +
                               durationText(c.totalB - c.totalA));
    case Ratio:
        return sort ? QVariant(std::isfinite(ratio) ? ratio : -1.0)
                    : QVariant(std::isfinite(ratio) ? QString::number(ratio, 'f', 3) : QString());
    default:
        return {};
    }
}

QVariant ChangeModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal || role != Qt::DisplayRole || section < 0 || section >= ColumnCount) return {};
    const QString titles[] = {tr("Range"),       tr("Calls here"), tr("Calls there"), tr("Total here"),
                              tr("Total there"), tr("Difference"), tr("There / here")};
    return titles[section];
}

TimingPanel::TimingPanel(Document& document, ExtractionController& controller, QWidget* parent)
    : QWidget(parent), document_(document), controller_(controller), timeline_(new TimelineView(this)),
      status_(new QLabel(this)), tabs_(new QTabWidget(this)), model_(new RangeModel(this)),
      proxy_(new QSortFilterProxyModel(this)), changes_(new ChangeModel(this)),
      changesProxy_(new QSortFilterProxyModel(this)), nameBox_(new QComboBox(this)), histogram_(new SeriesPlot(this)),
      strip_(new SeriesPlot(this)), seen_(new SeenRefresh(this, [this] {
          if (controller_.lastRanges() && (!trace_ || trace_->source == "last run")) takeLastRun();
      })) {
    const auto button = [this](const QString& text, const QString& help, auto run) {
        auto* made = new QToolButton(this);
        made->setText(text);
        made->setToolTip(help);
        connect(made, &QToolButton::clicked, this, run);
        return made;
    };
    auto* top = new QHBoxLayout;
    top->setContentsMargins(4, 4, 4, 0);
    top->addWidget(
        button(tr("Last run"), tr("The named ranges of the last run of this window"), [this] { takeLastRun(); }));
    top->addWidget(
        button(tr("Open..."),
               tr("Chrome trace JSON (extract --trace, batch --trace), or what nsys export --type sqlite writes"),
               [this] { askToOpen(false); }));
    top->addWidget(button(tr("Compare..."), tr("Another trace beside this one"), [this] { askToOpen(true); }));
    top->addWidget(button(tr("Export..."), tr("Chrome trace JSON, or the table as CSV"), [this] { askToExport(); }));
    status_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    status_->setMinimumWidth(50);
    top->addWidget(status_, 1);

    table_ = makeTable(proxy_, model_, tr("Statistics of ranges"), this);
    table_->sortByColumn(RangeModel::Total, Qt::DescendingOrder);
    changesTable_ = makeTable(changesProxy_, changes_, tr("Two runs compared"), this);
    changesTable_->sortByColumn(-1, Qt::AscendingOrder);
    tabs_->addTab(table_, tr("Statistics"));
    auto* page = new QWidget(this);
    auto* pageLayout = new QVBoxLayout(page);
    pageLayout->setContentsMargins(2, 2, 2, 2);
    auto* nameRow = new QHBoxLayout;
    nameRow->addWidget(new QLabel(tr("Range"), this));
    nameRow->addWidget(nameBox_, 1);
    nameBox_->setAccessibleName(tr("Range shown"));
    pageLayout->addLayout(nameRow);
    auto* plots = new QHBoxLayout;
    plots->addWidget(histogram_, 1);
    plots->addWidget(strip_, 2);
    pageLayout->addLayout(plots, 1);
    tabs_->addTab(page, tr("One range"));
    tabs_->addTab(changesTable_, tr("Two runs"));

    auto* upper = new QWidget(this);
    auto* upperLayout = new QVBoxLayout(upper);
    upperLayout->setContentsMargins(0, 0, 0, 0);
    upperLayout->setSpacing(2);
    upperLayout->addLayout(top);
    upperLayout->addWidget(timeline_, 1);
    splitter_ = new QSplitter(Qt::Vertical, this);
    splitter_->addWidget(upper);
    splitter_->addWidget(tabs_);
    splitter_->setStretchFactor(0, 3);
    splitter_->setStretchFactor(1, 2);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(splitter_);

    connect(timeline_, &TimelineView::rangeSelected, this, &TimingPanel::chooseRange);
    connect(timeline_, &TimelineView::windowChanged, this, &TimingPanel::refreshStatistics);
    connect(nameBox_, &QComboBox::currentIndexChanged, this, &TimingPanel::refreshName);
    connect(strip_, &SeriesPlot::picked, this, &TimingPanel::chooseBar);
    connect(table_, &QTableView::clicked, this, [this](const QModelIndex& index) {
        const int at = nameBox_->findData(index.data(RangeModel::nameRole));
        if (at >= 0) nameBox_->setCurrentIndex(at);
    });
    connect(table_, &QTableView::doubleClicked, this, [this] { tabs_->setCurrentIndex(1); });
    // A run's ranges are there when it has ended.
    connect(&controller_, &ExtractionController::jobEnded, this, [this](int job, JobState) {
        static_cast<void>(job);
        seen_->request();
    });
    refreshName();
}

TimingPanel::~TimingPanel() = default;

void TimingPanel::resizeEvent(QResizeEvent* event) {
    QWidget::resizeEvent(event);
    // At the bottom of the window there is no height for one over the other.
    const auto orientation = width() > 2 * height() ? Qt::Horizontal : Qt::Vertical;
    if (splitter_->orientation() != orientation) splitter_->setOrientation(orientation);
}

void TimingPanel::addActions(ActionList& actions) {
    const QString menu = tr("Timing");
    const auto add = [&](const char* id, const QString& text, const char* keys, const QString& help, QWidget* scope,
                         bool separator, std::function<void()> run) {
        actions.add({QStringLiteral("timing.") + QLatin1String(id), menu, text, QLatin1String(keys), help, false, false,
                     scope, separator},
                    std::move(run));
    };
    add("last", tr("&Last run"), "L", tr("The named ranges of the last run of this window"), this, false,
        [this] { takeLastRun(); });
    add("open", tr("&Open a trace..."), "Ctrl+Alt+T",
        tr("Chrome trace JSON (extract --trace, batch --trace), or what nsys export --type sqlite writes"), nullptr,
        false, [this] { askToOpen(false); });
    add("compare", tr("&Compare with a trace..."), "Ctrl+Alt+K",
        tr("Its lanes under those of this one, its calls beside these"), nullptr, false, [this] { askToOpen(true); });
    add("alone", tr("Compare &no longer"), "Ctrl+Alt+Shift+K", tr("This run alone"), nullptr, false,
        [this] { setOther(nullptr); });
    add("export", tr("&Export the trace..."), "Ctrl+Alt+E", tr("Chrome trace JSON, or the table as CSV"), nullptr,
        false, [this] { askToExport(); });
    struct Key {
        const char* id;
        QString text;
        const char* keys;
        Qt::Key key;
    };
    const Key keys[] = {{"in", tr("Zoom &in"), "W", Qt::Key_W},
                        {"out", tr("Zoom o&ut"), "S", Qt::Key_S},
                        {"earlier", tr("E&arlier"), "A", Qt::Key_A},
                        {"later", tr("La&ter"), "D", Qt::Key_D},
                        {"focus", tr("&Focus"), "F", Qt::Key_F},
                        {"all", tr("&All of it"), "Home", Qt::Key_Home},
                        {"unselect", tr("Drop the selected time"), "X", Qt::Key_X}};
    for (const Key& key : keys)
        add(key.id, key.text, key.keys, tr("In the timeline"), timeline_, key.key == Qt::Key_W,
            [this, key = key.key] { timeline_->run(key); });
    for (int i = 0; i < 3; ++i) {
        const QString pages[] = {tr("&Statistics"), tr("One &range"), tr("T&wo runs")};
        add(QStringLiteral("page.%1").arg(i + 1).toLatin1().constData(), pages[i],
            QString::number(i + 1).toLatin1().constData(), tr("The page under the timeline"), this, i == 0,
            [this, i] { tabs_->setCurrentIndex(i); });
    }
}

void TimingPanel::askToOpen(bool asOther) {
    QSettings settings;
    const QString path = QFileDialog::getOpenFileName(this, asOther ? tr("Compare with trace") : tr("Open trace"),
                                                      settings.value(QStringLiteral("folder")).toString(),
                                                      tr("Traces (*.json *.sqlite *.sqlite3 *.db);;All files (*)"));
    if (path.isEmpty()) return;
    settings.setValue(QStringLiteral("folder"), QFileInfo(path).absolutePath());
    open(path, asOther);
}

void TimingPanel::askToExport() {
    QSettings settings;
    const QString path =
        QFileDialog::getSaveFileName(this, tr("Export trace"), settings.value(QStringLiteral("folder")).toString(),
                                     tr("Chrome trace (*.json);;Table (*.csv)"));
    if (path.isEmpty()) return;
    if (const QString problem = exportTo(path); !problem.isEmpty()) Q_EMIT controller_.message(problem, true);
}

void TimingPanel::takeLastRun() {
    if (!controller_.lastRanges()) {
        status_->setText(tr("Nothing has run in the background yet"));
        return;
    }
    auto trace = std::make_shared<Trace>(traceOf(*controller_.lastRanges(), "patchlight-gui"));
    trace->source = "last run";
    if (trace_ && trace_->source == "last run" && trace_->ranges.size() == trace->ranges.size() &&
        trace_->end == trace->end)
        return;
    setTrace(std::move(trace));
}

void TimingPanel::setTrace(std::shared_ptr<const Trace> trace) {
    trace_ = std::move(trace);
    timeline_->setTrace(trace_);
    {
        const QSignalBlocker block(nameBox_);
        nameBox_->clear();
    }
    refreshStatistics();
    if (trace_) {
        const QSignalBlocker block(nameBox_);
        int best = 0;
        for (const RangeStatistics& s : model_->statistics()) {
            const QString name = QString::fromStdString(trace_->names[static_cast<std::size_t>(s.name)]);
            if (name == QLatin1String("batch")) best = nameBox_->count(); // what a strip of bars is made for
            nameBox_->addItem(name, s.name);
        }
        nameBox_->setCurrentIndex(best);
        QString text = tr("%1: %2 ranges on %3 lanes, %4")
                           .arg(QFileInfo(QString::fromStdString(trace_->source)).fileName())
                           .arg(trace_->ranges.size())
                           .arg(trace_->lanes.size())
                           .arg(durationText(1e-9 * static_cast<double>(trace_->end - trace_->begin)));
        for (const std::string& note : trace_->notes) text += QStringLiteral("; ") + QString::fromStdString(note);
        status_->setText(text);
    }
    setOther(other_);
    table_->resizeColumnsToContents();
}

void TimingPanel::setOther(std::shared_ptr<const Trace> other) {
    other_ = std::move(other);
    changes_->set(trace_ && other_ ? compareTraces(*trace_, *other_) : std::vector<RangeChange>{});
    changesTable_->resizeColumnsToContents();
    timeline_->setOther(other_);
    refreshName();
    tabs_->setTabText(2, other_
                             ? tr("Two runs: and %1").arg(QFileInfo(QString::fromStdString(other_->source)).fileName())
                             : tr("Two runs"));
}

bool TimingPanel::isTrace(const QString& path) {
    QFile file(path);
    if (!file.open(QIODevice::ReadOnly)) return false;
    constexpr qint64 head = 4096; // bytes
    const QByteArray begin = file.read(head);
    return begin.startsWith("SQLite format 3") ||
           (begin.trimmed().startsWith('{') && begin.contains("\"traceEvents\""));
}

Trace TimingPanel::readTrace(const QString& path) {
    QFile file(path);
    const bool sqlite = file.open(QIODevice::ReadOnly) && file.read(15) == QByteArray("SQLite format 3");
    file.close();
    return sqlite ? readNsysFile(path) : readChromeTrace(path.toStdString());
}

int TimingPanel::open(const QString& path, bool asOther) {
    return controller_.runInBackground(tr("open %1").arg(QFileInfo(path).fileName()),
                                       [this, path, asOther](const std::stop_token&) {
                                           auto trace = std::make_shared<const Trace>(readTrace(path));
                                           QMetaObject::invokeMethod(
                                               this,
                                               [this, trace, asOther] {
                                                   if (asOther) {
                                                       setOther(trace);
                                                       tabs_->setCurrentIndex(2);
                                                   } else {
                                                       setTrace(trace);
                                                   }
                                                   Q_EMIT traceOpened();
                                               },
                                               Qt::QueuedConnection);
                                           return tr("%1 ranges").arg(trace->ranges.size());
                                       });
}

QString TimingPanel::exportTo(const QString& path) const {
    if (!trace_) return tr("there is no trace to export: run something, or open one");
    try {
        writeFileAtomically(path.toStdString(), path.endsWith(QLatin1String(".csv"), Qt::CaseInsensitive)
                                                    ? statisticsCsv(*trace_, model_->statistics())
                                                    : chromeTrace(*trace_));
    } catch (const Error& error) {
        return QString::fromUtf8(error.what());
    }
    return {};
}

void TimingPanel::refreshStatistics() {
    const Interval window = timeline_->window();
    model_->set(trace_, trace_ ? rangeStatistics(*trace_, static_cast<std::int64_t>(window.low),
                                                 static_cast<std::int64_t>(window.high))
                               : std::vector<RangeStatistics>{});
    tabs_->setTabText(0, window.high > window.low
                             ? tr("Statistics of the selected %1").arg(durationText(1e-9 * window.span()))
                             : tr("Statistics"));
}

int TimingPanel::shownName() const { return nameBox_->currentIndex() < 0 ? -1 : nameBox_->currentData().toInt(); }

void TimingPanel::refreshName() {
    PlotContent histogram;
    PlotContent strip;
    histogram.empty = strip.empty = tr("No range");
    bars_ = trace_ && shownName() >= 0 ? callsOf(*trace_, shownName()) : std::vector<RangeCall>{};
    if (!bars_.empty()) {
        // Durations spread over decades: equal intervals of their logarithm.
        double low = bars_.front().seconds;
        double high = low;
        for (const RangeCall& call : bars_) {
            low = std::min(low, call.seconds);
            high = std::max(high, call.seconds);
        }
        low = std::max(low, 1e-9);
        high = std::max(high, 1.001 * low);
        constexpr int intervals = 60;
        const double step = (std::log10(high) - std::log10(low)) / intervals;
        PlotSeries counts;
        counts.style = PlotSeries::Style::Bars;
        counts.x.resize(intervals);
        counts.y.assign(intervals, 0);
        for (int i = 0; i < intervals; ++i) counts.x[static_cast<std::size_t>(i)] = std::log10(low) + (i + 0.5) * step;
        for (const RangeCall& call : bars_) {
            const int i = std::clamp(
                static_cast<int>((std::log10(std::max(call.seconds, low)) - std::log10(low)) / step), 0, intervals - 1);
            counts.y[static_cast<std::size_t>(i)] += 1;
        }
        histogram.series.push_back(std::move(counts));
        histogram.title = tr("%1: %2 calls").arg(nameBox_->currentText()).arg(bars_.size());
        histogram.xLabel = tr("log10 of the duration in seconds");
        histogram.yLabel = tr("calls");
        // A bar a call, in the order of their starts, coloured by its time.
        constexpr std::size_t mostBars = 20000;
        const std::size_t shown = std::min(mostBars, bars_.size());
        ColourScale scale;
        scale.low = std::log10(low);
        scale.high = std::log10(high);
        scale.lowText = durationText(low);
        scale.highText = durationText(high);
        scale.colours = timeColours(plotColours(palette()).dark);
        PlotSeries bars{tr("this run"), {}, {}, {}, PlotSeries::Style::Bars, 0};
        for (std::size_t i = 0; i < shown; ++i) {
            bars.x.push_back(static_cast<double>(i));
            bars.y.push_back(1e3 * bars_[i].seconds);
            bars.colours.push_back(scale.at(std::log10(std::max(bars_[i].seconds, low))));
        }
        strip.series.push_back(std::move(bars));
        strip.scale = std::move(scale);
        strip.title =
            shown < bars_.size() ? tr("The first %1 calls").arg(shown) : tr("Calls in order; click one to go there");
        if (other_) {
            // The same bundle and step in the other run; without them, the call of the same number.
            PlotSeries there{tr("the other run"), {}, {}, {}, PlotSeries::Style::Points, 1};
            const std::vector<double> times = matchingCalls(*trace_, bars_, *other_, nameBox_->currentText());
            double sumHere = 0;
            double sumThere = 0;
            for (std::size_t i = 0; i < shown; ++i) {
                if (std::isnan(times[i])) continue;
                there.x.push_back(static_cast<double>(i));
                there.y.push_back(1e3 * times[i]);
                sumHere += bars_[i].seconds;
                sumThere += times[i];
            }
            strip.title = there.x.empty() ? tr("The other run has no such calls")
                                          : tr("%1 calls of both runs; the other took %2 of the time")
                                                .arg(there.x.size())
                                                .arg(sumThere / sumHere, 0, 'f', 3);
            if (!there.x.empty()) strip.series.push_back(std::move(there));
        }
        strip.xLabel = tr("call");
        strip.yLabel = tr("ms");
    }
    histogram_->setContent(std::move(histogram));
    strip_->setContent(std::move(strip));
}

void TimingPanel::chooseBar(double x) {
    const auto index = static_cast<std::ptrdiff_t>(std::lround(x));
    if (index < 0 || index >= static_cast<std::ptrdiff_t>(bars_.size())) return;
    const int range = bars_[static_cast<std::size_t>(index)].range;
    timeline_->select(range);
    timeline_->focusRange(range);
}

void TimingPanel::chooseRange(int range) {
    if (range < 0) return;
    status_->setText(timeline_->describe(range));
    // The patch it was about, where it says and the open PSF has it.
    const RangeTags& tags = trace_->ranges[static_cast<std::size_t>(range)].tags;
    const Plan* plan = document_.plan().get();
    if (tags.bundle < 0 || tags.step < 0 || plan == nullptr) return;
    const int spectrum = tags.bundle * plan->options.bundlesize + plan->options.bundlesize / 2;
    const int core = std::min(plan->grid.nwave - 1, tags.step * plan->grid.nwavestep + plan->grid.nwavestep / 2);
    if (spectrum < plan->specmin || spectrum >= plan->specmin + plan->nspec) return;
    const Cursor cursor = document_.cursorAtBin(spectrum, plan->grid.outputWavelength(core));
    document_.setCursor(cursor);
    Q_EMIT placeChosen(cursor);
}

} // namespace patchlight::widgets
