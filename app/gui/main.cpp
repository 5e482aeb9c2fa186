#include "core/base/Error.h"
#include "core/base/Version.h"
#include "core/cpu/CpuBackend.h"
#include "core/engine/Options.h"
#include "core/psf/Psf.h"
#include "gpu/CudaBackend.h"
#include "widgets/ccd/CcdImageView.h"
#include "widgets/control/Document.h"
#include "widgets/quality/FrameQualityPanel.h"
#include "widgets/quality/QualityReportPdf.h"
#include "widgets/timing/TimingPanel.h"
#include "widgets/window/MainWindow.h"

#include <CLI/CLI.hpp>

#include <QApplication>
#include <QDockWidget>
#include <QSettings>
#include <QStyleFactory>
#include <QTimer>

#include <cstdio>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace patchlight;
using namespace patchlight::widgets;

/// "auto", "cpu" or "cuda". @throws UsageError
std::unique_ptr<Backend> makeBackend(const std::string& name) {
    if (name == "cpu") return makeCpuBackend();
    std::string why;
    if (std::unique_ptr<Backend> cuda = makeCudaBackend({}, why)) return cuda;
    if (name == "auto") return makeCpuBackend();
    throw UsageError("engine cuda: " + why + "; cpu gives the same results");
}

struct Arguments {
    std::vector<std::string> files;
    std::optional<int> fiber;
    std::optional<double> wave;
    std::string session;
    std::string layer;
    std::string screenshot;
    std::string size;
    std::string run;
    std::string overlays;
    std::string dock;
    std::string map;
    std::string tab;
    std::string trace;
    std::string otherTrace;
    std::string report;
    double zoom = 0;
    bool dark = false;
    bool light = false;
    ExtractionOptions options;
    std::string backend = "auto";
    int threads = 0;
};

void addOptions(CLI::App& cli, Arguments& a) {
    cli.add_option("files", a.files,
                   "CCD image, PSF, extracted frame, truth, in any order; IMAGE[IVAR] and IMAGE[x1:x2,y1:y2] as in ds9")
        ->type_name("IMAGE PSF [FRAME]");
    cli.add_option("-f,--fiber", a.fiber, "fiber (row of the PSF, zero-based) to go to")->type_name("INT");
    cli.add_option("-w,--wave", a.wave, "wavelength to go to")->type_name("[Angstrom]");
    cli.add_option("--session", a.session, "session to restore")->type_name("FILE.json");
    cli.add_option("--layer", a.layer, "layer to show: image, ivar, mask, model, residual, pull")->type_name("NAME");
    cli.add_option("--overlays", a.overlays,
                   "overlays to draw, separated by commas: traces, ticks, bundles, grid, patch, mask, amplifiers, "
                   "spot, cursor, methods")
        ->type_name("NAMES");
    cli.add_option("--zoom", a.zoom, "screen pixels a CCD pixel")->check(CLI::PositiveNumber)->type_name("REAL");
    cli.add_option("--run", a.run, "extract this in the background: fiber, bundle or frame")
        ->check(CLI::IsMember({"fiber", "bundle", "frame"}));
    cli.add_option("--show", a.dock, "dock to bring to the front, by its name")->type_name("NAME");
    cli.add_option("--map", a.map, "map of the Frame dock: cause of alarm, flux, S/N, chi2pix, MASK, ...")
        ->type_name("NAME");
    cli.add_option("--tab", a.tab, "tab of the Frame dock: Findings, Fibers, Histogram, Pulls, Profile, ...")
        ->type_name("NAME");
    cli.add_option("--trace", a.trace, "trace to open in the Timing dock: Chrome trace JSON, or SQLite of nsys")
        ->type_name("FILE");
    cli.add_option("--compare-trace", a.otherTrace, "trace to compare with it")->type_name("FILE");
    cli.add_option("--report", a.report, "write a report of the extracted frame's quality, and end")
        ->type_name("OUT.pdf");
    cli.add_option("--screenshot", a.screenshot, "write a picture of the window when all is done, and end")
        ->type_name("OUT.png");
    cli.add_option("--size", a.size, "size of the window")->type_name("WIDTHxHEIGHT");
    cli.add_flag("--dark", a.dark, "dark window");
    cli.add_flag("--light", a.light, "light window");
    cli.add_option("--backend", a.backend, "engine: auto, cpu or cuda")
        ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
        ->group("Running");
    cli.add_option("--threads", a.threads, "threads of a run in the background; 0: all cores")
        ->check(CLI::Range(0, 4096))
        ->group("Running");
    for (const OptionSpec& spec : optionTable()) {
        const std::string name = "--" + spec.name; // no short names: -w is a wavelength to go to
        if (spec.kind == OptionSpec::Kind::Flag)
            cli.add_flag_callback(
                   name, [&a, &spec] { spec.set(a.options, "true"); }, spec.help)
                ->group("Extraction");
        else
            cli.add_option_function<std::string>(
                   name, [&a, &spec](const std::string& text) { spec.set(a.options, text); }, spec.help)
                ->type_name(spec.unit.empty() ? "VALUE" : "[" + spec.unit + "]")
                ->group("Extraction");
    }
}

