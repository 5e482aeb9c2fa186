#include "widgets/quality/QualityModels.h"

#include <cmath>
#include <limits>

namespace patchlight::widgets {

namespace {

QString number(double value, char format, int digits) {
    return std::isfinite(value) ? QString::number(value, format, digits) : QString();
}

QString measured(const Measured& value, double scale, int digits) {
    if (!value.known()) return {};
    return QStringLiteral("%1 \u00b1 %2")
        .arg(scale * value.value, 0, 'f', digits)
        .arg(scale * value.error, 0, 'f', digits);
}

double sortable(double value) { return std::isfinite(value) ? value : -std::numeric_limits<double>::max(); }
double sortable(const Measured& value) { return value.known() ? value.value : -std::numeric_limits<double>::max(); }

} // namespace

FiberModel::FiberModel(QObject* parent) : QAbstractTableModel(parent) {}

void FiberModel::setQuality(std::shared_ptr<const FrameQuality> quality) {
    beginResetModel();
    quality_ = std::move(quality);
    endResetModel();
}

int FiberModel::rowCount(const QModelIndex& parent) const {
    return parent.isValid() || !quality_ ? 0 : static_cast<int>(quality_->fibers.size());
}

int FiberModel::columnCount(const QModelIndex& parent) const { return parent.isValid() ? 0 : ColumnCount; }

QVariant FiberModel::data(const QModelIndex& index, int role) const {
    if (!quality_ || !index.isValid() || index.row() >= rowCount()) return {};
    const FiberQuality& f = quality_->fibers[static_cast<std::size_t>(index.row())];
    if (role == Qt::TextAlignmentRole)
        return index.column() == Type || index.column() == Worst ? static_cast<int>(Qt::AlignLeft | Qt::AlignVCenter)
                                                                 : static_cast<int>(Qt::AlignRight | Qt::AlignVCenter);
    if (role != Qt::DisplayRole && role != sortRole) return {};
    const bool sort = role == sortRole;
    const bool pulls = f.pulls.count > 0;
    switch (index.column()) {
    case Spectrum:
        return f.spectrum;
    case Fiber:
        return static_cast<qlonglong>(f.fiber);
    case TargetId:
        return sort ? QVariant(static_cast<qlonglong>(f.targetId)) : QString::number(f.targetId);
    case Type:
        return QString::fromStdString(f.objectType);
    case Alarms:
        return static_cast<qlonglong>(f.alarms);
    case Worst:
        return f.worst == BadBinKind::None ? QString() : QString::fromLatin1(badBinKindName(f.worst));
    case Flux:
        return sort ? QVariant(sortable(f.medianFlux)) : number(f.medianFlux, 'g', 4);
    case Snr:
        return sort ? QVariant(sortable(f.medianSnr)) : number(f.medianSnr, 'f', 2);
    case Chi2pix:
        return sort ? QVariant(sortable(f.medianChi2pix)) : number(f.medianChi2pix, 'f', 3);
    case Masked:
        return sort ? QVariant(f.maskedShare) : number(100 * f.maskedShare, 'f', 2);
    case PullMean:
        return sort ? QVariant(pulls ? f.pulls.mean : sortable(NAN)) : pulls ? number(f.pulls.mean, 'f', 3) : QString();
    case PullSigma:
        return sort    ? QVariant(pulls ? f.pulls.sigma : sortable(NAN))
               : pulls ? number(f.pulls.sigma, 'f', 3)
                       : QString();
    case Offset:
        return sort ? QVariant(sortable(f.traceOffset)) : measured(f.traceOffset, 1, 3);
    case Width:
        return sort ? QVariant(sortable(f.widthError)) : measured(f.widthError, 100, 2);
    case Shift:
        return sort ? QVariant(sortable(f.wavelengthShift)) : measured(f.wavelengthShift, 1, 3);
    case LineBias:
        return sort ? QVariant(sortable(f.lineBias)) : number(100 * f.lineBias, 'f', 2);
    default:
        return {};
    }
}

QVariant FiberModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal || section < 0 || section >= ColumnCount) return {};
    struct Text {
        QString title;
        QString help;
    };
    const Text texts[] = {
        {tr("Spectrum"), tr("Row of the PSF, zero-based")},
        {tr("FIBER"), tr("Number of the fiber in the fibermap")},
        {tr("TARGETID"), {}},
        {tr("Type"), tr("OBJTYPE of the fibermap")},
        {tr("Alarms"), tr("Bins for which a cause was found")},
        {tr("Mostly"), tr("The cause of most of them")},
        {tr("Flux"), tr("Median, electron/\u00c5")},
        {tr("S/N"), tr("Median of a bin")},
        {tr("chi2pix"), tr("Median")},
        {tr("Masked %"), tr("Share of the bins with a bit in MASK, or without ivar")},
        {tr("Pull mean"), tr("Data minus model in sigma, pixels nearest to the trace")},
        {tr("Pull sigma"), tr("Noise alone: a little below 1, since fluxes take up part of it")},
        {tr("Offset (pixel)"), tr("Light minus trace, along x")},
        {tr("Width (%)"), tr("Of the light over the PSF's, across the trace, minus 1")},
        {tr("Shift (\u00c5)"), tr("Of the sky lines against those of all fibers")},
        {tr("PSF 1 %: flux (%)"), tr("What sigmas of the PSF that are 1 % too small do to the flux of a line")}};
    if (role == Qt::DisplayRole) return texts[section].title;
    if (role == Qt::ToolTipRole) return texts[section].help;
    return {};
}

