#pragma once

/// Marks a function with physical meaning that is written once and runs on the CPU and on the GPU.
#if defined(__CUDACC__)
#define PATCHLIGHT_HOST_DEVICE __host__ __device__
#else
#define PATCHLIGHT_HOST_DEVICE
#endif
