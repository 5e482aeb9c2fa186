#include "widgets/spectrum/SpectrumPlot.h"

#include "core/analysis/MaskNames.h"
#include "core/base/Nan.h"
#include "widgets/plot/Colours.h"
#include "widgets/plot/Steps.h"
#include "widgets/spectrum/LineLists.h"

#include <QEvent>
#include <QFontMetricsF>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QWheelEvent>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

namespace patchlight::widgets {

namespace {

constexpr double pullRange = 6.0;
constexpr int pullBins = 48;

QString number(double value, int digits = 5) {
    return std::isfinite(value) ? QString::number(value, 'g', digits) : QStringLiteral("none");
}

} // namespace

SpectrumPlot::SpectrumPlot(QWidget* parent) : QWidget(parent) {
    setMouseTracking(true);
    setFocusPolicy(Qt::StrongFocus);
    setAccessibleName(tr("Spectrum"));
    setAccessibleDescription(keyHelp());
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Expanding);
}

QString SpectrumPlot::keyHelp() {
    QStringList lines;
    for (const Command& command : commands()) {
        QString text = command.text;
        lines << QStringLiteral("%1: %2. %3")
                     .arg(QString(command.keys).replace(QLatin1Char(';'), QStringLiteral(" or ")),
                          text.remove(QLatin1Char('&')), command.help);
    }
    return lines.join(QLatin1Char('\n'));
}

// Data and settings

void SpectrumPlot::setData(SpectrumData data) {
    const bool first = data_.spectra.empty();
    const Interval before = dataX();
    data_ = std::move(data);
    mark_.reset();
    const bool there = std::any_of(data_.spectra.begin(), data_.spectra.end(),
                                   [this](const SpectrumCurve& c) { return c.spectrum == selected_; });
    if (!there) selected_ = data_.spectra.empty() ? -1 : data_.spectra[data_.spectra.size() / 2].spectrum;
    prepareAll();
    if (data_.spectra.empty()) {
        invalidate();
        return;
    }
    const Interval now = dataX();
    const bool whole = !first && view_.x == before;
    const bool visible = view_.x.high > now.low && view_.x.low < now.high;
    if ((first && !viewWaits_) || whole || !visible) {
        view_.x = now;
        if (first || !visible) view_.fitY = true;
        fitY();
        history_.reset(view_);
    } else if (first) {
        viewWaits_ = false;
        fitY();
        history_.reset(view_);
    } else {
        fitY();
    }
    invalidate();
    emit viewChanged();
}

void SpectrumPlot::setSettings(const SpectrumSettings& settings) {
    if (settings == settings_) return;
    if (settings.perBin != settings_.perBin) view_.fitY = true;
    settings_ = settings;
    settings_.smoothing = std::max(1, settings_.smoothing | 1);
    prepareAll();
    fitY();
    invalidate();
}

SpectrumPlot::Prepared SpectrumPlot::prepare(const SpectrumCurve& curve) const {
    Prepared out;
    const std::size_t n = curve.size();
    if (n == 0) return out;
    out.edges.resize(n + 1);
    for (std::size_t i = 0; i <= n; ++i) out.edges[i] = curve.edge(i);
    Smoothed smooth = smoothed(curve.flux, curve.ivar, settings_.smoothing);
    out.flux = std::move(smooth.flux);
    out.sigma.assign(n, nan);
    for (std::size_t i = 0; i < smooth.ivar.size(); ++i)
        if (smooth.ivar[i] > 0) out.sigma[i] = 1.0 / std::sqrt(smooth.ivar[i]);
    out.xflux = settings_.smoothing > 1 ? smoothed(curve.xflux, {}, settings_.smoothing).flux : curve.xflux;
    if (settings_.perBin) {
        for (std::size_t i = 0; i < n; ++i) {
            const double width = curve.width(i);
            out.flux[i] *= width;
            out.sigma[i] *= width;
            if (!out.xflux.empty()) out.xflux[i] *= width;
        }
    }
    out.faint.assign(n, 0);
    for (std::size_t i = 0; i < n; ++i) {
        const bool masked = !curve.mask.empty() && (curve.mask[i] & settings_.shadedBits) != 0;
        const bool noData = !curve.ivar.empty() && !(curve.ivar[i] > 0);
        const bool padding = !curve.padding.empty() && curve.padding[i] != 0;
        out.faint[i] = masked || noData || padding ? 1 : 0;
    }
    return out;
}

void SpectrumPlot::prepareAll() {
    prepared_.clear();
    preparedOverlays_.clear();
    for (const SpectrumCurve& curve : data_.spectra) prepared_.push_back(prepare(curve));
    for (const SpectrumOverlay& overlay : data_.overlays) {
        auto& list = preparedOverlays_.emplace_back();
        for (const SpectrumCurve& curve : data_.spectra) {
            const SpectrumCurve* other = overlay.find(curve.spectrum);
            list.push_back(other != nullptr ? prepare(*other) : Prepared{});
        }
    }
    updatePulls();
}

void SpectrumPlot::updatePulls() {
    pulls_.clear();
    pullEdges_.clear();
    const SpectrumCurve* curve = curveOf(selected_);
    const SpectrumOverlay* overlay = residualOverlay();
    if (curve == nullptr || overlay == nullptr) return;
    const SpectrumCurve* other = overlay->find(selected_);
    if (other == nullptr || other->empty()) return;
    pulls_ = pullsAgainst(*curve, *other);
    pullEdges_.resize(curve->size() + 1);
    for (std::size_t i = 0; i <= curve->size(); ++i) pullEdges_[i] = curve->edge(i);
}

const SpectrumCurve* SpectrumPlot::curveOf(int spectrum) const {
    const auto found = std::find_if(data_.spectra.begin(), data_.spectra.end(),
                                    [&](const SpectrumCurve& c) { return c.spectrum == spectrum; });
    return found == data_.spectra.end() ? nullptr : &*found;
}

const SpectrumOverlay* SpectrumPlot::residualOverlay() const {
    if (data_.overlays.empty()) return nullptr;
    const auto i = static_cast<std::size_t>(std::max(0, settings_.residualOverlay));
    return i < data_.overlays.size() ? &data_.overlays[i] : nullptr;
}

QString SpectrumPlot::emptyReason() const {
    if (data_.spectra.empty()) return tr("No spectrum: click a fiber in the CCD image, or open an extracted frame.");
    const bool any = std::any_of(data_.spectra.begin(), data_.spectra.end(), [&](const SpectrumCurve& c) {
        return !c.empty() && c.edge(0) < view_.x.high && c.edge(c.size()) > view_.x.low;
    });
    if (!any) return tr("No wavelength of these spectra is in view: press Home to see all.");
    const bool data = std::any_of(data_.spectra.begin(), data_.spectra.end(), [](const SpectrumCurve& c) {
        return c.ivar.empty() || std::any_of(c.ivar.begin(), c.ivar.end(), [](double v) { return v > 0; });
    });
    if (!data) return tr("No bin of these spectra has data (ivar is 0 everywhere).");
    return {};
}

