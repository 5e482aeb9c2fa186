#include "core/base/Timeline.h"

#include <QObject>
#include <QTest>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <barrier>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

using namespace patchlight;

namespace {

std::size_t countOf(const std::vector<RangeRecord>& records, const std::string& name) {
    return static_cast<std::size_t>(
        std::count_if(records.begin(), records.end(), [&](const RangeRecord& r) { return r.name == name; }));
}

/// Every pair of ranges of a lane is either nested or apart.
bool nests(const std::vector<RangeRecord>& records) {
    for (std::size_t i = 0; i < records.size(); ++i) {
        for (std::size_t j = i + 1; j < records.size() && records[j].lane == records[i].lane; ++j) {
            const std::int64_t end = records[i].start + records[i].duration;
            if (records[j].start < end && records[j].start + records[j].duration > end) {
                return false;
            }
        }
    }
    return true;
}

nlohmann::json traceOf(const Timeline& timeline, std::string_view process) {
    std::ostringstream out;
    timeline.writeChromeTrace(out, process);
    return nlohmann::json::parse(out.str());
}

} // namespace

class TestTimeline : public QObject {
    Q_OBJECT

private slots:
    void nestingOnOneThread() {
        Timeline timeline;
        {
            const NamedRange outer(&timeline, "outer", {.bundle = 3});
            { const NamedRange inner(&timeline, "inner", {.bundle = 3, .step = 7, .patches = 5}); }
            const NamedRange inner(&timeline, "inner", {.bundle = 3, .step = 8});
        }
        const auto records = timeline.records();
        QCOMPARE(records.size(), std::size_t{3});
        QCOMPARE(QString(records[0].name), QString("outer"));
        QCOMPARE(records[0].lane, 0);
        QCOMPARE(records[1].tags.step, 7);
        QCOMPARE(records[1].tags.patches, 5);
        QCOMPARE(records[2].tags.step, 8);
        QCOMPARE(records[2].tags.patches, -1);
        QVERIFY(nests(records));
        QVERIFY(records[2].start >= records[1].start + records[1].duration);
    }

    void withoutTimeline() { const NamedRange range(nullptr, "nowhere"); }

    void enclosingRangeComesFirstWhereTimesAreEqual() {
        Timeline timeline;
        timeline.record("inner", 100, 50, {}); // recorded first, since it ends first
        timeline.record("outer", 100, 50, {});
        const auto records = timeline.records();
        QCOMPARE(QString(records[0].name), QString("outer"));
        QCOMPARE(QString(records[1].name), QString("inner"));
        const auto summary = summarize(records);
        QCOMPARE(QString::fromStdString(summary[0].name), QString("outer"));
        QCOMPARE(summary[0].selfSeconds, 0.0);
        QCOMPARE(summary[1].selfSeconds, 50e-9);
    }

    void threadsHaveLanesOfTheirOwn() {
        constexpr int threads = 4;
        constexpr int ranges = 2000;
        Timeline timeline;
        {
            const NamedRange mainRange(&timeline, "main");
            std::barrier together(threads); // all alive at once, so that no thread id comes twice
            std::vector<std::jthread> workers;
            for (int t = 0; t < threads; ++t) {
                workers.emplace_back([&, t] {
                    together.arrive_and_wait();
                    for (int i = 0; i < ranges; ++i) {
                        const NamedRange outer(&timeline, "outer", {.bundle = t, .step = i});
                        const NamedRange inner(&timeline, "inner", {.bundle = t, .step = i});
                    }
                    together.arrive_and_wait();
                });
            }
            // Looking while others record is allowed, too.
            for (int i = 0; i < 10; ++i) {
                QVERIFY(timeline.records().size() <= std::size_t{2 * threads * ranges});
            }
        }
        const auto records = timeline.records();
        QCOMPARE(records.size(), std::size_t{2 * threads * ranges + 1});
        QCOMPARE(countOf(records, "inner"), std::size_t{threads * ranges});
        std::set<int> lanes;
        std::map<int, std::set<int>> bundlesOfLane;
        for (std::size_t i = 0; i < records.size(); ++i) {
            lanes.insert(records[i].lane);
            if (records[i].tags.bundle >= 0) {
                bundlesOfLane[records[i].lane].insert(records[i].tags.bundle);
            }
            if (i > 0) {
                QVERIFY(std::make_pair(records[i - 1].lane, records[i - 1].start) <=
                        std::make_pair(records[i].lane, records[i].start));
            }
        }
        QCOMPARE(lanes.size(), std::size_t{threads + 1});
        for (const auto& [lane, bundles] : bundlesOfLane) {
            QCOMPARE(bundles.size(), std::size_t{1});
        }
        for (const auto& summary : summarize(records)) {
            if (summary.name == "outer") {
                QCOMPARE(summary.calls, std::int64_t{threads * ranges});
                QVERIFY(summary.selfSeconds <= summary.totalSeconds);
            }
        }
    }

    void severalTimelinesInTurn() {
        // A new timeline is likely to lie where the old one lay: the thread's cached lane must not survive it.
        for (int i = 0; i < 100; ++i) {
            auto timeline = std::make_unique<Timeline>();
            { const NamedRange range(timeline.get(), "once"); }
            QCOMPARE(timeline->records().size(), std::size_t{1});
        }
    }

    void severalTimelinesAtOnce() {
        Timeline a;
        Timeline b;
        for (int i = 0; i < 3; ++i) {
            const NamedRange inA(&a, "a");
            const NamedRange inB(&b, "b");
        }
        QCOMPARE(a.records().size(), std::size_t{3});
        QCOMPARE(countOf(b.records(), "b"), std::size_t{3});
        QCOMPARE(b.records().back().lane, 0);
    }

