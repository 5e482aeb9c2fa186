#pragma once

#include "core/engine/Options.h"
#include "core/engine/Plan.h"
#include "widgets/control/Cursor.h"

#include <QHash>
#include <QObject>
#include <QRect>
#include <QString>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

namespace patchlight {
struct CcdImage;
struct ExtractedFrame;
struct PatchDetail;
struct PatchReport;
class Psf;
struct TruthSpectra;
struct WeightedPixels;
} // namespace patchlight

namespace patchlight::widgets {

class TraceMap;

/// An extracted frame as the window holds it.
struct OpenFrame {
    std::shared_ptr<const ExtractedFrame> frame; ///< null: none
    QString label;                               ///< for legends: the file's name, "run 3"
    QString path;                                ///< where it was read from; empty for a run of this window
    std::shared_ptr<const Plan> plan;            ///< of a run of this window; null for a file
    /// Empty: every bin is there. While a run goes on, or after a cancelled one: 1 where a bin was extracted, [nspec][nwave].
    std::shared_ptr<const std::vector<std::uint8_t>> done;
    /// How each patch fared, [subbundle][step] of the plan; null for a file.
    std::shared_ptr<const std::vector<PatchReport>> reports{};

    explicit operator bool() const { return frame != nullptr; }
};

/// One patch as it was extracted.
struct PatchRun {
    std::shared_ptr<const PatchDetail> detail; ///< null: none
    std::shared_ptr<const Plan> plan;          ///< with the options it was extracted with
    std::shared_ptr<const Psf> psf;
    double seconds = 0; ///< of the extraction

    explicit operator bool() const { return detail != nullptr; }
};

/// What the window is looking at: the open files, the options, the plan that follows from them, the results, and the cursor that links
/// the views. Lives in the window's thread; what it hands out is shared and not changed any more, with two exceptions that change in
/// the window's thread only: model() and a frame that a run is filling (frameBinsChanged says so).
class Document : public QObject {
    Q_OBJECT

public:
    explicit Document(QObject* parent = nullptr);
    ~Document() override;

    [[nodiscard]] const std::shared_ptr<const CcdImage>& image() const { return image_; }
    /// What the engine reads of the image; null where there is no image.
    [[nodiscard]] const std::shared_ptr<const WeightedPixels>& pixels() const { return pixels_; }
    [[nodiscard]] const std::shared_ptr<const Psf>& psf() const { return psf_; }
    /// A second PSF, opened to compare with.
    [[nodiscard]] const std::shared_ptr<const Psf>& secondPsf() const { return secondPsf_; }
    [[nodiscard]] const std::shared_ptr<const TraceMap>& traces() const { return traces_; }
    [[nodiscard]] const OpenFrame& frame() const { return frame_; }
    /// The frame before this one: the previous run, or the file that a run replaced.
    [[nodiscard]] const OpenFrame& previousFrame() const { return previousFrame_; }
    /// A second frame, opened to compare with.
    [[nodiscard]] const OpenFrame& secondFrame() const { return secondFrame_; }
    [[nodiscard]] const std::shared_ptr<const TruthSpectra>& truth() const { return truth_; }
    /// Model image [ny][nx], electrons, NaN where nothing was extracted; null where there is none.
    [[nodiscard]] const std::shared_ptr<std::vector<float>>& model() const { return model_; }
    [[nodiscard]] const PatchRun& patchRun() const { return patchRun_; }
    /// The run before, where it has bins of the present one: the "before" of a what-if. Options may have made another patch of it.
    [[nodiscard]] const PatchRun& previousPatchRun() const { return previousPatchRun_; }
    /// Why there is none, where one would be expected; else empty.
    [[nodiscard]] const QString& previousPatchProblem() const { return previousPatchProblem_; }

    [[nodiscard]] const ExtractionOptions& options() const { return options_; }
    void setOptions(const ExtractionOptions& options);
    /// The plan of the PSF and the options; null where there is none, and planProblem() says why.
    [[nodiscard]] const std::shared_ptr<const Plan>& plan() const { return plan_; }
    [[nodiscard]] const QString& planProblem() const { return planProblem_; }

    /// Pixels masked (true) or unmasked (false) by hand, by index y * nx + x.
    [[nodiscard]] const QHash<int, bool>& maskEdits() const { return maskEdits_; }
    void setMaskEdits(const QHash<int, bool>& edits);

