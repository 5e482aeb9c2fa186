#include "app/batch/Scheduler.h"

#include <QTest>

#include <algorithm>
#include <map>
#include <random>
#include <string>

using namespace patchlight::batch;

namespace {

FrameTask task(int number) {
    FrameTask frame;
    frame.output = "frame" + std::to_string(number);
    return frame;
}

TaskResult answer(const Order& order, Outcome outcome, const std::string& error = "") {
    TaskResult result;
    result.rank = order.rank;
    result.frame = order.frame;
    result.attempt = order.attempt;
    result.part = order.part;
    result.outcome = outcome;
    result.error = error;
    return result;
}

Scheduler scheduler(int ranks, int frames, SchedulerSettings settings = {}) {
    settings.ranks = ranks;
    Scheduler made(settings);
    for (int i = 0; i < frames; ++i) made.add(task(i), false);
    for (int i = 0; i < ranks; ++i) made.join(i);
    return made;
}

} // namespace

class TestScheduler : public QObject {
    Q_OBJECT

private slots: // NOLINT
    void handsOutByLoad();
    void sharesFramesAmongIdleRanks();
    void sharesNothingWhileRanksMayJoin();
    void checksComeFirst();
    void retriesAndFails();
    void aFailedPartEndsTheOthers();
    void lostRanksWorkIsDoneElsewhere();
    void noRankLeft();
    void stopLeavesNothingWaiting();
    void failFast();
    void lateAndForeignResultsAreIgnored();
    void everyFrameEndsOnceWhateverHappens();
};

void TestScheduler::handsOutByLoad() {
    Scheduler job = scheduler(2, 10);
    const std::vector<Order> orders = job.orders();
    QCOMPARE(orders.size(), std::size_t{6}); // three in flight on each of two
    std::map<int, int> load;
    for (const Order& order : orders) ++load[order.rank];
    QCOMPARE(load[0], 3);
    QCOMPARE(load[1], 3);
    QVERIFY(job.orders().empty());
    job.take(answer(orders[1], Outcome::Done));
    const std::vector<Order> more = job.orders();
    QCOMPARE(more.size(), std::size_t{1});
    QCOMPARE(more.front().rank, orders[1].rank);
    QCOMPARE(more.front().frame, 6);
}

void TestScheduler::sharesFramesAmongIdleRanks() {
    Scheduler job = scheduler(5, 2);
    const std::vector<Order> orders = job.orders();
    QCOMPARE(orders.size(), std::size_t{5});
    std::map<int, std::vector<Order>> frames;
    for (const Order& order : orders) frames[order.frame].push_back(order);
    QCOMPARE(frames.size(), std::size_t{2});
    for (const auto& [frame, parts] : frames)
        for (std::size_t i = 0; i < parts.size(); ++i) {
            QCOMPARE(parts[i].part, static_cast<int>(i));
            QCOMPARE(parts[i].parts, static_cast<int>(parts.size()));
            QCOMPARE(parts[i].leader, parts.front().rank);
        }
    for (const Order& order : orders) {
        QVERIFY(!job.idle());
        job.take(answer(order, Outcome::Done));
    }
    QVERIFY(job.idle());
    QCOMPARE(job.count(FrameState::Done), 2);
    SchedulerSettings alone;
    alone.share = false;
    Scheduler unshared = scheduler(5, 2, alone);
    QCOMPARE(unshared.orders().size(), std::size_t{2});
}

void TestScheduler::sharesNothingWhileRanksMayJoin() {
    SchedulerSettings settings;
    settings.ranks = 3;
    Scheduler job(settings);
    job.add(task(0), false);
    job.join(0);
    QVERIFY(job.orders(true).empty());
    job.join(1);
    job.join(2);
    QCOMPARE(job.orders(false).size(), std::size_t{3});
}

void TestScheduler::checksComeFirst() {
    SchedulerSettings settings;
    settings.ranks = 1;
    Scheduler job(settings);
    job.add(task(0), false);
    job.add(task(1), true);
    job.add(task(2), true);
    job.join(0);
    std::vector<Order> orders = job.orders();
    QCOMPARE(orders.size(), std::size_t{3});
    QCOMPARE(static_cast<int>(orders[0].kind), static_cast<int>(TaskKind::Check));
    QCOMPARE(static_cast<int>(orders[1].kind), static_cast<int>(TaskKind::Check));
    QCOMPARE(static_cast<int>(orders[2].kind), static_cast<int>(TaskKind::Extract));
    job.take(answer(orders[0], Outcome::Complete));
    job.take(answer(orders[1], Outcome::Incomplete, "DATASUM"));
    job.take(answer(orders[2], Outcome::Done));
    orders = job.orders();
    QCOMPARE(orders.size(), std::size_t{1});
    QCOMPARE(orders[0].frame, 2);
    QCOMPARE(static_cast<int>(orders[0].kind), static_cast<int>(TaskKind::Extract));
    job.take(answer(orders[0], Outcome::Done));
    QVERIFY(job.idle());
    QCOMPARE(job.count(FrameState::Complete), 1);
    QCOMPARE(job.count(FrameState::Done), 2);
}

