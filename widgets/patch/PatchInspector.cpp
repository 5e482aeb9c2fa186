#include "widgets/patch/PatchInspector.h"

#include "core/analysis/MaskNames.h"
#include "core/engine/PatchFile.h"
#include "core/engine/PatchResult.h"
#include "core/engine/Plan.h"
#include "core/image/CcdImage.h"
#include "widgets/control/PatchBins.h"
#include "widgets/patch/MaskEditor.h"
#include "widgets/patch/PatchBinModel.h"
#include "widgets/patch/PatchImages.h"
#include "widgets/patch/PatchSpots.h"
#include "widgets/plot/Colours.h"
#include "widgets/vtk/SurfaceCanvas.h"

#include <QAction>
#include <QComboBox>
#include <QHeaderView>
#include <QLabel>
#include <QPageLayout>
#include <QPageSize>
#include <QPainter>
#include <QPdfWriter>
#include <QSaveFile>
#include <QSortFilterProxyModel>
#include <QSpinBox>
#include <QSplitter>
#include <QStackedWidget>
#include <QTableView>
#include <QToolBar>
#include <QVBoxLayout>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

namespace patchlight::widgets {

/// Leaves padding out where it is not asked for, and bins that do not touch the selected pixel.
class PatchInspector::BinFilter : public QSortFilterProxyModel {
public:
    using QSortFilterProxyModel::QSortFilterProxyModel;

    void setPadding(bool on) {
        padding_ = on;
        invalidateFilter();
    }
    void setOnlyAtPixel(bool on) {
        onlyAtPixel_ = on;
        invalidateFilter();
    }

protected:
    bool filterAcceptsRow(int row, const QModelIndex& parent) const override {
        const QAbstractItemModel* model = sourceModel();
        if (!padding_ && model->index(row, 0, parent).data(PatchBinModel::paddingRole).toBool()) return false;
        return !onlyAtPixel_ ||
               std::isfinite(
                   model->index(row, PatchBinModel::AtPixel, parent).data(PatchBinModel::sortRole).toDouble());
    }
    bool lessThan(const QModelIndex& left, const QModelIndex& right) const override {
        const double a = left.data(PatchBinModel::sortRole).toDouble();
        const double b = right.data(PatchBinModel::sortRole).toDouble();
        // Cells without a number come first going up, so last going down.
        if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && !std::isnan(b);
        return a < b;
    }

private:
    bool padding_ = false;
    bool onlyAtPixel_ = false;
};

PatchInspector::PatchInspector(QWidget* parent)
    : QWidget(parent), editor_(new MaskEditor(this)), images_(new PatchImages(editor_, this)),
      surfaces_(new SurfaceCanvas(this)), pictures_(new QStackedWidget(this)), model_(new PatchBinModel(this)),
      filter_(new BinFilter(this)), table_(new QTableView(this)) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    auto* bar = new QToolBar(tr("Patch"), this);
    bar->setToolButtonStyle(Qt::ToolButtonTextOnly);
    const auto arrow = [&](const QString& text, const QString& tip, int subbundles, int steps) {
        connect(bar->addAction(text), &QAction::triggered, this,
                [this, subbundles, steps] { emit neighbourRequested(subbundles, steps); });
        bar->actions().constLast()->setToolTip(tip);
    };
    arrow(QStringLiteral("←"), tr("Patch of the fibers before (Left)"), -1, 0);
    arrow(QStringLiteral("→"), tr("Patch of the next fibers (Right)"), 1, 0);
    arrow(QStringLiteral("↓"), tr("Patch at shorter wavelengths (Down)"), 0, -1);
    arrow(QStringLiteral("↑"), tr("Patch at longer wavelengths (Up)"), 0, 1);
    bar->addSeparator();
    showSurfaces_ = bar->addAction(tr("3-D"));
    showSurfaces_->setCheckable(true);
    showSurfaces_->setToolTip(tr("Pictures or surfaces"));
    stretch_ = new QComboBox(bar);
    stretch_->addItems({tr("linear"), tr("asinh")});
    stretch_->setAccessibleName(tr("Stretch of data and model"));
    stretch_->setToolTip(tr("Stretch of data and model; right drag changes contrast"));
    bar->addWidget(stretch_);
    bar->addSeparator();
    paint_ = bar->addAction(tr("Mask brush"));
    paint_->setCheckable(true);
    paint_->setToolTip(tr("What-if: left drag masks pixels, with Shift it unmasks them; the patch is extracted anew"));
    brush_ = new QSpinBox(bar);
    brush_->setRange(1, 9);
    brush_->setSingleStep(2);
    brush_->setSuffix(tr(" px"));
    brush_->setAccessibleName(tr("Size of the brush, pixels"));
    bar->addWidget(brush_);
    QAction* undo = editor_->undoStack()->createUndoAction(bar, tr("Undo"));
    QAction* redo = editor_->undoStack()->createRedoAction(bar, tr("Redo"));
    bar->addAction(undo);
    bar->addAction(redo);
    clear_ = bar->addAction(tr("Clear mask"), editor_, &MaskEditor::clear);
    clear_->setToolTip(tr("Take all hand-made masking back"));
    bar->addSeparator();
    QAction* again = bar->addAction(tr("Extract"), this, &PatchInspector::extractRequested);
    again->setToolTip(tr("Extract this patch anew with the present options and mask (Enter)"));
    pin_ = bar->addAction(tr("Keep before"));
    pin_->setCheckable(true);
    pin_->setToolTip(tr("Go on comparing with the patch as it is now, not with the last extraction before"));
    bar->addSeparator();
    padding_ = bar->addAction(tr("Padding"));
    padding_->setCheckable(true);
    padding_->setToolTip(tr("List the bins of the padding, too"));
    onlyAtPixel_ = bar->addAction(tr("Only this pixel"));
    onlyAtPixel_->setCheckable(true);
    onlyAtPixel_->setToolTip(tr("List only bins that feed the selected pixel"));
    layout->addWidget(bar);

