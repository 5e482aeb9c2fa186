// The one place that calls the CUDA runtime: memory, streams, events, and launches of the kernels' bodies.

#include "gpu/CudaDevice.h"
#include "gpu/Launch.h"

#include <cuda_runtime.h>

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

namespace patchlight::gpu {

namespace {

std::string text(cudaError_t error) {
    return std::string(cudaGetErrorString(error)) + " (" + cudaGetErrorName(error) + ")";
}

void check(cudaError_t error, const std::string& what) {
    if (error == cudaSuccess) return;
    (void)cudaGetLastError(); // so that the next call does not report it again
    throw Error("CUDA: " + what + ": " + text(error));
}

/// For the compiler: members of a block at most, and blocks that a multiprocessor must have registers for.
template <class Kernel> struct Bounds {
    static constexpr int members = 256;
    static constexpr int blocks = 3;
};
template <int W> struct Bounds<EliminateKernel<W>> {
    static constexpr int members = mostMembers;
    static constexpr int blocks = 1;
};
template <> struct Bounds<DenseKernel> : Bounds<EliminateKernel<0>> {};
template <> struct Bounds<DenseRootsKernel> {
    static constexpr int members = DenseRootsKernel::mostThreads;
    static constexpr int blocks = 2;
};

template <class Kernel>
__global__ void __launch_bounds__(Bounds<Kernel>::members, Bounds<Kernel>::blocks) runTeam(const Kernel kernel) {
    extern __shared__ double shared[];
    DeviceTeam team(shared);
    kernel(team, static_cast<int>(blockIdx.x));
}

template <class Kernel> __global__ void __launch_bounds__(groupsPerBlock* groupLanes) runGroups(const Kernel kernel) {
    const int lane = static_cast<int>(threadIdx.x) % groupLanes;
    const int mine = static_cast<int>(threadIdx.x) / groupLanes;
    const int piece = static_cast<int>(blockIdx.x) * groupsPerBlock + mine;
    const DeviceGroup group(lane);
    double* work = kernel.b.rootWork + static_cast<std::size_t>(piece) * kernel.b.rootWorkSize;
    for (int index = piece; index < kernel.groups(); index += static_cast<int>(gridDim.x) * groupsPerBlock) {
        kernel(group, index, work);
        group.sync(); // the work memory is the next one's
    }
}

class DeviceMemory final : public Memory {
public:
    DeviceMemory(int device, std::size_t bytes) : device_(device), bytes_(bytes) {
        check(cudaSetDevice(device), "choosing the device");
        const cudaError_t error = cudaMalloc(&memory_, bytes > 0 ? bytes : 1);
        if (error == cudaErrorMemoryAllocation) {
            (void)cudaGetLastError();
            std::size_t free = 0;
            std::size_t total = 0;
            (void)cudaMemGetInfo(&free, &total);
            throw OutOfDeviceMemory(std::to_string(bytes >> 20) + " MiB asked for, " + std::to_string(free >> 20) +
                                    " MiB are free");
        }
        check(error, "allocating memory");
    }
    ~DeviceMemory() override {
        (void)cudaSetDevice(device_);
        (void)cudaFree(memory_);
    }
    [[nodiscard]] std::byte* data() const override { return static_cast<std::byte*>(memory_); }
    [[nodiscard]] std::size_t size() const override { return bytes_; }

private:
    int device_;
    std::size_t bytes_;
    void* memory_ = nullptr;
};

class PinnedMemory final : public Memory {
public:
    explicit PinnedMemory(std::size_t bytes) : bytes_(bytes) {
        check(cudaMallocHost(&memory_, bytes > 0 ? bytes : 1), "allocating pinned memory of the host");
    }
    ~PinnedMemory() override { (void)cudaFreeHost(memory_); }
    [[nodiscard]] std::byte* data() const override { return static_cast<std::byte*>(memory_); }
    [[nodiscard]] std::size_t size() const override { return bytes_; }

private:
    std::size_t bytes_;
    void* memory_ = nullptr;
};

class CudaStream final : public Stream {
public:
    CudaStream(int device, bool careful) : device_(device), careful_(careful) {
        use();
        check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
        check(cudaEventCreateWithFlags(&done_, cudaEventBlockingSync | cudaEventDisableTiming), "making an event");
    }
    ~CudaStream() override {
        (void)cudaSetDevice(device_);
        (void)cudaStreamSynchronize(stream_);
        for (cudaEvent_t event : events_) (void)cudaEventDestroy(event);
        (void)cudaEventDestroy(done_);
        (void)cudaStreamDestroy(stream_);
    }

