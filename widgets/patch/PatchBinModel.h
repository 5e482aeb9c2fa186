#pragma once

#include "widgets/patch/PatchInput.h"

#include <QAbstractTableModel>

#include <vector>

namespace patchlight::widgets {

/// The bins of a patch as a table, a row a bin: row = ispec * nwave + iwave, padding included.
class PatchBinModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column {
        Fiber,
        Wavelength,
        Flux,
        Ivar,
        Xflux,
        Fluxweight,
        Chi2pix,
        Masked,
        Status,
        Change,  ///< flux now minus flux before, in sigma before
        AtPixel, ///< share of the bin's light on the selected pixel
        ColumnCount,
    };
    /// Numbers (qreal) for sorting; NaN where a cell has none.
    static constexpr int sortRole = Qt::UserRole;
    /// bool: the bin is padding.
    static constexpr int paddingRole = Qt::UserRole + 1;

    explicit PatchBinModel(QObject* parent = nullptr);

    void setPatch(const PatchInput& input);
    /// The patch as it was before a change; empty: none. Its bins are found by fiber and wavelength, since options may have made another patch
    /// of it; one that has no bin of this one is not taken. @return whether it was taken
    bool setBefore(const PatchInput& before);
    /// Bins that are kept, and those among them that the patch before has.
    struct Shared {
        int kept = 0;
        int before = 0;
    };
    [[nodiscard]] Shared shared() const;
    /// Shares of the bins' light on the selected pixel, by row; empty: no pixel is selected.
    void setAtPixel(std::vector<double> shares);

    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role = Qt::DisplayRole) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

    /// Zero-based spectrum and vacuum wavelength (Angstrom, as in a frame file) of a row.
    [[nodiscard]] int spectrum(int row) const;
    [[nodiscard]] double wavelength(int row) const;
    [[nodiscard]] bool isPadding(int row) const;
    /// The row of a bin; -1 where the patch does not hold it.
    [[nodiscard]] int rowOf(int spectrum, double wavelength) const;
    /// Flux and its change in sigma (NaN without a patch before), by row.
    [[nodiscard]] double change(int row) const;

private:
    [[nodiscard]] double value(int row, int column) const;
    [[nodiscard]] QString status(int row) const;

    PatchInput input_;
    PatchInput before_;
    int beforeOffset_ = 0; ///< added to a bin to have that of the patch before
    std::vector<double> atPixel_;
};

} // namespace patchlight::widgets
