#pragma once

#include <QImage>
#include <QRectF>
#include <QString>

#include <vector>

namespace patchlight {
struct ExtractedFrame;
struct PatchDetail;
struct Plan;
} // namespace patchlight

namespace patchlight::widgets {

class Document;

/// The difference of the two methods, patches minus seamless, in sigma, where the window holds both: of two frames (this run, the one before, the one
/// to compare with) or of two extractions of the patch. Bin by bin on the traces.
class MethodOverlay {
public:
    explicit MethodOverlay(const Document& document) : document_(document) {}

    /// Frames, patches or traces have changed.
    void documentChanged() { valid_ = false; }
    /// Paints the bins that fall into a picture.
    /// @param ccd  the part of the CCD that the picture shows, pixels; y upwards
    void paint(QImage& picture, const QRectF& ccd);
    /// What is shown and its range, or why there is nothing.
    [[nodiscard]] const QString& legend();
    /// Largest difference that has a colour of its own, sigma; 0: nothing to show.
    [[nodiscard]] double range();
    /// Difference at a bin of the overlay, sigma; NaN where there is none.
    [[nodiscard]] double valueAt(int spectrum, double wavelength);

private:
    struct Row {
        int spectrum = 0;
        std::vector<double> wavelength; ///< Angstrom
        std::vector<float> sigma;
        std::vector<float> x, y;   ///< on the CCD, pixels
        float left = 0, right = 0; ///< of x
        bool upwards = false;      ///< y rises all the way
    };
    void prepare();
    void prepareFrames();
    void preparePatches();
    void finish();

    const Document& document_;
    bool valid_ = false;
    std::vector<Row> rows_;
    QString what_;
    QString legend_;
    double range_ = 0;
};

} // namespace patchlight::widgets
