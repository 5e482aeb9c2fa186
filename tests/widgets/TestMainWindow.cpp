#include "core/cpu/CpuBackend.h"
#include "widgets/window/MainWindow.h"

#include <QTest>

using patchlight::widgets::MainWindow;

class TestMainWindow : public QObject {
    Q_OBJECT

private Q_SLOTS:
    void opens() {
        MainWindow window([](const std::string&) { return patchlight::makeCpuBackend(); });
        window.show();
        QVERIFY(QTest::qWaitForWindowExposed(&window));
        QCOMPARE(window.windowTitle(), QStringLiteral("Patchlight"));
    }
};

QTEST_MAIN(TestMainWindow)
#include "TestMainWindow.moc"
