#include "core/analysis/Trace.h"

#include "core/base/Error.h"
#include "core/base/Nan.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <map>
#include <numeric>
#include <sstream>
#include <tuple>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace patchlight {

namespace {

constexpr double nanosecond = 1e-9; // seconds

/// As numpy.percentile with linear interpolation. Values sorted.
double percentile(const std::vector<double>& sorted, double share) {
    if (sorted.empty()) return std::numeric_limits<double>::quiet_NaN();
    const double at = share * static_cast<double>(sorted.size() - 1);
    const auto low = static_cast<std::size_t>(at);
    const std::size_t high = std::min(sorted.size() - 1, low + 1);
    return sorted[low] + (at - static_cast<double>(low)) * (sorted[high] - sorted[low]);
}

std::int64_t nanoseconds(double microseconds) { return static_cast<std::int64_t>(std::llround(1000.0 * microseconds)); }

/// Takes the events of a Chrome trace as they are parsed, without building a tree.
class EventReader final : public nlohmann::json_sax<nlohmann::json> {
public:
    EventReader(Trace& trace, std::string source) : trace_(trace), source_(std::move(source)) {}

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t value) override { return number(static_cast<double>(value)); }
    bool number_unsigned(number_unsigned_t value) override { return number(static_cast<double>(value)); }
    bool number_float(number_float_t value, const string_t&) override { return number(value); }
    bool string(string_t& value) override {
        if (inEvent()) {
            if (key_ == "name" && depth_ == event_) name_ = value;
            if (key_ == "ph" && depth_ == event_) phase_ = value.empty() ? ' ' : value[0];
            if (key_ == "name" && depth_ == event_ + 1) argumentName_ = value;
            // Some writers quote their numbers.
            if ((key_ == "tid" || key_ == "pid") && depth_ == event_)
                return number(std::strtod(value.c_str(), nullptr));
        }
        return true;
    }
    bool binary(binary_t&) override { return true; }
    bool start_object(std::size_t) override {
        ++depth_;
        if (depth_ == event_ && inList_) {
            name_.clear();
            argumentName_.clear();
            phase_ = ' ';
            start_ = duration_ = 0;
            process_ = thread_ = 0;
            tags_ = {};
        }
        return true;
    }
    bool end_object() override {
        if (depth_ == event_ && inList_) finishEvent();
        --depth_;
        return true;
    }
    bool start_array(std::size_t) override {
        ++depth_;
        // Either the whole file is the list of events, or it is "traceEvents" of an object.
        if (!inList_ && (depth_ == 1 || (depth_ == 2 && key_ == "traceEvents"))) {
            inList_ = true;
            found = true;
            event_ = depth_ + 1;
        }
        return true;
    }
    bool end_array() override {
        if (inList_ && depth_ == event_ - 1) inList_ = false;
        --depth_;
        return true;
    }
    bool key(string_t& value) override {
        key_ = value;
        return true;
    }
    bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception& error) override {
        problem = fmt::format("not JSON at byte {}: {}", position, error.what());
        return false;
    }

    std::string problem;
    bool found = false;
    std::int64_t skipped = 0;   ///< events of other kinds
    std::int64_t unmatched = 0; ///< ends without a beginning

    /// Beginnings that have no end.
    [[nodiscard]] std::int64_t open() const {
        std::int64_t count = 0;
        for (const auto& [lane, stack] : open_) count += static_cast<std::int64_t>(stack.size());
        return count;
    }

