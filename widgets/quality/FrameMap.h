#pragma once

#include "core/base/Array.h"
#include "widgets/ccd/Display.h"
#include "widgets/plot/Axes.h"

#include <QImage>
#include <QString>
#include <QWidget>

#include <cstdint>
#include <memory>
#include <vector>

namespace patchlight::widgets {

/// A plane of an extracted frame as a picture: fibers (up) x wavelengths (right). Wheel zooms at the mouse (Ctrl: along wavelength, Shift: along
/// fibers), a middle drag pans, a right drag changes contrast and bias, a double click shows all, a click chooses a bin.
class FrameMap : public QWidget {
    Q_OBJECT

public:
    /// What a pixel of the screen shows where it covers several bins.
    enum class Pooling { Mean, Largest };

    /// One plane. Bins with category > 0 (where there are categories) have that category's colour instead of the value's.
    struct Plane {
        std::shared_ptr<const Array2<float>> values; ///< [nspec][nwave]
        QString name;
        QString unit;
        Pooling pooling = Pooling::Mean;
        DisplaySettings display;
        std::shared_ptr<const Array2<std::uint8_t>> categories; ///< null: none
        std::vector<QRgb> categoryColours;                      ///< by category
    };
    /// The visible part: bins along x, rows along y.
    struct View {
        Interval bins;
        Interval rows;
        bool operator==(const View&) const = default;
    };

    explicit FrameMap(QWidget* parent = nullptr);

    /// @param wavelength [nwave], Angstrom. @param specmin  spectrum of row 0. The view is kept where the shape stays.
    void setPlane(Plane plane, std::vector<double> wavelength, int specmin);
    void clear(const QString& why);
    [[nodiscard]] const Plane& plane() const { return plane_; }
    void setDisplay(const DisplaySettings& display);
    [[nodiscard]] ValueRange range() const { return range_; }
    /// Row and bin of the cursor; -1: none.
    void setCursorBin(int row, int bin);
    [[nodiscard]] View view() const { return view_; }
    void setView(const View& view, bool remember = true);
    void showAll();
    void back();
    void forward();
    /// Zooms to a bin so that its surroundings can be seen.
    void showBin(int row, int bin);
    /// The picture of the bins, without axes, as drawn last.
    [[nodiscard]] const QImage& picture() const { return picture_; }
    [[nodiscard]] QRectF area() const;
    /// Row and bin at a place of the widget; -1 outside.
    [[nodiscard]] QPoint binAt(const QPointF& place) const;
    [[nodiscard]] QPointF placeOf(double bin, double row) const;
    /// "fiber 12, 6320.8 Angstrom: chi2pix 3.2".
    [[nodiscard]] QString describe(int row, int bin) const;
    [[nodiscard]] QSize sizeHint() const override { return {700, 420}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {200, 150}; }

Q_SIGNALS:
    void binChosen(int row, int bin);
    /// -1: the mouse has left.
    void binHovered(int row, int bin);

protected:
    void paintEvent(QPaintEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void leaveEvent(QEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;

private:
    [[nodiscard]] View whole() const;
    void refreshTable();
    void drawPicture(const QSize& size);
    [[nodiscard]] View limited(View view) const;

    Plane plane_;
    std::vector<double> wavelength_;
    int specmin_ = 0;
    QString why_;
    std::vector<float> sorted_;
    ValueRange range_;
    ColorTable table_;
    View view_;
    ViewHistory<View> history_;
    QImage picture_;
    int cursorRow_ = -1;
    int cursorBin_ = -1;
    QPointF dragFrom_;
    View dragView_;
    DisplaySettings dragDisplay_;
    bool dragged_ = false;
};

} // namespace patchlight::widgets