    title_ = new QLabel(this);
    title_->setContentsMargins(6, 1, 6, 1);
    title_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    title_->setWordWrap(true);
    title_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Fixed);
    title_->setFixedHeight(2 * fontMetrics().height() + 4);
    title_->setAlignment(Qt::AlignLeft | Qt::AlignTop);
    title_->setAccessibleName(tr("The patch"));
    layout->addWidget(title_);

    pictures_->addWidget(images_);
    pictures_->addWidget(surfaces_);
    auto* splitter = new QSplitter(Qt::Vertical, this);
    splitter->addWidget(pictures_);
    splitter->addWidget(table_);
    splitter->setStretchFactor(0, 3);
    splitter->setStretchFactor(1, 2);
    layout->addWidget(splitter, 1);
    strip_ = new QLabel(this);
    strip_->setContentsMargins(6, 2, 6, 2);
    strip_->setTextFormat(Qt::PlainText);
    strip_->setWordWrap(true);
    strip_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    strip_->setAccessibleName(tr("Values under the cursor, selected pixel or bin"));
    strip_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Fixed);
    strip_->setFixedHeight(2 * fontMetrics().height() + 6);
    strip_->setAlignment(Qt::AlignLeft | Qt::AlignTop);
    layout->addWidget(strip_);

    filter_->setSourceModel(model_);
    filter_->setSortRole(PatchBinModel::sortRole);
    filter_->setDynamicSortFilter(true);
    table_->setModel(filter_);
    table_->setSortingEnabled(true);
    table_->sortByColumn(-1, Qt::AscendingOrder);
    table_->setSelectionBehavior(QAbstractItemView::SelectRows);
    table_->setSelectionMode(QAbstractItemView::SingleSelection);
    table_->setEditTriggers(QAbstractItemView::NoEditTriggers);
    table_->setAlternatingRowColors(true);
    table_->verticalHeader()->hide();
    table_->verticalHeader()->setDefaultSectionSize(fontMetrics().height() + 4);
    table_->horizontalHeader()->setSectionResizeMode(QHeaderView::Interactive);
    table_->horizontalHeader()->setStretchLastSection(false);
    table_->horizontalHeader()->setHighlightSections(false);
    for (int column = 0; column < PatchBinModel::ColumnCount; ++column)
        table_->setColumnWidth(column, fontMetrics().horizontalAdvance(column == PatchBinModel::Status
                                                                           ? QStringLiteral("padding, SOMEBADPIX")
                                                                           : QStringLiteral("wavelength 00")));
    table_->setAccessibleName(tr("Bins of the patch"));

    connect(showSurfaces_, &QAction::toggled, this, [this](bool on) {
        pictures_->setCurrentWidget(on ? static_cast<QWidget*>(surfaces_) : images_);
        updateSurfaces();
    });
    connect(pin_, &QAction::toggled, this, [this](bool on) { pinned_ = on ? input_ : PatchInput{}; });
    connect(stretch_, &QComboBox::currentIndexChanged, this, [this](int index) {
        images_->setStretch(index == 1 ? PatchImages::Stretch::Asinh : PatchImages::Stretch::Linear);
    });
    connect(paint_, &QAction::toggled, images_, &PatchImages::setPainting);
    connect(brush_, &QSpinBox::valueChanged, images_, &PatchImages::setBrush);
    connect(padding_, &QAction::toggled, filter_, [this](bool on) { filter_->setPadding(on); });
    connect(onlyAtPixel_, &QAction::toggled, filter_, [this](bool on) { filter_->setOnlyAtPixel(on); });
    connect(images_, &PatchImages::hovered, this, [this](double x, double y) {
        strip_->setText(images_->readout(static_cast<int>(std::lround(x)), static_cast<int>(std::lround(y))));
        emit cursorMoved(x, y);
    });
    connect(images_, &PatchImages::hoverLeft, this, [this] {
        if (images_->selectedPixel()) {
            strip_->setText(describePixel(images_->selectedPixel()->x(), images_->selectedPixel()->y()));
        } else if (selectedBin() >= 0) {
            strip_->setText(describeBin(selectedBin()));
        }
        emit cursorLeft();
    });
    connect(images_, &PatchImages::pixelClicked, this, &PatchInspector::pixelChosen);
    connect(images_, &PatchImages::neighbourRequested, this, &PatchInspector::neighbourRequested);
    connect(images_, &PatchImages::extractRequested, this, &PatchInspector::extractRequested);
    connect(table_->selectionModel(), &QItemSelectionModel::selectionChanged, this, &PatchInspector::rowChosen);
    connect(table_->horizontalHeader(), &QHeaderView::sortIndicatorChanged, this, [this] {
        const QModelIndexList rows = table_->selectionModel()->selectedRows();
        if (rows.isEmpty())
            table_->scrollToTop();
        else
            table_->scrollTo(rows.constFirst(), QAbstractItemView::PositionAtCenter);
    });
    connect(editor_, &MaskEditor::changed, this, [this] { clear_->setEnabled(!editor_->edits().isEmpty()); });
    connect(editor_, &MaskEditor::committed, this, [this] {
        updateSummary();
        emit maskEdited(editor_->edits());
    });
    clear_->setEnabled(false);
    setFocusProxy(images_);
    updateSummary();
}

