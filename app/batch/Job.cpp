#include "app/batch/Job.h"

#include "app/batch/Completeness.h"
#include "app/batch/JobProgress.h"
#include "app/batch/Report.h"
#include "app/batch/Worker.h"
#include "app/patchlight/Backends.h"
#include "app/patchlight/Interrupt.h"
#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "core/base/Version.h"
#include "core/io/AtomicFile.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <string_view>
#include <system_error>
#include <utility>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <sys/resource.h>
#include <unistd.h>

namespace patchlight::batch {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

volatile std::sig_atomic_t drainRequested = 0;

void onDrain(int /*signal*/) { drainRequested = 1; }

/// SIGUSR1 means: take nothing new, end what is under way.
class DrainSignal {
public:
    DrainSignal() {
        drainRequested = 0;
        std::signal(SIGUSR1, onDrain);
    }
    ~DrainSignal() { std::signal(SIGUSR1, SIG_DFL); }
    DrainSignal(const DrainSignal&) = delete;
    DrainSignal& operator=(const DrainSignal&) = delete;
};

/// What a signal asks of the job, as it is told to rank 0.
constexpr std::string_view abandonWord = "abandon";
constexpr std::string_view drainWord = "drain";

std::string hostName() {
    std::array<char, 256> name{};
    if (::gethostname(name.data(), name.size() - 1) != 0) return "unknown";
    return name.data();
}

double cpuSeconds() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

std::string utcNow() {
    const std::time_t now = std::time(nullptr);
    std::tm broken{};
    ::gmtime_r(&now, &broken);
    std::array<char, 32> text{};
    (void)std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &broken);
    return text.data();
}

/// A bell that worker threads ring and the main thread waits for.
class Bell {
public:
    void ring() {
        {
            const std::lock_guard lock(mutex_);
            rung_ = true;
        }
        changed_.notify_one();
    }
    void wait(std::chrono::microseconds longest) {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, longest, [this] { return rung_; });
        rung_ = false;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool rung_ = false;
};

/// What all ranks do: the backend, the worker, the messages about its orders.
class Rank {
public:
    Rank(Communicator& communicator, const JobSettings& jobSettings)
        : comm(communicator), settings(jobSettings), start(Clock::now()) {
        info.rank = comm.rank();
        info.nodeRank = comm.nodeRank();
        info.host = hostName();
        info.version = fmt::format("{} {}", version(), gitDescribe());
        info.threads = settings.threads > 0 ? settings.threads : comm.cores();
        try {
            std::string gpu;
            const int device = commands::chosenDevice(settings.backend);
            if (device >= 0)
                gpu = fmt::format("GPU {}, as asked for", device);
            else if (settings.backend.name != "cpu")
                gpu = chooseGpu(comm.nodeRank(), comm.nodeSize());
            backend = commands::makeBackend(settings.backend);
            info.device = backend->description();
            if (backend->name() != "cpu") info.gpu = gpu;
        } catch (const UsageError& error) {
            usage = true;
            info.error = error.what();
        } catch (const std::exception& error) {
            info.error = error.what();
        }
        if (!backend) return;
        WorkerSettings workerSettings;
        workerSettings.rank = comm.rank();
        workerSettings.threads = info.threads;
        workerSettings.readers = settings.readers;
        workerSettings.writers = settings.writers;
        workerSettings.timeLimit = settings.timeLimit;
        workerSettings.grace = settings.grace;
        workerSettings.timeline = settings.trace.empty() ? nullptr : &timeline;
        workerSettings.start = start;
        worker = std::make_unique<Worker>(*backend, workerSettings, [this] { bell.ring(); });
    }

    [[nodiscard]] double elapsed() const { return std::chrono::duration<double>(Clock::now() - start).count(); }

    /// Waits for whatever comes first: a thread's result, or the time to look for messages.
    void wait() {
        if (comm.size() == 1) {
            bell.wait(milliseconds(20));
        } else {
            // MPI says nothing by itself. Long messages move on only while both ends look after them.
            bell.wait(comm.busy() ? std::chrono::microseconds(200) : std::chrono::microseconds(2000));
        }
    }

    [[nodiscard]] Goodbye goodbye(double clockOffset) const {
        Goodbye last;
        last.rank = comm.rank();
        last.peakMemory = peakMemoryBytes();
        last.cpuSeconds = cpuSeconds();
        last.busySeconds = worker ? worker->busySeconds() : 0.0;
        if (!settings.trace.empty() && !(worker && worker->stuck())) {
            constexpr double nanoseconds = 1e9;
            last.trace = chromeTraceEvents(timeline.records(), comm.rank() + 1,
                                           fmt::format("rank {} on {}, {}", comm.rank(), info.host, info.device),
                                           static_cast<std::int64_t>(clockOffset * nanoseconds));
        }
        return last;
    }

