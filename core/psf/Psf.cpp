#include "core/psf/Psf.h"

#include "core/base/Error.h"
#include "core/psf/GaussHermite.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace patchlight {

namespace {

constexpr int maxLegendreCoefficients = 32;

/// Names of the packed parameters in PsfView order.
std::vector<std::string> packedNames(const Psf& psf) {
    std::vector<std::string> names = {"GHSIGX",   "GHSIGY",   "TAILAMP", "TAILCORE", "TAILXSCA",
                                      "TAILYSCA", "TAILINDE", "GHSIGX2", "GHSIGY2",  "GHNSIG"};
    for (int i = 0; i <= psf.degX; ++i)
        for (int j = 0; j <= psf.degY; ++j) names.push_back(fmt::format("GH-{}-{}", i, j));
    for (int i = 0; i <= psf.degX2; ++i)
        for (int j = 0; j <= psf.degY2; ++j) names.push_back(fmt::format("GH2-{}-{}", i, j));
    return names;
}

bool isTail(const std::string& name) { return name.starts_with("TAIL"); }
bool isSecondCore(const std::string& name) { return name == "GHSIGX2" || name == "GHSIGY2" || name == "GHNSIG"; }

} // namespace

void Psf::pack() {
    const auto fail = [&](const std::string& what) -> void {
        throw Error(fmt::format("{}: {}", path.empty() ? "PSF" : path, what));
    };
    if (nspec <= 0) fail("the PSF holds no spectra");
    if (degX < 0 || degY < 0 || std::max({degX, degY, degX2, degY2}) > maxHermiteDegree)
        fail(fmt::format("GHDEGX = {}, GHDEGY = {}: Hermite degrees must be 0 to {}", degX, degY, maxHermiteDegree));
    if (hsizeX < 1 || hsizeY < 1 || 2 * std::max(hsizeX, hsizeY) + 1 > maxStampSize)
        fail(fmt::format("HSIZEX = {}, HSIZEY = {}: spot half sizes must be 1 to {} pixels", hsizeX, hsizeY,
                         (maxStampSize - 1) / 2));

    for (const auto& [name, one] : series) {
        if (one.ncoeff < 1 || one.ncoeff > maxLegendreCoefficients)
            fail(fmt::format("parameter {} has {} Legendre coefficients, 1 to {} can be used", name, one.ncoeff,
                             maxLegendreCoefficients));
        if (one.coeff.size() != static_cast<std::size_t>(nspec) * static_cast<std::size_t>(one.ncoeff))
            fail(fmt::format("parameter {} has {} coefficients, {} spectra x {} expected", name, one.coeff.size(),
                             nspec, one.ncoeff));
        if (!(one.wavemax > one.wavemin))
            fail(fmt::format("parameter {}: WAVEMIN = {} must be below WAVEMAX = {}", name, one.wavemin, one.wavemax));
    }
    const auto require = [&](const std::string& name) {
        if (!series.contains(name)) fail(fmt::format("the PSF has no parameter {}", name));
    };
    for (const char* name : {"X", "Y", "GHSIGX", "GHSIGY"}) require(name);
    if (type == PsfType::GaussHermite2)
        for (const char* name : {"GHSIGX2", "GHSIGY2", "GHNSIG"}) require(name);

    const std::vector<std::string> names = packedNames(*this);
    nparam_ = static_cast<int>(names.size());
    ncoeff_ = 1;
    for (const std::string& name : names)
        if (const auto it = series.find(name); it != series.end()) ncoeff_ = std::max(ncoeff_, it->second.ncoeff);
    packed_.assign(static_cast<std::size_t>(nspec) * names.size() * static_cast<std::size_t>(ncoeff_), 0.0);
    domain_.assign(names.size() * 2, 0.0);
    const LegendreSeries& sigma = series.at("GHSIGX");
    for (std::size_t p = 0; p < names.size(); ++p) {
        domain_[2 * p] = sigma.wavemin;
        domain_[2 * p + 1] = sigma.wavemax;
        const auto it = series.find(names[p]);
        if (it == series.end()) {
            // Coefficients that a fit left out are zero; so is a tail that a file does not mention.
            if (isTail(names[p]) || isSecondCore(names[p]) || names[p].starts_with("GH")) continue;
        }
        const LegendreSeries& one = it->second;
        domain_[2 * p] = one.wavemin;
        domain_[2 * p + 1] = one.wavemax;
        for (int s = 0; s < nspec; ++s)
            for (int n = 0; n < one.ncoeff; ++n)
                packed_[(static_cast<std::size_t>(s) * names.size() + p) * static_cast<std::size_t>(ncoeff_) +
                        static_cast<std::size_t>(n)] =
                    one.coeff[static_cast<std::size_t>(s) * static_cast<std::size_t>(one.ncoeff) +
                              static_cast<std::size_t>(n)];
    }
}

PsfView Psf::traceView() const {
    const LegendreSeries& sx = series.at("X");
    const LegendreSeries& sy = series.at("Y");
    PsfView v;
    v.nspec = nspec;
    v.ncoeffX = sx.ncoeff;
    v.ncoeffY = sy.ncoeff;
    v.coeffX = sx.coeff.data();
    v.coeffY = sy.coeff.data();
    v.domainX[0] = sx.wavemin;
    v.domainX[1] = sx.wavemax;
    v.domainY[0] = sy.wavemin;
    v.domainY[1] = sy.wavemax;
    return v;
}

PsfView Psf::view() const {
    PsfView v = traceView();
    v.type = type;
    v.hsizeX = hsizeX;
    v.hsizeY = hsizeY;
    v.degX = degX;
    v.degY = degY;
    v.degX2 = degX2;
    v.degY2 = degY2;
    v.nparam = nparam_;
    v.ncoeff = ncoeff_;
    v.coeff = packed_.data();
    v.domain = domain_.data();
    if (const auto it = series.find("TAILAMP"); it != series.end())
        v.hasTail = std::any_of(it->second.coeff.begin(), it->second.coeff.end(), [](double c) { return c != 0.0; });
    return v;
}

double Psf::wavemin() const { return series.at("GHSIGX").wavemin; }
double Psf::wavemax() const { return series.at("GHSIGX").wavemax; }
double Psf::x(int spectrum, double wavelength) const { return traceX(traceView(), spectrum, wavelength); }
double Psf::y(int spectrum, double wavelength) const { return traceY(traceView(), spectrum, wavelength); }

double Psf::wavelengthAt(int spectrum, double y) const {
    const PsfView v = traceView();
    double lo = v.domainY[0];
    double hi = v.domainY[1];
    const double slope = (traceY(v, spectrum, hi) - traceY(v, spectrum, lo)) / (hi - lo);
    double wavelength = lo + (y - traceY(v, spectrum, lo)) / slope;
    for (int i = 0; i < 50; ++i) {
        const double step = 0.01;
        const double derivative =
            (traceY(v, spectrum, wavelength + step) - traceY(v, spectrum, wavelength - step)) / (2 * step);
        const double change = (y - traceY(v, spectrum, wavelength)) / (derivative != 0.0 ? derivative : slope);
        wavelength += change;
        if (std::abs(change) < 1e-9) break;
    }
    return wavelength;
}

} // namespace patchlight
