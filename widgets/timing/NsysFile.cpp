#include "widgets/timing/NsysFile.h"

#include "core/base/Error.h"

#include <QFileInfo>
#include <QSqlDatabase>
#include <QSqlError>
#include <QSqlQuery>
#include <QSqlRecord>
#include <QStringList>
#include <QThread>
#include <QVariant>

#include <fmt/format.h>

#include <map>

namespace patchlight::widgets {

namespace {

constexpr int pushPopRange = 59; ///< NVTX_EVENTS.eventType
constexpr int startEndRange = 60;

/// globalTid holds process and thread in 24 bits each.
std::int64_t processOf(std::int64_t globalTid) { return (globalTid >> 24) & 0xFFFFFF; }
std::int64_t threadOf(std::int64_t globalTid) { return globalTid & 0xFFFFFF; }

/// Streams stand behind all threads of their process.
constexpr std::int64_t streamOffset = 0x1000000;

/// "batch bundle 3 step 10" is the range "batch" with two tags.
QString splitTags(const QString& text, RangeTags& tags) {
    QStringList words = text.split(QLatin1Char(' '));
    while (words.size() >= 3) {
        bool isNumber = false;
        const int value = words.back().toInt(&isNumber);
        const QString key = words[words.size() - 2];
        if (!isNumber) break;
        if (key == QLatin1String("step"))
            tags.step = value;
        else if (key == QLatin1String("bundle"))
            tags.bundle = value;
        else if (key == QLatin1String("frame"))
            tags.frame = value;
        else
            break;
        words.resize(words.size() - 2);
    }
    return words.join(QLatin1Char(' '));
}

class Reader {
public:
    Reader(const QString& path, const QString& connection)
        : path_(path), database_(QSqlDatabase::addDatabase(QStringLiteral("QSQLITE"), connection)) {
        if (!QSqlDatabase::isDriverAvailable(QStringLiteral("QSQLITE")))
            fail("Qt's SQLite driver is missing (Debian: apt-get install libqt6sql6-sqlite)");
        if (!QFileInfo(path).isReadable()) fail("the file cannot be read");
        database_.setDatabaseName(path);
        database_.setConnectOptions(QStringLiteral("QSQLITE_OPEN_READONLY"));
        if (!database_.open()) fail(database_.lastError().text().toStdString());
        tables_ = database_.tables();
        if (tables_.isEmpty())
            fail("not an SQLite file, or an empty one; what nsys export --type sqlite writes would be right");
    }
    ~Reader() { database_.close(); }
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;

    Trace read() {
        trace_.source = path_.toStdString();
        readStrings();
        readNvtx();
        readDevice("CUPTI_ACTIVITY_KIND_KERNEL", {"shortName", "demangledName"}, "kernel");
        readDevice("CUPTI_ACTIVITY_KIND_MEMCPY", {}, "copy");
        readDevice("CUPTI_ACTIVITY_KIND_MEMSET", {}, "fill");
        if (trace_.ranges.empty())
            fail("it holds no ranges (tables NVTX_EVENTS, CUPTI_ACTIVITY_KIND_KERNEL): record with nsys profile "
                 "--trace nvtx,cuda");
        nameLanes();
        trace_.finish();
        return std::move(trace_);
    }

private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error(fmt::format("{}: {}", path_.toStdString(), what));
    }

    [[nodiscard]] bool has(const char* table) const { return tables_.contains(QString::fromLatin1(table)); }
    [[nodiscard]] bool has(const char* table, const char* column) const {
        return has(table) && database_.record(QString::fromLatin1(table)).contains(QString::fromLatin1(column));
    }
    QSqlQuery select(const QString& text) {
        QSqlQuery query(database_);
        query.setForwardOnly(true);
        if (!query.exec(text)) fail(query.lastError().text().toStdString());
        return query;
    }

    void readStrings() {
        if (!has("StringIds")) return;
        for (QSqlQuery query = select(QStringLiteral("SELECT id, value FROM StringIds")); query.next();)
            strings_[query.value(0).toLongLong()] = query.value(1).toString();
    }

    void add(std::int64_t process, std::int64_t thread, std::int64_t start, std::int64_t end, const QString& text) {
        TraceRange range;
        range.start = start;
        range.duration = std::max<std::int64_t>(0, end - start);
        range.name = trace_.nameIndex(splitTags(text, range.tags).toStdString());
        range.lane = trace_.laneIndex(process, thread);
        trace_.ranges.push_back(range);
    }