    /// Sends what is still under way, but not for ever.
    void flush() {
        const auto end = Clock::now() + std::chrono::seconds(10);
        while (comm.busy() && Clock::now() < end) {
            (void)comm.receive();
            bell.wait(std::chrono::microseconds(200));
        }
    }

    /// Leaves the job; does not come back where a thread of this process is stuck.
    void leave(int exitCode, bool othersAreLost) {
        if (othersAreLost) comm.abort(exitCode);
        if (worker && worker->stuck()) {
            std::fflush(nullptr);
            if (comm.size() == 1) std::_Exit(exitCode);
            comm.abort(exitCode);
        }
        worker.reset();
        comm.finish();
    }

    Communicator& comm;
    const JobSettings& settings;
    Clock::time_point start;
    Timeline timeline;
    Bell bell;
    WorkerInfo info;
    bool usage = false; ///< info.error is about the command line
    std::unique_ptr<Backend> backend;
    std::unique_ptr<Worker> worker;
};

/// Ranks other than 0.
JobOutcome runMember(Rank& self) {
    Communicator& comm = self.comm;
    self.info.clock = self.elapsed();
    comm.send(0, TagHello, pack(self.info));
    auto lastSent = Clock::now();
    auto lastHeard = lastSent;
    commands::Interrupt interrupt;
    const DrainSignal drain;
    bool toldAbandon = false;
    bool toldDrain = false;
    JobOutcome outcome;
    bool ended = false;
    while (!ended) {
        self.wait();
        while (std::optional<Message> message = comm.receive()) {
            if (message->from == 0) lastHeard = Clock::now();
            switch (message->tag) {
            case TagOrder: {
                Order order;
                unpack(message->bytes, order);
                self.worker->take(order);
                break;
            }
            case TagPart:
                self.worker->takePart(std::move(message->bytes));
                break;
            case TagFinish:
                comm.send(0, TagGoodbye, pack(self.goodbye(std::strtod(message->bytes.c_str(), nullptr))));
                break;
            case TagEnd:
                outcome.exitCode = static_cast<int>(std::strtol(message->bytes.c_str(), nullptr, 10));
                ended = true;
                break;
            default:
                break;
            }
        }
        if (self.worker) {
            self.worker->watchClock();
            for (OutgoingPart& part : self.worker->parts()) comm.send(part.leader, TagPart, std::move(part.bytes));
            for (const TaskResult& result : self.worker->results()) comm.send(0, TagResult, pack(result));
        }
        const auto now = Clock::now();
        std::string_view word;
        if (commands::Interrupt::signal() != 0 && !toldAbandon) {
            toldAbandon = true;
            word = abandonWord;
        } else if (drainRequested != 0 && !toldDrain) {
            toldDrain = true;
            word = drainWord;
        }
        if (!word.empty() || now - lastSent > std::chrono::seconds(1)) {
            comm.send(0, TagAlive, std::string(word));
            lastSent = now;
        }
        if (std::chrono::duration<double>(now - lastHeard).count() > self.settings.lostAfter) {
            spdlog::error("rank {}: nothing heard of rank 0 for {:g} s; leaving", comm.rank(), self.settings.lostAfter);
            comm.abort(1);
        }
    }
    self.flush();
    self.leave(outcome.exitCode, false);
    return outcome;
}

/// Rank 0: the scheduler, and a worker like the others'.
class Root {
public:
    Root(Rank& rank, FrameSource* frameSource)
        : self_(rank), comm_(rank.comm), settings_(rank.settings), source_(frameSource),
          scheduler_(schedulerSettings()), ranks_(static_cast<std::size_t>(comm_.size())) {
        summary_.ranks = comm_.size();
        summary_.transport = comm_.description();
        summary_.started = utcNow();
        summary_.workers.resize(ranks_.size());
        summary_.goodbyes.resize(ranks_.size());
        summary_.offsets.resize(ranks_.size());
        for (Known& known : ranks_) known.heard = Clock::now();
    }

