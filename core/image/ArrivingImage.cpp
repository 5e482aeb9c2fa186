#include "core/image/ArrivingImage.h"

#include "core/base/Error.h"
#include "core/base/Memory.h"
#include "core/base/Parallel.h"
#include "core/base/Timeline.h"
#include "core/io/FitsFile.h"
#include "core/io/FitsTableLayout.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <future>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

namespace patchlight {

namespace {

/// Rows of a block, about half a megabyte of each plane, which stays in the cache until it has its weights.
constexpr int blockRows = 32;

} // namespace

/// Reads the file on a thread of its own, which is told of HDUs and gets the data of .gz files as the file's listener.
class ArrivingImage::Reader final : public FitsFile::Listener {
public:
    Reader(const std::string& path, int threads, Timeline* timeline)
        : path_(path), threads_(threadsToUse(threads)), timeline_(timeline) {
        std::future<void> known = known_.get_future();
        if (threads_ > 1) {
            try {
                thread_ = std::jthread([this](const std::stop_token& stop) { read(stop); });
            } catch (const std::system_error&) {
                threads_ = 1; // a limit of the system
            }
        }
        if (threads_ == 1) read({});
        known.get();
        if (threads_ == 1) finish();
    }

    void finish() {
        if (thread_.joinable()) thread_.join();
        (void)rows.ready(); // throws what went wrong
    }

    // FitsFile::Listener

    bool takes(const FitsFile& file, const FitsHdu& hdu) override {
        current_ = Plane::None;
        const bool usable = hdu.kind == FitsHduKind::Image && file.find(hdu.name) == nullptr; // of one name, the first
        if (usable && sameFitsName(hdu.name, "IMAGE")) {
            describe(file, hdu);
            announce();
            makePages();
            current_ = Plane::Pixels;
            values_.emplace(file, hdu, 1, 1);
        } else if (usable && sameFitsName(hdu.name, "IVAR") && have_.pixels) {
            requireCcdShape(file, hdu, about.nx, about.ny);
            current_ = Plane::Weights;
            values_.emplace(file, hdu, 1, 1);
        } else if (usable && sameFitsName(hdu.name, "MASK") && have_.weights) {
            requireCcdShape(file, hdu, about.nx, about.ny);
            current_ = Plane::Mask;
            bits_.emplace(file, hdu, 1, 1);
        }
        // What nobody wants is inflated and passed by here, too, so that a stop is noticed.
        return current_ != Plane::None || !isKept(hdu);
    }

    void take(const FitsHdu& hdu, std::uint64_t first, std::span<const std::uint8_t> bytes) override {
        stopIfAsked();
        if (current_ == Plane::None) return;
        const std::size_t size = static_cast<std::size_t>(std::abs(hdu.bitpix)) / 8;
        const std::size_t begin = static_cast<std::size_t>(first) / size;
        const std::size_t count = bytes.size() / size;
        if (current_ != Plane::Mask) {
            values_->convert(bytes, {plane(current_) + begin, count});
            return;
        }
        scratch_.resize(count);
        bits_->convert(bytes, scratch_);
        zeroMasked(pixels() + begin, weights() + begin, scratch_.data(), count);
        rows.open(static_cast<int>((begin + count) / static_cast<std::size_t>(about.nx)));
    }

    void complete(const FitsFile& file, const FitsHdu& hdu) override {
        if (current_ == Plane::Pixels) have_.pixels = true;
        if (current_ == Plane::Weights) have_.weights = true;
        current_ = Plane::None;
        if (hdu.kind != FitsHduKind::CompressedImage || !sameFitsName(hdu.name, "MASK") || file.find("MASK") != &hdu)
            return;
        if (have_.weights) readBlocks(file, nullptr, nullptr, &hdu);
    }

    CcdImage about;
    RowGate rows;
    [[nodiscard]] float* pixels() const { return static_cast<float*>(pixels_.get()); }
    [[nodiscard]] float* weights() const { return static_cast<float*>(weights_.get()); }
    [[nodiscard]] bool waitForEnd(std::chrono::milliseconds patience) const {
        return end_.wait_for(patience) == std::future_status::ready;
    }

private:
    enum class Plane { None, Pixels, Weights, Mask };

