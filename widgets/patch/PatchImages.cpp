#include "widgets/patch/PatchImages.h"

#include "core/analysis/MaskNames.h"
#include "core/base/Nan.h"
#include "core/engine/PatchResult.h"
#include "core/engine/Plan.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "widgets/patch/MaskEditor.h"
#include "widgets/patch/PatchSpots.h"
#include "widgets/plot/Colours.h"

#include <QFontMetricsF>
#include <QKeyEvent>
#include <QMouseEvent>
#include <QPainter>
#include <QPainterPath>
#include <QWheelEvent>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

namespace patchlight::widgets {

namespace {

constexpr double pullCut = 5.0;

double percentile(std::vector<double>& values, double share) {
    if (values.empty()) return nan;
    const auto nth = values.begin() + static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1));
    std::nth_element(values.begin(), nth, values.end());
    return *nth;
}

QString shortNumber(double value) {
    return std::abs(value) >= 100 && std::abs(value) < 1e5 ? QString::number(value, 'f', 0)
                                                           : QString::number(value, 'g', 3);
}

} // namespace

PatchImages::PatchImages(MaskEditor* editor, QWidget* parent)
    : QWidget(parent), editor_(editor), cursorX_(nan), cursorY_(nan) {
    setMouseTracking(true);
    setFocusPolicy(Qt::StrongFocus);
    setAccessibleName(tr("Patch: data, model, residual and pull"));
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Expanding);
    connect(editor_, &MaskEditor::changed, this, [this] { update(); });
}

PatchImages::~PatchImages() = default;

QString PatchImages::title(Panel panel) {
    switch (panel) {
    case Panel::Data:
        return tr("data (e)");
    case Panel::Model:
        return tr("model (e)");
    case Panel::Residual:
        return tr("data − model (e)");
    case Panel::Pull:
        return tr("pull (σ)");
    case Panel::Change:
        return tr("model now − before (σ)");
    }
    return {};
}

std::vector<PatchImages::Panel> PatchImages::panels() const {
    std::vector<Panel> out{Panel::Data, Panel::Model, Panel::Residual, Panel::Pull};
    if (before_) out.push_back(Panel::Change);
    return out;
}

// Content

void PatchImages::setPatch(const PatchInput& input) {
    const bool same = input_ && input && input_.detail->window == input.detail->window;
    input_ = input;
    before_.reset(); // whoever shows a patch says what was before
    if (!same) {
        past_.clear();
        future_.clear();
        selectedPixel_.reset();
        spots_.reset();
        selectedBin_ = -1;
        contrast_ = 1;
        fitted_ = true;
    }
    makeEdges();
    makeCuts();
    makeImages();
    if (fitted_) showAll();
    update();
}

void PatchImages::setBefore(std::shared_ptr<const PatchDetail> before) {
    // The window may differ: other padding, other traces, another cut into patches. What both have is compared.
    const bool fits = before && input_ && !before->window.empty();
    before_ = fits ? std::move(before) : nullptr;
    makeImages();
    if (fitted_) showAll();
    update();
}

void PatchImages::setSpots(std::shared_ptr<const PatchSpots> spots) {
    spots_ = std::move(spots);
    update();
}

void PatchImages::setStretch(Stretch stretch) {
    stretch_ = stretch;
    makeImages();
    update();
}

bool PatchImages::pixelIn(int x, int y) const {
    return input_ && input_.detail->window.x.contains(x) && input_.detail->window.y.contains(y);
}

double PatchImages::value(Panel panel, int x, int y) const {
    if (!pixelIn(x, y)) return nan;
    const PatchDetail& detail = *input_.detail;
    const auto row = static_cast<std::size_t>(y - detail.window.y.first);
    const auto column = static_cast<std::size_t>(x - detail.window.x.first);
    const auto raw = [&]() -> double {
        // The engine's own pixels are 0 where they are masked; what was there is what one wants to see.
        if (input_.image && x < input_.image->nx && y < input_.image->ny)
            return static_cast<double>(
                input_.image->pixels[static_cast<std::size_t>(y) * static_cast<std::size_t>(input_.image->nx) +
                                     static_cast<std::size_t>(x)]);
        return detail.image(row, column);
    };
    switch (panel) {
    case Panel::Data:
        return raw();
    case Panel::Model:
        return detail.model(row, column);
    case Panel::Residual:
        return raw() - detail.model(row, column);
    case Panel::Pull:
        return detail.pixivar(row, column) > 0 ? detail.chi(row, column) : nan;
    case Panel::Change: {
        if (!before_ || !before_->window.x.contains(x) || !before_->window.y.contains(y)) return nan;
        const auto rowBefore = static_cast<std::size_t>(y - before_->window.y.first);
        const auto columnBefore = static_cast<std::size_t>(x - before_->window.x.first);
        return (detail.model(row, column) - before_->model(rowBefore, columnBefore)) *
               std::sqrt(std::max(detail.pixivar(row, column), before_->pixivar(rowBefore, columnBefore)));
    }
    }
    return nan;
}

