#include "gpu/DeviceBackend.h"

#include "core/base/Parallel.h"
#include "core/cpu/CpuBackend.h"
#include "core/cpu/InverseSquareRoot.h"
#include "core/cpu/LaneSolver.h"
#include "core/cpu/PatchSolver.h"
#include "core/cpu/SpotTile.h"
#include "core/engine/Seamless.h"
#include "core/frame/ExtractedFrame.h"
#include "gpu/BatchGeometry.h"
#include "gpu/Floors.h"
#include "gpu/Ladders.h"
#include "gpu/Launch.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace patchlight::gpu {

std::uint64_t nextStreamNumber() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

namespace {

std::size_t size(int count) { return static_cast<std::size_t>(count); }

constexpr std::size_t alignment = 256;
/// Shared memory that leaves room for several blocks on a multiprocessor.
constexpr std::size_t comfortableShared = 48 << 10;
/// Memory of a batch for patches that are solved with full blocks: room for all of a bundle's; the CPU solves those that have none. (Segments of
/// the seamless method always have one, since the CPU takes much longer for them, and so have patches that begin with full blocks.)
constexpr std::size_t fullBlocksMemory = std::size_t{256} << 20;

/// Gives out pieces of one block of memory; without one it only counts.
class Carver {
public:
    explicit Carver(std::byte* base) : base_(base) {}
    template <class T> T* take(std::size_t count) {
        T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
        used_ += (count * sizeof(T) + alignment - 1) / alignment * alignment;
        return piece;
    }
    [[nodiscard]] std::size_t used() const { return used_; }

private:
    std::byte* base_;
    std::size_t used_ = 0;
};

/// Sizes of the three parts of a workspace: what is copied in, what stays, what is copied out.
struct WorkspaceLayout {
    std::size_t in = 0;
    std::size_t work = 0;
    std::size_t out = 0;
    [[nodiscard]] std::size_t size() const { return in + work + out; }
};

// Each points the view's arrays of one part to where they lie. @return bytes

std::size_t carveIn(BatchView& v, std::byte* base) {
    Carver carver(base);
    const std::size_t spots = size(v.nspec) * size(v.nbins);
    const std::size_t strip = size(v.stripNx) * size(v.stripNy);
    v.pixels = carver.take<float>(strip);
    v.weights = carver.take<float>(strip);
    v.wavelength = carver.take<double>(size(v.nbins));
    v.traceX = carver.take<double>(spots);
    v.traceY = carver.take<double>(spots);
    v.cornerX = carver.take<int>(spots);
    v.cornerY = carver.take<int>(spots);
    v.active = carver.take<int>(size(v.nspec) * size(v.stripNy) * 2);
    v.tasks = carver.take<PatchTask>(size(v.patches));
    v.subbundles = carver.take<SubbundleTask>(size(v.nspec));
    return carver.used();
}

/// @param pieces of work for the roots; @param pixels of all patches' windows
std::size_t carveWork(BatchView& v, std::byte* base, std::size_t pieces, std::size_t pixels) {
    Carver carver(base);
    const std::size_t spots = size(v.nspec) * size(v.nbins);
    const std::size_t bins = size(v.patches) * size(v.maxSpec) * size(v.maxWave);
    const std::size_t spectra = size(v.patches) * size(v.maxSpec);
    v.stamps = carver.take<double>(spots * size(v.stampStride));
    v.own = carver.take<double>(spots * size(v.ownWidth));
    v.next = carver.take<double>(spots * size(v.nextWidth()));
    for (double** array : {&v.spotSum, &v.second, &v.y, &v.fluxweight, &v.unmasked})
        *array = carver.take<double>(spots);
    v.patchOwn = carver.take<double>(bins * size(v.ownWidth));
    v.patchNext = carver.take<double>(bins * size(v.nextWidth()));
    for (double** array : {&v.patchY, &v.patchWeight, &v.side[0], &v.side[1], &v.leak[0], &v.leak[1], &v.x, &v.residual,
                           &v.rowSum, &v.qx})
        *array = carver.take<double>(bins);
    for (double*& block : v.block) block = carver.take<double>(bins * (widestBand + 1));
    v.q = carver.take<double>(bins * size(v.ndiag + 1));
    v.accepted = carver.take<int>(spectra);
    for (double** array : {&v.largest, &v.condition, &v.relativeLeak, &v.relativeOuter})
        *array = carver.take<double>(spectra);
    v.rootWork = carver.take<double>(pieces * v.rootWorkSize);
    v.dense = carver.take<double>(size(v.denseSlots) * DenseLayout::slot(v.maxSpec, v.maxWave, v.denseShared));
    v.chi2 = carver.take<double>(2 * pixels);
    return carver.used();
}

std::size_t carveOut(BatchView& v, std::byte* base) {
    Carver carver(base);
    const std::size_t plane = size(v.rows) * size(v.columns);
    for (double** array : {&v.flux, &v.ivar, &v.xflux, &v.outWeight, &v.chi2pix, &v.pixmask})
        *array = carver.take<double>(plane);
    v.resolution = carver.take<double>(plane * size(2 * v.ndiag + 1));
    v.modelFlux = carver.take<double>(size(v.rows) * size(v.modelColumns));
    v.mask = carver.take<std::uint32_t>(plane);
    v.states = carver.take<PatchState>(size(v.patches));
    v.reports = carver.take<SpectrumReport>(size(v.patches) * size(v.maxSpec));
    return carver.used();
}

// The same for a piece of the model image.

std::size_t carveModelIn(BatchView& v, std::byte* base) {
    Carver carver(base);
    const std::size_t spots = size(v.nspec) * size(v.nbins);
    v.wavelength = carver.take<double>(size(v.nbins));
    v.traceX = carver.take<double>(spots);
    v.traceY = carver.take<double>(spots);
    v.paint = carver.take<double>(spots);
    v.cornerX = carver.take<int>(spots);
    v.cornerY = carver.take<int>(spots);
    v.active = carver.take<int>(size(v.nspec) * size(v.stripNy) * 2);
    return carver.used();
}
std::size_t carveModelWork(BatchView& v, std::byte* base) {
    Carver carver(base);
    const std::size_t spots = size(v.nspec) * size(v.nbins);
    v.stamps = carver.take<double>(spots * size(v.stampStride));
    v.spotSum = carver.take<double>(spots);
    return carver.used();
}
std::size_t carveModelOut(BatchView& v, std::byte* base) {
    Carver carver(base);
    v.strip = carver.take<float>(size(v.stripNx) * size(v.stripNy));
    return carver.used();
}

/// Bins a block of the spots' kernel, so that its memory leaves room for several blocks.
SpotsKernel spotsKernel(const BatchView& v) {
    SpotsKernel spots{v, 8};
    while (spots.binsPerBlock > 1 && spots.sharedDoubles() * sizeof(double) > comfortableShared)
        spots.binsPerBlock /= 2;
    return spots;
}

/// Likewise.
SumsKernel sumsKernel(const BatchView& v, const DeviceLimits& limits) {
    SumsKernel sums{v, 8};
    const std::size_t most = std::min(2 * comfortableShared, limits.sharedBytes);
    while (sums.binsPerBlock > 1 && sums.sharedDoubles() * sizeof(double) > most) sums.binsPerBlock /= 2;
    return sums;
}

WorkspaceLayout layoutOf(BatchView v, std::size_t pieces, std::size_t pixels) {
    return {carveIn(v, nullptr), carveWork(v, nullptr, pieces, pixels), carveOut(v, nullptr)};
}

/// Memory and stream of one lane; kept from frame to frame.
struct Lane {
    std::unique_ptr<Stream> stream;
    std::unique_ptr<Memory> workspace;
    std::unique_ptr<Memory> in;  ///< pinned
    std::unique_ptr<Memory> out; ///< pinned
    BatchGeometry geometry;      ///< of the batch at hand