// The part in view

Interval SpectrumPlot::dataX() const {
    Interval out{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
    for (const SpectrumCurve& curve : data_.spectra) {
        if (curve.empty()) continue;
        out.low = std::min(out.low, curve.edge(0));
        out.high = std::max(out.high, curve.edge(curve.size()));
    }
    return out.low < out.high ? out : Interval{0, 1};
}

Interval SpectrumPlot::dataY(const Interval& x) const {
    double low = std::numeric_limits<double>::infinity();
    double high = -low;
    if (prepared_.size() > 1) {
        // In a stack the lanes are low: bright lines are cut so that the continua can be seen.
        std::vector<double> values;
        for (const Prepared& p : prepared_) {
            const BinRange range = visibleBins(p.edges, x);
            for (std::size_t i = range.first; i < range.last; ++i)
                if (p.faint[i] == 0 && std::isfinite(p.flux[i])) values.push_back(p.flux[i]);
        }
        if (values.size() > 100) {
            const auto at = [&](double share) {
                const auto nth =
                    values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
                std::nth_element(values.begin(), nth, values.end());
                return *nth;
            };
            low = at(0.002);
            high = at(0.99);
            if (low < high) return {low - 0.05 * (high - low), high + 0.3 * (high - low)};
        }
        low = std::numeric_limits<double>::infinity();
        high = -low;
    }
    const auto add = [&](const Prepared& p, const std::vector<double>& values, bool all) {
        const BinRange range = visibleBins(p.edges, x);
        for (std::size_t i = range.first; i < range.last; ++i) {
            if ((p.faint[i] != 0 && !all) || !std::isfinite(values[i])) continue;
            low = std::min(low, values[i]);
            high = std::max(high, values[i]);
        }
    };
    for (const bool all : {false, true}) { // masked bins count only where there is nothing else
        for (const Prepared& p : prepared_) {
            add(p, p.flux, all);
            if (settings_.xflux && !p.xflux.empty()) add(p, p.xflux, all);
        }
        if (low <= high) break;
    }
    if (!(low <= high)) return {0, 1};
    const double margin = high > low ? 0.06 * (high - low) : std::max(1.0, std::abs(high));
    return {low - margin, high + margin};
}

void SpectrumPlot::fitY() {
    if (view_.fitY) view_.y = dataY(view_.x);
}

void SpectrumPlot::setView(const View& view, bool remember) {
    if (data_.spectra.empty()) {
        view_ = view;
        viewWaits_ = view.x.span() > 0;
        return;
    }
    View next = view;
    const Interval all = dataX();
    // Neither lost in the void nor closer than a thousandth of a bin.
    const double widest = 3.0 * all.span();
    if (!(next.x.span() > 1e-3) || next.x.span() > widest || next.x.high < all.low || next.x.low > all.high) return;
    if (!next.fitY && !(next.y.span() > 0)) return;
    view_ = next;
    fitY();
    if (remember) history_.push(view_);
    invalidate();
    emit viewChanged();
}

void SpectrumPlot::showAll() {
    if (data_.spectra.empty()) return;
    setView({dataX(), {}, true});
}

void SpectrumPlot::goBack() {
    if (canGoBack()) setView(history_.back(), false);
}

void SpectrumPlot::goForward() {
    if (canGoForward()) setView(history_.forward(), false);
}

void SpectrumPlot::setCursor(int spectrum, double wavelength) {
    cursorSpectrum_ = spectrum;
    cursorWavelength_ = wavelength;
    update();
}

void SpectrumPlot::select(int spectrum) {
    if (spectrum == selected_ || curveOf(spectrum) == nullptr) return;
    selected_ = spectrum;
    updatePulls();
    invalidate();
}

QString SpectrumPlot::readout(int spectrum, double wavelength) const {
    const SpectrumCurve* curve = curveOf(spectrum);
    const int at = curve != nullptr ? curve->binAt(wavelength) : -1;
    if (at < 0) return tr("no bin here");
    const auto i = static_cast<std::size_t>(at);
    const double scale = settings_.perBin ? curve->width(i) : 1.0;
    const QString unit = settings_.perBin ? tr("/bin") : tr("/Å");
    QString out = tr("fiber %1   %2   flux %3")
                      .arg(spectrum)
                      .arg(settings_.nanometres ? tr("%1 nm").arg(curve->wavelength[i] / 10, 0, 'f', 3)
                                                : tr("%1 Å").arg(curve->wavelength[i], 0, 'f', 2),
                           number(curve->flux[i] * scale));
    if (!curve->ivar.empty())
        out += curve->ivar[i] > 0 ? tr(" ± %1").arg(number(curve->sigma(i) * scale, 3)) : tr(" (no data: ivar 0)");
    out += QStringLiteral(" e") + unit;
    if (!curve->xflux.empty()) out += tr("   xflux %1").arg(number(curve->xflux[i] * scale));
    if (!curve->mask.empty() && curve->mask[i] != 0)
        out += tr("   mask %1").arg(QString::fromStdString(specMaskNames(curve->mask[i])));
    if (!curve->padding.empty() && curve->padding[i] != 0) out += tr("   padding");
    if (spectrum == selected_ && i < pulls_.size() && std::isfinite(pulls_[i]))
        out += tr("   residual %1 σ").arg(pulls_[i], 0, 'f', 2);
    return out;
}

// Geometry

SpectrumPlot::Layout SpectrumPlot::layoutFor(const QRectF& area) const {
    const QFontMetricsF metrics(font());
    const double line = metrics.height();
    Layout out;
    out.outer = area;
    const double left = line * 1.3 + metrics.horizontalAdvance(QStringLiteral("-0.0000"));
    const double right = 0.8 * line;
    const double top = 1.5 * line;
    const double bottom = 2.7 * line;
    QRectF inside = area.adjusted(left, top, -right, -bottom);
    const bool residual = settings_.residual && !data_.overlays.empty() && inside.height() > 7 * line;
    if (!residual) {
        out.main = inside;
        return out;
    }
    const double height = std::max(2.6 * line, 0.24 * inside.height());
    const double width = std::min(0.2 * inside.width(), 9.0 * line);
    out.main = QRectF(inside.left(), inside.top(), inside.width() - width, inside.height() - height - 0.5 * line);
    out.residual = QRectF(inside.left(), inside.bottom() - height, out.main.width(), height);
    out.histogram = QRectF(out.residual.right() + 0.4 * line, out.residual.top(), width - 0.4 * line, height);
    return out;
}

QRectF SpectrumPlot::mainArea() const { return layoutFor(rect()).main; }
QRectF SpectrumPlot::residualArea() const { return layoutFor(rect()).residual; }

AxisMap SpectrumPlot::xMap(const Layout& layout) const { return {view_.x, layout.main.left(), layout.main.right()}; }

QRectF SpectrumPlot::laneRect(const Layout& layout, int lane) const {
    const double lanes = std::max<double>(1.0, static_cast<double>(data_.spectra.size()));
    const double height = layout.main.height() / lanes;
    // The first spectrum lies at the bottom, as fibers do where x grows upwards in a list of traces.
    return {layout.main.left(), layout.main.bottom() - (lane + 1) * height, layout.main.width(), height};
}

AxisMap SpectrumPlot::laneMap(const Layout& layout, int lane) const {
    const QRectF rect = laneRect(layout, lane);
    return {view_.y, rect.bottom(), rect.top()};
}

int SpectrumPlot::laneAt(double pixel) const {
    if (data_.spectra.empty()) return -1;
    const QRectF area = mainArea();
    const auto lanes = static_cast<double>(data_.spectra.size());
    const int lane = static_cast<int>(std::floor((area.bottom() - pixel) / (area.height() / lanes)));
    return std::clamp(lane, 0, static_cast<int>(data_.spectra.size()) - 1);
}

double SpectrumPlot::wavelengthAt(double pixel) const { return xMap(layoutFor(rect())).toData(pixel); }
double SpectrumPlot::pixelOf(double wavelength) const { return xMap(layoutFor(rect())).toPixel(wavelength); }
double SpectrumPlot::fluxAt(double pixel, int lane) const { return laneMap(layoutFor(rect()), lane).toData(pixel); }

// Painting

void SpectrumPlot::invalidate() {
    cache_ = QPixmap();
    update();
}

void SpectrumPlot::paintEvent(QPaintEvent* /*event*/) {
    const double ratio = devicePixelRatioF();
    const QSize wanted = (QSizeF(size()) * ratio).toSize();
    if (cache_.size() != wanted) {
        cache_ = QPixmap(wanted);
        cache_.setDevicePixelRatio(ratio);
        QPainter painter(&cache_);
        painter.setFont(font());
        paintPlot(painter, rect(), plotColours(palette()));
    }
    QPainter painter(this);
    painter.drawPixmap(0, 0, cache_);
    const PlotColours colours = plotColours(palette());
    const Layout layout = layoutFor(rect());
    if (std::isfinite(cursorWavelength_) && view_.x.contains(cursorWavelength_) && !data_.spectra.empty()) {
        const double x = std::floor(xMap(layout).toPixel(cursorWavelength_)) + 0.5;
        painter.setPen(QPen(colours.cursor, 1, Qt::DotLine));
        painter.drawLine(QPointF(x, layout.main.top()), QPointF(x, layout.main.bottom()));
        if (!layout.residual.isEmpty())
            painter.drawLine(QPointF(x, layout.residual.top()), QPointF(x, layout.residual.bottom()));
    }
    if (mark_) {
        const double x = xMap(layout).toPixel(mark_->wavelength);
        painter.setPen(QPen(colours.series(1), 1, Qt::DashLine));
        painter.drawLine(QPointF(x, layout.main.top()), QPointF(x, layout.main.bottom()));
    }
    if (boxFrom_) {
        QColor fill = colours.accent;
        fill.setAlpha(50);
        painter.setPen(colours.accent);
        painter.setBrush(fill);
        painter.drawRect(QRectF(*boxFrom_, pointer_).normalized() & layout.main);
    }
    if (hasFocus()) {
        painter.setBrush(Qt::NoBrush);
        painter.setPen(QPen(colours.accent, 1));
        painter.drawRect(QRectF(rect()).adjusted(0.5, 0.5, -0.5, -0.5));
    }
}

void SpectrumPlot::paintPlot(QPainter& painter, const QRectF& area, const PlotColours& colours) const {
    const Layout layout = layoutFor(area);
    painter.fillRect(area, colours.background);
    if (data_.spectra.empty() || !emptyReason().isEmpty()) {
        painter.setPen(colours.text);
        painter.drawText(area.adjusted(20, 20, -20, -20), Qt::AlignCenter | Qt::TextWordWrap, emptyReason());
        if (data_.spectra.empty()) return;
    }
    paintAxes(painter, layout, colours);
    painter.save();
    painter.setClipRect(layout.main);
    for (int lane = 0; lane < static_cast<int>(data_.spectra.size()); ++lane) {
        paintMasks(painter, layout, colours, lane);
        paintLane(painter, layout, colours, lane);
    }
    painter.restore();
    paintLines(painter, layout, colours);
    painter.setPen(colours.axis);
    painter.setBrush(Qt::NoBrush);
    painter.drawRect(layout.main);
    paintLegend(painter, layout, colours);
    if (!data_.note.isEmpty()) {
        painter.setPen(colours.text);
        painter.drawText(layout.main.adjusted(8, 4, -8, -4), Qt::AlignLeft | Qt::AlignBottom | Qt::TextWordWrap,
                         data_.note);
    }
    if (!layout.residual.isEmpty()) paintResidual(painter, layout, colours);
}

void SpectrumPlot::paintMasks(QPainter& painter, const Layout& layout, const PlotColours& colours, int lane) const {
    const SpectrumCurve& curve = data_.spectra[static_cast<std::size_t>(lane)];
    const Prepared& prepared = prepared_[static_cast<std::size_t>(lane)];
    const AxisMap x = xMap(layout);
    const QRectF rect = laneRect(layout, lane);
    const BinRange range = visibleBins(prepared.edges, view_.x);
    // Runs of bins with the same property as one rectangle.
    const auto runs = [&](auto&& property, auto&& paint) {
        std::size_t i = range.first;
        while (i < range.last) {
            const std::uint32_t value = property(i);
            std::size_t end = i + 1;
            while (end < range.last && property(end) == value) ++end;
            if (value != 0) {
                const double from = x.toPixel(prepared.edges[i]);
                paint(value,
                      QRectF(from, rect.top(), std::max(1.0, x.toPixel(prepared.edges[end]) - from), rect.height()));
            }
            i = end;
        }
    };
    if (!curve.padding.empty())
        runs([&](std::size_t i) { return static_cast<std::uint32_t>(curve.padding[i]); },
             [&](std::uint32_t, const QRectF& r) { painter.fillRect(r, colours.padding); });
    if (!curve.mask.empty())
        runs([&](std::size_t i) { return curve.mask[i] & settings_.shadedBits; },
             [&](std::uint32_t bits, const QRectF& r) {
                 // One stripe a bit, so that several bits are all seen.
                 const double height = r.height() / std::popcount(bits);
                 double top = r.top();
                 for (int bit = 0; bit < 32; ++bit) {
                     if ((bits >> bit & 1U) == 0) continue;
                     QColor colour = colours.maskBit(bit);
                     colour.setAlpha(colours.dark ? 80 : 60);
                     painter.fillRect(QRectF(r.left(), top, r.width(), height), colour);
                     top += height;
                 }
             });
}

void SpectrumPlot::paintLane(QPainter& painter, const Layout& layout, const PlotColours& colours, int lane) const {
    const auto index = static_cast<std::size_t>(lane);
    const SpectrumCurve& curve = data_.spectra[index];
    const Prepared& prepared = prepared_[index];
    const AxisMap x = xMap(layout);
    const AxisMap y = laneMap(layout, lane);
    const bool stacked = data_.spectra.size() > 1;
    const QRectF rect = laneRect(layout, lane);
    painter.save();
    painter.setClipRect(rect, Qt::IntersectClip);
    QColor colour = colours.series(0);
    if (stacked && lane % 2 == 1) colour = colours.dark ? colour.darker(135) : colour.lighter(135);
    if (stacked && curve.spectrum == selected_) colour = colours.text;
    const StepCurve flux{prepared.edges, prepared.flux, 1.0};
    if (settings_.errorBand && !curve.ivar.empty()) {
        QColor band = colour;
        band.setAlpha(colours.dark ? 90 : 60);
        drawBand(painter, flux, prepared.sigma, x, y, band);
    }
    if (settings_.overlays) {
        for (std::size_t o = 0; o < preparedOverlays_.size(); ++o) {
            const Prepared& other = preparedOverlays_[o][index];
            if (other.flux.empty()) continue;
            drawSteps(painter, {other.edges, other.flux, 1.0}, x, y, colours.series(1 + static_cast<int>(o)));
        }
    }
    if (settings_.xflux && !prepared.xflux.empty())
        drawSteps(painter, {prepared.edges, prepared.xflux, 1.0}, x, y, colours.series(2));
    QColor faint = colour;
    faint.setAlpha(110);
    drawSteps(painter, flux, x, y, faint, prepared.faint, 1);
    drawSteps(painter, flux, x, y, colour, prepared.faint, 0);
    painter.restore();
    if (stacked) {
        painter.setPen(colours.grid);
        painter.drawLine(rect.topLeft(), rect.topRight());
    }
}

void SpectrumPlot::paintLines(QPainter& painter, const Layout& layout, const PlotColours& colours) const {
    const AxisMap x = xMap(layout);
    const QFontMetricsF metrics(painter.font());
    painter.save();
    painter.setClipRect(layout.main);
    if (settings_.seams) {
        // Many seams side by side would hide the spectrum: short strokes then.
        const bool close = data_.seams.size() > 1 &&
                           std::abs(x.toPixel(data_.seams[1]) - x.toPixel(data_.seams[0])) < 8 * metrics.height();
        painter.setPen(QPen(colours.faint, 1, close ? Qt::SolidLine : Qt::DashLine));
        for (const double seam : data_.seams) {
            if (!view_.x.contains(seam)) continue;
            const double at = std::floor(x.toPixel(seam)) + 0.5;
            const double top = close ? layout.main.bottom() - 0.5 * metrics.height() : layout.main.top();
            painter.drawLine(QPointF(at, top), QPointF(at, layout.main.bottom()));
        }
    }
    const auto mark = [&](const std::vector<MarkedLine>& lines, double redshift, const QColor& colour, double top) {
        std::vector<const MarkedLine*> shown;
        for (const MarkedLine& line : lines)
            if (view_.x.contains(redshifted(line.wavelength, redshift))) shown.push_back(&line);
        // Strong lines take the room for their labels first; every line keeps its tick.
        std::stable_sort(shown.begin(), shown.end(),
                         [](const MarkedLine* a, const MarkedLine* b) { return a->strength > b->strength; });
        std::vector<Interval> taken;
        for (const MarkedLine* line : shown) {
            const double at = std::floor(x.toPixel(redshifted(line->wavelength, redshift))) + 0.5;
            const double half = 0.5 * metrics.horizontalAdvance(line->name) + 3;
            painter.setPen(colour);
            painter.drawLine(QPointF(at, top + metrics.height()), QPointF(at, top + 1.6 * metrics.height()));
            QColor pale = colour;
            pale.setAlpha(70);
            painter.setPen(QPen(pale, 1));
            painter.drawLine(QPointF(at, top + 1.6 * metrics.height()), QPointF(at, layout.main.bottom()));
            const bool room = at - half >= layout.main.left() && at + half <= layout.main.right() &&
                              std::none_of(taken.begin(), taken.end(),
                                           [&](const Interval& t) { return at - half < t.high && at + half > t.low; });
            if (!room) continue;
            taken.push_back({at - half, at + half});
            painter.setPen(colour);
            painter.drawText(QRectF(at - half, top, 2 * half, metrics.height()), Qt::AlignCenter, line->name);
        }
    };
    if (settings_.skyLines) mark(skyLineList(), 0.0, colours.series(4), layout.main.top() + 2);
    if (settings_.galaxyLines)
        mark(galaxyLineList(), settings_.redshift, colours.series(3),
             layout.main.top() + 2 + (settings_.skyLines ? 1.7 * metrics.height() : 0.0));
    painter.restore();
}

void SpectrumPlot::paintAxes(QPainter& painter, const Layout& layout, const PlotColours& colours) const {
    const QFontMetricsF metrics(painter.font());
    const double line = metrics.height();
    const double unit = settings_.nanometres ? 0.1 : 1.0;
    const Interval shown{view_.x.low * unit, view_.x.high * unit};
    const Ticks xTicks =
        makeTicks(shown, std::max(2, static_cast<int>(layout.main.width() / (9 * metrics.averageCharWidth()))));
    const AxisMap x{shown, layout.main.left(), layout.main.right()};
    const double bottom = layout.residual.isEmpty() ? layout.main.bottom() : layout.residual.bottom();
    for (const double tick : xTicks.values) {
        const double at = std::floor(x.toPixel(tick)) + 0.5;
        painter.setPen(colours.grid);
        painter.drawLine(QPointF(at, layout.main.top()), QPointF(at, layout.main.bottom()));
        if (!layout.residual.isEmpty())
            painter.drawLine(QPointF(at, layout.residual.top()), QPointF(at, layout.residual.bottom()));
        painter.setPen(colours.text);
        painter.drawText(QRectF(at - 60, bottom + 3, 120, line), Qt::AlignHCenter | Qt::AlignTop, xTicks.label(tick));
    }
    painter.setPen(colours.text);
    painter.drawText(QRectF(layout.main.left(), bottom + 1.35 * line, layout.main.width(), line), Qt::AlignCenter,
                     settings_.nanometres ? tr("wavelength (nm, vacuum)") : tr("wavelength (Å, vacuum)"));

    const auto lanes = static_cast<int>(data_.spectra.size());
    const double laneHeight = layout.main.height() / std::max(1, lanes);
    if (lanes <= 1 || laneHeight > 3.5 * line) {
        const Ticks yTicks = makeTicks(view_.y, std::max(2, static_cast<int>(laneHeight / (2.2 * line))));
        for (int lane = 0; lane < lanes; ++lane) {
            const AxisMap y = laneMap(layout, lane);
            for (const double tick : yTicks.values) {
                const double at = std::floor(y.toPixel(tick)) + 0.5;
                painter.setPen(tick == 0 ? colours.faint : colours.grid);
                painter.drawLine(QPointF(layout.main.left(), at), QPointF(layout.main.right(), at));
                painter.setPen(colours.text);
                painter.drawText(QRectF(layout.outer.left() + line, at - 0.5 * line,
                                        layout.main.left() - layout.outer.left() - line - 4, line),
                                 Qt::AlignRight | Qt::AlignVCenter, yTicks.label(tick));
            }
        }
    } else {
        // No room for numbers: the fibers' own numbers instead, as many as fit.
        const int every = std::max(1, static_cast<int>(std::ceil(line / laneHeight)));
        painter.setPen(colours.text);
        for (int lane = 0; lane < lanes; lane += every) {
            const QRectF rect = laneRect(layout, lane);
            painter.drawText(QRectF(layout.outer.left() + line, rect.center().y() - 0.5 * line,
                                    layout.main.left() - layout.outer.left() - line - 4, line),
                             Qt::AlignRight | Qt::AlignVCenter,
                             QString::number(data_.spectra[static_cast<std::size_t>(lane)].spectrum));
        }
    }
    painter.save();
    painter.translate(layout.outer.left() + 2, layout.main.center().y());
    painter.rotate(-90);
    const bool numbers = lanes <= 1 || laneHeight > 3.5 * line;
    QString text = settings_.perBin ? tr("flux (electron / bin)") : tr("flux (electron / Å)");
    if (metrics.horizontalAdvance(text) > layout.main.height())
        text = settings_.perBin ? tr("flux (e/bin)") : tr("flux (e/Å)");
    if (!numbers)
        text = layout.main.height() < 20 * line ? tr("fiber")
                                                : tr("fiber; each lane %1 to %2 %3")
                                                      .arg(number(view_.y.low, 3), number(view_.y.high, 3),
                                                           settings_.perBin ? tr("e/bin") : tr("e/Å"));
    painter.drawText(QRectF(-0.5 * layout.main.height(), 0, layout.main.height(), line), Qt::AlignCenter,
                     metrics.elidedText(text, Qt::ElideRight, layout.main.height()));
    painter.restore();
}

void SpectrumPlot::paintLegend(QPainter& painter, const Layout& layout, const PlotColours& colours) const {
    const QFontMetricsF metrics(painter.font());
    const double line = metrics.height();
    struct Entry {
        QColor colour;
        QString text;
        bool area;
    };
    std::vector<Entry> entries;
    const auto lanes = data_.spectra.size();
    if (lanes == 1)
        entries.push_back(
            {colours.series(0),
             data_.spectra[0].label +
                 (settings_.errorBand && !data_.spectra[0].ivar.empty() ? tr(", flux ± σ") : tr(", flux")),
             false});
    else
        entries.push_back({colours.text,
                           tr("fibers %1 to %2, selected: %3")
                               .arg(data_.spectra.front().spectrum)
                               .arg(data_.spectra.back().spectrum)
                               .arg(selected_),
                           false});
    if (settings_.smoothing > 1)
        entries.push_back(
            {colours.series(1), tr("SMOOTHED over %1 bins, display only").arg(settings_.smoothing), false});
    if (settings_.xflux) {
        const bool any = std::any_of(data_.spectra.begin(), data_.spectra.end(),
                                     [](const SpectrumCurve& c) { return !c.xflux.empty(); });
        entries.push_back(
            {colours.series(2), any ? tr("xflux (deconvolved)") : tr("no xflux here (frame files have none)"), false});
    }
    if (settings_.overlays)
        for (std::size_t o = 0; o < data_.overlays.size(); ++o)
            entries.push_back({colours.series(1 + static_cast<int>(o)), data_.overlays[o].name, false});
    std::uint32_t bits = 0;
    bool padding = false;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        const SpectrumCurve& curve = data_.spectra[lane];
        const BinRange range = visibleBins(prepared_[lane].edges, view_.x);
        for (std::size_t i = range.first; i < range.last; ++i) {
            if (!curve.mask.empty()) bits |= curve.mask[i];
            if (!curve.padding.empty() && curve.padding[i] != 0) padding = true;
        }
    }
    for (int bit = 0; bit < 32; ++bit)
        if ((bits & settings_.shadedBits) >> bit & 1U) {
            QColor colour = colours.maskBit(bit);
            colour.setAlpha(140);
            entries.push_back({colour, QString::fromStdString(specMaskBitName(bit)), true});
        }
    if (padding) entries.push_back({colours.faint, tr("padding"), true});
    if (settings_.seams &&
        std::any_of(data_.seams.begin(), data_.seams.end(), [&](double s) { return view_.x.contains(s); }))
        entries.push_back({colours.faint, tr("- - patch seam"), false});
    if (settings_.skyLines) entries.push_back({colours.series(4), tr("sky lines (vacuum)"), false});
    if (settings_.galaxyLines)
        entries.push_back(
            {colours.series(3), tr("galaxy lines (vacuum), z = %1").arg(settings_.redshift, 0, 'f', 4), false});

    double x = layout.main.left();
    const double y = layout.outer.top() + 0.25 * line;
    for (const Entry& entry : entries) {
        const double width = metrics.horizontalAdvance(entry.text) + 1.2 * line;
        if (x + width > layout.outer.right()) break;
        if (entry.area)
            painter.fillRect(QRectF(x, y + 0.15 * line, 0.7 * line, 0.7 * line), entry.colour);
        else
            painter.fillRect(QRectF(x, y + 0.45 * line, 0.7 * line, 2), entry.colour);
        painter.setPen(colours.text);
        painter.drawText(QRectF(x + 0.9 * line, y, width, line), Qt::AlignLeft | Qt::AlignVCenter, entry.text);
        x += width + 0.8 * line;
    }
}

