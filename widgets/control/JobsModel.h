#pragma once

#include <QAbstractTableModel>
#include <QDateTime>
#include <QString>

#include <chrono>
#include <stop_token>
#include <vector>

namespace patchlight::widgets {

enum class JobState { Waiting, Running, Done, Failed, Cancelled };

/// One job of the controller.
struct Job {
    int number = 0;
    QString title; ///< "extract bundle 10"
    JobState state = JobState::Waiting;
    int done = 0;  ///< patches
    int total = 0; ///< patches; 0: not known
    QString message;
    QString command; ///< the `patchlight` command that does the same; empty where there is none
    std::chrono::steady_clock::time_point started;
    double seconds = 0; ///< since it started; final when it has ended
    std::stop_source stop;

    [[nodiscard]] bool ended() const { return state != JobState::Waiting && state != JobState::Running; }
    /// Seconds left, from the share done; below 0 where unknown.
    [[nodiscard]] double secondsLeft() const;
};

/// The jobs of a session, newest last.
class JobsModel : public QAbstractTableModel {
    Q_OBJECT

public:
    enum Column { Number, Title, State, Progress, Time, Message, ColumnCount };

    explicit JobsModel(QObject* parent = nullptr);

    [[nodiscard]] int rowCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] int columnCount(const QModelIndex& parent = {}) const override;
    [[nodiscard]] QVariant data(const QModelIndex& index, int role = Qt::DisplayRole) const override;
    [[nodiscard]] QVariant headerData(int section, Qt::Orientation orientation, int role) const override;

    void add(Job job);
    /// The job of that number; null where there is none. Call changed() after changing it.
    [[nodiscard]] Job* find(int number);
    [[nodiscard]] const Job* find(int number) const;
    void changed(int number);
    /// Forgets a job that has ended.
    void remove(int number);
    [[nodiscard]] const std::vector<Job>& jobs() const { return jobs_; }
    [[nodiscard]] static QString stateText(JobState state);

private:
    std::vector<Job> jobs_;
};

} // namespace patchlight::widgets