    /// Makes room for a batch. @throws OutOfDeviceMemory
    void require(Device& device, const WorkspaceLayout& layout) {
        if (!stream) stream = device.makeStream();
        const auto grow = [](std::unique_ptr<Memory>& memory, std::size_t bytes, const auto& allocate) {
            if (memory && memory->size() >= bytes) return;
            memory.reset();
            memory = allocate(bytes);
        };
        grow(workspace, layout.size(), [&](std::size_t bytes) { return device.allocate(bytes); });
        grow(in, layout.in, [&](std::size_t bytes) { return device.allocatePinned(bytes); });
        grow(out, layout.out, [&](std::size_t bytes) { return device.allocatePinned(bytes); });
    }
};

/// Copies of the PSF and of the square roots' poles on the device.
class Constants {
public:
    /// Takes the place of what was there; memory is kept where it is large enough.
    void assign(Device& device, const PsfView& psf) {
        const std::size_t nspec = size(psf.nspec);
        view_ = psf;
        for (const bool real : {false, true}) {
            Carver carver(real ? staging_->data() : nullptr);
            double* coeff = carver.take<double>(nspec * size(psf.nparam) * size(psf.ncoeff));
            double* domain = carver.take<double>(2 * size(psf.nparam));
            double* coeffX = carver.take<double>(nspec * size(psf.ncoeffX));
            double* coeffY = carver.take<double>(nspec * size(psf.ncoeffY));
            Ladder* ladders = carver.take<Ladder>(3);
            if (!real) {
                if (!memory_ || memory_->size() < carver.used()) {
                    staging_ = device.allocatePinned(carver.used());
                    memory_ = device.allocate(carver.used());
                }
                continue;
            }
            std::copy_n(psf.coeff, nspec * size(psf.nparam) * size(psf.ncoeff), coeff);
            std::copy_n(psf.domain, 2 * size(psf.nparam), domain);
            std::copy_n(psf.coeffX, nspec * size(psf.ncoeffX), coeffX);
            std::copy_n(psf.coeffY, nspec * size(psf.ncoeffY), coeffY);
            ladders[0] = ladderOf(inverseSquareRootLadder());
            ladders[1] = ladderOf(inverseSquareRootFineLadder());
            ladders[2] = ladderOf(gpu::deepLadder());
            const auto onDevice = [&](auto* p) {
                return reinterpret_cast<decltype(p)>(memory_->data() +
                                                     (reinterpret_cast<std::byte*>(p) - staging_->data()));
            };
            view_.coeff = onDevice(coeff);
            view_.domain = onDevice(domain);
            view_.coeffX = onDevice(coeffX);
            view_.coeffY = onDevice(coeffY);
            ladders_ = onDevice(ladders);
        }
        if (!stream_) stream_ = device.makeStream();
        stream_->copyIn(memory_->data(), staging_->data(), staging_->size());
        stream_->wait(nullptr, {});
    }
    [[nodiscard]] const PsfView& psf() const { return view_; }
    [[nodiscard]] const Ladder* ladder() const { return ladders_; }
    [[nodiscard]] const Ladder* fineLadder() const { return ladders_ + 1; }
    [[nodiscard]] const Ladder* deepLadder() const { return ladders_ + 2; }

private:
    std::unique_ptr<Stream> stream_;
    std::unique_ptr<Memory> staging_;
    std::unique_ptr<Memory> memory_;
    PsfView view_;
    const Ladder* ladders_ = nullptr;
};

/// What outlives a frame: the device, and lanes and constants that no frame uses at the moment.
class Shared {
public:
    explicit Shared(std::unique_ptr<Device> one) : device(std::move(one)) {}
    std::unique_ptr<Device> device;
    // Of all frames: patches, those with full blocks, and their spectra that were given roots of them, corrected and full.
    std::atomic<long> patches{0};
    std::atomic<long> full{0};
    std::atomic<long> corrected{0};
    std::atomic<long> rooted{0};

