#pragma once

#include "app/batch/FrameList.h"
#include "app/batch/Job.h"

#include <memory>
#include <string>
#include <vector>

namespace patchlight::batch {

struct WatchSettings {
    std::string folder;                      ///< and what lies below it
    std::string pattern = "preproc-*.fits*"; ///< of file names
    double settle = 2;                       ///< s without change, after which a file is looked at
    double interval = 0.5;                   ///< s between two looks at the folder
    std::string stopFile;                    ///< where this file exists the watch ends; empty: none
    NameTemplates names;
    ExtractionOptions options;
};

/// Frames whose images arrive in a folder. An image is taken when its size and time stay the same for a while, all of its HDUs are there
/// (a file that is being copied ends too early) and its PSF exists. Looks around in a thread of its own: a slow file system must not keep
/// rank 0 from answering.
class FolderWatch final : public FrameSource {
public:
    /// @throws UsageError where the folder is not there
    explicit FolderWatch(const WatchSettings& settings);
    ~FolderWatch() override;
    [[nodiscard]] std::vector<FrameTask> frames() override;
    [[nodiscard]] bool ended() override;

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace patchlight::batch
