#pragma once

#include "core/engine/Plan.h"
#include "widgets/control/JobsModel.h"
#include "widgets/control/WorkerThread.h"

#include <QElapsedTimer>
#include <QHash>
#include <QObject>
#include <QString>
#include <QStringList>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace patchlight {
class Backend;
struct CcdView;
struct ExtractedFrame;
struct Progress;
struct RangeRecord;
class Timeline;
struct WeightedPixels;
} // namespace patchlight

namespace patchlight::widgets {

class Document;
struct OpenFrame;

/// Runs what takes time on worker threads: opening files, extracting a patch (its own thread: always quick), extracting much in the
/// background, writing. Jobs are numbered; a result that something newer has overtaken is dropped; errors come back as one line.
/// All members are called in the window's thread, all signals are emitted there.
class ExtractionController : public QObject {
    Q_OBJECT

public:
    /// Makes the backend of a name ("auto", "cpu", "cuda"). Called on worker threads. @throws Error
    using BackendFactory = std::function<std::unique_ptr<Backend>(const std::string& name)>;

    enum class Scope { Fiber, Bundle, Frame };

    ExtractionController(Document& document, BackendFactory factory, QObject* parent = nullptr);
    /// Cancels everything and waits for the threads.
    ~ExtractionController() override;

    [[nodiscard]] JobsModel& jobs() { return jobs_; }
    [[nodiscard]] const JobsModel& jobs() const { return jobs_; }

    /// "auto", "cpu" or "cuda".
    void setBackendName(const QString& name) { backendName_ = name; }
    [[nodiscard]] const QString& backendName() const { return backendName_; }
    /// Threads of a run in the background; 0: all cores.
    void setThreads(int threads) { threads_ = threads; }
    [[nodiscard]] int threads() const { return threads_; }

    /// Opens files, each as what it is (CCD image, PSF, extracted frame, truth, model image). One job, its number.
    /// @param asSecondFrame  extracted frames and PSFs are put beside the present ones, to compare
    int open(const QStringList& paths, bool asSecondFrame = false);
    /// Reads the open files again. 0: there is none.
    int reload();
    /// Extracts one patch. Of several requests while one is running only the last is done. 0: nothing to extract with.
    int extractPatch(const Patch& patch);
    /// Extracts the fiber or the bundle of the cursor, or the whole frame, in the background. 0: nothing to extract with.
    int extract(Scope scope);
    /// Writes the document's frame, model image, or patch. 0: there is none.
    int writeFrame(const QString& path);
    int writeModel(const QString& path);
    int writePatch(const QString& path);

    /// Runs work of a view on the run's thread, as a job that can be cancelled; what it returns is the job's last message. Work tells its
    /// results to the window's thread itself; it may use whatever lives as long as this controller. @returns its number
    int runInBackground(const QString& title, std::function<QString(const std::stop_token&)> work);

    void cancel(int number);
    void cancelAll();
    /// Jobs that wait or run.
    [[nodiscard]] int activeJobs() const;
    [[nodiscard]] bool isRunning(int number) const;
    /// The background run that is going on; 0: none.
    [[nodiscard]] int backgroundJob() const { return backgroundJob_; }

    /// The `patchlight` command that does what was done last (a patch, or a run); empty where nothing was.
    [[nodiscard]] QString lastCommand() const { return lastCommand_; }
    /// The command of a run or of a patch with the document's files and options.
    [[nodiscard]] QString commandLine(const std::optional<Patch>& patch, std::optional<IndexRange> spectra) const;
    /// Named ranges of the last background run.
    [[nodiscard]] const std::shared_ptr<const std::vector<RangeRecord>>& lastRanges() const { return lastRanges_; }

Q_SIGNALS:
    void jobAdded(int job);
    void jobChanged(int job);
    void jobEnded(int job, patchlight::widgets::JobState state);
    /// A line for the log; `error`: something went wrong, show it.
    void message(const QString& text, bool error);
    /// Nothing waits or runs any more.
    void idle();

private:
    struct Opened;
    struct PatchPixels;
    struct Piece;

    int addJob(const QString& title, const QString& command = {});
    void begin(int number);
    void end(int number, JobState state, const QString& text = {});
    void installOpened(int job, Opened& opened, bool asSecondFrame);
    void takeWavelengths(const OpenFrame& open);
    void startPatch();
    void runPatch(int job, const Patch& patch);
    int post(const QString& title, WorkerThread& thread, std::function<QString(const std::stop_token&)> work,
             const QString& command = {});
    void takePieces(int number);
    Backend& patchBackend(const std::string& name);
    void warmUp();
    void paintFrameModel();

    Document& document_;
    BackendFactory factory_;
    JobsModel jobs_;
    QString backendName_ = QStringLiteral("auto");
    int threads_ = 0;
    int nextJob_ = 1;
    int backgroundJob_ = 0;
    QString lastCommand_;
    std::shared_ptr<const std::vector<RangeRecord>> lastRanges_;

    int lastPatchJob_ = 0;                     ///< the newest in the table
    bool wholeModel_ = false;                  ///< the model image is a run's or a file's, not only that of patches
    int patchJob_ = 0;                         ///< the one running; 0: none
    std::optional<Patch> nextPatch_;           ///< the newest request, waiting
    std::unique_ptr<PatchPixels> patchPixels_; ///< used on the patch thread only
    std::unique_ptr<Backend> patchBackend_;    ///< used on the patch thread only
    std::string patchBackendName_;

    struct Live;
    std::shared_ptr<Live> live_; ///< what the background run hands over

    // Last, so that they are joined before anything they use goes.
    std::unique_ptr<WorkerThread> fileThread_;
    std::unique_ptr<WorkerThread> patchThread_;
    std::unique_ptr<WorkerThread> runThread_;
};

} // namespace patchlight::widgets