void SpectrumPlot::paintResidual(QPainter& painter, const Layout& layout, const PlotColours& colours) const {
    const QFontMetricsF metrics(painter.font());
    const double line = metrics.height();
    const AxisMap x = xMap(layout);
    const AxisMap y{{-pullRange, pullRange}, layout.residual.bottom(), layout.residual.top()};
    const SpectrumOverlay* overlay = residualOverlay();
    for (const double tick : {-5.0, 0.0, 5.0}) {
        const double at = std::floor(y.toPixel(tick)) + 0.5;
        painter.setPen(tick == 0 ? colours.faint : colours.grid);
        painter.drawLine(QPointF(layout.residual.left(), at), QPointF(layout.residual.right(), at));
        painter.setPen(colours.text);
        painter.drawText(
            QRectF(layout.outer.left(), at - 0.5 * line, layout.residual.left() - layout.outer.left() - 4, line),
            Qt::AlignRight | Qt::AlignVCenter, tr("%1 σ").arg(tick));
    }
    if (const QString problem = residualProblem(); !problem.isEmpty()) {
        painter.setPen(colours.faint);
        painter.drawText(layout.residual.adjusted(4, 0, -4, 0), Qt::AlignCenter | Qt::TextWordWrap, problem);
    } else {
        painter.save();
        painter.setClipRect(layout.residual);
        // Beyond the pane a pull is drawn at its edge, not lost.
        std::vector<double> clipped = pulls_;
        for (double& pull : clipped)
            if (std::isfinite(pull)) pull = std::clamp(pull, -pullRange + 0.1, pullRange - 0.1);
        drawSteps(painter, {pullEdges_, clipped, 1.0}, x, y, colours.series(0));
        painter.restore();
        const Histogram h = histogram(pulls_, -pullRange, pullRange, pullBins);
        const double most =
            std::max<double>(1.0, static_cast<double>(*std::max_element(h.counts.begin(), h.counts.end())));
        const double step = 2 * pullRange / pullBins;
        QColor fill = colours.series(0);
        fill.setAlpha(150);
        for (int i = 0; i < pullBins; ++i) {
            const double from = y.toPixel(-pullRange + i * step);
            const double to = y.toPixel(-pullRange + (i + 1) * step);
            const double length =
                layout.histogram.width() * static_cast<double>(h.counts[static_cast<std::size_t>(i)]) / most;
            painter.fillRect(QRectF(layout.histogram.left(), to, length, from - to), fill);
        }
        // What noise of the stated size would look like.
        QPolygonF normal;
        for (int i = 0; i <= 120; ++i) {
            const double pull = -pullRange + 2 * pullRange * i / 120.0;
            const double expected =
                static_cast<double>(h.total) * step * std::exp(-0.5 * pull * pull) / std::sqrt(2 * M_PI);
            normal << QPointF(layout.histogram.left() + layout.histogram.width() * std::min(1.0, expected / most),
                              y.toPixel(pull));
        }
        painter.setPen(QPen(colours.series(1), 1.2));
        painter.setRenderHint(QPainter::Antialiasing, true);
        painter.drawPolyline(normal);
        painter.setRenderHint(QPainter::Antialiasing, false);
        painter.setPen(colours.text);
        const QString text = tr("mean %1\nσ %2\n> 6 σ: %3\nn %4")
                                 .arg(h.mean, 0, 'f', 2)
                                 .arg(h.sigma, 0, 'f', 2)
                                 .arg(h.outliers)
                                 .arg(h.total);
        painter.drawText(QRectF(layout.histogram.left(), layout.histogram.top() - 4.6 * line,
                                layout.histogram.width() + 0.8 * line, 4.4 * line),
                         Qt::AlignLeft | Qt::AlignBottom, text);
        painter.setPen(colours.text);
        painter.drawText(layout.residual.adjusted(6, 2, -6, -2), Qt::AlignLeft | Qt::AlignTop,
                         tr("(fiber %1 − %2) / σ").arg(selected_).arg(overlay->name));
    }
    painter.setPen(colours.axis);
    painter.setBrush(Qt::NoBrush);
    painter.drawRect(layout.residual);
    painter.drawRect(layout.histogram);
}

