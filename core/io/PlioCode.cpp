#include "core/io/PlioCode.h"

#include <cstddef>

namespace patchlight {

bool plioCodeIsWhole(std::span<const std::uint8_t> words) {
    const std::size_t count = words.size() / 2;
    const auto word = [&](std::size_t i) {
        return static_cast<std::int16_t>(static_cast<std::uint16_t>(words[2 * i] << 8 | words[2 * i + 1]));
    };
    constexpr std::size_t shortHead = 3; // the third word is the length of the list: the first version
    constexpr std::size_t head = 5;      // it is not above 0, and two more hold the length, 15 bits each
    if (count < shortHead) return false;
    std::int64_t length = word(2);
    std::int64_t first = static_cast<std::int64_t>(shortHead);
    if (length <= 0) {
        if (count < head) return false;
        length = word(4) * std::int64_t{1 << 15} + word(3);
        first = word(1); // words of the head
    }
    if (length <= 0 || first < 0 || length > static_cast<std::int64_t>(count)) return false;
    constexpr int instructionBits = 4096;
    constexpr int setHighWord = 1; // takes the word behind it
    for (std::int64_t i = first; i < length; ++i) {
        if (word(static_cast<std::size_t>(i)) / instructionBits != setHighWord) continue;
        if (++i >= static_cast<std::int64_t>(count)) return false;
    }
    return true;
}

} // namespace patchlight
