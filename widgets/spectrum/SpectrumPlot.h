#pragma once

#include "widgets/plot/Axes.h"
#include "widgets/spectrum/SpectrumData.h"
#include "widgets/spectrum/SpectrumMath.h"

#include <QPixmap>
#include <QPointF>
#include <QWidget>

#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

namespace patchlight::widgets {

struct PlotColours;
struct StepCurve;

/// How spectra are drawn. Nothing here changes the data: smoothing and units are for the eye only.
struct SpectrumSettings {
    bool nanometres = false; ///< x axis in nm instead of Angstrom
    bool perBin = false;     ///< y axis per bin instead of per Angstrom
    bool errorBand = true;
    bool xflux = false;
    bool residual = true;
    bool overlays = true;
    bool seams = true;
    bool skyLines = false;
    bool galaxyLines = false;
    double redshift = 0;
    int smoothing = 1;                     ///< bins, odd; 1: none
    std::uint32_t shadedBits = 0xFFFFFFFF; ///< MASK bits that make a bin faint and shaded
    int residualOverlay = 0;               ///< index of the overlay that the residual is taken against
    bool operator==(const SpectrumSettings&) const = default;
};

/// One or more spectra as steps, one lane each, with a residual pane in sigma and its pull histogram below. Mouse: wheel zooms at the
/// cursor (with Control along y), left or middle drag pans, right drag zooms to a box, double click shows all. Keys are those of
/// IRAF's splot: see keyHelp().
class SpectrumPlot : public QWidget {
    Q_OBJECT

public:
    /// What part of the spectra is shown.
    struct View {
        Interval x;       ///< Angstrom
        Interval y;       ///< as displayed: per Angstrom or per bin
        bool fitY = true; ///< y follows the data in view
        bool operator==(const View&) const = default;
    };

    explicit SpectrumPlot(QWidget* parent = nullptr);

    /// Shows other data; the part in view stays where it still shows something, so that a new extraction does not move the picture.
    void setData(SpectrumData data);
    [[nodiscard]] const SpectrumData& data() const { return data_; }
    void setSettings(const SpectrumSettings& settings);
    [[nodiscard]] const SpectrumSettings& settings() const { return settings_; }

    [[nodiscard]] const View& view() const { return view_; }
    /// Without data it is kept for the data to come.
    void setView(const View& view, bool remember = true);
    void showAll();
    void goBack();
    void goForward();
    [[nodiscard]] bool canGoBack() const { return history_.canGoBack(); }
    [[nodiscard]] bool canGoForward() const { return history_.canGoForward(); }

    /// The window's common cursor, from outside; spectrum -1: none. Emits nothing.
    void setCursor(int spectrum, double wavelength);
    using QWidget::setCursor;
    /// Chooses the spectrum that the residual pane is about; one that is not shown changes nothing. Emits nothing.
    void select(int spectrum);

    /// The pulls of the residual pane: of the selected spectrum against the chosen overlay; empty where there is none.
    [[nodiscard]] const std::vector<double>& pulls() const { return pulls_; }
    [[nodiscard]] int selectedSpectrum() const { return selected_; }

    /// Numbers at a wavelength in one line: "fiber 27  6001.60 Angstrom  flux ...".
    [[nodiscard]] QString readout(int spectrum, double wavelength) const;
    /// Why there is nothing to see; empty where there is.
    [[nodiscard]] QString emptyReason() const;
    /// The keys, one a line.
    [[nodiscard]] static QString keyHelp();

    /// What a key does, so that a window can put it into its menus and bind other keys to it.
    struct Command {
        const char* id; ///< "expand"
        QString text;   ///< as in a menu
        QString keys;   ///< portable, separated by ";"
        QString help;
    };
    [[nodiscard]] static const std::vector<Command>& commands();
    void run(const QString& command);
    /// Why the residual pane is empty; an empty text where it is not.
    [[nodiscard]] QString residualProblem() const;
    /// Whether keys are looked up in commands() here; off where the window's own shortcuts call run().
    void setOwnKeys(bool on) { ownKeys_ = on; }

    /// Area of the spectra, in widget coordinates.
    [[nodiscard]] QRectF mainArea() const;
    /// Area of the residuals; empty where the pane is hidden.
    [[nodiscard]] QRectF residualArea() const;
    /// Wavelength (Angstrom) at a pixel column, and back.
    [[nodiscard]] double wavelengthAt(double pixel) const;
    [[nodiscard]] double pixelOf(double wavelength) const;
    /// Flux at a pixel row of lane `lane`, as displayed: per Angstrom or per bin.
    [[nodiscard]] double fluxAt(double pixel, int lane) const;