private:
    [[nodiscard]] bool inEvent() const { return inList_ && depth_ >= event_; }

    bool number(double value) {
        if (!inEvent()) return true;
        if (depth_ == event_) {
            if (key_ == "ts") start_ = nanoseconds(value);
            if (key_ == "dur") duration_ = nanoseconds(value);
            if (key_ == "pid") process_ = static_cast<std::int64_t>(value);
            if (key_ == "tid") thread_ = static_cast<std::int64_t>(value);
        } else if (depth_ == event_ + 1 && std::abs(value) < 1e9) {
            const int tag = static_cast<int>(value);
            if (key_ == "bundle") tags_.bundle = tag;
            if (key_ == "step") tags_.step = tag;
            if (key_ == "patches") tags_.patches = tag;
            if (key_ == "frame") tags_.frame = tag;
        }
        return true;
    }

    void finishEvent() {
        if (phase_ == 'M') {
            if (name_ == "process_name") processes[process_] = argumentName_;
            if (name_ == "thread_name")
                trace_.lanes[static_cast<std::size_t>(trace_.laneIndex(process_, thread_))].name = argumentName_;
            return;
        }
        if (phase_ == 'X') {
            add(start_, duration_, trace_.nameIndex(name_), tags_);
        } else if (phase_ == 'B') {
            open_[{process_, thread_}].push_back({start_, trace_.nameIndex(name_), tags_});
        } else if (phase_ == 'E') {
            auto& stack = open_[{process_, thread_}];
            if (stack.empty()) {
                ++unmatched;
                return;
            }
            const Begun begun = stack.back();
            stack.pop_back();
            add(begun.start, start_ - begun.start, begun.name, begun.tags);
        } else {
            ++skipped;
        }
    }

    void add(std::int64_t start, std::int64_t duration, int name, const RangeTags& tags) {
        TraceRange range;
        range.start = start;
        range.duration = std::max<std::int64_t>(0, duration);
        range.name = name;
        range.lane = trace_.laneIndex(process_, thread_);
        range.tags = tags;
        trace_.ranges.push_back(range);
    }

public:
    std::map<std::int64_t, std::string> processes;

private:
    struct Begun {
        std::int64_t start;
        int name;
        RangeTags tags;
    };
    Trace& trace_;
    std::string source_;
    std::string key_;
    int depth_ = 0;
    int event_ = 0; ///< depth inside an event
    bool inList_ = false;
    std::string name_;
    std::string argumentName_;
    char phase_ = ' ';
    std::int64_t start_ = 0, duration_ = 0, process_ = 0, thread_ = 0;
    RangeTags tags_;
    std::map<std::pair<std::int64_t, std::int64_t>, std::vector<Begun>> open_;
};

} // namespace

int Trace::nameIndex(std::string_view name) {
    const auto at = std::lower_bound(nameOrder_.begin(), nameOrder_.end(), name,
                                     [](const auto& entry, std::string_view wanted) { return entry.first < wanted; });
    if (at != nameOrder_.end() && at->first == name) return at->second;
    const int index = static_cast<int>(names.size());
    names.emplace_back(name);
    nameOrder_.insert(at, {std::string(name), index});
    return index;
}

int Trace::laneIndex(std::int64_t process, std::int64_t thread) {
    const auto [at, isNew] = laneOrder_.try_emplace({process, thread}, static_cast<int>(lanes.size()));
    if (!isNew) return at->second;
    TraceLane lane;
    lane.process = process;
    lane.thread = thread;
    lanes.push_back(lane);
    return at->second;
}

