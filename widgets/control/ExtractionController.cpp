#include "widgets/control/ExtractionController.h"

#include "core/analysis/FileKind.h"
#include "core/analysis/FrameQuality.h"
#include "core/analysis/Scores.h"
#include "core/analysis/SpotStrips.h"
#include "core/analysis/TruthSpectra.h"
#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "core/engine/Backend.h"
#include "core/engine/Engine.h"
#include "core/engine/FrameHeader.h"
#include "core/engine/PatchFile.h"
#include "core/image/CcdImage.h"
#include "core/io/FitsFile.h"
#include "core/psf/Psf.h"
#include "widgets/control/Document.h"
#include "widgets/control/TraceMap.h"

#include <QDir>
#include <QFileInfo>
#include <QMetaObject>
#include <QTimer>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <future>
#include <limits>
#include <mutex>
#include <utility>

namespace patchlight::widgets {

namespace {

/// The text of whatever was thrown, as one line.
QString errorText(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::bad_alloc&) {
        return ExtractionController::tr("out of memory");
    } catch (const std::exception& e) {
        return QString::fromUtf8(e.what()).simplified();
    } catch (...) {
        return ExtractionController::tr("an unknown error");
    }
}

QString shellQuoted(const QString& word) {
    static const QString plain = QStringLiteral("_-+=./,:@%");
    const bool simple = !word.isEmpty() && std::all_of(word.begin(), word.end(), [](QChar c) {
        return (c.unicode() < 128 && c.isLetterOrNumber()) || plain.contains(c);
    });
    if (simple) return word;
    QString quoted = word;
    return QLatin1Char('\'') + quoted.replace(QLatin1Char('\''), QStringLiteral("'\\''")) + QLatin1Char('\'');
}

/// Sets a model image to NaN where nothing was extracted: beside the spectra and beyond the wavelengths of a plan. Between them, where no
/// light reaches, 0 is what the model says.
void blankOutside(std::vector<float>& model, const Plan& plan, const Psf& psf, const TraceMap& traces, int nx, int ny) {
    const WavelengthGrid& grid = plan.grid;
    const double low = grid.wavelength(grid.pad) - 0.5 * grid.step();
    const double high = grid.wavelength(grid.pad + grid.nwave - 1) + 0.5 * grid.step();
    std::vector<double> first(static_cast<std::size_t>(psf.nspec));
    std::vector<double> last(first.size());
    for (int s = 0; s < psf.nspec; ++s) {
        const bool extracted = s >= plan.specmin && s < plan.specmin + plan.nspec;
        first[static_cast<std::size_t>(s)] = extracted ? psf.y(s, low) : 1.0;
        last[static_cast<std::size_t>(s)] = extracted ? psf.y(s, high) : 0.0;
    }
    for (int y = 0; y < ny; ++y) {
        int x = 0;
        for (int s = 0; s < psf.nspec; ++s) {
            const int end =
                s + 1 == psf.nspec
                    ? nx
                    : std::clamp(
                          static_cast<int>(std::lround(0.5 * (traces.columnAt(s, y) + traces.columnAt(s + 1, y)))), x,
                          nx);
            if (y < first[static_cast<std::size_t>(s)] || y > last[static_cast<std::size_t>(s)])
                std::fill_n(model.begin() + static_cast<std::ptrdiff_t>(y) * nx + x, end - x,
                            std::numeric_limits<float>::quiet_NaN());
            x = end;
        }
    }
}

bool maskedPixel(const CcdImage& image, std::size_t i) {
    if (!image.mask.empty() && (static_cast<std::uint32_t>(image.mask[i]) & ccdMaskedBits) != 0) return true;
    return !(image.ivar[i] > 0) || !std::isfinite(image.ivar[i]) || !std::isfinite(image.pixels[i]);
}

/// Sets one pixel as the person masked or unmasked it; a pixel without a usable ivar stays without weight.
void applyEdit(WeightedPixels& pixels, const CcdImage& image, int index, bool masked) {
    const auto i = static_cast<std::size_t>(index);
    if (index < 0 || i >= pixels.pixels.size()) return;
    const bool usable = image.ivar[i] > 0 && std::isfinite(image.ivar[i]) && std::isfinite(image.pixels[i]);
    pixels.pixels[i] = masked || !usable ? 0.0F : image.pixels[i];
    pixels.weights[i] = masked || !usable ? 0.0F : image.ivar[i];
}

void undoEdit(WeightedPixels& pixels, const CcdImage& image, int index) {
    const auto i = static_cast<std::size_t>(index);
    if (index < 0 || i >= pixels.pixels.size()) return;
    applyEdit(pixels, image, index, maskedPixel(image, i));
}

} // namespace

/// What a job that opens files has read.
struct ExtractionController::Opened {
    std::shared_ptr<const CcdImage> image;
    std::shared_ptr<const WeightedPixels> pixels;
    std::shared_ptr<const Psf> psf;
    std::shared_ptr<const Psf> secondPsf;
    std::shared_ptr<const TraceMap> secondTraces;
    std::shared_ptr<const TraceMap> traces;
    std::vector<OpenFrame> frames;
    std::shared_ptr<const TruthSpectra> truth;
    std::vector<float> model;
    int modelNx = 0;
    int modelNy = 0;
    QString modelPath;
    QStringList opened;
    QStringList errors;

