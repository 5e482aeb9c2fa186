#include "app/batch/Scheduler.h"

#include <algorithm>
#include <cstddef>

#include <fmt/format.h>

namespace patchlight::batch {

Scheduler::Scheduler(const SchedulerSettings& settings)
    : settings_(settings), ranks_(static_cast<std::size_t>(settings.ranks)) {}

int Scheduler::add(FrameTask task, bool check) {
    const int frame = static_cast<int>(frames_.size());
    FrameRecord& record = frames_.emplace_back();
    record.task = std::move(task);
    attempts_.emplace_back();
    if (stopped_) {
        record.state = FrameState::Cancelled;
        record.error = "stopped before its turn";
    } else {
        (check && !settings_.redo ? toCheck_ : toExtract_).push_back(frame);
    }
    return frame;
}

void Scheduler::join(int rank) { ranks_[static_cast<std::size_t>(rank)].present = true; }

std::vector<int> Scheduler::idleRanks() const {
    std::vector<int> idle;
    for (std::size_t i = 0; i < ranks_.size(); ++i)
        if (ranks_[i].present && ranks_[i].usable && ranks_[i].owes.empty()) idle.push_back(static_cast<int>(i));
    return idle;
}

void Scheduler::give(int rank, int frame, int part, int parts, int leader, TaskKind kind, std::vector<Order>& orders) {
    const auto index = static_cast<std::size_t>(frame);
    FrameRecord& record = frames_[index];
    Order order;
    order.rank = rank;
    order.kind = kind;
    order.frame = frame;
    order.attempt = record.attempts;
    order.part = part;
    order.parts = parts;
    order.leader = leader;
    order.task = record.task;
    ranks_[static_cast<std::size_t>(rank)].owes.insert({frame, part});
    ++attempts_[index].owed;
    attempts_[index].checking = kind == TaskKind::Check;
    record.state = FrameState::Running;
    if (part == 0) record.ranks.clear();
    record.ranks.push_back(rank);
    orders.push_back(std::move(order));
}

std::vector<Order> Scheduler::orders(bool waiting) {
    std::vector<Order> orders = std::move(pending_);
    pending_.clear();
    const bool anyone = std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.usable; });
    if (!anyone) {
        for (auto* queue : {&toCheck_, &toExtract_}) {
            for (const int frame : *queue) {
                FrameRecord& record = frames_[static_cast<std::size_t>(frame)];
                record.state = FrameState::Failed;
                if (record.error.empty()) record.error = "no rank is left to extract it";
                ended_.push_back(frame);
            }
            queue->clear();
        }
        return orders;
    }
    // Fewer frames than idle ranks, and nothing that may turn out to be frames: groups share them.
    if (settings_.share && !waiting && toCheck_.empty() && !toExtract_.empty()) {
        const std::vector<int> idle = idleRanks();
        const bool checking =
            std::any_of(attempts_.begin(), attempts_.end(), [](const Attempt& a) { return a.checking && a.owed > 0; });
        if (!checking && idle.size() > toExtract_.size()) {
            const std::size_t groups = toExtract_.size();
            for (std::size_t group = 0; group < groups; ++group) {
                const std::size_t first = idle.size() * group / groups;
                const std::size_t last = idle.size() * (group + 1) / groups;
                const int frame = toExtract_.front();
                toExtract_.pop_front();
                ++frames_[static_cast<std::size_t>(frame)].attempts;
                for (std::size_t i = first; i < last; ++i)
                    give(idle[i], frame, static_cast<int>(i - first), static_cast<int>(last - first), idle[first],
                         TaskKind::Extract, orders);
            }
        }
    }
    while (!toCheck_.empty() || (!toExtract_.empty() && !waiting)) {
        int best = -1;
        std::size_t load = static_cast<std::size_t>(settings_.inFlight);
        for (std::size_t i = 0; i < ranks_.size(); ++i) {
            if (!ranks_[i].present || !ranks_[i].usable || ranks_[i].owes.size() >= load) continue;
            best = static_cast<int>(i);
            load = ranks_[i].owes.size();
        }
        if (best < 0) break;
        const bool check = !toCheck_.empty();
        std::deque<int>& queue = check ? toCheck_ : toExtract_;
        const int frame = queue.front();
        queue.pop_front();
        if (!check) ++frames_[static_cast<std::size_t>(frame)].attempts;
        give(best, frame, 0, 1, best, check ? TaskKind::Check : TaskKind::Extract, orders);
    }
    return orders;
}

void Scheduler::abandonOthers(int frame, const std::string& why) {
    for (std::size_t i = 0; i < ranks_.size(); ++i)
        for (const auto& [owed, part] : ranks_[i].owes) {
            if (owed != frame) continue;
            Order order;
            order.rank = static_cast<int>(i);
            order.kind = TaskKind::Abandon;
            order.frame = frame;
            order.attempt = frames_[static_cast<std::size_t>(frame)].attempts;
            order.part = part;
            order.reason = why;
            pending_.push_back(std::move(order));
        }
}

