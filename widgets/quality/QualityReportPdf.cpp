#include "widgets/quality/QualityReportPdf.h"

#include "core/analysis/FrameQuality.h"
#include "core/analysis/MaskNames.h"
#include "core/base/Version.h"
#include "core/frame/ExtractedFrame.h"
#include "core/image/CcdImage.h"
#include "core/psf/GaussHermite.h"
#include "core/psf/Psf.h"
#include "widgets/ccd/Display.h"
#include "widgets/plot/SeriesPlot.h"
#include "widgets/quality/FrameQualityPanel.h"

#include <QApplication>
#include <QPageLayout>
#include <QPageSize>
#include <QPainter>
#include <QPdfWriter>
#include <QSaveFile>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

namespace patchlight::widgets {

namespace {

constexpr double pageWidth = 1120; // units that everything is laid out in: A4 landscape, about 96 to the inch
constexpr double pageHeight = 792;
constexpr double margin = 36;

QPalette paper() {
    QPalette palette;
    palette.setColor(QPalette::Window, Qt::white);
    palette.setColor(QPalette::Base, Qt::white);
    palette.setColor(QPalette::AlternateBase, QColor(245, 246, 247));
    palette.setColor(QPalette::Text, QColor(20, 20, 24));
    palette.setColor(QPalette::WindowText, QColor(20, 20, 24));
    palette.setColor(QPalette::Highlight, QColor(48, 120, 196));
    return palette;
}

class Report {
public:
    Report(const FrameQualityPanel& panel, QPdfWriter& writer)
        : panel_(panel), m_(panel.measurement()), q_(*m_.quality), writer_(writer), painter_(&writer) {
        scale_ = writer.width() / pageWidth;
        painter_.scale(scale_, scale_);
        painter_.setRenderHint(QPainter::SmoothPixmapTransform, false);
    }

    void write() {
        summary();
        maps();
        places();
        noise();
        fibers();
        painter_.end();
    }

private:
    void setFont(double size, bool bold = false) {
        QFont font = QApplication::font();
        font.setPixelSize(static_cast<int>(size));
        font.setBold(bold);
        painter_.setFont(font);
    }

    /// The line every page begins with. @returns where its content begins
    double header(const QString& title) {
        if (pages_ > 0) writer_.newPage();
        ++pages_;
        painter_.setPen(QColor(20, 20, 24));
        setFont(20, true);
        painter_.drawText(QRectF(margin, 24, pageWidth - 2 * margin, 28), Qt::AlignLeft | Qt::AlignVCenter, title);
        setFont(11);
        painter_.setPen(QColor(110, 110, 120));
        painter_.drawText(QRectF(margin, 24, pageWidth - 2 * margin, 28), Qt::AlignRight | Qt::AlignVCenter,
                          QObject::tr("%1   page %2").arg(frameName()).arg(pages_));
        painter_.drawLine(QPointF(margin, 56), QPointF(pageWidth - margin, 56));
        painter_.setPen(QColor(20, 20, 24));
        return 66;
    }

    [[nodiscard]] QString frameName() const {
        const auto camera = m_.frame->header.text("CAMERA");
        const auto expid = m_.frame->header.text("EXPID");
        return QStringLiteral("%1 %2")
            .arg(QString::fromStdString(camera.value_or("")), QString::fromStdString(expid.value_or("")))
            .trimmed();
    }

    void widget(QWidget& w, const QRectF& place) {
        w.setPalette(paper());
        QFont font = QApplication::font();
        font.setPixelSize(11);
        w.setFont(font);
        w.resize(place.size().toSize());
        // A picture of twice the resolution: the maps are pixels anyway, and files stay small.
        constexpr double oversampling = 2.0;
        QImage image(w.size() * oversampling, QImage::Format_RGB32);
        image.setDevicePixelRatio(oversampling);
        image.fill(Qt::white);
        w.render(&image);
        painter_.drawImage(place, image);
    }

