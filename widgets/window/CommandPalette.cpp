#include "widgets/window/CommandPalette.h"

#include "widgets/window/ActionList.h"

#include <QAction>
#include <QDialogButtonBox>
#include <QHeaderView>
#include <QInputDialog>
#include <QKeyEvent>
#include <QKeySequenceEdit>
#include <QLabel>
#include <QLineEdit>
#include <QListWidget>
#include <QMessageBox>
#include <QPushButton>
#include <QTreeWidget>
#include <QVBoxLayout>

#include <algorithm>
#include <utility>
#include <vector>

namespace patchlight::widgets {

CommandPalette::CommandPalette(const ActionList& actions, QWidget* parent)
    : QDialog(parent), actions_(actions), edit_(new QLineEdit(this)), list_(new QListWidget(this)) {
    setWindowTitle(tr("Commands"));
    setObjectName(QStringLiteral("CommandPalette"));
    edit_->setPlaceholderText(tr("Type a command"));
    edit_->setAccessibleName(tr("Command"));
    edit_->setClearButtonEnabled(true);
    list_->setAccessibleName(tr("Commands that match"));
    list_->setUniformItemSizes(true);
    auto* layout = new QVBoxLayout(this);
    layout->addWidget(edit_);
    layout->addWidget(list_);
    resize(560, 420);
    edit_->installEventFilter(this);
    connect(edit_, &QLineEdit::textChanged, this, &CommandPalette::filter);
    connect(edit_, &QLineEdit::returnPressed, this, [this] {
        if (selected()) accept();
    });
    connect(list_, &QListWidget::itemActivated, this, [this] { accept(); });
    filter({});
}

int CommandPalette::match(const QString& pattern, const QString& text) {
    int score = 0;
    qsizetype at = 0;
    qsizetype previous = -2;
    for (const QChar c : pattern) {
        if (c.isSpace()) continue;
        qsizetype found = text.indexOf(c, at, Qt::CaseInsensitive);
        // The same letter at the beginning of a word is meant more often.
        for (qsizetype i = found; i >= 0; i = text.indexOf(c, i + 1, Qt::CaseInsensitive))
            if (i == previous + 1 || i == 0 || !text[i - 1].isLetterOrNumber()) {
                found = i;
                break;
            }
        if (found < 0) return -1;
        score += found == previous + 1 ? 4 : found == 0 || !text[found - 1].isLetterOrNumber() ? 3 : 1;
        previous = found;
        at = found + 1;
    }
    return score;
}

void CommandPalette::filter(const QString& pattern) {
    list_->clear();
    std::vector<std::pair<int, const ActionList::Entry*>> found;
    for (const ActionList::Entry& entry : actions_.entries()) {
        const int score = match(pattern, entry.menu + QStringLiteral(": ") + ActionList::plainText(*entry.action));
        const int plain = match(pattern, ActionList::plainText(*entry.action));
        if (std::max(score, plain) >= 0) found.emplace_back(std::max(score, plain + 1), &entry);
    }
    std::stable_sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    for (const auto& [score, entry] : found) {
        const QString keys = ActionList::keyText(*entry->action);
        auto* item = new QListWidgetItem(entry->menu + QStringLiteral(": ") + ActionList::plainText(*entry->action) +
                                             (keys.isEmpty() ? QString() : QStringLiteral("    [%1]").arg(keys)),
                                         list_);
        item->setData(Qt::UserRole, entry->id);
        item->setToolTip(entry->action->toolTip());
        if (!entry->action->isEnabled()) item->setFlags(item->flags() & ~Qt::ItemIsEnabled);
    }
    list_->setCurrentRow(0);
}

QAction* CommandPalette::selected() const {
    const QListWidgetItem* item = list_->currentItem();
    return item && (item->flags() & Qt::ItemIsEnabled) ? actions_.find(item->data(Qt::UserRole).toString()) : nullptr;
}

bool CommandPalette::eventFilter(QObject* object, QEvent* event) {
    if (object == edit_ && event->type() == QEvent::KeyPress) {
        const int key = static_cast<QKeyEvent*>(event)->key();
        const int step = key == Qt::Key_Down       ? 1
                         : key == Qt::Key_Up       ? -1
                         : key == Qt::Key_PageDown ? 10
                         : key == Qt::Key_PageUp   ? -10
                                                   : 0;
        if (step != 0) {
            list_->setCurrentRow(std::clamp(list_->currentRow() + step, 0, std::max(0, list_->count() - 1)));
            return true;
        }
    }
    return QDialog::eventFilter(object, event);
}

KeySheet::KeySheet(ActionList& actions, QWidget* parent) : QDialog(parent) {
    setWindowTitle(tr("Keys"));
    setObjectName(QStringLiteral("KeySheet"));
    auto* tree = new QTreeWidget(this);
    tree->setColumnCount(3);
    tree->setHeaderLabels({tr("What"), tr("Keys"), tr("What it does")});
    tree->setRootIsDecorated(false);
    tree->setAlternatingRowColors(true);
    tree->setAccessibleName(tr("All actions and their keys"));
    const auto fill = [tree, &actions] {
        tree->clear();
        QTreeWidgetItem* group = nullptr;
        QStringList menus;
        for (const ActionList::Entry& entry : actions.entries())
            if (!menus.contains(entry.menu)) menus << entry.menu;
        for (const QString& menu : menus) {
            group = new QTreeWidgetItem(tree, {QString(menu).replace(QLatin1Char('/'), QStringLiteral(" \u203a "))});
            QFont bold = group->font(0);
            bold.setBold(true);
            group->setFont(0, bold);
            group->setFlags(Qt::ItemIsEnabled);
            for (const ActionList::Entry& entry : actions.entries()) {
                if (entry.menu != menu) continue;
                auto* item = new QTreeWidgetItem(tree, {QStringLiteral("    ") + ActionList::plainText(*entry.action),
                                                        ActionList::keyText(*entry.action), entry.action->statusTip()});
                item->setData(0, Qt::UserRole, entry.id);
            }
        }
        auto* mouse = new QTreeWidgetItem(tree, {tr("Mouse in the CCD view")});
        QFont bold = mouse->font(0);
        bold.setBold(true);
        mouse->setFont(0, bold);
        const std::pair<QString, QString> hands[] = {
            {tr("left click"), tr("select the patch there and extract it")},
            {tr("left drag"), tr("in live mode: extract all the way")},
            {tr("wheel"), tr("zoom at the cursor")},
            {tr("middle drag"), tr("pan")},
            {tr("right drag"), tr("contrast (up, down) and bias (sideways)")},
            {tr("right click"), tr("menu")},
            {tr("double click"), tr("reset contrast and bias")},
        };
        for (const auto& [what, does] : hands)
            new QTreeWidgetItem(tree, {QStringLiteral("    ") + what, QString(), does});
        tree->resizeColumnToContents(0);
        tree->resizeColumnToContents(1);
    };
    fill();
    connect(tree, &QTreeWidget::itemDoubleClicked, this, [this, &actions, fill](QTreeWidgetItem* item) {
        const QString id = item->data(0, Qt::UserRole).toString();
        QAction* const action = actions.find(id);
        if (!action) return;
        QDialog dialog(this);
        dialog.setWindowTitle(tr("Keys of \"%1\"").arg(ActionList::plainText(*action)));
        auto* edit = new QKeySequenceEdit(action->shortcut(), &dialog);
        auto* buttons = new QDialogButtonBox(QDialogButtonBox::Ok | QDialogButtonBox::Cancel, &dialog);
        auto* layout = new QVBoxLayout(&dialog);
        layout->addWidget(new QLabel(tr("Press the new keys; none: clear the field."), &dialog));
        layout->addWidget(edit);
        layout->addWidget(buttons);
        connect(buttons, &QDialogButtonBox::accepted, &dialog, &QDialog::accept);
        connect(buttons, &QDialogButtonBox::rejected, &dialog, &QDialog::reject);
        if (dialog.exec() != QDialog::Accepted) return;
        QList<QKeySequence> keys;
        if (!edit->keySequence().isEmpty()) keys << edit->keySequence();
        if (const ActionList::Entry* taken = actions.rebind(id, keys))
            QMessageBox::information(this, tr("Keys"),
                                     tr("%1 already does \"%2\".")
                                         .arg(edit->keySequence().toString(QKeySequence::NativeText),
                                              ActionList::plainText(*taken->action)));
        fill();
    });
    auto* buttons = new QDialogButtonBox(QDialogButtonBox::Close | QDialogButtonBox::RestoreDefaults, this);
    connect(buttons, &QDialogButtonBox::rejected, this, &QDialog::reject);
    connect(buttons->button(QDialogButtonBox::RestoreDefaults), &QPushButton::clicked, this, [&actions, fill] {
        actions.resetKeys();
        fill();
    });
    auto* layout = new QVBoxLayout(this);
    layout->addWidget(new QLabel(tr("Double click an action to give it other keys."), this));
    layout->addWidget(tree);
    layout->addWidget(buttons);
    resize(860, 700);
}

} // namespace patchlight::widgets
