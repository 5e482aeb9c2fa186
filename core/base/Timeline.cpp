#include "core/base/Timeline.h"

#include "core/base/Config.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>
#include <map>
#include <thread>
#include <utility>

#ifdef PATCHLIGHT_HAVE_NVTX
#include <nvtx3/nvToolsExt.h>
#endif

namespace patchlight {

/// The ranges of one thread. Its mutex is taken by the owning thread for each record and by records() now and then: it is
/// practically never contended, and it keeps a live view of a running timeline free of data races.
struct Timeline::Lane {
    std::thread::id thread;
    std::uint64_t stream = 0; // 0: of a thread
    int index = 0;
    std::mutex mutex;
    std::vector<RangeRecord> records; // in order of their ends
};

namespace {

/// Never reused, so that a cached lane of a timeline that is gone can not be taken for one of a new timeline at its address.
std::uint64_t nextTimelineId() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

std::int64_t endOf(const RangeRecord& record) { return record.start + record.duration; }

#ifdef PATCHLIGHT_HAVE_NVTX

/// Null where no profiler listens: ranges then cost one test.
nvtxDomainHandle_t nvtxDomain() {
    static const nvtxDomainHandle_t domain = nvtxDomainCreateA("patchlight");
    return domain;
}

void pushNvtx(const char* name, const RangeTags& tags, int frame) {
    const nvtxDomainHandle_t domain = nvtxDomain();
    if (domain == nullptr) {
        return;
    }
    fmt::memory_buffer text;
    fmt::format_to(std::back_inserter(text), "{}", name);
    if (frame >= 0) {
        fmt::format_to(std::back_inserter(text), " frame {}", frame);
    }
    if (tags.bundle >= 0) {
        fmt::format_to(std::back_inserter(text), " bundle {}", tags.bundle);
    }
    if (tags.step >= 0) {
        fmt::format_to(std::back_inserter(text), " step {}", tags.step);
    }
    text.push_back('\0');
    nvtxEventAttributes_t attributes{};
    attributes.version = NVTX_VERSION;
    attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
    attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
    attributes.message.ascii = text.data();
    if (tags.patches >= 0) {
        attributes.payloadType = NVTX_PAYLOAD_TYPE_INT32;
        attributes.payload.iValue = tags.patches;
    }
    nvtxDomainRangePushEx(domain, &attributes);
}

void popNvtx() {
    const nvtxDomainHandle_t domain = nvtxDomain();
    if (domain != nullptr) {
        nvtxDomainRangePop(domain);
    }
}

#else

void pushNvtx(const char* /*name*/, const RangeTags& /*tags*/, int /*frame*/) {}
void popNvtx() {}

#endif

/// Order in which ranges open: by lane, then by start, the enclosing one first. Lanes hold records in order of their ends, so of two
/// with equal start and duration the later one encloses the other.
void sortByStart(std::vector<RangeRecord>& records) {
    std::reverse(records.begin(), records.end());
    std::stable_sort(records.begin(), records.end(), [](const RangeRecord& a, const RangeRecord& b) {
        return std::make_tuple(a.lane, a.start, b.duration) < std::make_tuple(b.lane, b.start, a.duration);
    });
}

/// Nanoseconds as microseconds with three decimals, exactly.
std::string microseconds(std::int64_t nanoseconds) {
    return fmt::format("{}.{:03}", nanoseconds / 1000, nanoseconds % 1000);
}

std::string quoted(std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

} // namespace

Timeline::Timeline() : origin_(std::chrono::steady_clock::now()), id_(nextTimelineId()) {}

Timeline::Timeline(Timeline* parent, int frame)
    : origin_(parent != nullptr ? parent->origin_ : std::chrono::steady_clock::now()), id_(nextTimelineId()),
      parent_(parent), forwards_(true), frame_(frame) {}

Timeline::~Timeline() = default;

std::int64_t Timeline::now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - origin_).count();
}