    void map(FrameQualityPanel::Map which, const QRectF& place) {
        FrameMap::Plane plane = panel_.plane(which);
        FrameMap view;
        view.setPalette(paper());
        if (plane.values)
            view.setPlane(std::move(plane), q_.wavelength, q_.specmin);
        else
            view.clear(QObject::tr("%1: not known").arg(FrameQualityPanel::mapName(which)));
        widget(view, place);
    }

    void plot(const SeriesPlot& from, const QRectF& place) {
        SeriesPlot copy;
        PlotContent content = from.content();
        content.marker = std::nan("");
        copy.setPalette(paper());
        copy.setContent(std::move(content));
        widget(copy, place);
    }

    struct Column {
        QString title;
        double width;
        Qt::Alignment alignment = Qt::AlignRight;
    };

    /// A table from y on, as many rows as fit. @returns where it ends
    double table(double x, double y, double bottom, const std::vector<Column>& columns, std::size_t rows,
                 const std::function<QString(std::size_t, std::size_t)>& cell, std::size_t& done) {
        constexpr double rowHeight = 17;
        setFont(11, true);
        double at = x;
        for (const Column& column : columns) {
            painter_.drawText(QRectF(at + 3, y, column.width - 6, rowHeight), column.alignment | Qt::AlignVCenter,
                              column.title);
            at += column.width;
        }
        painter_.setPen(QColor(150, 150, 160));
        painter_.drawLine(QPointF(x, y + rowHeight), QPointF(at, y + rowHeight));
        painter_.setPen(QColor(20, 20, 24));
        setFont(11);
        y += rowHeight + 2;
        const QFontMetricsF metrics(painter_.font());
        for (; done < rows && y + rowHeight <= bottom; ++done) {
            if (done % 2 == 1) painter_.fillRect(QRectF(x, y, at - x, rowHeight), QColor(244, 245, 247));
            double left = x;
            for (std::size_t c = 0; c < columns.size(); ++c) {
                painter_.drawText(QRectF(left + 3, y, columns[c].width - 6, rowHeight),
                                  columns[c].alignment | Qt::AlignVCenter,
                                  metrics.elidedText(cell(done, c), Qt::ElideRight, columns[c].width - 6));
                left += columns[c].width;
            }
            y += rowHeight;
        }
        return y;
    }

