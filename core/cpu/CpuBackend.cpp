#include "core/cpu/CpuBackend.h"

#include "core/base/Timeline.h"
#include "core/cpu/BandKernels.h"
#include "core/cpu/FastPath.h"
#include "core/cpu/PatchSolver.h"
#include "core/cpu/SpotTile.h"

#include <algorithm>
#include <thread>
#include <vector>

#include <fmt/format.h>

namespace patchlight {

namespace {

/// What one thread needs; kept for the whole frame, so that nothing is allocated inside a batch after the first.
struct Workspace {
    SpotTile tile;
    PatchSolver solver;
    FastPath fast;
};

class CpuFrameJob final : public FrameJob {
public:
    CpuFrameJob(const FrameInput& input, const CpuOptions& options, int lanes)
        : input_(input), options_(options), workspaces_(static_cast<std::size_t>(lanes)) {}

    [[nodiscard]] int lanes() const override { return static_cast<int>(workspaces_.size()); }

    void run(const Batch& batch, int lane, const FrameOutput& output) override {
        const Plan& plan = *input_.plan;
        Workspace& work = workspaces_[static_cast<std::size_t>(lane)];
        const Subbundle& first = plan.subbundles[static_cast<std::size_t>(batch.subbundles.first)];
        const Subbundle& last = plan.subbundles[static_cast<std::size_t>(batch.subbundles.last - 1)];
        const IndexRange spectra{first.padded.first, last.padded.last};
        const IndexRange bins{plan.patch(batch.subbundles.first, batch.steps.first).bins.first,
                              plan.patch(batch.subbundles.first, batch.steps.last - 1).bins.last};
        const RangeTags tags{first.bundle, batch.steps.first, batch.subbundles.count() * batch.steps.count()};
        const NamedRange range(input_.timeline, "batch", tags);
        if (!options_.exact && plan.options.decorrelate == Decorrelate::Signal) {
            work.fast.run(input_, batch, output, options_.bounds, work.solver, work.tile);
            return;
        }
        {
            const NamedRange spots(input_.timeline, "spots", tags);
            work.tile.evaluate(input_.psf, plan.grid, spectra, bins, plan.options.psfTail);
        }
        for (int step = batch.steps.first; step < batch.steps.last; ++step)
            for (int sub = batch.subbundles.first; sub < batch.subbundles.last; ++sub)
                work.solver.solve(input_, work.tile, plan.patch(sub, step), &output, nullptr);
    }

    [[nodiscard]] PatchDetail inspect(const Patch& patch) override {
        const Plan& plan = *input_.plan;
        Workspace& work = workspaces_.front();
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
    FrameInput input_;
    CpuOptions options_;
    std::vector<Workspace> workspaces_;
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
    [[nodiscard]] std::unique_ptr<FrameJob> begin(const FrameInput& input, int lanes) override {
        const int count = lanes > 0 ? lanes : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
        return std::make_unique<CpuFrameJob>(input, options_, count);
    }

private:
    CpuOptions options_;
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
