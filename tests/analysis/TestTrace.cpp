#include "core/analysis/Trace.h"
#include "core/base/Error.h"
#include "core/base/Timeline.h"
#include "tests/support/Sanitizers.h"

#include <QElapsedTimer>
#include <QTest>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <map>
#include <sstream>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace patchlight;

namespace {

/// {name, start, duration} in ns on one lane.
Trace traceFrom(const std::vector<std::tuple<const char*, std::int64_t, std::int64_t>>& ranges) {
    std::vector<RangeRecord> records;
    for (const auto& [name, start, duration] : ranges) records.push_back({name, start, duration, 0, {}, false});
    return traceOf(records, "test");
}

const RangeStatistics& of(const Trace& trace, const std::vector<RangeStatistics>& all, const char* name) {
    return *std::find_if(all.begin(), all.end(), [&](const RangeStatistics& s) {
        return trace.names[static_cast<std::size_t>(s.name)] == name;
    });
}

} // namespace

class TestTrace : public QObject {
    Q_OBJECT

private slots:
    void nesting() {
        const Trace trace =
            traceFrom({{"inner", 10, 20}, {"outer", 0, 100}, {"inner", 40, 60}, {"leaf", 45, 5}, {"next", 100, 10}});
        QCOMPARE(trace.ranges.size(), 5U);
        QCOMPARE(trace.begin, 0);
        QCOMPARE(trace.end, 110);
        const int depths[] = {0, 1, 1, 2, 0};
        const int parents[] = {-1, 0, 0, 2, -1};
        for (std::size_t i = 0; i < 5; ++i) {
            QCOMPARE(trace.ranges[i].depth, depths[i]);
            QCOMPARE(trace.ranges[i].parent, parents[i]);
        }
        QCOMPARE(trace.lanes[0].depths, 3);
    }

    void overlapsGetALane() {
        const Trace trace = traceFrom({{"a", 0, 100}, {"b", 50, 100}, {"c", 60, 10}, {"d", 200, 10}, {"e", 200, 11}});
        QCOMPARE(trace.lanes.size(), 2U);
        for (const TraceRange& range : trace.ranges)
            if (range.parent >= 0) {
                const TraceRange& parent = trace.ranges[static_cast<std::size_t>(range.parent)];
                QVERIFY(parent.lane == range.lane && parent.start <= range.start && parent.end() >= range.end());
            }
    }