FiberFilter::FiberFilter(QObject* parent) : QSortFilterProxyModel(parent) { setSortRole(FiberModel::sortRole); }

void FiberFilter::setWords(const QString& words) {
    words_ = words.split(QLatin1Char(' '), Qt::SkipEmptyParts);
    invalidateFilter();
}

void FiberFilter::setAlarmsOnly(bool on) {
    alarmsOnly_ = on;
    invalidateFilter();
}

bool FiberFilter::filterAcceptsRow(int row, const QModelIndex& parent) const {
    const QAbstractItemModel& model = *sourceModel();
    const auto text = [&](int column) { return model.index(row, column, parent).data().toString(); };
    if (alarmsOnly_ && model.index(row, FiberModel::Alarms, parent).data(FiberModel::sortRole).toLongLong() == 0)
        return false;
    for (const QString& word : words_) {
        bool found = false;
        // Numbers as a whole, so that 12 does not find 120; the rest by any part.
        for (const int column : {FiberModel::Spectrum, FiberModel::Fiber, FiberModel::TargetId})
            found |= text(column) == word;
        for (const int column : {FiberModel::Type, FiberModel::Worst})
            found |= text(column).contains(word, Qt::CaseInsensitive);
        if (!found) return false;
    }
    return true;
}

FindingModel::FindingModel(QObject* parent) : QAbstractTableModel(parent) {}

void FindingModel::setQuality(std::shared_ptr<const FrameQuality> quality) {
    beginResetModel();
    quality_ = std::move(quality);
    endResetModel();
}

const Finding* FindingModel::finding(int row) const {
    return row >= 0 && row < rowCount() ? &quality_->findings[static_cast<std::size_t>(row)] : nullptr;
}

int FindingModel::rowCount(const QModelIndex& parent) const {
    return parent.isValid() || !quality_ ? 0 : static_cast<int>(quality_->findings.size());
}

int FindingModel::columnCount(const QModelIndex& parent) const { return parent.isValid() ? 0 : ColumnCount; }

QVariant FindingModel::data(const QModelIndex& index, int role) const {
    const Finding* f = index.isValid() ? finding(index.row()) : nullptr;
    if (f == nullptr) return {};
    if (role == kindRole) return static_cast<int>(f->kind);
    if (role == Qt::ToolTipRole) return QString::fromStdString(f->sentence);
    if (role == Qt::TextAlignmentRole)
        return index.column() == Kind || index.column() == Sentence
                   ? static_cast<int>(Qt::AlignLeft | Qt::AlignVCenter)
                   : static_cast<int>(Qt::AlignRight | Qt::AlignVCenter);
    if (role != Qt::DisplayRole && role != sortRole) return {};
    const bool sort = role == sortRole;
    switch (index.column()) {
    case Kind:
        return sort ? QVariant(static_cast<int>(f->kind)) : QString::fromLatin1(badBinKindName(f->kind));
    case Severity:
        return sort ? QVariant(f->severity) : QString::number(f->severity, 'g', 3);
    case Bins:
        return f->bins;
    case Fiber:
        return quality_->specmin + f->row;
    case Wavelength: {
        const double wavelength = quality_->wavelength[static_cast<std::size_t>(f->bin)];
        return sort ? QVariant(wavelength) : QString::number(wavelength, 'f', 1);
    }
    case Sentence:
        return QString::fromStdString(f->sentence);
    default:
        return {};
    }
}

QVariant FindingModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal || role != Qt::DisplayRole || section < 0 || section >= ColumnCount) return {};
    const QString titles[] = {tr("Cause"), tr("Severity"), tr("Bins"), tr("Fiber"), tr("\u00c5"), tr("What was found")};
    return titles[section];
}

} // namespace patchlight::widgets