void PatchImages::makeEdges() {
    coreEdges_.clear();
    heldEdges_.clear();
    if (!input_) return;
    const Psf& psf = *input_.psf;
    const Patch& patch = input_.detail->patch;
    const int bundlesize = input_.plan->options.bundlesize;
    const auto edges = [&](IndexRange spectra, int y) {
        const auto column = [&](int s) { return psf.x(s, psf.wavelengthAt(s, y)); };
        // Half-way to the next trace; at a bundle's edge as far as light to speak of reaches.
        const auto side = [&](int s, int step) {
            constexpr double reach = 5.0; // pixels
            const int next = s + step;
            const bool alone = next < 0 || next >= psf.nspec || next / bundlesize != s / bundlesize;
            return alone ? column(s) + step * reach : 0.5 * (column(s) + column(next));
        };
        return std::pair(static_cast<float>(side(spectra.first, -1)), static_cast<float>(side(spectra.last - 1, +1)));
    };
    for (int y = input_.detail->window.y.first; y < input_.detail->window.y.last; ++y) {
        coreEdges_.push_back(edges(patch.core, y));
        heldEdges_.push_back(edges(patch.spectra, y));
    }
}

bool PatchImages::holds(const std::vector<std::pair<float, float>>& edges, int x, int y) const {
    const auto& [left, right] = edges[static_cast<std::size_t>(y - input_.detail->window.y.first)];
    return static_cast<float>(x) >= left && static_cast<float>(x) <= right;
}

void PatchImages::makeCuts() {
    if (!input_ || input_.detail->window.empty()) return;
    std::vector<double> values;
    std::vector<double> noise;
    const PatchDetail& detail = *input_.detail;
    // Of the fibers that are kept: a bright one beside them would hide them.
    for (std::size_t i = 0; i < detail.pixivar.size(); ++i) {
        const int x = detail.window.x.first + static_cast<int>(i % detail.pixivar.columns());
        const int y = detail.window.y.first + static_cast<int>(i / detail.pixivar.columns());
        if (!(detail.pixivar.values()[i] > 0) || !holds(coreEdges_, x, y)) continue;
        values.push_back(detail.image.values()[i]);
        noise.push_back(1.0 / std::sqrt(detail.pixivar.values()[i]));
    }
    dataLow_ = values.empty() ? 0.0 : percentile(values, 0.01);
    dataHigh_ = values.empty() ? 1.0 : percentile(values, 0.995);
    if (!(dataHigh_ > dataLow_)) dataHigh_ = dataLow_ + 1;
    residualHigh_ = noise.empty() ? 1.0 : 5.0 * percentile(noise, 0.5);
}

double PatchImages::low(Panel panel) const {
    switch (panel) {
    case Panel::Data:
    case Panel::Model:
        return dataLow_;
    case Panel::Residual:
        return -residualHigh_;
    default:
        return -pullCut;
    }
}

double PatchImages::high(Panel panel) const {
    switch (panel) {
    case Panel::Data:
    case Panel::Model:
        return dataLow_ + (dataHigh_ - dataLow_) / contrast_;
    case Panel::Residual:
        return residualHigh_;
    default:
        return pullCut;
    }
}

