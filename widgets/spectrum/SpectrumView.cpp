#include "widgets/spectrum/SpectrumView.h"

#include "core/analysis/MaskNames.h"
#include "core/frame/SpecMask.h"
#include "widgets/plot/Colours.h"

#include <QAction>
#include <QComboBox>
#include <QDoubleSpinBox>
#include <QFileDialog>
#include <QLabel>
#include <QMenu>
#include <QMessageBox>
#include <QPageLayout>
#include <QPageSize>
#include <QPainter>
#include <QPdfWriter>
#include <QSaveFile>
#include <QSpinBox>
#include <QTextStream>
#include <QToolBar>
#include <QToolButton>
#include <QVBoxLayout>

#include <cmath>
#include <utility>

namespace patchlight::widgets {

SpectrumView::SpectrumView(QWidget* parent)
    : QWidget(parent), plot_(new SpectrumPlot(this)), bar_(new QToolBar(tr("Spectrum"), this)) {
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);

    QToolBar* const bar = bar_;
    bar->setToolButtonStyle(Qt::ToolButtonTextOnly);
    back_ = bar->addAction(QStringLiteral("◀"), plot_, &SpectrumPlot::goBack);
    back_->setToolTip(tr("View before (Alt+Left)"));
    forward_ = bar->addAction(QStringLiteral("▶"), plot_, &SpectrumPlot::goForward);
    forward_->setToolTip(tr("View after (Alt+Right)"));
    bar->addAction(tr("All"), plot_, &SpectrumPlot::showAll)->setToolTip(tr("All wavelengths, all fluxes (Home)"));
    bar->addSeparator();
    addToggle(bar, tr("±σ"), tr("Band of plus and minus one sigma"), &SpectrumSettings::errorBand);
    addToggle(bar, tr("xflux"), tr("Deconvolved flux"), &SpectrumSettings::xflux);
    addToggle(bar, tr("Overlays"), tr("Second frame, truth, previous run"), &SpectrumSettings::overlays);
    addToggle(bar, tr("Residual"), tr("Difference in sigma, with the histogram of pulls"), &SpectrumSettings::residual);
    overlay_ = new QComboBox(bar);
    overlay_->setToolTip(tr("What the residual is taken against"));
    overlay_->setAccessibleName(tr("Residual against"));
    overlay_->setSizeAdjustPolicy(QComboBox::AdjustToContents);
    bar->addWidget(overlay_);
    addToggle(bar, tr("Seams"), tr("Where one patch ends and the next begins"), &SpectrumSettings::seams);
    auto* masks = new QToolButton(bar);
    masks->setText(tr("Masks"));
    masks->setToolTip(tr("MASK bits that make a bin faint and shaded"));
    masks->setPopupMode(QToolButton::InstantPopup);
    maskMenu_ = new QMenu(masks);
    masks->setMenu(maskMenu_);
    bar->addWidget(masks);
    bar->addSeparator();
    addToggle(bar, tr("Sky"), tr("Lines of the night sky (vacuum)"), &SpectrumSettings::skyLines);
    addToggle(bar, tr("Galaxy"), tr("Lines of galaxies (vacuum), at redshift z"), &SpectrumSettings::galaxyLines);
    redshift_ = new QDoubleSpinBox(bar);
    redshift_->setPrefix(QStringLiteral("z "));
    redshift_->setDecimals(4);
    redshift_->setRange(-0.01, 8.0);
    redshift_->setSingleStep(0.001);
    redshift_->setToolTip(tr("Redshift of the galaxy lines"));
    redshift_->setAccessibleName(tr("Redshift"));
    bar->addWidget(redshift_);
    bar->addSeparator();
    smoothing_ = new QSpinBox(bar);
    smoothing_->setPrefix(tr("smooth "));
    smoothing_->setRange(1, 51);
    smoothing_->setSingleStep(2);
    smoothing_->setToolTip(tr("Average over so many bins, for display only (s)"));
    smoothing_->setAccessibleName(tr("Smoothing, bins"));
    bar->addWidget(smoothing_);
    xUnit_ = new QComboBox(bar);
    xUnit_->addItems({QStringLiteral("Å"), QStringLiteral("nm")});
    xUnit_->setAccessibleName(tr("Unit of wavelength"));
    bar->addWidget(xUnit_);
    yUnit_ = new QComboBox(bar);
    yUnit_->addItems({tr("per Å"), tr("per bin")});
    yUnit_->setAccessibleName(tr("Unit of flux"));
    bar->addWidget(yUnit_);
    QAction* save = bar->addAction(tr("Export"), this, &SpectrumView::askForExport);
    save->setToolTip(tr("Write the numbers (CSV) or the picture (PNG, PDF)"));
    layout->addWidget(bar);
    layout->addWidget(plot_, 1);
    strip_ = new QLabel(this);
    strip_->setTextFormat(Qt::PlainText);
    strip_->setTextInteractionFlags(Qt::TextSelectableByMouse);
    strip_->setContentsMargins(6, 2, 6, 2);
    strip_->setAccessibleName(tr("Values under the cursor"));
    // Long readouts must not make the dock wider.
    strip_->setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Fixed);
    layout->addWidget(strip_);
    setFocusProxy(plot_);

    fillMaskMenu();
    connect(overlay_, &QComboBox::currentIndexChanged, this, [this](int index) {
        if (index < 0 || showing_) return;
        residualAgainst_ = overlay_->itemText(index);
        change([index](SpectrumSettings& s) { s.residualOverlay = index; });
    });
    connect(redshift_, &QDoubleSpinBox::valueChanged, this, [this](double z) {
        change([z](SpectrumSettings& s) {
            s.redshift = z;
            s.galaxyLines = true;
        });
    });
    connect(smoothing_, &QSpinBox::valueChanged, this,
            [this](int bins) { change([bins](SpectrumSettings& s) { s.smoothing = bins | 1; }); });
    connect(xUnit_, &QComboBox::currentIndexChanged, this,
            [this](int index) { change([index](SpectrumSettings& s) { s.nanometres = index == 1; }); });
    connect(yUnit_, &QComboBox::currentIndexChanged, this,
            [this](int index) { change([index](SpectrumSettings& s) { s.perBin = index == 1; }); });
    connect(plot_, &SpectrumPlot::smoothingRequested, this,
            [this](int bins) { change([bins](SpectrumSettings& s) { s.smoothing = bins; }); });
    connect(plot_, &SpectrumPlot::cursorMoved, this, [this](int spectrum, double wavelength) {
        strip_->setText(plot_->readout(spectrum, wavelength));
        emit cursorMoved(spectrum, wavelength);
    });
    connect(plot_, &SpectrumPlot::message, this, [this](const QString& text) { strip_->setText(text); });
    connect(plot_, &SpectrumPlot::binSelected, this, &SpectrumView::binSelected);
    connect(plot_, &SpectrumPlot::fiberStepRequested, this, &SpectrumView::fiberStepRequested);
    connect(plot_, &SpectrumPlot::viewChanged, this, [this] {
        back_->setEnabled(plot_->canGoBack());
        forward_->setEnabled(plot_->canGoForward());
    });
    back_->setEnabled(false);
    forward_->setEnabled(false);
    showSettings();
}

