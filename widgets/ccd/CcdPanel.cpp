#include "widgets/ccd/CcdPanel.h"

#include "core/analysis/MaskNames.h"
#include "core/image/CcdImage.h"
#include "widgets/ccd/ColorMap.h"
#include "widgets/control/Document.h"

#include <QCheckBox>
#include <QComboBox>
#include <QDoubleValidator>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QPainter>
#include <QSignalBlocker>
#include <QSlider>
#include <QToolBar>
#include <QVBoxLayout>

#include <cmath>

namespace patchlight::widgets {

namespace {

QString pixelText(double value) {
    if (std::isnan(value)) return QStringLiteral("NaN");
    return QString::number(value, 'g', 6);
}

/// A label in front of its control, in one piece, so that both wrap together.
QWidget* labelled(const QString& text, QWidget* control, QWidget* parent) {
    auto* box = new QWidget(parent);
    box->setSizePolicy(QSizePolicy::Maximum, QSizePolicy::Preferred);
    auto* layout = new QHBoxLayout(box);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(4);
    auto* label = new QLabel(text, box);
    label->setBuddy(control);
    layout->addWidget(label);
    layout->addWidget(control);
    return box;
}

} // namespace

// --- colour bar -----------------------------------------------------------------------------------------------------------------

ColorBar::ColorBar(CcdImageView& view, QWidget* parent) : QWidget(parent), view_(view) {
    setAccessibleName(tr("Colour bar"));
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Fixed);
    const auto redraw = [this] { update(); };
    connect(&view_, &CcdImageView::layerChanged, this, redraw);
    connect(&view_, &CcdImageView::settingsChanged, this, redraw);
}

void ColorBar::paintEvent(QPaintEvent*) {
    QPainter painter(this);
    if (!view_.layers().problem(view_.layer()).isEmpty() || view_.layer() == Layer::Mask) return;
    const ColorTable& colors = view_.colors();
    const ValueRange range = view_.settings(view_.layer()).range;
    const QFontMetrics metrics(font());
    const int textHeight = metrics.height();
    const QString unit = layerUnit(view_.layer());
    const int unitWidth = metrics.horizontalAdvance(unit) + 12;
    const QRect box(0, 2, width() - unitWidth, height() - textHeight - 7);
    for (int x = 0; x < box.width(); ++x) {
        const double value = range.low + (range.high - range.low) * (x + 0.5) / box.width();
        painter.fillRect(box.left() + x, box.top(), 1, box.height(), QColor(colors.color(static_cast<float>(value))));
    }
    painter.setPen(palette().color(QPalette::Mid));
    painter.drawRect(box.adjusted(0, 0, -1, -1));
    painter.setPen(palette().color(QPalette::WindowText));
    // Ticks at round values.
    const double least = (range.high - range.low) * (metrics.horizontalAdvance(QStringLiteral("-0000.00")) + 16) /
                         std::max(1, box.width());
    if (least > 0 && std::isfinite(least)) {
        const double power = std::pow(10.0, std::floor(std::log10(least)));
        double step = 10 * power;
        for (const double factor : {1.0, 2.0, 5.0})
            if (factor * power >= least) {
                step = factor * power;
                break;
            }
        for (double value = std::ceil(range.low / step) * step; value <= range.high + 1e-9 * step; value += step) {
            const int x =
                box.left() + static_cast<int>((value - range.low) / (range.high - range.low) * (box.width() - 1));
            painter.drawLine(x, box.bottom(), x, box.bottom() + 3);
            const QString text = QString::number(std::abs(value) < 1e-9 * step ? 0.0 : value, 'g', 5);
            const int w = metrics.horizontalAdvance(text);
            painter.drawText(std::clamp(x - w / 2, 0, std::max(0, box.right() - w)),
                             box.bottom() + 3 + metrics.ascent(), text);
        }
    }
    painter.drawText(QRect(box.right() + 6, box.top(), unitWidth, box.height()), Qt::AlignLeft | Qt::AlignVCenter,
                     unit);
}

// --- readout --------------------------------------------------------------------------------------------------------------------

