#include "app/mpi/MpiCommunicator.h"

#include "core/base/Error.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

// The C interface only: OpenMPI's old C++ one is not wanted.
#define OMPI_SKIP_MPICXX 1
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include <sched.h>

namespace patchlight::batch {

namespace {

/// Ends the process where MPI itself waits for ever, as it does for a rank that died or stands still while all start or leave.
class Watchdog {
public:
    Watchdog(const char* what, std::chrono::seconds patience)
        : thread_([this, what, patience] {
              std::unique_lock lock(mutex_);
              if (changed_.wait_for(lock, patience, [this] { return over_; })) return;
              std::fprintf(stderr, "patchlight: MPI: %s took more than %ld s: a rank is missing\n", what,
                           static_cast<long>(patience.count()));
              std::fflush(nullptr);
              std::_Exit(1);
          }) {}
    ~Watchdog() {
        {
            const std::lock_guard lock(mutex_);
            over_ = true;
        }
        changed_.notify_one();
        thread_.join();
    }
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool over_ = false;
    std::thread thread_; ///< last: it uses the others
};

constexpr std::chrono::seconds startPatience{600}; ///< thousands of ranks on a cold file system need minutes
constexpr std::chrono::seconds endPatience{60};

class MpiCommunicator final : public Communicator {
public:
    MpiCommunicator() {
        const Watchdog watchdog("starting", startPatience);
        int provided = MPI_THREAD_SINGLE;
        MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
        MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
        MPI_Comm_size(MPI_COMM_WORLD, &size_);
        requireWholeJob();
        MPI_Comm node = MPI_COMM_NULL;
        MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank_, MPI_INFO_NULL, &node);
        MPI_Comm_rank(node, &nodeRank_);
        MPI_Comm_size(node, &nodeSize_);
        shareCores(node);
        MPI_Comm_free(&node);
        std::array<char, MPI_MAX_LIBRARY_VERSION_STRING> version{};
        int length = 0;
        MPI_Get_library_version(version.data(), &length);
        description_ = version.data();
        // "Open MPI v4.1.4, package: ...", "MPICH Version: 4.0\nMPICH Release date: ...": what comes first is enough.
        description_ = description_.substr(0, description_.find_first_of(",\n"));
    }

    ~MpiCommunicator() override {
        // Left by an exception: the others must not wait for this rank.
        if (!finished_) MPI_Abort(MPI_COMM_WORLD, 1);
    }

    [[nodiscard]] int rank() const override { return rank_; }
    [[nodiscard]] int size() const override { return size_; }
    [[nodiscard]] int nodeRank() const override { return nodeRank_; }
    [[nodiscard]] int nodeSize() const override { return nodeSize_; }
    [[nodiscard]] int cores() const override { return cores_; }
    [[nodiscard]] std::string description() const override { return description_; }

    void send(int to, int tag, std::string bytes) override {
        if (bytes.size() > static_cast<std::size_t>(INT_MAX))
            throw Error(
                fmt::format("a message of {} bytes for rank {}: at most 2 GiB can be sent; let more ranks share "
                            "the frame, or fewer",
                            bytes.size(), to));
        Transfer& transfer = sends_.emplace_back();
        transfer.message.bytes = std::move(bytes);
        MPI_Isend(transfer.message.bytes.data(), static_cast<int>(transfer.message.bytes.size()), MPI_BYTE, to, tag,
                  MPI_COMM_WORLD, &transfer.request);
    }

    [[nodiscard]] std::optional<Message> receive() override {
        advance();
        for (auto arriving = arrivals_.begin(); arriving != arrivals_.end(); ++arriving) {
            if (!arriving->complete) continue;
            // A short message must not overtake a long one of the same rank.
            const bool overtakes = std::any_of(arrivals_.begin(), arriving, [&](const Transfer& earlier) {
                return earlier.message.from == arriving->message.from;
            });
            if (overtakes) continue;
            Message message = std::move(arriving->message);
            arrivals_.erase(arriving);
            return message;
        }
        return std::nullopt;
    }