void Trace::finish() {
    // Lanes in the order of processes and threads.
    std::vector<int> order(lanes.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [this](int a, int b) {
        const TraceLane& la = lanes[static_cast<std::size_t>(a)];
        const TraceLane& lb = lanes[static_cast<std::size_t>(b)];
        return std::tie(la.process, la.thread) < std::tie(lb.process, lb.thread);
    });
    std::vector<int> place(lanes.size());
    std::vector<TraceLane> sorted;
    for (std::size_t i = 0; i < order.size(); ++i) {
        place[static_cast<std::size_t>(order[i])] = static_cast<int>(i);
        sorted.push_back(lanes[static_cast<std::size_t>(order[i])]);
    }
    lanes = std::move(sorted);
    laneOrder_.clear();
    for (std::size_t i = 0; i < lanes.size(); ++i)
        laneOrder_[{lanes[i].process, lanes[i].thread}] = static_cast<int>(i);
    for (TraceRange& range : ranges) range.lane = place[static_cast<std::size_t>(range.lane)];

    const auto byPlace = [](const TraceRange& a, const TraceRange& b) {
        return std::tie(a.lane, a.start, b.duration) < std::tie(b.lane, b.start, a.duration);
    };
    std::stable_sort(ranges.begin(), ranges.end(), byPlace);
    // What overlaps without nesting goes to a lane of its own, until all nests.
    std::map<int, int> overflow;
    std::vector<std::int64_t> ends;
    int lane = -1;
    bool moved = false;
    for (std::size_t pass = 0; pass < 8; ++pass) {
        moved = false;
        lane = -1;
        overflow.clear();
        for (TraceRange& range : ranges) {
            if (range.lane != lane) {
                ends.clear();
                lane = range.lane;
            }
            while (!ends.empty() && ends.back() <= range.start) ends.pop_back();
            if (!ends.empty() && range.end() == ends.back() + 1) --range.duration; // a file's rounding
            if (!ends.empty() && range.end() > ends.back()) {
                const auto [at, isNew] = overflow.emplace(lane, static_cast<int>(lanes.size()));
                if (isNew) {
                    TraceLane extra = lanes[static_cast<std::size_t>(lane)];
                    extra.name += " (overlapping)";
                    lanes.push_back(extra);
                }
                range.lane = at->second;
                moved = true;
                continue;
            }
            ends.push_back(range.end());
        }
        if (!moved) break;
        std::stable_sort(ranges.begin(), ranges.end(), byPlace);
    }

    begin = ranges.empty() ? 0 : std::numeric_limits<std::int64_t>::max();
    end = ranges.empty() ? 0 : std::numeric_limits<std::int64_t>::min();
    for (TraceLane& each : lanes) each.first = each.last = each.depths = 0;
    std::vector<int> around;
    lane = -1;
    for (std::size_t i = 0; i < ranges.size(); ++i) {
        TraceRange& range = ranges[i];
        TraceLane& mine = lanes[static_cast<std::size_t>(range.lane)];
        if (range.lane != lane) {
            around.clear();
            lane = range.lane;
            mine.first = i;
        }
        mine.last = i + 1;
        while (!around.empty() && ranges[static_cast<std::size_t>(around.back())].end() <= range.start)
            around.pop_back();
        range.depth = static_cast<int>(around.size());
        range.parent = around.empty() ? -1 : around.back();
        around.push_back(static_cast<int>(i));
        mine.depths = std::max(mine.depths, range.depth + 1);
        begin = std::min(begin, range.start);
        end = std::max(end, range.end());
    }
}

Trace traceOf(const std::vector<RangeRecord>& records, const std::string& processName) {
    Trace trace;
    trace.source = processName;
    for (const RangeRecord& record : records) {
        TraceRange range;
        range.start = record.start;
        range.duration = record.duration;
        range.name = trace.nameIndex(record.name);
        range.lane = trace.laneIndex(1, record.lane);
        range.tags = record.tags;
        trace.ranges.push_back(range);
        TraceLane& lane = trace.lanes[static_cast<std::size_t>(range.lane)];
        lane.processName = processName;
        lane.name = fmt::format("{} {}", record.stream ? "GPU stream" : "thread", record.lane);
    }
    trace.finish();
    return trace;
}

Trace parseChromeTrace(std::string_view json, const std::string& source) {
    Trace trace;
    trace.source = source;
    EventReader reader(trace, source);
    const bool done = nlohmann::json::sax_parse(json.begin(), json.end(), &reader);
    if (!done) throw Error(fmt::format("{}: {}", source, reader.problem));
    if (!reader.found)
        throw Error(fmt::format(
            "{}: no list \"traceEvents\": Chrome trace JSON, as extract --trace writes it, would be right", source));
    if (trace.ranges.empty())
        throw Error(fmt::format("{}: the trace holds no ranges (events with \"ph\" X, or B and E)", source));
    if (reader.skipped > 0) trace.notes.push_back(fmt::format("{} events of other kinds left out", reader.skipped));
    if (reader.unmatched + reader.open() > 0)
        trace.notes.push_back(
            fmt::format("{} begin or end events without the other left out", reader.unmatched + reader.open()));
    for (TraceLane& lane : trace.lanes) {
        const auto process = reader.processes.find(lane.process);
        lane.processName =
            process != reader.processes.end() ? process->second : fmt::format("process {}", lane.process);
        if (lane.name.empty()) lane.name = fmt::format("thread {}", lane.thread);
    }
    trace.finish();
    return trace;
}

