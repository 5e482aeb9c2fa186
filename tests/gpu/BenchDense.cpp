// Not a test: square roots of full blocks by our kernel beside the batched routines of cuSOLVER, on matrices of the size and condition that patches
// have. The library is loaded at run time; without a GPU our kernel runs on the host, and the library is left out.
//
//     bench_dense [--orders 50,74,100] [--batch 1000]      a table; the last line is JSON
#include "core/cpu/InverseSquareRoot.h"
#include "core/cpu/SymmetricEigen.h"
#include "gpu/CudaDevice.h"
#include "gpu/HostDevice.h"
#include "gpu/Ladders.h"
#include "gpu/Launch.h"

#include <CLI/CLI.hpp>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

using namespace patchlight;
using namespace patchlight::gpu;

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

/// Matrices as overlaps of spots make them: bins of 0.8 beside spots of 0.65 (b and z cameras), each weighted a little differently.
std::vector<double> matrices(int n, int count) {
    std::mt19937 random(1);
    std::uniform_real_distribution<double> uniform(0.9, 1.1);
    std::vector<double> all;
    std::vector<double> weight(size(n));
    for (int m = 0; m < count; ++m) {
        for (double& w : weight) w = std::sqrt(uniform(random));
        for (int i = 0; i < n; ++i)
            for (int j = 0; j < n; ++j) {
                const double d = 0.8 * (i - j) / 0.65;
                all.push_back(weight[size(i)] * weight[size(j)] * std::exp(-d * d / 4));
            }
    }
    return all;
}

template <class T> T* carve(const Memory& memory, std::size_t& used, std::size_t count) {
    T* piece = reinterpret_cast<T*>(memory.data() + used);
    used += (count * sizeof(T) + 255) / 256 * 256;
    return piece;
}

/// Milliseconds of our kernel for all matrices, and the largest relative error of the first one's row sums.
double ours(Device& device, int n, int count, const std::vector<double>& all, double& error) {
    BatchView v;
    v.patches = v.denseSlots = count;
    v.maxSpec = 1;
    v.maxWave = n;
    v.ownWidth = 1;
    v.ndiag = 5;
    v.denseShared = DenseRootsKernel{v}.sharedDoubles() * sizeof(double) <= device.limits().sharedBytes;
    const std::size_t slot = DenseLayout::slot(1, n, v.denseShared);
    const std::size_t bins = size(n) * size(count);
    const auto memory = device.allocate((slot * size(count) + bins * 16) * sizeof(double) + (std::size_t{1} << 22));
    const auto host = device.allocatePinned(memory->size());
    std::memset(host->data(), 0, host->size());
    std::size_t used = 0;
    const auto onHost = [&](auto* p) {
        return reinterpret_cast<decltype(p)>(host->data() + (reinterpret_cast<std::byte*>(p) - memory->data()));
    };
    auto* const tasks = carve<PatchTask>(*memory, used, size(count));
    auto* const ladder = carve<Ladder>(*memory, used, 1);
    v.states = carve<PatchState>(*memory, used, size(count));
    v.patchOwn = carve<double>(*memory, used, bins);
    v.patchY = carve<double>(*memory, used, bins);
    v.x = carve<double>(*memory, used, bins);
    v.rowSum = carve<double>(*memory, used, bins);
    v.qx = carve<double>(*memory, used, bins);
    v.q = carve<double>(*memory, used, bins * 6);
    v.largest = carve<double>(*memory, used, size(count));
    v.condition = carve<double>(*memory, used, size(count));
    v.accepted = carve<int>(*memory, used, size(count));
    v.dense = carve<double>(*memory, used, slot * size(count));
    v.tasks = tasks;
    v.fineLadder = ladder;
    *onHost(ladder) = ladderOf(inverseSquareRootFineLadder());
    BatchView h = v;
    h.dense = onHost(v.dense);
    for (int m = 0; m < count; ++m) {
        PatchTask& task = onHost(tasks)[m];
        task = {};
        task.nspec = task.ncore = 1;
        task.nwave = n;
        onHost(v.states)[m] = {};
        onHost(v.states)[m].slot = m;
        const DenseBlocks blocks(h, m, 1, n);
        for (int direction = 0; direction < 2; ++direction)
            for (std::size_t k = 0; k < size(n) * size(n); ++k)
                blocks.block(direction, 0)[k] = 0.5 * all[size(m) * size(n) * size(n) + k];
    }
    const auto stream = device.makeStream();
    double best = 0;
    for (int repeat = 0; repeat < 4; ++repeat) {
        Timeline timeline;
        stream->copyIn(memory->data(), host->data(), used);
        stream->range(DenseRootsKernel::name);
        if (v.denseShared) {
            stream->launch(TeamLaunch{DenseSolutionsKernel{v}});
            stream->launch(TeamLaunch{DenseRootsKernel{v}});
        } else {
            stream->launch(TeamLaunch{WideDenseSolutionsKernel{v}});
            stream->launch(TeamLaunch{WideDenseRootsKernel{v}});
        }
        stream->wait(&timeline, {});
        const double ms = 1e-6 * static_cast<double>(timeline.records().front().duration);
        if (repeat > 0) best = best == 0 ? ms : std::min(best, ms);
    }
    stream->copyOut(host->data(), memory->data(), used);
    stream->wait(nullptr, {});

    SymmetricEigen eigen;
    if (!eigen.compute(all.data(), n)) throw Error("the eigenvalues of a matrix were not found");
    std::vector<double> roots = eigen.values();
    for (double& root : roots) root = std::sqrt(root);
    std::vector<double> q;
    eigen.compose(roots, q);
    error = 0;
    for (int i = 0; i < n; ++i) {
        double sum = 0;
        for (int j = 0; j < n; ++j) sum += q[size(i * n + j)];
        const double difference = std::abs(onHost(v.rowSum)[i] - sum) / std::abs(sum);
        if (!(difference <= error)) error = difference;
    }
    return best;
}

