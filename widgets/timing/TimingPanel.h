#pragma once

#include "core/analysis/Trace.h"
#include "widgets/control/Cursor.h"

#include <QAbstractTableModel>
#include <QWidget>

#include <memory>
#include <vector>

class QComboBox;
class QLabel;
class QSortFilterProxyModel;
class QSplitter;
class QTabWidget;
class QTableView;

namespace patchlight::widgets {

class ActionList;
class Document;
class ExtractionController;
class SeenRefresh;
class SeriesPlot;
class TimelineView;

/// Statistics of named ranges as a table.
class RangeModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column { Name, Calls, Total, Self, Mean, Median, Smallest, Largest, P95, Deviation, Share, ColumnCount };
    static constexpr int sortRole = Qt::UserRole;
    static constexpr int nameRole = Qt::UserRole + 1; ///< int: index into Trace::names

    using QAbstractTableModel::QAbstractTableModel;
    void set(std::shared_ptr<const Trace> trace, std::vector<RangeStatistics> statistics);
    [[nodiscard]] const std::vector<RangeStatistics>& statistics() const { return statistics_; }
    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role = Qt::DisplayRole) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    std::shared_ptr<const Trace> trace_;
    std::vector<RangeStatistics> statistics_;
};

/// Two runs side by side.
class ChangeModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column { Name, CallsA, CallsB, TotalA, TotalB, Difference, Ratio, ColumnCount };
    static constexpr int sortRole = Qt::UserRole;

    using QAbstractTableModel::QAbstractTableModel;
    void set(std::vector<RangeChange> changes);
    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role = Qt::DisplayRole) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    std::vector<RangeChange> changes_;
};

/// Where did the time go: the ranges of the last run, or of a trace file.
class TimingPanel : public QWidget {
    Q_OBJECT

public:
    TimingPanel(Document& document, ExtractionController& controller, QWidget* parent = nullptr);
    ~TimingPanel() override;

    /// Puts what can be done here into the window's one list: menu Timing.
    void addActions(ActionList& actions);
    void setTrace(std::shared_ptr<const Trace> trace);
    /// The run that the present one is compared with; null: none.
    void setOther(std::shared_ptr<const Trace> other);
    /// Opens a trace file in the background: Chrome trace JSON, or an SQLite file of nsys. @returns the job
    int open(const QString& path, bool asOther = false);
    /// Reads a trace file of either kind. @throws Error
    [[nodiscard]] static Trace readTrace(const QString& path);
    /// True where a file begins as a trace does: an SQLite file, or JSON with "traceEvents".
    [[nodiscard]] static bool isTrace(const QString& path);
    /// Writes Chrome trace JSON (.json) or the statistics (.csv). @returns the error; empty: done
    QString exportTo(const QString& path) const;
    [[nodiscard]] TimelineView& timeline() { return *timeline_; }
    [[nodiscard]] QTableView& statisticsTable() { return *table_; }
    [[nodiscard]] SeriesPlot& histogram() { return *histogram_; }
    [[nodiscard]] SeriesPlot& strip() { return *strip_; }
    [[nodiscard]] QTabWidget& tabs() { return *tabs_; }
    [[nodiscard]] const std::shared_ptr<const Trace>& trace() const { return trace_; }

Q_SIGNALS:
    /// A patch or batch was chosen: it should be seen in the other views.
    void placeChosen(const patchlight::widgets::Cursor& cursor);
    void traceOpened();

protected:
    void resizeEvent(QResizeEvent* event) override;

private:
    void takeLastRun();
    void askToOpen(bool asOther);
    void askToExport();
    void refreshStatistics();
    void refreshName();
    void chooseBar(double x);
    void chooseRange(int range);
    [[nodiscard]] int shownName() const;

    Document& document_;
    ExtractionController& controller_;
    std::shared_ptr<const Trace> trace_;
    std::shared_ptr<const Trace> other_;
    std::vector<RangeCall> bars_;
    QSplitter* splitter_ = nullptr;
    TimelineView* timeline_;
    QLabel* status_;
    QTabWidget* tabs_;
    RangeModel* model_;
    QSortFilterProxyModel* proxy_;
    QTableView* table_ = nullptr;
    ChangeModel* changes_;
    QSortFilterProxyModel* changesProxy_;
    QTableView* changesTable_ = nullptr;
    QComboBox* nameBox_;
    SeriesPlot* histogram_;
    SeriesPlot* strip_;
    SeenRefresh* seen_;
};

} // namespace patchlight::widgets
