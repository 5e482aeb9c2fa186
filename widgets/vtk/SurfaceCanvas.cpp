#include "widgets/vtk/SurfaceCanvas.h"

#include "widgets/plot/Colours.h"

#include <QFontMetricsF>
#include <QKeyEvent>
#include <QLibrary>
#include <QMouseEvent>
#include <QPainter>
#include <QWheelEvent>

#include <vtkActor.h>
#include <vtkCamera.h>
#include <vtkCellArray.h>
#include <vtkNew.h>
#include <vtkPointData.h>
#include <vtkPoints.h>
#include <vtkPolyData.h>
#include <vtkPolyDataMapper.h>
#include <vtkProperty.h>
#include <vtkRenderWindow.h>
#include <vtkRenderer.h>
#include <vtkSmartPointer.h>
#include <vtkUnsignedCharArray.h>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace patchlight::widgets {

namespace {

constexpr double firstAzimuth = 24;
constexpr double firstElevation = 38;
/// Height of the box over its longer side.
constexpr double boxHeight = 0.55;

QString askForDisplay() {
    const QByteArray display = qgetenv("DISPLAY");
    if (display.isEmpty()) return SurfaceCanvas::tr("3-D surfaces need an X display, and DISPLAY is not set.");
    // VTK ends the process where the display does not answer, so ask it first.
    QLibrary x11(QStringLiteral("X11"), 6);
    using Open = void* (*)(const char*);
    using Close = int (*)(void*);
    const auto open = reinterpret_cast<Open>(x11.resolve("XOpenDisplay"));
    const auto close = reinterpret_cast<Close>(x11.resolve("XCloseDisplay"));
    if (open == nullptr || close == nullptr)
        return SurfaceCanvas::tr("3-D surfaces need the library libX11, which was not found.");
    void* connection = open(nullptr);
    if (connection == nullptr)
        return SurfaceCanvas::tr("3-D surfaces need an X display, and DISPLAY=%1 does not answer.")
            .arg(QString::fromLocal8Bit(display));
    close(connection);
    return {};
}

} // namespace

class SurfaceCanvas::Scene {
public:
    Scene() {
        window_->SetOffScreenRendering(1);
        window_->SetMultiSamples(0);
    }

    void setSurfaces(const std::vector<Surface>& surfaces) {
        for (const auto& renderer : renderers_) window_->RemoveRenderer(renderer);
        renderers_.clear();
        const auto count = static_cast<double>(surfaces.size());
        for (std::size_t i = 0; i < surfaces.size(); ++i) {
            auto renderer = vtkSmartPointer<vtkRenderer>::New();
            renderer->SetViewport(static_cast<double>(i) / count, 0, static_cast<double>(i + 1) / count, 1);
            renderer->SetActiveCamera(camera_);
            renderer->AddActor(actorOf(surfaces[i]));
            window_->AddRenderer(renderer);
            renderers_.push_back(renderer);
        }
    }

