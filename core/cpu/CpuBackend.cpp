#include "core/cpu/CpuBackend.h"

#include "core/base/Timeline.h"
#include "core/cpu/BandKernels.h"
#include "core/cpu/FastPath.h"
#include "core/cpu/PatchSolver.h"
#include "core/cpu/SeamlessPath.h"
#include "core/cpu/SpotRows.h"
#include "core/cpu/SpotTile.h"
#include "core/engine/Seamless.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace patchlight {

namespace {

/// What one thread needs; kept from batch to batch, so that nothing is allocated inside a batch after the first.
struct Workspace {
    SpotTile tile;
    PatchSolver solver;
    FastPath fast;
    SeamlessPath seamless;
};

/// Workspaces that no frame uses at the moment: the next frame takes them, so that their memory is touched for the first time once.
class WorkspacePool {
public:
    [[nodiscard]] std::unique_ptr<Workspace> take() {
        {
            const std::lock_guard lock(mutex_);
            if (!idle_.empty()) {
                std::unique_ptr<Workspace> one = std::move(idle_.back());
                idle_.pop_back();
                return one;
            }
        }
        return std::make_unique<Workspace>();
    }
    void give(std::unique_ptr<Workspace> one) {
        const std::lock_guard lock(mutex_);
        idle_.push_back(std::move(one));
    }

private:
    std::mutex mutex_;
    std::vector<std::unique_ptr<Workspace>> idle_;
};

class CpuFrameJob final : public FrameJob {
public:
    CpuFrameJob(const FrameInput& input, const CpuOptions& options, int lanes, std::shared_ptr<WorkspacePool> pool)
        : input_(input), options_(options), pool_(std::move(pool)), workspaces_(static_cast<std::size_t>(lanes)),
          slots_(input.plan->subbundles.size()) {
        for (auto& one : workspaces_) one = pool_->take();
    }
    ~CpuFrameJob() override {
        for (auto& one : workspaces_) pool_->give(std::move(one));
    }

    [[nodiscard]] int lanes() const override { return static_cast<int>(workspaces_.size()); }

    void run(const Batch& batch, int lane, const FrameOutput& output) override {
        const Plan& plan = *input_.plan;
        Workspace& work = *workspaces_[static_cast<std::size_t>(lane)];
        const Subbundle& first = plan.subbundles[static_cast<std::size_t>(batch.subbundles.first)];
        const Subbundle& last = plan.subbundles[static_cast<std::size_t>(batch.subbundles.last - 1)];
        const IndexRange spectra{first.padded.first, last.padded.last};
        const IndexRange bins{plan.patch(batch.subbundles.first, batch.steps.first).bins.first,
                              plan.patch(batch.subbundles.first, batch.steps.last - 1).bins.last};
        const RangeTags tags{first.bundle, batch.steps.first, batch.subbundles.count() * batch.steps.count()};
        const NamedRange range(input_.timeline, "batch", tags);
        if (plan.options.method == Method::Seamless) {
            if (options_.exact)
                solveBundleExactly(batch, work, output);
            else
                work.seamless.run(input_, batch, output, options_.bounds, slotsOf(batch), work.solver, work.tile);
            return;
        }
        if (!options_.exact && plan.options.decorrelate == Decorrelate::Signal) {
            work.fast.run(input_, batch, output, options_.bounds, slotsOf(batch), work.solver, work.tile);
            return;
        }
        {
            const NamedRange spots(input_.timeline, "spots", tags);
            work.tile.evaluate(input_.psf, plan.grid, spectra, bins, plan.options.psfTail);
        }
        for (int step = batch.steps.first; step < batch.steps.last; ++step)
            for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub)
                work.solver.solve(input_, work.tile, plan.patch(sub, step), &output, nullptr,
                                  PatchSolver::Roots::Eigenvalues);
    }