    void readNvtx() {
        if (!has("NVTX_EVENTS")) {
            trace_.notes.emplace_back("no table NVTX_EVENTS: kernels only");
            return;
        }
        const bool ids = has("NVTX_EVENTS", "textId");
        const bool texts = has("NVTX_EVENTS", "text");
        std::int64_t open = 0;
        for (QSqlQuery query = select(
                 QStringLiteral("SELECT start, \"end\", globalTid, %1, %2 FROM NVTX_EVENTS WHERE eventType IN (%3, %4)")
                     .arg(texts ? QStringLiteral("text") : QStringLiteral("NULL"),
                          ids ? QStringLiteral("textId") : QStringLiteral("NULL"))
                     .arg(pushPopRange)
                     .arg(startEndRange));
             query.next();) {
            if (query.value(1).isNull()) { // still open when the recording ended
                ++open;
                continue;
            }
            QString text = query.value(3).toString();
            if (text.isEmpty() && !query.value(4).isNull()) text = strings_.value(query.value(4).toLongLong());
            const std::int64_t thread = query.value(2).toLongLong();
            add(processOf(thread), threadOf(thread), query.value(0).toLongLong(), query.value(1).toLongLong(),
                text.isEmpty() ? QStringLiteral("(unnamed)") : text);
        }
        if (open > 0) trace_.notes.push_back(fmt::format("{} ranges that were open at the end left out", open));
    }

    void readDevice(const char* table, const std::vector<const char*>& nameColumns, const char* fallback) {
        if (!has(table)) return;
        QString name = QStringLiteral("NULL");
        for (auto column = nameColumns.rbegin(); column != nameColumns.rend(); ++column)
            if (has(table, *column)) name = QString::fromLatin1(*column);
        const bool process = has(table, "globalPid");
        const bool device = has(table, "deviceId");
        for (QSqlQuery query = select(QStringLiteral("SELECT start, \"end\", streamId, %1, %2, %3 FROM %4")
                                          .arg(name, process ? QStringLiteral("globalPid") : QStringLiteral("0"),
                                               device ? QStringLiteral("deviceId") : QStringLiteral("0"),
                                               QString::fromLatin1(table)));
             query.next();) {
            const std::int64_t pid = processOf(query.value(4).toLongLong());
            const std::int64_t stream =
                streamOffset + (query.value(5).toLongLong() << 16) + query.value(2).toLongLong();
            const QString text = query.value(3).isNull() ? QString() : strings_.value(query.value(3).toLongLong());
            add(pid, stream, query.value(0).toLongLong(), query.value(1).toLongLong(),
                text.isEmpty() ? QString::fromLatin1(fallback) : text);
            streams_[{pid, stream}] =
                QStringLiteral("GPU %1 stream %2").arg(query.value(5).toLongLong()).arg(query.value(2).toLongLong());
        }
    }

    void nameLanes() {
        std::map<std::int64_t, QString> processes;
        if (has("PROCESSES", "name"))
            for (QSqlQuery query = select(QStringLiteral("SELECT globalPid, name FROM PROCESSES")); query.next();)
                processes[processOf(query.value(0).toLongLong())] = QFileInfo(query.value(1).toString()).fileName();
        std::map<std::pair<std::int64_t, std::int64_t>, QString> threads;
        if (has("ThreadNames", "globalTid") && has("ThreadNames", "nameId"))
            for (QSqlQuery query = select(QStringLiteral("SELECT globalTid, nameId FROM ThreadNames")); query.next();) {
                const std::int64_t tid = query.value(0).toLongLong();
                threads[{processOf(tid), threadOf(tid)}] = strings_.value(query.value(1).toLongLong());
            }
        for (TraceLane& lane : trace_.lanes) {
            const auto process = processes.find(lane.process);
            lane.processName =
                process != processes.end() ? process->second.toStdString() : fmt::format("process {}", lane.process);
            const auto stream = streams_.find({lane.process, lane.thread});
            const auto thread = threads.find({lane.process, lane.thread});
            if (stream != streams_.end())
                lane.name = stream->second.toStdString();
            else if (thread != threads.end() && !thread->second.isEmpty())
                lane.name = fmt::format("{} ({})", thread->second.toStdString(), lane.thread);
            else
                lane.name = fmt::format("thread {}", lane.thread);
        }
    }

    QString path_;
    QSqlDatabase database_;
    QStringList tables_;
    QHash<qint64, QString> strings_;
    std::map<std::pair<std::int64_t, std::int64_t>, QString> streams_;
    Trace trace_;
};

} // namespace

Trace readNsysFile(const QString& path) {
    // A connection belongs to the thread that made it.
    const QString connection = QStringLiteral("nsys-%1").arg(reinterpret_cast<quintptr>(QThread::currentThreadId()));
    struct Guard {
        QString name;
        ~Guard() { QSqlDatabase::removeDatabase(name); }
    };
    const Guard guard{connection};
    return Reader(path, connection).read();
}

} // namespace patchlight::widgets