Timeline::Lane& Timeline::laneOfThisThread() {
    struct Cached {
        std::uint64_t timeline = 0;
        Lane* lane = nullptr;
    };
    thread_local Cached cached;
    if (cached.timeline == id_) {
        return *cached.lane;
    }
    // The id of a thread that has ended may come again: the new thread then goes on in the old one's lane, which keeps the number
    // of lanes at the number of threads that live at a time.
    const std::thread::id thread = std::this_thread::get_id();
    const std::lock_guard lock(mutex_);
    auto lane = std::find_if(lanes_.begin(), lanes_.end(),
                             [&](const auto& known) { return known->stream == 0 && known->thread == thread; });
    if (lane == lanes_.end()) {
        auto created = std::make_unique<Lane>();
        created->thread = thread;
        created->index = static_cast<int>(lanes_.size());
        created->records.reserve(1024);
        lane = lanes_.insert(lanes_.end(), std::move(created));
    }
    cached = {id_, lane->get()};
    return **lane;
}

void Timeline::record(const char* name, std::int64_t start, std::int64_t duration, const RangeTags& tags) {
    if (forwards_) {
        if (parent_ != nullptr) {
            RangeTags withFrame = tags;
            withFrame.frame = frame_;
            parent_->record(name, start, duration, withFrame);
        }
        return;
    }
    Lane& lane = laneOfThisThread();
    const std::lock_guard lock(lane.mutex);
    lane.records.push_back({name, start, duration, lane.index, tags, false});
}

void Timeline::recordStream(std::uint64_t stream, const char* name, std::int64_t start, std::int64_t duration,
                            const RangeTags& tags) {
    if (forwards_) {
        if (parent_ != nullptr) {
            RangeTags withFrame = tags;
            withFrame.frame = frame_;
            parent_->recordStream(stream, name, start, duration, withFrame);
        }
        return;
    }
    const std::lock_guard lock(mutex_);
    auto lane = std::find_if(lanes_.begin(), lanes_.end(), [&](const auto& known) { return known->stream == stream; });
    if (lane == lanes_.end()) {
        auto created = std::make_unique<Lane>();
        created->stream = stream;
        created->index = static_cast<int>(lanes_.size());
        lane = lanes_.insert(lanes_.end(), std::move(created));
    }
    const std::lock_guard laneLock((*lane)->mutex);
    (*lane)->records.push_back({name, start, duration, (*lane)->index, tags, true});
}

std::vector<RangeRecord> Timeline::records() const {
    std::vector<RangeRecord> all;
    const std::lock_guard lock(mutex_);
    for (const auto& lane : lanes_) {
        const std::lock_guard laneLock(lane->mutex);
        all.insert(all.end(), lane->records.begin(), lane->records.end());
    }
    sortByStart(all);
    return all;
}

void Timeline::writeChromeTrace(std::ostream& out, std::string_view processName) const {
    out << "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n"
        << chromeTraceEvents(records(), 1, processName) << "\n]}\n";
}

std::string chromeTraceEvents(const std::vector<RangeRecord>& records, int process, std::string_view processName,
                              std::int64_t offset) {
    fmt::memory_buffer out;
    const auto append = [&out](fmt::string_view format, const auto&... values) {
        fmt::vformat_to(std::back_inserter(out), format, fmt::make_format_args(values...));
    };
    append(R"({{"name": "process_name", "ph": "M", "pid": {}, "tid": 0, "args": {{"name": {}}}}})", process,
           quoted(processName));
    for (std::size_t i = 0; i < records.size(); ++i) {
        if (i > 0 && records[i].lane == records[i - 1].lane) {
            continue;
        }
        const int lane = records[i].lane;
        append(",\n"
               R"({{"name": "thread_name", "ph": "M", "pid": {1}, "tid": {0}, "args": {{"name": "{2} {0}"}}}})",
               lane, process, records[i].stream ? "GPU stream" : "thread");
        append(",\n"
               R"({{"name": "thread_sort_index", "ph": "M", "pid": {1}, "tid": {0}, "args": {{"sort_index": {0}}}}})",
               lane, process);
    }
    for (const RangeRecord& record : records) {
        append(",\n"
               R"({{"name": {}, "cat": "patchlight", "ph": "X", "ts": {}, "dur": {}, "pid": {}, "tid": {}, "args": {{)",
               quoted(record.name), microseconds(record.start + offset), microseconds(record.duration), process,
               record.lane);
        const std::pair<const char*, int> tags[] = {{"frame", record.tags.frame},
                                                    {"bundle", record.tags.bundle},
                                                    {"step", record.tags.step},
                                                    {"patches", record.tags.patches}};
        const char* separator = "";
        for (const auto& [key, value] : tags) {
            if (value >= 0) {
                append("{}\"{}\": {}", separator, key, value);
                separator = ", ";
            }
        }
        append("}}}}");
    }
    return fmt::to_string(out);
}