void PatchImages::makeImages() {
    images_.clear();
    if (!input_ || input_.detail->window.empty()) return;
    static const ColourMap grey(ColourMap::Kind::Grey);
    static const ColourMap diverging(ColourMap::Kind::Diverging);
    const PixelWindow& window = input_.detail->window;
    for (const Panel panel : panels()) {
        const bool signedValues = panel != Panel::Data && panel != Panel::Model;
        const ColourMap& map = signedValues ? diverging : grey;
        const double from = low(panel);
        const double to = high(panel);
        QImage image(window.x.count(), window.y.count(), QImage::Format_RGB32);
        for (int y = window.y.first; y < window.y.last; ++y) {
            auto* line = reinterpret_cast<QRgb*>(image.scanLine(window.y.last - 1 - y));
            for (int x = window.x.first; x < window.x.last; ++x) {
                double v = value(panel, x, y);
                if (!signedValues && stretch_ == Stretch::Asinh) {
                    constexpr double softness = 10.0;
                    const double t = (v - from) / (to - from);
                    v = from + (to - from) * std::asinh(softness * t) / std::asinh(softness);
                }
                // Beyond its fibers the patch has no model: what is there is no misfit.
                if (signedValues && !holds(heldEdges_, x, y)) {
                    const QRgb c = map.colour(v, from, to);
                    constexpr int dim = 90;
                    const auto faint = [](int value) { return (value + 3 * dim) / 4; };
                    *line++ = qRgb(faint(qRed(c)), faint(qGreen(c)), faint(qBlue(c)));
                    continue;
                }
                // A pixel that does not count has no pull: neutral, the hatching says why.
                if (!std::isfinite(v) && panel == Panel::Pull)
                    *line++ = qRgb(200, 200, 200);
                else
                    *line++ = map.colour(v, from, to);
            }
        }
        images_.push_back(std::move(image));
    }
}

bool PatchImages::isMasked(int x, int y) const {
    if (!pixelIn(x, y)) return false;
    if (!input_.image) {
        const PatchDetail& detail = *input_.detail;
        return detail.pixmask(static_cast<std::size_t>(y - detail.window.y.first),
                              static_cast<std::size_t>(x - detail.window.x.first)) != 0;
    }
    // The image's own mask rather than the patch's: an edit that was just taken back shows before the patch is extracted anew.
    const CcdImage& image = *input_.image;
    const auto edit = editor_->edits().constFind(y * image.nx + x);
    const auto i = static_cast<std::size_t>(y) * static_cast<std::size_t>(image.nx) + static_cast<std::size_t>(x);
    // A pixel without a weight of its own cannot be unmasked.
    if (!(image.ivar[i] > 0) || !std::isfinite(image.ivar[i]) || !std::isfinite(image.pixels[i])) return true;
    if (edit != editor_->edits().constEnd()) return *edit;
    return !image.mask.empty() && (static_cast<std::uint32_t>(image.mask[i]) & ccdMaskedBits) != 0;
}

QString PatchImages::readout(int x, int y) const {
    if (!pixelIn(x, y)) return tr("x %1, y %2: not in the patch's window").arg(x).arg(y);
    const PatchDetail& detail = *input_.detail;
    const auto row = static_cast<std::size_t>(y - detail.window.y.first);
    const auto column = static_cast<std::size_t>(x - detail.window.x.first);
    const double ivar = detail.pixivar(row, column);
    QString out = tr("x %1, y %2   data %3 e").arg(x).arg(y).arg(value(Panel::Data, x, y), 0, 'g', 5);
    if (ivar > 0) out += tr(" ± %1").arg(1.0 / std::sqrt(ivar), 0, 'g', 3);
    out += tr("   model %1   residual %2")
               .arg(value(Panel::Model, x, y), 0, 'g', 5)
               .arg(value(Panel::Residual, x, y), 0, 'g', 4);
    if (ivar > 0) out += tr("   pull %1 σ").arg(detail.chi(row, column), 0, 'f', 2);
    if (before_) out += tr("   change %1 σ").arg(value(Panel::Change, x, y), 0, 'f', 2);
    if (input_.image) {
        const auto i =
            static_cast<std::size_t>(y) * static_cast<std::size_t>(input_.image->nx) + static_cast<std::size_t>(x);
        if (editor_->edits().contains(static_cast<int>(i)))
            out += editor_->edits().value(static_cast<int>(i)) ? tr("   masked by hand")
                   : isMasked(x, y)                            ? tr("   cannot be unmasked: it has no weight (ivar %1)")
                                          .arg(static_cast<double>(input_.image->ivar[i]))
                                    : tr("   unmasked by hand");
        else if (!input_.image->mask.empty() && input_.image->mask[i] != 0)
            out += tr("   mask %1")
                       .arg(QString::fromStdString(ccdMaskNames(static_cast<std::uint32_t>(input_.image->mask[i]))));
        else if (isMasked(x, y))
            out += tr("   no weight (ivar %1)").arg(static_cast<double>(input_.image->ivar[i]));
    } else if (isMasked(x, y)) {
        out += tr("   masked");
    }
    return out;
}

