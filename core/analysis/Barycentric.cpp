#include "core/analysis/Barycentric.h"

#include "core/base/Error.h"
#include "core/io/FitsHeader.h"

#include <erfa.h>
#include <erfam.h>
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <optional>
#include <string>

namespace patchlight {

namespace {

constexpr double speedOfLight = ERFA_CMPS;    // m/s
constexpr double astronomicalUnit = ERFA_DAU; // m
constexpr double secondsPerDay = ERFA_DAYSEC; // s
constexpr double gravitySun = 1.3271244e20;   // G M, m^3/s^2, IAU 2015 resolution B3
constexpr double gravityEarth = 3.986004e14;  // G M, m^3/s^2, IAU 2015 resolution B3
constexpr double mjdZero = ERFA_DJM0;         // Julian date of MJD 0
constexpr double firstMjd = 36934.0;          // 1960-01-01: before, UTC is not defined
constexpr double lastMjd = 88069.0;           // 2100-01-01: the end of ERFA's ephemeris of the Earth
constexpr double degree = ERFA_DD2R;          // rad

struct Vector {
    double x = 0;
    double y = 0;
    double z = 0;
    [[nodiscard]] double dot(const Vector& other) const { return x * other.x + y * other.y + z * other.z; }
};

void checkCoordinates(double ra, double dec) {
    if (!(std::abs(ra) <= 360.0)) throw Error(fmt::format("right ascension {} is not between 0 and 360 degrees", ra));
    if (!(std::abs(dec) <= 90.0)) throw Error(fmt::format("declination {} is not between -90 and 90 degrees", dec));
}

void checkDate(double mjd) {
    if (!(mjd >= firstMjd && mjd < lastMjd)) {
        throw Error(
            fmt::format("modified Julian date {} is not between {} (1960) and {} (2100)", mjd, firstMjd, lastMjd));
    }
}

void checkObservatory(const Observatory& observatory) {
    if (!(std::abs(observatory.latitude) <= 90.0)) {
        throw UsageError(
            fmt::format("observatory: latitude {} is not between -90 and 90 degrees", observatory.latitude));
    }
    if (!(std::abs(observatory.longitude) <= 360.0)) {
        throw UsageError(
            fmt::format("observatory: longitude {} is not between -360 and 360 degrees", observatory.longitude));
    }
    if (!(std::abs(observatory.height) <= 1e6)) {
        throw UsageError(
            fmt::format("observatory: height {} is not within 1e6 metres of the ground", observatory.height));
    }
}

} // namespace

Observatory parseObservatory(std::string_view text) {
    double values[3] = {};
    const char* at = text.data();
    const char* const end = text.data() + text.size();
    bool good = true;
    for (int i = 0; i < 3 && good; ++i) {
        if (i > 0) good = at != end && *at++ == ',';
        while (at != end && *at == ' ') ++at;
        if (at != end && *at == '+') ++at;
        const auto [next, error] = std::from_chars(at, end, values[i]);
        good = good && error == std::errc{} && std::isfinite(values[i]);
        at = next;
    }
    if (!good || at != end) {
        throw UsageError(
            fmt::format("observatory: \"{}\" is not latitude,longitude,height in degrees, degrees (east positive) and "
                        "metres, such as 31.96403,-111.59989,2097",
                        text));
    }
    const Observatory observatory{values[0], values[1], values[2]};
    checkObservatory(observatory);
    return observatory;
}

double barycentricFactor(double ra, double dec, double mjd, const Observatory& observatory) {
    checkCoordinates(ra, dec);
    checkDate(mjd);
    checkObservatory(observatory);

    // Time scales. A positive return value only says that the leap seconds of that date are not known yet (a second is 2e-11).
    double tai1 = 0;
    double tai2 = 0;
    double tt1 = 0;
    double tt2 = 0;
    if (eraUtctai(mjdZero, mjd, &tai1, &tai2) < 0 || eraTaitt(tai1, tai2, &tt1, &tt2) != 0) {
        throw Error(fmt::format("modified Julian date {} has no UTC", mjd));
    }

    // Earth's centre; the ephemeris wants TDB, which stays within 2 ms of TT.
    double heliocentric[2][3];
    double barycentric[2][3];
    eraEpv00(tt1, tt2, heliocentric, barycentric);

    // The observatory about Earth's centre: terrestrial to intermediate (by the Earth's rotation) to celestial axes.
    double rotating[2][3];
    eraPvtob(observatory.longitude * degree, observatory.latitude * degree, observatory.height, 0.0, 0.0,
             eraSp00(tt1, tt2), eraEra00(mjdZero, mjd), rotating);
    double poleX = 0;
    double poleY = 0;
    double originS = 0;
    double celestialToIntermediate[3][3];
    eraXys06a(tt1, tt2, &poleX, &poleY, &originS);
    eraC2ixys(poleX, poleY, originS, celestialToIntermediate);
    double geocentric[2][3]; // m, m/s
    eraTrxpv(celestialToIntermediate, rotating, geocentric);

    const double toMetresPerSecond = astronomicalUnit / secondsPerDay;
    const Vector beta{(barycentric[1][0] * toMetresPerSecond + geocentric[1][0]) / speedOfLight,
                      (barycentric[1][1] * toMetresPerSecond + geocentric[1][1]) / speedOfLight,
                      (barycentric[1][2] * toMetresPerSecond + geocentric[1][2]) / speedOfLight};
    const Vector target{std::cos(dec * degree) * std::cos(ra * degree), std::cos(dec * degree) * std::sin(ra * degree),
                        std::sin(dec * degree)};
    const double gamma = 1.0 / std::sqrt(1.0 - beta.dot(beta));
    const double sunDistance = eraPm(heliocentric[0]) * astronomicalUnit;
    const double earthDistance = eraPm(geocentric[0]);
    const double potential = -(gravitySun / sunDistance + gravityEarth / earthDistance) / (speedOfLight * speedOfLight);
    return gamma * (1.0 + beta.dot(target)) / (1.0 + potential);
}

double barycentricFactor(const FitsHeader& primary, const FitsHeader* fibermap, const Observatory& observatory,
                         std::string_view file) {
    constexpr const char* coordinateKeywords[][2] = {
        {"TARGTRA", "TARGTDEC"}, {"SKYRA", "SKYDEC"}, {"TELRA", "TELDEC"}, {"RA", "DEC"}};
    constexpr const char* dateKeywords[] = {"MJD-OBS", "MJD"};
    const std::string where = file.empty() ? std::string() : fmt::format("{}: ", file);
    const char* const headers =
        fibermap != nullptr ? "neither the primary header nor that of FIBERMAP" : "the primary header";
    const char* const has = fibermap != nullptr ? "has" : "lacks";

    const FitsHeader* coordinates = nullptr; // the header that has them
    const char* raKeyword = nullptr;
    const char* decKeyword = nullptr;
    for (const FitsHeader* header : {&primary, fibermap}) {
        if (header == nullptr || coordinates != nullptr) continue;
        for (const auto& [ra, dec] : coordinateKeywords) {
            // A pair counts only as a whole: coordinates of two different things must not be mixed.
            if (header->number(ra) && header->number(dec)) {
                coordinates = header;
                raKeyword = ra;
                decKeyword = dec;
                break;
            }
        }
    }
    if (coordinates == nullptr) {
        throw Error(fmt::format(
            "{}barycentric correction: {} {} numbers for TARGTRA and TARGTDEC, SKYRA and SKYDEC, TELRA and TELDEC, "
            "or RA and DEC (degrees)",
            where, headers, has));
    }

    // The date beside the coordinates first.
    const FitsHeader* const other = coordinates == &primary ? fibermap : &primary;
    std::optional<double> mjd;
    const FitsHeader* dated = nullptr;
    const char* dateKeyword = nullptr;
    for (const FitsHeader* header : {coordinates, other}) {
        for (const char* keyword : dateKeywords) {
            if (header != nullptr && !mjd) {
                mjd = header->number(keyword);
                dated = header;
                dateKeyword = keyword;
            }
        }
    }
    if (!mjd) {
        throw Error(fmt::format("{}barycentric correction: {} {} a number for MJD-OBS or MJD (modified Julian date)",
                                where, headers, has));
    }
    double exptime = 0.0;
    if (dated->has("EXPTIME")) {
        const std::optional<double> value = dated->number("EXPTIME");
        if (!value || !std::isfinite(*value)) {
            throw Error(fmt::format("{}barycentric correction: EXPTIME is '{}', not a number of seconds", where,
                                    dated->text("EXPTIME").value_or("")));
        }
        exptime = *value;
    }
    try {
        return barycentricFactor(*coordinates->number(raKeyword), *coordinates->number(decKeyword),
                                 *mjd + 0.5 * exptime / secondsPerDay, observatory);
    } catch (const UsageError&) {
        throw;
    } catch (const Error& error) {
        throw Error(fmt::format("{}barycentric correction: {} (from {}, {}, {} and EXPTIME)", where, error.what(),
                                raKeyword, decKeyword, dateKeyword));
    }
}

} // namespace patchlight
