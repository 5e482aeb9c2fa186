#include "core/io/RiceCode.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

namespace patchlight {

namespace {

/// A position in a stream of bits, the most significant bit of a byte first.
class BitStream {
public:
    explicit BitStream(std::span<const std::uint8_t> bytes) : bytes_(bytes), size_(8 * bytes.size()) {}

    /// False where the stream ends before that.
    [[nodiscard]] bool skip(std::uint64_t bits) {
        if (bits > size_ - position_) return false;
        position_ += bits;
        return true;
    }

    /// The next bits as a number; 0 to 32 of them, and zeros where the stream has ended.
    [[nodiscard]] std::uint64_t peek(int bits) const { return bits == 0 ? 0 : window() >> (64 - bits); }

    /// Goes behind the next bit that is 1. False where there is none.
    [[nodiscard]] bool skipZerosAndOne() {
        while (position_ < size_) {
            const std::uint64_t bits = window();
            if (bits != 0) return skip(static_cast<std::uint64_t>(std::countl_zero(bits)) + 1);
            position_ = std::min(position_ + certain, size_);
        }
        return false;
    }

private:
    static constexpr std::uint64_t certain = 57; ///< bits of a window that are there wherever in a byte it begins

    /// The bits from here on, left-justified.
    [[nodiscard]] std::uint64_t window() const {
        const std::size_t first = position_ / 8;
        std::uint64_t bits = 0;
        std::memcpy(&bits, bytes_.data() + first, std::min<std::size_t>(8, bytes_.size() - first));
        if constexpr (std::endian::native == std::endian::little) bits = __builtin_bswap64(bits);
        return bits << (position_ % 8);
    }

    std::span<const std::uint8_t> bytes_;
    std::uint64_t size_;
    std::uint64_t position_ = 0;
};

} // namespace

bool riceCodeIsWhole(std::span<const std::uint8_t> code, std::uint64_t pixels, int block, int bytesPerPixel) {
    // Bits of a block's head, which says how many low bits of each difference stand as they are; and the head of a block
    // whose differences are not encoded at all.
    const int headBits = bytesPerPixel == 4 ? 5 : bytesPerPixel == 2 ? 4 : 3;
    const int plainHead = bytesPerPixel == 4 ? 26 : bytesPerPixel == 2 ? 15 : 7;
    if (code.size() <= static_cast<std::size_t>(bytesPerPixel)) return false;

    BitStream stream(code.subspan(static_cast<std::size_t>(bytesPerPixel)));
    for (std::uint64_t done = 0; done < pixels; done += static_cast<std::uint64_t>(block)) {
        const std::uint64_t count = std::min<std::uint64_t>(static_cast<std::uint64_t>(block), pixels - done);
        const int head = static_cast<int>(stream.peek(headBits));
        if (!stream.skip(static_cast<std::uint64_t>(headBits))) return false;
        if (head == 0) continue; // all differences are zero
        if (head == plainHead) {
            if (!stream.skip(count * 8 * static_cast<std::uint64_t>(bytesPerPixel))) return false;
            continue;
        }
        for (std::uint64_t i = 0; i < count; ++i)
            if (!stream.skipZerosAndOne() || !stream.skip(static_cast<std::uint64_t>(head - 1))) return false;
    }
    return true;
}

} // namespace patchlight
