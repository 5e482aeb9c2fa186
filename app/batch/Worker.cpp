#include "app/batch/Worker.h"

#include "app/batch/Completeness.h"
#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "core/io/AtomicFile.h"
#include "core/io/FitsFile.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <map>
#include <mutex>
#include <new>
#include <optional>
#include <set>
#include <stop_token>
#include <system_error>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <sys/resource.h>

namespace patchlight::batch {

namespace {

using Clock = std::chrono::steady_clock;
using commands::FrameOutputs;
using commands::FrameSetup;

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

/// Adds up the time that passes until its end.
class Stopwatch {
public:
    explicit Stopwatch(double& sum) : sum_(sum), start_(Clock::now()) {}
    ~Stopwatch() { sum_ += seconds(Clock::now() - start_); }
    Stopwatch(const Stopwatch&) = delete;
    Stopwatch& operator=(const Stopwatch&) = delete;

private:
    double& sum_;
    Clock::time_point start_;
};

double fileBytes(const std::string& path) {
    std::error_code error;
    const auto size = std::filesystem::file_size(path, error);
    return error ? 0.0 : static_cast<double>(size);
}

enum class Stage { Queued, Reading, Computing, Writing, Ended };

const char* name(Stage stage) {
    switch (stage) {
    case Stage::Queued:
        return "waiting";
    case Stage::Reading:
        return "reading";
    case Stage::Computing:
        return "extracting";
    case Stage::Writing:
        return "writing";
    default:
        return "ending";
    }
}

} // namespace

double peakMemoryBytes() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    constexpr double kibibyte = 1024;
    return static_cast<double>(usage.ru_maxrss) * kibibyte;
}

struct Worker::Impl {
    /// An order on its way through the stages. Data belong to the stage that has it; what is below `mutex` in Impl is guarded.
    struct Frame {
        Order order;
        TaskResult result;
        std::unique_ptr<Timeline> timeline;
        std::optional<FrameSetup> setup;
        std::optional<FrameOutputs> outputs;
        std::optional<Outcome> outcome; ///< once a stage knows it
        std::stop_source stop;
        // Guarded by Impl::mutex.
        Stage stage = Stage::Queued;
        bool answered = false;
        std::string why;                   ///< it was told to stop
        Outcome becomes = Outcome::Failed; ///< ... and its result is this
        std::optional<Clock::time_point> begun;
        std::optional<Clock::time_point> told; ///< to stop
        std::vector<std::string> parts;        ///< of other ranks
    };
    using FramePointer = std::shared_ptr<Frame>;

    Impl(Backend& backendGiven, const WorkerSettings& given, std::function<void()> wakeGiven)
        : backend(backendGiven), settings(given), wake(std::move(wakeGiven)) {
        for (int i = 0; i < std::max(1, settings.readers); ++i)
            threads.emplace_back([this] { serve(toRead, Stage::Reading, &Impl::read); });
        threads.emplace_back([this] { serve(toCompute, Stage::Computing, &Impl::compute); });
        for (int i = 0; i < std::max(1, settings.writers); ++i)
            threads.emplace_back([this] { serve(toWrite, Stage::Writing, &Impl::write); });
    }

    void serve(std::deque<FramePointer>& queue, Stage stage, void (Impl::*work)(Frame&)) {
        while (true) {
            FramePointer frame;
            {
                std::unique_lock lock(mutex);
                changed.wait(lock, [&] { return closed || !queue.empty(); });
                if (queue.empty()) return;
                frame = std::move(queue.front());
                queue.pop_front();
                if (frame->answered) { // returned or given up while it waited
                    std::erase(frames, frame);
                    continue;
                }
                frame->stage = stage;
                if (!frame->begun) frame->begun = Clock::now();
            }
            attempt(*frame, work);
            advance(frame, stage);
        }
    }

    /// Runs a stage; whatever it throws becomes the frame's result.
    void attempt(Frame& frame, void (Impl::*work)(Frame&)) {
        const auto fail = [&](const std::string& message, bool permanent, Outcome outcome = Outcome::Failed) {
            TaskResult result = frame.result;
            result.outcome = outcome;
            result.error = message;
            result.permanent = permanent;
            answer(frame, result);
        };
        try {
            if (frame.stop.stop_requested() && stageOf(frame) != Stage::Writing) throw Cancelled();
            (this->*work)(frame);
            if (frame.outcome) {
                TaskResult result = frame.result;
                result.outcome = *frame.outcome;
                answer(frame, std::move(result));
            }
        } catch (const Cancelled&) {
            std::string why;
            Outcome outcome = Outcome::Failed;
            {
                const std::lock_guard lock(mutex);
                why = frame.why.empty() ? "cancelled" : frame.why;
                outcome = frame.becomes;
            }
            fail(why, false, outcome);
        } catch (const UsageError& error) {
            fail(error.what(), true);
        } catch (const std::bad_alloc&) {
            fail("out of memory: fewer frames in flight (--in-flight), ranks or threads would need less", false);
        } catch (const std::exception& error) {
            fail(error.what(), false);
        }
    }

