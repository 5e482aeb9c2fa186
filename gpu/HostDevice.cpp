#include "gpu/HostDevice.h"

#include "gpu/Launch.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <fmt/format.h>

namespace patchlight::gpu {

void HostTeam::outOfItems(std::size_t bytes) {
    throw Error(fmt::format("a kernel asks for {} bytes of items, more than its itemBytes() say", bytes));
}

namespace {

/// All members wait for each other. A plain mutex, so that ThreadSanitizer sees the order it makes.
class Barrier final : public HostBarrier {
public:
    explicit Barrier(int members) : members_(members) {}
    void wait() override {
        std::unique_lock lock(mutex_);
        const long turn = turn_;
        if (++waiting_ == members_) {
            waiting_ = 0;
            ++turn_;
            all_.notify_all();
            return;
        }
        all_.wait(lock, [&] { return turn_ != turn; });
    }

private:
    std::mutex mutex_;
    std::condition_variable all_;
    int members_;
    int waiting_ = 0;
    long turn_ = 0;
};

struct Account {
    std::size_t limit = 0;
    std::atomic<std::size_t> used{0};
};

class HostMemory final : public Memory {
public:
    HostMemory(std::size_t bytes, bool poison, std::shared_ptr<Account> account)
        : bytes_(bytes), memory_((bytes + sizeof(Line) - 1) / sizeof(Line)), account_(std::move(account)) {
        if (poison && bytes > 0) std::memset(memory_.data(), 0xFF, memory_.size() * sizeof(Line));
        if (account_) account_->used += bytes_;
    }
    ~HostMemory() override {
        if (account_) account_->used -= bytes_;
    }
    [[nodiscard]] std::byte* data() const override { return reinterpret_cast<std::byte*>(memory_.data()); }
    [[nodiscard]] std::size_t size() const override { return bytes_; }

private:
    struct alignas(256) Line {
        std::byte bytes[256];
    };
    std::size_t bytes_;
    mutable std::vector<Line> memory_;
    std::shared_ptr<Account> account_;
};

class HostStream final : public Stream {
public:
    explicit HostStream(int members) : members_(members) {}

    void copyIn(std::byte* device, const std::byte* host, std::size_t bytes) override {
        if (bytes > 0) std::memcpy(device, host, bytes);
    }
    void copyOut(std::byte* host, const std::byte* device, std::size_t bytes) override {
        if (bytes > 0) std::memcpy(host, device, bytes);
    }
    void clear(std::byte* device, std::size_t bytes) override {
        if (bytes > 0) std::memset(device, 0, bytes);
    }
    void launch(const TeamLaunch& launch) override {
        std::visit([&](const auto& kernel) { runTeams(kernel); }, launch.kernel);
    }
    void launch(const GroupLaunch& launch) override {
        std::visit(
            [&](const auto& kernel) {
                const HostGroup group;
                for (int index = 0; index < kernel.groups(); ++index) {
                    const std::size_t piece = static_cast<std::size_t>(index) % launch.pieces;
                    kernel(group, index, kernel.b.rootWork + piece * kernel.b.rootWorkSize);
                }
            },
            launch.kernel);
    }
    void range(const char* name) override {
        const auto now = std::chrono::steady_clock::now();
        if (!ranges_.empty() && !ranges_.back().ended) {
            ranges_.back().end = now;
            ranges_.back().ended = true;
        }
        if (name != nullptr) ranges_.push_back({name, now, now, false});
    }
    void wait(Timeline* timeline, const RangeTags& tags) override {
        range(nullptr);
        if (timeline != nullptr) {
            const auto now = std::chrono::steady_clock::now();
            const std::int64_t present = timeline->now();
            const auto since = [&](std::chrono::steady_clock::time_point t) {
                return present - std::chrono::duration_cast<std::chrono::nanoseconds>(now - t).count();
            };
            for (const Range& one : ranges_)
                timeline->recordStream(number_, one.name, since(one.start), since(one.end) - since(one.start), tags);
        }
        ranges_.clear();
    }

private:
    struct Range {
        const char* name;
        std::chrono::steady_clock::time_point start;
        std::chrono::steady_clock::time_point end;
        bool ended;
    };

    template <class Kernel> void runTeams(const Kernel& kernel) {
        const int blocks = kernel.blocks();
        std::vector<double> shared(kernel.sharedDoubles());
        const int members = std::min(members_, kernel.threads());
        std::vector<std::vector<std::byte>> items(static_cast<std::size_t>(members));
        for (auto& one : items) one.resize(kernel.itemBytes() + 64);
        const auto aligned = [&](int member) {
            std::byte* at = items[static_cast<std::size_t>(member)].data();
            return at + (64 - reinterpret_cast<std::uintptr_t>(at) % 64) % 64;
        };
        if (members == 1) {
            for (int block = 0; block < blocks; ++block) {
                HostTeam team(0, 1, shared.data(), nullptr, aligned(0), kernel.itemBytes());
                kernel(team, block);
            }
            return;
        }
        Barrier barrier(members);
        const auto work = [&](int member) {
            for (int block = 0; block < blocks; ++block) {
                HostTeam team(member, members, shared.data(), &barrier, aligned(member), kernel.itemBytes());
                kernel(team, block);
                barrier.wait(); // shared memory is the next block's
            }
        };
        std::vector<std::thread> others;
        for (int member = 1; member < members; ++member) others.emplace_back(work, member);
        work(0);
        for (std::thread& other : others) other.join();
    }

    int members_;
    const std::uint64_t number_ = nextStreamNumber();
    std::vector<Range> ranges_;
};

class HostDevice final : public Device {
public:
    explicit HostDevice(const HostDeviceOptions& options) : options_(options), account_(std::make_shared<Account>()) {
        account_->limit = options.memory;
    }
    [[nodiscard]] std::string name() const override { return "host"; }
    [[nodiscard]] std::string description() const override {
        return fmt::format("GPU kernels run on the host, {} member{} a team", options_.members,
                           options_.members == 1 ? "" : "s");
    }
    [[nodiscard]] DeviceLimits limits() const override { return {2, 1024, options_.sharedBytes, 3}; }
    [[nodiscard]] std::size_t freeMemory() const override {
        if (options_.memory == 0) return std::size_t{8} << 30;
        return options_.memory - std::min(options_.memory, account_->used.load());
    }
    [[nodiscard]] std::unique_ptr<Memory> allocate(std::size_t bytes) override {
        if (options_.memory != 0 && account_->used + bytes > options_.memory)
            throw OutOfDeviceMemory(fmt::format("{} bytes asked for, {} are free", bytes, freeMemory()));
        return std::make_unique<HostMemory>(bytes, options_.poison, account_);
    }
    [[nodiscard]] std::unique_ptr<Memory> allocatePinned(std::size_t bytes) override {
        return std::make_unique<HostMemory>(bytes, options_.poison, nullptr);
    }
    [[nodiscard]] std::unique_ptr<Stream> makeStream() override {
        return std::make_unique<HostStream>(options_.members);
    }

private:
    HostDeviceOptions options_;
    std::shared_ptr<Account> account_;
};

} // namespace

std::unique_ptr<Device> makeHostDevice(const HostDeviceOptions& options) {
    return std::make_unique<HostDevice>(options);
}

} // namespace patchlight::gpu
