#include "gpu/CudaBackend.h"

namespace patchlight {

std::unique_ptr<Backend> makeCudaBackend(std::string& why) {
    why = "this program was built without a CUDA backend";
    return nullptr;
}

} // namespace patchlight
