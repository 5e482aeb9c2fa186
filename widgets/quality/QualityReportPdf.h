#pragma once

#include <QString>

namespace patchlight::widgets {

class FrameQualityPanel;

/// Writes what a panel has measured as a PDF of A4 pages: summary with the map of causes, maps, the worst place of each cause with its pixels,
/// noise, fibers. @returns the error; empty: done
[[nodiscard]] QString writeQualityReport(const FrameQualityPanel& panel, const QString& path);

} // namespace patchlight::widgets