// Mouse and keys

void SpectrumPlot::resizeEvent(QResizeEvent* event) {
    QWidget::resizeEvent(event);
    invalidate();
}

void SpectrumPlot::changeEvent(QEvent* event) {
    QWidget::changeEvent(event);
    if (event->type() == QEvent::PaletteChange || event->type() == QEvent::FontChange) invalidate();
}

void SpectrumPlot::leaveEvent(QEvent* event) {
    QWidget::leaveEvent(event);
    emit cursorLeft();
}

void SpectrumPlot::pointAt(const QPointF& position) {
    pointer_ = position;
    if (data_.spectra.empty()) return;
    const int lane = laneAt(position.y());
    cursorSpectrum_ =
        data_.spectra.size() == 1 ? data_.spectra[0].spectrum : data_.spectra[static_cast<std::size_t>(lane)].spectrum;
    cursorWavelength_ = wavelengthAt(position.x());
    update();
    if (dataX().contains(cursorWavelength_)) emit cursorMoved(cursorSpectrum_, cursorWavelength_);
}

void SpectrumPlot::mouseMoveEvent(QMouseEvent* event) {
    const QPointF at = event->position();
    if (panFrom_) {
        const Layout layout = layoutFor(rect());
        if (!panned_ && (at - *panFrom_).manhattanLength() < 4) return;
        panned_ = true;
        View next = panView_;
        const double dx = (at.x() - panFrom_->x()) * panView_.x.span() / layout.main.width();
        next.x = {panView_.x.low - dx, panView_.x.high - dx};
        if (!panView_.fitY) {
            const double height =
                layout.main.height() / static_cast<double>(std::max<std::size_t>(1, data_.spectra.size()));
            const double dy = (at.y() - panFrom_->y()) * panView_.y.span() / height;
            next.y = {panView_.y.low + dy, panView_.y.high + dy};
        }
        pointer_ = at;
        setView(next, false);
        return;
    }
    pointAt(at);
}