    [[nodiscard]] bool busy() override {
        advance();
        return !sends_.empty() || !arrivals_.empty();
    }

    void finish() override {
        finished_ = true;
        const Watchdog watchdog("leaving", endPatience);
        MPI_Finalize();
    }

    [[noreturn]] void abort(int code) override {
        std::fflush(nullptr);
        MPI_Abort(MPI_COMM_WORLD, code);
        std::_Exit(code);
    }

private:
    struct Transfer {
        Message message;
        MPI_Request request = MPI_REQUEST_NULL;
        bool complete = false;
    };

    /// srun starts its tasks whether or not it can connect them: each would then do the whole job.
    void requireWholeJob() const {
        const char* tasks = std::getenv("SLURM_STEP_NUM_TASKS");
        if (size_ > 1 || tasks == nullptr || std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr) return;
        const long started = std::strtol(tasks, nullptr, 10);
        const char* first = std::getenv("SLURM_PROCID");
        if (started <= 1 || first == nullptr) return;
        MPI_Finalize();
        if (std::strcmp(first, "0") != 0) std::_Exit(1); // one line for the job, not one a task
        throw Error(fmt::format("srun started {} tasks, but MPI sees one rank only: they speak different protocols; "
                                "`srun --mpi=list` names those of srun (--mpi=pmix suits OpenMPI, --mpi=pmi2 MPICH and "
                                "--mpi=cray_shasta Cray's), or start with mpirun",
                                started));
    }

    /// Ranks with the same affinity mask share its cores.
    void shareCores(MPI_Comm node) {
        cpu_set_t mask;
        CPU_ZERO(&mask);
        (void)::sched_getaffinity(0, sizeof mask, &mask);
        std::vector<cpu_set_t> masks(static_cast<std::size_t>(nodeSize_));
        MPI_Allgather(&mask, sizeof mask, MPI_BYTE, masks.data(), sizeof mask, MPI_BYTE, node);
        const auto sharers =
            std::count_if(masks.begin(), masks.end(), [&](const cpu_set_t& other) { return CPU_EQUAL(&mask, &other); });
        cores_ = std::max(1, CPU_COUNT(&mask) / static_cast<int>(std::max<std::ptrdiff_t>(1, sharers)));
    }

    void advance() {
        while (true) {
            int found = 0;
            MPI_Message handle = MPI_MESSAGE_NULL;
            MPI_Status status;
            MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &found, &handle, &status);
            if (found == 0) break;
            int count = 0;
            MPI_Get_count(&status, MPI_BYTE, &count);
            Transfer& arriving = arrivals_.emplace_back();
            arriving.message.from = status.MPI_SOURCE;
            arriving.message.tag = status.MPI_TAG;
            arriving.message.bytes.resize(static_cast<std::size_t>(count));
            MPI_Imrecv(arriving.message.bytes.data(), count, MPI_BYTE, &handle, &arriving.request);
        }
        for (Transfer& arriving : arrivals_) test(arriving);
        for (Transfer& leaving : sends_) test(leaving);
        sends_.remove_if([](const Transfer& leaving) { return leaving.complete; });
    }

    static void test(Transfer& transfer) {
        if (transfer.complete) return;
        int done = 0;
        MPI_Test(&transfer.request, &done, MPI_STATUS_IGNORE);
        transfer.complete = done != 0;
    }

    int rank_ = 0;
    int size_ = 1;
    int nodeRank_ = 0;
    int nodeSize_ = 1;
    int cores_ = 1;
    bool finished_ = false;
    std::string description_;
    std::list<Transfer> sends_; ///< lists: MPI holds pointers into them
    std::list<Transfer> arrivals_;
};

} // namespace

std::unique_ptr<Communicator> makeMpiCommunicator() { return std::make_unique<MpiCommunicator>(); }

} // namespace patchlight::batch