PatchInspector::~PatchInspector() = default;

QUndoStack* PatchInspector::undoStack() const { return editor_->undoStack(); }

void PatchInspector::setMaskEdits(const QHash<int, bool>& edits) { editor_->reset(edits); }

void PatchInspector::makeSpots() const {
    if (!spots_ && input_) spots_ = std::make_shared<PatchSpots>(*input_.psf, *input_.plan, input_.detail->patch);
}

void PatchInspector::setPatch(const PatchInput& input, const PatchInput& before, const QString& noBefore) {
    const bool samePlace =
        input_ && input && shareBins({input_.detail->patch, *input_.plan}, {input.detail->patch, *input.plan});
    const bool sameBins = samePlace && input_.detail->patch.spectra == input.detail->patch.spectra &&
                          input_.detail->patch.bins == input.detail->patch.bins;
    const bool sameSpots = sameBins && input_.psf == input.psf &&
                           input_.plan->options.psfTail == input.plan->options.psfTail &&
                           input_.plan->grid.wavelength(input.detail->patch.bins.first) ==
                               input.plan->grid.wavelength(input.detail->patch.bins.first);
    int bin = samePlace ? selectedBin() : -1;
    const int spectrumBefore = bin >= 0 ? model_->spectrum(bin) : -1;
    const double wavelengthBefore = bin >= 0 ? model_->wavelength(bin) : std::numeric_limits<double>::quiet_NaN();
    const auto pixel = samePlace ? images_->selectedPixel() : std::nullopt;
    input_ = input;
    before_ = samePlace && pinned_ ? pinned_ : before;
    noBefore_ = before_ ? QString() : noBefore;
    if (!samePlace) pin_->setChecked(false);
    if (!sameSpots) spots_.reset();
    makeSpots();
    selecting_ = true; // a reset of the model is no choice of the user
    model_->setPatch(input_);
    if (bin >= 0) bin = model_->rowOf(spectrumBefore, wavelengthBefore);
    if (!model_->setBefore(before_)) before_ = {};
    images_->setPatch(input_);
    images_->setBefore(before_.detail);
    images_->setSpots(spots_);
    images_->setSelectedBin(bin);
    selecting_ = false;
    if (pixel)
        pixelChosen(pixel->x(), pixel->y());
    else if (bin >= 0)
        selectBin(model_->spectrum(bin), model_->wavelength(bin));
    else
        strip_->setText(QString());
    updateSurfaces();
    updateSummary();
}