void SpectrumPlot::mousePressEvent(QMouseEvent* event) {
    setFocus(Qt::MouseFocusReason);
    if (data_.spectra.empty()) return;
    if (event->button() == Qt::LeftButton || event->button() == Qt::MiddleButton) {
        panFrom_ = event->position();
        panView_ = view_;
        panned_ = false;
    } else if (event->button() == Qt::RightButton) {
        boxFrom_ = event->position();
        pointer_ = event->position();
    }
}

void SpectrumPlot::mouseReleaseEvent(QMouseEvent* event) {
    if (panFrom_ && (event->button() == Qt::LeftButton || event->button() == Qt::MiddleButton)) {
        panFrom_.reset();
        if (panned_) {
            history_.push(view_);
            emit viewChanged();
        } else if (event->button() == Qt::LeftButton) {
            pointAt(event->position());
            if (mainArea().contains(event->position()) || residualArea().contains(event->position())) {
                select(cursorSpectrum_);
                emit binSelected(cursorSpectrum_, cursorWavelength_);
            }
        }
    } else if (boxFrom_ && event->button() == Qt::RightButton) {
        const QRectF box = QRectF(*boxFrom_, event->position()).normalized() & mainArea();
        boxFrom_.reset();
        if (box.width() > 4) {
            View next = view_;
            next.x = {wavelengthAt(box.left()), wavelengthAt(box.right())};
            if (data_.spectra.size() == 1 && box.height() > 12) {
                next.y = {fluxAt(box.bottom(), 0), fluxAt(box.top(), 0)};
                next.fitY = false;
            }
            setView(next);
        }
        update();
    }
}