    void statistics() {
        // numpy of [3, 1, 4, 1.5, 9.25, 2.5, 6] (seconds): percentile 50 -> 3.0, 95 -> 8.274999999999999, mean 3.892857142857143,
        // std 2.672135124287127
        std::vector<std::tuple<const char*, std::int64_t, std::int64_t>> ranges;
        std::int64_t at = 0;
        for (const double seconds : {3.0, 1.0, 4.0, 1.5, 9.25, 2.5, 6.0}) {
            ranges.emplace_back("solve", at, static_cast<std::int64_t>(1e9 * seconds));
            at += 10'000'000'000;
        }
        ranges.emplace_back("spots", 0, 1'000'000'000);           // inside the first
        ranges.emplace_back("spots", 1'000'000'000, 500'000'000); // and again
        const Trace trace = traceFrom(ranges);
        const std::vector<RangeStatistics> all = rangeStatistics(trace);
        const RangeStatistics& solve = of(trace, all, "solve");
        QCOMPARE(solve.calls, 7);
        QCOMPARE(solve.total, 27.25);
        QVERIFY(std::abs(solve.self - 25.75) < 1e-9);
        QVERIFY(std::abs(solve.mean - 3.892857142857143) < 1e-12);
        QVERIFY(std::abs(solve.deviation - 2.672135124287127) < 1e-12);
        QCOMPARE(solve.median, 3.0);
        QVERIFY(std::abs(solve.p95 - 8.274999999999999) < 1e-12);
        QCOMPARE(solve.smallest, 1.0);
        QCOMPARE(solve.largest, 9.25);
        QVERIFY(std::abs(of(trace, all, "spots").shareOfParent - 0.5) < 1e-12); // 1.5 of the one parent's 3 s
        QVERIFY(std::abs(solve.shareOfParent - 27.25 / 66) < 1e-12);            // no parent: of the trace's time
        // A window of time: the ranges that begin in it.
        const std::vector<RangeStatistics> some = rangeStatistics(trace, 10'000'000'000, 30'000'000'000);
        QCOMPARE(some.size(), 1U);
        QCOMPARE(some[0].calls, 2);
        QCOMPARE(some[0].total, 5.0);
        const std::string csv = statisticsCsv(trace, all);
        QVERIFY(csv.find("\"solve\",7,27.25,25.75,3.89285714,3,1,9.25,8.275,2.67213512,") != std::string::npos);
    }

    void recursionCountsOnce() {
        const Trace trace = traceFrom({{"f", 0, 100}, {"f", 10, 50}});
        const auto all = rangeStatistics(trace);
        QCOMPARE(all[0].calls, 2);
        QVERIFY(std::abs(all[0].total - 100e-9) < 1e-15);
        QVERIFY(std::abs(all[0].self - 100e-9) < 1e-15);
    }

    void roundTrip() {
        Timeline timeline;
        timeline.record("outer \"quoted\"", 1234567, 1000001, {});
        timeline.record("batch", 1234999, 3, {4, 2, 20, 7});
        std::ostringstream out;
        timeline.writeChromeTrace(out, "patchlight test");
        const Trace trace = parseChromeTrace(out.str(), "a");
        QCOMPARE(trace.ranges.size(), 2U);
        QCOMPARE(trace.ranges[0].start, 1234567);
        QCOMPARE(trace.ranges[0].duration, 1000001);
        QCOMPARE(trace.ranges[1].tags.bundle, 4);
        QCOMPARE(trace.ranges[1].tags.step, 2);
        QCOMPARE(trace.ranges[1].tags.patches, 20);
        QCOMPARE(trace.ranges[1].tags.frame, 7);
        QCOMPARE(trace.lanes[0].processName, std::string("patchlight test"));
        const std::string written = chromeTrace(trace);
        const Trace again = parseChromeTrace(written, "b");
        QCOMPARE(again.ranges.size(), trace.ranges.size());
        for (std::size_t i = 0; i < trace.ranges.size(); ++i) {
            QCOMPARE(again.ranges[i].start, trace.ranges[i].start);
            QCOMPARE(again.ranges[i].duration, trace.ranges[i].duration);
            QCOMPARE(again.names[static_cast<std::size_t>(again.ranges[i].name)],
                     trace.names[static_cast<std::size_t>(trace.ranges[i].name)]);
            QCOMPARE(again.ranges[i].tags.bundle, trace.ranges[i].tags.bundle);
        }
        QCOMPARE(chromeTrace(again), written);
    }

    void exportNestsPerLane() {
        // Perfetto's rule: of two ranges of one pid and tid, one holds the other or they do not meet.
        const Trace trace = traceFrom({{"a", 0, 100}, {"b", 50, 100}, {"c", 60, 10}, {"d", 70, 300}, {"e", 1500, 1}});
        const auto json = nlohmann::json::parse(chromeTrace(trace));
        std::map<std::pair<int, int>, std::vector<std::pair<double, double>>> lanes;
        int count = 0;
        for (const auto& event : json["traceEvents"]) {
            if (event["ph"] != "X") continue;
            ++count;
            lanes[{event["pid"].get<int>(), event["tid"].get<int>()}].emplace_back(
                event["ts"].get<double>(), event["ts"].get<double>() + event["dur"].get<double>());
        }
        QCOMPARE(count, 5);
        for (const auto& [lane, ranges] : lanes)
            for (const auto& [s1, e1] : ranges)
                for (const auto& [s2, e2] : ranges)
                    QVERIFY(e1 <= s2 || e2 <= s1 || (s1 <= s2 && e2 <= e1) || (s2 <= s1 && e1 <= e2));
    }

    void otherWritersTraces() {
        // A bare list, begin and end pairs, quoted thread ids, nested arguments, events of other kinds.
        const Trace trace = parseChromeTrace(
            R"([{"name":"load","ph":"B","ts":10,"pid":1,"tid":"7"}, {"name":"x","ph":"B","ts":12.5,"pid":1,"tid":7,"args":{"deep":{"name":"y","ts":99}}},
                {"ph":"E","ts":13.25,"pid":1,"tid":7}, {"ph":"E","ts":20,"pid":1,"tid":7}, {"name":"c","ph":"C","ts":1,"pid":1,"args":{"v":3}},
                {"ph":"E","ts":30,"pid":1,"tid":8}])",
            "list");
        QCOMPARE(trace.ranges.size(), 2U);
        QCOMPARE(trace.ranges[0].duration, 10000);
        QCOMPARE(trace.ranges[1].start, 12500);
        QCOMPARE(trace.ranges[1].duration, 750);
        QCOMPARE(trace.ranges[1].depth, 1);
        QCOMPARE(trace.notes.size(), 2U);
    }