    void summary() {
        double y = header(QObject::tr("Quality of an extracted frame"));
        setFont(12);
        const auto line = [&](const QString& label, const QString& text) {
            painter_.setPen(QColor(110, 110, 120));
            painter_.drawText(QRectF(margin, y, 110, 18), Qt::AlignLeft | Qt::AlignVCenter, label);
            painter_.setPen(QColor(20, 20, 24));
            const QFontMetricsF metrics(painter_.font());
            painter_.drawText(QRectF(margin + 110, y, 340, 18), Qt::AlignLeft | Qt::AlignVCenter,
                              metrics.elidedText(text, Qt::ElideMiddle, 340));
            y += 18;
        };
        const auto keyword = [&](const char* key) {
            return QString::fromStdString(m_.frame->header.text(key).value_or("not said"));
        };
        line(QObject::tr("exposure"),
             QObject::tr("%1, camera %2, night %3").arg(keyword("EXPID"), keyword("CAMERA"), keyword("NIGHT")));
        line(QObject::tr("extracted by"), keyword("EXTRSOFT"));
        line(QObject::tr("CCD image"), m_.image ? QString::fromStdString(m_.image->path) : QObject::tr("none"));
        line(QObject::tr("PSF"), m_.psf ? QString::fromStdString(m_.psf->path) : QObject::tr("none"));
        line(QObject::tr("bins"), QObject::tr("%1 spectra x %2 wavelengths, %3 to %4 \u00c5")
                                      .arg(q_.nspec())
                                      .arg(q_.nwave())
                                      .arg(q_.wavelength.front(), 0, 'f', 1)
                                      .arg(q_.wavelength.back(), 0, 'f', 1));
        line(QObject::tr("with an alarm"),
             QObject::tr("%1 (%2 %)")
                 .arg(q_.alarms())
                 .arg(100.0 * static_cast<double>(q_.alarms()) / static_cast<double>(q_.kind.size()), 0, 'g', 3));
        line(QObject::tr("report by"),
             QStringLiteral("patchlight %1").arg(QString::fromStdString(std::string(version()))));
        for (const std::string& note : q_.notes) {
            painter_.setPen(QColor(160, 60, 20));
            const QRectF box(margin, y + 2, 450, 60);
            QRectF used;
            painter_.drawText(box, Qt::TextWordWrap, QString::fromStdString(note), &used);
            y = used.bottom() + 4;
        }
        y += 10;
        std::vector<int> kinds;
        for (int k = 1; k < badBinKindCount; ++k)
            if (q_.counts[static_cast<std::size_t>(k)] > 0) kinds.push_back(k);
        std::vector<int> findings(badBinKindCount, 0);
        for (const Finding& finding : q_.findings) ++findings[static_cast<std::size_t>(finding.kind)];
        std::size_t done = 0;
        if (kinds.empty()) {
            painter_.setPen(QColor(20, 20, 24));
            painter_.drawText(QRectF(margin, y, 450, 20), QObject::tr("No bin has an alarm."));
            y += 24;
        } else {
            painter_.setPen(QColor(20, 20, 24));
            const double top = y;
            y = table(
                margin, y, pageHeight - margin,
                {{QObject::tr("cause"), 200, Qt::AlignLeft},
                 {QObject::tr("bins"), 100},
                 {QObject::tr("findings"), 100}},
                kinds.size(),
                [&](std::size_t row, std::size_t column) {
                    const int k = kinds[row];
                    if (column == 0)
                        return QStringLiteral("     ") +
                               QString::fromLatin1(badBinKindName(static_cast<BadBinKind>(k)));
                    return column == 1 ? QString::number(q_.counts[static_cast<std::size_t>(k)])
                                       : QString::number(findings[static_cast<std::size_t>(k)]);
                },
                done);
            for (std::size_t row = 0; row < done; ++row)
                painter_.fillRect(QRectF(margin + 4, top + 19 + 17 * static_cast<double>(row) + 4, 9, 9),
                                  FrameQualityPanel::kindColour(static_cast<BadBinKind>(kinds[row])));
            y += 14;
        }
        if (q_.pixels) {
            done = 0;
            table(
                margin, y, pageHeight - margin,
                {{QObject::tr("amplifier"), 100, Qt::AlignLeft},
                 {QObject::tr("pixels"), 80},
                 {QObject::tr("pull mean"), 75},
                 {QObject::tr("sigma"), 65},
                 {QObject::tr("of noise"), 65},
                 {QObject::tr("> 5 sigma"), 70}},
                q_.amplifiers.size(),
                [&](std::size_t row, std::size_t column) {
                    const AmplifierQuality& a = q_.amplifiers[row];
                    switch (column) {
                    case 0:
                        return QString::fromStdString(a.name) + (a.dead ? QObject::tr(" (dead)") : QString());
                    case 1:
                        return QString::number(a.pulls.count);
                    case 2:
                        return QString::number(a.pulls.mean, 'f', 3);
                    case 3:
                        return QString::number(a.pulls.sigma, 'f', 3);
                    case 4:
                        return QString::number(a.pulls.expectedSigma, 'f', 3);
                    default:
                        return QString::number(a.pulls.outliers);
                    }
                },
                done);
        }
        map(FrameQualityPanel::Map::Cause, {margin + 470, 66, pageWidth - 2 * margin - 470, pageHeight - 66 - margin});
    }

