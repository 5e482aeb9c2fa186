#include "widgets/window/OptionsPanel.h"

#include "core/base/Error.h"
#include "core/engine/Options.h"
#include "widgets/control/Document.h"
#include "widgets/control/ExtractionController.h"

#include <QCheckBox>
#include <QComboBox>
#include <QFormLayout>
#include <QGroupBox>
#include <QHBoxLayout>
#include <QLabel>
#include <QLineEdit>
#include <QPushButton>
#include <QScrollArea>
#include <QSpinBox>
#include <QStyle>
#include <QToolButton>
#include <QVBoxLayout>

namespace patchlight::widgets {

OptionsPanel::OptionsPanel(Document& document, ExtractionController& controller, QWidget* parent)
    : QWidget(parent), document_(document), controller_(controller), backend_(new QComboBox(this)),
      threads_(new QSpinBox(this)), problem_(new QLabel(this)) {
    setObjectName(QStringLiteral("OptionsPanel"));
    auto* inner = new QWidget;
    auto* form = new QFormLayout(inner);
    form->setFieldGrowthPolicy(QFormLayout::AllNonFixedFieldsGrow);
    form->setContentsMargins(8, 8, 8, 8);
    for (const OptionSpec& spec : optionTable()) {
        const QString name = QString::fromStdString(spec.name);
        const QString unit = QString::fromStdString(spec.unit);
        QString help = QString::fromStdString(spec.help);
        if (!spec.range.empty()) help += tr("; %1").arg(QString::fromStdString(spec.range));
        if (spec.kind != OptionSpec::Kind::Flag)
            help += tr(" (default %1)").arg(QString::fromStdString(spec.defaultText));
        help = QStringLiteral("--%1: %2").arg(name, help);
        Row row;
        if (spec.kind == OptionSpec::Kind::Flag) {
            auto* box = new QCheckBox(inner);
            connect(box, &QCheckBox::toggled, this, [this, name](bool on) {
                if (!refreshing_) showProblem(setOption(name, on ? QStringLiteral("true") : QStringLiteral("false")));
            });
            row.editor = box;
        } else if (spec.kind == OptionSpec::Kind::Choice) {
            auto* box = new QComboBox(inner);
            for (const std::string& choice : spec.choices) box->addItem(QString::fromStdString(choice));
            connect(box, &QComboBox::activated, this,
                    [this, name, box] { showProblem(setOption(name, box->currentText())); });
            row.editor = box;
        } else {
            auto* edit = new QLineEdit(inner);
            edit->setPlaceholderText(QString::fromStdString(spec.defaultText));
            connect(edit, &QLineEdit::editingFinished, this, [this, name, edit] {
                if (!edit->isModified()) return;
                edit->setModified(false);
                if (edit->text().trimmed().isEmpty())
                    resetOption(name);
                else
                    showProblem(setOption(name, edit->text().trimmed()));
            });
            row.editor = edit;
        }
        row.editor->setToolTip(help);
        row.editor->setAccessibleName(name);
        row.editor->setAccessibleDescription(help);
        row.reset = new QToolButton(inner);
        row.reset->setText(QStringLiteral("\u21ba"));
        row.reset->setAutoRaise(true);
        row.reset->setToolTip(tr("Back to the default"));
        row.reset->setAccessibleName(tr("Reset %1").arg(name));
        connect(row.reset, &QToolButton::clicked, this, [this, name] { resetOption(name); });
        auto* line = new QHBoxLayout;
        line->setSpacing(2);
        line->addWidget(row.editor, 1);
        if (!unit.isEmpty())
            line->addWidget(new QLabel(unit == QStringLiteral("Angstrom") ? QStringLiteral("\u00c5") : unit, inner));
        line->addWidget(row.reset);
        row.name = new QLabel(name, inner);
        row.name->setToolTip(help);
        row.name->setBuddy(row.editor);
        form->addRow(row.name, line);
        rows_.insert(name, row);
    }

    auto* runBox = new QGroupBox(tr("Running (changes no result)"), inner);
    auto* run = new QFormLayout(runBox);
    backend_->addItems({QStringLiteral("auto"), QStringLiteral("cpu"), QStringLiteral("cuda")});
    backend_->setToolTip(tr("What to compute on; auto: the GPU where there is one"));
    backend_->setAccessibleName(tr("Engine"));
    threads_->setRange(0, 4096);
    threads_->setSpecialValueText(tr("all cores"));
    threads_->setToolTip(tr("Threads of a run in the background"));
    threads_->setAccessibleName(tr("Threads"));
    run->addRow(tr("engine"), backend_);
    run->addRow(tr("threads"), threads_);
    form->addRow(runBox);
    connect(backend_, &QComboBox::activated, this, [this] { controller_.setBackendName(backend_->currentText()); });
    connect(threads_, &QSpinBox::valueChanged, this, [this](int value) { controller_.setThreads(value); });

    auto* reset = new QPushButton(tr("Reset all options"), inner);
    connect(reset, &QPushButton::clicked, this, &OptionsPanel::resetAll);
    form->addRow(reset);

    auto* scroll = new QScrollArea(this);
    scroll->setWidget(inner);
    scroll->setWidgetResizable(true);
    scroll->setFrameShape(QFrame::NoFrame);
    problem_->setWordWrap(true);
    problem_->setVisible(false);
    problem_->setContentsMargins(8, 4, 8, 4);
    problem_->setObjectName(QStringLiteral("OptionsProblem"));
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(0, 0, 0, 0);
    layout->addWidget(problem_);
    layout->addWidget(scroll, 1);

    connect(&document_, &Document::optionsChanged, this, &OptionsPanel::refresh);
    connect(&document_, &Document::planChanged, this,
            [this] { showProblem(document_.psf() ? document_.planProblem() : QString()); });
    refresh();
    refreshRun();
}

QString OptionsPanel::problem() const { return problem_->isHidden() ? QString() : problem_->text(); }

void OptionsPanel::showProblem(const QString& text) {
    problem_->setText(text);
    problem_->setVisible(!text.isEmpty());
    if (!text.isEmpty()) refresh(); // what was typed and refused goes back to what holds
}

QString OptionsPanel::setOption(const QString& name, const QString& text) {
    ExtractionOptions options = document_.options();
    try {
        findOption(name.toStdString()).set(options, text.toStdString());
        validate(options);
    } catch (const std::exception& error) {
        return QString::fromUtf8(error.what());
    }
    document_.setOptions(options);
    Q_EMIT changed();
    return document_.psf() ? document_.planProblem() : QString();
}

void OptionsPanel::resetOption(const QString& name) {
    // An option that was not given cannot be said as text: all others are set again on top of the defaults.
    ExtractionOptions options;
    for (const OptionSpec& spec : optionTable()) {
        const std::string value = spec.get(document_.options());
        if (spec.name != name.toStdString() && value != spec.get(options)) spec.set(options, value);
    }
    document_.setOptions(options);
    showProblem(document_.psf() ? document_.planProblem() : QString());
    Q_EMIT changed();
}

void OptionsPanel::resetAll() {
    document_.setOptions({});
    showProblem(document_.psf() ? document_.planProblem() : QString());
    Q_EMIT changed();
}

void OptionsPanel::refreshRun() {
    backend_->setCurrentText(controller_.backendName());
    threads_->setValue(controller_.threads());
}

void OptionsPanel::refresh() {
    refreshing_ = true;
    const ExtractionOptions defaults;
    for (const OptionSpec& spec : optionTable()) {
        const Row& row = rows_[QString::fromStdString(spec.name)];
        const QString value = QString::fromStdString(spec.get(document_.options()));
        const bool isDefault = spec.get(document_.options()) == spec.get(defaults);
        if (auto* box = qobject_cast<QCheckBox*>(row.editor))
            box->setChecked(value == QStringLiteral("true"));
        else if (auto* choice = qobject_cast<QComboBox*>(row.editor))
            choice->setCurrentText(value);
        else if (auto* edit = qobject_cast<QLineEdit*>(row.editor))
            edit->setText(value);
        row.reset->setEnabled(!isDefault);
        QFont font = row.name->font();
        font.setBold(!isDefault);
        row.name->setFont(font);
    }
    refreshing_ = false;
}

} // namespace patchlight::widgets