    Stage stageOf(const Frame& frame) {
        const std::lock_guard lock(mutex);
        return frame.stage;
    }

    void advance(const FramePointer& frame, Stage stage) {
        bool ended = false;
        {
            const std::lock_guard lock(mutex);
            ended = frame->answered || stage == Stage::Writing;
            frame->stage = ended ? Stage::Ended : Stage::Queued;
            if (!ended) (stage == Stage::Reading ? toCompute : toWrite).push_back(frame);
        }
        if (ended) {
            frame->setup.reset();
            frame->outputs.reset();
            const std::lock_guard lock(mutex);
            std::erase(frames, frame);
        }
        changed.notify_all();
    }

    /// The first answer counts: a frame that was given up may still come back.
    void answer(Frame& frame, TaskResult result) {
        {
            const std::lock_guard lock(mutex);
            if (frame.answered) return;
            frame.answered = true;
            answerLocked(frame, std::move(result));
        }
        wake();
    }

    void answerLocked(Frame& frame, TaskResult result) {
        frame.answered = true;
        const auto now = Clock::now();
        const auto begun = frame.begun.value_or(now);
        result.started = seconds(begun - settings.start);
        result.ended = seconds(now - settings.start);
        result.waited = std::max(0.0, seconds(now - begun) - result.read - result.compute - result.write);
        result.peakMemory = peakMemoryBytes();
        answers.push_back(std::move(result));
    }

    /// Without times: they belong to the thread that has the frame.
    static TaskResult blank(const Frame& frame, int rank) {
        TaskResult result;
        result.rank = rank;
        result.frame = frame.order.frame;
        result.attempt = frame.order.attempt;
        result.part = frame.order.part;
        return result;
    }

    // The stages.

    void read(Frame& frame) {
        const Stopwatch watch(frame.result.read);
        const FrameTask& task = frame.order.task;
        if (frame.order.kind == TaskKind::Check) {
            const NamedRange range(frame.timeline.get(), "check output");
            frame.result.error = whyIncomplete(task);
            frame.outcome = frame.result.error.empty() ? Outcome::Complete : Outcome::Incomplete;
            return;
        }
        const NamedRange range(frame.timeline.get(), "read");
        if (frame.order.part == 0)
            for (const std::string* path : {&task.output, &task.model})
                if (!path->empty()) {
                    makeFolder(*path);
                    requireWritable(*path);
                }
        frame.setup = readFrameTask(task, backend, frame.timeline.get(), 1);
        frame.result.bytesRead = fileBytes(existingFitsPath(task.image)) + fileBytes(existingFitsPath(task.psf));
    }

    static void makeFolder(const std::string& path) {
        const std::filesystem::path folder = std::filesystem::path(path).parent_path();
        std::error_code error;
        if (!folder.empty()) std::filesystem::create_directories(folder, error);
        if (error)
            throw Error(fmt::format("{}: the folder for it cannot be made: {}", printable(path), error.message()));
    }

    void compute(Frame& frame) {
        const auto begun = Clock::now();
        const NamedRange range(frame.timeline.get(), "compute");
        {
            const Stopwatch watch(frame.result.compute);
            const Order& order = frame.order;
            FrameSetup& setup = *frame.setup;
            RunControl control;
            control.threads = settings.threads;
            control.timeline = frame.timeline.get();
            control.stop = frame.stop.get_token();
            control.painter = &backend;
            if (order.parts == 1) {
                ExtractionResult result = extractFrame(backend, setup.image->view(), *setup.psf, setup.plan, control);
                frame.outputs = finish(frame, std::move(result), control);
            } else if (order.part > 0) {
                const IndexRange spectra = partSpectra(setup.plan, order.part, order.parts);
                const ExtractionResult part = extractPart(setup, spectra, control);
                sendPart(frame, packPart(order.frame, order.attempt, order.part, part, setup.plan, spectra));
            } else {
                frame.outputs = finish(frame, lead(frame, control), control);
            }
        }
        frame.setup.reset();
        const double passed = seconds(Clock::now() - begun);
        busy.store(busy.load() + passed);
    }

    FrameOutputs finish(Frame& frame, ExtractionResult result, const RunControl& control) {
        return finishFrame(frame.order.task, *frame.setup, std::move(result), control, frame.order.task.output + ": ",
                           frame.result.counts);
    }

