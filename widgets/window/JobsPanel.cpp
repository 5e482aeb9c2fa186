#include "widgets/window/JobsPanel.h"

#include "widgets/control/ExtractionController.h"

#include <QFontDatabase>
#include <QHBoxLayout>
#include <QHeaderView>
#include <QLabel>
#include <QPlainTextEdit>
#include <QProgressBar>
#include <QPushButton>
#include <QSplitter>
#include <QTableView>
#include <QTime>
#include <QVBoxLayout>

#include <algorithm>

namespace patchlight::widgets {

JobsPanel::JobsPanel(ExtractionController& controller, QWidget* parent)
    : QWidget(parent), controller_(controller), table_(new QTableView(this)), log_(new QPlainTextEdit(this)),
      progress_(new QProgressBar(this)), what_(new QLabel(this)), cancel_(new QPushButton(tr("Cancel"), this)) {
    setObjectName(QStringLiteral("JobsPanel"));
    table_->setModel(&controller_.jobs());
    table_->setSelectionBehavior(QAbstractItemView::SelectRows);
    table_->verticalHeader()->hide();
    table_->setShowGrid(false);
    table_->setAlternatingRowColors(true);
    table_->setAccessibleName(tr("Jobs"));
    table_->setTabKeyNavigation(false);
    table_->verticalHeader()->setDefaultSectionSize(table_->fontMetrics().height() + 6);
    QHeaderView* const header = table_->horizontalHeader();
    header->setHighlightSections(false);
    header->setDefaultAlignment(Qt::AlignLeft | Qt::AlignVCenter);
    const QFontMetrics metrics(font());
    const auto width = [&](const char* text) { return metrics.horizontalAdvance(QString::fromLatin1(text)) + 18; };
    table_->setColumnWidth(JobsModel::Number, width("00000"));
    table_->setColumnWidth(JobsModel::State, width("cancelled"));
    table_->setColumnWidth(JobsModel::Progress, width("100 %"));
    table_->setColumnWidth(JobsModel::Time, width("10.0 s, 10.0 s left"));
    header->setSectionResizeMode(JobsModel::Title, QHeaderView::Stretch);
    table_->setColumnHidden(JobsModel::Message, true); // the log has it, and the tooltip
    log_->setReadOnly(true);
    log_->setMaximumBlockCount(5000);
    log_->setAccessibleName(tr("Log"));
    log_->setPlaceholderText(tr("What happens is noted here."));
    log_->setTabChangesFocus(true);
    progress_->setTextVisible(true);
    progress_->setAccessibleName(tr("Progress"));
    cancel_->setToolTip(tr("Stop the run in the background between two batches"));

    auto* line = new QHBoxLayout;
    line->addWidget(what_, 1);
    line->addWidget(progress_, 2);
    line->addWidget(cancel_);
    auto* splitter = new QSplitter(Qt::Horizontal, this);
    splitter->addWidget(table_);
    splitter->addWidget(log_);
    splitter->setStretchFactor(0, 3);
    splitter->setStretchFactor(1, 2);
    auto* layout = new QVBoxLayout(this);
    layout->setContentsMargins(6, 6, 6, 6);
    layout->addLayout(line);
    layout->addWidget(splitter, 1);

    connect(cancel_, &QPushButton::clicked, this, [this] {
        if (controller_.backgroundJob() != 0)
            controller_.cancel(controller_.backgroundJob());
        else
            controller_.cancelAll();
    });
    connect(&controller_, &ExtractionController::jobAdded, this, [this] {
        refresh();
        QMetaObject::invokeMethod(table_, &QTableView::scrollToBottom, Qt::QueuedConnection);
    });
    connect(&controller_, &ExtractionController::jobChanged, this, &JobsPanel::refresh);
    connect(&controller_, &ExtractionController::jobEnded, this, &JobsPanel::refresh);
    connect(&controller_, &ExtractionController::message, this, &JobsPanel::addLine);
    refresh();
}

void JobsPanel::refresh() {
    const Job* job = controller_.jobs().find(controller_.backgroundJob());
    cancel_->setEnabled(controller_.activeJobs() > 0);
    if (!job) {
        what_->setText(tr("No run in the background"));
        progress_->setRange(0, 1);
        progress_->setValue(0);
        progress_->setFormat(QString());
        return;
    }
    what_->setText(job->title);
    progress_->setRange(0, std::max(1, job->total));
    progress_->setValue(job->done);
    const double left = job->secondsLeft();
    progress_->setFormat(left < 0 ? tr("%v of %m patches")
                                  : tr("%v of %m patches, %1 s left").arg(left, 0, 'f', left < 10 ? 1 : 0));
}

void JobsPanel::addLine(const QString& text, bool error) {
    log_->appendPlainText(QTime::currentTime().toString(QStringLiteral("hh:mm:ss ")) +
                          (error ? tr("error: ") : QString()) + text);
}

QString JobsPanel::log() const { return log_->toPlainText(); }

} // namespace patchlight::widgets