Trace readChromeTrace(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error(fmt::format("{}: the trace cannot be opened", path));
    std::ostringstream text;
    text << file.rdbuf();
    if (file.bad()) throw Error(fmt::format("{}: the trace cannot be read", path));
    return parseChromeTrace(std::move(text).str(), path);
}

std::string chromeTrace(const Trace& trace) {
    const auto quoted = [](const std::string& value) {
        return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    };
    // ns as microseconds, without a rounding on the way.
    const auto microseconds = [](std::int64_t ns) {
        return fmt::format("{}{}.{:03}", ns < 0 ? "-" : "", std::abs(ns) / 1000, std::abs(ns) % 1000);
    };
    fmt::memory_buffer out;
    const auto append = [&out](const std::string& text) { out.append(text); };
    append("{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n");
    const char* separator = "";
    std::map<std::int64_t, std::string> processes;
    // Lanes that were split for overlaps need numbers of their own, for ranges of one tid must nest.
    std::vector<std::int64_t> threads;
    std::map<std::pair<std::int64_t, std::int64_t>, int> used;
    for (const TraceLane& lane : trace.lanes) {
        std::int64_t thread = lane.thread;
        while (used.contains({lane.process, thread})) thread += 1000000;
        used[{lane.process, thread}] = 1;
        threads.push_back(thread);
        if (processes.emplace(lane.process, lane.processName).second) {
            append(fmt::format(
                "{}{{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": {}, \"tid\": 0, \"args\": {{\"name\": {}}}}}",
                separator, lane.process, quoted(lane.processName)));
            separator = ",\n";
        }
        append(fmt::format(
            "{}{{\"name\": \"thread_name\", \"ph\": \"M\", \"pid\": {}, \"tid\": {}, \"args\": {{\"name\": {}}}}}",
            separator, lane.process, thread, quoted(lane.name)));
        separator = ",\n";
    }
    std::vector<std::string> names;
    for (const std::string& name : trace.names) names.push_back(quoted(name));
    for (const TraceRange& range : trace.ranges) {
        const TraceLane& lane = trace.lanes[static_cast<std::size_t>(range.lane)];
        std::string tags;
        for (const auto& [key, value] : {std::pair{"frame", range.tags.frame},
                                         {"bundle", range.tags.bundle},
                                         {"step", range.tags.step},
                                         {"patches", range.tags.patches}})
            if (value >= 0) tags += fmt::format("{}\"{}\": {}", tags.empty() ? "" : ", ", key, value);
        append(fmt::format("{}{{\"name\": {}, \"cat\": \"patchlight\", \"ph\": \"X\", \"ts\": {}, \"dur\": {}, "
                           "\"pid\": {}, \"tid\": {}, \"args\": {{{}}}}}",
                           separator, names[static_cast<std::size_t>(range.name)], microseconds(range.start),
                           microseconds(range.duration), lane.process, threads[static_cast<std::size_t>(range.lane)],
                           tags));
        separator = ",\n";
    }
    append("\n]}\n");
    return fmt::to_string(out);
}

