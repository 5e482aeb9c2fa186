#include "core/analysis/Barycentric.h"
#include "core/base/Error.h"
#include "core/io/FitsHeader.h"

#include <QObject>
#include <QTest>

#include <cmath>
#include <limits>

using namespace patchlight;

namespace {

FitsHeader header(std::initializer_list<std::pair<const char*, double>> values) {
    FitsHeader result;
    for (const auto& [keyword, value] : values) result.set(keyword, value);
    return result;
}

/// The message of the Error that a call throws; empty where it throws none.
template <class F> QString errorOf(F call) {
    try {
        call();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

} // namespace

class TestBarycentric : public QObject {
    Q_OBJECT

private slots:
    /// desispec.heliocentric.barycentric_velocity_multiplicative_corr, whose arithmetic is astropy's
    /// SkyCoord.radial_velocity_correction (astropy 5.2.1, ICRS coordinates, UTC, IERS-A off); the first three are the
    /// specification's, the others were made with the same call, the last one at a site in Chile.
    void reference_data() {
        QTest::addColumn<double>("ra");
        QTest::addColumn<double>("dec");
        QTest::addColumn<double>("mjd");
        QTest::addColumn<double>("latitude");
        QTest::addColumn<double>("longitude");
        QTest::addColumn<double>("height");
        QTest::addColumn<double>("factor");
        const auto row = [](const char* name, double ra, double dec, double mjd, double factor,
                            const Observatory& at = kittPeak) {
            QTest::newRow(name) << ra << dec << mjd << at.latitude << at.longitude << at.height << factor;
        };
        row("winter field", 150.1, 32.2, 58898.205208, 0.99998708846);
        row("autumn field", 10.0, -5.0, 59500.3, 0.99997657508);
        row("galactic centre beside the Sun", 266.4, -28.9, 60310.12, 1.00002178380);
        row("north pole", 0.0, 90.0, 59000.5, 0.999986498911);
        row("near the south pole, year 2000", 359.9, -89.5, 51544.0, 1.000006077261);
        row("Crab nebula", 83.6, 22.0, 58849.0, 0.999973800944);
        row("from Chile", 150.1, 32.2, 58898.205208, 0.999986352720, {-30.1690, -70.8062, 2215.0});
    }

    void reference() {
        QFETCH(double, ra);
        QFETCH(double, dec);
        QFETCH(double, mjd);
        QFETCH(double, latitude);
        QFETCH(double, longitude);
        QFETCH(double, height);
        QFETCH(double, factor);
        const double got = barycentricFactor(ra, dec, mjd, {latitude, longitude, height});
        const double difference = std::abs(got - factor);
        // 1e-8 is asked for; 5e-11 is what UT1 taken as UTC and the rounding of the numbers above leave.
        QVERIFY2(difference < 5e-11,
                 qPrintable(QString::number(got, 'f', 13) + " differs by " + QString::number(difference)));
    }

    void fromHeaderAtMidExposure() {
        const FitsHeader primary =
            header({{"TARGTRA", 150.1}, {"TARGTDEC", 32.2}, {"MJD-OBS", 58898.2}, {"EXPTIME", 900.0}});
        // 900 s / 2 = 0.005208333 days: the middle is 58898.205208333.
        QVERIFY(std::abs(barycentricFactor(primary) - 0.99998708846) < 1e-10);
        QCOMPARE(barycentricFactor(primary), barycentricFactor(150.1, 32.2, 58898.2 + 450.0 / 86400.0));
    }

    void whichKeywordsCount() {
        const double expected = barycentricFactor(150.1, 32.2, 58898.2);
        // The first complete pair counts; MJD stands in for MJD-OBS; a missing EXPTIME is 0.
        QCOMPARE(barycentricFactor(
                     header({{"SKYRA", 150.1}, {"SKYDEC", 32.2}, {"TELRA", 1.0}, {"TELDEC", 2.0}, {"MJD", 58898.2}})),
                 expected);
        QCOMPARE(barycentricFactor(header({{"TARGTRA", 1.0}, {"TELRA", 150.1}, {"TELDEC", 32.2}, {"MJD", 58898.2}})),
                 expected);
        QCOMPARE(barycentricFactor(header({{"RA", 150.1}, {"DEC", 32.2}, {"MJD-OBS", 58898.2}, {"MJD", 50000.0}})),
                 expected);
    }

    void fibermapStandsIn() {
        const double expected = barycentricFactor(150.1, 32.2, 58898.2 + 450.0 / 86400.0);
        const FitsHeader all =
            header({{"TARGTRA", 150.1}, {"TARGTDEC", 32.2}, {"MJD-OBS", 58898.2}, {"EXPTIME", 900.0}});
        const FitsHeader other = header({{"TARGTRA", 1.0}, {"TARGTDEC", 2.0}, {"MJD-OBS", 50000.0}});
        const FitsHeader empty;
        QCOMPARE(barycentricFactor(empty, &all), expected);
        QCOMPARE(barycentricFactor(all, &other), expected);
        QCOMPARE(barycentricFactor(all, &empty), expected);
        // Coordinates in one, date and exposure time in the other.
        const FitsHeader place = header({{"RA", 150.1}, {"DEC", 32.2}});
        const FitsHeader date = header({{"MJD-OBS", 58898.2}, {"EXPTIME", 900.0}});
        QCOMPARE(barycentricFactor(date, &place), expected);
        QCOMPARE(barycentricFactor(place, &date), expected);
    }

    void missingKeywords() {
        const FitsHeader date = header({{"MJD-OBS", 58898.2}});
        QString message = errorOf([&] { (void)barycentricFactor(date, nullptr, kittPeak, "preproc-r0.fits"); });
        QVERIFY2(message.startsWith("preproc-r0.fits: ") && message.contains("TARGTRA") && message.contains("TELDEC"),
                 qPrintable(message));
        const FitsHeader place = header({{"TARGTRA", 150.1}, {"TARGTDEC", 32.2}});
        const FitsHeader empty;
        message = errorOf([&] { (void)barycentricFactor(place, &empty, kittPeak, "preproc-r0.fits"); });
        QVERIFY2(message.contains("MJD-OBS") && message.contains("FIBERMAP"), qPrintable(message));
    }

    void badValues() {
        FitsHeader primary = header({{"TARGTRA", 150.1}, {"TARGTDEC", 132.2}, {"MJD-OBS", 58898.2}});
        QString message = errorOf([&] { (void)barycentricFactor(primary, nullptr, kittPeak, "x.fits"); });
        QVERIFY2(message.contains("x.fits") && message.contains("TARGTDEC") && message.contains("132.2"),
                 qPrintable(message));
        primary.set("TARGTDEC", 32.2);
        primary.set("MJD-OBS", 0.0);
        message = errorOf([&] { (void)barycentricFactor(primary); });
        QVERIFY2(message.contains("MJD-OBS") && message.contains("1960"), qPrintable(message));
        primary.set("MJD-OBS", 58898.2);
        primary.set("EXPTIME", "long");
        message = errorOf([&] { (void)barycentricFactor(primary); });
        QVERIFY2(message.contains("EXPTIME") && message.contains("long"), qPrintable(message));
        QVERIFY_EXCEPTION_THROWN((void)barycentricFactor(std::numeric_limits<double>::quiet_NaN(), 0.0, 58898.2),
                                 Error);
        QVERIFY_EXCEPTION_THROWN((void)barycentricFactor(0.0, 0.0, std::numeric_limits<double>::quiet_NaN()), Error);
        QVERIFY_EXCEPTION_THROWN((void)barycentricFactor(0.0, 0.0, 58898.2, {91.0, 0.0, 0.0}), UsageError);
    }

    void observatoryText() {
        const Observatory site = parseObservatory("-30.169,-70.8062,2215");
        QCOMPARE(site.latitude, -30.169);
        QCOMPARE(site.longitude, -70.8062);
        QCOMPARE(site.height, 2215.0);
        QCOMPARE(parseObservatory(" 31.96403, -111.59989, 2097").latitude, kittPeak.latitude);
        for (const char* bad : {"", "31", "31,-111", "31,-111,2097,1", "north,-111,2097", "31;-111;2097", "95,0,0",
                                "nan,0,0", "31,-111,"}) {
            QVERIFY2(errorOf([&] { (void)parseObservatory(bad); }).startsWith("observatory: "), bad);
        }
    }
};

QTEST_APPLESS_MAIN(TestBarycentric)
#include "TestBarycentric.moc"