    [[nodiscard]] std::unique_ptr<Lane> takeLane() {
        const std::lock_guard lock(mutex_);
        if (idle_.empty()) return std::make_unique<Lane>();
        std::unique_ptr<Lane> lane = std::move(idle_.back());
        idle_.pop_back();
        return lane;
    }
    [[nodiscard]] std::unique_ptr<Constants> takeConstants() {
        const std::lock_guard lock(mutex_);
        if (constants_.empty()) return std::make_unique<Constants>();
        std::unique_ptr<Constants> one = std::move(constants_.back());
        constants_.pop_back();
        return one;
    }
    void giveConstants(std::unique_ptr<Constants> one) {
        const std::lock_guard lock(mutex_);
        constants_.push_back(std::move(one));
    }
    void giveLane(std::unique_ptr<Lane> lane) {
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(lane));
    }
    /// Bytes that lanes hold which nobody uses.
    [[nodiscard]] std::size_t idleMemory() {
        const std::lock_guard lock(mutex_);
        std::size_t bytes = 0;
        for (const auto& lane : idle_) bytes += lane->workspace ? lane->workspace->size() : 0;
        return bytes;
    }
    /// Frees the memory of lanes that nobody uses.
    void dropIdle() {
        const std::lock_guard lock(mutex_);
        idle_.clear();
    }

private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<Lane>> idle_;
    std::vector<std::unique_ptr<Constants>> constants_;
};

class DeviceJob final : public FrameJob {
public:
    DeviceJob(const FrameInput& input, const DeviceBackendOptions& options, int lanes, std::shared_ptr<Shared> shared,
              Backend& cpu)
        : input_(input), options_(options), shared_(std::move(shared)), device_(*shared_->device),
          constants_(shared_->takeConstants()), cpu_(cpu.begin(input, lanes)) {
        wanted_ = std::max(1, std::min(lanes, options.streams));
    }
    ~DeviceJob() override {
        if (onCpu_ > 0)
            spdlog::info(
                "{}: {} of {} patches were left to the CPU (masks, bright light, or a layout that does not fit)",
                device_.name(), onCpu_.load(), input_.plan->patchCount());
        for (auto& lane : lanes_) shared_->giveLane(std::move(lane));
        shared_->giveConstants(std::move(constants_));
    }

    [[nodiscard]] int lanes() const override {
        prepare();
        return static_cast<int>(lanes_.size());
    }

