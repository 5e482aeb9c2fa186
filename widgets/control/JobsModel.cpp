#include "widgets/control/JobsModel.h"

#include <algorithm>

namespace patchlight::widgets {

namespace {

constexpr int keptJobs = 500; ///< older ones are forgotten

QString duration(double seconds) {
    if (seconds < 1.0) return QStringLiteral("%1 ms").arg(seconds * 1000.0, 0, 'f', 0);
    if (seconds < 100.0) return QStringLiteral("%1 s").arg(seconds, 0, 'f', 1);
    const int whole = static_cast<int>(seconds);
    return QStringLiteral("%1 min %2 s").arg(whole / 60).arg(whole % 60);
}

} // namespace

double Job::secondsLeft() const {
    if (state != JobState::Running || done <= 0 || total <= 0) return -1.0;
    return seconds * (total - done) / done;
}

JobsModel::JobsModel(QObject* parent) : QAbstractTableModel(parent) {}

int JobsModel::rowCount(const QModelIndex& parent) const {
    return parent.isValid() ? 0 : static_cast<int>(jobs_.size());
}

int JobsModel::columnCount(const QModelIndex& parent) const { return parent.isValid() ? 0 : ColumnCount; }

QString JobsModel::stateText(JobState state) {
    switch (state) {
    case JobState::Waiting:
        return tr("waiting");
    case JobState::Running:
        return tr("running");
    case JobState::Done:
        return tr("done");
    case JobState::Failed:
        return tr("failed");
    case JobState::Cancelled:
        return tr("cancelled");
    }
    return {};
}

QVariant JobsModel::data(const QModelIndex& index, int role) const {
    if (!checkIndex(index, CheckIndexOption::IndexIsValid)) return {};
    const Job& job = jobs_[static_cast<std::size_t>(index.row())];
    if (role == Qt::ToolTipRole) return job.message.isEmpty() ? job.title : job.message;
    if (role == Qt::TextAlignmentRole)
        return index.column() == Number || index.column() == Progress || index.column() == Time
                   ? QVariant(Qt::AlignRight | Qt::AlignVCenter)
                   : QVariant(Qt::AlignLeft | Qt::AlignVCenter);
    if (role != Qt::DisplayRole) return {};
    switch (index.column()) {
    case Number:
        return job.number;
    case Title:
        return job.title;
    case State:
        return stateText(job.state);
    case Progress:
        return job.total > 0 ? QStringLiteral("%1 %").arg(100.0 * job.done / job.total, 0, 'f', 0) : QString();
    case Time:
        if (job.state == JobState::Waiting) return {};
        if (const double left = job.secondsLeft(); left >= 0.0)
            return tr("%1, %2 left").arg(duration(job.seconds), duration(left));
        return duration(job.seconds);
    case Message:
        return job.message;
    default:
        return {};
    }
}

QVariant JobsModel::headerData(int section, Qt::Orientation orientation, int role) const {
    if (role != Qt::DisplayRole || orientation != Qt::Horizontal) return {};
    switch (section) {
    case Number:
        return tr("No.");
    case Title:
        return tr("Job");
    case State:
        return tr("State");
    case Progress:
        return tr("Done");
    case Time:
        return tr("Time");
    case Message:
        return tr("Message");
    default:
        return {};
    }
}

void JobsModel::add(Job job) {
    if (static_cast<int>(jobs_.size()) >= keptJobs && jobs_.front().ended()) {
        beginRemoveRows({}, 0, 0);
        jobs_.erase(jobs_.begin());
        endRemoveRows();
    }
    const int row = static_cast<int>(jobs_.size());
    beginInsertRows({}, row, row);
    jobs_.push_back(std::move(job));
    endInsertRows();
}

void JobsModel::remove(int number) {
    const auto it = std::find_if(jobs_.begin(), jobs_.end(), [&](const Job& job) { return job.number == number; });
    if (it == jobs_.end() || !it->ended()) return;
    const int row = static_cast<int>(it - jobs_.begin());
    beginRemoveRows({}, row, row);
    jobs_.erase(it);
    endRemoveRows();
}

Job* JobsModel::find(int number) {
    const auto it = std::find_if(jobs_.rbegin(), jobs_.rend(), [&](const Job& job) { return job.number == number; });
    return it == jobs_.rend() ? nullptr : &*it;
}

const Job* JobsModel::find(int number) const {
    const auto it = std::find_if(jobs_.rbegin(), jobs_.rend(), [&](const Job& job) { return job.number == number; });
    return it == jobs_.rend() ? nullptr : &*it;
}

void JobsModel::changed(int number) {
    for (std::size_t i = jobs_.size(); i-- > 0;)
        if (jobs_[i].number == number) {
            const int row = static_cast<int>(i);
            Q_EMIT dataChanged(index(row, 0), index(row, ColumnCount - 1));
            return;
        }
}

} // namespace patchlight::widgets
