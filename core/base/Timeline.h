#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

namespace patchlight {

/// What a named range is about; shown in traces beside the name. -1: not said.
struct RangeTags {
    int bundle = -1;
    int step = -1;    ///< first wavelength step of a batch, or a patch's step
    int patches = -1; ///< patches in a batch
    int frame = -1;   ///< which frame of a run of many; set by the timeline of that frame
};

/// One finished range.
struct RangeRecord {
    const char* name = nullptr; ///< static string
    std::int64_t start = 0;     ///< ns since the timeline's origin
    std::int64_t duration = 0;  ///< ns
    int lane = 0;               ///< thread or stream, numbered in order of appearance
    RangeTags tags;
    bool stream = false; ///< the lane is a stream of a device
};

/// Collects the named ranges of a run. Ranges on one lane nest; any number of threads may record at once.
class Timeline {
public:
    Timeline();
    /// The timeline of one frame in a run of many: what it is given goes to `parent` (which may be null: then only the profiler sees
    /// it), with the frame's number. The parent must outlive it.
    Timeline(Timeline* parent, int frame);
    ~Timeline();
    Timeline(const Timeline&) = delete;
    Timeline& operator=(const Timeline&) = delete;

    /// ns since this timeline was made.
    [[nodiscard]] std::int64_t now() const;
    void record(const char* name, std::int64_t start, std::int64_t duration, const RangeTags& tags);
    /// Records a range of a device's stream, on a lane of its own. @param stream any number above 0 that is this stream's only
    void recordStream(std::uint64_t stream, const char* name, std::int64_t start, std::int64_t duration,
                      const RangeTags& tags);
    /// The frame that ranges of this timeline are about; -1: not said.
    [[nodiscard]] int frame() const { return frame_; }
    /// All ranges so far, by lane and then by start. Call when no range is open.
    [[nodiscard]] std::vector<RangeRecord> records() const;
    /// Chrome trace JSON (ts, dur in microseconds with fractions, one tid a lane), as Perfetto opens it.
    void writeChromeTrace(std::ostream& out, std::string_view processName) const;

private:
    struct Lane;
    Lane& laneOfThisThread();
    std::chrono::steady_clock::time_point origin_;
    std::uint64_t id_;
    Timeline* parent_ = nullptr;
    bool forwards_ = false; ///< to parent_, or to nobody
    int frame_ = -1;
    mutable std::mutex mutex_;
    std::vector<std::unique_ptr<Lane>> lanes_;
};

/// A named range: from construction to destruction, in the timeline (where there is one) and as an NVTX range (where built in).
/// `name` must be a string literal.
class NamedRange {
public:
    NamedRange(Timeline* timeline, const char* name, RangeTags tags = {});
    ~NamedRange();
    NamedRange(const NamedRange&) = delete;
    NamedRange& operator=(const NamedRange&) = delete;

private:
    Timeline* timeline_;
    const char* name_;
    RangeTags tags_;
    std::int64_t start_ = 0;
};

/// Ranges as events of Chrome trace JSON, separated by commas, without the brackets around: `process` (pid) is one program, so that those of
/// several ranks can stand side by side in one file. @param offset ns added to every start: the ranks' clocks made one
[[nodiscard]] std::string chromeTraceEvents(const std::vector<RangeRecord>& records, int process,
                                            std::string_view processName, std::int64_t offset = 0);

/// Totals of one name, for tables and the bench.
struct RangeSummary {
    std::string name;
    std::int64_t calls = 0;
    double totalSeconds = 0; ///< summed over lanes
    double selfSeconds = 0;  ///< without the ranges inside
};

/// Sums ranges by name, in order of first appearance.
[[nodiscard]] std::vector<RangeSummary> summarize(const std::vector<RangeRecord>& records);

} // namespace patchlight