    /// Where the user is: set by a click, a key, "go to"; every view follows.
    [[nodiscard]] const Cursor& cursor() const { return cursor_; }
    void setCursor(const Cursor& cursor);
    /// Where the mouse is: readouts and thin lines follow.
    [[nodiscard]] const Cursor& hover() const { return hover_; }
    void setHover(const Cursor& cursor);
    /// The bin at a pixel (nearest trace), and the pixel of a bin. What cannot be known stays unset.
    [[nodiscard]] Cursor cursorAtPixel(double x, double y) const;
    [[nodiscard]] Cursor cursorAtBin(int spectrum, double wavelength) const;
    /// Index of a wavelength on the plan's grid; -1 outside.
    [[nodiscard]] int coreIndex(double wavelength) const;
    /// The patch that holds a place; nothing outside the plan.
    [[nodiscard]] std::optional<Patch> patchAt(const Cursor& cursor) const;
    [[nodiscard]] const std::optional<Patch>& selectedPatch() const { return selected_; }
    void selectPatch(const std::optional<Patch>& patch);
    /// "bundle 10, spectra 250-254, 6461-6500 Angstrom".
    [[nodiscard]] QString describePatch(const Patch& patch) const;

    // What the controller hands in.
    void setImage(std::shared_ptr<const CcdImage> image, std::shared_ptr<const WeightedPixels> pixels);
    void setPsf(std::shared_ptr<const Psf> psf, std::shared_ptr<const TraceMap> traces);
    void setSecondPsf(std::shared_ptr<const Psf> psf, std::shared_ptr<const TraceMap> traces = {});
    /// Puts the second PSF in the first one's place and the other way round: what if this were the PSF?
    void swapPsfs();
    void setFrame(OpenFrame frame);
    /// As setFrame, without moving the present one to previousFrame(): the end of a run replaces its own unfinished frame.
    void replaceFrame(OpenFrame frame);
    void setSecondFrame(OpenFrame frame);
    void setTruth(std::shared_ptr<const TruthSpectra> truth);
    void setModel(std::vector<float> model);
    /// Memory for the model image that the first patch begins: [ny][nx], all NaN.
    void setBlankModel(std::shared_ptr<std::vector<float>> blank) { blankModel_ = std::move(blank); }
    void setPatchRun(PatchRun run);
    /// Bins of the unfinished frame that have just been extracted.
    void announceBins(IndexRange spectra, IndexRange core) { Q_EMIT frameBinsChanged(spectra, core); }
    /// Counts changes of what an extraction is made from: a result of an older generation is late.
    [[nodiscard]] int generation() const { return generation_; }

Q_SIGNALS:
    void imageChanged();
    void psfChanged();
    void secondPsfChanged();
    void frameChanged();
    void frameBinsChanged(IndexRange spectra, IndexRange core);
    void secondFrameChanged();
    void truthChanged();
    /// Pixels of the model that are new; all of them where the rectangle is null.
    void modelChanged(QRect pixels);
    void optionsChanged();
    void planChanged();
    void maskEditsChanged();
    void cursorChanged(const Cursor& cursor);
    void hoverChanged(const Cursor& cursor);
    void patchSelected();
    void patchRunChanged();

private:
    void replan();
    void paintPatchModel();

    std::shared_ptr<const CcdImage> image_;
    std::shared_ptr<const WeightedPixels> pixels_;
    std::shared_ptr<const Psf> psf_;
    std::shared_ptr<const Psf> secondPsf_;
    std::shared_ptr<const TraceMap> traces_;
    std::shared_ptr<const TraceMap> secondTraces_;
    OpenFrame frame_;
    OpenFrame previousFrame_;
    OpenFrame secondFrame_;
    std::shared_ptr<const TruthSpectra> truth_;
    std::shared_ptr<std::vector<float>> model_;
    std::shared_ptr<std::vector<float>> blankModel_;
    PatchRun patchRun_;
    PatchRun previousPatchRun_;
    QString previousPatchProblem_;
    ExtractionOptions options_;
    std::shared_ptr<const Plan> plan_;
    QString planProblem_;
    QHash<int, bool> maskEdits_;
    Cursor cursor_;
    Cursor hover_;
    std::optional<Patch> selected_;
    int generation_ = 0;
};

} // namespace patchlight::widgets
