#include "widgets/window/ActionList.h"

#include <QAction>
#include <QMainWindow>
#include <QMenu>
#include <QMenuBar>
#include <QSettings>

#include <algorithm>
#include <utility>

namespace patchlight::widgets {

namespace {

/// The menu of a path such as "View/Overlays", made where it is missing.
QMenu* menuOf(QMainWindow& window, const QString& path) {
    QMenu* menu = nullptr;
    for (const QString& part : path.split(QLatin1Char('/'))) {
        QWidget* const parent = menu ? static_cast<QWidget*>(menu) : window.menuBar();
        QMenu* next = nullptr;
        for (QAction* action : parent->actions())
            if (action->menu() && action->menu()->objectName() == part) next = action->menu();
        if (!next) {
            next = menu ? menu->addMenu(QLatin1Char('&') + part) : window.menuBar()->addMenu(QLatin1Char('&') + part);
            next->setObjectName(part);
            next->setToolTipsVisible(true);
        }
        menu = next;
    }
    return menu;
}

QList<QKeySequence> parseKeys(const QString& text) {
    QList<QKeySequence> keys;
    for (const QString& part : text.split(QLatin1Char(';'), Qt::SkipEmptyParts))
        keys << QKeySequence::fromString(part.trimmed(), QKeySequence::PortableText);
    return keys;
}

} // namespace

ActionList::ActionList(QMainWindow& window) : QObject(&window), window_(window) {}

QAction* ActionList::add(const Setup& setup, std::function<void()> run) {
    auto* action = new QAction(setup.text, this);
    action->setObjectName(setup.id);
    action->setToolTip(setup.help.isEmpty() ? plainText(*action) : setup.help);
    action->setStatusTip(setup.help);
    const QList<QKeySequence> keys = parseKeys(setup.keys);
    action->setShortcuts(keys);
    if (setup.checkable) {
        action->setCheckable(true);
        action->setChecked(setup.checked);
    }
    if (setup.scope) {
        action->setShortcutContext(Qt::WidgetWithChildrenShortcut);
        setup.scope->addAction(action);
    } else {
        window_.addAction(action);
    }
    QMenu* const menu = menuOf(window_, setup.menu);
    if (setup.separator) menu->addSeparator();
    menu->addAction(action);
    if (run) connect(action, &QAction::triggered, this, [run = std::move(run)] { run(); });
    entries_.push_back({setup.id, setup.menu, action, keys, setup.scope});
    return action;
}

QAction* ActionList::addToggle(Setup setup, std::function<void(bool)> run) {
    setup.checkable = true;
    QAction* const action = add(setup, {});
    connect(action, &QAction::toggled, this, [run = std::move(run)](bool on) { run(on); });
    return action;
}

QMenu* ActionList::menu(const QString& path) { return menuOf(window_, path); }

const ActionList::Entry* ActionList::entry(const QString& id) const {
    const auto it = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.id == id; });
    return it == entries_.end() ? nullptr : &*it;
}

QAction* ActionList::find(const QString& id) const {
    const Entry* const found = entry(id);
    return found ? found->action : nullptr;
}

const ActionList::Entry* ActionList::rebind(const QString& id, const QList<QKeySequence>& keys) {
    const Entry* const mine = entry(id);
    if (!mine) return nullptr;
    for (const Entry& other : entries_) {
        // Keys of two different views may be the same; those of the window may not be used anywhere else.
        if (&other == mine || (other.scope && mine->scope && other.scope != mine->scope)) continue;
        for (const QKeySequence& key : keys)
            if (other.action->shortcuts().contains(key)) return &other;
    }
    mine->action->setShortcuts(keys);
    return nullptr;
}

void ActionList::resetKeys() {
    for (const Entry& entry : entries_) entry.action->setShortcuts(entry.defaults);
}

void ActionList::saveKeys(QSettings& settings) const {
    settings.beginGroup(QStringLiteral("keys"));
    settings.remove(QString());
    for (const Entry& entry : entries_)
        if (entry.action->shortcuts() != entry.defaults)
            settings.setValue(entry.id,
                              QKeySequence::listToString(entry.action->shortcuts(), QKeySequence::PortableText));
    settings.endGroup();
}

void ActionList::loadKeys(const QSettings& settings) {
    for (const Entry& entry : entries_) {
        const QString key = QStringLiteral("keys/") + entry.id;
        if (settings.contains(key))
            entry.action->setShortcuts(
                QKeySequence::listFromString(settings.value(key).toString(), QKeySequence::PortableText));
    }
}

QString ActionList::plainText(const QAction& action) {
    QString text = action.text();
    text.remove(QLatin1Char('&'));
    return text;
}

QString ActionList::keyText(const QAction& action) {
    QStringList keys;
    for (const QKeySequence& key : action.shortcuts()) keys << key.toString(QKeySequence::NativeText);
    return keys.join(QStringLiteral(", "));
}

} // namespace patchlight::widgets