QAction* SpectrumView::addToggle(QToolBar* bar, const QString& text, const QString& tip,
                                 bool SpectrumSettings::*field) {
    QAction* action = bar->addAction(text);
    action->setCheckable(true);
    action->setToolTip(tip);
    toggles_.emplace_back(action, field);
    connect(action, &QAction::toggled, this,
            [this, field](bool on) { change([field, on](SpectrumSettings& s) { s.*field = on; }); });
    return action;
}

QAction* SpectrumView::toggle(bool SpectrumSettings::*field) const {
    for (const auto& [action, own] : toggles_)
        if (own == field) return action;
    return nullptr;
}

template <class Change> void SpectrumView::change(Change&& change) {
    if (showing_) return;
    SpectrumSettings settings = plot_->settings();
    change(settings);
    setSettings(settings);
}

void SpectrumView::setSettings(const SpectrumSettings& settings) {
    if (settings == plot_->settings()) return;
    plot_->setSettings(settings);
    showSettings();
    emit settingsChanged();
}

void SpectrumView::showSettings() {
    showing_ = true;
    const SpectrumSettings& s = plot_->settings();
    for (const auto& [action, field] : toggles_) action->setChecked(s.*field);
    redshift_->setValue(s.redshift);
    smoothing_->setValue(s.smoothing);
    xUnit_->setCurrentIndex(s.nanometres ? 1 : 0);
    yUnit_->setCurrentIndex(s.perBin ? 1 : 0);
    overlay_->setCurrentIndex(std::min(s.residualOverlay, overlay_->count() - 1));
    for (QAction* action : maskMenu_->actions())
        if (action->isCheckable()) action->setChecked((s.shadedBits >> action->data().toInt() & 1U) != 0);
    showing_ = false;
}