    void add(Opened&& other);
    static Opened read(const QString& path);
};

void ExtractionController::Opened::add(Opened&& other) {
    if (other.image) {
        image = std::move(other.image);
        pixels = std::move(other.pixels);
    }
    // Two PSFs at once: the second is there to compare with.
    if (other.psf && psf) {
        secondPsf = std::move(other.psf);
        secondTraces = std::move(other.traces);
    } else if (other.psf) {
        psf = std::move(other.psf);
        traces = std::move(other.traces);
    }
    for (OpenFrame& frame : other.frames) frames.push_back(std::move(frame));
    if (other.truth) truth = std::move(other.truth);
    if (!other.model.empty()) {
        model = std::move(other.model);
        modelNx = other.modelNx;
        modelNy = other.modelNy;
        modelPath = other.modelPath;
    }
    opened << other.opened;
    errors << other.errors;
}

/// Reads one file as what it is; an error is noted.
ExtractionController::Opened ExtractionController::Opened::read(const QString& path) {
    Opened opened;
    try {
        const std::string name = path.toStdString();
        const FileKind kind = fileKind(name);
        switch (kind) {
        case FileKind::CcdImage: {
            auto image = std::make_shared<const CcdImage>(readCcdImage(name));
            opened.pixels = std::make_shared<const WeightedPixels>(weightedPixels(*image));
            opened.image = std::move(image);
            break;
        }
        case FileKind::Psf: {
            auto psf = std::make_shared<const Psf>(readPsf(name));
            if (psf->ny > 0) opened.traces = std::make_shared<const TraceMap>(*psf, psf->nx, psf->ny);
            opened.psf = std::move(psf);
            break;
        }
        case FileKind::Frame: {
            OpenFrame frame;
            frame.frame = std::make_shared<const ExtractedFrame>(readFrame(name));
            frame.path = QFileInfo(path).absoluteFilePath();
            frame.label = QFileInfo(path).fileName();
            opened.frames.push_back(std::move(frame));
            break;
        }
        case FileKind::Truth:
            opened.truth = std::make_shared<const TruthSpectra>(readTruth(name));
            break;
        case FileKind::Model: {
            const FitsFile file(name, [](const FitsHdu& hdu) { return hdu.name == "MODEL"; });
            const FitsHdu& hdu = file.require("MODEL");
            if (!hdu.isImage(2)) throw Error(name + "[MODEL]: found " + hdu.shapeText() + ", not an image of two axes");
            opened.model.resize(file.pixelCount(hdu));
            file.readImage(hdu, std::span<float>(opened.model));
            opened.modelNx = static_cast<int>(hdu.shape[0]);
            opened.modelNy = static_cast<int>(hdu.shape[1]);
            opened.modelPath = path;
            break;
        }
        default:
            throw Error(
                name + ": " + fileKindName(kind) +
                "; the window opens CCD images (IMAGE, IVAR), PSFs, extracted frames, truth files and model images");
        }
        opened.opened << path;
    } catch (...) {
        opened.errors << errorText(std::current_exception());
    }
    return opened;
}

/// The pixels of patch extractions: the document's, or a copy of them with the edits of the mask.
struct ExtractionController::PatchPixels {
    std::shared_ptr<const WeightedPixels> base;
    WeightedPixels edited;
    QHash<int, bool> applied;

    CcdView view(const std::shared_ptr<const WeightedPixels>& pixels, const CcdImage& image,
                 const QHash<int, bool>& edits) {
        if (base != pixels) {
            base = pixels;
            edited = {};
            applied.clear();
        }
        if (edits.isEmpty()) return pixels->view();
        if (edited.pixels.empty()) edited = *pixels;
        for (auto it = applied.constBegin(); it != applied.constEnd(); ++it) undoEdit(edited, image, it.key());
        for (auto it = edits.constBegin(); it != edits.constEnd(); ++it) applyEdit(edited, image, it.key(), it.value());
        applied = edits;
        return edited.view();
    }
};

/// The bins of one finished batch, in the units of a frame.
struct ExtractionController::Piece {
    IndexRange rows; ///< of the frame
    IndexRange core;
    std::vector<double> flux, ivar, chi2pix, pixmaskFraction, fluxweight, xflux;
    std::vector<std::uint32_t> mask;
};

/// What a background run hands to the window, guarded by `mutex`; the frame itself belongs to the window's thread.
struct ExtractionController::Live {
    std::mutex mutex;
    std::vector<Piece> pieces;
    int done = 0;
    int total = 0;
    bool announced = false; ///< a call of takePieces is on its way

    std::shared_ptr<ExtractedFrame> frame;
    std::shared_ptr<std::vector<std::uint8_t>> doneBins;
};