    void chromeTrace() {
        Timeline timeline;
        timeline.record("child \"quoted\"", 1'500, 250, {.bundle = 2, .step = 11, .patches = 5});
        timeline.record("parent", 1'001, 1'000'000'007, {});
        std::jthread([&] { timeline.record("other", 3'000, 1, {.patches = 0}); }).join();

        const auto trace = traceOf(timeline, "patchlight extract");
        const auto& events = trace.at("traceEvents");
        std::vector<nlohmann::json> ranges;
        std::map<std::string, int> metadata;
        for (const auto& event : events) {
            if (event.at("ph") == "X") {
                ranges.push_back(event);
            } else {
                QCOMPARE(QString::fromStdString(event.at("ph")), QString("M"));
                ++metadata[event.at("name")];
                if (event.at("name") == "process_name") {
                    QCOMPARE(QString::fromStdString(event.at("args").at("name")), QString("patchlight extract"));
                }
            }
        }
        QCOMPARE(metadata["process_name"], 1);
        QCOMPARE(metadata["thread_name"], 2);
        QCOMPARE(ranges.size(), std::size_t{3});
        // Microseconds with fractions: 1001 ns is 1.001 us.
        QCOMPARE(QString::fromStdString(ranges[0].at("name")), QString("parent"));
        QCOMPARE(ranges[0].at("ts").get<double>(), 1.001);
        QCOMPARE(ranges[0].at("dur").get<double>(), 1000000.007);
        QVERIFY(ranges[0].at("args").empty());
        QCOMPARE(QString::fromStdString(ranges[1].at("name")), QString("child \"quoted\""));
        QCOMPARE(ranges[1].at("ts").get<double>(), 1.5);
        QCOMPARE(ranges[1].at("dur").get<double>(), 0.25);
        QCOMPARE(ranges[1].at("args").at("bundle").get<int>(), 2);
        QCOMPARE(ranges[1].at("args").at("step").get<int>(), 11);
        QCOMPARE(ranges[1].at("args").at("patches").get<int>(), 5);
        QCOMPARE(ranges[1].at("tid").get<int>(), 0);
        QCOMPARE(ranges[2].at("tid").get<int>(), 1);
        QCOMPARE(ranges[2].at("args").at("patches").get<int>(), 0);
        QVERIFY(!ranges[2].at("args").contains("bundle"));
    }

    void emptyTrace() {
        const Timeline timeline;
        QCOMPARE(traceOf(timeline, "nothing").at("traceEvents").size(), std::size_t{1});
        QVERIFY(summarize(timeline.records()).empty());
    }

    void selfTime() {
        // Lane 0:  frame 0..1000 { batch 100..400 { solve 150..250, solve 250..300 }, batch 400..900 { solve 500..800 } }
        // Lane 1:  batch 50..90 { solve 60..70 }, frame 95..96
        // By hand, ns: frame total 1000 + 1, self 1000 - 300 - 500 + 1 = 201; batch total 300 + 500 + 40 = 840,
        // self (300 - 150) + (500 - 300) + (40 - 10) = 380; solve total = self = 100 + 50 + 300 + 10 = 460.
        std::vector<RangeRecord> records = {
            {"solve", 150, 100, 0, {}}, {"solve", 250, 50, 0, {}},  {"batch", 100, 300, 0, {}},
            {"solve", 500, 300, 0, {}}, {"batch", 400, 500, 0, {}}, {"frame", 0, 1000, 0, {}},
            {"solve", 60, 10, 1, {}},   {"batch", 50, 40, 1, {}},   {"frame", 95, 1, 1, {}},
        };
        const auto summary = summarize(records);
        QCOMPARE(summary.size(), std::size_t{3});
        // In order of first appearance in time: frame at 0, batch at 50 (lane 1), solve at 60.
        QCOMPARE(QString::fromStdString(summary[0].name), QString("frame"));
        QCOMPARE(QString::fromStdString(summary[1].name), QString("batch"));
        QCOMPARE(QString::fromStdString(summary[2].name), QString("solve"));
        QCOMPARE(summary[0].calls, std::int64_t{2});
        QCOMPARE(summary[1].calls, std::int64_t{3});
        QCOMPARE(summary[2].calls, std::int64_t{4});
        QCOMPARE(summary[0].totalSeconds, 1001e-9);
        QCOMPARE(summary[0].selfSeconds, 201e-9);
        QCOMPARE(summary[1].totalSeconds, 840e-9);
        QCOMPARE(summary[1].selfSeconds, 380e-9);
        QCOMPARE(summary[2].totalSeconds, 460e-9);
        QCOMPARE(summary[2].selfSeconds, 460e-9);
    }

    void recursionCountsOnceInTotal() {
        // walk 0..100 { walk 10..60 { leaf 20..30 } }: total of walk 100, self (100 - 50) + (50 - 10) = 90.
        const auto summary = summarize({{"walk", 0, 100, 0, {}}, {"walk", 10, 50, 0, {}}, {"leaf", 20, 10, 0, {}}});
        QCOMPARE(summary[0].totalSeconds, 100e-9);
        QCOMPARE(summary[0].selfSeconds, 90e-9);
        QCOMPARE(summary[0].calls, std::int64_t{2});
    }
};

QTEST_APPLESS_MAIN(TestTimeline)
#include "TestTimeline.moc"
