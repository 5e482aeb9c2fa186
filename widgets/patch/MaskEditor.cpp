#include "widgets/patch/MaskEditor.h"

#include <algorithm>

namespace patchlight::widgets {

/// One stroke on the undo stack.
class MaskStroke : public QUndoCommand {
public:
    MaskStroke(MaskEditor& editor, const QString& text, std::vector<MaskEditor::Step> steps)
        : QUndoCommand(text), editor_(editor), steps_(std::move(steps)) {}
    void undo() override { apply(false); }
    void redo() override { apply(true); }

private:
    void apply(bool forward) {
        for (const MaskEditor::Step& step : steps_) editor_.set(step.pixel, forward ? step.after : step.before);
        emit editor_.changed();
        emit editor_.committed();
    }
    MaskEditor& editor_;
    std::vector<MaskEditor::Step> steps_;
};

MaskEditor::MaskEditor(QObject* parent) : QObject(parent) {}

int MaskEditor::state(int pixel) const {
    const auto found = edits_.constFind(pixel);
    if (found == edits_.constEnd()) return 0;
    return *found ? 1 : 2;
}

void MaskEditor::set(int pixel, int state) {
    if (state == 0)
        edits_.remove(pixel);
    else
        edits_.insert(pixel, state == 1);
}

void MaskEditor::reset(const QHash<int, bool>& edits) {
    if (edits == edits_) return;
    stack_.clear();
    inStroke_ = false;
    stroke_.clear();
    edits_ = edits;
    emit changed();
}

void MaskEditor::beginStroke(bool masked) {
    endStroke();
    inStroke_ = true;
    masked_ = masked;
}

void MaskEditor::paint(int pixel) {
    if (!inStroke_) return;
    const int after = masked_ ? 1 : 2;
    const int before = state(pixel);
    if (before == after) return;
    stroke_.push_back({pixel, before, after});
    set(pixel, after);
    emit changed();
}

void MaskEditor::endStroke() {
    if (!inStroke_) return;
    inStroke_ = false;
    if (stroke_.empty()) return;
    std::vector<Step> steps;
    steps.swap(stroke_);
    const auto count = static_cast<int>(steps.size());
    push(masked_ ? tr("mask %n pixel(s)", nullptr, count) : tr("unmask %n pixel(s)", nullptr, count), std::move(steps));
}

void MaskEditor::clear() {
    endStroke();
    if (edits_.isEmpty()) return;
    std::vector<Step> steps;
    for (auto i = edits_.constBegin(); i != edits_.constEnd(); ++i) steps.push_back({i.key(), *i ? 1 : 2, 0});
    push(tr("take back all mask edits"), std::move(steps));
}

void MaskEditor::push(const QString& text, std::vector<Step> steps) {
    stack_.push(new MaskStroke(*this, text, std::move(steps))); // redo() is called here
}

} // namespace patchlight::widgets
