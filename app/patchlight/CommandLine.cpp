#include "app/patchlight/CommandLine.h"

#include <filesystem>
#include <fstream>
#include <iterator>

#include <fmt/format.h>

namespace patchlight::commands {

std::string commandLine() {
    std::ifstream in("/proc/self/cmdline", std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
    std::string line;
    std::size_t begin = 0;
    while (begin < text.size()) {
        std::size_t end = text.find('\0', begin);
        if (end == std::string::npos) end = text.size();
        std::string word = text.substr(begin, end - begin);
        if (begin == 0) word = std::filesystem::path(word).filename().string();
        if (word.find_first_of(" '\"\\$&|;<>()*?") != std::string::npos || word.empty())
            word = fmt::format("'{}'", word);
        if (!line.empty()) line += ' ';
        line += word;
        begin = end + 1;
    }
    return line;
}

} // namespace patchlight::commands