ExtractionController::ExtractionController(Document& document, BackendFactory factory, QObject* parent)
    : QObject(parent), document_(document), factory_(std::move(factory)), jobs_(this),
      patchPixels_(std::make_unique<PatchPixels>()), fileThread_(std::make_unique<WorkerThread>()),
      patchThread_(std::make_unique<WorkerThread>()), runThread_(std::make_unique<WorkerThread>(true)) {}

ExtractionController::~ExtractionController() {
    blockSignals(true);
    cancelAll();
}

int ExtractionController::addJob(const QString& title, const QString& command) {
    Job job;
    job.number = nextJob_++;
    job.title = title;
    job.command = command;
    const int number = job.number;
    jobs_.add(std::move(job));
    Q_EMIT jobAdded(number);
    return number;
}

void ExtractionController::begin(int number) {
    Job* job = jobs_.find(number);
    if (!job || job->ended()) return;
    job->state = JobState::Running;
    job->started = std::chrono::steady_clock::now();
    jobs_.changed(number);
    Q_EMIT jobChanged(number);
}

void ExtractionController::end(int number, JobState state, const QString& text) {
    Job* job = jobs_.find(number);
    if (!job || job->ended()) return;
    if (job->state == JobState::Running)
        job->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - job->started).count();
    job->state = state;
    if (state == JobState::Done && job->total > 0) job->done = job->total;
    job->message = text;
    if (backgroundJob_ == number) {
        backgroundJob_ = 0;
        // Giving so much memory back takes time too.
        fileThread_->post([live = std::move(live_)]() mutable { live.reset(); });
    }
    jobs_.changed(number);
    if (!text.isEmpty()) Q_EMIT message(text, state == JobState::Failed);
    Q_EMIT jobEnded(number, state);
    if (activeJobs() == 0) Q_EMIT idle();
}

int ExtractionController::activeJobs() const {
    return static_cast<int>(
        std::count_if(jobs_.jobs().begin(), jobs_.jobs().end(), [](const Job& job) { return !job.ended(); }));
}

bool ExtractionController::isRunning(int number) const {
    const Job* job = jobs_.find(number);
    return job && !job->ended();
}

void ExtractionController::cancel(int number) {
    Job* job = jobs_.find(number);
    if (!job || job->ended()) return;
    job->stop.request_stop();
    if (job->state == JobState::Waiting) {
        if (number != patchJob_) end(number, JobState::Cancelled, tr("cancelled before it began"));
    } else {
        job->message = tr("stopping after the batches that are being extracted");
        jobs_.changed(number);
    }
}

void ExtractionController::cancelAll() {
    nextPatch_.reset();
    std::vector<int> numbers;
    for (const Job& job : jobs_.jobs())
        if (!job.ended()) numbers.push_back(job.number);
    for (const int number : numbers) cancel(number);
}

/// Runs `work` on a thread; what it returns is the job's last message.
int ExtractionController::post(const QString& title, WorkerThread& thread,
                               std::function<QString(const std::stop_token&)> work, const QString& command) {
    const int number = addJob(title, command);
    const std::stop_token stop = jobs_.find(number)->stop.get_token();
    thread.post([this, number, stop, work = std::move(work)] {
        if (stop.stop_requested()) {
            QMetaObject::invokeMethod(
                this, [this, number] { end(number, JobState::Cancelled); }, Qt::QueuedConnection);
            return;
        }
        QMetaObject::invokeMethod(
            this, [this, number] { begin(number); }, Qt::QueuedConnection);
        JobState state = JobState::Done;
        QString text;
        try {
            text = work(stop);
        } catch (const Cancelled&) {
            state = JobState::Cancelled;
            text = tr("cancelled");
        } catch (...) {
            state = JobState::Failed;
            text = errorText(std::current_exception());
        }
        QMetaObject::invokeMethod(
            this, [this, number, state, text] { end(number, state, text); }, Qt::QueuedConnection);
    });
    return number;
}

int ExtractionController::runInBackground(const QString& title, std::function<QString(const std::stop_token&)> work) {
    return post(title, *runThread_, std::move(work));
}

int ExtractionController::open(const QStringList& paths, bool asSecondFrame) {
    if (paths.isEmpty()) return 0;
    QStringList names;
    for (const QString& path : paths) names << QFileInfo(path).fileName();
    constexpr int assumedRows = 4128; // of a CCD that neither the PSF nor an image tells the size of
    const int ny = document_.image() ? document_.image()->ny : assumedRows;
    const int number = nextJob_; // the one that post() gives
    return post(tr("open %1").arg(names.join(QStringLiteral(", "))), *fileThread_,
                [this, paths, asSecondFrame, ny, number](const std::stop_token& stop) -> QString {
                    // Side by side: the PSF's traces are sampled while the image is read.
                    std::vector<std::future<Opened>> readers;
                    for (const QString& path : paths)
                        readers.push_back(std::async(std::launch::async, &Opened::read, path));
                    auto opened = std::make_shared<Opened>();
                    for (std::future<Opened>& reader : readers) opened->add(reader.get());
                    if (stop.stop_requested()) throw Cancelled();
                    if (asSecondFrame && opened->psf) {
                        opened->secondPsf = std::move(opened->psf);
                        opened->secondTraces = std::move(opened->traces);
                    }
                    if (opened->psf && !opened->traces) // a PSF that does not say how large its CCD is
                        opened->traces =
                            std::make_shared<const TraceMap>(*opened->psf, 0, opened->image ? opened->image->ny : ny);
                    QMetaObject::invokeMethod(
                        this, [this, opened, asSecondFrame, number] { installOpened(number, *opened, asSecondFrame); },
                        Qt::QueuedConnection);
                    if (!opened->errors.isEmpty()) throw Error(opened->errors.join(QStringLiteral("; ")).toStdString());
                    return {};
                });
}

