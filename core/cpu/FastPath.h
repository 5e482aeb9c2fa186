#pragma once

#include "core/cpu/LaneSolver.h"
#include "core/cpu/PatchSolver.h"
#include "core/cpu/SpotRows.h"
#include "core/engine/Backend.h"
#include "core/engine/ErrorBounds.h"

#include <cstdint>
#include <vector>

namespace patchlight {

/// Extracts the patches of a batch side by side in vector lanes (docs/method.md, "The fast path"). One thread's workspace.
///
/// Ladder: narrow bands, then full blocks for those spectra that bands cannot promise; the exact PatchSolver for patches where second
/// neighbours matter, or whose condition is beyond all that.
class FastPath {
public:
    /// Extracts all patches of a batch (Decorrelate::Signal only). Patches whose layout does not suit it (SpotRows::locate) go to `exact`.
    /// @param slotCount SpotRows::slotsFor() the batch's bundle
    void run(const FrameInput& input, const Batch& batch, const FrameOutput& output, const ErrorBounds& bounds,
             int slotCount, PatchSolver& exact, SpotTile& tile);

private:
    /// One patch in a lane.
    struct Member {
        Patch patch;
        PixelWindow window;
        int lane = 0;
        bool empty = false;             ///< no unmasked pixel
        std::vector<char> accepted;     ///< [core spectra] within the error bounds, and written
        bool far = false;               ///< second neighbours matter
        std::uint32_t climbed = 0;      ///< PatchStatus bits: the rungs it has left behind, and why
        double error = 0;               ///< estimate of the relative error of Q, worst core spectrum
        double condition = 0;           ///< bound, worst core spectrum
        std::vector<double> fluxweight; ///< [nspec][nwave]
    };

    /// Where Q of a spectrum lies in the solver.
    struct Root {
        int spectrum;
        std::size_t lane;
    };
    /// What enters the promise for a spectrum (docs/method.md, "The fast path").
    struct Estimate {
        double condition;  ///< bound; 0: none
        double neighbours; ///< relative error of Q that second neighbours make
        double contrast;   ///< what the relative error of ivar is worse by in the darkest bin, where pixels are masked
        double flux;       ///< relativeFluxError()
    };

    void prepareGroup(const FrameInput& input, std::vector<Member>& members);
    void solveGroup(const FrameInput& input, std::vector<Member>& members, const FrameOutput& output);
    void solveGroupDensely(const FrameInput& input, std::vector<Member>& members, const FrameOutput& output);
    static void solveExactly(const FrameInput& input, const Patch& patch, std::uint32_t reasons,
                             const FrameOutput& output, PatchSolver& exact, SpotTile& tile);
    void trimToWindow(const FrameInput& input, Member& member);
    void addPrior(const FrameInput& input, Member& member);
    [[nodiscard]] bool withinBounds(Member& member, int spectrum) const;
    [[nodiscard]] Estimate estimate(const Member& member, int spectrum, const Root& root) const;
    void writeSpectrum(const FrameInput& input, const Member& member, int spectrum, const Root& root,
                       const FrameOutput& output);
    void measurePatch(const FrameInput& input, const Member& member, const FrameOutput& output);

    SpotRows spots_;
    PairSums sums_;
    LaneSolver solver_;
    ErrorBounds bounds_;
    AlignedBuffer products_;
    std::vector<double> weight_;
    std::vector<double> xflux_;    ///< [nspec][nwave] of one patch
    AlignedBuffer flux_;           ///< [nspec][slots], of the bins on a row
    std::vector<IndexRange> held_; ///< which bins those are
    AlignedBuffer chi2Sums_;       ///< [core spectra][2][slots]
    std::vector<double> model_;    ///< one row of the window, with margins
    std::vector<double> chi2_;     ///< likewise
    std::vector<double> counted_;  ///< likewise
    std::vector<double> normal_;   ///< [nwave] of one spectrum: 1 / row sum of Q
    std::vector<double> chi2pix_;  ///< [nspec][nwave]
};

} // namespace patchlight
