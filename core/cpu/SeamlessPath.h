#pragma once

#include "core/cpu/FastPath.h"
#include "core/cpu/LaneSolver.h"
#include "core/cpu/PatchSolver.h"
#include "core/cpu/SeamlessSolver.h"
#include "core/cpu/SpotRows.h"
#include "core/cpu/SymmetricEigen.h"
#include "core/engine/Backend.h"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace patchlight {

/// Extracts whole bundles without patches (docs/method.md, "The seamless method"). One thread's workspace.
///
///  1. spots and sums over pixels, chunk by chunk;
///  2. segments of all wavelengths side by side in vector lanes: elimination of spectra (SeamlessSolver);
///  3. deconvolved flux of the whole bundle, refined until the residual of the normal equations is as small as is promised;
///  4. Q of each spectrum and segment, checked for each spectrum and patch (of which the bundle is now only seen to consist);
///  5. where that check fails: Q of that spectrum and patch anew, with a wider band and more context, or with full blocks;
///  6. quality, chunk by chunk.
class SeamlessPath {
public:
    /// Extracts the whole bundle of a batch and writes the batch's patches (Decorrelate::Signal only).
    /// @param slotCount SpotRows::slotsFor() the bundle
    void run(const FrameInput& input, const Batch& batch, const FrameOutput& output, const ErrorBounds& bounds,
             int slotCount, PatchSolver& exact, SpotTile& tile);

private:
    /// Spots and sums of some wavelengths: `bins` is what it is asked for, its spots reach further on both sides.
    struct Chunk {
        IndexRange bins;
        SpotRows spots;
        PairSums sums;
        bool kept =
            false; ///< its spots stay in memory until their quality is measured; else they are evaluated once more
    };
    /// Wavelengths that are solved in one lane.
    struct Segment {
        IndexRange core; ///< bins that are kept
        int first = 0;   ///< bin of the lane's index 0; may lie before the bundle's first
        IndexRange spectra;
    };
    /// A spectrum of a patch whose Q is computed anew.
    struct Waiting {
        int spectrum = 0;
        int step = 0;
        std::uint32_t reasons = 0;
        bool seam = false; ///< two segments disagree about it
        bool far = false;  ///< it is coupled with more than its next neighbours
    };

    /// What is known of the error of a spectrum's Q in a patch.
    struct Check {
        double condition = 0; ///< bound; 0: none
        double error = 0;     ///< relative, of Q xflux and Q 1
        double diagonals = 0; ///< the same, of Q's diagonals
        double contrast =
            1; ///< what the relative error of ivar is worse by in the darkest bin, where pixels are masked
        double sensitivity = 0; ///< relativeFluxError()
        double residual = 0;    ///< sigma, of xflux' residual
        double contraction = 0; ///< norm of what lies beyond the narrow band over the least eigenvalue, at most 1
        double taken = 0;       ///< what neighbours take from S, over the norm that errors are relative to
        double farError = 0;    ///< the part of `error` that is due to second neighbours
        double farFlux = 0;     ///< sigma, what they do to xflux
    };
    /// Consecutive spectra of a patch that wait, and the segment they are solved in.
    struct Run {
        Segment segment;
        std::vector<Waiting> spectra;
    };