    ExtractionResult extractPart(const FrameSetup& setup, IndexRange spectra, const RunControl& control) {
        if (spectra.empty()) return {};
        ExtractionOptions options = setup.plan.options;
        options.specmin = spectra.first;
        options.nspec = spectra.count();
        const Plan plan = makePlan(*setup.psf, options, setup.plan.grid.scale);
        return extractFrame(backend, setup.image->view(), *setup.psf, plan, control);
    }

    /// A member's work is done with this: the leader has the rest.
    void sendPart(Frame& frame, std::string bytes) {
        {
            const std::lock_guard lock(mutex);
            outgoing.push_back({frame.order.leader, std::move(bytes)});
        }
        frame.outcome = Outcome::Done;
    }

    /// Extracts the first part and waits for the others, until told to stop.
    ExtractionResult lead(Frame& frame, const RunControl& control) {
        const FrameSetup& setup = *frame.setup;
        ExtractionResult whole = emptyResult(setup.plan);
        const IndexRange spectra = partSpectra(setup.plan, 0, frame.order.parts);
        if (!spectra.empty()) copyPart(extractPart(setup, spectra, control), setup.plan, spectra, whole);
        const std::stop_callback tell(frame.stop.get_token(), [this] { changed.notify_all(); });
        const NamedRange range(frame.timeline.get(), "other ranks' parts");
        for (int missing = frame.order.parts - 1; missing > 0; --missing) {
            std::string bytes;
            {
                std::unique_lock lock(mutex);
                // A stop may come between the test and the wait: hence not for ever.
                constexpr std::chrono::milliseconds patience{100};
                while (frame.parts.empty() && !frame.stop.stop_requested()) changed.wait_for(lock, patience);
                if (frame.stop.stop_requested()) break;
                bytes = std::move(frame.parts.back());
                frame.parts.pop_back();
            }
            unpackPart(bytes, setup.plan, whole);
        }
        if (frame.stop.stop_requested()) throw Cancelled();
        // This one mask needs the whole frame, and each rank has judged by its part.
        for (std::uint32_t& mask : whole.frame.mask.values())
            mask &= ~static_cast<std::uint32_t>(SpecMaskBit::Bad2dFit);
        markBad2dFit(whole.frame);
        return whole;
    }

    void write(Frame& frame) {
        {
            const Stopwatch watch(frame.result.write);
            const NamedRange range(frame.timeline.get(), "write");
            writeFrameOutputs(frame.order.task, *frame.outputs, frame.timeline.get(), 1, true);
        }
        for (const std::string* path : {&frame.order.task.output, &frame.order.task.model})
            if (!path->empty()) frame.result.bytesWritten += fileBytes(*path);
        frame.outcome = Outcome::Done;
    }

    /// Tells a frame to stop; `mutex` must be held. One that waits in a queue has its answer at once.
    void tell(Frame& frame, const std::string& why, Outcome outcome) {
        if (frame.answered || frame.told) return;
        frame.told = Clock::now();
        frame.why = why;
        frame.becomes = outcome;
        if (frame.stage != Stage::Queued) return;
        TaskResult result = frame.result;
        result.outcome = outcome;
        result.error = why;
        answerLocked(frame, std::move(result));
    }

    Backend& backend;
    WorkerSettings settings;
    std::function<void()> wake;
    std::atomic<bool> stuck{false};
    std::atomic<double> busy{0.0};
    std::mutex mutex;
    std::condition_variable changed;
    bool closed = false;
    bool stopping = false;
    std::vector<FramePointer> frames; ///< under way
    std::deque<FramePointer> toRead, toCompute, toWrite;
    std::vector<TaskResult> answers;
    std::vector<OutgoingPart> outgoing;
    std::map<std::pair<int, int>, std::vector<std::string>> earlyParts; ///< by frame and attempt, before its order came
    std::set<std::pair<int, int>> led;                                  ///< shared frames that this rank led or leads
    std::vector<std::thread> threads;
};

Worker::Worker(Backend& backend, const WorkerSettings& settings, std::function<void()> wake)
    : impl_(std::make_unique<Impl>(backend, settings, std::move(wake))) {}

Worker::~Worker() {
    std::vector<Impl::FramePointer> frames;
    {
        const std::lock_guard lock(impl_->mutex);
        impl_->closed = true;
        frames = impl_->frames;
        for (auto* queue : {&impl_->toRead, &impl_->toCompute, &impl_->toWrite}) queue->clear();
    }
    for (const auto& frame : frames) frame->stop.request_stop();
    impl_->changed.notify_all();
    if (impl_->stuck.load()) {
        // A thread that does not come back keeps what it uses; the caller leaves with _Exit.
        for (std::thread& thread : impl_->threads) thread.detach();
        (void)impl_.release();
        return;
    }
    for (std::thread& thread : impl_->threads) thread.join();
}