ReadoutStrip::ReadoutStrip(Document& document, CcdImageView& view, QWidget* parent)
    : QWidget(parent), document_(document), view_(view) {
    setAccessibleName(tr("Readout"));
    auto* rows = new QVBoxLayout(this);
    rows->setContentsMargins(6, 2, 6, 2);
    rows->setSpacing(1);
    QHBoxLayout* layout = nullptr;
    const struct {
        const char* id;
        QString name;
        const char* widest;
        QString help;
    } columns[] = {
        {"x", tr("x"), "4000.0", tr("CCD column, zero-based: the centre of the lower-left pixel is 0")},
        {"y", tr("y"), "4000.0", tr("CCD row, zero-based: the centre of the lower-left pixel is 0")},
        {"value", tr("value"), "-0.000123456", tr("value of the layer shown")},
        {"ivar", tr("ivar"), "0.000123456", tr("inverse variance of the pixel, electrons\u207b\u00b2")},
        {"mask", tr("mask"), "COSMIC|SATURATED", tr("mask bits of the pixel")},
        {"fiber", tr("fiber"), "4999 (499)",
         tr("spectrum with the nearest trace, zero-based; in brackets the FIBERMAP's number where that differs")},
        {"wavelength", tr("wavelength"), "10000.00 \u00c5",
         tr("wavelength at which the trace crosses this row, vacuum")},
        {"patch", tr("patch"), "bundle 10, spectra 250-254, 6461.0-6500.2 \u00c5",
         tr("patch that extracts this place")},
    };
    for (const auto& column : columns) {
        // Two rows: the pixel, and what is extracted from it.
        if (const QLatin1String id(column.id); id == QLatin1String("x") || id == QLatin1String("fiber")) {
            if (layout) layout->addStretch(1);
            layout = new QHBoxLayout;
            layout->setSpacing(8);
            rows->addLayout(layout);
        }
        auto* name = new QLabel(column.name, this);
        name->setForegroundRole(QPalette::PlaceholderText);
        auto* value = new QLabel(this);
        value->setAccessibleName(column.name);
        value->setToolTip(column.help);
        name->setToolTip(column.help);
        value->setMinimumWidth(value->fontMetrics().horizontalAdvance(QString::fromUtf8(column.widest)) + 4);
        value->setTextInteractionFlags(Qt::TextSelectableByMouse);
        layout->addWidget(name);
        layout->addWidget(value);
        fields_.append({QString::fromLatin1(column.id), value});
    }
    layout->addStretch(1);
    // The strip never makes the window wider than the screen.
    setSizePolicy(QSizePolicy::Ignored, QSizePolicy::Fixed);
    const auto changed = [this] { refresh(); };
    connect(&document_, &Document::hoverChanged, this, changed);
    connect(&document_, &Document::cursorChanged, this, changed);
    connect(&document_, &Document::imageChanged, this, changed);
    connect(&document_, &Document::modelChanged, this, changed);
    connect(&document_, &Document::planChanged, this, changed);
    connect(&view_, &CcdImageView::layerChanged, this, changed);
    refresh();
}

QString ReadoutStrip::text(const QString& field) const {
    for (const auto& [id, label] : fields_)
        if (id == field) return label->text();
    return {};
}

void ReadoutStrip::refresh() {
    const Cursor& at = document_.hover().hasPixel() ? document_.hover() : document_.cursor();
    const CcdImage* image = document_.image().get();
    const auto set = [this](const char* id, const QString& text) {
        for (const auto& [field, label] : fields_)
            if (field == QLatin1String(id) && label->text() != text) label->setText(text);
    };
    const bool on =
        image && at.hasPixel() && at.x >= -0.5 && at.y >= -0.5 && at.x < image->nx - 0.5 && at.y < image->ny - 0.5;
    const QString none = QStringLiteral("\u2013");
    set("x", at.hasPixel() ? QString::number(at.x, 'f', 1) : none);
    set("y", at.hasPixel() ? QString::number(at.y, 'f', 1) : none);
    if (on) {
        const int x = static_cast<int>(std::lround(at.x));
        const int y = static_cast<int>(std::lround(at.y));
        set("value", pixelText(view_.layers().value(view_.layer(), x, y)));
        set("ivar", pixelText(view_.layers().value(Layer::Ivar, x, y)));
        const std::uint32_t mask = view_.layers().maskBits(x, y);
        const bool edited = document_.maskEdits().contains(y * image->nx + x);
        const QString names = mask == 0 ? none : QString::fromStdString(ccdMaskNames(mask));
        set("mask",
            edited ? tr("%1 (by hand: %2)")
                         .arg(names, document_.maskEdits().value(y * image->nx + x) ? tr("masked") : tr("unmasked"))
                   : names);
    } else {
        for (const char* id : {"value", "ivar", "mask"}) set(id, none);
    }
    if (at.hasBin()) {
        QString fiber = QString::number(at.spectrum);
        if (image && image->fibermap && image->fibermap->hasColumn("FIBER")) {
            const std::vector<std::int64_t> fibers = image->fibermap->integers("FIBER");
            const auto row = static_cast<std::size_t>(at.spectrum);
            if (row < fibers.size() && fibers[row] != at.spectrum) fiber += QStringLiteral(" (%1)").arg(fibers[row]);
        }
        set("fiber", fiber);
        set("wavelength", QStringLiteral("%1 \u00c5").arg(at.wavelength, 0, 'f', 2));
        const auto patch = document_.patchAt(at);
        set("patch", patch ? document_.describePatch(*patch) : tr("none here"));
    } else {
        set("fiber", none);
        set("wavelength", none);
        set("patch", none);
    }
}