void PatchImages::setCursor(double x, double y) {
    cursorX_ = x;
    cursorY_ = y;
    update();
}

void PatchImages::setSelectedPixel(std::optional<QPoint> pixel) {
    selectedPixel_ = pixel;
    update();
}

void PatchImages::setSelectedBin(int bin) {
    selectedBin_ = bin;
    update();
}

void PatchImages::setPainting(bool on) {
    painting_ = on;
    if (on)
        QWidget::setCursor(Qt::CrossCursor);
    else
        unsetCursor();
}

// Geometry

QRectF PatchImages::panelArea(int index) const {
    const QFontMetricsF metrics(font());
    const double line = metrics.height();
    const auto count = static_cast<double>(panels().size());
    const double gap = 4;
    const double width = (this->width() - gap * (count + 1)) / count;
    return {gap + index * (width + gap), 1.3 * line, width, std::max(1.0, height() - 1.3 * line - 2.0 * line)};
}

QPointF PatchImages::toWidget(int index, double x, double y) const {
    const QPointF middle = panelArea(index).center();
    return {middle.x() + (x - centre_.x()) * zoom_, middle.y() - (y - centre_.y()) * zoom_};
}

std::optional<int> PatchImages::panelAt(const QPointF& position) const {
    const auto count = static_cast<int>(panels().size());
    for (int i = 0; i < count; ++i)
        if (panelArea(i).contains(position)) return i;
    return std::nullopt;
}

std::optional<QPointF> PatchImages::toCcd(const QPointF& position) const {
    const auto panel = panelAt(position);
    if (!panel || !input_) return std::nullopt;
    const QPointF middle = panelArea(*panel).center();
    return QPointF(centre_.x() + (position.x() - middle.x()) / zoom_,
                   centre_.y() - (position.y() - middle.y()) / zoom_);
}

void PatchImages::showAll() {
    fitted_ = true;
    if (!input_ || input_.detail->window.empty()) return;
    const PixelWindow& window = input_.detail->window;
    const QRectF area = panelArea(0);
    zoom_ = std::max(0.5, std::min(area.width() / window.x.count(), area.height() / window.y.count()));
    centre_ = {0.5 * (window.x.first + window.x.last - 1), 0.5 * (window.y.first + window.y.last - 1)};
    update();
}

void PatchImages::remember() {
    past_.push_back({zoom_, centre_, fitted_});
    constexpr std::size_t longest = 100;
    if (past_.size() > longest) past_.erase(past_.begin());
    future_.clear();
}

void PatchImages::swapView(std::vector<ViewBox>& from, std::vector<ViewBox>& to) {
    if (from.empty()) return;
    to.push_back({zoom_, centre_, fitted_});
    const ViewBox view = from.back();
    from.pop_back();
    zoom_ = view.zoom;
    centre_ = view.centre;
    fitted_ = view.fitted;
    if (fitted_) showAll();
    update();
}

void PatchImages::back() { swapView(past_, future_); }
void PatchImages::forward() { swapView(future_, past_); }

// Painting