    /// Paints the plot into a rectangle of any device: the screen, an image, a PDF page.
    void paintPlot(QPainter& painter, const QRectF& area, const PlotColours& colours) const;

    [[nodiscard]] QSize sizeHint() const override { return {900, 420}; }
    [[nodiscard]] QSize minimumSizeHint() const override { return {260, 160}; }

signals:
    void cursorMoved(int spectrum, double wavelength);
    void cursorLeft();
    void binSelected(int spectrum, double wavelength);
    /// ( and ): the fiber before or after.
    void fiberStepRequested(int step);
    /// What a key found out, in one line.
    void message(const QString& text);
    void viewChanged();
    /// s: the next smoothing.
    void smoothingRequested(int bins);

protected:
    bool event(QEvent* event) override;
    void paintEvent(QPaintEvent* event) override;
    void resizeEvent(QResizeEvent* event) override;
    void mouseMoveEvent(QMouseEvent* event) override;
    void mousePressEvent(QMouseEvent* event) override;
    void mouseReleaseEvent(QMouseEvent* event) override;
    void mouseDoubleClickEvent(QMouseEvent* event) override;
    void wheelEvent(QWheelEvent* event) override;
    void keyPressEvent(QKeyEvent* event) override;
    void leaveEvent(QEvent* event) override;
    void changeEvent(QEvent* event) override;

private:
    /// What is drawn of a curve, made once for each setting.
    struct Prepared {
        std::vector<double> edges;
        std::vector<double> flux;  ///< smoothed, per Angstrom or per bin
        std::vector<double> sigma; ///< of that
        std::vector<double> xflux;
        std::vector<std::uint8_t> faint; ///< 1: masked by a shaded bit, or without data
    };
    struct Layout {
        QRectF main;
        QRectF residual;
        QRectF histogram;
        QRectF outer;
    };
    struct Mark {
        char key = 0; ///< a, e or m
        double wavelength = 0;
        double flux = 0; ///< per Angstrom
    };

    [[nodiscard]] Prepared prepare(const SpectrumCurve& curve) const;
    void prepareAll();
    void updatePulls();
    void invalidate();
    [[nodiscard]] Layout layoutFor(const QRectF& area) const;
    [[nodiscard]] Interval dataX() const;
    [[nodiscard]] Interval dataY(const Interval& x) const;
    void fitY();
    [[nodiscard]] AxisMap xMap(const Layout& layout) const;
    [[nodiscard]] AxisMap laneMap(const Layout& layout, int lane) const;
    [[nodiscard]] QRectF laneRect(const Layout& layout, int lane) const;
    [[nodiscard]] int laneAt(double pixel) const;
    [[nodiscard]] const SpectrumCurve* curveOf(int spectrum) const;
    [[nodiscard]] const SpectrumOverlay* residualOverlay() const;
    void paintLane(QPainter& painter, const Layout& layout, const PlotColours& colours, int lane) const;
    void paintMasks(QPainter& painter, const Layout& layout, const PlotColours& colours, int lane) const;
    void paintLines(QPainter& painter, const Layout& layout, const PlotColours& colours) const;
    void paintAxes(QPainter& painter, const Layout& layout, const PlotColours& colours) const;
    void paintLegend(QPainter& painter, const Layout& layout, const PlotColours& colours) const;
    void paintResidual(QPainter& painter, const Layout& layout, const PlotColours& colours) const;
    void mark(char key);
    void windowKey(const QString& text);
    void finishMark(const Mark& end);
    void pointAt(const QPointF& position);

    SpectrumData data_;
    SpectrumSettings settings_;
    std::vector<Prepared> prepared_;
    std::vector<std::vector<Prepared>> preparedOverlays_; ///< [overlay][spectrum], empty where it has no such curve
    std::vector<double> pulls_;
    std::vector<double> pullEdges_;
    View view_;
    bool viewWaits_ = false; ///< view_ was set before there was data
    ViewHistory<View> history_;
    int selected_ = -1;
    int cursorSpectrum_ = -1;
    double cursorWavelength_ = std::numeric_limits<double>::quiet_NaN();
    QPointF pointer_{-1, -1};
    std::optional<Mark> mark_;
    bool windowPrefix_ = false;
    bool ownKeys_ = true;
    std::optional<QPointF> panFrom_;
    View panView_;
    bool panned_ = false;
    std::optional<QPointF> boxFrom_;
    QPixmap cache_;
};

} // namespace patchlight::widgets
