#include "app/patchlight/Backends.h"

#include "core/base/Error.h"
#include "core/cpu/CpuBackend.h"
#include "gpu/CudaBackend.h"

#include <fmt/format.h>

namespace patchlight::commands {

std::unique_ptr<Backend> makeBackend(const std::string& name) {
    if (name == "cpu") return makeCpuBackend();
    std::string why;
    if (std::unique_ptr<Backend> cuda = makeCudaBackend({}, why)) return cuda;
    if (name == "auto") return makeCpuBackend();
    throw UsageError(fmt::format("--backend cuda: {}; --backend cpu gives the same results", why));
}

} // namespace patchlight::commands
