// How fast the window is under the hand: opens a CCD image and a PSF, works in the CCD view as a person does, and prints JSON.
// usage: bench_window IMAGE PSF     (xvfb-run -a -s "-screen 0 1920x1200x24" ...)

#include "core/analysis/Trace.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/PatchResult.h"
#include "core/psf/Psf.h"
#include "widgets/ccd/CcdImageView.h"
#include "widgets/control/Document.h"
#include "widgets/plot/MatrixView.h"
#include "widgets/psf/PsfInspector.h"
#include "widgets/quality/FrameQualityPanel.h"
#include "widgets/resolution/ResolutionView.h"
#include "widgets/spectrum/SpectrumPlot.h"
#include "widgets/spectrum/SpectrumView.h"
#include "widgets/timing/TimelineView.h"
#include "widgets/timing/TimingPanel.h"
#include "widgets/window/LinkedViews.h"
#include "widgets/window/MainWindow.h"

#include <nlohmann/json.hpp>

#include <QApplication>
#include <QDockWidget>
#include <QElapsedTimer>
#include <QMouseEvent>
#include <QSettings>
#include <QStyleFactory>
#include <QTemporaryDir>
#include <QTest>
#include <QTimer>
#include <QWheelEvent>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <functional>
#include <vector>

namespace {

using namespace patchlight;
using namespace patchlight::widgets;

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2), values.end());
    return values[values.size() / 2];
}

/// Times `count` drawings, each after a change; milliseconds, median and worst.
nlohmann::json drawings(QWidget& widget, int count, const std::function<void(int)>& change) {
    for (int i = 0; i < 3; ++i) {
        change(i);
        widget.repaint();
    }
    std::vector<double> times;
    for (int i = 0; i < count; ++i) {
        QElapsedTimer timer;
        timer.start();
        change(i + 3);
        widget.repaint();
        QApplication::sendPostedEvents();
        times.push_back(static_cast<double>(timer.nsecsElapsed()) * 1e-6);
    }
    return {{"median_ms", median(times)},
            {"worst_ms", *std::max_element(times.begin(), times.end())},
            {"frames_per_second", 1000.0 / median(times)}};
}

bool waitUntil(const std::function<bool()>& done, int milliseconds) {
    QElapsedTimer timer;
    timer.start();
    while (!done() && timer.elapsed() < milliseconds) QTest::qSleep(1), QApplication::processEvents();
    return done();
}