void SpectrumPlot::mouseDoubleClickEvent(QMouseEvent* event) {
    if (event->button() == Qt::LeftButton) showAll();
}

void SpectrumPlot::wheelEvent(QWheelEvent* event) {
    if (data_.spectra.empty() || event->angleDelta().isNull()) return;
    const int turned = event->angleDelta().y() != 0 ? event->angleDelta().y() : event->angleDelta().x();
    const double factor = std::pow(1.2, turned / 120.0);
    View next = view_;
    if (event->modifiers() & (Qt::ControlModifier | Qt::ShiftModifier)) {
        const int lane = laneAt(event->position().y());
        next.y = zoomed(view_.y, fluxAt(event->position().y(), lane), factor);
        next.fitY = false;
    } else {
        next.x = zoomed(view_.x, wavelengthAt(event->position().x()), factor);
    }
    setView(next);
    event->accept();
}

QString SpectrumPlot::residualProblem() const {
    const auto& overlays = data_.overlays;
    if (overlays.empty() || settings_.residualOverlay < 0 ||
        settings_.residualOverlay >= static_cast<int>(overlays.size()))
        return tr("No second spectrum to compare with");
    const SpectrumOverlay& overlay = overlays[static_cast<std::size_t>(settings_.residualOverlay)];
    if (pulls_.empty()) return tr("%1 has no fiber %2").arg(overlay.name).arg(selected_);
    if (std::any_of(pulls_.begin(), pulls_.end(), [](double pull) { return std::isfinite(pull); })) return {};
    const SpectrumCurve* mine = curveOf(selected_);
    const SpectrumCurve* other = overlay.find(selected_);
    if (mine == nullptr || other == nullptr || mine->empty() || other->empty())
        return tr("%1 has no fiber %2").arg(overlay.name).arg(selected_);
    if (other->wavelength.back() < mine->wavelength.front() || other->wavelength.front() > mine->wavelength.back())
        return tr("%1 holds %2 to %3 \u00c5, this spectrum %4 to %5 \u00c5: no wavelength in common")
            .arg(overlay.name)
            .arg(other->wavelength.front(), 0, 'f', 1)
            .arg(other->wavelength.back(), 0, 'f', 1)
            .arg(mine->wavelength.front(), 0, 'f', 1)
            .arg(mine->wavelength.back(), 0, 'f', 1);
    bool coincide = false;
    for (std::size_t i = 0; i < mine->size() && !coincide; ++i) {
        const int at = other->binAt(mine->wavelength[i]);
        coincide = at >= 0 && std::abs(other->wavelength[static_cast<std::size_t>(at)] - mine->wavelength[i]) <=
                                  0.01 * mine->width(i);
    }
    return coincide ? tr("%1: no bin has an error in both spectra").arg(overlay.name)
                    : tr("%1 has other wavelengths than this spectrum: no difference bin by bin").arg(overlay.name);
}

