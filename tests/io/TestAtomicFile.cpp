#include "core/io/AtomicFile.h"
#include "core/io/FitsWriter.h"
#include "tests/io/FitsBytes.h"

#include <QDir>
#include <QFile>
#include <QFileInfo>
#include <QObject>
#include <QTemporaryDir>
#include <QTest>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace patchlight;
using namespace fitsbytes;

class TestAtomicFile : public QObject {
    Q_OBJECT
private slots:
    void init();
    void writes();
    void keepsOldFileUntilCommit();
    void leavesNothingOnException();
    void followsSymbolicLinks();
    void takesNamesLiterally_data();
    void takesNamesLiterally();
    void refusesTargets();
    void readOnlyFolder();
    void fileSizeLimit();
    void fileSizeLimitFits_data();
    void fileSizeLimitFits();
    void fullDisk();

private:
    std::unique_ptr<QTemporaryDir> folder_;
    [[nodiscard]] QString file(const QString& name) const { return folder_->filePath(name); }
    [[nodiscard]] std::string path(const QString& name) const { return file(name).toStdString(); }
    /// Everything in the folder, hidden files too.
    [[nodiscard]] QStringList entries(const QString& folder = {}) const {
        return QDir(folder.isEmpty() ? folder_->path() : folder)
            .entryList(QDir::AllEntries | QDir::Hidden | QDir::NoDotAndDotDot);
    }
};