    QImage draw(const QSize& size, const QColor& background, double azimuth, double elevation, double zoom,
                const QPointF& shift) {
        window_->SetSize(size.width(), size.height());
        camera_->SetFocalPoint(0, 0, 0);
        camera_->SetPosition(0, -3.2, 0);
        camera_->SetViewUp(0, 0, 1);
        camera_->SetViewAngle(25);
        camera_->OrthogonalizeViewUp();
        camera_->Elevation(std::clamp(elevation, -89.0, 89.0));
        camera_->Azimuth(azimuth);
        camera_->OrthogonalizeViewUp();
        // As wide as the box needs: panels are often higher than wide.
        const double aspect = size.width() / std::max(1.0, static_cast<double>(renderers_.size())) / size.height();
        camera_->Dolly(std::min(1.0, 1.25 * aspect) * 1.05 * zoom);
        camera_->SetWindowCenter(-shift.x(), -shift.y());
        for (const auto& renderer : renderers_) {
            renderer->SetBackground(background.redF(), background.greenF(), background.blueF());
            renderer->ResetCameraClippingRange();
        }
        window_->Render();
        vtkNew<vtkUnsignedCharArray> pixels;
        window_->GetRGBACharPixelData(0, 0, size.width() - 1, size.height() - 1, 0, pixels);
        QImage image(size, QImage::Format_RGBX8888);
        const auto bytes = static_cast<std::size_t>(size.width()) * 4;
        if (pixels->GetNumberOfValues() < static_cast<vtkIdType>(bytes) * size.height()) return {};
        for (int y = 0; y < size.height(); ++y)
            std::memcpy(image.scanLine(size.height() - 1 - y), pixels->GetPointer(static_cast<vtkIdType>(bytes) * y),
                        bytes);
        return image;
    }

private:
    static vtkSmartPointer<vtkActor> actorOf(const Surface& surface) {
        vtkNew<vtkPoints> points;
        vtkNew<vtkCellArray> quads;
        vtkNew<vtkUnsignedCharArray> colours;
        colours->SetNumberOfComponents(3);
        const double side = std::max(surface.nx, surface.ny);
        const double span = surface.high > surface.low ? surface.high - surface.low : 1;
        const auto at = [&](int x, int y) {
            return static_cast<std::size_t>(y) * static_cast<std::size_t>(surface.nx) + static_cast<std::size_t>(x);
        };
        for (int y = 0; y < surface.ny; ++y)
            for (int x = 0; x < surface.nx; ++x) {
                const double value = static_cast<double>(surface.heights[at(x, y)]);
                const double t = std::isfinite(value) ? std::clamp((value - surface.low) / span, 0.0, 1.0) : 0.0;
                points->InsertNextPoint((x - 0.5 * (surface.nx - 1)) / side, (y - 0.5 * (surface.ny - 1)) / side,
                                        boxHeight * (t - 0.5));
                const QRgb colour = surface.colours[at(x, y)];
                colours->InsertNextTuple3(qRed(colour), qGreen(colour), qBlue(colour));
            }
        for (int y = 0; y + 1 < surface.ny; ++y)
            for (int x = 0; x + 1 < surface.nx; ++x) {
                const std::size_t corner[4] = {at(x, y), at(x + 1, y), at(x + 1, y + 1), at(x, y + 1)};
                const bool hole = std::any_of(std::begin(corner), std::end(corner),
                                              [&](std::size_t i) { return !std::isfinite(surface.heights[i]); });
                if (hole) continue;
                vtkIdType ids[4];
                std::copy(std::begin(corner), std::end(corner), std::begin(ids));
                quads->InsertNextCell(4, ids);
            }
        vtkNew<vtkPolyData> data;
        data->SetPoints(points);
        data->SetPolys(quads);
        data->GetPointData()->SetScalars(colours);
        vtkNew<vtkPolyDataMapper> mapper;
        mapper->SetInputData(data);
        auto actor = vtkSmartPointer<vtkActor>::New();
        actor->SetMapper(mapper);
        // Flat facets show single pixels; light from the side shows their heights.
        actor->GetProperty()->SetInterpolationToFlat();
        actor->GetProperty()->SetAmbient(0.35);
        actor->GetProperty()->SetDiffuse(0.75);
        actor->GetProperty()->SetSpecular(0);
        return actor;
    }

    vtkNew<vtkRenderWindow> window_;
    vtkNew<vtkCamera> camera_;
    std::vector<vtkSmartPointer<vtkRenderer>> renderers_;
};

SurfaceCanvas::SurfaceCanvas(QWidget* parent) : QWidget(parent) {
    setFocusPolicy(Qt::StrongFocus);
    setAccessibleName(tr("Patch as surfaces"));
    setAccessibleDescription(tr("Left drag or arrows rotate, wheel or + and - zoom, middle drag pans, Home resets"));
    setSizePolicy(QSizePolicy::Expanding, QSizePolicy::Expanding);
    resetCamera();
}

SurfaceCanvas::~SurfaceCanvas() = default;

QString SurfaceCanvas::unavailableReason() {
    static const QString reason = askForDisplay();
    return reason;
}

void SurfaceCanvas::setSurfaces(std::vector<Surface> surfaces) {
    surfaces_ = std::move(surfaces);
    surfacesChanged_ = true;
    redraw();
}

void SurfaceCanvas::resetCamera() {
    azimuth_ = firstAzimuth;
    elevation_ = firstElevation;
    zoom_ = 1;
    shift_ = {};
    redraw();
}

void SurfaceCanvas::redraw() {
    dirty_ = true;
    update();
}

