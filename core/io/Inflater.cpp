#include "core/io/Inflater.h"

#include <algorithm>
#include <limits>
#include <new>
#include <string>
#include <utility>

#ifdef PATCHLIGHT_HAVE_ISAL
#include <isa-l/igzip_lib.h>
#else
#include <zlib.h>
#endif

namespace patchlight {

namespace {

constexpr std::size_t inflaterBuffer = std::size_t{1} << 18;
constexpr std::uint8_t gzipMagic = 0x1F;
constexpr std::size_t mostInflatedAtOnce = std::numeric_limits<std::uint32_t>::max() / 2;

} // namespace

#ifdef PATCHLIGHT_HAVE_ISAL

struct Inflater::Stream {
    inflate_state state;
};

namespace {

const char* meaning(int status) {
    switch (status) {
    case ISAL_INVALID_BLOCK:
        return "damaged: invalid block";
    case ISAL_INVALID_SYMBOL:
        return "damaged: invalid code";
    case ISAL_INVALID_LOOKBACK:
        return "damaged: invalid distance too far back";
    case ISAL_INVALID_WRAPPER:
        return "damaged: invalid gzip header";
    case ISAL_UNSUPPORTED_METHOD:
        return "damaged: unknown compression method";
    case ISAL_INCORRECT_CHECKSUM:
        return "damaged: incorrect check sum or size";
    default:
        return "damaged";
    }
}

} // namespace

void Inflater::startMember() {
    inflate_state& state = stream_->state;
    isal_inflate_init(&state);
    state.crc_flag = ISAL_GZIP;
}

std::size_t Inflater::inflateOnce(std::uint8_t* out, std::size_t count) {
    inflate_state& state = stream_->state;
    state.next_in = const_cast<std::uint8_t*>(next_); // ISA-L does not write to it
    state.avail_in = static_cast<std::uint32_t>(left_);
    state.next_out = out;
    const std::size_t room = std::min(count, mostInflatedAtOnce);
    state.avail_out = static_cast<std::uint32_t>(room);
    const int status = isal_inflate(&state);
    if (status < 0) throw Failure(meaning(status));
    left_ = state.avail_in;
    next_ = state.next_in;
    ended_ = state.block_state == ISAL_BLOCK_FINISH;
    if (ended_) {
        // Whole bytes that were taken from the input, and are not this member's.
        const auto back = std::min(static_cast<std::size_t>(std::max(0, state.read_in_length) / 8),
                                   static_cast<std::size_t>(next_ - buffer_.get()));
        next_ -= back;
        left_ += back;
    }
    return room - state.avail_out;
}

Inflater::~Inflater() = default;

#else

struct Inflater::Stream {
    Stream() {
        // 16: the gzip wrapper, whose check sum zlib compares.
        if (inflateInit2(&state, MAX_WBITS + 16) != Z_OK) throw std::bad_alloc();
    }
    ~Stream() { inflateEnd(&state); }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;
    z_stream state = {};
};

void Inflater::startMember() {
    if (inflateReset(&stream_->state) != Z_OK) throw Failure("damaged");
}

std::size_t Inflater::inflateOnce(std::uint8_t* out, std::size_t count) {
    z_stream& state = stream_->state;
    state.next_in = const_cast<Bytef*>(next_); // zlib does not write to it
    state.avail_in = static_cast<uInt>(left_);
    state.next_out = out;
    const std::size_t room = std::min(count, mostInflatedAtOnce);
    state.avail_out = static_cast<uInt>(room);
    const int status = inflate(&state, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_BUF_ERROR && status != Z_STREAM_END)
        throw Failure(std::string("damaged: ") + (state.msg != nullptr ? state.msg : zError(status)));
    left_ = state.avail_in;
    next_ = state.next_in;
    ended_ = status == Z_STREAM_END;
    return room - state.avail_out;
}

Inflater::~Inflater() = default;

#endif

Inflater::Inflater(Input input)
    : input_(std::move(input)), buffer_(new std::uint8_t[inflaterBuffer]), stream_(std::make_unique<Stream>()) {
    startMember();
}

bool Inflater::refill() {
    if (left_ > 0) return true;
    next_ = buffer_.get();
    left_ = input_(buffer_.get(), inflaterBuffer);
    return left_ > 0;
}

std::size_t Inflater::read(std::uint8_t* out, std::size_t count) {
    std::size_t done = 0;
    while (done < count) {
        if (ended_) {
            // gzip files may be concatenated; anything else behind the stream is not ours.
            if (!refill() || *next_ != gzipMagic) break;
            startMember();
            ended_ = false;
        }
        const bool more = refill();
        const std::size_t got = inflateOnce(out + done, count - done);
        done += got;
        if (!more && got == 0 && !ended_) throw Failure("truncated");
    }
    return done;
}

} // namespace patchlight