    void maps() {
        const double y = header(QObject::tr("Maps"));
        const double width = (pageWidth - 2 * margin - 16) / 2;
        const double height = (pageHeight - y - margin - 12) / 2;
        const FrameQualityPanel::Map which[] = {
            FrameQualityPanel::Map::Flux, FrameQualityPanel::Map::Snr, FrameQualityPanel::Map::Chi2pix,
            q_.maskedFraction.empty() ? FrameQualityPanel::Map::Mask : FrameQualityPanel::Map::Masked};
        for (int i = 0; i < 4; ++i) {
            const int column = i % 2;
            const int row = i / 2;
            map(which[i], {margin + column * (width + 16), y + row * (height + 12), width, height});
        }
    }

    /// Image, model and residual around a place, as small pictures.
    void cutouts(int row, int bin, const QRectF& place) {
        const PsfView psf = m_.psf->view();
        const double scale = m_.frame->header.number("HELIOCOR").value_or(1.0);
        const double wavelength = q_.wavelength[static_cast<std::size_t>(bin)] / scale;
        const int x = static_cast<int>(std::lround(traceX(psf, q_.specmin + row, wavelength)));
        const int y = static_cast<int>(std::lround(traceY(psf, q_.specmin + row, wavelength)));
        constexpr int half = 20;
        constexpr int side = 2 * half + 1;
        std::vector<float> planes[3];
        for (std::vector<float>& plane : planes) plane.assign(static_cast<std::size_t>(side * side), std::nanf(""));
        for (int dy = -half; dy <= half; ++dy)
            for (int dx = -half; dx <= half; ++dx) {
                if (x + dx < 0 || y + dy < 0 || x + dx >= m_.image->nx || y + dy >= m_.image->ny) continue;
                const auto p = static_cast<std::size_t>(y + dy) * static_cast<std::size_t>(m_.image->nx) +
                               static_cast<std::size_t>(x + dx);
                const auto to = static_cast<std::size_t>((half - dy) * side + dx + half);
                planes[0][to] = m_.image->pixels[p];
                planes[1][to] = q_.model[p];
                const bool masked =
                    !m_.image->mask.empty() && (static_cast<std::uint32_t>(m_.image->mask[p]) & ccdMaskedBits) != 0;
                if (!masked && m_.image->ivar[p] > 0 && q_.model[p] != 0.0F)
                    planes[2][to] = (m_.image->pixels[p] - q_.model[p]) * std::sqrt(m_.image->ivar[p]);
            }
        std::vector<float> sorted;
        for (const float value : planes[0])
            if (std::isfinite(value)) sorted.push_back(value);
        std::sort(sorted.begin(), sorted.end());
        DisplaySettings grey;
        grey.range = sorted.empty() ? ValueRange{} : findRange(sorted, Cuts::Percent98);
        DisplaySettings pull;
        pull.range = {-5, 5};
        pull.map = QStringLiteral("diverging");
        const QString titles[] = {QObject::tr("image"), QObject::tr("model"), QObject::tr("pull, \u00b15 sigma")};
        const double size = std::min(place.height() - 16, (place.width() - 16) / 3);
        for (int i = 0; i < 3; ++i) {
            const ColorTable colours(i == 2 ? pull : grey, sorted);
            QImage picture(side, side, QImage::Format_RGB32);
            for (int py = 0; py < side; ++py)
                for (int px = 0; px < side; ++px)
                    picture.setPixel(px, py, colours.color(planes[i][static_cast<std::size_t>(py * side + px)]));
            const QRectF box(place.left() + i * (size + 8), place.top() + 14, size, size);
            painter_.drawImage(box, picture.scaled(picture.size() * 6));
            painter_.setPen(QColor(110, 110, 120));
            painter_.drawRect(box);
            setFont(10);
            painter_.drawText(QRectF(box.left(), place.top() - 2, size, 14), Qt::AlignLeft | Qt::AlignVCenter,
                              titles[i]);
            // The bin's spot, marked.
            painter_.setPen(QPen(QColor(255, 200, 0), 1.2));
            painter_.drawEllipse(box.center(), 5 * size / side, 5 * size / side);
            painter_.setPen(QColor(20, 20, 24));
        }
    }

