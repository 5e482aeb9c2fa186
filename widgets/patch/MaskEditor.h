#pragma once

#include <QHash>
#include <QObject>
#include <QUndoStack>

#include <utility>
#include <vector>

namespace patchlight::widgets {

/// Pixels masked or unmasked by hand, with undo and redo. A stroke of the brush is one step of the undo stack. Pixels are indices
/// y * nx + x; true: masked, false: not masked, whatever the image's MASK says.
class MaskEditor : public QObject {
    Q_OBJECT

public:
    explicit MaskEditor(QObject* parent = nullptr);

    [[nodiscard]] const QHash<int, bool>& edits() const { return edits_; }
    [[nodiscard]] QUndoStack* undoStack() { return &stack_; }

    /// Replaces all edits from outside (a session, another file): the undo stack is emptied. Emits nothing where they are the same.
    void reset(const QHash<int, bool>& edits);

    /// One stroke: begin, any number of pixels, end. Pixels show at once; the stroke becomes one step when it ends.
    void beginStroke(bool masked);
    void paint(int pixel);
    void endStroke();
    [[nodiscard]] bool inStroke() const { return inStroke_; }
    /// Takes all edits back, as one step.
    void clear();

signals:
    /// After every change, also within a stroke.
    void changed();
    /// At the end of a stroke, on undo, redo and clear: time to extract anew.
    void committed();

private:
    friend class MaskStroke;
    /// A pixel's edit before and after a step: 0 none, 1 masked, 2 not masked.
    struct Step {
        int pixel = 0;
        int before = 0;
        int after = 0;
    };
    [[nodiscard]] int state(int pixel) const;
    void set(int pixel, int state);
    void push(const QString& text, std::vector<Step> steps);

    QHash<int, bool> edits_;
    QUndoStack stack_;
    std::vector<Step> stroke_;
    bool inStroke_ = false;
    bool masked_ = true;
};

} // namespace patchlight::widgets
