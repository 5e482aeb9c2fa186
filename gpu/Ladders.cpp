#include "gpu/Ladders.h"

#include "core/base/Error.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

namespace patchlight::gpu {

Ladder ladderOf(const std::vector<InverseSquareRoot>& rungs) {
    Ladder ladder;
    for (const InverseSquareRoot& f : rungs) {
        if (ladder.rungs == mostRungs || f.pole.size() > static_cast<std::size_t>(mostPoles))
            throw Error(
                fmt::format("the ladder of square roots has more than {} rungs or {} poles", mostRungs, mostPoles));
        const int r = ladder.rungs++;
        ladder.kappa[r] = f.kappa;
        ladder.poles[r] = static_cast<int>(f.pole.size());
        std::copy(f.pole.begin(), f.pole.end(), ladder.pole[r]);
        std::copy(f.weight.begin(), f.weight.end(), ladder.weight[r]);
    }
    return ladder;
}

const std::vector<InverseSquareRoot>& deepLadder() {
    static const std::vector<InverseSquareRoot> ladder = [] {
        std::vector<InverseSquareRoot> rungs = inverseSquareRootFineLadder();
        for (const double kappa : {1e11, 1e13, 1e15})
            if (kappa > rungs.back().kappa) rungs.push_back(InverseSquareRoot::make(kappa, mostPoles));
        return rungs;
    }();
    return ladder;
}

} // namespace patchlight::gpu
