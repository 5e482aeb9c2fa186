#pragma once

#include <QByteArray>
#include <QFileInfo>
#include <QString>
#include <QTest>

#include <string>

/// What several tests need: files beside the checkout, and skips that a machine can forbid.
namespace patchlight::test {

/// Path of a file of the shared test data ("psf-r0-00051060.fits", "golden/..."), whether it is there or not.
inline QString sharedFile(const QString& name) {
    return qEnvironmentVariable("PATCHLIGHT_TEST_SHARED") + "/data/" + name;
}

/// Path of a file of the repository.
inline QString sourceFile(const QString& name) { return qEnvironmentVariable("PATCHLIGHT_TEST_SOURCE") + "/" + name; }

/// Path of the built program; empty where the test was not started by ctest.
inline QString program() { return qEnvironmentVariable("PATCHLIGHT_PROGRAM"); }

} // namespace patchlight::test

/// Ends the test function as skipped; as failed where the environment variable is set (to anything but 0).
#define PATCHLIGHT_SKIP(variable, reason)                                                                              \
    do {                                                                                                               \
        const QByteArray why_ = QByteArray(reason);                                                                    \
        if (qEnvironmentVariable(variable, "0") != "0") QFAIL((why_ + " (" variable " is set)").constData());          \
        QSKIP(why_.constData());                                                                                       \
    } while (false)

/// Skips unless the named file of the shared test data is there.
#define PATCHLIGHT_NEED_SHARED(name)                                                                                   \
    do {                                                                                                               \
        const QString path_ = patchlight::test::sharedFile(name);                                                      \
        if (!QFileInfo::exists(path_))                                                                                 \
            PATCHLIGHT_SKIP("PATCHLIGHT_REQUIRE_SHARED", ("there is no " + path_).toUtf8());                           \
    } while (false)