    void places() {
        if (q_.findings.empty()) return;
        double y = header(QObject::tr("The worst place of each cause"));
        BadBinKind kind = BadBinKind::None;
        const double height = q_.pixels ? 156 : 52;
        for (const Finding& finding : q_.findings) {
            if (finding.kind == kind) continue;
            kind = finding.kind;
            if (y + height > pageHeight - margin) y = header(QObject::tr("The worst place of each cause, continued"));
            painter_.fillRect(QRectF(margin, y + 3, 10, 10), FrameQualityPanel::kindColour(kind));
            setFont(13, true);
            painter_.setPen(QColor(20, 20, 24));
            painter_.drawText(QRectF(margin + 16, y - 2, 480, 20), Qt::AlignLeft | Qt::AlignVCenter,
                              QObject::tr("%1: %2 bins")
                                  .arg(QString::fromLatin1(badBinKindName(kind)))
                                  .arg(q_.counts[static_cast<std::size_t>(kind)]));
            setFont(12);
            painter_.drawText(QRectF(margin + 16, y + 20, q_.pixels ? 520 : pageWidth - 2 * margin - 16, height - 24),
                              Qt::TextWordWrap, QString::fromStdString(finding.sentence));
            if (q_.pixels)
                cutouts(finding.row, finding.bin, {margin + 560, y, pageWidth - 2 * margin - 560, height - 8});
            y += height;
        }
        // All findings, as far as a page goes.
        y = header(QObject::tr("Findings"));
        std::size_t done = 0;
        table(
            margin, y, pageHeight - margin,
            {{QObject::tr("cause"), 120, Qt::AlignLeft},
             {QObject::tr("severity"), 64},
             {QObject::tr("bins"), 56},
             {QObject::tr("fiber"), 50},
             {QObject::tr("\u00c5"), 64},
             {QObject::tr("what was found"), 694, Qt::AlignLeft}},
            q_.findings.size(),
            [&](std::size_t row, std::size_t column) {
                const Finding& f = q_.findings[row];
                switch (column) {
                case 0:
                    return QString::fromLatin1(badBinKindName(f.kind));
                case 1:
                    return QString::number(f.severity, 'g', 3);
                case 2:
                    return QString::number(f.bins);
                case 3:
                    return QString::number(q_.specmin + f.row);
                case 4:
                    return QString::number(q_.wavelength[static_cast<std::size_t>(f.bin)], 'f', 1);
                default: {
                    // The place stands in columns of its own.
                    const QString sentence = QString::fromStdString(f.sentence);
                    const auto colon = sentence.indexOf(QStringLiteral("Angstrom: "));
                    return colon < 0 ? sentence : sentence.mid(colon + 10);
                }
                }
            },
            done);
        if (done < q_.findings.size()) {
            setFont(11);
            painter_.drawText(
                QRectF(margin, pageHeight - margin + 2, 600, 18),
                QObject::tr("... and %1 more; patchlight qa --findings lists all").arg(q_.findings.size() - done));
        }
    }

    void noise() {
        const double y = header(QObject::tr("Noise, columns and traces"));
        const double width = (pageWidth - 2 * margin - 16) / 2;
        const double height = (pageHeight - y - margin - 24) / 3;
        const double right = margin + width + 16;
        plot(panel_.pulls(), {margin, y, 2 * width + 16, height});
        plot(panel_.columnMedians(), {margin, y + height + 12, width, height});
        plot(panel_.rowMedians(), {right, y + height + 12, width, height});
        plot(panel_.offsets(), {margin, y + 2 * (height + 12), width, height});
        plot(panel_.shifts(), {right, y + 2 * (height + 12), width, height});
    }

