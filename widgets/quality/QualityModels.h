#pragma once

#include "core/analysis/FrameQuality.h"

#include <QAbstractTableModel>
#include <QSortFilterProxyModel>

#include <memory>

namespace patchlight::widgets {

/// The spectra of a measured frame, a row each.
class FiberModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column {
        Spectrum,
        Fiber,
        TargetId, ///< a 64-bit integer, never a floating-point number
        Type,
        Alarms,
        Worst,
        Flux,
        Snr,
        Chi2pix,
        Masked,
        PullMean,
        PullSigma,
        Offset,
        Width,
        Shift,
        LineBias,
        ColumnCount,
    };
    /// For sorting: numbers as qlonglong or double (unknown ones below all), texts.
    static constexpr int sortRole = Qt::UserRole;

    explicit FiberModel(QObject* parent = nullptr);
    void setQuality(std::shared_ptr<const FrameQuality> quality);
    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role = Qt::DisplayRole) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    std::shared_ptr<const FrameQuality> quality_;
};

/// Filters fibers by words (all of them, in any column), and to those with alarms.
class FiberFilter : public QSortFilterProxyModel {
    Q_OBJECT

public:
    explicit FiberFilter(QObject* parent = nullptr);
    void setWords(const QString& words);
    void setAlarmsOnly(bool on);

protected:
    [[nodiscard]] bool filterAcceptsRow(int row, const QModelIndex& parent) const override;

private:
    QStringList words_;
    bool alarmsOnly_ = false;
};

/// The findings of a measured frame, worst first within a kind.
class FindingModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column { Kind, Severity, Bins, Fiber, Wavelength, Sentence, ColumnCount };
    static constexpr int sortRole = Qt::UserRole;
    static constexpr int kindRole = Qt::UserRole + 1; ///< int: BadBinKind

    explicit FindingModel(QObject* parent = nullptr);
    void setQuality(std::shared_ptr<const FrameQuality> quality);
    [[nodiscard]] const Finding* finding(int row) const;
    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role = Qt::DisplayRole) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

private:
    std::shared_ptr<const FrameQuality> quality_;
};

} // namespace patchlight::widgets
