#pragma once

#include "core/base/Timeline.h"

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace patchlight {

/// One range of a trace.
struct TraceRange {
    std::int64_t start = 0;    ///< ns
    std::int64_t duration = 0; ///< ns
    int name = 0;              ///< index into Trace::names
    int lane = 0;              ///< index into Trace::lanes
    int depth = 0;             ///< ranges around it on its lane
    int parent = -1;           ///< index of the one directly around it; -1: none
    RangeTags tags;
    [[nodiscard]] std::int64_t end() const { return start + duration; }
};

/// A thread or a stream of a process.
struct TraceLane {
    std::int64_t process = 0;
    std::int64_t thread = 0;
    std::string processName;
    std::string name;
    std::size_t first = 0, last = 0; ///< its ranges, [first, last) of Trace::ranges
    int depths = 0;                  ///< levels of nesting
};

/// Named ranges of a run, from wherever: a run of this program, a Chrome trace file, a profiler's file.
struct Trace {
    std::string source; ///< file, or what ran
    std::vector<std::string> names;
    std::vector<TraceLane> lanes;
    std::vector<TraceRange> ranges;  ///< by lane, then by start; one that holds another comes first
    std::int64_t begin = 0, end = 0; ///< ns: the first start and the last end
    std::vector<std::string> notes;  ///< what was left out

    [[nodiscard]] bool empty() const { return ranges.empty(); }
    /// Number of the name; it is added where it is new.
    int nameIndex(std::string_view name);
    /// Number of the lane of a process and thread; it is added where it is new.
    int laneIndex(std::int64_t process, std::int64_t thread);
    /// Sorts ranges, finds depths and parents, sets begin and end; call when all ranges are there. Ranges of one lane that overlap without one
    /// holding the other get a lane more ("... (overlapping)"), unless it is by a nanosecond.
    void finish();

private:
    std::vector<std::pair<std::string, int>> nameOrder_; ///< sorted
    std::map<std::pair<std::int64_t, std::int64_t>, int> laneOrder_;
};

/// Ranges of this program. @param processName  of the lanes
[[nodiscard]] Trace traceOf(const std::vector<RangeRecord>& records, const std::string& processName);
/// Reads Chrome trace JSON: complete events (X), begin and end pairs (B, E), names of processes and threads (M); others are left out.
/// @throws Error naming the file and what is wrong
[[nodiscard]] Trace readChromeTrace(const std::string& path);
/// As readChromeTrace, from text.
[[nodiscard]] Trace parseChromeTrace(std::string_view json, const std::string& source);
/// Chrome trace JSON of ranges, a tid a lane, microseconds with fractions.
[[nodiscard]] std::string chromeTrace(const Trace& trace);

/// What a name took, all times in seconds; percentiles as numpy.percentile gives them.
struct RangeStatistics {
    int name = 0;
    std::int64_t calls = 0;
    double total = 0; ///< over all lanes; a range inside one of its own name is not counted twice
    double self = 0;  ///< without the ranges inside
    double mean = 0, median = 0, smallest = 0, largest = 0, p95 = 0;
    double deviation = 0; ///< standard deviation
    double shareOfParent =
        0; ///< total over that of the ranges directly around, 0 .. 1; of the trace's time where there are none
};
/// Statistics of the ranges that begin in [begin, end) ns, by falling total; empty interval: of all.
[[nodiscard]] std::vector<RangeStatistics> rangeStatistics(const Trace& trace, std::int64_t begin = 0,
                                                           std::int64_t end = 0);
/// A line a name, with a header; times in seconds.
[[nodiscard]] std::string statisticsCsv(const Trace& trace, const std::vector<RangeStatistics>& statistics);

/// One name in two runs. Means are NaN where a run has no such range.
struct RangeChange {
    std::string name;
    std::int64_t callsA = 0, callsB = 0;
    double totalA = 0, totalB = 0; ///< seconds
    double meanA = 0, meanB = 0;   ///< seconds
};
/// By falling difference of totals.
[[nodiscard]] std::vector<RangeChange> compareTraces(const Trace& a, const Trace& b);

/// Durations of all ranges of a name, seconds, in the order of their starts over all lanes.
struct RangeCall {
    int range = 0; ///< index into Trace::ranges
    double seconds = 0;
};
[[nodiscard]] std::vector<RangeCall> callsOf(const Trace& trace, int name);

/// A box of a lane's timeline as a screen shows it: a range that is wide enough, or several tiny ones.
struct TimelineBox {
    int range = 0; ///< the range, or the first of several
    int count = 1;
    double x0 = 0, x1 = 0; ///< pixels from `begin`
};
/// Boxes of one depth of a lane between begin and end (ns) on `width` pixels. Ranges narrower than a pixel are merged with those that follow
/// in the same pixel; the work is in proportion to the width, not to the number of ranges.
class LaneBoxes {
public:
    LaneBoxes() = default;
    LaneBoxes(const Trace& trace, int lane);
    [[nodiscard]] int depths() const { return static_cast<int>(byDepth_.size()); }
    void boxes(const Trace& trace, int depth, std::int64_t begin, std::int64_t end, double width,
               std::vector<TimelineBox>& out) const;
    /// The range at a time; -1: none.
    [[nodiscard]] int rangeAt(const Trace& trace, int depth, std::int64_t time) const;

private:
    std::vector<std::vector<int>> byDepth_; ///< of each depth, its ranges by start: they do not overlap
};

} // namespace patchlight