// --- panel ----------------------------------------------------------------------------------------------------------------------

CcdPanel::CcdPanel(Document& document, QWidget* parent)
    : QWidget(parent), document_(document), view_(new CcdImageView(document, this)),
      readout_(new ReadoutStrip(document, *view_, this)), bar_(new ColorBar(*view_, this)), layer_(new QComboBox(this)),
      cuts_(new QComboBox(this)), low_(new QLineEdit(this)), high_(new QLineEdit(this)), scaling_(new QComboBox(this)),
      map_(new QComboBox(this)), invert_(new QCheckBox(tr("invert"), this)), fade_(new QSlider(Qt::Horizontal, this)),
      fadeLayer_(new QComboBox(this)) {
    setObjectName(QStringLiteral("CcdPanel"));
    for (int i = 0; i < layerCount; ++i) {
        const auto layer = static_cast<Layer>(i);
        layer_->addItem(layerName(layer));
        if (layer != Layer::Mask) fadeLayer_->addItem(layerName(layer), i);
    }
    for (const Cuts cuts : {Cuts::Zscale, Cuts::MinMax, Cuts::Percent90, Cuts::Percent95, Cuts::Percent98,
                            Cuts::Percent99, Cuts::Percent995, Cuts::Fixed, Cuts::Manual})
        cuts_->addItem(cutsName(cuts), static_cast<int>(cuts));
    for (const Scaling scaling : {Scaling::Linear, Scaling::Log, Scaling::Asinh, Scaling::Sqrt, Scaling::Equalize})
        scaling_->addItem(scalingName(scaling), static_cast<int>(scaling));
    for (const ColorMap& map : colorMaps()) map_->addItem(map.name, map.id);
    layer_->setAccessibleName(tr("Layer"));
    layer_->setToolTip(tr("What is shown; Tab and Shift+Tab go through the layers"));
    cuts_->setAccessibleName(tr("Cuts"));
    cuts_->setToolTip(tr("Which values the colours cover"));
    scaling_->setAccessibleName(tr("Scaling"));
    scaling_->setToolTip(tr("How values inside the cuts become colours"));
    map_->setAccessibleName(tr("Colour map"));
    map_->setToolTip(tr("Colours; all read the same to colour-blind eyes"));
    fade_->setAccessibleName(tr("Fade"));
    fade_->setToolTip(tr("Fade from the layer shown to another one"));
    fadeLayer_->setAccessibleName(tr("Fade to"));
    for (QLineEdit* edit : {low_, high_}) {
        edit->setValidator(new QDoubleValidator(edit));
        edit->setFixedWidth(edit->fontMetrics().horizontalAdvance(QStringLiteral("-0000.00")) + 14);
    }
    low_->setAccessibleName(tr("Lowest value"));
    high_->setAccessibleName(tr("Highest value"));
    fade_->setRange(0, 100);
    fade_->setMinimumWidth(60);
    fade_->setMaximumWidth(110);
    for (QComboBox* box : {layer_, cuts_, scaling_, map_, fadeLayer_}) box->setFocusPolicy(Qt::ClickFocus);
    map_->setSizeAdjustPolicy(QComboBox::AdjustToMinimumContentsLengthWithIcon);
    map_->setMinimumContentsLength(8);

    // A tool bar, so that what does not fit into a narrow window is behind its arrow.
    auto* controls = new QToolBar(this);
    controls->setMovable(false);
    controls->setAccessibleName(tr("Controls of the CCD view"));
    controls->layout()->setSpacing(6);
    controls->addWidget(labelled(tr("Layer"), layer_, controls));
    controls->addWidget(labelled(tr("Cuts"), cuts_, controls));
    controls->addWidget(low_);
    controls->addWidget(labelled(tr("to"), high_, controls));
    controls->addWidget(scaling_);
    controls->addWidget(map_);
    controls->addWidget(invert_);

    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->setSpacing(0);
    layout->addWidget(controls);
    layout->addWidget(view_, 1);
    auto* lower = new QHBoxLayout;
    lower->setContentsMargins(6, 2, 6, 0);
    lower->setSpacing(8);
    lower->addWidget(bar_, 1);
    lower->addWidget(labelled(tr("Fade to"), fadeLayer_, this));
    lower->addWidget(fade_);
    layout->addLayout(lower);
    layout->addWidget(readout_);

    connect(layer_, &QComboBox::activated, this, [this](int i) {
        view_->setLayer(static_cast<Layer>(i));
        view_->setFocus();
    });
    connect(cuts_, &QComboBox::activated, this, &CcdPanel::apply);
    connect(scaling_, &QComboBox::activated, this, &CcdPanel::apply);
    connect(map_, &QComboBox::activated, this, &CcdPanel::apply);
    connect(invert_, &QCheckBox::toggled, this, &CcdPanel::apply);
    for (QLineEdit* edit : {low_, high_})
        connect(edit, &QLineEdit::editingFinished, this, [this, edit] {
            if (!edit->isModified()) return;
            edit->setModified(false);
            cuts_->setCurrentIndex(cuts_->findData(static_cast<int>(Cuts::Manual)));
            apply();
        });
    connect(fade_, &QSlider::valueChanged, this, [this](int value) {
        if (!refreshing_) view_->setFade(value / 100.0);
    });
    connect(fadeLayer_, &QComboBox::activated, this,
            [this] { view_->setFadeLayer(static_cast<Layer>(fadeLayer_->currentData().toInt())); });
    connect(view_, &CcdImageView::layerChanged, this, &CcdPanel::refresh);
    connect(view_, &CcdImageView::settingsChanged, this, &CcdPanel::refresh);
    refresh();
}

