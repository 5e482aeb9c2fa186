#pragma once

#include "app/patchlight/FrameRun.h"

#include <string>
#include <string_view>
#include <vector>

/// Where the frames of a job come from: a manifest, DESI's tree, or images found by a pattern.
namespace patchlight::batch {

using commands::FrameTask;

/// Reads a manifest: a .json file (a list of objects, or an object with "frames"), else CSV with a header row. The columns image, psf and
/// output must be there; model, fibermap and the long name of any extraction option may be. An empty field is the default. Paths are
/// as on the command line: relative to the current folder.
/// @param defaults what the command line says. @throws Error, UsageError naming file and row
[[nodiscard]] std::vector<FrameTask> readManifest(const std::string& path, const ExtractionOptions& defaults);

/// As readManifest(), from CSV text; `path` is for messages.
[[nodiscard]] std::vector<FrameTask> parseCsvManifest(std::string_view text, const std::string& path,
                                                      const ExtractionOptions& defaults);
/// As readManifest(), from JSON text.
[[nodiscard]] std::vector<FrameTask> parseJsonManifest(std::string_view text, const std::string& path,
                                                       const ExtractionOptions& defaults);

/// What --night, --expid, --cameras, --indir and --outdir say.
struct DesiSelection {
    std::string night;   ///< YYYYMMDD; empty: any, for a flat folder
    std::string expids;  ///< "51060,51062-51064"
    std::string cameras; ///< "b0,r3,z9", or desispec's "a0123b45"
    std::string indir;   ///< preproc/NIGHT/EXPID/..., or a folder with the files themselves
    std::string outdir;  ///< exposures/NIGHT/EXPID/... is made below it where indir is a tree
    bool model = false;
};

/// Names as desispec's findfile has them. Where the options have no wavelength, the grids of desi_proc are used (b 3600-5800, r 5760-7620,
/// z 7520-9824, in steps of 0.8 Angstrom). @throws UsageError
[[nodiscard]] std::vector<FrameTask> desiFrames(const DesiSelection& selection, const ExtractionOptions& options);

/// "b0,r3,z9" or "a012b5" as single cameras; `a` is b, r and z. @throws UsageError
[[nodiscard]] std::vector<std::string> parseCameras(std::string_view text);

/// "51060,51062-51064" as numbers. @throws UsageError
[[nodiscard]] std::vector<long> parseExposures(std::string_view text);

/// PSF and output named by the image: in a template, {name} is the image's file name without .fits and what follows, {id} the same without
/// its first word ("preproc-r0-00051060" -> "r0-00051060"), {dir} its folder, and {camera} and {expid} what the name says.
struct NameTemplates {
    std::string psf;
    std::string output;
    std::string model; ///< empty: none
};

/// @throws UsageError for an unknown placeholder, or one that this name does not say
[[nodiscard]] std::string fillTemplate(std::string_view text, const std::string& image, std::string_view option);

/// One frame for an image.
[[nodiscard]] FrameTask frameOfImage(const std::string& image, const NameTemplates& names,
                                     const ExtractionOptions& options);

/// Images that match shell patterns, sorted, each once. @throws UsageError for a pattern that matches nothing
[[nodiscard]] std::vector<std::string> findImages(const std::vector<std::string>& patterns);

/// Two frames with the same output, or an output that is some frame's input: one would spoil the other.
/// @throws UsageError naming both
void requireDistinctOutputs(const std::vector<FrameTask>& frames);

} // namespace patchlight::batch
