#pragma once

#include "core/image/CcdImage.h"
#include "core/image/RowGate.h"

#include <chrono>
#include <memory>
#include <string>

namespace patchlight {

class Timeline;

/// A CCD image ready for the engine (as WeightedPixels) whose rows arrive, the lowest first, while others already compute: threads of its own
/// read, decode and weight it. With one thread, all of it is read before the constructor returns.
///
/// IMAGE, IVAR and MASK are read a block of rows at a time, beside each other; where IMAGE or IVAR is tile-compressed, before the constructor
/// returns, since decoding takes all threads (MASK may be, which is little work). A .gz file is inflated in its
/// own order, so that rows are there when those of the last of the three are; what follows is inflated meanwhile. Where its HDUs are in an
/// unusual order, rows come when it has been inflated as a whole.
class ArrivingImage {
public:
    /// Begins to read a preproc file, as readCcdImage() does; returns when its size and header are known.
    /// @param threads  that read; 0: all cores
    /// @param timeline may be null; else outlives this object
    /// @throws Error naming file and HDU
    ArrivingImage(const std::string& path, int threads, Timeline* timeline = nullptr);
    /// Stops reading where it has not ended.
    ~ArrivingImage();
    ArrivingImage(const ArrivingImage&) = delete;
    ArrivingImage& operator=(const ArrivingImage&) = delete;

    /// Path, size and header; the fibermap after finish(). Holds no pixels.
    [[nodiscard]] const CcdImage& about() const;
    /// Only rows that rows() says are there may be read.
    [[nodiscard]] CcdView view() const;
    /// Tells of an error, too, wherever it is in the file.
    [[nodiscard]] const RowGate& rows() const;
    /// Waits until the file has been read to its end or that has failed, but not longer than `patience`. @return whether that is so
    [[nodiscard]] bool waitForEnd(std::chrono::milliseconds patience) const;
    /// Waits until the file has been read to its end, which may lie behind the pixels. @throws Error
    void finish();

private:
    class Reader;
    std::unique_ptr<Reader> reader_;
};

} // namespace patchlight