void CcdPanel::refresh() {
    refreshing_ = true;
    const DisplaySettings& settings = view_->settings(view_->layer());
    layer_->setCurrentIndex(static_cast<int>(view_->layer()));
    cuts_->setCurrentIndex(cuts_->findData(static_cast<int>(settings.cuts)));
    if (!low_->hasFocus()) low_->setText(QString::number(settings.range.low, 'g', 4));
    if (!high_->hasFocus()) high_->setText(QString::number(settings.range.high, 'g', 4));
    low_->setCursorPosition(0);
    high_->setCursorPosition(0);
    scaling_->setCurrentIndex(scaling_->findData(static_cast<int>(settings.scaling)));
    map_->setCurrentIndex(map_->findData(settings.map));
    invert_->setChecked(settings.invert);
    fade_->setValue(static_cast<int>(std::lround(100.0 * view_->fade())));
    fadeLayer_->setCurrentIndex(fadeLayer_->findData(static_cast<int>(view_->fadeLayer())));
    const bool colored = view_->layer() != Layer::Mask;
    for (QWidget* control : std::initializer_list<QWidget*>{cuts_, low_, high_, scaling_, map_, invert_})
        control->setEnabled(colored);
    refreshing_ = false;
}

void CcdPanel::apply() {
    if (refreshing_) return;
    DisplaySettings settings = view_->settings(view_->layer());
    settings.cuts = static_cast<Cuts>(cuts_->currentData().toInt());
    if (settings.cuts == Cuts::Manual) {
        bool lowOk = false;
        bool highOk = false;
        const double low = low_->text().toDouble(&lowOk);
        const double high = high_->text().toDouble(&highOk);
        if (lowOk && highOk && high > low) settings.range = {low, high};
    }
    settings.scaling = static_cast<Scaling>(scaling_->currentData().toInt());
    settings.map = map_->currentData().toString();
    settings.invert = invert_->isChecked();
    view_->setSettings(view_->layer(), settings);
}

} // namespace patchlight::widgets