NamedRange::NamedRange(Timeline* timeline, const char* name, RangeTags tags)
    : timeline_(timeline), name_(name), tags_(tags) {
    pushNvtx(name_, tags_, timeline_ != nullptr ? timeline_->frame() : -1);
    if (timeline_ != nullptr) {
        start_ = timeline_->now();
    }
}

NamedRange::~NamedRange() {
    if (timeline_ != nullptr) {
        // A destructor must not throw: where there is no memory for the record, the run matters more than its trace.
        try {
            timeline_->record(name_, start_, timeline_->now() - start_, tags_);
        } catch (...) {
        }
    }
    popNvtx();
}

std::vector<RangeSummary> summarize(const std::vector<RangeRecord>& records) {
    std::vector<RangeRecord> sorted = records;
    // Records that come from Timeline::records() are in this order already; a stable sort keeps what it decided about ties.
    std::stable_sort(sorted.begin(), sorted.end(), [](const RangeRecord& a, const RangeRecord& b) {
        return std::make_tuple(a.lane, a.start, b.duration) < std::make_tuple(b.lane, b.start, a.duration);
    });

    struct Sum {
        std::int64_t firstStart = 0;
        std::size_t firstIndex = 0;
        std::int64_t calls = 0;
        std::int64_t total = 0;
        std::int64_t self = 0;
    };
    std::map<std::string_view, Sum> sums;
    std::vector<std::size_t> open; // ranges around the present one, outermost first
    for (std::size_t i = 0; i < sorted.size(); ++i) {
        const RangeRecord& record = sorted[i];
        while (!open.empty() &&
               (sorted[open.back()].lane != record.lane || endOf(sorted[open.back()]) <= record.start)) {
            open.pop_back();
        }
        auto [entry, isNew] = sums.try_emplace(record.name);
        Sum& sum = entry->second;
        if (isNew || record.start < sum.firstStart) {
            sum.firstStart = record.start;
            sum.firstIndex = i;
        }
        ++sum.calls;
        sum.self += record.duration;
        // A range inside one of its own name is part of that one's total already.
        const bool recursive = std::any_of(open.begin(), open.end(), [&](std::size_t outer) {
            return std::strcmp(sorted[outer].name, record.name) == 0;
        });
        if (!recursive) {
            sum.total += record.duration;
        }
        if (!open.empty()) {
            sums.find(sorted[open.back()].name)->second.self -= record.duration;
        }
        open.push_back(i);
    }

    std::vector<std::pair<std::string_view, Sum>> ordered(sums.begin(), sums.end());
    std::sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) {
        return std::make_pair(a.second.firstStart, a.second.firstIndex) <
               std::make_pair(b.second.firstStart, b.second.firstIndex);
    });
    std::vector<RangeSummary> summaries;
    for (const auto& [name, sum] : ordered) {
        summaries.push_back({std::string(name), sum.calls, 1e-9 * static_cast<double>(sum.total),
                             1e-9 * static_cast<double>(sum.self)});
    }
    return summaries;
}

} // namespace patchlight