    void run(const Batch& batch, int lane, const FrameOutput& output) override {
        prepare();
        if (batch.steps.count() > steps_) {
            if (seamless() && !located(*lanes_[size(lane)], batch)) {
                leaveBundle(batch, lane, output);
                return;
            }
            for (int step = batch.steps.first; step < batch.steps.last; step += steps_)
                run({batch.subbundles, {step, std::min(batch.steps.last, step + steps_)}}, lane, output);
            return;
        }
        const Plan& plan = *input_.plan;
        const RangeTags tags{plan.subbundles[size(batch.subbundles.first)].bundle, batch.steps.first,
                             batch.subbundles.count() * batch.steps.count()};
        const NamedRange range(input_.timeline, "batch", tags);
        Lane& work = *lanes_[size(lane)];
        {
            const NamedRange geometry(input_.timeline, "geometry", tags);
            if (!located(work, batch)) {
                if (seamless()) {
                    leaveBundle(batch, lane, output);
                } else if (tags.patches > 1) {
                    // Each patch for itself, so that where it is solved does not depend on its batch.
                    for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub)
                        for (int step = batch.steps.first; step < batch.steps.last; ++step)
                            run({{sub, sub + 1}, {step, step + 1}}, lane, output);
                } else {
                    leavePatch(batch.subbundles.first, batch.steps.first, lane, output, 0);
                }
                return;
            }
        }
        try {
            solve(work, tags);
        } catch (const OutOfDeviceMemory& error) {
            // Another program on the device has taken what was free.
            if (batch.steps.count() == 1) {
                spdlog::warn("{}: out of memory ({}); the CPU solves bundle {}, step {}", device_.description(),
                             error.what(), tags.bundle, tags.step);
                for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub)
                    leavePatch(sub, batch.steps.first, lane, output, 0);
                return;
            }
            spdlog::warn("{}: out of memory ({}); bundle {}, steps from {} in two halves", device_.description(),
                         error.what(), tags.bundle, tags.step);
            const int half = batch.steps.first + batch.steps.count() / 2;
            run({batch.subbundles, {batch.steps.first, half}}, lane, output);
            run({batch.subbundles, {half, batch.steps.last}}, lane, output);
            return;
        } catch (const Error& error) {
            throw Error(fmt::format("{}: bundle {}, {} patches from wavelength step {}: {}", device_.description(),
                                    tags.bundle, tags.patches, tags.step, error.what()));
        }
        collect(batch, work, lane, output);
        if (options_.counts) {
            ++options_.counts->batches;
            options_.counts->patches += tags.patches;
        }
    }

    [[nodiscard]] PatchDetail inspect(const Patch& patch) override { return cpu_->inspect(patch); }

    /// What the batches of the whole frame compute and move.
    [[nodiscard]] std::vector<std::vector<StageWork>> work() const {
        FullBlockShare full;
        if (const double all = static_cast<double>(shared_->patches); all > 0) {
            full.patches = static_cast<double>(shared_->full) / all;
            if (const double some = static_cast<double>(shared_->full); some > 0) {
                full.corrected = static_cast<double>(shared_->corrected) / some;
                full.spectra = static_cast<double>(shared_->rooted) / some;
            }
        }
        prepare();
        std::vector<std::vector<StageWork>> batches;
        for (const Batch& batch : makeBatches(*input_.plan, steps_)) {
            BatchGeometry geometry;
            if (!geometry.locate(input_.psf, *input_.plan, batch, input_.ccd)) continue;
            const BatchView v = sizes(geometry);
            const WorkspaceLayout layout = layoutOf(v, pieces(v), geometry.pixels());
            batches.push_back(countWork(v, geometry, full, layout.in, layout.out));
        }
        return batches;
    }

