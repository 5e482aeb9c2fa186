#include "core/frame/ExtractedFrame.h"
#include "tests/fuzz/FuzzFile.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    patchlight::fuzz::withFile(data, size, ".fits", [](const std::string& path) { (void)patchlight::readFrame(path); });
    return 0;
}