void SpectrumView::fillMaskMenu() {
    for (int bit = 0; bit < 32; ++bit) {
        const QString name = QString::fromStdString(specMaskBitName(bit));
        if (name.startsWith(QStringLiteral("bit "))) continue;
        QAction* action = maskMenu_->addAction(name);
        action->setCheckable(true);
        action->setData(bit);
        connect(action, &QAction::toggled, this, [this, bit](bool on) {
            change([bit, on](SpectrumSettings& s) {
                s.shadedBits = on ? s.shadedBits | 1U << bit : s.shadedBits & ~(1U << bit);
            });
        });
    }
    maskMenu_->addSeparator();
    connect(maskMenu_->addAction(tr("All")), &QAction::triggered, this,
            [this] { change([](SpectrumSettings& s) { s.shadedBits = 0xFFFFFFFF; }); });
    connect(maskMenu_->addAction(tr("None")), &QAction::triggered, this,
            [this] { change([](SpectrumSettings& s) { s.shadedBits = 0; }); });
}

void SpectrumView::fillOverlays() {
    showing_ = true;
    overlay_->clear();
    for (const SpectrumOverlay& overlay : plot_->data().overlays) overlay_->addItem(overlay.name);
    overlay_->setEnabled(overlay_->count() > 0);
    if (overlay_->count() == 0) overlay_->addItem(tr("nothing to compare"));
    showing_ = false;
    // What was chosen by hand stays chosen, wherever it now stands in the list.
    SpectrumSettings settings = plot_->settings();
    settings.residualOverlay = std::max(0, residualAgainst_.isEmpty() ? 0 : overlay_->findText(residualAgainst_));
    plot_->setSettings(settings);
    showSettings();
}

void SpectrumView::nextOverlay() {
    if (overlay_->isEnabled()) overlay_->setCurrentIndex((overlay_->currentIndex() + 1) % overlay_->count());
}

void SpectrumView::setData(SpectrumData data) {
    plot_->setData(std::move(data));
    fillOverlays();
}

void SpectrumView::setCursor(int spectrum, double wavelength) {
    plot_->setCursor(spectrum, wavelength);
    if (spectrum >= 0 && std::isfinite(wavelength) && !plot_->data().spectra.empty())
        strip_->setText(plot_->readout(spectrum, wavelength));
}

QString SpectrumView::stripText() const { return strip_->text(); }