    JobOutcome run(const FrameLister& list) {
        try {
            if (!self_.info.error.empty()) {
                if (self_.usage) throw UsageError(self_.info.error);
                throw Error(self_.info.error);
            }
            for (const std::string* path : {&settings_.report, &settings_.trace})
                if (!path->empty()) requireWritable(*path);
            const std::vector<FrameTask> frames = list();
            if (const int stale = removeStaleFiles(frames); stale > 0)
                spdlog::info("removed {} temporary file{} that an interrupted run had left", stale,
                             stale == 1 ? "" : "s");
            for (const FrameTask& task : frames) scheduler_.add(task, outputsExist(task));
            return work();
        } catch (const UsageError&) {
            end(2);
            throw;
        } catch (...) {
            end(1);
            throw;
        }
    }

private:
    struct Known {
        bool joined = false;
        bool lost = false;
        bool saidGoodbye = false;
        Clock::time_point heard;
    };

    SchedulerSettings schedulerSettings() const {
        SchedulerSettings chosen;
        chosen.ranks = comm_.size();
        chosen.inFlight = settings_.inFlight;
        chosen.retries = settings_.retries;
        chosen.failFast = settings_.failFast;
        chosen.redo = settings_.redo;
        chosen.share = settings_.share;
        return chosen;
    }

    JobOutcome work() {
        commands::Interrupt interrupt;
        const DrainSignal drain;
        join(self_.info);
        JobProgress progress(1, settings_.progress);
        while (true) {
            self_.wait();
            receive();
            local();
            if (source_ != nullptr && !scheduler_.stopped())
                for (FrameTask& task : source_->frames()) {
                    const bool there = outputsExist(task);
                    scheduler_.add(std::move(task), there);
                }
            obeySignals();
            lookForLostRanks();
            for (const Order& order : scheduler_.orders(stillJoining())) give(order);
            report(progress);
            progressLine(progress);
            beat();
            const bool more = source_ != nullptr && !source_->ended() && !scheduler_.stopped();
            if (scheduler_.idle() && !more) break;
        }
        progress.finish();
        summary_.seconds = self_.elapsed();
        if (usableRanks() == 0 && scheduler_.frames().empty()) throw Error("no rank could take part");
        collect();
        return conclude();
    }

    void receive() {
        while (std::optional<Message> message = comm_.receive()) {
            Known& known = ranks_[static_cast<std::size_t>(message->from)];
            known.heard = Clock::now();
            switch (message->tag) {
            case TagHello: {
                WorkerInfo info;
                unpack(message->bytes, info);
                join(info);
                break;
            }
            case TagResult: {
                TaskResult result;
                unpack(message->bytes, result);
                take(result);
                break;
            }
            case TagPart:
                self_.worker->takePart(std::move(message->bytes));
                break;
            case TagAlive:
                if (message->bytes == abandonWord) abandon_ = true;
                if (message->bytes == drainWord) drainNow_ = true;
                break;
            case TagGoodbye: {
                Goodbye goodbye;
                unpack(message->bytes, goodbye);
                known.saidGoodbye = true;
                summary_.goodbyes[static_cast<std::size_t>(message->from)] = std::move(goodbye);
                break;
            }
            default:
                break;
            }
        }
    }

    void local() {
        self_.worker->watchClock();
        for (OutgoingPart& part : self_.worker->parts()) {
            if (part.leader == 0)
                self_.worker->takePart(std::move(part.bytes));
            else
                comm_.send(part.leader, TagPart, std::move(part.bytes));
        }
        for (const TaskResult& result : self_.worker->results()) take(result);
    }

    void take(const TaskResult& result) {
        if (result.stuck) stuckRanks_.insert(result.rank);
        scheduler_.take(result);
    }

    void join(const WorkerInfo& info) {
        const auto index = static_cast<std::size_t>(info.rank);
        summary_.workers[index] = info;
        // The message took a few milliseconds at most: good enough for a trace.
        summary_.offsets[index] = info.rank == 0 ? 0.0 : self_.elapsed() - info.clock;
        ranks_[index].joined = true;
        std::string error = info.error;
        if (error.empty() && info.version != self_.info.version)
            error = fmt::format("it runs patchlight {}, rank 0 runs {}", info.version, self_.info.version);
        if (!error.empty()) {
            spdlog::warn("rank {} on {} does not take part: {}", info.rank, info.host, error);
            scheduler_.lose(info.rank, error);
            return;
        }
        scheduler_.join(info.rank);
        const std::string text =
            fmt::format("rank {} on {}: {}{}; {} thread{}, {} reading, {} writing, up to {} frames in memory",
                        info.rank, info.host, info.device, info.gpu.empty() ? "" : ", " + info.gpu, info.threads,
                        info.threads == 1 ? "" : "s", settings_.readers, settings_.writers, settings_.inFlight);
        constexpr int logged = 16;
        if (info.rank < logged)
            spdlog::info("{}", text);
        else
            spdlog::debug("{}", text);
        summary_.nodes =
            static_cast<int>(std::count_if(summary_.workers.begin(), summary_.workers.end(), [](const auto& worker) {
                return !worker.host.empty() && worker.nodeRank == 0;
            }));
        std::set<std::string> gpus;
        for (const WorkerInfo& worker : summary_.workers)
            if (!worker.gpu.empty()) gpus.insert(worker.host + worker.gpu.substr(0, worker.gpu.find(',')));
        summary_.gpus = static_cast<int>(gpus.size());
    }