QString PatchInspector::summary() const {
    if (!input_) return tr("No patch");
    const PatchDetail& d = *input_.detail;
    const Patch& p = d.patch;
    const WavelengthGrid& grid = input_.plan->grid;
    QString out = tr("Fibers %1–%2 (with padding %3–%4), %5–%6 Å, pixels x %7–%8, y %9–%10")
                      .arg(p.core.first)
                      .arg(p.core.last - 1)
                      .arg(p.spectra.first)
                      .arg(p.spectra.last - 1)
                      .arg(grid.outputWavelength(p.keepBins.first - grid.pad), 0, 'f', 1)
                      .arg(grid.outputWavelength(p.keepBins.last - 1 - grid.pad), 0, 'f', 1)
                      .arg(d.window.x.first)
                      .arg(d.window.x.last - 1)
                      .arg(d.window.y.first)
                      .arg(d.window.y.last - 1);
    out += tr("; %1; condition of iCov %2")
               .arg(QString::fromStdString(describeStatus(d.report.status)))
               .arg(d.condition, 0, 'g', 3);
    int worst = -1;
    int changed = 0;
    for (int row = 0; before_ && row < model_->rowCount(); ++row) {
        const double change = std::abs(model_->change(row));
        if (model_->isPadding(row) || std::isnan(change)) continue;
        if (change > 0.1) ++changed;
        if (worst < 0 || change > std::abs(model_->change(worst))) worst = row;
    }
    if (worst >= 0)
        out += tr("; against before: %1 bins changed by more than 0.1 σ, at most %2 σ (fiber %3, %4 Å)")
                   .arg(changed)
                   .arg(model_->change(worst), 0, 'f', 2)
                   .arg(model_->spectrum(worst))
                   .arg(model_->wavelength(worst), 0, 'f', 1);
    if (const PatchBinModel::Shared shared = model_->shared(); before_ && shared.before < shared.kept)
        out +=
            tr("; the patch before was cut otherwise and has %1 of these %2 bins").arg(shared.before).arg(shared.kept);
    if (!noBefore_.isEmpty()) out += QStringLiteral("; ") + noBefore_;
    const auto edits = editor_->edits().size();
    if (edits > 0) out += tr("; %1 pixels masked or unmasked by hand").arg(edits);
    return out;
}

void PatchInspector::updateSummary() {
    title_->setText(summary());
    title_->setToolTip(summary());
}

QString PatchInspector::stripText() const { return strip_->text(); }

int PatchInspector::selectedBin() const {
    const QModelIndexList rows = table_->selectionModel()->selectedRows();
    return rows.isEmpty() ? -1 : filter_->mapToSource(rows.constFirst()).row();
}

QString PatchInspector::describeBin(int bin) const {
    if (!input_ || bin < 0 || bin >= model_->rowCount()) return {};
    makeSpots();
    const PatchDetail& d = *input_.detail;
    const auto cell = [&](int column) { return model_->index(bin, column).data().toString(); };
    int pixels = 0;
    int masked = 0;
    double maskedShare = 0;
    double outside = 0;
    std::map<std::uint32_t, double> names;
    for (const PatchSpots::Pixel& pixel : spots_->pixelsOf(bin)) {
        ++pixels;
        if (!d.window.x.contains(pixel.x) || !d.window.y.contains(pixel.y)) {
            outside += pixel.weight;
            continue;
        }
        if (!images_->isMasked(pixel.x, pixel.y)) continue;
        ++masked;
        maskedShare += pixel.weight;
        if (input_.image && !input_.image->mask.empty()) {
            const auto i = static_cast<std::size_t>(pixel.y) * static_cast<std::size_t>(input_.image->nx) +
                           static_cast<std::size_t>(pixel.x);
            names[static_cast<std::uint32_t>(input_.image->mask[i])] += pixel.weight;
        }
    }
    QString out = tr("Fiber %1, %2 Å: flux %3, chi2pix %4. Uses %5 pixels; %6 masked with %7 % of its light")
                      .arg(cell(PatchBinModel::Fiber), cell(PatchBinModel::Wavelength), cell(PatchBinModel::Flux),
                           cell(PatchBinModel::Chi2pix))
                      .arg(pixels)
                      .arg(masked)
                      .arg(100 * maskedShare, 0, 'f', 1);
    QStringList list;
    for (const auto& [mask, share] : names)
        list << tr("%1 %2 %")
                    .arg(mask == 0 ? tr("ivar 0 or by hand") : QString::fromStdString(ccdMaskNames(mask)))
                    .arg(100 * share, 0, 'f', 1);
    if (!list.isEmpty()) out += QStringLiteral(" (%1)").arg(list.join(QStringLiteral(", ")));
    if (outside > 0.001) out += tr("; %1 % lies outside the patch's window").arg(100 * outside, 0, 'f', 1);
    return out + QStringLiteral(".");
}

