#pragma once

#include "gpu/CudaDevice.h"
#include "gpu/HostDevice.h"
#include "tests/support/TestSupport.h"

#include <QString>

#include <memory>
#include <string>

/// The devices that kernels are tested on: the host in a device's place, always, and a GPU where there is one.
namespace patchlight::test {

/// Names of the rows of a test: "host" runs a team's members one after the other, "threads" side by side with barriers between.
inline constexpr const char* deviceNames[] = {"host", "threads", "cuda"};

/// @return null where there is none, `why` says the reason
inline std::unique_ptr<gpu::Device> makeDevice(const QString& name, std::string& why, std::size_t memory = 0) {
    if (name == "cuda") return gpu::makeCudaDevice(0, why);
    return gpu::makeHostDevice({.members = name == "threads" ? 3 : 1, .memory = memory, .poison = true});
}

} // namespace patchlight::test

// NOLINTBEGIN(bugprone-macro-parentheses): a variable is declared
/// A device of that name in `variable`, or the test function ends as skipped (failed with PATCHLIGHT_REQUIRE_GPU).
#define PATCHLIGHT_DEVICE_OR_SKIP(variable, name)                                                                      \
    std::string variable##Why;                                                                                         \
    std::unique_ptr<patchlight::gpu::Device> variable = patchlight::test::makeDevice((name), variable##Why);           \
    if (!(variable)) PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_GPU", variable##Why.c_str())
// NOLINTEND(bugprone-macro-parentheses)
