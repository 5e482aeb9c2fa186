#include "widgets/patch/PatchBinModel.h"

#include "core/analysis/MaskNames.h"
#include "core/base/Nan.h"
#include "core/engine/PatchResult.h"
#include "core/engine/Physics.h"
#include "core/engine/Plan.h"
#include "widgets/control/PatchBins.h"

#include <QBrush>
#include <QGuiApplication>
#include <QPalette>

#include <algorithm>
#include <cmath>
#include <utility>

namespace patchlight::widgets {

namespace {} // namespace

PatchBinModel::PatchBinModel(QObject* parent) : QAbstractTableModel(parent) {}

void PatchBinModel::setPatch(const PatchInput& input) {
    beginResetModel();
    input_ = input;
    before_ = {}; // whoever shows a patch says what was before
    atPixel_.clear();
    endResetModel();
}

bool PatchBinModel::setBefore(const PatchInput& before) {
    const bool fits =
        before && input_ && shareBins({input_.detail->patch, *input_.plan}, {before.detail->patch, *before.plan});
    before_ = fits ? before : PatchInput{};
    beforeOffset_ = fits ? binOffset(*input_.plan, *before.plan).value_or(0) : 0;
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
    const Patch& earlier = before_.detail->patch;
    const int bin = patch.bins.first + row % patch.bins.count() + beforeOffset_;
    const int spectrum = this->spectrum(row);
    if (!earlier.spectra.contains(spectrum) || !earlier.bins.contains(bin)) return nan;
    const auto s = static_cast<std::size_t>(spectrum - earlier.spectra.first);
    const auto j = static_cast<std::size_t>(bin - earlier.bins.first);
    // Where one keeps the bin and the other has it as padding, the comparison is with a number that nobody writes.
    if (!isPadding(row) && !(earlier.core.contains(spectrum) && earlier.keepBins.contains(bin))) return nan;
    const double ivar = before_.detail->ivar(s, j);
    const double difference = input_.detail->flux.values()[static_cast<std::size_t>(row)] - before_.detail->flux(s, j);
    if (!(ivar > 0)) return nan;
    return difference * std::sqrt(ivar);
}

PatchBinModel::Shared PatchBinModel::shared() const {
    if (!input_) return {};
    const Patch& patch = input_.detail->patch;
    Shared out{patch.core.count() * patch.keepBins.count(), 0};
    if (!before_) return out;
    const Patch& earlier = before_.detail->patch;
    const int fibers = std::min(patch.core.last, earlier.core.last) - std::max(patch.core.first, earlier.core.first);
    const int bins = std::min(patch.keepBins.last + beforeOffset_, earlier.keepBins.last) -
                     std::max(patch.keepBins.first + beforeOffset_, earlier.keepBins.first);
    out.before = std::max(0, fibers) * std::max(0, bins);
    return out;
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
    case sortRole:
        return value(row, index.column());
    case paddingRole:
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