    void copyIn(std::byte* device, const std::byte* host, std::size_t bytes) override {
        use();
        check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_), "copying to the device");
    }
    void copyOut(std::byte* host, const std::byte* device, std::size_t bytes) override {
        use();
        check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "copying from the device");
    }
    void clear(std::byte* device, std::size_t bytes) override {
        use();
        check(cudaMemsetAsync(device, 0, bytes, stream_), "clearing memory");
    }
    void launch(const TeamLaunch& launch) override {
        use();
        std::visit(
            [&](const auto& kernel) {
                if (kernel.blocks() == 0) return;
                using Kernel = std::decay_t<decltype(kernel)>;
                const std::size_t shared = kernel.sharedDoubles() * sizeof(double);
                constexpr std::size_t freeForAll = 48 << 10;
                if (shared > freeForAll)
                    check(cudaFuncSetAttribute(runTeam<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                               static_cast<int>(shared)),
                          std::string(kernel.name) + ": asking for shared memory");
                runTeam<Kernel><<<static_cast<unsigned>(kernel.blocks()), static_cast<unsigned>(kernel.threads()),
                                  shared, stream_>>>(kernel);
                launched(kernel.name);
            },
            launch.kernel);
    }
    void launch(const GroupLaunch& launch) override {
        use();
        std::visit(
            [&](const auto& kernel) {
                if (kernel.groups() == 0) return;
                using Kernel = std::decay_t<decltype(kernel)>;
                const std::size_t blocks = launch.pieces / groupsPerBlock;
                runGroups<Kernel><<<static_cast<unsigned>(blocks), groupsPerBlock * groupLanes, 0, stream_>>>(kernel);
                launched(kernel.name);
            },
            launch.kernel);
    }
    void range(const char* name) override {
        use();
        if (used_ == events_.size()) {
            events_.emplace_back();
            check(cudaEventCreate(&events_.back()), "making an event");
        }
        check(cudaEventRecord(events_[used_], stream_), "recording an event");
        names_.push_back(name);
        ++used_;
    }
    void wait(Timeline* timeline, const RangeTags& tags) override {
        use();
        range(nullptr);
        check(cudaEventRecord(done_, stream_), "recording an event");
        const cudaError_t error = cudaEventSynchronize(done_);
        if (error != cudaSuccess) {
            const std::size_t count = std::exchange(used_, 0);
            std::string which;
            for (std::size_t i = 0; i + 1 < count; ++i)
                if (names_[i] != nullptr) which += (which.empty() ? "" : ", ") + std::string(names_[i]);
            names_.clear();
            check(error, "one of: " + which + " (PATCHLIGHT_GPU_CAREFUL=1 says which)");
        }
        if (timeline != nullptr) {
            // The device's clock and ours: the last event has just passed.
            const std::int64_t now = timeline->now();
            const cudaEvent_t last = events_[used_ - 1];
            const auto at = [&](std::size_t i) {
                float milliseconds = 0;
                check(cudaEventElapsedTime(&milliseconds, events_[i], last), "reading an event");
                return now - static_cast<std::int64_t>(static_cast<double>(milliseconds) * 1e6);
            };
            for (std::size_t i = 0; i + 1 < used_; ++i)
                if (names_[i] != nullptr) timeline->recordStream(number_, names_[i], at(i), at(i + 1) - at(i), tags);
        }
        used_ = 0;
        names_.clear();
    }

private:
    void use() const { check(cudaSetDevice(device_), "choosing the device"); }
    void launched(const char* name) const {
        check(cudaGetLastError(), std::string(name) + ": launching the kernel");
        if (careful_) check(cudaStreamSynchronize(stream_), name);
    }
    int device_;
    bool careful_;
    cudaStream_t stream_ = nullptr;
    cudaEvent_t done_ = nullptr;
    std::vector<cudaEvent_t> events_;
    std::vector<const char*> names_;
    std::size_t used_ = 0;
    const std::uint64_t number_ = nextStreamNumber();
};