void ExtractionController::installOpened(int job, Opened& opened, bool asSecondFrame) {
    if (!isRunning(job)) return;
    for (const QString& path : opened.opened) Q_EMIT message(tr("opened %1").arg(QFileInfo(path).fileName()), false);
    if (opened.image || opened.psf) {
        // What is running belongs to the old files.
        if (backgroundJob_ != 0) cancel(backgroundJob_);
        nextPatch_.reset();
    }
    const bool inputs = opened.image || opened.psf;
    const bool needsModel = inputs || !opened.frames.empty();
    if (opened.image) wholeModel_ = false;
    if (opened.image) document_.setImage(std::move(opened.image), std::move(opened.pixels));
    if (opened.psf) document_.setPsf(std::move(opened.psf), std::move(opened.traces));
    if (inputs) warmUp();
    if (opened.secondPsf) document_.setSecondPsf(std::move(opened.secondPsf), std::move(opened.secondTraces));
    for (OpenFrame& frame : opened.frames) {
        // Frames of gpu_specter do not say which spectra they hold.
        const auto rows = static_cast<int>(frame.frame->nspec());
        if (!frame.frame->header.has("SPECMIN") && document_.psf() && rows < document_.psf()->nspec)
            Q_EMIT message(tr("%1 does not say which spectra it holds (no keyword SPECMIN): its %2 rows are taken for "
                              "spectra 0 to %3")
                               .arg(frame.path)
                               .arg(rows)
                               .arg(rows - 1),
                           false);
        // Two frames at once: the second is there to compare with.
        if (asSecondFrame || (&frame != &opened.frames.front()))
            document_.setSecondFrame(std::move(frame));
        else {
            takeWavelengths(frame);
            document_.setFrame(std::move(frame));
        }
    }
    if (opened.truth) document_.setTruth(std::move(opened.truth));
    if (!opened.model.empty()) {
        const CcdImage* image = document_.image().get();
        if (image && image->nx == opened.modelNx && image->ny == opened.modelNy) {
            document_.setModel(std::move(opened.model));
            wholeModel_ = true;
        } else
            Q_EMIT message(image ? tr("%1[MODEL]: %2 x %3 pixels, but the CCD image has %4 x %5")
                                       .arg(opened.modelPath)
                                       .arg(opened.modelNx)
                                       .arg(opened.modelNy)
                                       .arg(image->nx)
                                       .arg(image->ny)
                                 : tr("%1: a model image needs its CCD image; open that first").arg(opened.modelPath),
                           true);
    }
    // A little later, so that what the person wants first comes first.
    if (needsModel) QTimer::singleShot(150, this, [this] { paintFrameModel(); });
}

/// Patches have the wavelengths of the frame that was opened, so that they are compared with it bin by bin; but where somebody has asked for
/// other ones, those stay.
void ExtractionController::takeWavelengths(const OpenFrame& open) {
    const std::vector<double>& wavelength = open.frame->wavelength;
    ExtractionOptions options = document_.options();
    if (options.wavelength || wavelength.size() < 2) return;
    const auto last = static_cast<double>(wavelength.size() - 1);
    const double exact = (wavelength.back() - wavelength.front()) / last;
    constexpr double decimals = 1e6; // as people type them
    const double dw = std::round(exact * decimals) / decimals;
    const WavelengthRange range{wavelength.front(), wavelength.back(), dw};
    if (!(dw > 0.0)) return;
    for (std::size_t i = 0; i < wavelength.size(); ++i)
        if (!(std::abs(wavelength[i] - (range.wmin + static_cast<double>(i) * dw)) < 0.01 * dw)) return;
    options.wavelength = range;
    document_.setOptions(options);
    Q_EMIT message(tr("patches have the wavelengths of %1: %2 to %3 \u00c5 by %4 (see the options)")
                       .arg(open.label)
                       .arg(range.wmin)
                       .arg(range.wmax)
                       .arg(range.dw),
                   false);
}

