#pragma once

#include <string>

namespace patchlight::simulate {

/// A fault put into a simulated image on purpose, which neither MASK nor the PSF knows of: what a look at the extracted frame has to find.
struct PlantedFault {
    enum class Kind {
        Cosmic,    ///< a cosmic ray that crosses a trace
        Trace,     ///< a fiber's light beside where the PSF has its trace
        Width,     ///< all light wider than the PSF has it, along x and y
        Column,    ///< a column that loses charge
        Amplifier, ///< an amplifier that reads out noise only
        Neighbour, ///< a fiber much brighter than it was
        Saturated, ///< a line beyond saturation
    };
    Kind kind = Kind::Cosmic;
    int spectrum = 0;      ///< Cosmic, Trace, Neighbour, Saturated
    double wavelength = 0; ///< Cosmic, Saturated, Angstrom
    double amount =
        0; ///< Cosmic: electrons a pixel; Trace: pixels along x; Width: fraction that the PSF is too narrow by;
           ///< Neighbour: factor; Saturated: photons, 0: 15 times saturation
    int column = 0;       ///< Column
    char amplifier = 'A'; ///< Amplifier: A to D
    std::string text;     ///< as it was asked for
};

/// Parses "cosmic:FIBER,WAVE[,ELECTRONS]", "trace:FIBER,PIXELS", "width:FRACTION", "column:X", "amplifier:A", "neighbour:FIBER,FACTOR" or
/// "saturated:FIBER,WAVE[,PHOTONS]". @throws UsageError naming the option --plant
[[nodiscard]] PlantedFault parsePlantedFault(const std::string& text);

} // namespace patchlight::simulate
