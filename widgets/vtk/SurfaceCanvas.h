#pragma once

#include <QImage>
#include <QPointF>
#include <QString>
#include <QWidget>

#include <memory>
#include <optional>
#include <vector>

namespace patchlight::widgets {

/// One surface over a grid of pixels.
struct Surface {
    QString title;
    int nx = 0;
    int ny = 0;
    std::vector<float> heights; ///< [ny][nx]; NaN leaves a hole
    std::vector<QRgb> colours;  ///< [ny][nx]
    double low = 0;             ///< heights are cut to [low, high], which is the box's height
    double high = 1;
};

/// Surfaces side by side, drawn by VTK off screen into a picture that this widget paints, so that no native window is mixed with
/// Qt's. All surfaces share one camera: left drag or arrows rotate, wheel or + and - zoom, middle drag pans, double click or Home
/// shows the first view. Where VTK cannot draw (it would end the process without an X display), the widget says why.
class SurfaceCanvas : public QWidget {
    Q_OBJECT

public:
    explicit SurfaceCanvas(QWidget* parent = nullptr);
    ~SurfaceCanvas() override;

    /// Drawn at the next paint event; a hidden widget costs nothing.
    void setSurfaces(std::vector<Surface> surfaces);
    /// Why VTK cannot draw on this machine; empty where it can. Asked once a process.
    [[nodiscard]] static QString unavailableReason();

    /// The picture as painted; null before the first one and where nothing can be drawn.
    [[nodiscard]] const QImage& picture() const { return picture_; }
    /// Angles of the camera about the surfaces, degrees.
    [[nodiscard]] double azimuth() const { return azimuth_; }
    [[nodiscard]] double elevation() const { return elevation_; }
    [[nodiscard]] double zoom() const { return zoom_; }
    void resetCamera();

    [[nodiscard]] QSize sizeHint() const override { return {900, 330}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {320, 160}; }

protected:
    void paintEvent(QPaintEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;

private:
    class Scene;
    void redraw();

    std::unique_ptr<Scene> scene_; ///< made when first painted
    std::vector<Surface> surfaces_;
    bool surfacesChanged_ = false;
    bool dirty_ = true;
    QImage picture_;
    double azimuth_ = 0;
    double elevation_ = 0;
    double zoom_ = 1;
    QPointF shift_; ///< pan, as a share of the box
    std::optional<QPointF> dragFrom_;
    Qt::MouseButton dragButton_ = Qt::NoButton;
};

} // namespace patchlight::widgets
