#pragma once

#include "core/engine/Plan.h"
#include "widgets/ccd/Display.h"
#include "widgets/ccd/Layers.h"
#include "widgets/ccd/MethodOverlay.h"
#include "widgets/control/Cursor.h"

#include <QImage>
#include <QPolygonF>
#include <QWidget>

#include <array>
#include <cstdint>
#include <vector>

class QPainter;

namespace patchlight::widgets {

class Document;

/// What can be drawn over the pixels.
enum class Overlay {
    Traces,
    Ticks,
    Bundles,
    PatchGrid,
    SelectedPatch,
    MaskBits,
    Amplifiers,
    Spot,
    CursorCross,
    Methods,
};
inline constexpr int overlayCount = 10;
[[nodiscard]] QString overlayName(Overlay overlay);
/// One word for it, in sessions and on the command line: "grid".
[[nodiscard]] QString overlayWord(Overlay overlay);
/// Colour of a bit of the CCD's MASK, the same everywhere.
[[nodiscard]] QColor maskBitColor(int bit);

/// Which part of the CCD is on screen.
struct ViewState {
    double centerX = 0; ///< pixel in the middle of the view
    double centerY = 0;
    double zoom = 0; ///< screen pixels (device-independent) a CCD pixel; 0: not set, fit
    bool operator==(const ViewState&) const = default;
};

/// The CCD: pixels through a colour table, only those that are on screen, with overlays. Mouse as in ds9: wheel zooms at the cursor,
/// middle button pans, right button changes contrast and bias, double click resets them; a click selects.
class CcdImageView : public QWidget {
    Q_OBJECT

public:
    explicit CcdImageView(Document& document, QWidget* parent = nullptr);
    ~CcdImageView() override;

    [[nodiscard]] Layer layer() const { return layer_; }
    void setLayer(Layer layer);
    /// Next (+1) or previous (-1) of the layers that can be shown.
    void cycleLayer(int direction);
    /// Share (0 .. 1) of the fade layer in what is shown.
    [[nodiscard]] double fade() const { return fade_; }
    void setFade(double share);
    [[nodiscard]] Layer fadeLayer() const { return fadeLayer_; }
    void setFadeLayer(Layer layer);

    /// How a layer is shown; image and model share theirs, so that they can be compared.
    [[nodiscard]] const DisplaySettings& settings(Layer layer) const { return settings_[shared(layer)]; }
    void setSettings(Layer layer, const DisplaySettings& settings);
    void resetContrast();

    [[nodiscard]] const ViewState& view() const { return view_; }
    /// @param remember  put the view left behind into the history
    void setView(const ViewState& view, bool remember = true);
    void fit();
    void oneToOne();
    /// Zooms by a factor about a point of the widget.
    void zoomBy(double factor, const QPointF& about);
    void zoomBy(double factor) { zoomBy(factor, QRectF(rect()).center()); }
    void centerOn(double x, double y, double atLeast = 0);
    void back();
    void forward();
    [[nodiscard]] bool canGoBack() const { return !past_.empty(); }
    [[nodiscard]] bool canGoForward() const { return !future_.empty(); }

    [[nodiscard]] bool overlay(Overlay overlay) const { return overlays_[static_cast<std::size_t>(overlay)]; }
    void setOverlay(Overlay overlay, bool on);
    /// A left drag selects and extracts all the way.
    [[nodiscard]] bool live() const { return live_; }
    void setLive(bool live) { live_ = live; }

    [[nodiscard]] QPointF toWidget(double x, double y) const;
    [[nodiscard]] QPointF toCcd(const QPointF& position) const;
    [[nodiscard]] Layers& layers() { return layers_; }
    [[nodiscard]] MethodOverlay& methods() { return methods_; }
    /// The sentence shown in place of pixels; empty where there are pixels.
    [[nodiscard]] const QString& sentence() const { return sentence_; }
    /// Bits of the CCD's MASK among the pixels that were drawn last.
    [[nodiscard]] std::uint32_t visibleMaskBits() const { return visibleBits_; }
    /// The colours of the layer shown.
    [[nodiscard]] const ColorTable& colors() { return table(layer_); }