void PatchImages::paintEvent(QPaintEvent* /*event*/) {
    QPainter painter(this);
    const PlotColours colours = plotColours(palette());
    painter.fillRect(rect(), colours.background);
    painter.setPen(colours.text);
    if (!input_ || input_.detail->window.empty()) {
        painter.drawText(rect().adjusted(20, 10, -20, -10), Qt::AlignCenter | Qt::TextWordWrap,
                         input_ ? tr("This patch has no pixels: all of its spots lie off the CCD.")
                                : tr("No patch: click into the CCD image to select and extract one."));
        return;
    }
    const QFontMetricsF metrics(font());
    const double line = metrics.height();
    const std::vector<Panel> shown = panels();
    const PixelWindow& window = input_.detail->window;
    static const ColourMap grey(ColourMap::Kind::Grey);
    static const ColourMap diverging(ColourMap::Kind::Diverging);
    for (std::size_t i = 0; i < shown.size() && i < images_.size(); ++i) {
        const int index = static_cast<int>(i);
        const QRectF area = panelArea(index);
        painter.setPen(colours.text);
        painter.drawText(QRectF(area.left(), 0, area.width(), 1.3 * line), Qt::AlignCenter,
                         metrics.elidedText(title(shown[i]), Qt::ElideRight, area.width()));
        painter.save();
        painter.setClipRect(area);
        painter.fillRect(area, colours.padding);
        const QPointF upperLeft = toWidget(index, window.x.first - 0.5, window.y.last - 0.5);
        painter.drawImage(QRectF(upperLeft, QSizeF(window.x.count() * zoom_, window.y.count() * zoom_)), images_[i]);
        paintOverlays(painter, index);
        painter.restore();
        painter.setPen(colours.axis);
        painter.setBrush(Qt::NoBrush);
        painter.drawRect(area);
        // Colour bar with its ends.
        const bool signedValues = shown[i] != Panel::Data && shown[i] != Panel::Model;
        const ColourMap& map = signedValues ? diverging : grey;
        const QRectF bar(area.left(), area.bottom() + 0.3 * line, area.width(), 0.45 * line);
        QImage ramp(256, 1, QImage::Format_RGB32);
        for (int c = 0; c < 256; ++c) {
            double t = c / 255.0;
            if (!signedValues && stretch_ == Stretch::Asinh) t = std::asinh(10.0 * t) / std::asinh(10.0);
            ramp.setPixel(c, 0, map.at(std::clamp(static_cast<int>(255 * t), 0, 255)));
        }
        painter.drawImage(bar, ramp);
        painter.setPen(colours.text);
        const QRectF numbers(area.left(), bar.bottom(), area.width(), 1.2 * line);
        painter.drawText(numbers, Qt::AlignLeft | Qt::AlignVCenter, shortNumber(low(shown[i])));
        painter.drawText(numbers, Qt::AlignRight | Qt::AlignVCenter, shortNumber(high(shown[i])));
        if (signedValues) painter.drawText(numbers, Qt::AlignHCenter | Qt::AlignVCenter, QStringLiteral("0"));
    }
    if (hasFocus()) {
        painter.setPen(QPen(colours.accent, 1));
        painter.setBrush(Qt::NoBrush);
        painter.drawRect(QRectF(rect()).adjusted(0.5, 0.5, -0.5, -0.5));
    }
}