    [[nodiscard]] bool locate(const FrameInput& input, int slotCount);
    void collectSums(const Plan& plan);
    void makeSegments(const Plan& plan);
    [[nodiscard]] std::span<const Segment> segmentsOf(std::size_t group) const;
    template <class Solver> void gather(Solver& solver, std::span<const Segment> segments, int nspec, int n) const;
    void repair(const FrameInput& input, int round);
    void deconvolve(const ErrorBounds& bounds);
    void decorrelate(const FrameInput& input, const ErrorBounds& bounds, const FrameOutput& output,
                     std::vector<Waiting>& waiting);
    void solveWithAllNeighbours(const FrameInput& input, const FrameOutput& output, PatchSolver& exact, SpotTile& tile,
                                std::vector<Waiting>& waiting);
    void decorrelateAnew(const FrameInput& input, const FrameOutput& output, int context,
                         std::vector<Waiting>& waiting);
    [[nodiscard]] std::vector<Run> makeRuns(const Plan& plan, std::vector<Waiting>& waiting, int context) const;
    void decorrelateWider(const FrameInput& input, const ErrorBounds& bounds, const FrameOutput& output, int context,
                          std::vector<Waiting>& waiting);
    void copySchur(int spectrum, int first, int n, std::size_t lane);
    template <class Body> static void forAsked(std::span<const Run> part, int nspec, const Body& body);
    template <class Solver>
    void fillXflux(Solver& solver, int s, std::span<const Segment> segments, std::span<const Waiting* const> asked,
                   int n) const;
    template <class Solver> void closeEnds(Solver& solver, const Segment& segment, int n, std::size_t lane) const;
    void decorrelateExactly(const FrameInput& input, const FrameOutput& output, const Segment& segment, int n,
                            const std::vector<double>& schur, const Waiting& one);
    [[nodiscard]] Check examine(const SeamlessSolver& solver, const Segment& segment, int n, int lane, int spectrum,
                                IndexRange bins) const;
    void measure(const FrameInput& input, const FrameOutput& output);
    void solveExactly(const FrameInput& input, const FrameOutput& output, PatchSolver& exact, SpotTile& tile) const;
    /// PatchStatus bits: why a result may not be kept; 0: it may.
    [[nodiscard]] static std::uint32_t judge(const Check& check, const ErrorBounds& bounds);
    /// True where what a neighbour's blocks have beyond their narrow band may not be left out of its elimination.
    [[nodiscard]] bool isTainted(const Plan& plan, int spectrum, int step, const Check& check,
                                 const ErrorBounds& bounds) const;
    /// True where second neighbours matter.
    [[nodiscard]] static bool isFar(const Check& check, const ErrorBounds& bounds);
    void note(const Plan& plan, int spectrum, int step, const Check& check, std::uint32_t status);
    [[nodiscard]] PatchReport& reportOf(const Plan& plan, int spectrum, int step);
    /// Flux, ivar and resolution of some bins, from accessors of Q by bin.
    template <class Access>
    void writeBins(const FrameInput& input, const FrameOutput& output, int spectrum, IndexRange bins,
                   const Access& access);

    [[nodiscard]] std::size_t flat(int spectrum, int bin) const {
        return static_cast<std::size_t>(spectrum - bundle_.spectra.first) *
                   static_cast<std::size_t>(bundle_.bins.count()) +
               static_cast<std::size_t>(bin);
    }
    /// True where a bin takes part in the solution.
    [[nodiscard]] bool lit(int spectrum, int bin) const {
        return fluxweight_[flat(spectrum, bin)] != 0.0 && failed_[flat(spectrum, bin)] == 0;
    }
    void shareMemory(Chunk& chunk);
    [[nodiscard]] const Chunk& chunkOf(int bin) const;
    /// The segment that a bin's xflux is taken from.
    [[nodiscard]] std::size_t owner(int bin) const;

    Patch bundle_;
    std::vector<std::unique_ptr<Chunk>> chunks_; ///< those of the largest bundle so far
    std::size_t chunkCount_ = 0;
    Chunk* shared_ = nullptr; ///< of those that are not kept, the one whose spots are in memory
    int reach_ = 0;           ///< largest distance in bins at which spots of neighbouring spectra share a row
    std::vector<Segment> segments_;
    int context_ = 0;
    SeamlessSolver::Bands bands_;                                    ///< of the first rung
    int segmentBins_ = 0;                                            ///< of a lane, context included
    std::vector<std::unique_ptr<SeamlessSolver>> groups_;            ///< of as many segments as there are lanes
    std::vector<double> fluxweight_, minweight_, prior_, y_, xflux_; ///< [spectra][bins]
    std::vector<double> second_;                                     ///< [spectra][bins], PairSums::second
    std::vector<double> residual_;     ///< [spectra][bins], y - A xflux before the last update
    double remaining_ = 1;             ///< share of it that is left after that
    std::vector<char> masked_;         ///< [spectra][bins], more than maskedShare of the spot's light
    std::vector<char> failed_;         ///< [spectra][bins], no pivot even with regularisation
    std::vector<PatchReport> reports_; ///< [subbundles of the bundle][steps]
    std::vector<int> subbundleOf_;     ///< of each spectrum, index into reports_
    std::vector<Check> checks_;        ///< [spectra][steps], of the first rung
    std::vector<double> seams_;        ///< [segments][spectra][4]
    AlignedBuffer laneSide_;
    std::unique_ptr<SeamlessSolver> wide_; ///< for what waits
    std::unique_ptr<LaneSolver> dense_;    ///< likewise
    SymmetricEigen eigen_;
    std::vector<double> normal_;                 ///< of writeBins()
    std::vector<double> model_, chi2_, counted_; ///< a row of pixels
};

} // namespace patchlight
