#pragma once

/// Unrolls the loop that follows, so that an array of vectors indexed by its counter stays in registers.
#if defined(__clang__)
#define PATCHLIGHT_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PATCHLIGHT_UNROLL _Pragma("GCC unroll 32")
#endif