void Worker::take(const Order& order) {
    if (order.kind == TaskKind::Abandon || order.kind == TaskKind::Stop) {
        std::vector<Impl::FramePointer> told;
        {
            const std::lock_guard lock(impl_->mutex);
            if (order.kind == TaskKind::Stop) impl_->stopping = true;
            for (const auto& frame : impl_->frames) {
                const bool meant = order.kind == TaskKind::Stop
                                       ? frame->stage != Stage::Writing
                                       : frame->order.frame == order.frame && frame->order.attempt == order.attempt;
                if (!meant) continue;
                impl_->tell(*frame, order.reason, order.kind == TaskKind::Stop ? Outcome::Cancelled : Outcome::Failed);
                told.push_back(frame);
            }
        }
        for (const auto& frame : told) frame->stop.request_stop();
        impl_->wake();
        return;
    }
    auto frame = std::make_shared<Impl::Frame>();
    frame->order = order;
    frame->timeline = std::make_unique<Timeline>(impl_->settings.timeline, order.frame);
    frame->result = Impl::blank(*frame, impl_->settings.rank);
    {
        const std::lock_guard lock(impl_->mutex);
        if (impl_->stuck.load() || impl_->stopping) {
            TaskResult result = frame->result;
            result.outcome = Outcome::Returned;
            result.stuck = impl_->stuck.load();
            impl_->answerLocked(*frame, std::move(result));
        } else {
            const auto early = impl_->earlyParts.find({order.frame, order.attempt});
            if (early != impl_->earlyParts.end()) {
                frame->parts = std::move(early->second);
                impl_->earlyParts.erase(early);
            }
            if (order.part == 0 && order.parts > 1) impl_->led.insert({order.frame, order.attempt});
            impl_->frames.push_back(frame);
            impl_->toRead.push_back(frame);
        }
    }
    impl_->changed.notify_all();
}

void Worker::takePart(std::string bytes) {
    const PartAddress address = partAddress(bytes);
    {
        const std::lock_guard lock(impl_->mutex);
        const auto found = std::find_if(impl_->frames.begin(), impl_->frames.end(), [&](const auto& frame) {
            return frame->order.frame == address.frame && frame->order.attempt == address.attempt;
        });
        if (found != impl_->frames.end())
            (*found)->parts.push_back(std::move(bytes));
        else if (!impl_->led.contains({address.frame, address.attempt})) // else it was given up
            impl_->earlyParts[{address.frame, address.attempt}].push_back(std::move(bytes));
    }
    impl_->changed.notify_all();
}

void Worker::watchClock() {
    const auto now = Clock::now();
    std::vector<Impl::FramePointer> told;
    {
        const std::lock_guard lock(impl_->mutex);
        for (const auto& frame : impl_->frames) {
            if (frame->answered || !frame->begun) continue;
            const double limit = impl_->settings.timeLimit;
            if (!frame->told && limit > 0 && seconds(now - *frame->begun) > limit) {
                impl_->tell(*frame,
                            fmt::format("not done within {:g} s (--time-limit), {} then", limit, name(frame->stage)),
                            Outcome::Failed);
                told.push_back(frame);
            }
            if (frame->told && !frame->answered && seconds(now - *frame->told) > impl_->settings.grace) {
                impl_->stuck = true;
                TaskResult result = Impl::blank(*frame, impl_->settings.rank);
                result.outcome = Outcome::Failed;
                result.stuck = true;
                result.error = fmt::format("{}; and {} does not end", frame->why, name(frame->stage));
                impl_->answerLocked(*frame, std::move(result));
            }
        }
        if (impl_->stuck.load())
            for (const auto& frame : impl_->frames)
                if (!frame->answered && frame->stage != Stage::Writing) {
                    TaskResult result = Impl::blank(*frame, impl_->settings.rank);
                    result.outcome = Outcome::Returned;
                    result.stuck = true;
                    impl_->answerLocked(*frame, std::move(result));
                    told.push_back(frame);
                }
    }
    for (const auto& frame : told) frame->stop.request_stop();
}

std::vector<TaskResult> Worker::results() {
    const std::lock_guard lock(impl_->mutex);
    return std::exchange(impl_->answers, {});
}

std::vector<OutgoingPart> Worker::parts() {
    const std::lock_guard lock(impl_->mutex);
    return std::exchange(impl_->outgoing, {});
}

bool Worker::stuck() const { return impl_->stuck.load(); }

double Worker::busySeconds() const { return impl_->busy.load(); }

} // namespace patchlight::batch
