#pragma once

#include "core/psf/Psf.h"

#include <fmt/format.h>

/// A PSF of a few fibers for tests of files, with numbers that differ from one another.
inline patchlight::Psf smallPsf(int nspec = 3, int degree = 2, int ncoeff = 3,
                                patchlight::PsfType type = patchlight::PsfType::GaussHermite) {
    patchlight::Psf psf;
    psf.type = type;
    psf.nspec = nspec;
    psf.nx = 60;
    psf.ny = 40;
    psf.hsizeX = 5;
    psf.hsizeY = 4;
    psf.degX = psf.degY = degree;
    psf.psferr = 0.02;
    const auto add = [&](const std::string& name, double value, double wavemin = 5000, double wavemax = 5040) {
        patchlight::LegendreSeries series;
        series.wavemin = wavemin;
        series.wavemax = wavemax;
        series.ncoeff = ncoeff;
        for (int s = 0; s < nspec; ++s)
            for (int n = 0; n < ncoeff; ++n)
                series.coeff.push_back(n == 0 ? value + 0.01 * s : 0.001 * (n + 1) / (s + 1));
        psf.series[name] = series;
    };
    add("X", 10, 4990, 5050);
    for (int s = 0; s < nspec; ++s) psf.series["X"].coeff[static_cast<std::size_t>(s * ncoeff)] = 10 + 7.0 * s;
    add("Y", 20, 4990, 5050);
    for (int s = 0; s < nspec && ncoeff > 1; ++s) psf.series["Y"].coeff[static_cast<std::size_t>(s * ncoeff + 1)] = 18;
    add("GHSIGX", 1.1);
    add("GHSIGY", 1.2);
    for (int i = 0; i <= degree; ++i)
        for (int j = 0; j <= degree; ++j) add(fmt::format("GH-{}-{}", i, j), i + j == 0 ? 1.0 : 0.01 * (i + 2 * j));
    for (const auto& [name, value] :
         {std::pair("TAILAMP", 0.001), std::pair("TAILCORE", 1.0), std::pair("TAILXSCA", 1.0),
          std::pair("TAILYSCA", 1.0), std::pair("TAILINDE", 2.0)})
        add(name, value);
    if (type == patchlight::PsfType::GaussHermite2) {
        psf.degX2 = psf.degY2 = 1;
        add("GHSIGX2", 2.1);
        add("GHSIGY2", 2.2);
        add("GHNSIG", 4.0);
        for (int i = 0; i <= 1; ++i)
            for (int j = 0; j <= 1; ++j) add(fmt::format("GH2-{}-{}", i, j), i + j == 0 ? 0.1 : 0.001 * (i + 2 * j));
    }
    psf.bundleFits.push_back({0, 1.25, 0});
    psf.offsets.push_back({"INTOFF", {0, 1}, {5010, 5020}, {0.1, -0.1}, {0.01, 0.02}});
    psf.header.set("CAMERA", "r0");
    psf.pack();
    return psf;
}