private:
    /// Takes memory of the device, once, when it is first needed: a patch that is only looked at needs none.
    void prepare() const {
        std::call_once(prepared_, [this] {
            constants_->assign(device_, input_.psf);
            makeLanes(wanted_);
            if (seamless()) exact_.resize(lanes_.size());
        });
    }

    [[nodiscard]] bool seamless() const { return input_.plan->options.method == Method::Seamless; }

    /// Works out where a batch lies. @return false where that, or its size, does not suit the device
    [[nodiscard]] bool located(Lane& lane, const Batch& batch) const {
        return lane.geometry.locate(input_.psf, *input_.plan, batch, input_.ccd) && fits(sizes(lane.geometry));
    }

    void countOnCpu(int patches) {
        onCpu_ += patches;
        if (options_.counts) options_.counts->onCpu += patches;
    }

    /// The CPU solves a bundle by the seamless method.
    void leaveBundle(const Batch& batch, int lane, const FrameOutput& output) {
        cpu_->run(batch, lane, output);
        countOnCpu(batch.subbundles.count() * batch.steps.count());
    }

    /// The CPU solves a patch: by the seamless method with all couplings, and as much around it as its results feel.
    /// @param reasons PatchStatus bits of the rungs before
    void leavePatch(int sub, int step, int lane, const FrameOutput& output, std::uint32_t reasons) {
        countOnCpu(1);
        if (!seamless()) {
            cpu_->run({{sub, sub + 1}, {step, step + 1}}, lane, output);
            return;
        }
        const Plan& plan = *input_.plan;
        const NamedRange range(input_.timeline, "exact patch", {plan.subbundles[size(sub)].bundle, step, 1});
        Exact& exact = exact_[size(lane)];
        const int context = BatchGeometry::seamlessContext(input_.psf, plan, sub, input_.ccd.ny);
        const Patch patch = seamless::contextPatch(plan, plan.patch(sub, step), context);
        exact.tile.evaluate(input_.psf, plan.grid, patch.spectra, patch.bins, plan.options.psfTail);
        exact.solver.solve(input_, exact.tile, patch, &output, nullptr);
        if (output.reports != nullptr)
            output.reports[size(sub) * size(plan.nsteps) + size(step)].status |=
                reasons | static_cast<std::uint32_t>(PatchStatus::Exact);
    }

    /// The view's sizes, for a batch whose spots lie as `geometry` says.
    [[nodiscard]] BatchView sizes(const BatchGeometry& geometry) const {
        const Plan& plan = *input_.plan;
        BatchView v;
        v.psf = constants_->psf();
        v.ladder = constants_->ladder();
        v.tail = plan.options.psfTail;
        v.reconvolved = plan.options.modelFlux == ModelFlux::Reconvolved;
        v.psferr = plan.psferr;
        v.regularize = plan.options.regularize;
        v.bounds = options_.bounds;
        v.ndiag = plan.ndiag;
        v.ccdNx = input_.ccd.nx;
        v.ccdNy = input_.ccd.ny;
        geometry.describe(v);
        v.fineLadder = v.seamless ? constants_->deepLadder() : constants_->fineLadder();
        v.denseShared = true;
        v.denseShared = fitsShared(DenseKernel{v}) && fitsShared(DenseRootsKernel{v});
        const std::size_t slot = DenseLayout::slot(v.maxSpec, v.maxWave, v.denseShared) * sizeof(double);
        const bool allWant = v.seamless || !v.bandsFirst;
        v.denseSlots =
            allWant ? v.patches : std::min(v.patches, std::max(1, static_cast<int>(fullBlocksMemory / slot)));
        v.rootWorkSize = std::max(RootsKernel<LaneSolver::band>::workSize(v.maxWave),
                                  CorrectedRootsKernel<LaneSolver::band>::workSize(v.maxWave));
        return v;
    }
    /// True where the largest kernels' blocks fit on the device.
    [[nodiscard]] bool fits(const BatchView& v) const {
        const EliminateKernel<widestBand> widest{v};
        const DeviceLimits limits = device_.limits();
        return widest.threads() <= std::min(mostMembers, limits.threads) && fitsShared(widest) &&
               fitsShared(SpotsKernel{v, 1}) && fitsShared(FinishKernel{v}) && fitsShared(sumsKernel(v, limits)) &&
               fitsShared(BinsKernel{v}) && fitsShared(DenseKernel{v}) && fitsShared(WideDenseRootsKernel{v});
    }
    template <class Kernel> [[nodiscard]] bool fitsShared(const Kernel& kernel) const {
        return kernel.sharedDoubles() * sizeof(double) <= device_.limits().sharedBytes;
    }
    [[nodiscard]] std::size_t pieces(const BatchView& v) const {
        const int groups = std::min(v.patches * v.maxSpec, device_.limits().groups);
        return size((groups + groupsPerBlock - 1) / groupsPerBlock * groupsPerBlock);
    }

    /// Room for a batch of a bundle in the middle of the frame, and a little more; a batch that needs more than that makes its lane's
    /// workspace grow.
    [[nodiscard]] WorkspaceLayout needed(int steps) const {
        const Plan& plan = *input_.plan;
        const int middle = static_cast<int>(plan.subbundles.size()) / 2;
        const auto sameBundle = [&](int sub) {
            return sub >= 0 && sub < static_cast<int>(plan.subbundles.size()) &&
                   plan.subbundles[size(sub)].bundle == plan.subbundles[size(middle)].bundle;
        };
        IndexRange subbundles{middle, middle + 1};
        while (sameBundle(subbundles.first - 1)) --subbundles.first;
        while (sameBundle(subbundles.last)) ++subbundles.last;
        BatchGeometry geometry;
        if (!geometry.locate(input_.psf, plan, {subbundles, {0, steps}}, input_.ccd)) return {};
        const BatchView v = sizes(geometry);
        const WorkspaceLayout exact = layoutOf(v, pieces(v), geometry.pixels());
        const auto more = [](std::size_t bytes) { return (bytes + bytes / 16 + alignment) / alignment * alignment; };
        return {more(exact.in), more(exact.work), more(exact.out)};
    }

    /// As many lanes, and as many steps a batch, as fit into the device's memory.
    void makeLanes(int wanted) const {
        std::size_t budget = device_.freeMemory() / 10 * 9 + shared_->idleMemory();
        if (options_.memory != 0) budget = std::min(budget, options_.memory);
        steps_ = input_.plan->nsteps;
        WorkspaceLayout each = needed(steps_);
        while (each.size() > budget && steps_ > 1) {
            steps_ = (steps_ + 1) / 2;
            each = needed(steps_);
        }
        const std::size_t fit = budget / std::max<std::size_t>(each.size(), 1);
        int count = std::max(1, fit < size(wanted) ? static_cast<int>(fit) : wanted);
        while (true) {
            try {
                while (static_cast<int>(lanes_.size()) < count) {
                    lanes_.push_back(shared_->takeLane());
                    lanes_.back()->require(device_, each);
                }
                return;
            } catch (const OutOfDeviceMemory& error) {
                lanes_.clear();
                shared_->dropIdle();
                if (count > 1) {
                    count = (count + 1) / 2;
                } else if (steps_ > 1) {
                    steps_ = (steps_ + 1) / 2;
                    each = needed(steps_);
                } else {
                    throw Error(fmt::format("{}: not even one wavelength step of a bundle fits into its memory ({}); "
                                            "--backend cpu needs no device",
                                            device_.description(), error.what()));
                }
                spdlog::warn("{}: out of memory ({}); going on with {} stream{} and {} wavelength step{} a batch",
                             device_.description(), error.what(), count, count == 1 ? "" : "s", steps_,
                             steps_ == 1 ? "" : "s");
            }
        }
    }

    void solve(Lane& lane, const RangeTags& tags) {
        BatchView v = sizes(lane.geometry);
        const std::size_t work = pieces(v);
        const WorkspaceLayout layout = layoutOf(v, work, lane.geometry.pixels());
        lane.require(device_, layout);
        std::byte* const base = lane.workspace->data();
        BatchView host = v;
        (void)carveIn(host, lane.in->data());
        (void)carveIn(v, base);
        (void)carveWork(v, base + layout.in, work, lane.geometry.pixels());
        (void)carveOut(v, base + layout.in + layout.work);
        {
            const NamedRange range(input_.timeline, "pack", tags);
            lane.geometry.fill(host, input_.ccd);
        }
        Stream& stream = *lane.stream;
        stream.range("gpu copy in");
        stream.copyIn(base, lane.in->data(), layout.in);
        stream.clear(base + layout.in + layout.work, layout.out); // patches that are left to the CPU write nothing
        const auto launch = [&](const auto& kernel) {
            stream.range(kernel.name);
            stream.launch(TeamLaunch{kernel});
        };
        const auto launchGroups = [&](const auto& kernel) {
            stream.range(kernel.name);
            stream.launch(GroupLaunch{kernel, work});
        };
        launch(spotsKernel(v));
        launch(sumsKernel(v, device_.limits()));
        launch(GatherKernel{v});
        if (v.bandsFirst) {
            launch(EliminateKernel<LaneSolver::band>{v});
            launchGroups(RootsKernel<LaneSolver::band>{v, false});
            launch(ResidualKernel{v});
            launchGroups(RootsKernel<LaneSolver::band>{v, true});
            launch(FinishKernel{v, FinishKernel::Stage::Bands});
        }
        launch(DenseKernel{v});
        if (v.denseShared)
            launch(DenseSolutionsKernel{v});
        else
            launch(WideDenseSolutionsKernel{v});
        if (!v.seamless) {
            launchGroups(CorrectedRootsKernel<LaneSolver::band>{v});
            launch(FinishKernel{v, FinishKernel::Stage::Corrected});
        }
        if (v.denseShared)
            launch(DenseRootsKernel{v});
        else
            launch(WideDenseRootsKernel{v});
        launch(FinishKernel{v, FinishKernel::Stage::Full});
        launch(PixelsKernel{v});
        launch(BinsKernel{v});
        stream.range("gpu copy out");
        stream.copyOut(lane.out->data(), base + layout.in + layout.work, layout.out);
        {
            const NamedRange range(input_.timeline, "wait for the device", tags);
            stream.wait(input_.timeline, tags);
        }
        if (options_.observer) options_.observer(v, device_, stream);
    }

    /// Brings what was copied out into the frame; what the device did not solve, the CPU does.
    void collect(const Batch& batch, Lane& lane, int number, const FrameOutput& output) {
        const Plan& plan = *input_.plan;
        BatchView v = sizes(lane.geometry);
        (void)carveOut(v, lane.out->data());
        {
            const NamedRange range(input_.timeline, "unpack");
            const BatchGeometry& geometry = lane.geometry;
            ExtractedFrame& frame = *output.frame;
            const std::size_t columns = size(v.columns);
            const std::size_t column = size(geometry.firstColumn());
            for (int r = 0; r < v.rows; ++r) {
                const int spectrum = geometry.firstRow() + r;
                if (spectrum < plan.specmin || spectrum >= plan.specmin + plan.nspec) continue;
                const std::size_t to = size(spectrum - plan.specmin);
                const std::size_t from = size(r) * columns;
                const std::pair<Array2<double>*, const double*> planes[] = {
                    {&frame.flux, v.flux},       {&frame.ivar, v.ivar},
                    {&frame.xflux, v.xflux},     {&frame.fluxweight, v.outWeight},
                    {&frame.chi2pix, v.chi2pix}, {&frame.pixmaskFraction, v.pixmask}};
                for (const auto& [array, plane] : planes) std::copy_n(plane + from, columns, &(*array)(to, column));
                std::copy_n(v.mask + from, columns, &frame.mask(to, column));
                for (std::size_t k = 0; k < size(2 * v.ndiag + 1); ++k)
                    std::copy_n(v.resolution + (size(r) * size(2 * v.ndiag + 1) + k) * columns, columns,
                                &frame.resolution(to, k, column));
                if (output.modelFlux != nullptr)
                    std::copy_n(v.modelFlux + size(r) * size(v.modelColumns), size(v.modelColumns),
                                &(*output.modelFlux)(to, size(batch.steps.first * plan.grid.nwavestep)));
            }
        }
        const int steps = batch.steps.count();
        for (int p = 0; p < v.patches; ++p) {
            const PatchState& state = v.states[p];
            ++shared_->patches;
            if (state.slot >= 0) ++shared_->full;
            shared_->corrected += state.corrected;
            shared_->rooted += state.rooted;
            if (options_.counts) {
                options_.counts->corrected += state.corrected;
                options_.counts->rooted += state.rooted;
            }
        }
        for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub)
            for (int step = batch.steps.first; step < batch.steps.last; ++step) {
                const int p = (v.seamless ? 0 : sub - batch.subbundles.first) * steps + step - batch.steps.first;
                bool open = false;
                const PatchReport report =
                    reportOf(v, lane.geometry.tasks()[size(p)], p, plan.subbundles[size(sub)], open);
                if (v.seamless ? open : v.states[p].open != 0)
                    leavePatch(sub, step, number, output, v.seamless ? report.status : 0);
                else if (output.reports != nullptr)
                    output.reports[size(sub) * size(plan.nsteps) + size(step)] = report;
            }
    }

    /// The report of a subbundle's part of a patch of the batch, which is all of it but in the seamless method.
    /// @param open set where one of its core spectra has not been accepted
    [[nodiscard]] static PatchReport reportOf(const BatchView& v, const PatchTask& task, int patch,
                                              const Subbundle& subbundle, bool& open) {
        PatchReport report;
        const int first = v.firstSpectrum + task.spectrum; // spectrum 0 of the patch
        bool lit = false;
        for (int s = 0; s < task.nspec; ++s) {
            const SpectrumReport& one = v.reports[v.spectrumOf(patch, s)];
            if (subbundle.padded.contains(first + s) && one.lit != 0) lit = true;
            if (!subbundle.core.contains(first + s)) continue;
            report.status |= one.climbed;
            open = open || one.open != 0;
            report.error = std::max(report.error, one.error);
            report.condition = std::max(report.condition, one.condition);
        }
        if (v.states[patch].empty != 0 || (v.seamless && !lit))
            report = {static_cast<std::uint32_t>(PatchStatus::NoPixels), 0.0, 0.0};
        return report;
    }

    FrameInput input_;
    DeviceBackendOptions options_;
    std::shared_ptr<Shared> shared_;
    Device& device_;
    std::unique_ptr<Constants> constants_;
    std::unique_ptr<FrameJob> cpu_;
    int wanted_ = 1; ///< lanes, at most
    mutable std::once_flag prepared_;
    mutable int steps_ = 1; ///< of a batch, at most
    std::atomic<int> onCpu_{0};
    mutable std::vector<std::unique_ptr<Lane>> lanes_;
    /// What the CPU solves patches of the seamless method with.
    struct Exact {
        SpotTile tile;
        PatchSolver solver;
    };
    mutable std::vector<Exact> exact_; ///< by lane
};

