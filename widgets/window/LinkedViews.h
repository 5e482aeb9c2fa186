#pragma once

#include "widgets/control/Cursor.h"

#include <QJsonObject>
#include <QObject>

#include <functional>
#include <memory>

class QComboBox;

namespace patchlight {
struct PatchDetail;
}

namespace patchlight::widgets {

class ActionList;
class Document;
class ExtractionController;
class PatchInspector;
class SeenRefresh;
class SpectrumView;
struct SpectrumCurve;
struct SpectrumData;

/// Keeps the spectrum view and the patch inspector on what the document holds, and the document's cursor, selection and mask on what is
/// done in them. A view that nobody sees waits until it is shown.
class LinkedViews : public QObject {
    Q_OBJECT

public:
    LinkedViews(Document& document, ExtractionController& controller, QWidget* parent);
    ~LinkedViews() override;

    [[nodiscard]] SpectrumView* spectrum() const { return spectrum_; }
    [[nodiscard]] PatchInspector* inspector() const { return inspector_; }

    /// What the spectrum view shows: the extracted frame where there is one, else the patch.
    enum class Source { Auto, Frame, Patch };
    /// The cursor's fiber alone, all of its subbundle, or all of its bundle.
    enum class Fibers { One, Subbundle, Bundle };
    /// Puts what can be done in these views into the window's one list: menus Spectrum and Patch.
    void addActions(ActionList& actions);
    void setSource(Source source);
    void setFibers(Fibers fibers);
    [[nodiscard]] Source source() const { return source_; }
    [[nodiscard]] Fibers fibers() const { return fibers_; }

    [[nodiscard]] QJsonObject session() const;
    void restore(const QJsonObject& json);

Q_SIGNALS:
    /// The patch beside the selected one is asked for, in subbundles and wavelength steps.
    void neighbourRequested(int subbundles, int steps);
    /// A place was chosen in one of these views: it should be seen in the others.
    void placeChosen(const patchlight::widgets::Cursor& cursor);

private:
    void choose(const Cursor& cursor);
    void refreshPatch();
    void refreshSpectrum();
    [[nodiscard]] bool showsFrame() const;
    [[nodiscard]] SpectrumData frameData(int spectrum) const;
    [[nodiscard]] SpectrumData patchData(int spectrum) const;

    Document& document_;
    ExtractionController& controller_;
    SpectrumView* spectrum_;
    PatchInspector* inspector_;
    QComboBox* sourceBox_;
    QComboBox* fibersBox_;
    SeenRefresh* spectrumSeen_;
    SeenRefresh* patchSeen_;
    Source source_ = Source::Auto;
    Fibers fibers_ = Fibers::One;
};

} // namespace patchlight::widgets
