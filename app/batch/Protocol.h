#pragma once

#include "app/patchlight/FrameRun.h"

#include <string>
#include <vector>

/// What ranks tell each other. Control messages are MessagePack, since paths need not be UTF-8; spectra are raw numbers.
namespace patchlight::batch {

using commands::FrameTask;
using commands::PatchCounts;

enum Tag : int {
    TagHello = 1,   ///< worker -> scheduler: WorkerInfo
    TagOrder = 2,   ///< scheduler -> worker: Order
    TagResult = 3,  ///< worker -> scheduler: TaskResult
    TagPart = 4,    ///< worker -> the frame's leader: spectra of a part
    TagAlive = 5,   ///< both ways, now and then
    TagFinish = 6,  ///< scheduler -> worker: there will be no more orders
    TagGoodbye = 7, ///< worker -> scheduler: Goodbye
    TagEnd = 8,     ///< scheduler -> worker: leave
};

/// What a rank is asked to do.
enum class TaskKind {
    Check,   ///< is the output there and complete?
    Extract, ///< a frame, or a part of one
    Abandon, ///< forget a frame: another rank failed on it
    Stop,    ///< forget all that is not being written
};

struct Order {
    int rank = 0; ///< whom it is for
    TaskKind kind = TaskKind::Extract;
    int frame = 0;
    int attempt = 0;
    int part = 0;       ///< 0: the leader, who assembles and writes
    int parts = 1;      ///< ranks that share the frame
    int leader = 0;     ///< rank
    std::string reason; ///< of Abandon and Stop
    FrameTask task;
};

enum class Outcome {
    Done,       ///< extracted and written; of a part: sent to the leader
    Complete,   ///< checked, nothing to do
    Incomplete, ///< checked, to be extracted
    Failed,
    Cancelled, ///< given up because the job was told to stop
    Returned,  ///< not begun, because this rank can do no more
};

/// What became of an order.
struct TaskResult {
    int rank = 0;
    int frame = 0;
    int attempt = 0;
    int part = 0;
    Outcome outcome = Outcome::Done;
    std::string error;
    bool permanent = false; ///< another try cannot help
    bool stuck = false;     ///< a thread of this rank does not come back: it takes no more orders
    double started = 0;     ///< s since the job began on this rank
    double ended = 0;
    double read = 0; ///< s in each stage, and waiting between them
    double compute = 0;
    double write = 0;
    double waited = 0;
    double bytesRead = 0;
    double bytesWritten = 0;
    double peakMemory = 0; ///< bytes, of the rank until then
    PatchCounts counts;
};

/// What a rank says of itself.
struct WorkerInfo {
    int rank = 0;
    int nodeRank = 0;
    std::string host;
    std::string version;
    std::string device; ///< the backend's description
    std::string gpu;    ///< which GPU and why, or ""
    int threads = 0;
    double clock = 0;  ///< s, of the rank's own clock
    std::string error; ///< why it cannot take part
};

struct Goodbye {
    int rank = 0;
    double peakMemory = 0; ///< bytes
    double cpuSeconds = 0;
    double busySeconds = 0; ///< computing
    std::string trace;      ///< chromeTraceEvents()
};

std::string pack(const Order& order);
std::string pack(const TaskResult& result);
std::string pack(const WorkerInfo& info);
std::string pack(const Goodbye& goodbye);
void unpack(const std::string& bytes, Order& order);
void unpack(const std::string& bytes, TaskResult& result);
void unpack(const std::string& bytes, WorkerInfo& info);
void unpack(const std::string& bytes, Goodbye& goodbye);

/// The spectra of part `part` of `parts` of a plan, [first, last): whole bundles where there are enough of them, else whole subbundles
/// (--method seamless: always bundles). Empty where there are more parts than those.
[[nodiscard]] IndexRange partSpectra(const Plan& plan, int part, int parts);

/// Spectra of a part as bytes, and their place in the whole frame.
[[nodiscard]] std::string packPart(int frame, int attempt, int part, const ExtractionResult& result, const Plan& whole,
                                   IndexRange spectra);
struct PartAddress {
    int frame = 0;
    int attempt = 0;
    int part = 0;
};
[[nodiscard]] PartAddress partAddress(const std::string& bytes);
/// Copies a part into the whole frame's arrays. @throws Error where its shape does not fit the plan
void unpackPart(const std::string& bytes, const Plan& whole, ExtractionResult& result);
/// As unpackPart(), for the leader's own part.
void copyPart(const ExtractionResult& part, const Plan& whole, IndexRange spectra, ExtractionResult& result);
/// Arrays for a whole frame, to be filled by parts.
[[nodiscard]] ExtractionResult emptyResult(const Plan& plan);

} // namespace patchlight::batch
