#pragma once

#include "core/base/Error.h"
#include "core/base/Timeline.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace patchlight::gpu {

/// Kernels as values (gpu/kernels/AnyKernel.h); declared here so that who only moves memory needs none of them.
struct TeamLaunch;
struct GroupLaunch;

/// A number that no other stream of this process has.
[[nodiscard]] std::uint64_t nextStreamNumber();

/// The device has no room for an allocation.
class OutOfDeviceMemory : public Error {
public:
    using Error::Error;
};

/// Memory of a device, or memory of the host that a device copies from and to without help. Freed with the object.
class Memory {
public:
    virtual ~Memory() = default;
    Memory() = default;
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    [[nodiscard]] virtual std::byte* data() const = 0;
    [[nodiscard]] virtual std::size_t size() const = 0;
};

/// Work in order: copies, kernels, time stamps. Nothing here waits but wait(). Errors of what was begun before may be thrown by any call;
/// they name the kernel, where that is known.
class Stream {
public:
    virtual ~Stream() = default;
    Stream() = default;
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    virtual void copyIn(std::byte* device, const std::byte* host, std::size_t bytes) = 0;
    virtual void copyOut(std::byte* host, const std::byte* device, std::size_t bytes) = 0;
    /// Fills memory of the device with zeros.
    virtual void clear(std::byte* device, std::size_t bytes) = 0;
    virtual void launch(const TeamLaunch& kernel) = 0;
    virtual void launch(const GroupLaunch& kernel) = 0;
    /// Ends the range that is open, and begins another one where `name` (a string literal) is not null. Ranges are recorded by wait().
    virtual void range(const char* name) = 0;
    /// Waits until all is done, then puts the ranges into `timeline`, on a lane of the stream's own. @param timeline may be null
    virtual void wait(Timeline* timeline, const RangeTags& tags) = 0;
};

struct DeviceLimits {
    int multiprocessors = 1;
    int threads = 1024;          ///< a block
    std::size_t sharedBytes = 0; ///< a block
    int groups = 1;              ///< groups of lanes worth having at work at a time
};

/// What runs kernels: a CUDA device, or the host in its place.
class Device {
public:
    virtual ~Device() = default;
    Device() = default;
    Device(const Device&) = delete;
    Device& operator=(const Device&) = delete;

    /// "cuda", "host".
    [[nodiscard]] virtual std::string name() const = 0;
    /// One line for the log.
    [[nodiscard]] virtual std::string description() const = 0;
    [[nodiscard]] virtual DeviceLimits limits() const = 0;
    /// Bytes that could be allocated now.
    [[nodiscard]] virtual std::size_t freeMemory() const = 0;
    /// @throws OutOfDeviceMemory
    [[nodiscard]] virtual std::unique_ptr<Memory> allocate(std::size_t bytes) = 0;
    /// Memory of the host for copies. @throws Error
    [[nodiscard]] virtual std::unique_ptr<Memory> allocatePinned(std::size_t bytes) = 0;
    [[nodiscard]] virtual std::unique_ptr<Stream> makeStream() = 0;
};

} // namespace patchlight::gpu