namespace {

/// Limits the size of files for a while; writing more fails as on a full disk.
class FileSizeLimit {
public:
    explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
        getrlimit(RLIMIT_FSIZE, &old_);
        const rlimit limit = {bytes, old_.rlim_max};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    ~FileSizeLimit() {
        setrlimit(RLIMIT_FSIZE, &old_);
        (void)std::signal(SIGXFSZ, handler_);
    }
    FileSizeLimit(const FileSizeLimit&) = delete;
    FileSizeLimit& operator=(const FileSizeLimit&) = delete;

private:
    rlimit old_ = {};
    void (*handler_)(int);
};

/// A file system in memory, where this process may mount one.
class SmallDisk {
public:
    SmallDisk(const QString& folder, const char* options) : folder_(folder.toStdString()) {
        QDir().mkpath(folder);
        mounted_ = ::mount("tmpfs", folder_.c_str(), "tmpfs", 0, options) == 0;
        error_ = mounted_ ? 0 : errno;
    }
    ~SmallDisk() {
        if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    [[nodiscard]] bool mounted() const { return mounted_; }
    bool makeReadOnly() { return ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr) == 0; }
    [[nodiscard]] QString reason() const {
        return QStringLiteral("no small disk can be mounted here: ") + std::strerror(error_);
    }

private:
    std::string folder_;
    bool mounted_ = false;
    int error_ = 0;
};

/// About 800 kB that do not shrink.
std::vector<float> noise() {
    std::vector<float> values(200000);
    std::uint32_t state = 1;
    for (float& value : values) {
        state = state * 1664525U + 1013904223U;
        value = static_cast<float>(state) * 1e-6F;
    }
    return values;
}

void writeNoise(const std::string& path) {
    const std::vector<float> pixels = noise();
    FitsWriter writer(path);
    writer.addImage({"IMAGE", {500, 400}, "electron", {}}, std::span<const float>(pixels));
    writer.commit();
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

} // namespace

void TestAtomicFile::init() { folder_ = std::make_unique<QTemporaryDir>(); }

void TestAtomicFile::writes() {
    writeFileAtomically(path("a.json"), "{}");
    QCOMPARE(load(file("a.json")), std::string("{}"));
    QCOMPARE(entries(), QStringList{"a.json"});
    // Others may read what the umask lets them.
    const mode_t mask = ::umask(0022);
    writeFileAtomically(path("b.json"), "");
    ::umask(mask);
    struct stat info = {};
    QCOMPARE(::stat(path("b.json").c_str(), &info), 0);
    QCOMPARE(info.st_mode & 0777U, 0644U);
    requireWritable(path("c.json"));
    QCOMPARE(entries(), (QStringList{"a.json", "b.json"}));
    const std::string longName(255, 'n'); // as long as a name can be
    writeFileAtomically(path(QString::fromStdString(longName)), "x");
    QVERIFY(entries().contains(QString::fromStdString(longName)));
}

void TestAtomicFile::keepsOldFileUntilCommit() {
    save(file("a"), "old");
    {
        AtomicFile first(path("a"));
        AtomicFile second(path("a"));
        first.write("first", 5);
        second.write("second", 6);
        QCOMPARE(load(file("a")), std::string("old"));
        QCOMPARE(entries().size(), 3);
        second.commit();
        QCOMPARE(load(file("a")), std::string("second"));
        first.commit();
        QCOMPARE(load(file("a")), std::string("first"));
        QVERIFY(!messageOf([&] { first.commit(); }).empty());
        QVERIFY(!messageOf([&] { first.write("x", 1); }).empty());
    }
    QCOMPARE(entries(), QStringList{"a"});
}

void TestAtomicFile::leavesNothingOnException() {
    save(file("a.fits"), "old");
    try {
        FitsWriter writer(path("a.fits"));
        const std::vector<float> pixels(6);
        writer.addImage({"IMAGE", {3, 2}, "", {}}, std::span<const float>(pixels));
        throw std::runtime_error("something else failed");
    } catch (const std::runtime_error&) { // NOLINT(bugprone-empty-catch): what is left behind counts
    }
    QCOMPARE(entries(), QStringList{"a.fits"});
    QCOMPARE(load(file("a.fits")), std::string("old"));
    // A shape that does not fit the pixels.
    const std::string message = messageOf([&] {
        FitsWriter writer(path("a.fits"));
        const std::vector<float> pixels(6);
        writer.addImage({"IMAGE", {3, 3}, "", {}}, std::span<const float>(pixels));
    });
    QVERIFY2(contains(message, "a.fits: HDU IMAGE: 6 pixels, 3 x 3 expected"), message.c_str());
    QCOMPARE(entries(), QStringList{"a.fits"});
}

void TestAtomicFile::followsSymbolicLinks() {
    QVERIFY(QDir(folder_->path()).mkdir("real"));
    save(file("real/a"), "old");
    QVERIFY(QFile::link(file("real/a"), file("link")));
    writeFileAtomically(path("link"), "new");
    QCOMPARE(load(file("real/a")), std::string("new"));
    QVERIFY(QFileInfo(file("link")).isSymLink());
    QCOMPARE(entries(file("real")), QStringList{"a"});
}

void TestAtomicFile::takesNamesLiterally_data() {
    QTest::addColumn<QString>("name");
    for (const char* name : {"a[1].fits", "!a.fits", "~a.fits", "a(b).fits.gz", "a.fits[IMAGE]", "mem:x.fits",
                             " a.fits", "-", "stdout", "a.fits+1", "%41.fits"})
        QTest::newRow(name) << name;
}

void TestAtomicFile::takesNamesLiterally() {
    QFETCH(QString, name);
    const QString old = QDir::currentPath();
    QVERIFY(QDir::setCurrent(folder_->path()));
    const std::string message = messageOf([&] { writeNoise(name.toStdString()); }); // a relative name
    QVERIFY(QDir::setCurrent(old));
    QCOMPARE(QString::fromStdString(message), QString());
    QCOMPARE(entries(), QStringList{name});
}

void TestAtomicFile::refusesTargets() {
    save(file("plain"), "x");
    const auto message = [](const std::string& target) { return messageOf([&] { writeFileAtomically(target, "y"); }); };
    QVERIFY(contains(message(folder_->path().toStdString()), "a directory"));
    QVERIFY(contains(message(path("plain/below")), "Not a directory"));
    QVERIFY(contains(message(path("plain/below")), "plain/below: cannot be written"));
    QVERIFY(contains(message(path("absent/below")), "No such file or directory"));
    QVERIFY(contains(message(path("absent/")), "name of a file"));
    QVERIFY(contains(message(""), "name of a file"));
    QVERIFY(contains(message("/dev/null"), "not a regular file")); // and is not replaced by one
    struct stat info = {};
    QCOMPARE(::stat("/dev/null", &info), 0);
    QVERIFY(S_ISCHR(info.st_mode));
    QVERIFY(contains(messageOf([&] { requireWritable(path("absent/below")); }), "cannot be written"));
    QCOMPARE(entries(), QStringList{"plain"});
}

void TestAtomicFile::readOnlyFolder() {
    QString readOnly = file("readonly");
    std::optional<SmallDisk> disk;
    if (::geteuid() == 0) {
        disk.emplace(readOnly, "size=64k"); // permissions do not bind root
        if (!disk->mounted()) QSKIP(qPrintable(disk->reason()));
        if (!disk->makeReadOnly()) QSKIP("the small disk cannot be made read-only");
    } else {
        QVERIFY(QDir().mkpath(readOnly));
        QVERIFY(QFile::setPermissions(readOnly, QFileDevice::ReadOwner | QFileDevice::ExeOwner));
    }
    const std::string message = messageOf([&] { writeNoise((readOnly + "/a.fits").toStdString()); });
    QVERIFY2(contains(message, "readonly/a.fits: cannot be written"), message.c_str());
    QVERIFY2(contains(message, "Read-only file system") || contains(message, "Permission denied"), message.c_str());
    QVERIFY(entries(readOnly).isEmpty());
    if (!disk)
        QFile::setPermissions(readOnly, QFileDevice::ReadOwner | QFileDevice::WriteOwner | QFileDevice::ExeOwner);
}

void TestAtomicFile::fileSizeLimit() {
    save(file("a"), "old");
    const std::string content(100000, 'x');
    std::string message;
    {
        const FileSizeLimit limit(50000);
        message = messageOf([&] { writeFileAtomically(path("a"), content); });
    }
    QVERIFY2(contains(message, "a: cannot be written: File too large"), message.c_str());
    QCOMPARE(entries(), QStringList{"a"});
    QCOMPARE(load(file("a")), std::string("old"));
}

void TestAtomicFile::fileSizeLimitFits_data() {
    QTest::addColumn<QString>("name");
    QTest::addColumn<int>("bytes");
    for (const char* name : {"a.fits", "a.fits.gz"})
        for (const int bytes : {0, 1, 2880, 50000, 500000, 640000})
            QTest::newRow(qPrintable(QStringLiteral("%1 %2").arg(name).arg(bytes))) << QString(name) << bytes;
}

void TestAtomicFile::fileSizeLimitFits() {
    QFETCH(QString, name);
    QFETCH(int, bytes);
    std::string message;
    {
        const FileSizeLimit limit(static_cast<rlim_t>(bytes));
        message = messageOf([&] { writeNoise(path(name)); });
    }
    QVERIFY2(contains(message, name.toStdString() + ": cannot be written: File too large"), message.c_str());
    QVERIFY(entries().isEmpty());
}

void TestAtomicFile::fullDisk() {
    const SmallDisk disk(file("small"), "size=400k");
    if (!disk.mounted()) QSKIP(qPrintable(disk.reason()));
    for (const char* name : {"small/a.fits", "small/a.fits.gz"}) {
        const std::string message = messageOf([&] { writeNoise(path(name)); });
        QVERIFY2(contains(message, std::string(name) + ": cannot be written: No space left on device"),
                 message.c_str());
        QVERIFY(entries(file("small")).isEmpty());
    }
}

QTEST_APPLESS_MAIN(TestAtomicFile)
#include "TestAtomicFile.moc"