class CudaDevice final : public Device {
public:
    CudaDevice(int number, const cudaDeviceProp& properties) : number_(number), properties_(properties) {
        const char* const careful = std::getenv("PATCHLIGHT_GPU_CAREFUL");
        careful_ = careful != nullptr && std::string(careful) != "0";
    }
    [[nodiscard]] std::string name() const override { return "cuda"; }
    [[nodiscard]] std::string description() const override {
        return "CUDA device " + std::to_string(number_) + ", " + properties_.name + ", " +
               std::to_string(properties_.totalGlobalMem >> 20) + " MiB, compute capability " +
               std::to_string(properties_.major) + "." + std::to_string(properties_.minor);
    }
    [[nodiscard]] DeviceLimits limits() const override {
        // Half warps: two blocks of roots on each scheduler's registers, and as many again to come.
        return {properties_.multiProcessorCount, properties_.maxThreadsPerBlock, properties_.sharedMemPerBlockOptin,
                properties_.multiProcessorCount * 16};
    }
    [[nodiscard]] std::size_t freeMemory() const override {
        std::size_t free = 0;
        std::size_t total = 0;
        check(cudaSetDevice(number_), "choosing the device");
        check(cudaMemGetInfo(&free, &total), "asking for free memory");
        return free;
    }
    [[nodiscard]] std::unique_ptr<Memory> allocate(std::size_t bytes) override {
        return std::make_unique<DeviceMemory>(number_, bytes);
    }
    [[nodiscard]] std::unique_ptr<Memory> allocatePinned(std::size_t bytes) override {
        return std::make_unique<PinnedMemory>(bytes);
    }
    [[nodiscard]] std::unique_ptr<Stream> makeStream() override {
        return std::make_unique<CudaStream>(number_, careful_);
    }

private:
    int number_;
    cudaDeviceProp properties_;
    bool careful_ = false;
};

std::string version(int number) { return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10); }

} // namespace

int cudaDeviceCount(std::string& why) {
    int driver = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
        (void)cudaGetLastError();
        why = "no NVIDIA driver was found";
        return 0;
    }
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    (void)cudaGetLastError();
    if (error == cudaErrorInsufficientDriver) {
        why = "the NVIDIA driver is too old: it knows CUDA " + version(driver) + ", this program was built with CUDA " +
              version(CUDART_VERSION);
        return 0;
    }
    if (error == cudaErrorNoDevice || (error == cudaSuccess && count == 0)) {
        const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
        why = "there is no CUDA device";
        if (visible != nullptr) why += std::string(" among those that CUDA_VISIBLE_DEVICES=") + visible + " names";
        return 0;
    }
    if (error != cudaSuccess) {
        why = "CUDA cannot be used: " + text(error);
        return 0;
    }
    return count;
}

std::unique_ptr<Device> makeCudaDevice(int number, std::string& why) {
    const int count = cudaDeviceCount(why);
    if (count == 0) return nullptr;
    if (number < 0 || number >= count) {
        why = "there is no device " + std::to_string(number) + ", only 0 to " + std::to_string(count - 1);
        return nullptr;
    }
    cudaDeviceProp properties{};
    cudaError_t error = cudaGetDeviceProperties(&properties, number);
    if (error == cudaSuccess) error = cudaSetDevice(number);
    if (error == cudaSuccess) error = cudaFree(nullptr); // makes the context now, so that a failure shows here
    cudaFuncAttributes attributes{};
    if (error == cudaSuccess) error = cudaFuncGetAttributes(&attributes, runTeam<FinishKernel>);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        why = "device " + std::to_string(number) + " (" + properties.name + ", compute capability " +
              std::to_string(properties.major) + "." + std::to_string(properties.minor) +
              ") cannot be used: " + text(error);
        return nullptr;
    }
    return std::make_unique<CudaDevice>(number, properties);
}

} // namespace patchlight::gpu