std::vector<RangeStatistics> rangeStatistics(const Trace& trace, std::int64_t begin, std::int64_t end) {
    const bool all = end <= begin;
    std::vector<RangeStatistics> sums(trace.names.size());
    std::vector<std::vector<double>> durations(trace.names.size());
    std::vector<double> inside(trace.ranges.size(), 0.0); // of direct children
    for (const TraceRange& range : trace.ranges)
        if (range.parent >= 0)
            inside[static_cast<std::size_t>(range.parent)] += nanosecond * static_cast<double>(range.duration);
    std::vector<double> parents(trace.names.size(), 0.0);
    std::vector<std::int64_t> lastParent(trace.names.size(), -1);
    std::vector<double> withParent(trace.names.size(), 0.0);
    for (std::size_t i = 0; i < trace.ranges.size(); ++i) {
        const TraceRange& range = trace.ranges[i];
        if (!all && (range.start < begin || range.start >= end)) continue;
        const auto name = static_cast<std::size_t>(range.name);
        const double seconds = nanosecond * static_cast<double>(range.duration);
        RangeStatistics& sum = sums[name];
        ++sum.calls;
        bool recursive = false;
        for (int parent = range.parent; parent >= 0 && !recursive;
             parent = trace.ranges[static_cast<std::size_t>(parent)].parent)
            recursive = trace.ranges[static_cast<std::size_t>(parent)].name == range.name;
        if (!recursive) sum.total += seconds;
        sum.self += seconds - inside[i];
        durations[name].push_back(seconds);
        if (range.parent >= 0) {
            withParent[name] += seconds;
            // Children of one parent come one after the other, so that each parent counts once.
            if (lastParent[name] != range.parent)
                parents[name] +=
                    nanosecond * static_cast<double>(trace.ranges[static_cast<std::size_t>(range.parent)].duration);
            lastParent[name] = range.parent;
        }
    }
    std::vector<RangeStatistics> out;
    const double span = nanosecond * static_cast<double>(all ? trace.end - trace.begin : end - begin);
    for (std::size_t n = 0; n < sums.size(); ++n) {
        RangeStatistics& sum = sums[n];
        if (sum.calls == 0) continue;
        std::vector<double>& values = durations[n];
        std::sort(values.begin(), values.end());
        sum.name = static_cast<int>(n);
        sum.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
        double square = 0;
        for (const double value : values) square += (value - sum.mean) * (value - sum.mean);
        sum.deviation = std::sqrt(square / static_cast<double>(values.size()));
        sum.median = percentile(values, 0.5);
        sum.p95 = percentile(values, 0.95);
        sum.smallest = values.front();
        sum.largest = values.back();
        sum.shareOfParent = parents[n] > 0 ? withParent[n] / parents[n] : span > 0 ? sum.total / span : 0;
        out.push_back(sum);
    }
    std::stable_sort(out.begin(), out.end(),
                     [](const RangeStatistics& a, const RangeStatistics& b) { return a.total > b.total; });
    return out;
}

std::string statisticsCsv(const Trace& trace, const std::vector<RangeStatistics>& statistics) {
    std::string out = "name,calls,total,self,mean,median,min,max,p95,stddev,share_of_parent\n";
    for (const RangeStatistics& s : statistics) {
        std::string name = trace.names[static_cast<std::size_t>(s.name)];
        for (std::size_t at = name.find('"'); at != std::string::npos; at = name.find('"', at + 2))
            name.insert(at, 1, '"');
        out +=
            fmt::format("\"{}\",{},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.9g},{:.6g}\n", name, s.calls,
                        s.total, s.self, s.mean, s.median, s.smallest, s.largest, s.p95, s.deviation, s.shareOfParent);
    }
    return out;
}

std::vector<RangeChange> compareTraces(const Trace& a, const Trace& b) {
    std::map<std::string, RangeChange> changes;
    const auto entry = [&](const std::string& name) -> RangeChange& {
        const auto [at, isNew] = changes.try_emplace(name);
        if (isNew) {
            at->second.name = name;
            at->second.meanA = at->second.meanB = nan;
        }
        return at->second;
    };
    for (const RangeStatistics& s : rangeStatistics(a)) {
        RangeChange& change = entry(a.names[static_cast<std::size_t>(s.name)]);
        change.callsA = s.calls;
        change.totalA = s.total;
        change.meanA = s.mean;
    }
    for (const RangeStatistics& s : rangeStatistics(b)) {
        RangeChange& change = entry(b.names[static_cast<std::size_t>(s.name)]);
        change.callsB = s.calls;
        change.totalB = s.total;
        change.meanB = s.mean;
    }
    std::vector<RangeChange> out;
    for (auto& [name, change] : changes) out.push_back(std::move(change));
    std::stable_sort(out.begin(), out.end(), [](const RangeChange& x, const RangeChange& y) {
        return std::abs(x.totalB - x.totalA) > std::abs(y.totalB - y.totalA);
    });
    return out;
}