    [[nodiscard]] bool stillJoining() const {
        constexpr double patience = 10;
        return self_.elapsed() < patience && std::any_of(ranks_.begin(), ranks_.end(), [](const Known& known) {
                   return !known.joined && !known.lost;
               });
    }

    void give(const Order& order) {
        if (order.rank == 0)
            self_.worker->take(order);
        else
            comm_.send(order.rank, TagOrder, pack(order));
    }

    void obeySignals() {
        if (commands::Interrupt::signal() != 0) abandon_ = true;
        if (drainRequested != 0) drainNow_ = true;
        if (abandon_ && !abandoned_) {
            abandoned_ = true;
            summary_.stopped = "a signal asked to stop";
            spdlog::warn("stopping: frames that are being written are completed, the others given up");
            scheduler_.stop(true, "given up: a signal asked to stop");
        } else if (drainNow_ && !drained_ && !abandoned_) {
            drained_ = true;
            summary_.stopped = "SIGUSR1 asked to take nothing new";
            spdlog::warn("stopping: frames under way are completed, no new ones begun");
            scheduler_.stop(false, "not begun: SIGUSR1 asked to take nothing new");
        }
    }

    void lookForLostRanks() {
        const auto now = Clock::now();
        for (std::size_t i = 1; i < ranks_.size(); ++i) {
            Known& known = ranks_[i];
            if (known.lost || std::chrono::duration<double>(now - known.heard).count() <= settings_.lostAfter) continue;
            known.lost = true;
            const std::string text =
                fmt::format("rank {} on {} did not answer for {:g} s", i,
                            summary_.workers[i].host.empty() ? "?" : summary_.workers[i].host, settings_.lostAfter);
            spdlog::error("{}", text);
            scheduler_.lose(static_cast<int>(i), text);
        }
    }

    void report(JobProgress& progress) {
        for (const int index : scheduler_.ended()) {
            const FrameRecord& record = scheduler_.frames()[static_cast<std::size_t>(index)];
            if (record.state == FrameState::Failed) {
                progress.clear();
                spdlog::error("{}: failed: {}", record.task.output, record.error);
            } else {
                spdlog::debug("{}: {}", record.task.output, name(record.state));
            }
        }
    }

    void progressLine(JobProgress& progress) {
        const auto now = Clock::now();
        if (now - lastCounted_ < milliseconds(200)) return;
        lastCounted_ = now;
        progress.setNodes(summary_.nodes);
        progress.update(static_cast<int>(scheduler_.frames().size()), scheduler_.count(FrameState::Done),
                        scheduler_.count(FrameState::Complete), scheduler_.count(FrameState::Failed));
    }

    void beat() {
        const auto now = Clock::now();
        if (now - lastBeat_ < std::chrono::seconds(1)) return;
        lastBeat_ = now;
        for (int i = 1; i < comm_.size(); ++i)
            if (!ranks_[static_cast<std::size_t>(i)].lost) comm_.send(i, TagAlive, "");
    }

    [[nodiscard]] int usableRanks() const {
        return static_cast<int>(
            std::count_if(ranks_.begin(), ranks_.end(), [](const Known& known) { return !known.lost; }));
    }

    /// Last figures of all ranks that answer.
    void collect() {
        summary_.goodbyes[0] = self_.goodbye(0.0);
        ranks_[0].saidGoodbye = true;
        for (int i = 1; i < comm_.size(); ++i)
            if (!ranks_[static_cast<std::size_t>(i)].lost)
                comm_.send(i, TagFinish, fmt::format("{:.9f}", summary_.offsets[static_cast<std::size_t>(i)]));
        const auto waiting = [&] {
            return std::any_of(ranks_.begin(), ranks_.end(),
                               [](const Known& known) { return !known.lost && !known.saidGoodbye; });
        };
        while (waiting()) {
            self_.wait();
            receive();
            lookForLostRanks();
            beat();
        }
    }

