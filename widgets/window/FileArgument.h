#pragma once

#include <QRect>
#include <QString>

#include <optional>

namespace patchlight::widgets {

/// A file as ds9 names it: "pre.fits[IVAR][100:200,300:400]".
struct FileArgument {
    QString path;
    QString hdu;                  ///< "IVAR"; empty: none was named
    std::optional<QRect> section; ///< zero-based pixels
};

/// Takes a name apart. A file that has the whole text as its name is that file. Sections count from 1, as in FITS and ds9.
[[nodiscard]] FileArgument parseFileArgument(const QString& text);

} // namespace patchlight::widgets