std::vector<RangeCall> callsOf(const Trace& trace, int name) {
    std::vector<RangeCall> calls;
    for (std::size_t i = 0; i < trace.ranges.size(); ++i)
        if (trace.ranges[i].name == name)
            calls.push_back({static_cast<int>(i), nanosecond * static_cast<double>(trace.ranges[i].duration)});
    std::stable_sort(calls.begin(), calls.end(), [&](const RangeCall& a, const RangeCall& b) {
        return trace.ranges[static_cast<std::size_t>(a.range)].start <
               trace.ranges[static_cast<std::size_t>(b.range)].start;
    });
    return calls;
}

LaneBoxes::LaneBoxes(const Trace& trace, int lane) {
    const TraceLane& mine = trace.lanes[static_cast<std::size_t>(lane)];
    byDepth_.resize(static_cast<std::size_t>(mine.depths));
    for (std::size_t i = mine.first; i < mine.last; ++i)
        byDepth_[static_cast<std::size_t>(trace.ranges[i].depth)].push_back(static_cast<int>(i));
}

void LaneBoxes::boxes(const Trace& trace, int depth, std::int64_t begin, std::int64_t end, double width,
                      std::vector<TimelineBox>& out) const {
    const std::vector<int>& all = byDepth_[static_cast<std::size_t>(depth)];
    const auto range = [&](std::size_t k) -> const TraceRange& {
        return trace.ranges[static_cast<std::size_t>(all[k])];
    };
    const double scale = width / static_cast<double>(end - begin);
    // They do not overlap: ends rise with starts.
    std::size_t k = static_cast<std::size_t>(
        std::partition_point(all.begin(), all.end(),
                             [&](int i) { return trace.ranges[static_cast<std::size_t>(i)].end() <= begin; }) -
        all.begin());
    while (k < all.size() && range(k).start < end) {
        const double x0 = static_cast<double>(range(k).start - begin) * scale;
        double x1 = static_cast<double>(range(k).end() - begin) * scale;
        std::size_t next = k + 1;
        if (x1 - x0 < 1.0) {
            // All that begin in this pixel, and are no wider than it either, are one box.
            const double pixelEnd = std::floor(x0) + 1.0;
            const auto limit = begin + static_cast<std::int64_t>(std::ceil(pixelEnd / scale));
            next = static_cast<std::size_t>(
                std::partition_point(all.begin() + static_cast<std::ptrdiff_t>(k) + 1, all.end(),
                                     [&](int i) { return trace.ranges[static_cast<std::size_t>(i)].start < limit; }) -
                all.begin());
            // The last of them may be wide: it is a box of its own.
            if (next > k + 1 && static_cast<double>(range(next - 1).duration) * scale >= 1.0) --next;
            x1 = std::max(x0, static_cast<double>(range(next - 1).end() - begin) * scale);
        }
        out.push_back({all[k], static_cast<int>(next - k), x0, x1});
        k = next;
    }
}

int LaneBoxes::rangeAt(const Trace& trace, int depth, std::int64_t time) const {
    if (depth < 0 || depth >= depths()) return -1;
    const std::vector<int>& all = byDepth_[static_cast<std::size_t>(depth)];
    const auto at = std::partition_point(
        all.begin(), all.end(), [&](int i) { return trace.ranges[static_cast<std::size_t>(i)].end() <= time; });
    if (at == all.end() || trace.ranges[static_cast<std::size_t>(*at)].start > time) return -1;
    return *at;
}

} // namespace patchlight
