#include "widgets/patch/PatchBinModel.h"

#include "core/analysis/MaskNames.h"
#include "core/engine/PatchResult.h"
#include "core/engine/Physics.h"
#include "core/engine/Plan.h"

#include <QBrush>
#include <QGuiApplication>
#include <QPalette>

#include <cmath>
#include <limits>
#include <utility>

namespace patchlight::widgets {

namespace {

constexpr double nan = std::numeric_limits<double>::quiet_NaN();

} // namespace

PatchBinModel::PatchBinModel(QObject* parent) : QAbstractTableModel(parent) {}

void PatchBinModel::setPatch(const PatchInput& input) {
    beginResetModel();
    input_ = input;
    if (before_ && !fits(*before_)) before_.reset();
    atPixel_.clear();
    endResetModel();
}

bool PatchBinModel::fits(const PatchDetail& before) const {
    return input_ && before.patch.core == input_.detail->patch.core && before.patch.step == input_.detail->patch.step &&
           before.patch.keepBins.count() == input_.detail->patch.keepBins.count();
}

bool PatchBinModel::setBefore(std::shared_ptr<const PatchDetail> before) {
    const bool fits = before && this->fits(*before);
    before_ = fits ? std::move(before) : nullptr;
    if (rowCount() > 0) emit dataChanged(index(0, Change), index(rowCount() - 1, Change));
    return fits;
}

void PatchBinModel::setAtPixel(std::vector<double> shares) {
    atPixel_ = std::move(shares);
    if (rowCount() > 0) emit dataChanged(index(0, AtPixel), index(rowCount() - 1, AtPixel));
}

int PatchBinModel::rowCount(const QModelIndex& parent) const {
    if (parent.isValid() || !input_) return 0;
    return input_.detail->patch.spectra.count() * input_.detail->patch.bins.count();
}

int PatchBinModel::columnCount(const QModelIndex& parent) const { return parent.isValid() ? 0 : ColumnCount; }

int PatchBinModel::spectrum(int row) const {
    return input_.detail->patch.spectra.first + row / input_.detail->patch.bins.count();
}

double PatchBinModel::wavelength(int row) const {
    const WavelengthGrid& grid = input_.plan->grid;
    const int bin = input_.detail->patch.bins.first + row % input_.detail->patch.bins.count();
    const int core = bin - grid.pad;
    return core >= 0 && core < grid.nwave ? grid.outputWavelength(core) : grid.wavelength(bin) * grid.scale;
}

bool PatchBinModel::isPadding(int row) const {
    const Patch& patch = input_.detail->patch;
    return !patch.core.contains(spectrum(row)) || !patch.keepBins.contains(patch.bins.first + row % patch.bins.count());
}

int PatchBinModel::rowOf(int spectrum, double wavelength) const {
    if (!input_ || !std::isfinite(wavelength) || !input_.detail->patch.spectra.contains(spectrum)) return -1;
    const WavelengthGrid& grid = input_.plan->grid;
    const double core = std::round((wavelength - grid.wmin) / grid.dw);
    if (!(std::abs(core) < 1e8)) return -1;
    const int bin = static_cast<int>(core) + grid.pad;
    const Patch& patch = input_.detail->patch;
    if (!patch.bins.contains(bin)) return -1;
    return (spectrum - patch.spectra.first) * patch.bins.count() + bin - patch.bins.first;
}

double PatchBinModel::change(int row) const {
    if (!before_) return nan;
    const Patch& patch = input_.detail->patch;
    const Patch& earlier = before_->patch;
    // Bins count from the beginning of the padding, which an option may have moved.
    const int bin = patch.bins.first + row % patch.bins.count() - patch.keepBins.first + earlier.keepBins.first;
    const int spectrum = this->spectrum(row);
    if (!earlier.spectra.contains(spectrum) || !earlier.bins.contains(bin)) return nan;
    const auto s = static_cast<std::size_t>(spectrum - earlier.spectra.first);
    const auto j = static_cast<std::size_t>(bin - earlier.bins.first);
    const double ivar = before_->ivar(s, j);
    const double difference = input_.detail->flux.values()[static_cast<std::size_t>(row)] - before_->flux(s, j);
    if (!(ivar > 0)) return nan;
    return difference * std::sqrt(ivar);
}

double PatchBinModel::value(int row, int column) const {
    const PatchDetail& detail = *input_.detail;
    const auto i = static_cast<std::size_t>(row);
    const double step = input_.plan->grid.step();
    switch (column) {
    case Fiber:
        return spectrum(row);
    case Wavelength:
        return wavelength(row);
    case Flux:
        return detail.flux.values()[i] / step;
    case Ivar:
        return detail.ivar.values()[i] * step * step;
    case Xflux:
        return detail.xflux.values()[i] / step;
    case Fluxweight:
        return detail.fluxweight.values()[i];
    case Chi2pix:
        return detail.chi2pix.values()[i];
    case Masked:
        return detail.pixmaskFraction.values()[i];
    case Status:
        return isPadding(row) ? -1 : binMask(detail.pixmaskFraction.values()[i], detail.fluxweight.values()[i], true);
    case Change:
        return change(row);
    case AtPixel:
        return i < atPixel_.size() && atPixel_[i] > 0 ? atPixel_[i] : nan;
    default:
        return nan;
    }
}

QString PatchBinModel::status(int row) const {
    const auto i = static_cast<std::size_t>(row);
    const std::uint32_t mask =
        binMask(input_.detail->pixmaskFraction.values()[i], input_.detail->fluxweight.values()[i], true);
    QString out = isPadding(row) ? tr("padding") : QString();
    if (mask != 0) {
        if (!out.isEmpty()) out += QStringLiteral(", ");
        out += QString::fromStdString(specMaskNames(mask));
    }
    return out.isEmpty() ? tr("ok") : out;
}

QVariant PatchBinModel::data(const QModelIndex& index, int role) const {
    if (!index.isValid() || index.row() >= rowCount() || index.column() >= ColumnCount) return {};
    const int row = index.row();
    switch (role) {
    case Qt::DisplayRole: {
        if (index.column() == Status) return status(row);
        const double v = value(row, index.column());
        if (!std::isfinite(v)) return QString();
        switch (index.column()) {
        case Fiber:
            return static_cast<int>(v);
        case Wavelength:
            return QString::number(v, 'f', 2);
        case Chi2pix:
        case Masked:
            return QString::number(v, 'f', 3);
        case Change:
            return QString::number(v, 'f', 2);
        case AtPixel:
            return QStringLiteral("%1 %").arg(100 * v, 0, 'f', v < 0.01 ? 2 : 1);
        case Flux:
        case Xflux:
            return QString::number(v, 'g', 5);
        default:
            return QString::number(v, 'g', 4);
        }
    }
    case SortRole:
        return value(row, index.column());
    case PaddingRole:
        return isPadding(row);
    case Qt::TextAlignmentRole:
        return static_cast<int>((index.column() == Status ? Qt::AlignLeft : Qt::AlignRight) | Qt::AlignVCenter);
    case Qt::ForegroundRole:
        if (isPadding(row)) return QBrush(QGuiApplication::palette().color(QPalette::Disabled, QPalette::Text));
        return {};
    case Qt::ToolTipRole:
        return headerData(index.column(), Qt::Horizontal, Qt::ToolTipRole);
    default:
        return {};
    }
}

QVariant PatchBinModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (orientation != Qt::Horizontal || section < 0 || section >= ColumnCount)
        return QAbstractTableModel::headerData(section, orientation, role);
    struct Text {
        QString head;
        QString tip;
    };
    const auto text = [section]() -> Text {
        switch (section) {
        case Fiber:
            return {tr("fiber"), tr("Zero-based row of the PSF")};
        case Wavelength:
            return {tr("wavelength"), tr("Angstrom, vacuum")};
        case Flux:
            return {tr("flux"), tr("Reconvolved flux, electron/Angstrom")};
        case Ivar:
            return {tr("ivar"), tr("Inverse variance of the flux, (electron/Angstrom)^-2; 0: no data")};
        case Xflux:
            return {tr("xflux"), tr("Deconvolved flux, electron/Angstrom")};
        case Fluxweight:
            return {tr("fluxweight"), tr("A^T w: how much weight the bin has on the CCD")};
        case Chi2pix:
            return {tr("chi2pix"), tr("Mean chi2 of the pixels that the bin feeds, weighted by its spot")};
        case Masked:
            return {tr("masked"), tr("Share of the bin's spot on masked pixels")};
        case Status:
            return {tr("status"), tr("Bits of the frame's MASK that follow from the bin alone; padding is not kept")};
        case Change:
            return {tr("change (σ)"), tr("Flux now minus flux before, in sigma before")};
        default:
            return {tr("at pixel"), tr("Share of the bin's light on the selected pixel")};
        }
    }();
    if (role == Qt::DisplayRole) return text.head;
    if (role == Qt::ToolTipRole) return text.tip;
    return {};
}

} // namespace patchlight::widgets