    [[nodiscard]] float* plane(Plane which) const { return which == Plane::Pixels ? pixels() : weights(); }

    /// Whether the data of an HDU stay in memory, so that they can be read after those behind it.
    static bool isKept(const FitsHdu& hdu) {
        const bool unnamed = hdu.name.empty() || hdu.name == "PRIMARY" || hdu.name == "COMPRESSED_IMAGE";
        return unnamed || sameFitsName(hdu.name, "IMAGE") || sameFitsName(hdu.name, "IVAR") ||
               sameFitsName(hdu.name, "MASK") || sameFitsName(hdu.name, "FIBERMAP");
    }

    void stopIfAsked() const {
        if (stop_.stop_requested()) throw Cancelled();
    }

    /// The thread: whatever happens, those who wait are told.
    void read(const std::stop_token& stop) {
        stop_ = stop;
        try {
            const NamedRange range(timeline_, "read image");
            try {
                readFile();
            } catch (const std::bad_alloc&) {
                throw Error(fmt::format("{}: not enough memory for this image", printable(path_)));
            }
        } catch (...) {
            rows.fail(std::current_exception());
            if (!announced_) known_.set_exception(std::current_exception());
        }
        ended_.set_value();
        if (threads_ > 1) giveBackFreedMemory(); // else others take it anew while this thread's lies idle
    }

    void readFile() {
        const FitsFile file(path_, isKept, threads_, this);
        pageMaker_ = {};
        if (!described_) describe(file, file.requireMain("IMAGE"));
        const FitsHdu& ivar = file.require("IVAR");
        requireCcdShape(file, ivar, about.nx, about.ny);
        const FitsHdu* mask = file.find("MASK");
        if (mask != nullptr) requireCcdShape(file, *mask, about.nx, about.ny);
        if (const FitsHdu* readnoise = file.find("READNOISE")) requireCcdShape(file, *readnoise, about.nx, about.ny);
        if (const FitsHdu* fibermap = file.find("FIBERMAP")) about.fibermap = file.readTable(*fibermap);
        const FitsHdu& image = file.requireMain("IMAGE");
        // Decoding tiles takes all threads and their whole code in memory: nothing is gained beside the extraction.
        if (image.kind == FitsHduKind::Image && ivar.kind == FitsHduKind::Image) announce();
        if (rows.ready() < about.ny)
            readBlocks(file, have_.pixels ? nullptr : &image, have_.weights ? nullptr : &ivar, mask);
        announce();
    }

    /// Takes what a CCD image says of itself, and memory for its pixels.
    void describe(const FitsFile& file, const FitsHdu& image) {
        describeCcdImage(file, image, about);
        described_ = true;
        const std::size_t bytes = file.pixelCount(image) * sizeof(float);
        try {
            pixels_ = RawMemory(bytes);
            weights_ = RawMemory(bytes);
        } catch (const std::bad_alloc&) {
            file.fail(image, fmt::format("not enough memory for {} pixels", image.shapeText()));
        }
        fileBytes_ = file.fileBytes();
    }

    /// Lets the constructor return.
    void announce() {
        if (!std::exchange(announced_, true)) known_.set_value();
    }

    /// While one thread inflates, another makes the pages that it will write to.
    void makePages() {
        constexpr std::size_t likelyTimes = 16; // what a header promises is not made as a whole on its word
        const std::size_t bytes =
            static_cast<std::size_t>(about.nx) * static_cast<std::size_t>(about.ny) * sizeof(float);
        if (threads_ == 1 || bytes / likelyTimes > fileBytes_) return;
        try {
            pageMaker_ = std::jthread([this, bytes](const std::stop_token& stop) {
                constexpr std::size_t chunk = std::size_t{4} << 20;
                for (float* const plane : {pixels(), weights()})
                    for (std::size_t at = 0; at < bytes && !stop.stop_requested(); at += chunk)
                        touchPages(reinterpret_cast<unsigned char*>(plane) + at, std::min(chunk, bytes - at));
            });
        } catch (const std::system_error&) {
            // A limit of the system.
        }
    }

