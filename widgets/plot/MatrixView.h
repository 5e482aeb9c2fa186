#pragma once

#include "core/base/Array.h"
#include "widgets/plot/Axes.h"
#include "widgets/plot/Colours.h"

#include <QImage>
#include <QRectF>
#include <QString>
#include <QWidget>

#include <optional>
#include <vector>

namespace patchlight::widgets {

/// What a MatrixView shows.
struct MatrixContent {
    QString title;
    QString problem;      ///< a sentence in place of a picture, where there are no values
    Array2<float> values; ///< [rows][columns]; NaN: no value
    ColourMap::Kind map = ColourMap::Kind::Diverging;
    bool symlog = false; ///< logarithmic in both directions, linear within `linear` of 0
    double low = -1;     ///< values of the map's ends
    double high = 1;
    double linear = 1e-4; ///< of symlog, in units of the values
    bool rowsUpwards =
        false;             ///< row 0 at the bottom, as a picture of pixels or a map has it; a matrix has it at the top
    bool square = true;    ///< cells are squares
    double x0 = 0, dx = 1; ///< column c stands for x0 + c dx on the axis
    double y0 = 0, dy = 1;
    QString xLabel, yLabel, unit;
    std::vector<double> columnLines, rowLines; ///< lines between cells, at this column or row's lower edge
    std::optional<QPointF> mark;               ///< a small cross, in columns and rows
};

/// An array of numbers as a picture: wheel zooms at the cursor, middle or left drag pans, double click shows all, a click selects a cell.
class MatrixView : public QWidget {
    Q_OBJECT

public:
    explicit MatrixView(QWidget* parent = nullptr);

    /// Zoom and place stay where the new content has the same size.
    void setContent(MatrixContent content);
    [[nodiscard]] const MatrixContent& content() const { return content_; }
    /// The cell that other views are about: thin lines through it; nothing: none.
    void setCell(std::optional<QPoint> cell);
    [[nodiscard]] std::optional<QPoint> cell() const { return cell_; }
    void showAll();
    /// Columns and rows on screen.
    [[nodiscard]] const QRectF& shown() const { return shown_; }
    void setShown(const QRectF& part);
    [[nodiscard]] QPointF toWidget(double column, double row) const;
    [[nodiscard]] QPointF toCell(const QPointF& position) const;
    [[nodiscard]] QColor colourAt(int column, int row) const;

    [[nodiscard]] QSize sizeHint() const override { return {320, 260}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {120, 100}; }

Q_SIGNALS:
    void hovered(int column, int row);
    void left();
    void clicked(int column, int row);

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
    [[nodiscard]] QRectF plotArea() const;
    /// Values that the colour bar names, largest first.
    [[nodiscard]] std::vector<double> barValues() const;
    /// The part of plotArea() that shown_ fills.
    [[nodiscard]] QRectF pictureArea() const;
    [[nodiscard]] double share(double value) const;
    void makeImage();
    void reduce(const QSize& size);
    void zoom(double factor, const QPointF& about);

    MatrixContent content_;
    QImage image_;
    QImage reduced_; ///< of a part seen from far away, a pixel of the screen each
    QRectF reducedPart_;
    QRectF shown_; ///< in columns and rows; cell c reaches from c - 0.5 to c + 0.5
    bool all_ = true;
    std::optional<QPoint> cell_;
    std::optional<QPointF> dragFrom_;
    QRectF dragShown_;
    bool dragged_ = false;
};

} // namespace patchlight::widgets