/// A frame file brings no model image: it is painted from the deconvolved flux that solves R xflux = flux with the stored diagonals of R. Without a
/// resolution there is the reconvolved flux alone, whose lines are wider than those of the data, as in gpu_specter's model images.
void ExtractionController::paintFrameModel() {
    const OpenFrame open = document_.frame();
    if (!open || open.path.isEmpty() || !document_.image() || !document_.psf() || !document_.traces() || wholeModel_)
        return;
    post(tr("model image of %1").arg(open.label), *fileThread_,
         [this, open, image = document_.image(), psf = document_.psf(), traces = document_.traces(),
          options = document_.options()](const std::stop_token& stop) -> QString {
             const ExtractedFrame& frame = *open.frame;
             if (frame.nwave() < 2) throw Error(open.path.toStdString() + "[WAVELENGTH]: fewer than 2 wavelengths");
             ExtractionOptions wanted = options;
             wanted.wavelength = WavelengthRange{frame.wavelength.front(), frame.wavelength.back(),
                                                 frame.wavelength[1] - frame.wavelength[0]};
             wanted.specmin = frame.specmin;
             wanted.nspec = static_cast<int>(frame.nspec());
             wanted.psfTail = !frameSaysNoTail(frame);
             const Plan plan = makePlan(*psf, wanted, frame.header.number("HELIOCOR").value_or(1.0));
             if (plan.grid.nwave != static_cast<int>(frame.nwave()))
                 throw Error(open.path.toStdString() +
                             "[WAVELENGTH]: wavelengths are not evenly spaced, so no model image is painted");
             const bool known = !frame.resolution.empty() || !frame.xflux.empty();
             // With one thread: nobody asked for this, so it stays out of the way.
             const Array2<double> xflux = known ? deconvolvedFlux(frame, 1) : Array2<double>();
             Array2<double> flux(frame.nspec(), static_cast<std::size_t>(plan.nsteps * plan.grid.nwavestep));
             for (std::size_t s = 0; s < frame.nspec(); ++s)
                 for (std::size_t j = 0; j < frame.nwave(); ++j) {
                     const double photons = known ? xflux(s, j) : frame.flux(s, j) * plan.grid.step();
                     flux(s, j) = frame.ivar(s, j) > 0 && std::isfinite(photons) ? photons : 0.0;
                 }
             RunControl control;
             control.stop = stop;
             auto model =
                 std::make_shared<std::vector<float>>(paintModel(flux, *psf, plan, image->nx, image->ny, control));
             blankOutside(*model, plan, *psf, *traces, image->nx, image->ny);
             QMetaObject::invokeMethod(
                 this,
                 [this, model, image, psf] {
                     if (document_.image() != image || document_.psf() != psf || wholeModel_) return;
                     // What was extracted here is better.
                     if (const auto& mine = document_.model(); mine && mine->size() == model->size())
                         for (std::size_t i = 0; i < mine->size(); ++i)
                             if (std::isfinite((*mine)[i])) (*model)[i] = (*mine)[i];
                     document_.setModel(std::move(*model));
                     wholeModel_ = true;
                 },
                 Qt::QueuedConnection);
             return known
                        ? tr("model image painted from the flux of %1, deconvolved").arg(open.label)
                        : tr("model image painted from the flux of %1, which has no RESOLUTION to deconvolve it with: "
                             "lines are wider than in the data, and leave rings")
                              .arg(open.label);
         });
}

/// The backend of a name, on the patch thread: kept, so that its memory need not be made anew for each patch.
Backend& ExtractionController::patchBackend(const std::string& name) {
    if (!patchBackend_ || patchBackendName_ != name) {
        patchBackend_.reset();
        patchBackend_ = factory_(name);
        patchBackendName_ = name;
    }
    return *patchBackend_;
}

/// What the first patch would wait for, made while nobody waits: the model image's memory and the backend.
void ExtractionController::warmUp() {
    if (!document_.image() || !document_.plan() || !document_.pixels()) return;
    const auto pixels =
        static_cast<std::size_t>(document_.image()->nx) * static_cast<std::size_t>(document_.image()->ny);
    if (!document_.model())
        fileThread_->post([this, pixels] {
            auto blank = std::make_shared<std::vector<float>>(pixels, std::numeric_limits<float>::quiet_NaN());
            QMetaObject::invokeMethod(
                this, [this, blank] { document_.setBlankModel(blank); }, Qt::QueuedConnection);
        });
    patchThread_->post([this, backendName = backendName_.toStdString()] {
        try {
            (void)patchBackend(backendName);
        } catch (...) {
            // What is wrong is said where a patch is asked for.
        }
    });
}

int ExtractionController::reload() {
    QStringList paths;
    if (document_.image()) paths << QString::fromStdString(document_.image()->path);
    if (document_.psf()) paths << QString::fromStdString(document_.psf()->path);
    if (document_.frame() && !document_.frame().path.isEmpty()) paths << document_.frame().path;
    return open(paths);
}

int ExtractionController::extractPatch(const Patch& patch) {
    if (!document_.plan() || !document_.pixels()) return 0;
    nextPatch_ = patch;
    if (patchJob_ == 0) startPatch();
    return patchJob_;
}