const std::vector<SpectrumPlot::Command>& SpectrumPlot::commands() {
    static const std::vector<Command> list{
        {"expand", tr("&Expand between two points"), QStringLiteral("A"), tr("Once at each end of the region")},
        {"window", tr("&Window keys..."), QStringLiteral("W"),
         tr("Then a all, m all in x, n all in y, z closer, x closer in x, y closer in y, p further, l left, r right, c "
            "centre, j left edge, k right edge, b bottom, t top")},
        {"width", tr("Equivalent &width"), QStringLiteral("E"), tr("Once at each end of the line, on the continuum")},
        {"statistics", tr("&Mean, rms, signal to noise"), QStringLiteral("M"), tr("Once at each end of the region")},
        {"smooth", tr("Next &smoothing"), QStringLiteral("S"), tr("1, 3, 5, 9, 15 bins; for display only")},
        {"readout", tr("&Values here"), QStringLiteral("Space"), tr("Values under the cursor, in the strip")},
        {"previous", tr("&Previous fiber"), QStringLiteral("("), tr("The fiber before, at the same wavelength")},
        {"next", tr("&Next fiber"), QStringLiteral(")"), tr("The next fiber, at the same wavelength")},
        {"all", tr("Show &all"), QStringLiteral("Home"), tr("All wavelengths and fluxes")},
        {"back", tr("View &before"), QStringLiteral("Alt+Left"), tr("What was shown before")},
        {"forward", tr("View &after"), QStringLiteral("Alt+Right"), tr("What was shown after")},
        {"left", tr("Pan &left"), QStringLiteral("Left"), tr("A quarter of what is shown")},
        {"right", tr("Pan &right"), QStringLiteral("Right"), tr("A quarter of what is shown")},
        {"closer", tr("Zoom &in"), QStringLiteral("+;="), tr("At the cursor")},
        {"further", tr("Zoom &out"), QStringLiteral("-"), tr("At the cursor")},
    };
    return list;
}

bool SpectrumPlot::event(QEvent* event) {
    // The key after w, and Esc with a mark set, are meant for this view, whatever shortcut they are elsewhere.
    if (event->type() == QEvent::ShortcutOverride) {
        const auto* key = static_cast<QKeyEvent*>(event);
        if ((windowPrefix_ && !key->text().isEmpty()) || ((mark_ || windowPrefix_) && key->key() == Qt::Key_Escape)) {
            event->accept();
            return true;
        }
    }
    return QWidget::event(event);
}

void SpectrumPlot::keyPressEvent(QKeyEvent* event) {
    if (event->key() == Qt::Key_Escape && (mark_ || windowPrefix_)) {
        mark_.reset();
        windowPrefix_ = false;
        update();
        emit message(QString());
        return;
    }
    if (windowPrefix_ && !event->text().isEmpty()) {
        windowPrefix_ = false;
        windowKey(event->text().toLower());
        return;
    }
    if (ownKeys_) {
        const QString text = event->text();
        const bool plain = !(event->modifiers() & (Qt::ControlModifier | Qt::AltModifier));
        const QKeySequence pressed(event->keyCombination());
        for (const Command& command : commands())
            for (const QString& name : command.keys.split(QLatin1Char(';'))) {
                // ( needs Shift on some keyboards and none on others: what it writes counts.
                const bool writes = plain && text.size() == 1 && text != QStringLiteral(" ") &&
                                    text.compare(name, Qt::CaseInsensitive) == 0;
                if (writes || pressed == QKeySequence::fromString(name, QKeySequence::PortableText)) {
                    run(QLatin1String(command.id));
                    return;
                }
            }
    }
    QWidget::keyPressEvent(event);
}