void TestScheduler::retriesAndFails() {
    SchedulerSettings settings;
    settings.retries = 2;
    Scheduler job = scheduler(1, 2, settings);
    int tries = 0;
    bool first = true;
    while (!job.idle())
        for (const Order& order : job.orders()) {
            if (order.frame == 0) {
                ++tries;
                job.take(answer(order, Outcome::Failed, "no luck"));
            } else {
                TaskResult result = answer(order, Outcome::Failed, "makes no sense");
                result.permanent = true;
                QVERIFY(first);
                first = false;
                job.take(result);
            }
        }
    QCOMPARE(tries, 3);
    QCOMPARE(job.count(FrameState::Failed), 2);
    QCOMPARE(job.frames()[0].error, std::string("no luck"));
    QCOMPARE(job.ended().size(), std::size_t{2});
    QVERIFY(job.ended().empty());
}

void TestScheduler::aFailedPartEndsTheOthers() {
    Scheduler job = scheduler(3, 1);
    std::vector<Order> orders = job.orders();
    QCOMPARE(orders.size(), std::size_t{3});
    job.take(answer(orders[2], Outcome::Failed, "bad bundle"));
    std::vector<Order> told = job.orders();
    QCOMPARE(told.size(), std::size_t{2});
    for (const Order& order : told) {
        QCOMPARE(static_cast<int>(order.kind), static_cast<int>(TaskKind::Abandon));
        QVERIFY(order.rank != orders[2].rank);
        QCOMPARE(order.reason, std::string("bad bundle"));
    }
    job.take(answer(orders[0], Outcome::Failed, "bad bundle"));
    QVERIFY(!job.idle());
    job.take(answer(orders[1], Outcome::Done)); // it had been done already
    orders = job.orders();
    QCOMPARE(orders.size(), std::size_t{3}); // the second try
    QCOMPARE(orders.front().attempt, 2);
    for (const Order& order : orders) job.take(answer(order, Outcome::Done));
    QCOMPARE(job.count(FrameState::Done), 1);
}

void TestScheduler::lostRanksWorkIsDoneElsewhere() {
    Scheduler job = scheduler(2, 4);
    const std::vector<Order> orders = job.orders();
    QCOMPARE(orders.size(), std::size_t{4});
    job.lose(1, "rank 1 is silent");
    for (const Order& order : orders)
        if (order.rank == 0) job.take(answer(order, Outcome::Done));
    const std::vector<Order> again = job.orders();
    QCOMPARE(again.size(), std::size_t{2});
    for (const Order& order : again) {
        QCOMPARE(order.rank, 0);
        QCOMPARE(order.attempt, 2);
        job.take(answer(order, Outcome::Done));
    }
    // The silent rank speaks after all: too late.
    for (const Order& order : orders)
        if (order.rank == 1) job.take(answer(order, Outcome::Failed, "late"));
    QVERIFY(job.idle());
    QCOMPARE(job.count(FrameState::Done), 4);
}

void TestScheduler::noRankLeft() {
    Scheduler job = scheduler(1, 5);
    (void)job.orders();
    job.lose(0, "gone");
    (void)job.orders();
    QVERIFY(job.idle());
    QCOMPARE(job.count(FrameState::Failed), 5);
}

void TestScheduler::stopLeavesNothingWaiting() {
    for (const bool abandon : {false, true}) {
        Scheduler job = scheduler(1, 6);
        const std::vector<Order> orders = job.orders();
        job.stop(abandon, "enough");
        const std::vector<Order> told = job.orders();
        QCOMPARE(told.size(), std::size_t{abandon ? 1U : 0U});
        job.take(answer(orders[0], Outcome::Done));
        job.take(answer(orders[1], abandon ? Outcome::Cancelled : Outcome::Failed, "enough"));
        job.take(answer(orders[2], abandon ? Outcome::Returned : Outcome::Done));
        QVERIFY(job.idle());
        QCOMPARE(job.count(FrameState::Done), abandon ? 1 : 2);
        QCOMPARE(job.count(FrameState::Cancelled), abandon ? 5 : 3);
        QCOMPARE(job.count(FrameState::Failed), abandon ? 0 : 1);
        job.add(task(9), false);
        QVERIFY(job.idle());
    }
}

