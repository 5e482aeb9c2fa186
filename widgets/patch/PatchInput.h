#pragma once

#include <memory>

namespace patchlight {
struct CcdImage;
struct PatchDetail;
struct Plan;
class Psf;
} // namespace patchlight

namespace patchlight::widgets {

/// A patch as it was extracted, with what is needed to say what its numbers mean. All shared, none of them changes.
struct PatchInput {
    std::shared_ptr<const PatchDetail> detail; ///< null: no patch
    std::shared_ptr<const Plan> plan;
    std::shared_ptr<const Psf> psf;
    std::shared_ptr<const CcdImage> image; ///< may be null; shows what masked pixels held, and why they are masked

    explicit operator bool() const { return detail != nullptr && plan != nullptr && psf != nullptr; }
};

} // namespace patchlight::widgets
