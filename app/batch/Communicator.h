#pragma once

#include <memory>
#include <optional>
#include <string>

namespace patchlight::batch {

/// Bytes from another rank.
struct Message {
    int from = 0;
    int tag = 0;
    std::string bytes;
};

/// The ranks of a job. No call blocks and none waits for another rank, except finish(): whoever uses it polls, and so can watch
/// the clock and its signals whatever the other ranks do. Calls come from the main thread only.
class Communicator {
public:
    virtual ~Communicator() = default;
    Communicator() = default;
    Communicator(const Communicator&) = delete;
    Communicator& operator=(const Communicator&) = delete;

    [[nodiscard]] virtual int rank() const = 0;
    [[nodiscard]] virtual int size() const = 0;
    /// Ranks on this node, counted from 0.
    [[nodiscard]] virtual int nodeRank() const = 0;
    [[nodiscard]] virtual int nodeSize() const = 0;
    /// Cores that this rank may use without taking them from other ranks of its node.
    [[nodiscard]] virtual int cores() const = 0;
    /// Name and version of what connects the ranks, for the log.
    [[nodiscard]] virtual std::string description() const = 0;

    /// Sends bytes; returns at once. Messages between two ranks keep their order.
    virtual void send(int to, int tag, std::string bytes) = 0;
    /// A message that has arrived whole, if there is one.
    [[nodiscard]] virtual std::optional<Message> receive() = 0;
    /// True while sent or arriving messages are under way, which poll() (or receive()) must move on.
    [[nodiscard]] virtual bool busy() = 0;
    /// Leaves the job in order; waits for the others to do so too.
    virtual void finish() = 0;
    /// Ends all ranks at once, for when one of them cannot be waited for. Does not return.
    [[noreturn]] virtual void abort(int code) = 0;
};

/// A job of one process.
[[nodiscard]] std::unique_ptr<Communicator> makeLoneCommunicator();

/// True where the environment says that a launcher (mpirun, srun) started this process as one of several.
[[nodiscard]] bool startedByLauncher();

/// Cores in this process' affinity mask.
[[nodiscard]] int availableCores();

} // namespace patchlight::batch