void PatchImages::paintOverlays(QPainter& painter, int index) const {
    const PatchDetail& detail = *input_.detail;
    const Patch& patch = detail.patch;
    const PixelWindow& window = detail.window;
    // Fixed colours: the pictures below are the same on dark and light palettes.
    const QColor maskColour(204, 121, 167);
    const QColor traceColour(86, 180, 233, 170);
    const QColor coreColour(230, 159, 0, 220);
    const QColor selectColour(240, 228, 66);

    // Masked pixels: a cross each, so that what is below stays visible.
    painter.setPen(QPen(maskColour, zoom_ >= 7 ? 1.4 : 0.8));
    for (int y = window.y.first; y < window.y.last; ++y)
        for (int x = window.x.first; x < window.x.last; ++x) {
            if (!isMasked(x, y)) continue;
            const QPointF a = toWidget(index, x - 0.5, y + 0.5);
            const QRectF pixel(a, QSizeF(zoom_, zoom_));
            if (zoom_ >= 3.5) {
                painter.drawLine(pixel.topLeft(), pixel.bottomRight());
                painter.drawLine(pixel.topRight(), pixel.bottomLeft());
            } else {
                painter.fillRect(pixel, QColor(204, 121, 167, 150));
            }
        }
    if (input_.image) {
        painter.setPen(QPen(selectColour, 1.4));
        painter.setBrush(Qt::NoBrush);
        for (auto edit = editor_->edits().constBegin(); edit != editor_->edits().constEnd(); ++edit) {
            const int x = edit.key() % input_.image->nx;
            const int y = edit.key() / input_.image->nx;
            if (pixelIn(x, y)) painter.drawRect(QRectF(toWidget(index, x - 0.5, y + 0.5), QSizeF(zoom_, zoom_)));
        }
    }
    if (!spots_) return;
    painter.setRenderHint(QPainter::Antialiasing, true);
    const int nwave = patch.bins.count();
    const auto centre = [&](int spectrum, int bin) {
        const PatchSpots::Point p =
            spots_->centre((spectrum - patch.spectra.first) * nwave + std::clamp(bin - patch.bins.first, 0, nwave - 1));
        return toWidget(index, p.x, p.y);
    };
    for (int spectrum = patch.spectra.first; spectrum < patch.spectra.last; ++spectrum) {
        QPolygonF trace;
        for (int bin = patch.bins.first; bin < patch.bins.last; bin += 4) trace << centre(spectrum, bin);
        trace << centre(spectrum, patch.bins.last - 1);
        painter.setPen(QPen(traceColour, 1, patch.core.contains(spectrum) ? Qt::SolidLine : Qt::DotLine));
        painter.drawPolyline(trace);
    }
    // Where the kept bins begin and end.
    painter.setPen(QPen(coreColour, 1.2, Qt::DashLine));
    for (const int bin : {patch.keepBins.first, patch.keepBins.last}) {
        QPolygonF across;
        for (int spectrum = patch.core.first; spectrum < patch.core.last; ++spectrum)
            across << 0.5 * (centre(spectrum, bin) + centre(spectrum, bin - 1));
        painter.drawPolyline(across);
    }
    painter.setRenderHint(QPainter::Antialiasing, false);
    if (selectedBin_ >= 0 && selectedBin_ < spots_->bins()) {
        // The smallest set of pixels with 90 % of the bin's light, as an outline.
        std::vector<PatchSpots::Pixel> pixels = spots_->pixelsOf(selectedBin_);
        std::sort(pixels.begin(), pixels.end(),
                  [](const PatchSpots::Pixel& a, const PatchSpots::Pixel& b) { return a.weight > b.weight; });
        std::set<std::pair<int, int>> inside;
        double sum = 0;
        for (const PatchSpots::Pixel& pixel : pixels) {
            if (sum >= 0.9) break;
            inside.insert({pixel.x, pixel.y});
            sum += pixel.weight;
        }
        painter.setPen(QPen(selectColour, 2));
        for (const auto& [x, y] : inside) {
            const QPointF a = toWidget(index, x - 0.5, y + 0.5);
            const QPointF b = toWidget(index, x + 0.5, y - 0.5);
            if (!inside.contains({x, y + 1})) painter.drawLine(a, QPointF(b.x(), a.y()));
            if (!inside.contains({x, y - 1})) painter.drawLine(QPointF(a.x(), b.y()), b);
            if (!inside.contains({x - 1, y})) painter.drawLine(a, QPointF(a.x(), b.y()));
            if (!inside.contains({x + 1, y})) painter.drawLine(QPointF(b.x(), a.y()), b);
        }
    }
    if (selectedPixel_) {
        painter.setPen(QPen(selectColour, 2));
        painter.setBrush(Qt::NoBrush);
        painter.drawRect(
            QRectF(toWidget(index, selectedPixel_->x() - 0.5, selectedPixel_->y() + 0.5), QSizeF(zoom_, zoom_)));
        painter.setRenderHint(QPainter::Antialiasing, true);
        painter.setPen(QPen(QColor(20, 20, 20), 0.8));
        painter.setBrush(selectColour);
        const std::vector<PatchSpots::Bin> bins = spots_->binsAt(selectedPixel_->x(), selectedPixel_->y());
        for (const PatchSpots::Bin& bin : bins) {
            if (bin.weight < 0.005) break;
            const PatchSpots::Point p = spots_->centre(bin.bin);
            const double radius = std::clamp(8.0 * std::sqrt(bin.weight), 1.2, 5.0);
            painter.drawEllipse(toWidget(index, p.x, p.y), radius, radius);
        }
        painter.setRenderHint(QPainter::Antialiasing, false);
    }
    if (std::isfinite(cursorX_) && std::isfinite(cursorY_)) {
        const QPointF at = toWidget(index, cursorX_, cursorY_);
        const QRectF area = panelArea(index);
        painter.setPen(QPen(QColor(230, 159, 0, 200), 1, Qt::DotLine));
        painter.drawLine(QPointF(at.x(), area.top()), QPointF(at.x(), area.bottom()));
        painter.drawLine(QPointF(area.left(), at.y()), QPointF(area.right(), at.y()));
    }
}

// Mouse and keys

void PatchImages::resizeEvent(QResizeEvent* event) {
    QWidget::resizeEvent(event);
    if (fitted_) showAll();
}

void PatchImages::leaveEvent(QEvent* event) {
    QWidget::leaveEvent(event);
    setCursor(nan, nan);
    emit hoverLeft();
}

void PatchImages::paintStroke(const QPointF& position) {
    const auto at = toCcd(position);
    if (!at || !input_.image) return;
    const int x = static_cast<int>(std::lround(at->x()));
    const int y = static_cast<int>(std::lround(at->y()));
    const int half = brush_ / 2;
    for (int dy = -half; dy <= half; ++dy)
        for (int dx = -half; dx <= half; ++dx)
            if (pixelIn(x + dx, y + dy)) editor_->paint((y + dy) * input_.image->nx + x + dx);
}