int run(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "usage: bench_window IMAGE PSF\n");
        return 2;
    }
    const QTemporaryDir home;
    QSettings::setPath(QSettings::NativeFormat, QSettings::UserScope, home.path());
    QApplication::setOrganizationName(QStringLiteral("patchlight-bench"));
    const QApplication application(argc, argv);
    QApplication::setStyle(QStyleFactory::create(QStringLiteral("Fusion")));
    nlohmann::json result;
    MainWindow window([](const std::string&) { return makeCpuBackend(); });
    window.resize(1600, 1000);
    window.show();
    if (!QTest::qWaitForWindowExposed(&window)) return 1;
    Document& document = window.document();
    CcdImageView& view = window.ccdView();

    // Opening: from the request to the pixels on screen.
    QElapsedTimer timer;
    timer.start();
    window.openFiles({QString::fromLocal8Bit(argv[1]), QString::fromLocal8Bit(argv[2])});
    if (!waitUntil([&] { return document.image() && document.psf(); }, 60000)) {
        std::fprintf(stderr, "bench_window: %s\n", qPrintable(window.problem()));
        return 1;
    }
    view.repaint();
    result["open_to_screen_ms"] = static_cast<double>(timer.nsecsElapsed()) * 1e-6;
    waitUntil([&] { return window.controller().activeJobs() == 0; }, 60000);

    const Cursor middle =
        document.cursorAtBin(document.psf()->nspec / 2, 0.5 * (document.psf()->wavemin() + document.psf()->wavemax()));
    const int frames = 60;
    view.fit();
    result["zoom_fit_to_close"] = drawings(view, frames, [&](int i) {
        view.setView({middle.x, middle.y, 0.2 * std::pow(1.2, i % 26)}, false);
    });
    result["pan_whole_ccd"] = drawings(view, frames, [&](int i) {
        view.setView({middle.x + 10 * (i % 30), middle.y, 0.25}, false);
    });
    result["pan_close"] = drawings(view, frames, [&](int i) { view.setView({middle.x + i, middle.y, 4.0}, false); });
    result["contrast_close"] = drawings(view, frames, [&](int i) {
        DisplaySettings settings = view.settings(view.layer());
        settings.contrast = 1.0 + 0.02 * i;
        view.setSettings(view.layer(), settings);
    });
    view.fit();
    result["contrast_whole_ccd"] = drawings(view, frames, [&](int i) {
        DisplaySettings settings = view.settings(view.layer());
        settings.contrast = 1.0 + 0.02 * i;
        view.setSettings(view.layer(), settings);
    });
    view.resetContrast();
    // Each overlay alone, then all of them.
    for (int k = 0; k <= overlayCount; ++k) {
        for (int i = 0; i < overlayCount; ++i) view.setOverlay(static_cast<Overlay>(i), i == k || k == overlayCount);
        const std::string name = "pan_with_" + (k == overlayCount ? std::string("all_overlays")
                                                                  : overlayName(static_cast<Overlay>(k)).toStdString());
        result[name] = {{"close", drawings(view, 20,
                                           [&](int i) {
                                               view.setView({middle.x + i, middle.y, 4.0}, false);
                                           })},
                        {"whole", drawings(view, 20, [&](int i) {
                             view.setView({middle.x + 10 * (i % 30), middle.y, 0.25}, false);
                         })}};
    }
    for (const Overlay overlay : {Overlay::Traces, Overlay::Ticks, Overlay::PatchGrid, Overlay::Amplifiers})
        view.setOverlay(overlay, false);

    // Clicks: until the result is in the document and every view has been drawn.
    view.setView({middle.x, middle.y, 4.0}, false);
    int patches = 0;
    QObject::connect(&document, &Document::patchRunChanged, &window, [&] { ++patches; });
    std::vector<double> clicks;
    std::vector<double> clickCpu; // of all threads: what the click would take where nothing else runs
    for (int i = 0; i < 20; ++i) {
        const int before = patches;
        const QPointF at = view.toWidget(middle.x + (i % 2 == 0 ? -60 : 60), middle.y + 7 * (i % 5));
        timer.restart();
        const std::clock_t cpu = std::clock();
        QTest::mouseClick(&view, Qt::LeftButton, Qt::NoModifier, at.toPoint());
        if (!waitUntil([&] { return patches > before; }, 5000)) return 1;
        QApplication::processEvents();
        window.repaint();
        clickCpu.push_back(1000.0 * static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC);
        clicks.push_back(static_cast<double>(timer.nsecsElapsed()) * 1e-6);
        waitUntil([&] { return window.controller().activeJobs() == 0; }, 5000);
        QTest::qWait(30);
    }
    result["click_to_views"] = {{"median_ms", median(clicks)},
                                {"worst_ms", *std::max_element(clicks.begin(), clicks.end())},
                                {"median_cpu_ms", median(clickCpu)}};

    // Live: the mouse moves 60 times a second.
    view.setLive(true);
    const int liveBefore = patches;
    const std::clock_t liveCpu = std::clock();
    QTest::mousePress(&view, Qt::LeftButton, Qt::NoModifier, QPoint(100, 100));
    timer.restart();
    QElapsedTimer seconds;
    seconds.start();
    int moves = 0;
    while (seconds.elapsed() < 3000) {
        const QPointF at(100 + (moves * 7) % (view.width() - 200), 100 + (moves * 3) % (view.height() - 200));
        QMouseEvent move(QEvent::MouseMove, at, view.mapToGlobal(at), Qt::NoButton, Qt::LeftButton, Qt::NoModifier);
        QApplication::sendEvent(&view, &move);
        ++moves;
        waitUntil([&] { return seconds.elapsed() > moves * 1000 / 60; }, 100);
    }
    result["live_patches_per_second"] = 1000.0 * (patches - liveBefore) / static_cast<double>(seconds.elapsed());
    result["live_cpu_ms_per_patch"] =
        1000.0 * static_cast<double>(std::clock() - liveCpu) / CLOCKS_PER_SEC / std::max(1, patches - liveBefore);
    QTest::mouseRelease(&view, Qt::LeftButton, Qt::NoModifier, QPoint(100, 100));
    view.setLive(false);
    waitUntil([&] { return window.controller().activeJobs() == 0; }, 5000);

    // The resolution view: a patch's matrices, from the choice to the picture; those that are computed are computed anew each time.
    window.dock(QStringLiteral("resolution"))->raise();
    waitUntil([&] { return window.resolutionView().isVisible(); }, 5000);
    ResolutionView& resolution = window.resolutionView();
    for (int m = 1; m < ResolutionView::matrixCount; ++m) {
        const auto matrix = static_cast<ResolutionView::Matrix>(m);
        const bool computed = m > static_cast<int>(ResolutionView::Matrix::InverseCovariance);
        std::vector<double> times;
        for (int i = 0; i < 7; ++i) {
            resolution.setMatrix(ResolutionView::Matrix::Band);
            document.setPatchRun({std::make_shared<const PatchDetail>(*document.patchRun().detail),
                                  document.patchRun().plan, document.patchRun().psf, 0});
            QApplication::processEvents();
            timer.restart();
            resolution.setMatrix(matrix);
            if (computed && !waitUntil([&] { return resolution.figures() != nullptr; }, 5000)) return 1;
            resolution.repaint();
            times.push_back(static_cast<double>(timer.nsecsElapsed()) * 1e-6);
        }
        result["matrix"][ResolutionView::matrixName(matrix).toStdString()] = {
            {"order", resolution.picture()->content().values.rows()},
            {"median_ms", median(times)},
            {"worst_ms", *std::max_element(times.begin(), times.end())}};
    }
    result["matrix_pan"] =
        drawings(*resolution.picture(), frames, [&](int i) { resolution.picture()->setShown(QRectF(i, i, 300, 300)); });
    window.dock(QStringLiteral("psf"))->raise();
    waitUntil([&] { return window.psfInspector().isVisible(); }, 5000);
    result["psf_at_cursor"] = drawings(window.psfInspector(), frames, [&](int i) {
        document.setCursor(document.cursorAtBin(document.psf()->nspec / 2 + i % 5, middle.wavelength + i));
    });
    window.dock(QStringLiteral("patch"))->raise();
    document.setCursor(middle);

    // A run of the whole frame on all cores: how long an event waits, and how long a click takes meanwhile.
    double longest = 0;
    QElapsedTimer beat;
    QTimer heart;
    heart.setInterval(5);
    beat.start();
    QObject::connect(&heart, &QTimer::timeout, &window, [&] {
        longest = std::max(longest, static_cast<double>(beat.nsecsElapsed()) * 1e-6 - 5.0);
        beat.restart();
    });
    document.setCursor(middle);
    timer.restart();
    const int run = window.controller().extract(ExtractionController::Scope::Frame);
    heart.start();
    std::vector<double> duringRun;
    while (window.controller().isRunning(run)) {
        QElapsedTimer click;
        click.start();
        const int before = patches;
        const QPointF at = view.toWidget(middle.x + (duringRun.size() % 2 == 0 ? -60 : 60), middle.y);
        QTest::mouseClick(&view, Qt::LeftButton, Qt::NoModifier, at.toPoint());
        if (!waitUntil([&] { return patches > before; }, 5000)) break;
        duringRun.push_back(static_cast<double>(click.nsecsElapsed()) * 1e-6);
        waitUntil([&] { return click.elapsed() > 300; }, 400);
    }
    result["frame_run"] = {{"seconds", static_cast<double>(timer.elapsed()) * 1e-3},
                           {"longest_wait_of_an_event_ms", longest},
                           {"click_median_ms", median(duringRun)}};
    // The bundle of the cursor stacked, of the frame that has just been made.
    window.dock(QStringLiteral("spectrum"))->raise();
    window.linkedViews().setFibers(LinkedViews::Fibers::Bundle);
    SpectrumPlot& plot = *window.linkedViews().spectrum()->plot();
    const SpectrumPlot::View all = plot.view();
    result["spectrum_stack"] = drawings(plot, frames, [&](int i) {
        SpectrumPlot::View next = all;
        next.x = {all.x.low + i, all.x.high + i};
        plot.setView(next, false);
    });
    // The same frame by the other method, and the overlay of their difference.
    ExtractionOptions seamless = document.options();
    seamless.method = Method::Seamless;
    document.setOptions(seamless);
    const int second = window.controller().extract(ExtractionController::Scope::Frame);
    waitUntil([&] { return !window.controller().isRunning(second); }, 120000);
    QApplication::processEvents();
    for (int k = 0; k < overlayCount; ++k) view.setOverlay(static_cast<Overlay>(k), false);
    view.setOverlay(Overlay::Methods, true);
    result["pan_with_methods_of_a_frame"] = {{"legend", view.methods().legend().toStdString()},
                                             {"close", drawings(view, 20,
                                                                [&](int i) {
                                                                    view.setView({middle.x + i, middle.y, 4.0}, false);
                                                                })},
                                             {"whole", drawings(view, 20, [&](int i) {
                                                  view.setView({middle.x + 10 * (i % 30), middle.y, 0.25}, false);
                                              })}};
    view.setOverlay(Overlay::Methods, false);
    // The stored band of the frame that has just been made.
    window.dock(QStringLiteral("resolution"))->raise();
    waitUntil([&] { return window.resolutionView().isVisible(); }, 5000);
    resolution.setMatrix(ResolutionView::Matrix::Band);
    result["band_pan"] = drawings(*resolution.picture(), frames,
                                  [&](int i) { resolution.picture()->setShown(QRectF(5 * i, 0, 1000, 11)); });
    window.dock(QStringLiteral("spectrum"))->raise();
    result["spectrum_stack"]["fibers"] = plot.data().spectra.size();
    result["spectrum_stack"]["bins"] = plot.data().spectra.empty() ? 0 : plot.data().spectra[0].size();
    result["spectrum_stack"]["size"] = {plot.width(), plot.height()};
    // The whole frame: measured, then its map.
    FrameQualityPanel& quality = window.frameQuality();
    window.dock(QStringLiteral("frame"))->raise();
    window.dock(QStringLiteral("frame"))->setFloating(true);
    window.dock(QStringLiteral("frame"))->resize(1600, 1000);
    QApplication::processEvents();
    timer.restart();
    quality.measure();
    if (waitUntil([&] { return quality.measurement().quality != nullptr; }, 60000)) {
        result["frame_measured_seconds"] = static_cast<double>(timer.elapsed()) * 1e-3;
        FrameMap& map = quality.map();
        const FrameMap::View whole = map.view();
        for (const auto& [name, which] : {std::pair{"frame_map_flux", FrameQualityPanel::Map::Flux},
                                          {"frame_map_causes", FrameQualityPanel::Map::Cause}}) {
            quality.setMap(which);
            map.setView(whole, false);
            nlohmann::json figures;
            figures["zoom"] = drawings(map, frames, [&](int i) {
                const double factor = 1.0 + 0.2 * (i % 20);
                map.setView({zoomed(whole.bins, 1000, factor), zoomed(whole.rows, 250, factor)}, false);
            });
            figures["pan"] = drawings(map, frames, [&](int i) {
                FrameMap::View next{zoomed(whole.bins, 1000, 1.2), zoomed(whole.rows, 250, 1.2)};
                next.bins = {next.bins.low + 2 * i, next.bins.high + 2 * i};
                map.setView(next, false);
            });
            figures["bins"] = map.plane().values->size();
            figures["size"] = {map.width(), map.height()};
            result[name] = figures;
        }
        result["why_is_this_bin_bad"] = drawings(map, frames, [&](int i) {
            document.setCursor(
                document.cursorAtBin(quality.measurement().quality->specmin + i,
                                     quality.measurement().quality->wavelength[static_cast<std::size_t>(10 * i)]));
        });
    }
    // A million ranges on ten lanes.
    {
        std::vector<RangeRecord> records;
        for (int lane = 0; lane < 10; ++lane)
            for (int i = 0; i < 50000; ++i) {
                records.push_back({"batch", 20000LL * i, 18000, lane, {}, false});
                records.push_back({"solve", 20000LL * i + 3000, 9000, lane, {}, false});
            }
        QDockWidget* const dock = window.dock(QStringLiteral("timing"));
        dock->raise();
        dock->setFloating(true);
        dock->resize(1600, 1000);
        QApplication::processEvents();
        window.timing().setTrace(std::make_shared<const Trace>(traceOf(records, "bench")));
        QApplication::processEvents();
        TimelineView& timeline = window.timing().timeline();
        result["timeline_of_a_million"] = {{"zoom", drawings(*timeline.viewport(), frames,
                                                             [&](int i) {
                                                                 timeline.setView({0, 1e9 * std::pow(0.8, i % 30)});
                                                             })},
                                           {"pan", drawings(*timeline.viewport(), frames,
                                                            [&](int i) {
                                                                timeline.setView({1e6 * i, 8e8 + 1e6 * i});
                                                            })},
                                           {"ranges", records.size()},
                                           {"size", {timeline.width(), timeline.height()}}};
    }
    std::printf("%s\n", result.dump(2).c_str());
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_window: %s\n", error.what());
        return 1;
    }
}