void SpectrumPlot::run(const QString& command) {
    if (data_.spectra.empty()) return;
    const double at = std::isfinite(cursorWavelength_) ? cursorWavelength_ : 0.5 * (view_.x.low + view_.x.high);
    const int spectrum = curveOf(cursorSpectrum_) != nullptr ? cursorSpectrum_ : selected_;
    const double shift = 0.25 * view_.x.span();
    View next = view_;
    if (command == QLatin1String("expand"))
        mark('a');
    else if (command == QLatin1String("width"))
        mark('e');
    else if (command == QLatin1String("statistics"))
        mark('m');
    else if (command == QLatin1String("previous"))
        emit fiberStepRequested(-1);
    else if (command == QLatin1String("next"))
        emit fiberStepRequested(1);
    else if (command == QLatin1String("readout"))
        emit message(readout(spectrum, at));
    else if (command == QLatin1String("all"))
        showAll();
    else if (command == QLatin1String("back"))
        goBack();
    else if (command == QLatin1String("forward"))
        goForward();
    else if (command == QLatin1String("smooth")) {
        const std::vector<int> widths{1, 3, 5, 9, 15};
        const auto after = std::upper_bound(widths.begin(), widths.end(), settings_.smoothing);
        emit smoothingRequested(after == widths.end() ? 1 : *after);
    } else if (command == QLatin1String("window")) {
        windowPrefix_ = true;
        emit message(tr("window: a all, m all in x, n all in y, z closer, x closer in x, y closer in y, p further, "
                        "l left, r right, c centre, j left edge, k right edge, b bottom, t top"));
    } else {
        if (command == QLatin1String("left")) next.x = {view_.x.low - shift, view_.x.high - shift};
        if (command == QLatin1String("right")) next.x = {view_.x.low + shift, view_.x.high + shift};
        if (command == QLatin1String("closer")) next.x = zoomed(view_.x, at, 2.0);
        if (command == QLatin1String("further")) next.x = zoomed(view_.x, at, 0.5);
        setView(next);
    }
}

void SpectrumPlot::mark(char key) {
    const double at = std::isfinite(cursorWavelength_) ? cursorWavelength_ : 0.5 * (view_.x.low + view_.x.high);
    const int lane = laneAt(pointer_.y());
    const SpectrumCurve& curve = data_.spectra[static_cast<std::size_t>(lane)];
    const double scale = settings_.perBin && !curve.empty() ? curve.width(0) : 1.0;
    const Mark here{key, at, fluxAt(pointer_.y(), lane) / scale};
    if (mark_ && mark_->key == key) {
        finishMark(here);
        return;
    }
    mark_ = here;
    update();
    emit message(tr("%1 again at the other end (Esc: not)").arg(QLatin1Char(key)));
}

void SpectrumPlot::finishMark(const Mark& end) {
    const Mark from = *mark_;
    mark_.reset();
    update();
    const SpectrumCurve* curve = curveOf(curveOf(cursorSpectrum_) != nullptr ? cursorSpectrum_ : selected_);
    const double low = std::min(from.wavelength, end.wavelength);
    const double high = std::max(from.wavelength, end.wavelength);
    if (end.key == 'a') {
        View next = view_;
        next.x = {low, high};
        next.fitY = true;
        setView(next);
        emit message(QString());
        return;
    }
    if (curve == nullptr) return;
    if (end.key == 'm') {
        const RegionStatistics r = regionStatistics(*curve, low, high);
        emit message(r.count == 0
                         ? tr("no bins with data between %1 and %2 Å").arg(low, 0, 'f', 2).arg(high, 0, 'f', 2)
                         : tr("fiber %1, %2 to %3 Å: %4 bins, mean %5 e/Å, rms %6, snr %7, median S/N a bin %8")
                               .arg(curve->spectrum)
                               .arg(low, 0, 'f', 2)
                               .arg(high, 0, 'f', 2)
                               .arg(r.count)
                               .arg(number(r.mean), number(r.rms, 4), number(r.snr, 4), number(r.binSnr, 4)));
    } else if (end.key == 'e') {
        const EquivalentWidth e = equivalentWidth(*curve, from.wavelength, from.flux, end.wavelength, end.flux);
        emit message(e.count == 0
                         ? tr("no bins with data between %1 and %2 Å").arg(low, 0, 'f', 2).arg(high, 0, 'f', 2)
                         : tr("fiber %1: equivalent width %2 ± %3 Å, centre %4 Å, flux %5 ± %6 e, continuum %7 e/Å")
                               .arg(curve->spectrum)
                               .arg(number(e.width, 4), number(e.widthError, 2))
                               .arg(e.centre, 0, 'f', 2)
                               .arg(number(e.flux), number(e.fluxError, 3), number(e.continuum, 4)));
    }
}

void SpectrumPlot::windowKey(const QString& text) {
    const double at = std::isfinite(cursorWavelength_) ? cursorWavelength_ : 0.5 * (view_.x.low + view_.x.high);
    const double flux = fluxAt(pointer_.y(), laneAt(pointer_.y()));
    View next = view_;
    const double shift = 0.5 * view_.x.span();
    emit message(QString());
    switch (text.at(0).toLatin1()) {
    case 'a':
        return showAll();
    case 'm':
        next.x = dataX();
        break;
    case 'n':
        next.fitY = true;
        break;
    case 'z':
        next.x = zoomed(view_.x, at, 2.0);
        next.y = zoomed(view_.y, flux, 2.0);
        next.fitY = false;
        break;
    case 'x':
        next.x = zoomed(view_.x, at, 2.0);
        break;
    case 'y':
        next.y = zoomed(view_.y, flux, 2.0);
        next.fitY = false;
        break;
    case 'p':
        next.x = zoomed(view_.x, at, 0.5);
        next.y = zoomed(view_.y, flux, 0.5);
        break;
    case 'l':
        next.x = {view_.x.low - shift, view_.x.high - shift};
        break;
    case 'r':
        next.x = {view_.x.low + shift, view_.x.high + shift};
        break;
    case 'c':
        next.x = {at - 0.5 * view_.x.span(), at + 0.5 * view_.x.span()};
        break;
    case 'j':
        next.x.low = at;
        break;
    case 'k':
        next.x.high = at;
        break;
    case 'b':
        next.y.low = flux;
        next.fitY = false;
        break;
    case 't':
        next.y.high = flux;
        next.fitY = false;
        break;
    default:
        emit message(tr("window: no key %1").arg(text));
        return;
    }
    setView(next);
}

} // namespace patchlight::widgets
