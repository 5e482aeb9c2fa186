#pragma once

#include "widgets/ccd/Display.h"
#include "widgets/ccd/Pyramid.h"

#include <QRect>
#include <QString>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace patchlight::widgets {

class Document;

/// What the CCD view can show, in the order of Tab.
enum class Layer { Image, Ivar, Mask, Model, Residual, Pull };
inline constexpr int layerCount = 6;

[[nodiscard]] QString layerName(Layer layer); ///< "image"
[[nodiscard]] QString layerUnit(Layer layer); ///< "electrons"
[[nodiscard]] std::optional<Layer> layerFromName(const QString& name);

/// The layers of a document: the file's own, and those that are computed from it and the model when they are first looked at.
/// Residual: image - model; pull: residual / sqrt(1/ivar + (psferr model)^2), with the file's ivar, masked pixels too.
class Layers {
public:
    explicit Layers(const Document& document);

    /// The files or the model have changed; `region` null: all of them.
    void documentChanged();
    void modelChanged(const QRect& region);

    /// Pixels of a layer (not Mask); empty where there are none.
    [[nodiscard]] const Pyramid<float>& pixels(Layer layer);
    /// Mask bits; empty where the file has none.
    [[nodiscard]] const Pyramid<std::uint32_t>& mask();
    /// Sorted sample of a layer's values.
    [[nodiscard]] const std::vector<float>& sample(Layer layer);
    /// Why a layer cannot be shown, and what to do; empty where it can.
    [[nodiscard]] QString problem(Layer layer) const;
    /// Value of a layer at a pixel (mask: the bits); NaN outside or unknown.
    [[nodiscard]] double value(Layer layer, int x, int y) const;
    [[nodiscard]] std::uint32_t maskBits(int x, int y) const;

private:
    [[nodiscard]] float derived(Layer layer, std::size_t i) const;

    const Document& document_;
    std::array<Pyramid<float>, layerCount> pyramids_;
    std::array<std::vector<float>, layerCount> samples_;
    std::vector<float> residual_;
    std::vector<float> pull_;
    Pyramid<std::uint32_t> mask_;
};

} // namespace patchlight::widgets
