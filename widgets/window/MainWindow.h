#pragma once

#include "widgets/control/Cursor.h"
#include "widgets/control/ExtractionController.h"
#include "widgets/window/FileArgument.h"

#include <QJsonObject>
#include <QList>
#include <QMainWindow>
#include <QPair>

#include <functional>

class QDockWidget;
class QFrame;
class QLabel;
class QMenu;

namespace patchlight::widgets {

class ActionList;
class CcdPanel;
class CcdImageView;
class Document;
class FrameQualityPanel;
class JobsPanel;
class LinkedViews;
class OptionsPanel;
class PsfInspector;
class ResolutionView;
class TimingPanel;

/// The window: docks around the CCD view, all about one document.
class MainWindow : public QMainWindow {
    Q_OBJECT

public:
    explicit MainWindow(ExtractionController::BackendFactory backends, QWidget* parent = nullptr);
    ~MainWindow() override;

    [[nodiscard]] Document& document() { return *document_; }
    [[nodiscard]] ExtractionController& controller() { return *controller_; }
    [[nodiscard]] ActionList& actionList() { return *actions_; }
    [[nodiscard]] CcdImageView& ccdView();
    [[nodiscard]] CcdPanel& ccdPanel() { return *ccd_; }
    [[nodiscard]] OptionsPanel& optionsPanel() { return *options_; }
    [[nodiscard]] JobsPanel& jobsPanel() { return *jobs_; }
    /// The spectrum view and the patch inspector.
    [[nodiscard]] LinkedViews& linkedViews() { return *views_; }
    [[nodiscard]] FrameQualityPanel& frameQuality() { return *quality_; }
    [[nodiscard]] ResolutionView& resolutionView() { return *resolution_; }
    [[nodiscard]] PsfInspector& psfInspector() { return *psf_; }
    [[nodiscard]] TimingPanel& timing() { return *timing_; }

    /// Puts a view into a dock with an entry in the Window menu. @param beside  the dock it shares tabs with; null: a place of its own
    QDockWidget* addDock(const QString& name, const QString& title, QWidget* widget, Qt::DockWidgetArea area,
                         QDockWidget* beside = nullptr, const QString& keys = {});
    [[nodiscard]] QDockWidget* dock(const QString& name) const;
    void resetLayout();
    /// Gives the docks their share of the window's present size.
    void balance();

    /// Opens files; what goes wrong is shown, and the window stays as it was. @returns the job's number
    int openFiles(const QStringList& paths);
    /// Goes to a place, selects the patch there and extracts it.
    void goTo(const Cursor& cursor);
    /// As the command line says: what to do when the files are there.
    void whenOpened(std::function<void()> then);
    /// Shows a line above the CCD view until it is closed.
    void showProblem(const QString& text);
    [[nodiscard]] QString problem() const;

    [[nodiscard]] QJsonObject session(const QString& folder) const;
    /// @returns what could not be restored, in one line; empty: all
    QString restoreSession(const QJsonObject& json, const QString& folder);
    QString saveSession(const QString& path) const;
    QString loadSession(const QString& path);

    /// Paints a widget into a PNG or PDF file, by the name's ending. @returns the error; empty: done
    static QString exportWidget(QWidget& widget, const QString& path);
    void setDark(bool dark);
    [[nodiscard]] bool isDark() const { return dark_; }
    /// Asks before closing while a run goes on; tests answer here. Default: a message box.
    std::function<bool(const QString& question)> confirm;

protected:
    void closeEvent(QCloseEvent* event) override;
    void dragEnterEvent(QDragEnterEvent* event) override;
    void dropEvent(QDropEvent* event) override;

private:
    void makeActions();
    void askForCuts();
    void walk(int subbundle, int step);
    void follow(const Cursor& cursor);
    void showPalette();
    void chooseFiles(bool second);
    QString chooseSavePath(const QString& title, const QString& suggestion, const QString& filter);
    void exportView();
    void addRecent(const QStringList& paths);
    void refreshRecent();
    void refreshBookmarks();
    void addBookmark();
    void refreshTitle();
    void selectionChanged();

    Document* document_;
    ExtractionController* controller_;
    ActionList* actions_;
    CcdPanel* ccd_;
    OptionsPanel* options_;
    JobsPanel* jobs_;
    LinkedViews* views_;
    FrameQualityPanel* quality_;
    ResolutionView* resolution_;
    PsfInspector* psf_;
    TimingPanel* timing_;
    QFrame* problemBar_;
    QLabel* problemText_;
    QMenu* recentMenu_ = nullptr;
    QMenu* bookmarkMenu_ = nullptr;
    QList<QDockWidget*> docks_;
    QByteArray defaultLayout_;
    QList<QPair<QString, Cursor>> bookmarks_;
    bool dark_ = false;
    bool closing_ = false;
};

/// Colours of the dark or the light window.
[[nodiscard]] QPalette windowPalette(bool dark);

} // namespace patchlight::widgets