/// What the command line asks for once the files are open.
void applyView(MainWindow& window, const Arguments& a) {
    Document& document = window.document();
    if (a.fiber || a.wave) {
        if (!document.psf()) {
            window.showProblem(QObject::tr("--fiber and --wave need a PSF"));
        } else {
            const Plan* plan = document.plan().get();
            const double middle = plan ? plan->grid.outputWavelength(plan->grid.nwave / 2) : 0;
            const int fiber = a.fiber.value_or(plan ? plan->specmin + plan->nspec / 2 : 0);
            if (fiber < 0 || fiber >= document.psf()->nspec)
                window.showProblem(
                    QObject::tr("--fiber %1: fibers are 0 to %2").arg(fiber).arg(document.psf()->nspec - 1));
            else
                window.goTo(document.cursorAtBin(fiber, a.wave.value_or(middle)));
        }
    }
    if (!a.layer.empty()) {
        if (const auto layer = layerFromName(QString::fromStdString(a.layer)))
            window.ccdView().setLayer(*layer);
        else
            window.showProblem(QObject::tr("--layer %1: there are image, ivar, mask, model, residual and pull")
                                   .arg(QString::fromStdString(a.layer)));
    }
    if (!a.overlays.empty()) {
        const QStringList names = QString::fromStdString(a.overlays).split(QLatin1Char(','));
        for (int i = 0; i < overlayCount; ++i)
            window.ccdView().setOverlay(static_cast<Overlay>(i), names.contains(overlayWord(static_cast<Overlay>(i))));
    }
    if (!a.map.empty() && !window.frameQuality().showMapNamed(QString::fromStdString(a.map)))
        window.showProblem(
            QObject::tr("--map %1: there are %2")
                .arg(QString::fromStdString(a.map), window.frameQuality().mapNames().join(QStringLiteral(", "))));
    if (!a.tab.empty() && !window.frameQuality().showTabNamed(QString::fromStdString(a.tab)))
        window.showProblem(
            QObject::tr("--tab %1: there is no such tab in the Frame dock").arg(QString::fromStdString(a.tab)));
    if (a.zoom > 0) {
        ViewState view = window.ccdView().view();
        view.zoom = a.zoom;
        window.ccdView().setView(view);
    }
    if (a.run == "fiber") window.controller().extract(ExtractionController::Scope::Fiber);
    if (a.run == "bundle") window.controller().extract(ExtractionController::Scope::Bundle);
    if (a.run == "frame") window.controller().extract(ExtractionController::Scope::Frame);
}

/// Waits until nothing runs any more, measures the frame, writes the report and ends the program.
void reportWhenIdle(MainWindow& window, const QString& path) {
    auto* timer = new QTimer(&window);
    timer->setInterval(50);
    auto quiet = std::make_shared<int>(0);
    QObject::connect(timer, &QTimer::timeout, &window, [&window, timer, quiet, path] {
        *quiet = window.controller().activeJobs() == 0 ? *quiet + 1 : 0;
        if (*quiet < 6) return;
        if (window.frameQuality().measure() != 0) {
            *quiet = 0;
            return;
        }
        timer->stop();
        QString problem = window.problem();
        if (problem.isEmpty()) problem = writeQualityReport(window.frameQuality(), path);
        if (!problem.isEmpty()) std::fprintf(stderr, "patchlight-gui: %s\n", qPrintable(problem));
        QApplication::exit(problem.isEmpty() ? 0 : 1);
    });
    timer->start();
}

/// Waits until nothing runs any more, writes the picture and ends the program.
void screenshotWhenIdle(MainWindow& window, const QString& path) {
    auto* timer = new QTimer(&window);
    timer->setInterval(50);
    auto quiet = std::make_shared<int>(0);
    QObject::connect(timer, &QTimer::timeout, &window, [&window, timer, quiet, path] {
        *quiet = window.controller().activeJobs() == 0 ? *quiet + 1 : 0;
        if (*quiet < 6) return; // what follows from the last job has been drawn by then
        timer->stop();
        const QString problem = MainWindow::exportWidget(window, path);
        if (!problem.isEmpty()) std::fprintf(stderr, "patchlight-gui: %s\n", qPrintable(problem));
        if (!window.problem().isEmpty()) std::fprintf(stderr, "patchlight-gui: %s\n", qPrintable(window.problem()));
        QApplication::exit(problem.isEmpty() && window.problem().isEmpty() ? 0 : 1);
    });
    timer->start();
}