    [[nodiscard]] QSize sizeHint() const override { return {900, 700}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {200, 150}; }

Q_SIGNALS:
    void layerChanged();
    void settingsChanged();
    void viewChanged();
    void overlaysChanged();
    /// The user wants the patch here.
    void patchRequested(const patchlight::widgets::Cursor& cursor);
    void contextMenuRequested(const QPoint& globalPosition);

protected:
    bool event(QEvent* event) override;
    void paintEvent(QPaintEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void leaveEvent(QEvent* event) override;
    void resizeEvent(QResizeEvent* event) override;

private:
    static std::size_t shared(Layer layer) {
        return static_cast<std::size_t>(layer == Layer::Model ? Layer::Image : layer);
    }
    [[nodiscard]] double fitZoom() const;
    [[nodiscard]] QRectF visibleCcd() const;
    void clampView();
    void updateRange(Layer layer);
    const ColorTable& table(Layer layer);
    void dirty();
    void invalidateTables();
    void render();
    void renderMaskLayer(std::uint32_t bits, bool over);
    void select(const QPointF& position);

    void drawFixedOverlays(QPainter& painter);
    void drawMovingOverlays(QPainter& painter);
    void drawTraces(QPainter& painter);
    void drawBundles(QPainter& painter);
    void drawTicks(QPainter& painter);
    void drawGrid(QPainter& painter);
    void drawPatch(QPainter& painter);
    void drawAmplifiers(QPainter& painter);
    void drawSpot(QPainter& painter);
    void drawMethods(QPainter& painter);
    void drawMaskEdits(QPainter& painter);
    void drawCursor(QPainter& painter);
    void drawLegend(QPainter& painter);
    void drawSentence(QPainter& painter);
    void drawLabel(QPainter& painter, const QPointF& at, const QString& text, const QColor& color, Qt::Alignment align);
    /// Line of constant wavelength over spectra [first, last), reaching half a gap beyond the outer ones.
    [[nodiscard]] QPolygonF isoWavelength(int first, int last, double wavelength) const;
    /// Outline of spectra x padded-grid bins on the CCD.
    [[nodiscard]] QPolygonF outline(IndexRange spectra, IndexRange bins) const;
    /// Half a gap beside a spectrum (side -1: left, +1: right) at a wavelength.
    [[nodiscard]] QPointF beside(int spectrum, int side, double wavelength) const;
    [[nodiscard]] int bundlesize() const;

    Document& document_;
    Layers layers_;
    MethodOverlay methods_;
    Layer layer_ = Layer::Image;
    Layer fadeLayer_ = Layer::Model;
    double fade_ = 0;
    std::array<DisplaySettings, layerCount> settings_;
    std::array<ColorTable, layerCount> tables_;
    std::array<bool, layerCount> tableValid_{};
    std::array<bool, overlayCount> overlays_{};
    ViewState view_;
    QSize ccdSize_;
    std::vector<ViewState> past_;
    std::vector<ViewState> future_;
    bool live_ = false;
    QImage canvas_; ///< the pixels, at the screen's resolution
    bool canvasValid_ = false;
    QImage scene_; ///< the pixels and the overlays that do not follow the mouse
    bool sceneValid_ = false;
    QString sentence_;
    std::uint32_t visibleBits_ = 0;
    PixelWindow window_; ///< of the selected patch

    enum class Drag { None, Pan, Contrast, Select };
    Drag drag_ = Drag::None;
    QPointF dragStart_;
    ViewState dragView_;
    DisplaySettings dragSettings_;
    bool dragMoved_ = false;
    int wheelRest_ = 0;
    qint64 lastWheel_ = 0;
};

} // namespace patchlight::widgets
