#pragma once

#include "widgets/patch/PatchInput.h"

#include <QElapsedTimer>
#include <QHash>
#include <QImage>
#include <QPointF>
#include <QWidget>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace patchlight::widgets {

class MaskEditor;
class PatchSpots;

/// Data, model, residual and pull of a patch side by side, and what a change did, with one zoom and one cursor. Wheel zooms at the
/// cursor, left or middle drag pans, right drag changes contrast, double click shows all; a click selects a pixel. With the brush
/// (setPainting) the left button masks pixels, and with Shift it unmasks them.
class PatchImages : public QWidget {
    Q_OBJECT

public:
    enum class Panel { Data, Model, Residual, Pull, Change };
    enum class Stretch { Linear, Asinh };

    explicit PatchImages(MaskEditor* editor, QWidget* parent = nullptr);
    ~PatchImages() override;

    /// Shows another patch. The zoom stays where the window of pixels is the same, else everything is shown.
    void setPatch(const PatchInput& input);
    /// The same patch before a change; null: none. One with another window of pixels is not shown.
    void setBefore(std::shared_ptr<const PatchDetail> before);
    void setSpots(std::shared_ptr<const PatchSpots> spots);
    void setStretch(Stretch stretch);
    [[nodiscard]] Stretch stretch() const { return stretch_; }

    /// The window's common cursor on the CCD, pixels; NaN: none. Emits nothing.
    void setCursor(double x, double y);
    using QWidget::setCursor;
    /// Selected pixel and bin (ispec * nwave + iwave); the bin's pixels are outlined, the pixel's bins dotted.
    void setSelectedPixel(std::optional<QPoint> pixel);
    void setSelectedBin(int bin);
    [[nodiscard]] std::optional<QPoint> selectedPixel() const { return selectedPixel_; }
    [[nodiscard]] int selectedBin() const { return selectedBin_; }
    /// Whether a pixel of the window is nearest to a fiber of the patch: beyond them is the light of others, which its model lacks.
    [[nodiscard]] bool isHeld(int x, int y) const { return pixelIn(x, y) && holds(heldEdges_, x, y); }

    void setPainting(bool on);
    [[nodiscard]] bool painting() const { return painting_; }
    /// Brush: a square of so many pixels a side, odd.
    void setBrush(int pixels) { brush_ = pixels; }

    [[nodiscard]] std::vector<Panel> panels() const;
    /// A panel's value at a CCD pixel; NaN outside the patch's window.
    [[nodiscard]] double value(Panel panel, int x, int y) const;
    /// Lowest and highest value of a panel's colours.
    [[nodiscard]] double low(Panel panel) const;
    [[nodiscard]] double high(Panel panel) const;
    [[nodiscard]] static QString title(Panel panel);
    /// Whether a pixel has no weight, hand-made edits counted.
    [[nodiscard]] bool isMasked(int x, int y) const;
    /// Numbers at a pixel in one line.
    [[nodiscard]] QString readout(int x, int y) const;

    /// Area of panel number `index`, and the place of a CCD position in it, in widget coordinates.
    [[nodiscard]] QRectF panelArea(int index) const;
    [[nodiscard]] QPointF toWidget(int index, double x, double y) const;
    /// CCD position under a widget position; nothing outside the panels.
    [[nodiscard]] std::optional<QPointF> toCcd(const QPointF& position) const;
    /// Screen pixels a CCD pixel.
    [[nodiscard]] double zoom() const { return zoom_; }
    void showAll();
    /// Zoom and place as they were before, and after.
    void back();
    void forward();
    [[nodiscard]] bool canGoBack() const { return !past_.empty(); }
    [[nodiscard]] bool canGoForward() const { return !future_.empty(); }
    /// Whether arrows and Enter mean something here; off where the window's own shortcuts do it.
    void setOwnKeys(bool on) { ownKeys_ = on; }

    [[nodiscard]] QSize sizeHint() const override { return {900, 330}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {320, 160}; }

signals:
    void hovered(double x, double y);
    void hoverLeft();
    void pixelClicked(int x, int y);
    /// Arrow keys: the neighbouring patch, in subbundles (left, right) and wavelength steps (down, up).
    void neighbourRequested(int subbundles, int steps);
    void extractRequested();

protected:
    void paintEvent(QPaintEvent* event) override;
    void resizeEvent(QResizeEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;
    void leaveEvent(QEvent* event) override;

private:
    void makeImages();
    void makeEdges();
    void makeCuts();
    /// Whether a pixel is nearest to a fiber of these: left of what the patch holds there is the light of others.
    [[nodiscard]] bool holds(const std::vector<std::pair<float, float>>& edges, int x, int y) const;
    void paintStroke(const QPointF& position);
    void paintOverlays(QPainter& painter, int index) const;
    [[nodiscard]] std::optional<int> panelAt(const QPointF& position) const;
    [[nodiscard]] bool pixelIn(int x, int y) const;

    PatchInput input_;
    std::shared_ptr<const PatchDetail> before_;
    std::shared_ptr<const PatchSpots> spots_;
    struct ViewBox {
        double zoom = 1;
        QPointF centre;
        bool fitted = true;
    };
    void remember();
    void swapView(std::vector<ViewBox>& from, std::vector<ViewBox>& to);

    MaskEditor* editor_;
    Stretch stretch_ = Stretch::Linear;
    std::vector<QImage> images_; ///< by panel, row 0 at the top of the CCD window
    std::vector<std::pair<float, float>> coreEdges_,
        heldEdges_; ///< by row of the window: columns between which core and all fibers of the patch lie
    double dataLow_ = 0;
    double dataHigh_ = 1;
    double residualHigh_ = 1;
    double contrast_ = 1; ///< the data's upper cut is divided by it
    double zoom_ = 1;
    QPointF centre_; ///< CCD position in the middle of each panel
    bool fitted_ = true;
    std::vector<ViewBox> past_;
    std::vector<ViewBox> future_;
    QElapsedTimer lastWheel_;
    double cursorX_ = 0;
    double cursorY_ = 0;
    std::optional<QPoint> selectedPixel_;
    int selectedBin_ = -1;
    bool painting_ = false;
    bool ownKeys_ = true;
    int brush_ = 1;
    std::optional<QPointF> panFrom_;
    QPointF panCentre_;
    bool panned_ = false;
    std::optional<QPointF> contrastFrom_;
    double contrastBefore_ = 1;
};

} // namespace patchlight::widgets