    [[nodiscard]] PatchDetail inspect(const Patch& asked) override {
        const Plan& plan = *input_.plan;
        const Patch patch = plan.options.method == Method::Seamless
                                ? seamless::contextPatch(plan, asked, seamless::viewBins, seamless::viewSpectra)
                                : asked;
        Workspace& work = *workspaces_.front();
        const NamedRange range(input_.timeline, "patch",
                               {plan.subbundles[static_cast<std::size_t>(patch.subbundle)].bundle, patch.step, 1});
        {
            const NamedRange spots(input_.timeline, "spots");
            work.tile.evaluate(input_.psf, plan.grid, patch.spectra, patch.bins, plan.options.psfTail);
        }
        PatchDetail detail;
        work.solver.solve(input_, work.tile, patch, nullptr, &detail);
        return detail;
    }

private:
    /// SpotRows::slotsFor() the batch's bundle, found when first asked for.
    [[nodiscard]] int slotsOf(const Batch& batch) {
        const std::size_t first = static_cast<std::size_t>(batch.subbundles.first);
        std::atomic<int>& slots = slots_[first]; // threads that ask at the same time find the same
        if (slots == 0)
            slots = SpotRows::slotsFor(
                mostBinsOnRow(input_.psf, input_.plan->grid, input_.plan->subbundles[first].whole, input_.ccd.ny));
        return slots;
    }
    /// The reference of the seamless method: the bundle as one patch.
    void solveBundleExactly(const Batch& batch, Workspace& work, const FrameOutput& output) {
        const Plan& plan = *input_.plan;
        const Patch bundle = seamless::bundlePatch(plan, batch.subbundles.first);
        work.tile.evaluate(input_.psf, plan.grid, bundle.spectra, bundle.bins, plan.options.psfTail);
        work.solver.solve(input_, work.tile, bundle, &output, nullptr, PatchSolver::Roots::Eigenvalues);
        if (output.reports == nullptr) return;
        const IndexRange subbundles = seamless::subbundlesOfBundle(plan, batch.subbundles.first);
        for (int sub = subbundles.first; sub < subbundles.last; ++sub)
            for (int step = 0; step < plan.nsteps; ++step)
                output.reports[static_cast<std::size_t>(sub) * static_cast<std::size_t>(plan.nsteps) +
                               static_cast<std::size_t>(step)] = work.solver.report();
    }

    FrameInput input_;
    CpuOptions options_;
    std::shared_ptr<WorkspacePool> pool_;
    std::vector<std::unique_ptr<Workspace>> workspaces_;
    std::vector<std::atomic<int>> slots_; ///< by a batch's first subbundle; 0: not known yet
};

class CpuBackend final : public Backend {
public:
    explicit CpuBackend(const CpuOptions& options) : options_(options) {}
    [[nodiscard]] std::string name() const override { return "cpu"; }
    [[nodiscard]] std::string description() const override {
        return fmt::format("CPU, {} threads available, {}", std::max(1U, std::thread::hardware_concurrency()),
                           kernels::instructionSet());
    }
    /// Few enough that a bundle makes work for many threads, enough that the padding's spots are not evaluated too often twice.
    [[nodiscard]] int batchSteps(const Plan&) const override { return 8; }
    [[nodiscard]] bool takesRowsAsTheyArrive() const override { return true; }
    [[nodiscard]] std::unique_ptr<FrameJob> begin(const FrameInput& input, int lanes) override {
        const int count = lanes > 0 ? lanes : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
        return std::make_unique<CpuFrameJob>(input, options_, count, pool_);
    }

private:
    CpuOptions options_;
    std::shared_ptr<WorkspacePool> pool_ = std::make_shared<WorkspacePool>();
};

} // namespace

std::unique_ptr<Backend> makeCpuBackend(const CpuOptions& options) {
    static const bool limited = [] {
        kernels::limitInstructionSet();
        return true;
    }();
    (void)limited;
    return std::make_unique<CpuBackend>(options);
}

} // namespace patchlight