void TestScheduler::failFast() {
    SchedulerSettings settings;
    settings.failFast = true;
    settings.retries = 0;
    Scheduler job = scheduler(1, 6, settings);
    const std::vector<Order> orders = job.orders();
    job.take(answer(orders[0], Outcome::Failed, "bad"));
    QVERIFY(job.stopped());
    job.take(answer(orders[1], Outcome::Cancelled));
    job.take(answer(orders[2], Outcome::Done));
    (void)job.orders();
    QVERIFY(job.idle());
    QCOMPARE(job.count(FrameState::Failed), 1);
    QCOMPARE(job.count(FrameState::Cancelled), 4);
    QCOMPARE(job.count(FrameState::Done), 1);
}

void TestScheduler::lateAndForeignResultsAreIgnored() {
    Scheduler job = scheduler(2, 2);
    const std::vector<Order> orders = job.orders();
    TaskResult foreign = answer(orders[0], Outcome::Done);
    foreign.rank = 1 - foreign.rank;
    job.take(foreign);
    foreign.rank = 77;
    job.take(foreign);
    foreign.rank = 0;
    foreign.frame = -1;
    job.take(foreign);
    QCOMPARE(job.count(FrameState::Done), 0);
    job.take(answer(orders[0], Outcome::Done));
    job.take(answer(orders[0], Outcome::Failed, "twice"));
    QCOMPARE(job.count(FrameState::Done), 1);
    QVERIFY(!job.idle());
}

void TestScheduler::everyFrameEndsOnceWhateverHappens() {
    for (unsigned seed = 0; seed < 300; ++seed) {
        std::mt19937 chance(seed);
        const auto roll = [&](int sides) { return static_cast<int>(chance() % static_cast<unsigned>(sides)); };
        SchedulerSettings settings;
        settings.retries = roll(3);
        settings.inFlight = 1 + roll(3);
        settings.failFast = roll(4) == 0;
        const int ranks = 1 + roll(6);
        const int frames = roll(12);
        Scheduler job = scheduler(ranks, 0, settings);
        for (int i = 0; i < frames; ++i) job.add(task(i), roll(3) == 0);
        std::vector<Order> open;
        std::vector<int> endings(static_cast<std::size_t>(frames));
        std::vector<bool> alive(static_cast<std::size_t>(ranks), true);
        int steps = 0;
        while (!job.idle()) {
            QVERIFY(++steps < 10000);
            for (Order& order : job.orders())
                if ((order.kind == TaskKind::Check || order.kind == TaskKind::Extract) &&
                    alive[static_cast<std::size_t>(order.rank)])
                    open.push_back(std::move(order));
            for (int rank = 0; rank < ranks; ++rank)
                QVERIFY(std::count_if(open.begin(), open.end(),
                                      [&](const Order& order) { return order.rank == rank; }) <= settings.inFlight);
            if (!open.empty()) {
                const auto chosen = open.begin() + roll(static_cast<int>(open.size()));
                const Order order = *chosen;
                open.erase(chosen);
                const int fate = roll(10);
                const bool check = order.kind == TaskKind::Check;
                TaskResult result =
                    answer(order, check ? (fate < 5 ? Outcome::Complete : Outcome::Incomplete) : Outcome::Done);
                if (fate == 9) result = answer(order, Outcome::Failed, "bad");
                if (fate == 8) result = answer(order, Outcome::Returned);
                result.permanent = fate == 9 && roll(2) == 0;
                job.take(result);
            }
            if (roll(40) == 0) {
                const int lost = roll(ranks);
                alive[static_cast<std::size_t>(lost)] = false;
                job.lose(lost, "silent");
                std::erase_if(open, [&](const Order& order) { return order.rank == lost; });
            }
            if (roll(60) == 0) job.stop(roll(2) == 0, "enough");
            for (const int frame : job.ended()) ++endings[static_cast<std::size_t>(frame)];
        }
        for (const int frame : job.ended()) ++endings[static_cast<std::size_t>(frame)];
        for (std::size_t i = 0; i < endings.size(); ++i) {
            QCOMPARE(endings[i], 1);
            QVERIFY(job.frames()[i].state != FrameState::Waiting && job.frames()[i].state != FrameState::Running);
        }
    }
}

QTEST_APPLESS_MAIN(TestScheduler)
#include "TestScheduler.moc"