/// cuSOLVER, loaded at run time.
class Library {
public:
    Library() {
        for (const char* name : {"libcusolver.so.12", "libcusolver.so.11", "libcusolver.so"})
            if ((handle_ = dlopen(name, RTLD_NOW)) != nullptr) return;
        const char* const why = dlerror();
        reason = why != nullptr ? why : "not found";
    }
    template <class F> F* function(const char* name) const {
        return handle_ == nullptr ? nullptr : reinterpret_cast<F*>(dlsym(handle_, name));
    }
    std::string reason;

private:
    void* handle_ = nullptr;
};

void require(int code, const char* what) {
    if (code != 0) throw Error(fmt::format("{}: error {}", what, code));
}

/// The shortest of three calls, ms; `prepare` puts the matrices back.
double shortest(const std::function<void()>& prepare, const std::function<void()>& call) {
    double best = 0;
    for (int repeat = 0; repeat < 4; ++repeat) {
        prepare();
        require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        const auto start = std::chrono::steady_clock::now();
        call();
        require(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
        const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
        if (repeat > 0) best = best == 0 ? ms : std::min(best, ms);
    }
    return best;
}

/// Milliseconds of the library's routines; those that it has not are left out.
std::vector<std::pair<std::string, double>> theirs(Device& device, const Library& library, int n, int count,
                                                   const std::vector<double>& all) {
    std::vector<std::pair<std::string, double>> out;
    const auto create = library.function<decltype(cusolverDnCreate)>("cusolverDnCreate");
    if (create == nullptr) return out;
    cusolverDnHandle_t handle = nullptr;
    require(create(&handle), "cusolverDnCreate");
    const auto a = device.allocate(all.size() * sizeof(double));
    const auto w = device.allocate(size(n) * size(count) * sizeof(double));
    const auto info = device.allocate(size(count) * sizeof(int));
    auto* const matrix = reinterpret_cast<double*>(a->data());
    auto* const values = reinterpret_cast<double*>(w->data());
    auto* const codes = reinterpret_cast<int*>(info->data());
    const auto back = [&] {
        require(cudaMemcpy(matrix, all.data(), all.size() * sizeof(double), cudaMemcpyHostToDevice), "copying");
    };
    const auto vectorMode = CUSOLVER_EIG_MODE_VECTOR;
    const auto lower = CUBLAS_FILL_MODE_LOWER;

    const auto newInfo = library.function<decltype(cusolverDnCreateSyevjInfo)>("cusolverDnCreateSyevjInfo");
    const auto jacobiSize =
        library.function<decltype(cusolverDnDsyevjBatched_bufferSize)>("cusolverDnDsyevjBatched_bufferSize");
    const auto jacobi = library.function<decltype(cusolverDnDsyevjBatched)>("cusolverDnDsyevjBatched");
    if (newInfo != nullptr && jacobiSize != nullptr && jacobi != nullptr) {
        syevjInfo_t parameters = nullptr;
        require(newInfo(&parameters), "cusolverDnCreateSyevjInfo");
        int length = 0;
        require(jacobiSize(handle, vectorMode, lower, n, matrix, n, values, &length, parameters, count),
                "cusolverDnDsyevjBatched_bufferSize");
        const auto work = device.allocate(size(length) * sizeof(double));
        out.emplace_back("cusolverDnDsyevjBatched", shortest(back, [&] {
                             require(jacobi(handle, vectorMode, lower, n, matrix, n, values,
                                            reinterpret_cast<double*>(work->data()), length, codes, parameters, count),
                                     "cusolverDnDsyevjBatched");
                         }));
    }
#if CUSOLVER_VERSION >= 11701
    const auto newParameters = library.function<decltype(cusolverDnCreateParams)>("cusolverDnCreateParams");
    const auto eigenSize =
        library.function<decltype(cusolverDnXsyevBatched_bufferSize)>("cusolverDnXsyevBatched_bufferSize");
    const auto eigen = library.function<decltype(cusolverDnXsyevBatched)>("cusolverDnXsyevBatched");
    if (newParameters != nullptr && eigenSize != nullptr && eigen != nullptr) {
        cusolverDnParams_t parameters = nullptr;
        require(newParameters(&parameters), "cusolverDnCreateParams");
        std::size_t onDevice = 0;
        std::size_t onHost = 0;
        require(eigenSize(handle, parameters, vectorMode, lower, n, CUDA_R_64F, matrix, n, CUDA_R_64F, values,
                          CUDA_R_64F, &onDevice, &onHost, count),
                "cusolverDnXsyevBatched_bufferSize");
        const auto work = device.allocate(onDevice);
        std::vector<std::byte> hostWork(onHost);
        out.emplace_back("cusolverDnXsyevBatched", shortest(back, [&] {
                             require(eigen(handle, parameters, vectorMode, lower, n, CUDA_R_64F, matrix, n, CUDA_R_64F,
                                           values, CUDA_R_64F, work->data(), onDevice, hostWork.data(), onHost, codes,
                                           count),
                                     "cusolverDnXsyevBatched");
                         }));
    }
#endif
    const auto cholesky = library.function<decltype(cusolverDnDpotrfBatched)>("cusolverDnDpotrfBatched");
    if (cholesky != nullptr) {
        const auto pointers = device.allocate(size(count) * sizeof(double*));
        std::vector<double*> each(size(count));
        for (int m = 0; m < count; ++m) each[size(m)] = matrix + size(m) * size(n) * size(n);
        require(cudaMemcpy(pointers->data(), each.data(), each.size() * sizeof(double*), cudaMemcpyHostToDevice),
                "copying");
        out.emplace_back(
            "cusolverDnDpotrfBatched (Cholesky alone)", shortest(back, [&] {
                require(cholesky(handle, lower, n, reinterpret_cast<double**>(pointers->data()), n, codes, count),
                        "cusolverDnDpotrfBatched");
            }));
    }
    return out;
}

int run(int argc, char** argv) {
    std::vector<int> orders = {50, 74, 100};
    int batch = 1000;
    CLI::App app("square roots of full blocks: our kernel beside cuSOLVER's batched routines");
    app.add_option("--orders", orders, "orders of the matrices")->delimiter(',');
    app.add_option("--batch", batch, "matrices side by side")->check(CLI::Range(1, 100000));
    CLI11_PARSE(app, argc, argv);
    std::string why;
    std::unique_ptr<Device> device = makeCudaDevice(0, why);
    const bool cuda = device != nullptr;
    if (!cuda) device = makeHostDevice();
    fmt::print("{}{}\n", device->description(), cuda ? "" : " (" + why + ")");
    const Library library;
    if (cuda && !library.reason.empty()) fmt::print("cuSOLVER is left out: {}\n", library.reason);
    nlohmann::json report = {{"device", device->description()}, {"batch", batch}, {"rows", nlohmann::json::array()}};
    fmt::print("{:>6} {:<42} {:>10} {:>14}\n", "order", "", "ms", "us a matrix");
    for (const int n : orders) {
        const std::vector<double> all = matrices(n, batch);
        const auto line = [&](const std::string& name, double ms) {
            fmt::print("{:>6} {:<42} {:>10.3f} {:>14.3f}\n", n, name, ms, 1e3 * ms / batch);
            report["rows"].push_back({{"order", n}, {"routine", name}, {"ms", ms}});
        };
        double error = 0;
        const double ms = ours(*device, n, batch, all, error);
        line("ours: solution and root", ms);
        if (!(error < 1e-9)) throw Error(fmt::format("order {}: row sums are wrong by {:.1e}", n, error));
        if (!cuda) continue;
        for (const auto& [name, time] : theirs(*device, library, n, batch, all)) line(name, time);
    }
    fmt::print("{}\n", report.dump());
    return 0;
}

} // namespace

int main(int argc, char** argv) {
    try {
        return run(argc, argv);
    } catch (const std::exception& error) {
        fmt::print(stderr, "{}\n", error.what());
        return 1;
    }
}
