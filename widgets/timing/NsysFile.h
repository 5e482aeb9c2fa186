#pragma once

#include "core/analysis/Trace.h"

#include <QString>

namespace patchlight::widgets {

/// Reads what `nsys export --type sqlite` writes: NVTX ranges by thread (NVTX_EVENTS, push/pop and start/end), kernels and copies by stream
/// (CUPTI_ACTIVITY_KIND_KERNEL, _MEMCPY, _MEMSET), names of threads and processes. Versions differ in their tables and columns: those that are
/// there are read. "bundle", "step" and "frame" behind a range's name become tags. @throws Error naming the file
[[nodiscard]] Trace readNsysFile(const QString& path);

} // namespace patchlight::widgets