    /// Reads those of the three that are given and not there yet, block by block, and opens the rows.
    void readBlocks(const FitsFile& file, const FitsHdu* image, const FitsHdu* ivar, const FitsHdu* mask) {
        const std::size_t workers = workersFor(static_cast<std::size_t>(about.ny), threads_);
        std::optional<PixelReader<float>> readPixels;
        std::optional<PixelReader<float>> readWeights;
        std::optional<PixelReader<std::int32_t>> readMask;
        if (image != nullptr) readPixels.emplace(file, *image, workers, threads_);
        if (ivar != nullptr) readWeights.emplace(file, *ivar, workers, threads_);
        if (mask != nullptr) readMask.emplace(file, *mask, workers, threads_);
        const auto nx = static_cast<std::size_t>(about.nx);
        const std::size_t all = nx * static_cast<std::size_t>(about.ny);
        std::size_t block = nx;
        for (const std::size_t stride : {readPixels ? readPixels->stride() : 1, readWeights ? readWeights->stride() : 1,
                                         readMask ? readMask->stride() : 1})
            block = std::max(block, stride);
        block *= std::max<std::size_t>(1, blockRows * nx / block);

        const std::size_t blocks = (all - 1) / block + 1;
        std::vector<std::vector<std::int32_t>> bits(workers);
        std::vector<char> done(blocks);
        std::size_t lowest = 0; // of those not done
        std::mutex mutex;
        forEachParallel(blocks, threads_, [&](std::size_t index, std::size_t worker) {
            stopIfAsked();
            const NamedRange range(timeline_, "read rows");
            const std::size_t first = index * block;
            const std::size_t count = std::min(block, all - first);
            const auto readInto = [&](PixelReader<float>& reader, float* to) {
                touchPages(to, count * sizeof(float));
                reader.read(first, {to, count}, worker);
            };
            if (readPixels) readInto(*readPixels, pixels() + first);
            if (readWeights) readInto(*readWeights, weights() + first);
            if (readMask) {
                bits[worker].resize(count);
                readMask->read(first, bits[worker], worker);
            }
            zeroMasked(pixels() + first, weights() + first, readMask ? bits[worker].data() : nullptr, count);
            const std::lock_guard lock(mutex);
            done[index] = 1;
            while (lowest < blocks && done[lowest] != 0) ++lowest;
            rows.open(static_cast<int>(std::min(lowest * block, all) / nx));
        });
    }

    std::string path_;
    int threads_;
    Timeline* timeline_;
    std::stop_token stop_;
    RawMemory pixels_;
    RawMemory weights_;
    std::uint64_t fileBytes_ = 0;
    bool described_ = false;
    bool announced_ = false;
    std::promise<void> known_;
    std::promise<void> ended_;
    std::future<void> end_ = ended_.get_future();
    /// Of a .gz file: what has been inflated to its end, and what is being taken.
    struct {
        bool pixels = false;
        bool weights = false;
    } have_;
    Plane current_ = Plane::None;
    std::optional<PixelReader<float>> values_;
    std::optional<PixelReader<std::int32_t>> bits_;
    std::vector<std::int32_t> scratch_;
    std::jthread pageMaker_;
    std::jthread thread_; ///< last: ends before what it uses
};

ArrivingImage::ArrivingImage(const std::string& path, int threads, Timeline* timeline)
    : reader_(std::make_unique<Reader>(path, threads, timeline)) {}

ArrivingImage::~ArrivingImage() = default;

const CcdImage& ArrivingImage::about() const { return reader_->about; }

CcdView ArrivingImage::view() const {
    return {reader_->pixels(), reader_->weights(), reader_->about.nx, reader_->about.ny};
}

const RowGate& ArrivingImage::rows() const { return reader_->rows; }

bool ArrivingImage::waitForEnd(std::chrono::milliseconds patience) const { return reader_->waitForEnd(patience); }

void ArrivingImage::finish() { reader_->finish(); }

} // namespace patchlight
