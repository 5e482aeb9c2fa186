#include "widgets/spectrum/LineLists.h"

#include "core/simulate/SkyLines.h"

#include <algorithm>
#include <cmath>

namespace patchlight::widgets {

const std::vector<MarkedLine>& skyLineList() {
    static const std::vector<MarkedLine> lines = [] {
        std::vector<MarkedLine> out;
        double strongest = 0;
        for (const auto& line : simulate::skyLines()) strongest = std::max(strongest, line.strength);
        for (const auto& line : simulate::skyLines()) {
            const double wavelength = simulate::vacuumWavelength(line.airWavelength);
            out.push_back({QString::number(wavelength, 'f', 1), wavelength, line.strength / strongest});
        }
        return out;
    }();
    return lines;
}

const std::vector<MarkedLine>& galaxyLineList() {
    static const std::vector<MarkedLine> lines{
        {QStringLiteral("Ly α"), 1215.67, 1.0},     {QStringLiteral("N V"), 1240.8, 0.3},
        {QStringLiteral("C IV"), 1549.5, 0.8},      {QStringLiteral("He II"), 1640.4, 0.3},
        {QStringLiteral("C III]"), 1908.7, 0.7},    {QStringLiteral("Mg II"), 2799.1, 0.9},
        {QStringLiteral("[O II]"), 3727.09, 0.9},   {QStringLiteral("[O II]"), 3729.88, 0.9},
        {QStringLiteral("[Ne III]"), 3869.86, 0.4}, {QStringLiteral("Ca K"), 3934.78, 0.7},
        {QStringLiteral("Ca H"), 3969.59, 0.7},     {QStringLiteral("H δ"), 4102.89, 0.4},
        {QStringLiteral("G band"), 4305.6, 0.4},    {QStringLiteral("H γ"), 4341.68, 0.5},
        {QStringLiteral("[O III]"), 4364.44, 0.2},  {QStringLiteral("He II"), 4687.02, 0.2},
        {QStringLiteral("H β"), 4862.68, 0.8},      {QStringLiteral("[O III]"), 4960.30, 0.8},
        {QStringLiteral("[O III]"), 5008.24, 1.0},  {QStringLiteral("Mg b"), 5176.6, 0.5},
        {QStringLiteral("Na D"), 5891.58, 0.5},     {QStringLiteral("Na D"), 5897.56, 0.5},
        {QStringLiteral("[O I]"), 6302.05, 0.3},    {QStringLiteral("[N II]"), 6549.85, 0.5},
        {QStringLiteral("H α"), 6564.61, 1.0},      {QStringLiteral("[N II]"), 6585.27, 0.6},
        {QStringLiteral("[S II]"), 6718.29, 0.6},   {QStringLiteral("[S II]"), 6732.67, 0.6},
        {QStringLiteral("Ca II"), 8500.36, 0.4},    {QStringLiteral("Ca II"), 8544.44, 0.5},
        {QStringLiteral("Ca II"), 8664.52, 0.5},    {QStringLiteral("[S III]"), 9071.1, 0.4},
        {QStringLiteral("[S III]"), 9533.2, 0.5},
    };
    return lines;
}

} // namespace patchlight::widgets