QString PatchInspector::describePixel(int x, int y) const {
    if (!input_) return {};
    makeSpots();
    const std::vector<PatchSpots::Bin> bins = spots_->binsAt(x, y);
    // What lands on the pixel is the bin's deconvolved flux times its share.
    double total = 0;
    for (const PatchSpots::Bin& bin : bins)
        total += bin.weight * input_.detail->xflux.values()[static_cast<std::size_t>(bin.bin)];
    QStringList list;
    for (const PatchSpots::Bin& bin : bins) {
        if (list.size() == 3) break;
        const double light = bin.weight * input_.detail->xflux.values()[static_cast<std::size_t>(bin.bin)];
        list << tr("fiber %1 %2 Å: %3 e (%4 % of that bin)")
                    .arg(model_->spectrum(bin.bin))
                    .arg(model_->wavelength(bin.bin), 0, 'f', 1)
                    .arg(light, 0, 'f', 1)
                    .arg(100 * bin.weight, 0, 'f', 1);
    }
    QString out = images_->readout(x, y) + QStringLiteral("\n");
    if (bins.empty()) return out + tr("No bin of this patch puts light here.");
    out += tr("Fed by %1 bins with %2 e in all; most by %3")
               .arg(bins.size())
               .arg(total, 0, 'f', 1)
               .arg(list.join(QStringLiteral("; ")));
    return out;
}

void PatchInspector::pixelChosen(int x, int y) {
    if (!input_) return;
    makeSpots();
    std::vector<double> shares(static_cast<std::size_t>(model_->rowCount()), 0.0);
    for (const PatchSpots::Bin& bin : spots_->binsAt(x, y)) shares[static_cast<std::size_t>(bin.bin)] = bin.weight;
    images_->setSelectedPixel(QPoint(x, y));
    const auto most = std::max_element(shares.begin(), shares.end());
    const int row = most != shares.end() && *most > 0 ? static_cast<int>(most - shares.begin()) : -1;
    model_->setAtPixel(std::move(shares));
    if (row >= 0) selectBin(model_->spectrum(row), model_->wavelength(row));
    strip_->setText(describePixel(x, y));
    emit pixelSelected(x, y);
}

void PatchInspector::rowChosen() {
    if (selecting_ || !input_) return;
    const int bin = selectedBin();
    images_->setSelectedBin(bin);
    if (bin < 0) return;
    strip_->setText(describeBin(bin));
    emit binSelected(model_->spectrum(bin), model_->wavelength(bin));
}

void PatchInspector::selectBin(int spectrum, double wavelength) {
    const int row = model_->rowOf(spectrum, wavelength);
    if (row < 0) return;
    selecting_ = true;
    const QModelIndex index = filter_->mapFromSource(model_->index(row, 0));
    if (index.isValid()) {
        table_->selectRow(index.row());
        table_->scrollTo(index, QAbstractItemView::PositionAtCenter);
    } else {
        table_->clearSelection();
    }
    selecting_ = false;
    images_->setSelectedBin(row);
    strip_->setText(describeBin(row));
}

void PatchInspector::setCursor(int /*spectrum*/, double /*wavelength*/, double x, double y) {
    images_->setCursor(x, y);
}

void PatchInspector::setAsinh(bool on) { stretch_->setCurrentIndex(on ? 1 : 0); }