void PatchImages::mouseMoveEvent(QMouseEvent* event) {
    const QPointF at = event->position();
    if (editor_->inStroke()) {
        paintStroke(at);
    } else if (panFrom_) {
        if (!panned_ && (at - *panFrom_).manhattanLength() < 4) return;
        if (!panned_) remember();
        panned_ = true;
        fitted_ = false;
        centre_ = {panCentre_.x() - (at.x() - panFrom_->x()) / zoom_,
                   panCentre_.y() + (at.y() - panFrom_->y()) / zoom_};
        update();
        return;
    } else if (contrastFrom_) {
        contrast_ = std::clamp(contrastBefore_ * std::pow(2.0, (at.x() - contrastFrom_->x()) / 80.0), 0.02, 500.0);
        makeImages();
        update();
        return;
    }
    const auto ccd = toCcd(at);
    if (!ccd) return;
    setCursor(ccd->x(), ccd->y());
    emit hovered(ccd->x(), ccd->y());
}

void PatchImages::mousePressEvent(QMouseEvent* event) {
    setFocus(Qt::MouseFocusReason);
    if (!input_) return;
    if (event->button() == Qt::LeftButton && painting_) {
        editor_->beginStroke(!(event->modifiers() & Qt::ShiftModifier));
        paintStroke(event->position());
    } else if (event->button() == Qt::LeftButton || event->button() == Qt::MiddleButton) {
        panFrom_ = event->position();
        panCentre_ = centre_;
        panned_ = false;
    } else if (event->button() == Qt::RightButton) {
        contrastFrom_ = event->position();
        contrastBefore_ = contrast_;
    }
}

void PatchImages::mouseReleaseEvent(QMouseEvent* event) {
    if (event->button() == Qt::RightButton) {
        contrastFrom_.reset();
        return;
    }
    if (event->button() == Qt::LeftButton && editor_->inStroke()) {
        editor_->endStroke();
        return;
    }
    if (!panFrom_) return;
    panFrom_.reset();
    if (panned_ || event->button() != Qt::LeftButton) return;
    const auto ccd = toCcd(event->position());
    if (!ccd) return;
    const int x = static_cast<int>(std::lround(ccd->x()));
    const int y = static_cast<int>(std::lround(ccd->y()));
    if (pixelIn(x, y)) emit pixelClicked(x, y);
}

void PatchImages::mouseDoubleClickEvent(QMouseEvent* event) {
    if (event->button() != Qt::LeftButton || painting_) return;
    contrast_ = 1;
    makeImages();
    if (!fitted_) remember();
    showAll();
}

void PatchImages::wheelEvent(QWheelEvent* event) {
    const auto ccd = toCcd(event->position());
    if (!ccd || event->angleDelta().y() == 0) return;
    const double factor = std::pow(1.2, event->angleDelta().y() / 120.0);
    const double next = std::clamp(zoom_ * factor, 0.5, 80.0);
    // Turning the wheel on and on is one step back.
    constexpr qint64 pause = 600; // ms
    if (!lastWheel_.isValid() || lastWheel_.elapsed() > pause) remember();
    lastWheel_.start();
    centre_ = *ccd + (centre_ - *ccd) * (zoom_ / next);
    zoom_ = next;
    fitted_ = false;
    update();
    event->accept();
}

void PatchImages::keyPressEvent(QKeyEvent* event) {
    if (!ownKeys_ || (event->modifiers() & (Qt::ControlModifier | Qt::AltModifier))) {
        QWidget::keyPressEvent(event);
        return;
    }
    switch (event->key()) {
    case Qt::Key_Left:
        emit neighbourRequested(-1, 0);
        return;
    case Qt::Key_Right:
        emit neighbourRequested(1, 0);
        return;
    case Qt::Key_Up:
        emit neighbourRequested(0, 1);
        return;
    case Qt::Key_Down:
        emit neighbourRequested(0, -1);
        return;
    case Qt::Key_Home:
        showAll();
        return;
    case Qt::Key_Return:
    case Qt::Key_Enter:
        emit extractRequested();
        return;
    default:
        QWidget::keyPressEvent(event);
    }
}

} // namespace patchlight::widgets