void ExtractionController::startPatch() {
    if (!nextPatch_ || !document_.plan() || !document_.pixels()) {
        nextPatch_.reset();
        return;
    }
    const Patch patch = *nextPatch_;
    nextPatch_.reset();
    lastCommand_ = commandLine(patch, {});
    // One line for all the patches that were walked through: a failed one stays until it has been seen.
    if (const Job* last = jobs_.find(lastPatchJob_); last && last->state != JobState::Failed)
        jobs_.remove(lastPatchJob_);
    const int number = addJob(tr("patch: %1").arg(document_.describePatch(patch)), lastCommand_);
    patchJob_ = number;
    lastPatchJob_ = number;
    begin(number);
    patchThread_->post([this, number, patch, plan = document_.plan(), psf = document_.psf(),
                        pixels = document_.pixels(), image = document_.image(), edits = document_.maskEdits(),
                        backendName = backendName_.toStdString(), generation = document_.generation()] {
        PatchRun run;
        QString error;
        try {
            const auto start = std::chrono::steady_clock::now();
            run.detail = std::make_shared<const PatchDetail>(patchlight::extractPatch(
                patchBackend(backendName), patchPixels_->view(pixels, *image, edits), *psf, *plan, patch));
            run.plan = plan;
            run.psf = psf;
            run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        } catch (...) {
            error = errorText(std::current_exception());
        }
        QMetaObject::invokeMethod(
            this,
            [this, number, run = std::move(run), error, generation] {
                patchJob_ = 0;
                if (!error.isEmpty()) {
                    end(number, JobState::Failed, error);
                } else if (generation != document_.generation()) {
                    // Files, options or the mask have changed since: this result answers a question nobody asks any more.
                    end(number, JobState::Cancelled, tr("late: overtaken by a change"));
                } else {
                    document_.setPatchRun(run);
                    end(number, JobState::Done);
                }
                startPatch();
            },
            Qt::QueuedConnection);
    });
}

