#include "core/base/Memory.h"
#include "core/base/Parallel.h"

#include <QObject>
#include <QTest>

#include <atomic>
#include <stdexcept>
#include <string>
#include <vector>

using namespace patchlight;

class TestParallel : public QObject {
    Q_OBJECT
private slots:
    void everyIndexOnce_data();
    void everyIndexOnce();
    void workersDoNotMeet();
    void lowestErrorIsThrown();
    void vectorsMadeInParallel();
};

void TestParallel::everyIndexOnce_data() {
    QTest::addColumn<int>("count");
    QTest::addColumn<int>("threads");
    for (const int count : {0, 1, 2, 7, 1000})
        for (const int threads : {-1, 0, 1, 2, 5, 40}) QTest::addRow("%d on %d", count, threads) << count << threads;
}

void TestParallel::everyIndexOnce() {
    QFETCH(int, count);
    QFETCH(int, threads);
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
    forEachParallel(calls.size(), threads, [&](std::size_t index, std::size_t) { ++calls[index]; });
    for (const std::atomic<int>& one : calls) QCOMPARE(one.load(), 1);
}

void TestParallel::workersDoNotMeet() {
    constexpr std::size_t count = 3000;
    QCOMPARE(workersFor(count, 7), std::size_t{7});
    QCOMPARE(workersFor(3, 7), std::size_t{3});
    QCOMPARE(workersFor(0, 7), std::size_t{1});
    QVERIFY(workersFor(count, 0) >= 1);
    std::vector<std::atomic<int>> inside(7);
    std::atomic<bool> met{false};
    forEachParallel(count, 7, [&](std::size_t, std::size_t worker) {
        if (worker >= inside.size() || inside[worker].fetch_add(1) != 0) met = true;
        if (worker < inside.size()) inside[worker].fetch_sub(1);
    });
    QVERIFY(!met);
}

void TestParallel::lowestErrorIsThrown() {
    for (const int threads : {1, 2, 5}) {
        for (int round = 0; round < 50; ++round) {
            std::string message;
            try {
                forEachParallel(400, threads, [](std::size_t index, std::size_t) {
                    if (index >= 100 && index % 7 == 3) throw std::runtime_error(std::to_string(index));
                });
            } catch (const std::runtime_error& error) {
                message = error.what();
            }
            QCOMPARE(message, std::string("101"));
        }
    }
}

void TestParallel::vectorsMadeInParallel() {
    for (const std::size_t count : {std::size_t{0}, std::size_t{3}, std::size_t{5'000'001}}) {
        std::vector<int> values;
        resizeInParallel(values, count, 2);
        QCOMPARE(values, std::vector<int>(count));
    }
}

QTEST_APPLESS_MAIN(TestParallel)
#include "TestParallel.moc"