void PatchInspector::growBrush(int by) { brush_->setValue(brush_->value() + by); }

void PatchInspector::showSurfaces(bool on) { showSurfaces_->setChecked(on); }

bool PatchInspector::showsSurfaces() const { return showSurfaces_->isChecked(); }

void PatchInspector::updateSurfaces() {
    if (!showsSurfaces()) return; // made when they are looked at
    std::vector<Surface> list;
    if (input_ && !input_.detail->window.empty()) {
        static const ColourMap heat(ColourMap::Kind::Heat);
        static const ColourMap diverging(ColourMap::Kind::Diverging);
        const PixelWindow& window = input_.detail->window;
        for (const PatchImages::Panel panel : images_->panels()) {
            const bool signedValues = panel != PatchImages::Panel::Data && panel != PatchImages::Panel::Model;
            Surface surface;
            surface.title = PatchImages::title(panel);
            surface.nx = window.x.count();
            surface.ny = window.y.count();
            surface.low = images_->low(panel);
            surface.high = images_->high(panel);
            for (int y = window.y.first; y < window.y.last; ++y)
                for (int x = window.x.first; x < window.x.last; ++x) {
                    const bool left =
                        (images_->isMasked(x, y) && panel != PatchImages::Panel::Model) ||
                        (signedValues && !images_->isHeld(x, y)); // a wall of others' light would hide all else
                    const double v = left ? std::numeric_limits<double>::quiet_NaN() : images_->value(panel, x, y);
                    surface.heights.push_back(static_cast<float>(v));
                    surface.colours.push_back((signedValues ? diverging : heat).colour(v, surface.low, surface.high));
                }
            list.push_back(std::move(surface));
        }
    }
    surfaces_->setSurfaces(std::move(list));
}

QString PatchInspector::exportTo(const QString& path) {
    if (!input_) return tr("%1: there is no patch to write").arg(path);
    const QString ending = path.section(QLatin1Char('.'), -1).toLower();
    if (ending != QStringLiteral("csv") && ending != QStringLiteral("png") && ending != QStringLiteral("pdf"))
        return tr("%1: ends in .%2; .png, .pdf or .csv would be right").arg(path, ending);
    QSaveFile file(path);
    if (!file.open(QIODevice::WriteOnly)) return tr("%1: cannot be written: %2").arg(path, file.errorString());
    if (ending == QStringLiteral("csv")) {
        QString text;
        for (int column = 0; column < PatchBinModel::AtPixel; ++column)
            text += (column > 0 ? QStringLiteral(",") : QString()) +
                    model_->headerData(column, Qt::Horizontal, Qt::DisplayRole).toString();
        text += QLatin1Char('\n');
        for (int row = 0; row < model_->rowCount(); ++row) {
            for (int column = 0; column < PatchBinModel::AtPixel; ++column) {
                if (column > 0) text += QLatin1Char(',');
                const QModelIndex index = model_->index(row, column);
                if (column == PatchBinModel::Status) {
                    text += QStringLiteral("\"%1\"").arg(index.data().toString());
                    continue;
                }
                const double value = index.data(PatchBinModel::sortRole).toDouble();
                if (std::isfinite(value)) text += QString::number(value, 'g', 10);
            }
            text += QLatin1Char('\n');
        }
        file.write(text.toUtf8());
    } else {
        QPixmap picture = pictures_->grab();
        if (ending == QStringLiteral("png")) {
            if (!picture.save(&file, "PNG")) return tr("%1: cannot be written: %2").arg(path, file.errorString());
        } else {
            QPdfWriter writer(&file);
            writer.setTitle(summary());
            writer.setPageSize(QPageSize(QPageSize::A4));
            writer.setPageOrientation(QPageLayout::Landscape);
            QPainter painter(&writer);
            const double scale = std::min(writer.width() / static_cast<double>(picture.width()),
                                          0.9 * writer.height() / static_cast<double>(picture.height()));
            painter.drawText(QRectF(0, 0, writer.width(), 0.08 * writer.height()), Qt::AlignLeft | Qt::TextWordWrap,
                             summary());
            painter.drawPixmap(QRectF(0, 0.1 * writer.height(), picture.width() * scale, picture.height() * scale),
                               picture, QRectF(picture.rect()));
        }
    }
    if (!file.commit()) return tr("%1: cannot be written: %2").arg(path, file.errorString());
    return {};
}

} // namespace patchlight::widgets