int ExtractionController::extract(Scope scope) {
    if (!document_.plan() || !document_.pixels()) return 0;
    if (backgroundJob_ != 0) cancel(backgroundJob_);
    ExtractionOptions options = document_.options();
    const Plan& all = *document_.plan();
    QString title = tr("extract the whole frame");
    std::optional<IndexRange> spectra;
    if (scope != Scope::Frame) {
        const int spectrum = document_.cursor().spectrum;
        if (spectrum < 0 || spectrum >= document_.psf()->nspec) {
            Q_EMIT message(tr("say which fiber: click into the CCD view, or go to one (Ctrl+G)"), true);
            return 0;
        }
        if (scope == Scope::Fiber) {
            spectra = IndexRange{spectrum, spectrum + 1};
            title = tr("extract fiber %1").arg(spectrum);
        } else {
            const int bundle = spectrum / options.bundlesize;
            spectra = IndexRange{bundle * options.bundlesize,
                                 std::min(document_.psf()->nspec, (bundle + 1) * options.bundlesize)};
            title = tr("extract bundle %1").arg(bundle);
        }
        options.specmin = spectra->first;
        options.nspec = spectra->count();
    }
    lastCommand_ = commandLine({}, spectra);

    std::shared_ptr<const Plan> plan;
    try {
        plan = std::make_shared<const Plan>(makePlan(*document_.psf(), options, all.grid.scale));
    } catch (...) {
        Q_EMIT message(errorText(std::current_exception()), true);
        return 0;
    }

    auto live = std::make_shared<Live>();
    const int number = nextJob_;
    backgroundJob_ = number;
    live_ = live;
    const QString runLabel = tr("run %1").arg(number);

    const auto work = [this, number, live, plan, psf = document_.psf(), pixels = document_.pixels(),
                       image = document_.image(), traces = document_.traces(), edits = document_.maskEdits(),
                       backendName = backendName_.toStdString(), threads = threads_,
                       label = runLabel](const std::stop_token& stop) -> QString {
        const std::unique_ptr<Backend> backend = factory_(backendName);
        // Made here: so much memory would keep the window waiting.
        auto frame = std::make_shared<ExtractedFrame>();
        const auto nspec = static_cast<std::size_t>(plan->nspec);
        const auto nwave = static_cast<std::size_t>(plan->grid.nwave);
        frame->specmin = plan->specmin;
        frame->wavelength.resize(nwave);
        for (std::size_t i = 0; i < nwave; ++i) frame->wavelength[i] = plan->grid.outputWavelength(static_cast<int>(i));
        for (Array2<double>* values :
             {&frame->flux, &frame->ivar, &frame->chi2pix, &frame->pixmaskFraction, &frame->fluxweight, &frame->xflux})
            *values = Array2<double>(nspec, nwave);
        frame->mask = Array2<std::uint32_t>(nspec, nwave);
        auto doneBins = std::make_shared<std::vector<std::uint8_t>>(nspec * nwave);
        QMetaObject::invokeMethod(
            this,
            [this, number, live, frame, doneBins, plan, label] {
                if (backgroundJob_ != number) return;
                live->frame = frame;
                live->doneBins = doneBins;
                document_.setFrame({frame, label, {}, plan, doneBins});
            },
            Qt::QueuedConnection);
        frame.reset();
        doneBins.reset();
        WeightedPixels edited;
        if (!edits.isEmpty()) {
            edited = *pixels;
            for (auto it = edits.constBegin(); it != edits.constEnd(); ++it)
                applyEdit(edited, *image, it.key(), it.value());
        }
        auto timeline = std::make_shared<Timeline>();
        RunControl control;
        control.threads = threads;
        control.stop = stop;
        control.timeline = timeline.get();
        const double step = plan->grid.step();
        control.progress = [&](const Progress& progress) {
            Piece piece;
            const Batch& batch = progress.batch;
            piece.rows = {plan->subbundles[static_cast<std::size_t>(batch.subbundles.first)].core.first - plan->specmin,
                          plan->subbundles[static_cast<std::size_t>(batch.subbundles.last - 1)].core.last -
                              plan->specmin};
            piece.rows.first = std::max(0, piece.rows.first);
            piece.rows.last = std::min(plan->nspec, piece.rows.last);
            piece.core = {batch.steps.first * plan->grid.nwavestep,
                          std::min(plan->grid.nwave, batch.steps.last * plan->grid.nwavestep)};
            const auto copy = [&](const auto& from, auto& to, double factor) {
                using T = typename std::decay_t<decltype(to)>::value_type;
                to.reserve(static_cast<std::size_t>(piece.rows.count()) * static_cast<std::size_t>(piece.core.count()));
                for (int s = piece.rows.first; s < piece.rows.last; ++s)
                    for (int j = piece.core.first; j < piece.core.last; ++j)
                        to.push_back(static_cast<T>(from(static_cast<std::size_t>(s), static_cast<std::size_t>(j)) *
                                                    static_cast<T>(factor)));
            };
            const ExtractedFrame& from = *progress.frame;
            copy(from.flux, piece.flux, 1.0 / step);
            copy(from.ivar, piece.ivar, step * step);
            copy(from.chi2pix, piece.chi2pix, 1.0);
            copy(from.pixmaskFraction, piece.pixmaskFraction, 1.0);
            copy(from.fluxweight, piece.fluxweight, 1.0);
            copy(from.xflux, piece.xflux, 1.0);
            copy(from.mask, piece.mask, 1.0);
            bool announce = false;
            {
                const std::lock_guard lock(live->mutex);
                live->pieces.push_back(std::move(piece));
                live->done = progress.patchesDone;
                live->total = progress.patchesTotal;
                announce = !std::exchange(live->announced, true);
            }
            if (announce)
                QMetaObject::invokeMethod(
                    this, [this, number] { takePieces(number); }, Qt::QueuedConnection);
        };
        const CcdView view = edits.isEmpty() ? pixels->view() : edited.view();
        ExtractionResult result = extractFrame(*backend, view, *psf, *plan, control);
        control.progress = nullptr;
        describeFrame(result.frame, *image, *psf, *plan, image->path, psf->path, *backend, plan->grid.scale);
        QString note;
        if (plan->options.scores) {
            std::string warning;
            result.frame.scores = computeScores(result.frame, warning);
            note = QString::fromStdString(warning);
        }
        auto model = std::make_shared<std::vector<float>>(
            paintModel(result.modelFlux, *psf, *plan, image->nx, image->ny, control));
        blankOutside(*model, *plan, *psf, *traces, image->nx, image->ny);
        auto done = std::make_shared<const ExtractedFrame>(std::move(result.frame));
        auto ranges = std::make_shared<const std::vector<RangeRecord>>(timeline->records());
        auto reports = std::make_shared<const std::vector<PatchReport>>(std::move(result.reports));
        QMetaObject::invokeMethod(
            this,
            [this, number, done, model, plan, image, psf, label, ranges, reports] {
                if (!isRunning(number) || backgroundJob_ != number || document_.image() != image ||
                    document_.psf() != psf)
                    return;
                lastRanges_ = ranges;
                document_.replaceFrame({done, label, {}, plan, nullptr, reports});
                fileThread_->post([old = document_.model()]() mutable { old.reset(); });
                document_.setModel(std::move(*model));
                wholeModel_ = plan->nspec == psf->nspec;
            },
            Qt::QueuedConnection);
        const QString spent = tr("%1 spectra extracted in %2 s").arg(plan->nspec).arg(result.seconds, 0, 'f', 2);
        return note.isEmpty() ? spent : spent + QStringLiteral("; ") + note;
    };
    post(title, *runThread_, work, lastCommand_);
    if (Job* job = jobs_.find(number)) job->total = plan->patchCount();
    return number;
}

