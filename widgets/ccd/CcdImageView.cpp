#include "widgets/ccd/CcdImageView.h"

#include "core/analysis/MaskNames.h"
#include "core/engine/PatchResult.h"
#include "core/image/CcdImage.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"
#include "widgets/ccd/ColorMap.h"
#include "widgets/control/Document.h"
#include "widgets/control/TraceMap.h"
#include "widgets/plot/Wheel.h"

#include <QDateTime>
#include <QEvent>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QPainterPath>
#include <QWheelEvent>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <utility>

namespace patchlight::widgets {

namespace {

constexpr double minimumZoom = 0.02;
constexpr double maximumZoom = 80.0;
constexpr std::size_t historyLength = 100;
constexpr QRgb saturatedColor = qRgb(255, 0, 170);
constexpr auto saturatedBit = static_cast<std::uint32_t>(CcdMaskBit::Saturated);

// Okabe and Ito's colours, told apart by colour-blind eyes.
const QColor traceColor(86, 180, 233);
const QColor bundleColor(230, 159, 0);
const QColor gridColor(0, 190, 140);
const QColor patchColor(240, 228, 66);
const QColor amplifierColor(213, 94, 0);
const QColor spotColor(230, 140, 190);

QRgb blend(QRgb a, QRgb b, int share) { // share 0 .. 256 of b
    const int rest = 256 - share;
    return qRgb((qRed(a) * rest + qRed(b) * share) >> 8, (qGreen(a) * rest + qGreen(b) * share) >> 8,
                (qBlue(a) * rest + qBlue(b) * share) >> 8);
}

/// Steps 1, 2, 5, 10, 20, ...: the smallest of at least `least`.
double niceStep(double least) {
    const double power = std::pow(10.0, std::floor(std::log10(least)));
    for (const double factor : {1.0, 2.0, 5.0, 10.0})
        if (factor * power >= least * (1 - 1e-9)) return factor * power;
    return 10.0 * power;
}

/// Lines along which a small image has a value: marching squares, one segment a cell side pair. Points are pixel indices.
std::vector<QLineF> contour(const std::vector<double>& values, int nx, int ny, double level) {
    std::vector<QLineF> lines;
    const auto at = [&](int x, int y) {
        return values[static_cast<std::size_t>(y) * static_cast<std::size_t>(nx) + static_cast<std::size_t>(x)];
    };
    for (int y = 0; y + 1 < ny; ++y)
        for (int x = 0; x + 1 < nx; ++x) {
            const double corner[4] = {at(x, y), at(x + 1, y), at(x + 1, y + 1), at(x, y + 1)};
            const QPointF place[4] = {
                {double(x), double(y)}, {x + 1.0, double(y)}, {x + 1.0, y + 1.0}, {double(x), y + 1.0}};
            QPointF crossings[4];
            int count = 0;
            for (int side = 0; side < 4; ++side) {
                const double a = corner[side];
                const double b = corner[(side + 1) % 4];
                if ((a < level) == (b < level)) continue;
                const double t = (level - a) / (b - a);
                crossings[count++] = place[side] + t * (place[(side + 1) % 4] - place[side]);
            }
            for (int i = 0; i + 1 < count; i += 2) lines.emplace_back(crossings[i], crossings[i + 1]);
        }
    return lines;
}

} // namespace

QString overlayName(Overlay overlay) {
    switch (overlay) {
    case Overlay::Traces:
        return CcdImageView::tr("traces");
    case Overlay::Ticks:
        return CcdImageView::tr("wavelengths");
    case Overlay::Bundles:
        return CcdImageView::tr("bundles");
    case Overlay::PatchGrid:
        return CcdImageView::tr("patch grid");
    case Overlay::SelectedPatch:
        return CcdImageView::tr("selected patch");
    case Overlay::MaskBits:
        return CcdImageView::tr("mask bits");
    case Overlay::Amplifiers:
        return CcdImageView::tr("amplifier edges");
    case Overlay::Spot:
        return CcdImageView::tr("PSF spot");
    case Overlay::CursorCross:
        return CcdImageView::tr("cursor");
    case Overlay::Methods:
        return CcdImageView::tr("patches minus seamless");
    }
    return {};
}

QString overlayWord(Overlay overlay) {
    static const char* const words[overlayCount] = {"traces", "ticks",      "bundles", "grid",   "patch",
                                                    "mask",   "amplifiers", "spot",    "cursor", "methods"};
    return QString::fromLatin1(words[static_cast<int>(overlay)]);
}

QColor maskBitColor(int bit) {
    static const std::array<QColor, 10> colors{QColor(213, 94, 0),     QColor(240, 228, 66), QColor(150, 110, 60),
                                               QColor(saturatedColor), QColor(0, 158, 115),  QColor(86, 180, 233),
                                               QColor(0, 114, 178),    QColor(230, 159, 0),  QColor(160, 160, 160),
                                               QColor(204, 121, 167)};
    return bit >= 0 && bit < static_cast<int>(colors.size()) ? colors[static_cast<std::size_t>(bit)]
                                                             : QColor(200, 200, 200);
}

CcdImageView::CcdImageView(Document& document, QWidget* parent)
    : QWidget(parent), document_(document), layers_(document), methods_(document) {
    setObjectName(QStringLiteral("CcdImageView"));
    setAccessibleName(tr("CCD image"));
    setAccessibleDescription(
        tr("The CCD image with traces and patches; arrow keys walk to neighbouring patches, Tab shows the next layer"));
    setFocusPolicy(Qt::StrongFocus);
    setMouseTracking(true);
    setAttribute(Qt::WA_OpaquePaintEvent);
    setCursor(Qt::CrossCursor);

    settings_[shared(Layer::Ivar)].cuts = Cuts::Percent995;
    settings_[shared(Layer::Ivar)].map = QStringLiteral("sea");
    for (const Layer layer : {Layer::Residual, Layer::Pull}) {
        settings_[shared(layer)].cuts = Cuts::Fixed;
        settings_[shared(layer)].map = QStringLiteral("diverging");
        settings_[shared(layer)].range = {-5, 5};
    }
    for (const Overlay overlay :
         {Overlay::Bundles, Overlay::SelectedPatch, Overlay::MaskBits, Overlay::Spot, Overlay::CursorCross})
        overlays_[static_cast<std::size_t>(overlay)] = true;

    const auto redraw = [this] { update(); };
    const auto redrawAll = [this] {
        sceneValid_ = false;
        update();
    };
    connect(&document_, &Document::imageChanged, this, [this] {
        layers_.documentChanged();
        invalidateTables();
        // A CCD of another size is seen whole; reloading keeps the view.
        const QSize size = document_.image() ? QSize(document_.image()->nx, document_.image()->ny) : QSize();
        if (size != ccdSize_) view_ = {};
        ccdSize_ = size;
        update();
    });
    connect(&document_, &Document::modelChanged, this, [this](const QRect& region) {
        layers_.modelChanged(region);
        if (region.isNull()) {
            tableValid_[static_cast<std::size_t>(Layer::Residual)] = false;
            tableValid_[static_cast<std::size_t>(Layer::Pull)] = false;
        } else if (settings(Layer::Residual).cuts == Cuts::Fixed) {
            tableValid_[static_cast<std::size_t>(Layer::Residual)] = false;
        }
        // The file's own layers do not show the model.
        const auto showsModel = [](Layer layer) {
            return layer == Layer::Model || layer == Layer::Residual || layer == Layer::Pull;
        };
        if (!showsModel(layer_) && !(fade_ > 0 && showsModel(fadeLayer_))) return;
        dirty();
        update();
    });
    connect(&document_, &Document::psfChanged, this, redrawAll);
    connect(&document_, &Document::planChanged, this, redrawAll);
    connect(&document_, &Document::maskEditsChanged, this, redraw);
    connect(&document_, &Document::cursorChanged, this, redraw);
    connect(&document_, &Document::hoverChanged, this, redraw);
    connect(&document_, &Document::patchSelected, this, redraw);
    connect(&document_, &Document::patchRunChanged, this, redraw);
    const auto redrawMethods = [this] {
        methods_.documentChanged();
        if (!overlay(Overlay::Methods)) return;
        sceneValid_ = false;
        update();
    };
    connect(&document_, &Document::frameChanged, this, redrawMethods);
    connect(&document_, &Document::secondFrameChanged, this, redrawMethods);
    connect(&document_, &Document::patchRunChanged, this, redrawMethods);
    connect(&document_, &Document::psfChanged, this, redrawMethods);
    connect(&document_, &Document::planChanged, this, redrawMethods);
}

CcdImageView::~CcdImageView() = default;

void CcdImageView::setLayer(Layer layer) {
    if (layer_ == layer) return;
    layer_ = layer;
    dirty();
    update();
    Q_EMIT layerChanged();
}

void CcdImageView::cycleLayer(int direction) {
    int next = static_cast<int>(layer_);
    for (int i = 0; i < layerCount; ++i) {
        next = (next + direction + layerCount) % layerCount;
        if (layers_.problem(static_cast<Layer>(next)).isEmpty()) break;
    }
    setLayer(static_cast<Layer>(next));
}

void CcdImageView::setFade(double share) {
    share = std::clamp(share, 0.0, 1.0);
    if (share == fade_) return;
    fade_ = share;
    dirty();
    update();
    Q_EMIT layerChanged();
}

void CcdImageView::setFadeLayer(Layer layer) {
    if (layer == fadeLayer_) return;
    fadeLayer_ = layer;
    dirty();
    update();
    Q_EMIT layerChanged();
}

void CcdImageView::setSettings(Layer layer, const DisplaySettings& settings) {
    DisplaySettings& mine = settings_[shared(layer)];
    if (mine == settings) return;
    mine = settings;
    for (int i = 0; i < layerCount; ++i)
        if (shared(static_cast<Layer>(i)) == shared(layer)) tableValid_[static_cast<std::size_t>(i)] = false;
    dirty();
    update();
    Q_EMIT settingsChanged();
}

void CcdImageView::resetContrast() {
    DisplaySettings settings = this->settings(layer_);
    settings.contrast = 1.0;
    settings.bias = 0.5;
    setSettings(layer_, settings);
}

void CcdImageView::dirty() {
    canvasValid_ = false;
    sceneValid_ = false;
}

void CcdImageView::invalidateTables() {
    tableValid_.fill(false);
    dirty();
}

/// Finds the range of values where the cuts ask for one.
void CcdImageView::updateRange(Layer layer) {
    DisplaySettings& settings = settings_[shared(layer)];
    if (settings.cuts == Cuts::Manual) return;
    // Image and model have one range: the image's.
    const Layer of = layer == Layer::Model ? Layer::Image : layer;
    if (settings.cuts == Cuts::Fixed) {
        double sigma = 1.0;
        if (layer != Layer::Pull) {
            // Half the distance between the 16th and 84th percentile: one sigma of a normal distribution.
            const std::vector<float>& sample = layers_.sample(of);
            if (sample.size() > 10)
                sigma = 0.5 * (sample[static_cast<std::size_t>(0.8413 * static_cast<double>(sample.size()))] -
                               sample[static_cast<std::size_t>(0.1587 * static_cast<double>(sample.size()))]);
            else if (const CcdImage* image = document_.image().get(); image && !layers_.sample(Layer::Ivar).empty())
                sigma = 1.0 / std::sqrt(std::max(1e-12F,
                                                 layers_.sample(Layer::Ivar)[layers_.sample(Layer::Ivar).size() / 2]));
        }
        settings.range = {-5.0 * sigma, 5.0 * sigma};
        return;
    }
    const Pyramid<float>& pixels = layers_.pixels(of);
    if (pixels.empty()) return;
    settings.range =
        settings.cuts == Cuts::MinMax
            ? minMax(pixels.data(), static_cast<std::size_t>(pixels.nx()) * static_cast<std::size_t>(pixels.ny()))
            : findRange(layers_.sample(of), settings.cuts);
}

const ColorTable& CcdImageView::table(Layer layer) {
    const auto i = static_cast<std::size_t>(layer);
    if (!tableValid_[i]) {
        const ValueRange before = settings(layer).range;
        updateRange(layer);
        tables_[i] = ColorTable(settings(layer), layers_.sample(layer == Layer::Model ? Layer::Image : layer));
        tableValid_[i] = true;
        if (!(before == settings(layer).range))
            QMetaObject::invokeMethod(this, &CcdImageView::settingsChanged, Qt::QueuedConnection);
    }
    return tables_[i];
}

// --- view -----------------------------------------------------------------------------------------------------------------------

double CcdImageView::fitZoom() const {
    const CcdImage* image = document_.image().get();
    if (!image || width() < 2 || height() < 2) return 1.0;
    return std::clamp(std::min(static_cast<double>(width()) / image->nx, static_cast<double>(height()) / image->ny),
                      minimumZoom, maximumZoom);
}

QPointF CcdImageView::toWidget(double x, double y) const {
    return {0.5 * width() + (x - view_.centerX) * view_.zoom, 0.5 * height() - (y - view_.centerY) * view_.zoom};
}

QPointF CcdImageView::toCcd(const QPointF& position) const {
    const double zoom = view_.zoom > 0 ? view_.zoom : 1.0;
    return {view_.centerX + (position.x() - 0.5 * width()) / zoom,
            view_.centerY - (position.y() - 0.5 * height()) / zoom};
}

QRectF CcdImageView::visibleCcd() const {
    const QPointF lowerLeft = toCcd(QPointF(0, height()));
    const QPointF upperRight = toCcd(QPointF(width(), 0));
    return QRectF(lowerLeft, upperRight);
}

/// Keeps some of the CCD on screen, so that no pan or zoom ends in nothing.
void CcdImageView::clampView() {
    const CcdImage* image = document_.image().get();
    if (!image) return;
    view_.zoom = std::clamp(view_.zoom, std::min(minimumZoom, fitZoom()), maximumZoom);
    view_.centerX = std::clamp(view_.centerX, -0.5, image->nx - 0.5);
    view_.centerY = std::clamp(view_.centerY, -0.5, image->ny - 0.5);
}

void CcdImageView::setView(const ViewState& view, bool remember) {
    const ViewState before = view_;
    view_ = view;
    clampView();
    if (view_ == before) return;
    if (remember && before.zoom > 0) {
        past_.push_back(before);
        if (past_.size() > historyLength) past_.erase(past_.begin());
        future_.clear();
    }
    dirty();
    update();
    Q_EMIT viewChanged();
}

void CcdImageView::fit() {
    const CcdImage* image = document_.image().get();
    if (!image) return;
    setView({0.5 * (image->nx - 1), 0.5 * (image->ny - 1), fitZoom()});
}

void CcdImageView::oneToOne() { setView({view_.centerX, view_.centerY, 1.0}); }

void CcdImageView::zoomBy(double factor, const QPointF& about) {
    if (!document_.image()) return;
    const QPointF fixed = toCcd(about);
    ViewState next = view_;
    next.zoom = std::clamp(view_.zoom * factor, std::min(minimumZoom, fitZoom()), maximumZoom);
    // Steps of the wheel that follow quickly are one entry of the history.
    const qint64 now = QDateTime::currentMSecsSinceEpoch();
    const bool remember = now - lastWheel_ > 700;
    lastWheel_ = now;
    next.centerX = fixed.x() - (about.x() - 0.5 * width()) / next.zoom;
    next.centerY = fixed.y() + (about.y() - 0.5 * height()) / next.zoom;
    setView(next, remember);
}

void CcdImageView::centerOn(double x, double y, double atLeast) {
    if (!std::isfinite(x) || !std::isfinite(y)) return;
    setView({x, y, std::max(view_.zoom, atLeast)});
}

void CcdImageView::back() {
    if (past_.empty()) return;
    future_.push_back(view_);
    const ViewState view = past_.back();
    past_.pop_back();
    setView(view, false);
    Q_EMIT viewChanged();
}

void CcdImageView::forward() {
    if (future_.empty()) return;
    past_.push_back(view_);
    const ViewState view = future_.back();
    future_.pop_back();
    setView(view, false);
    Q_EMIT viewChanged();
}

void CcdImageView::setOverlay(Overlay overlay, bool on) {
    bool& mine = overlays_[static_cast<std::size_t>(overlay)];
    if (mine == on) return;
    mine = on;
    dirty();
    update();
    Q_EMIT overlaysChanged();
}

// --- pixels ---------------------------------------------------------------------------------------------------------------------

void CcdImageView::render() {
    canvasValid_ = true;
    visibleBits_ = 0;
    const double ratio = devicePixelRatioF();
    const QSize size(std::max(1, static_cast<int>(std::lround(width() * ratio))),
                     std::max(1, static_cast<int>(std::lround(height() * ratio))));
    if (canvas_.size() != size) canvas_ = QImage(size, QImage::Format_RGB32);
    canvas_.setDevicePixelRatio(ratio);
    const QColor surround = palette().color(QPalette::Window).darker(130);
    sentence_ = layers_.problem(layer_);
    if (!sentence_.isEmpty()) {
        canvas_.fill(surround);
        return;
    }
    if (layer_ == Layer::Mask) {
        canvas_.fill(surround);
        renderMaskLayer(~0U, false);
        return;
    }
    const bool fading =
        fade_ > 0 && fadeLayer_ != layer_ && fadeLayer_ != Layer::Mask && layers_.problem(fadeLayer_).isEmpty();
    const Pyramid<float>& pixels = layers_.pixels(layer_);
    const Pyramid<float>* other = fading ? &layers_.pixels(fadeLayer_) : nullptr;
    const ColorTable& colors = table(layer_);
    const ColorTable* otherColors = fading ? &table(fadeLayer_) : nullptr;
    const int share = static_cast<int>(std::lround(256.0 * fade_));

    const double scale = view_.zoom * ratio; // canvas pixels a CCD pixel
    const int level =
        std::clamp(static_cast<int>(std::floor(std::log2(1.0 / scale) + 0.3)), 0, Pyramid<float>::levels - 1);
    const int nx = pixels.nx(level);
    const int ny = pixels.ny(level);
    const double shrink = 1.0 / (1 << level);

    // Which column of the level each canvas column shows; -1: none.
    std::vector<int> columns(static_cast<std::size_t>(size.width()));
    for (int i = 0; i < size.width(); ++i) {
        const double x = view_.centerX + ((i + 0.5) / ratio - 0.5 * width()) / view_.zoom;
        const double c = std::floor((x + 0.5) * shrink);
        columns[static_cast<std::size_t>(i)] = c >= 0 && c < nx && x < pixels.nx() - 0.5 ? static_cast<int>(c) : -1;
    }
    int shown = 0;
    int previousRow = -2;
    for (int j = 0; j < size.height(); ++j) {
        auto* const line = reinterpret_cast<QRgb*>(canvas_.scanLine(j));
        const double y = view_.centerY - ((j + 0.5) / ratio - 0.5 * height()) / view_.zoom;
        const double r = std::floor((y + 0.5) * shrink);
        const int row = r >= 0 && r < ny && y < pixels.ny() - 0.5 ? static_cast<int>(r) : -1;
        if (row == previousRow) { // magnified: the same CCD row again
            std::copy_n(reinterpret_cast<const QRgb*>(canvas_.constScanLine(j - 1)), size.width(), line);
            continue;
        }
        previousRow = row;
        if (row < 0) {
            std::fill_n(line, size.width(), surround.rgb());
            continue;
        }
        const float* const from = pixels.data(level) + static_cast<std::size_t>(row) * static_cast<std::size_t>(nx);
        const float* const second =
            other ? other->data(level) + static_cast<std::size_t>(row) * static_cast<std::size_t>(nx) : nullptr;
        for (int i = 0; i < size.width(); ++i) {
            const int column = columns[static_cast<std::size_t>(i)];
            if (column < 0) {
                line[i] = surround.rgb();
                continue;
            }
            const float value = from[column];
            shown += value == value;
            QRgb color = colors.color(value);
            if (second) color = blend(color, otherColors->color(second[column]), share);
            line[i] = color;
        }
    }
    if (shown == 0)
        sentence_ = layer_ == Layer::Image || layer_ == Layer::Ivar
                        ? tr("No pixel here has a value: all are NaN.")
                        : tr("Nothing has been extracted in this part of the CCD yet: click to extract a patch.");
    if (overlay(Overlay::MaskBits))
        renderMaskLayer(~0U, true);
    else if (layer_ == Layer::Image)
        renderMaskLayer(saturatedBit, true);
}

/// Paints masked pixels in the colour of their lowest bit: over what is there, or on a dark ground.
void CcdImageView::renderMaskLayer(std::uint32_t bits, bool over) {
    const Pyramid<std::uint32_t>& mask = layers_.mask();
    if (mask.empty()) return;
    const double ratio = devicePixelRatioF();
    const double scale = view_.zoom * ratio;
    const int level =
        std::clamp(static_cast<int>(std::floor(std::log2(1.0 / scale) + 0.3)), 0, Pyramid<float>::levels - 1);
    const int nx = mask.nx(level);
    const int ny = mask.ny(level);
    const double shrink = 1.0 / (1 << level);
    std::array<QRgb, 32> colors{};
    for (int bit = 0; bit < 32; ++bit) colors[static_cast<std::size_t>(bit)] = maskBitColor(bit).rgb();
    const QRgb ground = qRgb(16, 16, 20);
    constexpr int share = 190; // of 256: what lies under it can still be told

    const int width = canvas_.width();
    std::vector<int> columns(static_cast<std::size_t>(width));
    for (int i = 0; i < width; ++i) {
        const double x = view_.centerX + ((i + 0.5) / ratio - 0.5 * this->width()) / view_.zoom;
        const double c = std::floor((x + 0.5) * shrink);
        columns[static_cast<std::size_t>(i)] = c >= 0 && c < nx && x < mask.nx() - 0.5 ? static_cast<int>(c) : -1;
    }
    const auto first = std::find_if(columns.begin(), columns.end(), [](int c) { return c >= 0; });
    const auto last = std::find_if(columns.rbegin(), columns.rend(), [](int c) { return c >= 0; }).base();
    if (first >= last) return;
    const auto begin = static_cast<int>(first - columns.begin());
    const auto end = static_cast<int>(last - columns.begin());
    for (int j = 0; j < canvas_.height(); ++j) {
        const double y = view_.centerY - ((j + 0.5) / ratio - 0.5 * height()) / view_.zoom;
        const double r = std::floor((y + 0.5) * shrink);
        if (!(r >= 0 && r < ny && y < mask.ny() - 0.5)) continue;
        auto* const line = reinterpret_cast<QRgb*>(canvas_.scanLine(j));
        const std::uint32_t* const from = mask.data(level) + static_cast<std::size_t>(r) * static_cast<std::size_t>(nx);
        for (int i = begin; i < end; ++i) {
            const std::uint32_t value = from[columns[static_cast<std::size_t>(i)]] & bits;
            if (value == 0) {
                if (!over) line[i] = ground;
                continue;
            }
            visibleBits_ |= value;
            const QRgb color = colors[static_cast<std::size_t>(std::countr_zero(value))];
            if (!over)
                line[i] = color;
            else if ((value & saturatedBit) != 0 && layer_ == Layer::Image)
                line[i] = saturatedColor;
            else
                line[i] = blend(line[i], color, share);
        }
    }
}

void CcdImageView::paintEvent(QPaintEvent*) {
    if (view_.zoom <= 0 && document_.image()) {
        const CcdImage& image = *document_.image();
        view_ = {0.5 * (image.nx - 1), 0.5 * (image.ny - 1), fitZoom()};
        dirty();
        QMetaObject::invokeMethod(this, &CcdImageView::viewChanged, Qt::QueuedConnection);
    }
    if (!canvasValid_ || canvas_.devicePixelRatio() != devicePixelRatioF()) {
        render();
        sceneValid_ = false;
    }
    if (!sceneValid_) {
        // What does not follow the mouse is drawn once.
        scene_ = canvas_;
        sceneValid_ = true;
        QPainter scene(&scene_);
        scene.setFont(font());
        if (document_.image()) drawFixedOverlays(scene);
    }
    QPainter painter(this);
    painter.drawImage(QPointF(0, 0), scene_);
    if (document_.image()) drawMovingOverlays(painter);
    if (!sentence_.isEmpty()) drawSentence(painter);
}

void CcdImageView::resizeEvent(QResizeEvent*) { dirty(); }

// --- overlays -------------------------------------------------------------------------------------------------------------------

int CcdImageView::bundlesize() const {
    return document_.plan() ? document_.plan()->options.bundlesize : std::max(1, document_.options().bundlesize);
}

void CcdImageView::drawFixedOverlays(QPainter& painter) {
    // Long lines at the screen's own width: antialiased they cost ten times as much.
    if (overlay(Overlay::Amplifiers)) drawAmplifiers(painter);
    if (document_.traces()) {
        if (overlay(Overlay::Methods)) drawMethods(painter);
        if (overlay(Overlay::Traces)) drawTraces(painter);
        if (overlay(Overlay::Bundles)) drawBundles(painter);
        if (overlay(Overlay::PatchGrid)) drawGrid(painter);
        if (overlay(Overlay::Ticks)) drawTicks(painter);
    }
    drawLegend(painter);
}

void CcdImageView::drawMovingOverlays(QPainter& painter) {
    if (overlay(Overlay::MaskBits)) drawMaskEdits(painter);
    painter.setRenderHint(QPainter::Antialiasing);
    if (document_.traces()) {
        if (overlay(Overlay::SelectedPatch)) drawPatch(painter);
        if (overlay(Overlay::Spot)) drawSpot(painter);
    }
    if (overlay(Overlay::CursorCross)) drawCursor(painter);
}

void CcdImageView::drawLabel(QPainter& painter, const QPointF& at, const QString& text, const QColor& color,
                             Qt::Alignment align) {
    const QFontMetricsF metrics(painter.font());
    QRectF box = metrics.boundingRect(text).adjusted(-3, -1, 3, 1);
    box.moveTopLeft(at);
    if (align & Qt::AlignHCenter) box.moveLeft(at.x() - 0.5 * box.width());
    if (align & Qt::AlignRight) box.moveRight(at.x());
    if (align & Qt::AlignBottom) box.moveBottom(at.y());
    if (align & Qt::AlignVCenter) box.moveTop(at.y() - 0.5 * box.height());
    box.moveLeft(std::clamp(box.left(), 2.0, std::max(2.0, width() - box.width() - 2.0)));
    painter.fillRect(box, QColor(0, 0, 0, 160));
    painter.setPen(color);
    painter.drawText(box, Qt::AlignCenter, text);
}

void CcdImageView::drawTraces(QPainter& painter) {
    const TraceMap& traces = *document_.traces();
    const QRectF part = visibleCcd();
    const double gap = traces.spacing() * view_.zoom;
    int first = 0;
    int last = 0;
    traces.visible(part.left() - 2, part.right() + 2, part.top(), part.bottom(), first, last);
    // Where the traces would run into each other only every fifth, tenth, ... is drawn.
    int every = 1;
    for (const int step : {1, 5, 25, 125})
        if (gap * (every = step) >= 7.0) break;
    QColor color = traceColor;
    color.setAlphaF(gap >= 15 ? 0.9F : every == 1 ? 0.6F : 0.4F);
    painter.setPen(QPen(color, 1.0));
    const int k0 = std::clamp(static_cast<int>(std::floor(part.top() / TraceMap::rowStep)), 0, traces.samples() - 1);
    const int k1 = std::clamp(static_cast<int>(std::ceil(part.bottom() / TraceMap::rowStep)), 0, traces.samples() - 1);
    const int stride = std::max(1, static_cast<int>(8.0 / (TraceMap::rowStep * view_.zoom)));
    QPolygonF line;
    for (int s = (first + every - 1) / every * every; s < last; s += every) {
        line.clear();
        for (int k = k0; k < k1 + stride; k += stride) {
            const int sample = std::min(k, k1);
            line << toWidget(traces.column(s, sample), traces.row(sample));
        }
        painter.drawPolyline(line);
    }
    if (gap * every < 24.0) return;
    const int label = std::max(every, gap >= 34 ? 1 : 5);
    for (int s = (first + label - 1) / label * label; s < last; s += label) {
        const QPointF bottom = toWidget(traces.columnAt(s, part.top() + 14 / view_.zoom), part.top());
        drawLabel(painter, {bottom.x(), height() - 3.0}, QString::number(s), traceColor,
                  Qt::AlignHCenter | Qt::AlignBottom);
    }
}

void CcdImageView::drawBundles(QPainter& painter) {
    const TraceMap& traces = *document_.traces();
    const QRectF part = visibleCcd();
    int first = 0;
    int last = 0;
    traces.visible(part.left() - 30, part.right() + 30, part.top(), part.bottom(), first, last);
    const int size = bundlesize();
    const int k0 = std::clamp(static_cast<int>(std::floor(part.top() / TraceMap::rowStep)), 0, traces.samples() - 1);
    const int k1 = std::clamp(static_cast<int>(std::ceil(part.bottom() / TraceMap::rowStep)), 0, traces.samples() - 1);
    const int stride = std::max(1, static_cast<int>(8.0 / (TraceMap::rowStep * view_.zoom)));
    const double half = 0.5 * traces.spacing();
    const double width = size * traces.spacing() * view_.zoom;
    QColor color = bundleColor;
    color.setAlphaF(0.75F);
    for (int bundle = first / size; bundle * size < last; ++bundle) {
        const int edges[2] = {bundle * size, std::min(traces.nspec(), (bundle + 1) * size) - 1};
        painter.setPen(QPen(color, 1.0, Qt::DashLine));
        for (int side = 0; side < 2; ++side) {
            QPolygonF line;
            for (int k = k0; k < k1 + stride; k += stride) {
                const int sample = std::min(k, k1);
                line << toWidget(traces.column(edges[side], sample) + (side == 0 ? -half : half), traces.row(sample));
            }
            painter.drawPolyline(line);
        }
        if (width < 18) continue;
        const double y = part.bottom() - 10 / view_.zoom;
        const QPointF middle =
            toWidget(0.5 * (traces.columnAt(edges[0], y) + traces.columnAt(edges[1], y)), part.bottom());
        const QString text =
            width < 90 ? QString::number(bundle) : tr("bundle %1: %2-%3").arg(bundle).arg(edges[0]).arg(edges[1]);
        drawLabel(painter, {std::clamp(middle.x(), 12.0, this->width() - 12.0), 3}, text, bundleColor,
                  Qt::AlignHCenter | Qt::AlignTop);
    }
}

QPointF CcdImageView::beside(int spectrum, int side, double wavelength) const {
    const PsfView psf = document_.psf()->view();
    const double scale = document_.plan() ? document_.plan()->grid.scale : 1.0;
    const double w = wavelength / scale;
    const int size = bundlesize();
    const auto sameBundle = [&](int other) {
        return other >= 0 && other < psf.nspec && other / size == spectrum / size;
    };
    const QPointF here(traceX(psf, spectrum, w), traceY(psf, spectrum, w));
    int other = spectrum + side;
    double sign = 0.5;
    if (!sameBundle(other)) { // the bundle's edge: as far out as the neighbour on the other side is near
        other = spectrum - side;
        sign = -0.5;
        if (!sameBundle(other)) return here + QPointF(side * 0.5 * document_.traces()->spacing(), 0);
    }
    return here + sign * (QPointF(traceX(psf, other, w), traceY(psf, other, w)) - here);
}

QPolygonF CcdImageView::isoWavelength(int first, int last, double wavelength) const {
    const PsfView psf = document_.psf()->view();
    const double w = wavelength / (document_.plan() ? document_.plan()->grid.scale : 1.0);
    QPolygonF line;
    const QPointF left = beside(first, -1, wavelength);
    line << toWidget(left.x(), left.y());
    for (int s = first; s < last; ++s) line << toWidget(traceX(psf, s, w), traceY(psf, s, w));
    const QPointF right = beside(last - 1, +1, wavelength);
    line << toWidget(right.x(), right.y());
    return line;
}

QPolygonF CcdImageView::outline(IndexRange spectra, IndexRange bins) const {
    const WavelengthGrid& grid = document_.plan()->grid;
    const auto edge = [&](int bin) { return (grid.wavelength(bin) - 0.5 * grid.step()) * grid.scale; };
    QPolygonF shape = isoWavelength(spectra.first, spectra.last, edge(bins.first));
    constexpr int pieces = 8; // along wavelength: traces bend little over a patch
    for (int i = 1; i < pieces; ++i) {
        const QPointF p =
            beside(spectra.last - 1, +1, edge(bins.first) + (edge(bins.last) - edge(bins.first)) * i / pieces);
        shape << toWidget(p.x(), p.y());
    }
    QPolygonF top = isoWavelength(spectra.first, spectra.last, edge(bins.last));
    std::reverse(top.begin(), top.end());
    shape << top;
    for (int i = pieces - 1; i > 0; --i) {
        const QPointF p =
            beside(spectra.first, -1, edge(bins.first) + (edge(bins.last) - edge(bins.first)) * i / pieces);
        shape << toWidget(p.x(), p.y());
    }
    return shape;
}

void CcdImageView::drawTicks(QPainter& painter) {
    const TraceMap& traces = *document_.traces();
    const Psf& psf = *document_.psf();
    const QRectF part = visibleCcd();
    int first = 0;
    int last = 0;
    traces.visible(part.left(), part.right(), part.top(), part.bottom(), first, last);
    if (last <= first) return;
    const int middle = (first + last) / 2;
    const double scale = document_.plan() ? document_.plan()->grid.scale : 1.0;
    const double low = psf.wavelengthAt(middle, part.top()) * scale;
    const double high = psf.wavelengthAt(middle, part.bottom()) * scale;
    if (!(high > low)) return;
    const double step = niceStep((high - low) * 70.0 / std::max(70, height()));
    const double gap = traces.spacing() * view_.zoom;
    const int size = bundlesize();
    const QPen halo(QColor(0, 0, 0, 120), 3.0);
    const QPen pen(QColor(255, 255, 255, 190), 1.0);
    for (double w = std::ceil(low / step - 1.0) * step; w <= high + step; w += step) {
        if (w < psf.wavemin() * scale || w > psf.wavemax() * scale) continue;
        // A line across each bundle; short ticks on every trace where there is room.
        for (int bundle = first / size; bundle * size < last; ++bundle) {
            const int a = bundle * size;
            const int b = std::min(psf.nspec, a + size);
            if (gap >= 14) {
                for (int s = std::max(a, first); s < std::min(b, last); ++s) {
                    const QPointF p = toWidget(psf.x(s, w / scale), psf.y(s, w / scale));
                    const QLineF tick(p - QPointF(0.28 * gap, 0), p + QPointF(0.28 * gap, 0));
                    painter.setPen(halo);
                    painter.drawLine(tick);
                    painter.setPen(pen);
                    painter.drawLine(tick);
                }
            } else {
                painter.setPen(pen);
                painter.drawPolyline(isoWavelength(a, b, w));
            }
        }
        const QPointF left = toWidget(psf.x(first, w / scale), psf.y(first, w / scale));
        drawLabel(painter, {std::max(4.0, std::min(left.x(), width() - 80.0)), left.y()},
                  tr("%1 \u00c5").arg(w, 0, 'f', step < 1 ? 1 : 0), Qt::white, Qt::AlignLeft | Qt::AlignVCenter);
    }
}

void CcdImageView::drawGrid(QPainter& painter) {
    if (!document_.plan()) return;
    const Plan& plan = *document_.plan();
    const Psf& psf = *document_.psf();
    const TraceMap& traces = *document_.traces();
    const QRectF part = visibleCcd();
    int first = 0;
    int last = 0;
    traces.visible(part.left() - 10, part.right() + 10, part.top(), part.bottom(), first, last);
    QColor color = gridColor;
    color.setAlphaF(0.8F);
    painter.setPen(QPen(color, 1.0));
    const double stepPixels =
        std::abs(psf.y(psf.nspec / 2, 0.5 * (psf.wavemin() + psf.wavemax()) + plan.grid.step() * plan.grid.nwavestep) -
                 psf.y(psf.nspec / 2, 0.5 * (psf.wavemin() + psf.wavemax())));
    const int every = std::max(1, static_cast<int>(std::ceil(6.0 / std::max(1e-6, stepPixels * view_.zoom))));
    const auto edge = [&](int step) {
        return (plan.grid.wavelength(plan.grid.pad + std::min(step * plan.grid.nwavestep, plan.grid.nwave)) -
                0.5 * plan.grid.step()) *
               plan.grid.scale;
    };
    const int size = bundlesize();
    int drawnBundle = -1;
    for (const Subbundle& sub : plan.subbundles) {
        if (sub.core.last <= first || sub.core.first >= last) continue;
        // Only the steps on screen, and one more at each end: traces bend.
        const auto stepAt = [&](double y) {
            return (psf.wavelengthAt(sub.core.first, y) * plan.grid.scale - plan.grid.wmin) /
                   (plan.grid.dw * plan.grid.nwavestep);
        };
        const int step0 = std::clamp(static_cast<int>(std::floor(stepAt(part.top()))) - 1, 0, plan.nsteps);
        const int step1 = std::clamp(static_cast<int>(std::ceil(stepAt(part.bottom()))) + 1, 0, plan.nsteps);
        if (sub.bundle != drawnBundle) { // one line across all of a bundle's patches
            drawnBundle = sub.bundle;
            const int from = std::max(sub.bundle * size, plan.specmin);
            const int to = std::min((sub.bundle + 1) * size, plan.specmin + plan.nspec);
            for (int step = (step0 + every - 1) / every * every; step <= step1; step += every)
                painter.drawPolyline(isoWavelength(from, to, edge(step)));
        }
        for (const int side : {-1, +1}) {
            QPolygonF line;
            for (int step = step0; step <= step1; ++step) {
                const QPointF p = beside(side < 0 ? sub.core.first : sub.core.last - 1, side, edge(step));
                line << toWidget(p.x(), p.y());
            }
            painter.drawPolyline(line);
        }
    }
}

void CcdImageView::drawPatch(QPainter& painter) {
    if (!document_.selectedPatch() || !document_.plan()) return;
    const Patch& patch = *document_.selectedPatch();
    QColor faint = patchColor;
    faint.setAlphaF(0.7F);
    painter.setBrush(Qt::NoBrush);
    painter.setPen(QPen(faint, 1.0, Qt::DashLine));
    painter.drawPolygon(outline(patch.spectra, patch.bins));
    const PatchRun& run = document_.patchRun();
    if (run && run.detail->patch.core == patch.core && run.detail->patch.coreBins == patch.coreBins) {
        const PixelWindow& window = run.detail->window;
        painter.setPen(QPen(QColor(255, 255, 255, 200), 1.0, Qt::DotLine));
        painter.drawRect(QRectF(toWidget(window.x.first - 0.5, window.y.last - 0.5),
                                toWidget(window.x.last - 0.5, window.y.first - 0.5)));
    }
    painter.setPen(QPen(Qt::black, 3.0));
    const QPolygonF core = outline(patch.core, patch.keepBins);
    painter.drawPolygon(core);
    painter.setPen(QPen(patchColor, 1.6));
    painter.drawPolygon(core);
    if (core.boundingRect().width() > 40) {
        const QRectF box = core.boundingRect();
        constexpr double room = 44; // for this label and the bundles' at the top of the view
        const bool above = box.top() > room;
        drawLabel(painter, {box.center().x(), above ? box.top() - 3 : box.bottom() + 3}, document_.describePatch(patch),
                  patchColor, Qt::AlignHCenter | (above ? Qt::AlignBottom : Qt::AlignTop));
    }
}

/// Amplifier edges from the header's CCDSEC* keywords ("[x1:x2,y1:y2]", counted from 1).
void CcdImageView::drawAmplifiers(QPainter& painter) {
    const CcdImage& image = *document_.image();
    painter.setBrush(Qt::NoBrush);
    for (const char amplifier : {'1', '2', '3', '4', 'A', 'B', 'C', 'D'}) {
        const auto section = image.header.text(std::string("CCDSEC") + amplifier);
        int x1 = 0;
        int x2 = 0;
        int y1 = 0;
        int y2 = 0;
        if (!section || std::sscanf(section->c_str(), "[%d:%d,%d:%d]", &x1, &x2, &y1, &y2) != 4) continue;
        const QRectF box(toWidget(x1 - 1.5, y2 - 0.5), toWidget(x2 - 0.5, y1 - 1.5));
        painter.setPen(QPen(amplifierColor, 1.0));
        painter.drawRect(box);
        const QRectF inside = box.intersected(QRectF(rect()));
        const QString name = tr("amplifier %1").arg(QLatin1Char(amplifier));
        if (inside.width() > QFontMetricsF(painter.font()).horizontalAdvance(name) + 16)
            drawLabel(painter, inside.topRight() + QPointF(-6, 24), name, amplifierColor,
                      Qt::AlignRight | Qt::AlignTop);
    }
}

void CcdImageView::drawSpot(QPainter& painter) {
    const Cursor& at = document_.hover().hasBin() ? document_.hover() : document_.cursor();
    if (!at.hasBin() || view_.zoom < 1.5) return;
    const PsfView psf = document_.psf()->view();
    if (at.spectrum >= psf.nspec) return;
    const double scale = document_.plan() ? document_.plan()->grid.scale : 1.0;
    const int nx = psf.stampX();
    const int ny = psf.stampY();
    std::vector<double> stamp(static_cast<std::size_t>(nx) * static_cast<std::size_t>(ny));
    int cornerX = 0;
    int cornerY = 0;
    evaluateSpot(psf, at.spectrum, at.wavelength / scale, document_.options().psfTail, stamp.data(), cornerX, cornerY);
    const double peak = *std::max_element(stamp.begin(), stamp.end());
    painter.setBrush(Qt::NoBrush);
    QColor color = spotColor;
    color.setAlphaF(0.6F);
    painter.setPen(QPen(color, 1.0, Qt::DotLine));
    painter.drawRect(QRectF(toWidget(cornerX - 0.5, cornerY + ny - 0.5), toWidget(cornerX + nx - 0.5, cornerY - 0.5)));
    for (const double share : {0.5, 0.1, 0.01}) {
        painter.setPen(QPen(spotColor, share == 0.5 ? 2.0 : 1.0));
        for (const QLineF& line : contour(stamp, nx, ny, share * peak))
            painter.drawLine(toWidget(cornerX + line.x1(), cornerY + line.y1()),
                             toWidget(cornerX + line.x2(), cornerY + line.y2()));
    }
}

void CcdImageView::drawMethods(QPainter& painter) {
    const double ratio = devicePixelRatioF();
    QImage picture((QSizeF(size()) * ratio).toSize(), QImage::Format_ARGB32_Premultiplied);
    picture.fill(Qt::transparent);
    methods_.paint(picture, visibleCcd());
    picture.setDevicePixelRatio(ratio);
    painter.drawImage(QPointF(0, 0), picture);
    drawLabel(painter, {6, height() - 6.0}, methods_.legend(), Qt::white, Qt::AlignLeft | Qt::AlignBottom);
}

/// Pixels masked by hand are framed white, those unmasked by hand black.
void CcdImageView::drawMaskEdits(QPainter& painter) {
    const int nx = document_.image()->nx;
    const QRectF part = visibleCcd().adjusted(-1, -1, 1, 1);
    painter.setBrush(Qt::NoBrush);
    for (auto it = document_.maskEdits().constBegin(); it != document_.maskEdits().constEnd(); ++it) {
        const int x = it.key() % nx;
        const int y = it.key() / nx;
        if (!part.contains(QPointF(x, y))) continue;
        const QRectF box(toWidget(x - 0.5, y + 0.5), toWidget(x + 0.5, y - 0.5));
        painter.setPen(QPen(it.value() ? Qt::black : Qt::white, 3.0));
        painter.drawRect(box);
        painter.setPen(QPen(it.value() ? Qt::white : Qt::black, 1.0));
        painter.drawRect(box);
    }
}

void CcdImageView::drawCursor(QPainter& painter) {
    const Cursor& cursor = document_.cursor();
    if (!cursor.hasPixel()) return;
    const QPointF p = toWidget(cursor.x, cursor.y);
    constexpr double inner = 7;
    constexpr double outer = 17;
    const QLineF lines[] = {{p.x() - outer, p.y(), p.x() - inner, p.y()},
                            {p.x() + inner, p.y(), p.x() + outer, p.y()},
                            {p.x(), p.y() - outer, p.x(), p.y() - inner},
                            {p.x(), p.y() + inner, p.x(), p.y() + outer}};
    painter.setPen(QPen(Qt::black, 3.5));
    painter.drawLines(lines, 4);
    painter.setPen(QPen(Qt::white, 1.6));
    painter.drawLines(lines, 4);
}

void CcdImageView::drawLegend(QPainter& painter) {
    if (visibleBits_ == 0 || (!overlay(Overlay::MaskBits) && layer_ != Layer::Mask)) return;
    const QFontMetricsF metrics(painter.font());
    const double row = metrics.height() + 2;
    double width = 0;
    QList<int> bits;
    for (int bit = 0; bit < 32; ++bit)
        if ((visibleBits_ & (1U << static_cast<unsigned>(bit))) != 0) {
            bits << bit;
            width = std::max(width, metrics.horizontalAdvance(QString::fromStdString(ccdMaskBitName(bit))));
        }
    const QRectF box(this->width() - width - 34, height() - row * static_cast<double>(bits.size()) - 12, width + 28,
                     row * static_cast<double>(bits.size()) + 6);
    painter.fillRect(box, QColor(0, 0, 0, 170));
    double y = box.top() + 3;
    for (const int bit : bits) {
        painter.fillRect(QRectF(box.left() + 5, y + 0.5 * row - 5, 10, 10), maskBitColor(bit));
        painter.setPen(Qt::white);
        painter.drawText(QRectF(box.left() + 20, y, width + 6, row), Qt::AlignLeft | Qt::AlignVCenter,
                         QString::fromStdString(ccdMaskBitName(bit)));
        y += row;
    }
}

void CcdImageView::drawSentence(QPainter& painter) {
    QFont font = painter.font();
    font.setPointSizeF(font.pointSizeF() * 1.25);
    painter.setFont(font);
    const QRectF area = QRectF(rect()).adjusted(0.15 * width(), 20, -0.15 * width(), -20);
    const QRectF text = painter.boundingRect(area, Qt::AlignCenter | Qt::TextWordWrap, sentence_);
    painter.setPen(Qt::NoPen);
    painter.setBrush(QColor(0, 0, 0, 190));
    painter.drawRoundedRect(text.adjusted(-16, -12, 16, 12), 6, 6);
    painter.setPen(Qt::white);
    painter.drawText(area, Qt::AlignCenter | Qt::TextWordWrap, sentence_);
}

// --- hands ----------------------------------------------------------------------------------------------------------------------

bool CcdImageView::event(QEvent* event) {
    // Tab belongs to the layers here; Ctrl+Tab still leaves the view.
    if (event->type() == QEvent::KeyPress) {
        const auto* key = static_cast<QKeyEvent*>(event);
        if (key->key() == Qt::Key_Tab && key->modifiers() == Qt::NoModifier) {
            cycleLayer(+1);
            return true;
        }
        if (key->key() == Qt::Key_Backtab || (key->key() == Qt::Key_Tab && key->modifiers() == Qt::ShiftModifier)) {
            cycleLayer(-1);
            return true;
        }
    }
    if (event->type() == QEvent::PaletteChange) dirty();
    return QWidget::event(event);
}

void CcdImageView::wheelEvent(QWheelEvent* event) {
    wheelRest_ += event->angleDelta().y();
    const double notches = wheelRest_ / 120.0;
    wheelRest_ = 0;
    if (notches != 0) zoomBy(std::pow(wheelFactor, notches), event->position());
    event->accept();
}

void CcdImageView::select(const QPointF& position) {
    const QPointF p = toCcd(position);
    const CcdImage* image = document_.image().get();
    if (!image || p.x() < -0.5 || p.y() < -0.5 || p.x() > image->nx - 0.5 || p.y() > image->ny - 0.5) return;
    const Cursor cursor = document_.cursorAtPixel(p.x(), p.y());
    document_.setCursor(cursor);
    Q_EMIT patchRequested(cursor);
}

void CcdImageView::mousePressEvent(QMouseEvent* event) {
    setFocus();
    dragStart_ = event->position();
    dragView_ = view_;
    dragSettings_ = settings(layer_);
    dragMoved_ = false;
    if (event->button() == Qt::MiddleButton) {
        drag_ = Drag::Pan;
        setCursor(Qt::ClosedHandCursor);
    } else if (event->button() == Qt::RightButton) {
        drag_ = Drag::Contrast;
    } else if (event->button() == Qt::LeftButton) {
        drag_ = Drag::Select;
        select(event->position());
    }
}

void CcdImageView::mouseMoveEvent(QMouseEvent* event) {
    const QPointF moved = event->position() - dragStart_;
    if (moved.manhattanLength() > 3) dragMoved_ = true;
    if (drag_ == Drag::Pan) {
        ViewState view = dragView_;
        view.centerX -= moved.x() / view.zoom;
        view.centerY += moved.y() / view.zoom;
        setView(view, false);
    } else if (drag_ == Drag::Contrast && dragMoved_) {
        // ds9: sideways moves the bias, up and down the contrast.
        DisplaySettings settings = dragSettings_;
        settings.bias = std::clamp(dragSettings_.bias + moved.x() / std::max(1, width()), 0.0, 1.0);
        settings.contrast =
            std::clamp(dragSettings_.contrast * std::pow(10.0, 1.5 * moved.y() / std::max(1, height())), 0.05, 50.0);
        setSettings(layer_, settings);
    } else if (drag_ == Drag::Select && live_ && dragMoved_) {
        select(event->position());
    }
    const QPointF p = toCcd(event->position());
    document_.setHover(document_.cursorAtPixel(p.x(), p.y()));
}

void CcdImageView::mouseReleaseEvent(QMouseEvent* event) {
    if (drag_ == Drag::Pan) {
        setCursor(Qt::CrossCursor);
        if (!(dragView_ == view_)) {
            past_.push_back(dragView_);
            future_.clear();
            Q_EMIT viewChanged();
        }
    } else if (drag_ == Drag::Contrast && !dragMoved_ && event->button() == Qt::RightButton) {
        Q_EMIT contextMenuRequested(event->globalPosition().toPoint());
    }
    drag_ = Drag::None;
}

void CcdImageView::mouseDoubleClickEvent(QMouseEvent* event) {
    resetContrast();
    event->accept();
}

void CcdImageView::leaveEvent(QEvent*) { document_.setHover({}); }

} // namespace patchlight::widgets