class DeviceBackend final : public Backend {
public:
    DeviceBackend(std::unique_ptr<Device> device, const DeviceBackendOptions& options)
        : options_(options), shared_(std::make_shared<Shared>(std::move(device))),
          cpu_(makeCpuBackend({.exact = false, .bounds = options.bounds})) {}
    [[nodiscard]] std::string name() const override { return shared_->device->name(); }
    [[nodiscard]] std::string description() const override { return shared_->device->description(); }
    [[nodiscard]] int batchSteps(const Plan& plan) const override {
        return onDevice(plan) ? plan.nsteps : cpu_->batchSteps(plan);
    }
    [[nodiscard]] std::unique_ptr<FrameJob> begin(const FrameInput& input, int lanes) override {
        const Plan& plan = *input.plan;
        if (!onDevice(plan)) {
            spdlog::warn("{}: --decorrelate noise is not done on the device yet; the CPU does it", name());
            return cpu_->begin(input, lanes);
        }
        const int wanted = lanes > 0 ? lanes : options_.streams;
        return std::make_unique<DeviceJob>(input, options_, wanted, shared_, *cpu_);
    }

    [[nodiscard]] std::vector<StageFloor> floors(const FrameInput& input) override {
        if (!onDevice(*input.plan)) return {};
        const DeviceJob job(input, options_, options_.streams, shared_, *cpu_);
        return floorsOf(job.work(), measureRates(*shared_->device), job.lanes());
    }