void ExtractionController::takePieces(int number) {
    if (!live_ || !live_->frame || backgroundJob_ != number) return;
    std::vector<Piece> pieces;
    int done = 0;
    int total = 0;
    {
        const std::lock_guard lock(live_->mutex);
        pieces.swap(live_->pieces);
        done = live_->done;
        total = live_->total;
        live_->announced = false;
    }
    ExtractedFrame& frame = *live_->frame;
    for (const Piece& piece : pieces) {
        std::size_t i = 0;
        for (int s = piece.rows.first; s < piece.rows.last; ++s)
            for (int j = piece.core.first; j < piece.core.last; ++j, ++i) {
                const auto row = static_cast<std::size_t>(s);
                const auto column = static_cast<std::size_t>(j);
                frame.flux(row, column) = piece.flux[i];
                frame.ivar(row, column) = piece.ivar[i];
                frame.chi2pix(row, column) = piece.chi2pix[i];
                frame.pixmaskFraction(row, column) = piece.pixmaskFraction[i];
                frame.fluxweight(row, column) = piece.fluxweight[i];
                frame.xflux(row, column) = piece.xflux[i];
                frame.mask(row, column) = piece.mask[i];
                (*live_->doneBins)[row * frame.nwave() + column] = 1;
            }
        document_.announceBins({piece.rows.first + frame.specmin, piece.rows.last + frame.specmin}, piece.core);
    }
    if (Job* job = jobs_.find(number); job && !job->ended()) {
        job->done = done;
        job->total = total;
        job->seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - job->started).count();
        jobs_.changed(number);
        Q_EMIT jobChanged(number);
    }
}

int ExtractionController::writeFrame(const QString& path) {
    const OpenFrame frame = document_.frame();
    if (!frame) return 0;
    if (frame.done) {
        Q_EMIT message(tr("the extracted frame is not complete: a run is going on, or was cancelled; extract it again "
                          "before writing it"),
                       true);
        return 0;
    }
    return post(tr("write %1").arg(QFileInfo(path).fileName()), *fileThread_, [frame, path](const std::stop_token&) {
        patchlight::writeFrame(path.toStdString(), *frame.frame);
        return tr("wrote %1").arg(path);
    });
}

int ExtractionController::writeModel(const QString& path) {
    if (!document_.model() || !document_.image()) return 0;
    auto model = std::make_shared<const std::vector<float>>(*document_.model());
    return post(tr("write %1").arg(QFileInfo(path).fileName()), *fileThread_,
                [model, image = document_.image(), path](const std::stop_token&) {
                    FitsHeader header;
                    for (const std::string& card : image->header.cards())
                        if (!FitsHeader::isStructural(card)) header.addCard(card);
                    writeModelImage(path.toStdString(), *model, image->nx, image->ny, header);
                    return tr("wrote %1").arg(path);
                });
}

int ExtractionController::writePatch(const QString& path) {
    const PatchRun run = document_.patchRun();
    if (!run || !document_.image()) return 0;
    return post(
        tr("write %1").arg(QFileInfo(path).fileName()), *fileThread_,
        [this, run, image = document_.image(), path, backendName = backendName_.toStdString()](const std::stop_token&) {
            ExtractedFrame described;
            const std::unique_ptr<Backend> backend = factory_(backendName);
            describeFrame(described, *image, *run.psf, *run.plan, image->path, run.psf->path, *backend,
                          run.plan->grid.scale);
            writePatchFile(path.toStdString(), *run.detail, *run.plan, described.header);
            return tr("wrote %1").arg(path);
        });
}

QString ExtractionController::commandLine(const std::optional<Patch>& patch, std::optional<IndexRange> spectra) const {
    if (!document_.image() || !document_.psf()) return {};
    QStringList words{
        QStringLiteral("patchlight"), patch ? QStringLiteral("patch") : QStringLiteral("extract"),
        QStringLiteral("-i"),         QString::fromStdString(document_.image()->path),
        QStringLiteral("-p"),         QString::fromStdString(document_.psf()->path),
        QStringLiteral("-o"),         patch ? QStringLiteral("patch.fits") : QStringLiteral("frame.fits")};
    ExtractionOptions options = document_.options();
    if (spectra) {
        options.specmin = spectra->first;
        options.nspec = spectra->count();
    }
    if (patch && document_.plan()) {
        const WavelengthGrid& grid = document_.plan()->grid;
        words << QStringLiteral("--fiber") << QString::number(patch->core.first) << QStringLiteral("--wave")
              << QString::number(grid.outputWavelength(patch->keepBins.first - grid.pad), 'g', 10);
    }
    const ExtractionOptions defaults;
    for (const OptionSpec& spec : optionTable()) {
        const std::string value = spec.get(options);
        if (value == spec.get(defaults)) continue;
        const QString name = QStringLiteral("--") + QString::fromStdString(spec.name);
        words << name;
        if (spec.kind != OptionSpec::Kind::Flag) words << QString::fromStdString(value);
    }
    if (backendName_ != QStringLiteral("auto")) words << QStringLiteral("--backend") << backendName_;
    if (threads_ > 0 && !patch) words << QStringLiteral("--threads") << QString::number(threads_);
    for (QString& word : words) word = shellQuoted(word);
    return words.join(QLatin1Char(' '));
}

} // namespace patchlight::widgets