void Scheduler::take(const TaskResult& result) {
    if (result.rank < 0 || result.rank >= static_cast<int>(ranks_.size()) || result.frame < 0 ||
        result.frame >= static_cast<int>(frames_.size()))
        return;
    Rank& rank = ranks_[static_cast<std::size_t>(result.rank)];
    if (result.stuck) rank.usable = false;
    const auto index = static_cast<std::size_t>(result.frame);
    FrameRecord& record = frames_[index];
    Attempt& attempt = attempts_[index];
    // A rank that was given up may still answer: what it owed is settled already.
    if (result.attempt != record.attempts || rank.owes.erase({result.frame, result.part}) == 0) return;
    --attempt.owed;
    switch (result.outcome) {
    case Outcome::Done:
        if (result.part == 0 && !attempt.failed) record.result = result;
        break;
    case Outcome::Complete:
        record.result = result;
        break;
    case Outcome::Incomplete:
        break;
    case Outcome::Returned:
    case Outcome::Cancelled:
    case Outcome::Failed:
        if (!attempt.failed) {
            attempt.failed = true;
            attempt.returned = result.outcome == Outcome::Returned;
            attempt.cancelled = result.outcome == Outcome::Cancelled;
            attempt.error = result.error;
            attempt.permanent = result.permanent;
            record.result = result;
            abandonOthers(result.frame, result.error.empty() ? "its rank can do no more" : result.error);
        }
        break;
    }
    if (attempt.owed == 0) settle(result.frame);
}

void Scheduler::settle(int frame) {
    const auto index = static_cast<std::size_t>(frame);
    FrameRecord& record = frames_[index];
    const Attempt attempt = attempts_[index];
    attempts_[index] = {};
    const auto cancelOrQueue = [&](bool front) {
        if (stopped_) {
            record.state = FrameState::Cancelled;
            if (record.error.empty()) record.error = "stopped before it was done";
            ended_.push_back(frame);
            return;
        }
        record.state = FrameState::Waiting;
        if (front)
            toExtract_.push_front(frame);
        else
            toExtract_.push_back(frame);
    };
    if (!attempt.failed) {
        if (attempt.checking && record.result.outcome != Outcome::Complete) {
            cancelOrQueue(false);
            return;
        }
        record.state = attempt.checking ? FrameState::Complete : FrameState::Done;
        record.error.clear();
        ended_.push_back(frame);
        return;
    }
    record.error = attempt.error;
    if (attempt.returned) {
        if (record.attempts > 0) --record.attempts;
        cancelOrQueue(true);
        return;
    }
    if (attempt.cancelled) {
        record.state = FrameState::Cancelled;
        ended_.push_back(frame);
        return;
    }
    if (attempt.checking && !attempt.permanent) { // the output could not be judged: extract it
        cancelOrQueue(false);
        return;
    }
    if (!attempt.permanent && record.attempts <= settings_.retries && !stopped_) {
        cancelOrQueue(false);
        return;
    }
    record.state = FrameState::Failed;
    ended_.push_back(frame);
    if (settings_.failFast && !stopped_)
        stop(true, fmt::format("given up after {} failed (--fail-fast)", record.task.output));
}

void Scheduler::lose(int rank, const std::string& why) {
    Rank& lost = ranks_[static_cast<std::size_t>(rank)];
    lost.usable = false;
    const std::set<std::pair<int, int>> owed = lost.owes;
    for (const auto& [frame, part] : owed) {
        TaskResult result;
        result.rank = rank;
        result.frame = frame;
        result.part = part;
        result.attempt = frames_[static_cast<std::size_t>(frame)].attempts;
        result.outcome = Outcome::Failed;
        result.error = why;
        take(result);
    }
}

void Scheduler::stop(bool abandon, const std::string& why) {
    stopped_ = true;
    for (auto* queue : {&toCheck_, &toExtract_}) {
        for (const int frame : *queue) {
            FrameRecord& record = frames_[static_cast<std::size_t>(frame)];
            record.state = FrameState::Cancelled;
            if (record.error.empty()) record.error = why;
            ended_.push_back(frame);
        }
        queue->clear();
    }
    if (!abandon) return;
    for (std::size_t i = 0; i < ranks_.size(); ++i) {
        if (!ranks_[i].present || !ranks_[i].usable) continue;
        Order order;
        order.rank = static_cast<int>(i);
        order.kind = TaskKind::Stop;
        order.reason = why;
        pending_.push_back(std::move(order));
    }
}

bool Scheduler::idle() const {
    return toCheck_.empty() && toExtract_.empty() && pending_.empty() &&
           std::none_of(attempts_.begin(), attempts_.end(), [](const Attempt& attempt) { return attempt.owed > 0; });
}

int Scheduler::count(FrameState state) const {
    return static_cast<int>(std::count_if(frames_.begin(), frames_.end(),
                                          [&](const FrameRecord& record) { return record.state == state; }));
}

std::vector<int> Scheduler::ended() { return std::exchange(ended_, {}); }

} // namespace patchlight::batch