QString SpectrumView::csv() const {
    QString out;
    QTextStream stream(&out);
    stream.setRealNumberNotation(QTextStream::SmartNotation);
    stream.setRealNumberPrecision(10);
    const SpectrumData& data = plot_->data();
    stream << "# " << data.source << "\n"
           << "# wavelength: Angstrom, vacuum; flux, sigma, xflux: electron/Angstrom; mask: bits of the frame's MASK; "
              "residual: (flux - other)/sigma\n"
           << "spectrum,wavelength,flux,sigma,xflux,mask,padding";
    for (const SpectrumOverlay& overlay : data.overlays) {
        QString name = overlay.name;
        name.replace(QLatin1Char('"'), QLatin1Char('\''));
        stream << ",\"flux of " << name << "\",\"residual against " << name << "\"";
    }
    stream << "\n";
    const auto field = [&](double value) {
        stream << ",";
        if (std::isfinite(value)) stream << value;
    };
    for (const SpectrumCurve& curve : data.spectra) {
        std::vector<std::vector<double>> pulls;
        for (const SpectrumOverlay& overlay : data.overlays) {
            const SpectrumCurve* other = overlay.find(curve.spectrum);
            pulls.push_back(other != nullptr && !other->empty() ? pullsAgainst(curve, *other) : std::vector<double>());
        }
        for (std::size_t i = 0; i < curve.size(); ++i) {
            stream << curve.spectrum;
            field(curve.wavelength[i]);
            field(curve.flux[i]);
            field(curve.sigma(i));
            field(curve.xflux.empty() ? std::nan("") : curve.xflux[i]);
            stream << ",";
            if (!curve.mask.empty()) stream << curve.mask[i];
            stream << "," << (curve.padding.empty() ? 0 : static_cast<int>(curve.padding[i]));
            for (std::size_t o = 0; o < data.overlays.size(); ++o) {
                const SpectrumCurve* other = data.overlays[o].find(curve.spectrum);
                const int at = other != nullptr ? other->binAt(curve.wavelength[i]) : -1;
                field(at >= 0 ? other->flux[static_cast<std::size_t>(at)] : std::nan(""));
                field(pulls[o].empty() ? std::nan("") : pulls[o][i]);
            }
            stream << "\n";
        }
    }
    return out;
}

QString SpectrumView::exportTo(const QString& path) const {
    if (plot_->data().spectra.empty()) return tr("%1: there is no spectrum to write").arg(path);
    const QString ending = path.section(QLatin1Char('.'), -1).toLower();
    if (ending != QStringLiteral("csv") && ending != QStringLiteral("png") && ending != QStringLiteral("pdf"))
        return tr("%1: ends in .%2; .csv, .png or .pdf would be right").arg(path, ending);
    QSaveFile file(path);
    if (!file.open(QIODevice::WriteOnly)) return tr("%1: cannot be written: %2").arg(path, file.errorString());
    if (ending == QStringLiteral("csv")) {
        file.write(csv().toUtf8());
    } else if (ending == QStringLiteral("png")) {
        const double ratio = std::max(2.0, devicePixelRatioF());
        QImage image((QSizeF(plot_->size()) * ratio).toSize(), QImage::Format_RGB32);
        image.setDevicePixelRatio(ratio);
        QPainter painter(&image);
        painter.setFont(plot_->font());
        plot_->paintPlot(painter, plot_->rect(), plotColours(plot_->palette()));
        painter.end();
        if (!image.save(&file, "PNG")) return tr("%1: cannot be written: %2").arg(path, file.errorString());
    } else {
        QPdfWriter writer(&file);
        writer.setTitle(plot_->data().source);
        writer.setPageSize(QPageSize(QPageSize::A4));
        writer.setPageOrientation(QPageLayout::Landscape);
        writer.setResolution(600);
        QPainter painter(&writer);
        // The page as wide as the widget, so that fonts and lines keep their proportions.
        const double scale = writer.width() / static_cast<double>(std::max(1, plot_->width()));
        painter.scale(scale, scale);
        QFont font = plot_->font();
        font.setPixelSize(std::max(1, plot_->fontInfo().pixelSize()));
        painter.setFont(font);
        const double height = std::min<double>(plot_->height(), writer.height() / scale);
        // Paper is white, whatever the window's colours are.
        QPalette paper;
        paper.setColor(QPalette::Base, Qt::white);
        paper.setColor(QPalette::Text, Qt::black);
        plot_->paintPlot(painter, QRectF(0, 0, plot_->width(), height), plotColours(paper));
        painter.end();
    }
    if (!file.commit()) return tr("%1: cannot be written: %2").arg(path, file.errorString());
    return {};
}

void SpectrumView::askForExport() {
    const QString path = QFileDialog::getSaveFileName(this, tr("Export the spectrum"), QStringLiteral("spectrum.csv"),
                                                      tr("Numbers (*.csv);;Picture (*.png);;Page (*.pdf)"));
    if (path.isEmpty()) return;
    const QString error = exportTo(path);
    if (!error.isEmpty())
        QMessageBox::warning(this, tr("Export"), error);
    else
        strip_->setText(tr("wrote %1").arg(path));
}

} // namespace patchlight::widgets
