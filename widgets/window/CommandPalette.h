#pragma once

#include <QDialog>

class QAction;
class QLineEdit;
class QListWidget;

namespace patchlight::widgets {

class ActionList;

/// Ctrl+Shift+P: type some letters of what you want, Enter does it.
class CommandPalette : public QDialog {
    Q_OBJECT

public:
    explicit CommandPalette(const ActionList& actions, QWidget* parent = nullptr);
    /// What Enter would do; null where nothing matches.
    [[nodiscard]] QAction* selected() const;
    /// How well `text` has the letters of `pattern` in order; below 0: not at all. Word beginnings and runs count more.
    [[nodiscard]] static int match(const QString& pattern, const QString& text);

protected:
    bool eventFilter(QObject* object, QEvent* event) override;

private:
    void filter(const QString& pattern);
    const ActionList& actions_;
    QLineEdit* edit_;
    QListWidget* list_;
};

/// "?": all keys, by menu; a double click gives an action another key.
class KeySheet : public QDialog {
    Q_OBJECT

public:
    explicit KeySheet(ActionList& actions, QWidget* parent = nullptr);
};

} // namespace patchlight::widgets
