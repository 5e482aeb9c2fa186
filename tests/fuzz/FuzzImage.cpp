#include "core/image/CcdImage.h"
#include "tests/fuzz/FuzzFile.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    patchlight::fuzz::withFile(data, size, ".fits",
                               [](const std::string& path) { (void)patchlight::readCcdImage(path); });
    return 0;
}
