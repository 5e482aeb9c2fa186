#pragma once

#include <string_view>

namespace patchlight {

class FitsHeader;

/// Where a telescope stands: geodetic coordinates on the WGS84 ellipsoid.
struct Observatory {
    double latitude = 0;  ///< degrees, north positive
    double longitude = 0; ///< degrees, east positive
    double height = 0;    ///< metres above the ellipsoid
};

/// Kitt Peak, with the coordinates that desispec uses.
inline constexpr Observatory kittPeak{31.96403, -111.59989, 2097.0};

/// Parses "latitude,longitude,height" in degrees, degrees and metres. @throws UsageError
[[nodiscard]] Observatory parseObservatory(std::string_view text);

/// The factor 1 + v/c by which wavelengths seen at an observatory are multiplied to bring them to the barycentre of the solar
/// system: v is the observatory's velocity toward the target, with time dilation and the gravitational redshift of Sun and Earth.
///
/// Wright & Eastman 2014 (PASP 126, 838), equation 28, without Shapiro delay, proper motion and parallax; Earth's velocity and
/// rotation from ERFA, UT1 taken as UTC (that is less than 3e-11 in the factor).
/// @param ra, dec  ICRS, degrees
/// @param mjd      modified Julian date, UTC
/// @throws Error for coordinates or a date out of range
[[nodiscard]] double barycentricFactor(double ra, double dec, double mjd, const Observatory& observatory = kittPeak);

/// The same at mid-exposure, from the headers of a CCD image: TARGTRA, TARGTDEC or SKYRA, SKYDEC or TELRA, TELDEC or RA, DEC;
/// MJD-OBS or MJD; EXPTIME (0 where it is missing). Early DESI files have the coordinates in the fibermap's header only.
/// @param fibermap  looked at where the primary header has no coordinates or no date; may be null
/// @param file      named in errors
/// @throws Error naming the keywords looked for
[[nodiscard]] double barycentricFactor(const FitsHeader& primary, const FitsHeader* fibermap = nullptr,
                                       const Observatory& observatory = kittPeak, std::string_view file = {});

} // namespace patchlight