void SurfaceCanvas::paintEvent(QPaintEvent* /*event*/) {
    QPainter painter(this);
    const PlotColours colours = plotColours(palette());
    painter.fillRect(rect(), colours.background);
    painter.setPen(colours.text);
    QString reason = unavailableReason();
    if (reason.isEmpty() && surfaces_.empty())
        reason = tr("No patch: click into the CCD image to select and extract one.");
    if (!reason.isEmpty()) {
        painter.drawText(rect().adjusted(20, 10, -20, -10), Qt::AlignCenter | Qt::TextWordWrap, reason);
        return;
    }
    const QSize wanted = (QSizeF(size()) * devicePixelRatioF()).toSize();
    if (dirty_ || picture_.size() != wanted) {
        if (!scene_) {
            scene_ = std::make_unique<Scene>();
            surfacesChanged_ = true;
        }
        if (surfacesChanged_) scene_->setSurfaces(surfaces_);
        surfacesChanged_ = false;
        picture_ = scene_->draw(wanted, colours.background, azimuth_, elevation_, zoom_, shift_);
        dirty_ = false;
    }
    painter.drawImage(QRectF(rect()), picture_);
    const QFontMetricsF metrics(font());
    const double width = this->width() / static_cast<double>(surfaces_.size());
    for (std::size_t i = 0; i < surfaces_.size(); ++i) {
        const QRectF area(static_cast<double>(i) * width, 2, width, 1.2 * metrics.height());
        painter.drawText(area, Qt::AlignCenter, metrics.elidedText(surfaces_[i].title, Qt::ElideRight, width));
        const QRectF below(area.left(), height() - 1.3 * metrics.height(), width, 1.2 * metrics.height());
        const auto number = [](double value) {
            return std::abs(value) >= 100 && std::abs(value) < 1e5 ? QString::number(value, 'f', 0)
                                                                   : QString::number(value, 'g', 3);
        };
        painter.drawText(below, Qt::AlignCenter,
                         tr("%1 to %2").arg(number(surfaces_[i].low), number(surfaces_[i].high)));
        if (i > 0) {
            painter.setPen(colours.grid);
            painter.drawLine(QPointF(area.left(), 0), QPointF(area.left(), height()));
            painter.setPen(colours.text);
        }
    }
    if (hasFocus()) {
        painter.setPen(QPen(colours.accent, 1));
        painter.setBrush(Qt::NoBrush);
        painter.drawRect(QRectF(rect()).adjusted(0.5, 0.5, -0.5, -0.5));
    }
}

void SurfaceCanvas::mousePressEvent(QMouseEvent* event) {
    setFocus(Qt::MouseFocusReason);
    dragFrom_ = event->position();
    dragButton_ = event->button();
}

void SurfaceCanvas::mouseMoveEvent(QMouseEvent* event) {
    if (!dragFrom_) return;
    const QPointF moved = event->position() - *dragFrom_;
    dragFrom_ = event->position();
    if (dragButton_ == Qt::LeftButton) {
        azimuth_ = std::fmod(azimuth_ - 0.5 * moved.x(), 360.0);
        elevation_ = std::clamp(elevation_ + 0.5 * moved.y(), -89.0, 89.0);
    } else {
        const double width = this->width() / std::max(1.0, static_cast<double>(surfaces_.size()));
        shift_ += QPointF(2 * moved.x() / width, -2 * moved.y() / height());
    }
    redraw();
}

void SurfaceCanvas::mouseReleaseEvent(QMouseEvent* /*event*/) { dragFrom_.reset(); }

void SurfaceCanvas::mouseDoubleClickEvent(QMouseEvent* /*event*/) { resetCamera(); }

void SurfaceCanvas::wheelEvent(QWheelEvent* event) {
    zoom_ = std::clamp(zoom_ * std::pow(1.2, event->angleDelta().y() / 120.0), 0.1, 50.0);
    redraw();
    event->accept();
}

void SurfaceCanvas::keyPressEvent(QKeyEvent* event) {
    switch (event->key()) {
    case Qt::Key_Left:
        azimuth_ += 5;
        break;
    case Qt::Key_Right:
        azimuth_ -= 5;
        break;
    case Qt::Key_Up:
        elevation_ = std::min(89.0, elevation_ + 5);
        break;
    case Qt::Key_Down:
        elevation_ = std::max(-89.0, elevation_ - 5);
        break;
    case Qt::Key_Plus:
    case Qt::Key_Equal:
        zoom_ = std::min(50.0, zoom_ * 1.2);
        break;
    case Qt::Key_Minus:
        zoom_ = std::max(0.1, zoom_ / 1.2);
        break;
    case Qt::Key_Home:
        resetCamera();
        return;
    default:
        QWidget::keyPressEvent(event);
        return;
    }
    redraw();
}

} // namespace patchlight::widgets