    [[nodiscard]] std::vector<float> paintModel(const ModelPainting& model) override {
        std::vector<float> image;
        try {
            image = painted(model);
        } catch (const OutOfDeviceMemory& error) {
            spdlog::warn("{}: out of memory ({}); the CPU paints the model image", name(), error.what());
        }
        return image;
    }

private:
    /// Some spectra at a time, each on a stream of its own, put together in their order.
    [[nodiscard]] std::vector<float> painted(const ModelPainting& model) {
        const Plan& plan = *model.plan;
        constexpr int together = 25;
        const int nspec = static_cast<int>(model.modelFlux->rows());
        const int nbins = static_cast<int>(model.modelFlux->columns());
        struct Strip {
            bool done = false;
            IndexRange x, y;
            std::vector<float> values;
        };
        std::vector<Strip> strips(size((nspec + together - 1) / together));
        const std::size_t workers = workersFor(strips.size(), options_.streams);
        Device& device = *shared_->device;
        struct Borrowed {
            explicit Borrowed(std::shared_ptr<Shared> from, std::size_t count)
                : shared(std::move(from)), constants(shared->takeConstants()) {
                for (std::size_t i = 0; i < count; ++i) lanes.push_back(shared->takeLane());
            }
            ~Borrowed() {
                for (auto& lane : lanes) shared->giveLane(std::move(lane));
                shared->giveConstants(std::move(constants));
            }
            Borrowed(const Borrowed&) = delete;
            Borrowed& operator=(const Borrowed&) = delete;
            std::shared_ptr<Shared> shared;
            std::unique_ptr<Constants> constants;
            std::vector<std::unique_ptr<Lane>> lanes;
        } borrowed(shared_, workers);
        borrowed.constants->assign(device, model.psf);
        forEachParallel(strips.size(), static_cast<int>(workers), [&](std::size_t index, std::size_t worker) {
            Lane& lane = *borrowed.lanes[worker];
            const int first = static_cast<int>(index) * together;
            const int count = std::min(together, nspec - first);
            const IndexRange spectra{plan.specmin + first, plan.specmin + first + count};
            if (!lane.geometry.locateSpots(model.psf, plan, spectra, {plan.grid.pad, plan.grid.pad + nbins}, model.nx,
                                           model.ny))
                return;
            BatchView v;
            v.psf = borrowed.constants->psf();
            v.tail = plan.options.psfTail;
            lane.geometry.describe(v);
            WorkspaceLayout layout{carveModelIn(v, nullptr), carveModelWork(v, nullptr), carveModelOut(v, nullptr)};
            lane.require(device, layout);
            std::byte* const base = lane.workspace->data();
            BatchView host = v;
            (void)carveModelIn(host, lane.in->data());
            (void)carveModelOut(host, lane.out->data());
            (void)carveModelIn(v, base);
            (void)carveModelWork(v, base + layout.in);
            (void)carveModelOut(v, base + layout.in + layout.work);
            const SpotsKernel spots = spotsKernel(v);
            if (spots.sharedDoubles() * sizeof(double) > device.limits().sharedBytes) return;
            lane.geometry.fillSpots(host);
            for (int s = 0; s < count; ++s) {
                const auto row = model.modelFlux->row(size(first + s));
                std::copy(row.begin(), row.end(), const_cast<double*>(host.paint) + size(s) * size(nbins));
            }
            Stream& stream = *lane.stream;
            stream.range("gpu copy in");
            stream.copyIn(base, lane.in->data(), layout.in);
            stream.range(SpotsKernel::name);
            stream.launch(TeamLaunch{spots});
            stream.range(ModelKernel::name);
            stream.launch(TeamLaunch{ModelKernel{v}});
            stream.range("gpu copy out");
            stream.copyOut(lane.out->data(), base + layout.in + layout.work, layout.out);
            stream.wait(model.timeline, {plan.subbundles.front().bundle + static_cast<int>(index), 0, 0});
            Strip& strip = strips[index];
            strip.x = {v.stripX, v.stripX + v.stripNx};
            strip.y = {v.stripY, v.stripY + v.stripNy};
            strip.values.assign(host.strip, host.strip + size(v.stripNx) * size(v.stripNy));
            strip.done = true;
        });
        for (const Strip& strip : strips)
            if (!strip.done) return {};
        std::vector<float> image(size(model.nx) * size(model.ny));
        for (const Strip& strip : strips)
            for (int y = strip.y.first; y < strip.y.last; ++y) {
                const float* from = strip.values.data() + size(y - strip.y.first) * size(strip.x.count());
                float* to = image.data() + size(y) * size(model.nx) + size(strip.x.first);
                for (int x = 0; x < strip.x.count(); ++x) to[x] += from[x];
            }
        return image;
    }
    [[nodiscard]] static bool onDevice(const Plan& plan) { return plan.options.decorrelate == Decorrelate::Signal; }
    DeviceBackendOptions options_;
    std::shared_ptr<Shared> shared_;
    std::unique_ptr<Backend> cpu_;
};

} // namespace

std::unique_ptr<Backend> makeDeviceBackend(std::unique_ptr<Device> device, const DeviceBackendOptions& options) {
    return std::make_unique<DeviceBackend>(std::move(device), options);
}

} // namespace patchlight::gpu