int run(int argc, char** argv) {
    CLI::App cli("Patchlight: see a CCD image of a fiber spectrograph, and take its extraction apart",
                 "patchlight-gui");
    cli.set_version_flag("--version", "patchlight-gui " + std::string(version()) +
                                          (gitDescribe().empty() ? std::string() : ", " + std::string(gitDescribe())));
    Arguments arguments;
    addOptions(cli, arguments);
    try {
        cli.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return cli.exit(error);
        std::fprintf(stderr, "patchlight-gui: %s (try --help)\n", error.what());
        return 2;
    } catch (const UsageError& error) {
        std::fprintf(stderr, "patchlight-gui: %s\n", error.what());
        return 2;
    }
    int width = 0;
    int height = 0;
    if (!arguments.size.empty() && (std::sscanf(arguments.size.c_str(), "%dx%d", &width, &height) != 2 || width < 300 ||
                                    height < 200 || width > 20000 || height > 20000)) {
        std::fprintf(stderr, "patchlight-gui: --size %s: WIDTHxHEIGHT, such as 1600x1000\n", arguments.size.c_str());
        return 2;
    }

    // Qt would end the program with a message of its own library; pictures need no display.
    if (!qEnvironmentVariableIsSet("QT_QPA_PLATFORM") && !qEnvironmentVariableIsSet("DISPLAY") &&
        !qEnvironmentVariableIsSet("WAYLAND_DISPLAY")) {
        if (arguments.screenshot.empty() && arguments.report.empty()) {
            std::fprintf(stderr, "patchlight-gui: there is no display (neither DISPLAY nor WAYLAND_DISPLAY is set); "
                                 "--screenshot and --report work without one, so does xvfb-run\n");
            return 1;
        }
        qputenv("QT_QPA_PLATFORM", "offscreen");
    }
    QApplication::setApplicationName(QStringLiteral("patchlight-gui"));
    QApplication::setOrganizationName(QStringLiteral("patchlight"));
    QApplication::setApplicationVersion(QString::fromStdString(std::string(version())));
    const QApplication application(argc, argv);
    QApplication::setStyle(QStyleFactory::create(QStringLiteral("Fusion")));

    MainWindow window(makeBackend);
    const QSettings settings;
    // A picture does not depend on how the window was left.
    if (arguments.screenshot.empty()) {
        window.restoreGeometry(settings.value(QStringLiteral("geometry")).toByteArray());
        window.restoreState(settings.value(QStringLiteral("layout")).toByteArray(), 1);
    }
    if (width > 0) {
        window.resize(width, height);
        window.balance();
    }
    if (arguments.dark || (!arguments.screenshot.empty() && !arguments.light)) window.setDark(true);
    if (arguments.light) window.setDark(false);
    window.controller().setBackendName(QString::fromStdString(arguments.backend));
    window.controller().setThreads(arguments.threads);
    window.document().setOptions(arguments.options);
    if (arguments.report.empty()) window.show();
    if (!arguments.session.empty()) {
        if (const QString problem = window.loadSession(QString::fromStdString(arguments.session)); !problem.isEmpty())
            window.showProblem(problem);
    }
    QStringList files;
    for (const std::string& file : arguments.files) files << QString::fromStdString(file);
    if (!files.isEmpty() || !arguments.session.empty()) window.whenOpened([&] { applyView(window, arguments); });
    if (!files.isEmpty()) window.openFiles(files);
    if (!arguments.dock.empty()) {
        if (QDockWidget* dock = window.dock(QString::fromStdString(arguments.dock))) {
            dock->show();
            dock->raise();
        }
    }
    if (!arguments.trace.empty()) window.timing().open(QString::fromStdString(arguments.trace));
    if (!arguments.otherTrace.empty()) window.timing().open(QString::fromStdString(arguments.otherTrace), true);
    if (!arguments.report.empty()) {
        reportWhenIdle(window, QString::fromStdString(arguments.report));
        return QApplication::exec();
    }
    if (!arguments.screenshot.empty()) screenshotWhenIdle(window, QString::fromStdString(arguments.screenshot));
    return QApplication::exec();
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "patchlight-gui: %s\n", error.what());
        return 1;
    }
}
