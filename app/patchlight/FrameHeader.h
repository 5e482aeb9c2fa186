#pragma once

#include "core/engine/FrameHeader.h"

namespace patchlight::commands {

using patchlight::describeFrame;
using patchlight::describePlan;
using patchlight::requireSameSize;

} // namespace patchlight::commands
