#include "widgets/ccd/Layers.h"

#include "core/image/CcdImage.h"
#include "core/psf/Psf.h"
#include "widgets/control/Document.h"

#include <QCoreApplication>

#include <cmath>
#include <limits>

namespace patchlight::widgets {

namespace {

QString layerText(const char* text) { return QCoreApplication::translate("Layers", text); }

std::size_t at(Layer layer) { return static_cast<std::size_t>(layer); }

constexpr float noValue = std::numeric_limits<float>::quiet_NaN();

} // namespace

QString layerName(Layer layer) {
    switch (layer) {
    case Layer::Image:
        return layerText("image");
    case Layer::Ivar:
        return layerText("ivar");
    case Layer::Mask:
        return layerText("mask");
    case Layer::Model:
        return layerText("model");
    case Layer::Residual:
        return layerText("residual");
    case Layer::Pull:
        return layerText("pull");
    }
    return {};
}

QString layerUnit(Layer layer) {
    switch (layer) {
    case Layer::Ivar:
        return layerText("electrons\u207b\u00b2");
    case Layer::Mask:
        return {};
    case Layer::Pull:
        return layerText("sigma");
    default:
        return layerText("electrons");
    }
}

std::optional<Layer> layerFromName(const QString& name) {
    for (int i = 0; i < layerCount; ++i)
        if (layerName(static_cast<Layer>(i)).compare(name, Qt::CaseInsensitive) == 0) return static_cast<Layer>(i);
    return {};
}

Layers::Layers(const Document& document) : document_(document) {}

void Layers::documentChanged() {
    for (Pyramid<float>& pyramid : pyramids_) pyramid = {};
    for (std::vector<float>& sample : samples_) sample.clear();
    mask_ = {};
    residual_ = {};
    pull_ = {};
}

void Layers::modelChanged(const QRect& region) {
    for (const Layer layer : {Layer::Model, Layer::Residual, Layer::Pull}) {
        Pyramid<float>& pyramid = pyramids_[at(layer)];
        const bool sameModel =
            document_.model() && (layer != Layer::Model || pyramid.data() == document_.model()->data());
        if (region.isNull() || pyramid.empty() || !sameModel) {
            pyramid = {};
            samples_[at(layer)].clear();
            continue;
        }
        if (layer != Layer::Model) {
            std::vector<float>& values = layer == Layer::Residual ? residual_ : pull_;
            const int nx = document_.image()->nx;
            for (int y = region.top(); y <= region.bottom(); ++y)
                for (int x = region.left(); x <= region.right(); ++x) {
                    const auto i =
                        static_cast<std::size_t>(y) * static_cast<std::size_t>(nx) + static_cast<std::size_t>(x);
                    values[i] = derived(layer, i);
                }
        }
        pyramid.update(region);
    }
}

float Layers::derived(Layer layer, std::size_t i) const {
    const CcdImage& image = *document_.image();
    const float model = (*document_.model())[i];
    const float residual = image.pixels[i] - model;
    if (layer == Layer::Residual) return residual;
    const float ivar = image.ivar[i];
    if (!(ivar > 0)) return noValue;
    const auto psferr = static_cast<float>(document_.plan()  ? document_.plan()->psferr
                                           : document_.psf() ? document_.psf()->psferr
                                                             : 0.0);
    return residual / std::sqrt(1.0F / ivar + psferr * psferr * model * model);
}

QString Layers::problem(Layer layer) const {
    const CcdImage* image = document_.image().get();
    if (!image) return layerText("No CCD image is open: drop a preproc file here, or open one with Ctrl+O.");
    if (layer == Layer::Mask && image->mask.empty())
        return layerText("This file has no MASK: no pixel is masked but those without ivar.");
    if (layer == Layer::Model || layer == Layer::Residual || layer == Layer::Pull) {
        if (!document_.model()) {
            if (!document_.psf())
                return layerText("There is no model yet: open a PSF (Ctrl+O), then click into the image to extract a "
                                 "patch.");
            return layerText(
                "There is no model yet: click into the image to extract a patch, or extract a bundle (Ctrl+B).");
        }
    }
    return {};
}

const Pyramid<float>& Layers::pixels(Layer layer) {
    Pyramid<float>& pyramid = pyramids_[at(layer)];
    if (!pyramid.empty() || !problem(layer).isEmpty() || layer == Layer::Mask) return pyramid;
    const auto& image = document_.image();
    switch (layer) {
    case Layer::Image:
        pyramid = {image, image->pixels.data(), image->nx, image->ny};
        break;
    case Layer::Ivar:
        pyramid = {image, image->ivar.data(), image->nx, image->ny};
        break;
    case Layer::Model:
        pyramid = {document_.model(), document_.model()->data(), image->nx, image->ny};
        break;
    default: {
        std::vector<float>& values = layer == Layer::Residual ? residual_ : pull_;
        values.resize(image->pixels.size());
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = derived(layer, i);
        pyramid = {nullptr, values.data(), image->nx, image->ny};
        break;
    }
    }
    return pyramid;
}

const Pyramid<std::uint32_t>& Layers::mask() {
    const auto& image = document_.image();
    if (mask_.empty() && image && !image->mask.empty())
        mask_ = {image, reinterpret_cast<const std::uint32_t*>(image->mask.data()), image->nx, image->ny};
    return mask_;
}

const std::vector<float>& Layers::sample(Layer layer) {
    std::vector<float>& sample = samples_[at(layer)];
    if (!sample.empty()) return sample;
    const Pyramid<float>& image = pixels(layer);
    if (!image.empty()) sample = sampleValues(image.data(), image.nx(), image.ny());
    return sample;
}

double Layers::value(Layer layer, int x, int y) const {
    const CcdImage* image = document_.image().get();
    if (!image || x < 0 || y < 0 || x >= image->nx || y >= image->ny) return noValue;
    const auto i = static_cast<std::size_t>(y) * static_cast<std::size_t>(image->nx) + static_cast<std::size_t>(x);
    switch (layer) {
    case Layer::Image:
        return image->pixels[i];
    case Layer::Ivar:
        return image->ivar[i];
    case Layer::Mask:
        return image->mask.empty() ? 0.0 : image->mask[i];
    case Layer::Model:
        return document_.model() ? (*document_.model())[i] : noValue;
    case Layer::Residual:
    case Layer::Pull:
        return document_.model() ? derived(layer, i) : noValue;
    }
    return noValue;
}

std::uint32_t Layers::maskBits(int x, int y) const {
    const CcdImage* image = document_.image().get();
    if (!image || image->mask.empty() || x < 0 || y < 0 || x >= image->nx || y >= image->ny) return 0;
    return static_cast<std::uint32_t>(
        image->mask[static_cast<std::size_t>(y) * static_cast<std::size_t>(image->nx) + static_cast<std::size_t>(x)]);
}

} // namespace patchlight::widgets
