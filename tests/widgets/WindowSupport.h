#pragma once

#include "core/cpu/CpuBackend.h"
#include "core/engine/Backend.h"
#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "tests/support/SmallExposure.h"

#include <QString>
#include <QTemporaryDir>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

/// What tests of the window share: a small exposure as files, and a backend that can be held up.
namespace patchlight::test {

constexpr int badColumn = 40; ///< masked BAD over the whole height
constexpr int cosmicX = 60;   ///< one COSMIC pixel
constexpr int cosmicY = 100;
constexpr int saturatedX = 70; ///< one SATURATED pixel
constexpr int saturatedY = 110;

/// image.fits and psf.fits: 10 fibers in bundles of 5 on 120 x 200 pixels.
struct ExposureFiles {
    QTemporaryDir folder;
    QString image;
    QString psf;
    SmallExposure exposure = smallExposure();

    ExposureFiles() : image(folder.filePath("image.fits")), psf(folder.filePath("psf.fits")) {
        CcdImage ccd;
        ccd.nx = exposure.pixels.nx;
        ccd.ny = exposure.pixels.ny;
        ccd.pixels = exposure.pixels.pixels;
        ccd.ivar = exposure.pixels.weights;
        ccd.mask.resize(ccd.pixels.size());
        const auto at = [&](int x, int y) {
            return static_cast<std::size_t>(y) * static_cast<std::size_t>(ccd.nx) + static_cast<std::size_t>(x);
        };
        for (int y = 0; y < ccd.ny; ++y) ccd.mask[at(badColumn, y)] = static_cast<int>(CcdMaskBit::Bad);
        ccd.mask[at(cosmicX, cosmicY)] = static_cast<int>(CcdMaskBit::Cosmic);
        ccd.mask[at(saturatedX, saturatedY)] = static_cast<int>(CcdMaskBit::Saturated);
        ccd.header.set("FLAVOR", "science", "");
        ccd.header.set("CAMERA", "r0", "");
        ccd.header.set("CCDSECA", "[1:60,1:100]", "");
        writeCcdImage(image.toStdString(), ccd);
        writePsf(psf.toStdString(), exposure.psf);
    }
};

/// A gate that extractions wait at: closed, nothing gets done.
struct Gate {
    std::mutex mutex;
    std::condition_variable changed;
    bool open = true;
    std::atomic<int> waiting{0};

    void set(bool isOpen) {
        {
            const std::lock_guard lock(mutex);
            open = isOpen;
        }
        changed.notify_all();
    }
    void pass() {
        std::unique_lock lock(mutex);
        ++waiting;
        changed.wait(lock, [this] { return open; });
        --waiting;
    }
};

/// The CPU backend behind a gate.
class GatedBackend final : public Backend {
public:
    explicit GatedBackend(Gate& gate) : gate_(gate), backend_(makeCpuBackend()) {}
    [[nodiscard]] std::string name() const override { return backend_->name(); }
    [[nodiscard]] std::string description() const override { return backend_->description(); }
    [[nodiscard]] int batchSteps(const Plan&) const override { return 1; }
    [[nodiscard]] std::unique_ptr<FrameJob> begin(const FrameInput& input, int lanes) override {
        return std::make_unique<Job>(gate_, backend_->begin(input, lanes));
    }

private:
    class Job final : public FrameJob {
    public:
        Job(Gate& gate, std::unique_ptr<FrameJob> job) : gate_(gate), job_(std::move(job)) {}
        [[nodiscard]] int lanes() const override { return job_->lanes(); }
        void run(const Batch& batch, int lane, const FrameOutput& output) override {
            gate_.pass();
            job_->run(batch, lane, output);
        }
        [[nodiscard]] PatchDetail inspect(const Patch& patch) override {
            gate_.pass();
            return job_->inspect(patch);
        }

    private:
        Gate& gate_;
        std::unique_ptr<FrameJob> job_;
    };
    Gate& gate_;
    std::unique_ptr<Backend> backend_;
};

} // namespace patchlight::test
