#pragma once

#include <QKeySequence>
#include <QList>
#include <QObject>
#include <QString>

#include <functional>
#include <vector>

class QAction;
class QMainWindow;
class QMenu;
class QSettings;
class QWidget;

namespace patchlight::widgets {

/// The one list of what a person can do: menus, shortcuts, the command palette and the key sheet are made from it.
class ActionList : public QObject {
    Q_OBJECT

public:
    struct Entry {
        QString id;   ///< "view.fit", in settings and tests
        QString menu; ///< "View", "View/Overlays"
        QAction* action = nullptr;
        QList<QKeySequence> defaults;
        QWidget* scope = nullptr; ///< keys work while this has the focus; null: in the whole window
    };
    struct Setup {
        QString id;
        QString menu;
        QString text; ///< as in a menu, with &
        QString keys; ///< portable text, several separated by ";" ; empty: none
        QString help; ///< a sentence, for tooltips and the key sheet
        bool checkable = false;
        bool checked = false;
        QWidget* scope = nullptr;
        bool separator = false; ///< a line in the menu before it
    };

    explicit ActionList(QMainWindow& window);

    QAction* add(const Setup& setup, std::function<void()> run);
    /// As add, for a checkable action: run(checked).
    QAction* addToggle(Setup setup, std::function<void(bool)> run);
    /// The menu of a path such as "View/Cuts"; made where it is missing.
    [[nodiscard]] QMenu* menu(const QString& path);
    [[nodiscard]] const std::vector<Entry>& entries() const { return entries_; }
    [[nodiscard]] QAction* find(const QString& id) const;
    [[nodiscard]] const Entry* entry(const QString& id) const;

    /// Sets the keys of an action; empty: none. @returns the action that already has one of them in the same place, or null
    const Entry* rebind(const QString& id, const QList<QKeySequence>& keys);
    void resetKeys();
    void saveKeys(QSettings& settings) const;
    void loadKeys(const QSettings& settings);
    /// Text without the & of menus.
    [[nodiscard]] static QString plainText(const QAction& action);
    /// "Ctrl+G, G".
    [[nodiscard]] static QString keyText(const QAction& action);

private:
    QMainWindow& window_;
    std::vector<Entry> entries_;
};

} // namespace patchlight::widgets