    void fibers() {
        const double y = header(QObject::tr("Fibers with the most alarms"));
        std::vector<std::size_t> order(q_.fibers.size());
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](std::size_t a, std::size_t b) { return q_.fibers[a].alarms > q_.fibers[b].alarms; });
        std::size_t done = 0;
        const auto measured = [](const Measured& value, double scale, int digits) {
            return value.known() ? QStringLiteral("%1 \u00b1 %2")
                                       .arg(scale * value.value, 0, 'f', digits)
                                       .arg(scale * value.error, 0, 'f', digits)
                                 : QString();
        };
        const auto number = [](double value, int digits) {
            return std::isfinite(value) ? QString::number(value, 'f', digits) : QString();
        };
        table(
            margin, y, pageHeight - margin,
            {{QObject::tr("spectrum"), 62},
             {QObject::tr("FIBER"), 56},
             {QObject::tr("TARGETID"), 150},
             {QObject::tr("type"), 44, Qt::AlignLeft},
             {QObject::tr("alarms"), 56},
             {QObject::tr("mostly"), 110, Qt::AlignLeft},
             {QObject::tr("S/N"), 60},
             {QObject::tr("chi2pix"), 60},
             {QObject::tr("masked %"), 66},
             {QObject::tr("pull sigma"), 70},
             {QObject::tr("offset (pixel)"), 105},
             {QObject::tr("width (%)"), 100},
             {QObject::tr("shift (\u00c5)"), 105}},
            order.size(),
            [&](std::size_t row, std::size_t column) {
                const FiberQuality& f = q_.fibers[order[row]];
                switch (column) {
                case 0:
                    return QString::number(f.spectrum);
                case 1:
                    return QString::number(f.fiber);
                case 2:
                    return QString::number(f.targetId);
                case 3:
                    return QString::fromStdString(f.objectType);
                case 4:
                    return QString::number(f.alarms);
                case 5:
                    return f.worst == BadBinKind::None ? QString() : QString::fromLatin1(badBinKindName(f.worst));
                case 6:
                    return number(f.medianSnr, 2);
                case 7:
                    return number(f.medianChi2pix, 3);
                case 8:
                    return number(100 * f.maskedShare, 2);
                case 9:
                    return f.pulls.count > 0 ? number(f.pulls.sigma, 3) : QString();
                case 10:
                    return measured(f.traceOffset, 1, 3);
                case 11:
                    return measured(f.widthError, 100, 2);
                default:
                    return measured(f.wavelengthShift, 1, 3);
                }
            },
            done);
    }

    const FrameQualityPanel& panel_;
    const FrameQualityPanel::Measurement& m_;
    const FrameQuality& q_;
    QPdfWriter& writer_;
    QPainter painter_;
    double scale_ = 1;
    int pages_ = 0;
};

} // namespace

QString writeQualityReport(const FrameQualityPanel& panel, const QString& path) {
    if (!panel.measurement().quality)
        return QObject::tr("%1: there is no extracted frame that a report could be about").arg(path);
    // Written as a whole or not at all.
    QSaveFile file(path);
    if (!file.open(QIODevice::WriteOnly)) return QStringLiteral("%1: %2").arg(path, file.errorString());
    {
        QPdfWriter writer(&file);
        writer.setTitle(QObject::tr("Quality of an extracted frame"));
        writer.setCreator(QStringLiteral("patchlight-gui"));
        writer.setResolution(150);
        writer.setPageSize(QPageSize(QPageSize::A4));
        writer.setPageOrientation(QPageLayout::Landscape);
        writer.setPageMargins(QMarginsF(0, 0, 0, 0));
        Report(panel, writer).write();
    }
    if (!file.commit()) return QStringLiteral("%1: %2").arg(path, file.errorString());
    return {};
}

} // namespace patchlight::widgets