    JobOutcome conclude() {
        JobOutcome outcome;
        outcome.frames = scheduler_.frames();
        outcome.done = scheduler_.count(FrameState::Done);
        outcome.complete = scheduler_.count(FrameState::Complete);
        outcome.failed = scheduler_.count(FrameState::Failed);
        outcome.cancelled = scheduler_.count(FrameState::Cancelled);
        outcome.seconds = summary_.seconds;
        outcome.exitCode = outcome.failed + outcome.cancelled > 0 ? 1 : 0;
        if (!settings_.report.empty())
            writeFileAtomically(settings_.report, reportText(outcome.frames, summary_, settings_));
        if (!settings_.trace.empty()) writeFileAtomically(settings_.trace, mergedTrace(outcome.frames, summary_));
        if (settings_.progress)
            spdlog::info(
                "{} frames: {} extracted, {} were complete, {} failed, {} given up; {:.1f} s on {} node{}, {:.1f} "
                "frames/node-hour",
                outcome.frames.size(), outcome.done, outcome.complete, outcome.failed, outcome.cancelled,
                summary_.seconds, summary_.nodes, summary_.nodes == 1 ? "" : "s",
                summary_.framesPerNodeHour(outcome.done));
        end(outcome.exitCode);
        return outcome;
    }

    void end(int code) {
        bool lost = !stuckRanks_.empty();
        for (int i = 1; i < comm_.size(); ++i) {
            if (ranks_[static_cast<std::size_t>(i)].lost)
                lost = true;
            else
                comm_.send(i, TagEnd, fmt::format("{}", code));
        }
        self_.flush();
        self_.leave(code, lost && comm_.size() > 1);
    }

    Rank& self_;
    Communicator& comm_;
    const JobSettings& settings_;
    FrameSource* source_;
    Scheduler scheduler_;
    std::vector<Known> ranks_;
    std::set<int> stuckRanks_;
    JobSummary summary_;
    Clock::time_point lastBeat_ = Clock::now();
    Clock::time_point lastCounted_ = Clock::now();
    bool abandon_ = false;
    bool abandoned_ = false;
    bool drainNow_ = false;
    bool drained_ = false;
};

} // namespace

std::vector<std::string> visibleGpus() {
    std::vector<std::string> gpus;
    if (const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES")) {
        std::string_view rest = visible;
        while (!rest.empty()) {
            const std::size_t comma = rest.find(',');
            const std::string_view word = rest.substr(0, comma);
            if (word.empty() || word == "-1") break; // as CUDA has it: what follows is not visible
            gpus.emplace_back(word);
            if (comma == std::string_view::npos) break;
            rest.remove_prefix(comma + 1);
        }
        return gpus;
    }
    std::error_code ignored;
    for (int i = 0; std::filesystem::exists(fmt::format("/dev/nvidia{}", i), ignored); ++i)
        gpus.push_back(fmt::format("{}", i));
    return gpus;
}

std::string chooseGpu(int nodeRank, int nodeSize) {
    const std::vector<std::string> gpus = visibleGpus();
    if (gpus.empty()) return {};
    const int count = static_cast<int>(gpus.size());
    const int chosen = nodeRank % count;
    ::setenv("CUDA_VISIBLE_DEVICES", gpus[static_cast<std::size_t>(chosen)].c_str(), 1);
    const int sharers = nodeSize / count + (chosen < nodeSize % count ? 1 : 0);
    std::string text =
        fmt::format("GPU {} (of {} visible), by node rank {}", gpus[static_cast<std::size_t>(chosen)], count, nodeRank);
    if (sharers > 1) {
        std::error_code ignored;
        const char* const pipe = std::getenv("CUDA_MPS_PIPE_DIRECTORY");
        const bool mps = std::filesystem::exists(
            std::filesystem::path(pipe != nullptr ? pipe : "/tmp/nvidia-mps") / "control", ignored);
        text += fmt::format(", shared by {} ranks {}", sharers,
                            mps ? "through CUDA MPS" : "in turn (CUDA MPS does not run)");
    }
    return text;
}

JobOutcome runJob(Communicator& communicator, const JobSettings& settings, const FrameLister& list,
                  FrameSource* source) {
    JobSettings completed = settings;
    completed.readers = std::max(1, completed.readers);
    completed.writers = std::max(1, completed.writers);
    if (completed.inFlight <= 0) completed.inFlight = completed.readers + completed.writers + 1;
    Rank self(communicator, completed);
    if (communicator.rank() != 0) return runMember(self);
    return Root(self, source).run(list);
}

} // namespace patchlight::batch