    void badTraces() {
        for (const char* text :
             {"", "{", "{\"traceEvents\": []}", "{\"other\": 1}", "[1, 2]", "{\"traceEvents\": [{\"ph\":\"X\""}) {
            bool thrown = false;
            try {
                (void)parseChromeTrace(text, "bad.json");
            } catch (const Error& error) {
                thrown = std::string(error.what()).rfind("bad.json: ", 0) == 0;
            }
            QVERIFY2(thrown, text);
        }
        QVERIFY_THROWS_EXCEPTION(Error, (void)readChromeTrace("nowhere.json"));
    }

    void twoRuns() {
        const Trace a = traceFrom({{"solve", 0, 100}, {"read", 200, 10}});
        const Trace b = traceFrom({{"solve", 0, 40}, {"solve", 50, 40}, {"write", 200, 5}});
        const std::vector<RangeChange> changes = compareTraces(a, b);
        QCOMPARE(changes.size(), 3U);
        QCOMPARE(changes[0].name, std::string("solve"));
        QCOMPARE(changes[0].callsB, 2);
        QVERIFY(std::abs(changes[0].totalB - 80e-9) < 1e-15);
        QCOMPARE(changes[1].name, std::string("read"));
        QVERIFY(std::isnan(changes[1].meanB));
    }

    void boxesMergeTheTiny() {
        // A thousand ranges of 1 ns every 10 ns, and a wide one behind them: on 100 pixels of 200 ns.
        std::vector<std::tuple<const char*, std::int64_t, std::int64_t>> ranges;
        for (int i = 0; i < 1000; ++i) ranges.emplace_back("tiny", 10 * i, 1);
        ranges.emplace_back("wide", 10000, 5000);
        const Trace trace = traceFrom(ranges);
        const LaneBoxes lane(trace, 0);
        QCOMPARE(lane.depths(), 1);
        std::vector<TimelineBox> boxes;
        lane.boxes(trace, 0, 0, 20000, 100, boxes);
        int counted = 0;
        for (std::size_t i = 0; i < boxes.size(); ++i) {
            counted += boxes[i].count;
            QVERIFY(i == 0 || boxes[i].x0 >= boxes[i - 1].x0);
            QVERIFY(boxes[i].count == 1 || boxes[i].x1 - boxes[i].x0 <= 1.01);
        }
        QCOMPARE(counted, 1001); // none is lost
        QCOMPARE(boxes.size(), 51U);
        QCOMPARE(boxes.back().count, 1);
        QVERIFY(std::abs(boxes.back().x1 - 75) < 1e-9);
        // A part of it: what ends before is not there.
        boxes.clear();
        lane.boxes(trace, 0, 5005, 5035, 30, boxes);
        QCOMPARE(boxes.size(), 3U);
        QCOMPARE(lane.rangeAt(trace, 0, 12000), 1000);
        QCOMPARE(lane.rangeAt(trace, 0, 9995), -1);
    }

    void thirtyTwoRanks() {
        // 32 ranks x 8 lanes x 1200 ranges: opened in at most 2 s on a machine that does nothing else; a warning here where it is slower.
        const int batches = test::sanitized ? 50 : 400;
        std::string text = "{\"traceEvents\": [\n";
        for (int rank = 0; rank < 32; ++rank) {
            std::vector<RangeRecord> records;
            for (int lane = 0; lane < 8; ++lane)
                for (int i = 0; i < batches; ++i) {
                    records.push_back({"batch", 1000000LL * i, 900000, lane, {i, 0, 20, -1}, false});
                    records.push_back({"spots", 1000000LL * i + 1000, 300000, lane, {i, 0, 20, -1}, false});
                    records.push_back({"solve", 1000000LL * i + 400000, 400000, lane, {i, 0, 20, -1}, false});
                }
            text += (rank == 0 ? "" : ",\n") +
                    chromeTraceEvents(records, rank, "rank " + std::to_string(rank), 12345 * rank);
        }
        text += "\n]}\n";
        const Trace* result = nullptr;
        QElapsedTimer timer;
        timer.start();
        const Trace trace = parseChromeTrace(text, "32 ranks");
        const qint64 elapsed = timer.elapsed();
        result = &trace;
        qInfo("%zu ranges, %.1f MB in %lld ms", result->ranges.size(), 1e-6 * static_cast<double>(text.size()),
              static_cast<long long>(elapsed));
        QCOMPARE(trace.ranges.size(), static_cast<std::size_t>(32 * 8 * 3 * batches));
        QCOMPARE(trace.lanes.size(), 32U * 8U);
        QCOMPARE(rangeStatistics(trace).front().calls, 32 * 8 * batches);
        QVERIFY(elapsed < 60000);
    }
};

QTEST_APPLESS_MAIN(TestTrace)
#include "TestTrace.moc"
