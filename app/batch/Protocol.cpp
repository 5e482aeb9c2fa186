#include "app/batch/Protocol.h"

#include "core/base/Error.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace patchlight::batch {

namespace {

using nlohmann::json;

std::string bytesOf(const json& value) {
    const std::vector<std::uint8_t> packed = json::to_msgpack(value);
    return {packed.begin(), packed.end()};
}

json valueOf(const std::string& bytes) { return json::from_msgpack(bytes.begin(), bytes.end()); }

json taskValue(const FrameTask& task) {
    json options = json::object();
    for (const OptionSpec& spec : optionTable()) {
        const std::string text = spec.get(task.options);
        if (!text.empty()) options[spec.name] = text;
    }
    return {{"image", task.image}, {"psf", task.psf},           {"output", task.output},
            {"model", task.model}, {"fibermap", task.fibermap}, {"options", options}};
}

FrameTask taskOf(const json& value) {
    FrameTask task;
    task.image = value.at("image");
    task.psf = value.at("psf");
    task.output = value.at("output");
    task.model = value.at("model");
    task.fibermap = value.at("fibermap");
    for (const auto& [name, text] : value.at("options").items())
        findOption(name).set(task.options, text.get<std::string>());
    return task;
}

/// What a part is and how large; then come its arrays, one after the other.
struct PartHeader {
    std::int32_t frame, attempt, part;
    std::int32_t firstRow, rows; ///< of the whole frame
    std::int32_t firstSubbundle, subbundles;
    std::int32_t steps;
    std::int64_t nwave, diagonals, modelColumns;
};
static_assert(std::is_trivially_copyable_v<PartHeader>);
static_assert(std::is_trivially_copyable_v<PatchReport>);

/// Subbundles of the whole plan that lie in a range of spectra.
IndexRange subbundlesOf(const Plan& whole, IndexRange spectra) {
    // The seamless method solves whole bundles, and reports on all of their subbundles whatever was asked for.
    const bool seamless = whole.options.method == Method::Seamless;
    const int bundlesize = whole.options.bundlesize;
    IndexRange found{0, 0};
    bool any = false;
    for (int i = 0; i < static_cast<int>(whole.subbundles.size()); ++i) {
        const Subbundle& sub = whole.subbundles[static_cast<std::size_t>(i)];
        const int first = std::max(sub.core.first, whole.specmin);
        const int last = std::min(sub.core.last, whole.specmin + whole.nspec);
        const bool inside =
            seamless ? sub.bundle >= spectra.first / bundlesize && sub.bundle <= (spectra.last - 1) / bundlesize
                     : first >= spectra.first && last <= spectra.last && last > first;
        if (!inside || spectra.empty()) continue;
        if (!any) found.first = i;
        found.last = i + 1;
        any = true;
    }
    return found;
}

/// Calls visit(pointer, elements) for each array of rows [first, first + rows): the same order for packing and unpacking.
template <class Result, class Visit>
void visitRows(Result& result, std::size_t first, std::size_t rows, const Visit& visit) {
    auto& frame = result.frame;
    for (auto* values : {&frame.flux, &frame.ivar, &frame.chi2pix, &frame.pixmaskFraction, &frame.fluxweight,
                         &frame.xflux, &result.modelFlux})
        visit(values->data() + first * values->columns(), rows * values->columns());
    visit(frame.mask.data() + first * frame.mask.columns(), rows * frame.mask.columns());
    const std::size_t plane = frame.resolution.rows() * frame.resolution.columns();
    visit(frame.resolution.data() + first * plane, rows * plane);
}

} // namespace

std::string pack(const Order& order) {
    return bytesOf({{"rank", order.rank},
                    {"kind", static_cast<int>(order.kind)},
                    {"frame", order.frame},
                    {"attempt", order.attempt},
                    {"part", order.part},
                    {"parts", order.parts},
                    {"leader", order.leader},
                    {"reason", order.reason},
                    {"task", taskValue(order.task)}});
}

void unpack(const std::string& bytes, Order& order) {
    const json value = valueOf(bytes);
    order.rank = value.at("rank");
    order.kind = static_cast<TaskKind>(value.at("kind").get<int>());
    order.frame = value.at("frame");
    order.attempt = value.at("attempt");
    order.part = value.at("part");
    order.parts = value.at("parts");
    order.leader = value.at("leader");
    order.reason = value.at("reason");
    order.task = taskOf(value.at("task"));
}

std::string pack(const TaskResult& result) {
    const PatchCounts& counts = result.counts;
    return bytesOf(
        {{"rank", result.rank},
         {"frame", result.frame},
         {"attempt", result.attempt},
         {"part", result.part},
         {"outcome", static_cast<int>(result.outcome)},
         {"error", result.error},
         {"permanent", result.permanent},
         {"stuck", result.stuck},
         {"times",
          {result.started, result.ended, result.read, result.compute, result.write, result.waited, result.bytesRead,
           result.bytesWritten, result.peakMemory}},
         {"counts", {counts.patches, counts.wide, counts.exact, counts.regularized, counts.failed, counts.empty}}});
}

void unpack(const std::string& bytes, TaskResult& result) {
    const json value = valueOf(bytes);
    result.rank = value.at("rank");
    result.frame = value.at("frame");
    result.attempt = value.at("attempt");
    result.part = value.at("part");
    result.outcome = static_cast<Outcome>(value.at("outcome").get<int>());
    result.error = value.at("error");
    result.permanent = value.at("permanent");
    result.stuck = value.at("stuck");
    const auto times = value.at("times").get<std::vector<double>>();
    double* const fields[] = {&result.started,   &result.ended,        &result.read,
                              &result.compute,   &result.write,        &result.waited,
                              &result.bytesRead, &result.bytesWritten, &result.peakMemory};
    for (std::size_t i = 0; i < std::size(fields); ++i) *fields[i] = times.at(i);
    const auto counts = value.at("counts").get<std::vector<int>>();
    int* const numbers[] = {&result.counts.patches,     &result.counts.wide,   &result.counts.exact,
                            &result.counts.regularized, &result.counts.failed, &result.counts.empty};
    for (std::size_t i = 0; i < std::size(numbers); ++i) *numbers[i] = counts.at(i);
}

std::string pack(const WorkerInfo& info) {
    return bytesOf({{"rank", info.rank},
                    {"nodeRank", info.nodeRank},
                    {"host", info.host},
                    {"version", info.version},
                    {"device", info.device},
                    {"gpu", info.gpu},
                    {"threads", info.threads},
                    {"clock", info.clock},
                    {"error", info.error}});
}

void unpack(const std::string& bytes, WorkerInfo& info) {
    const json value = valueOf(bytes);
    info.rank = value.at("rank");
    info.nodeRank = value.at("nodeRank");
    info.host = value.at("host");
    info.version = value.at("version");
    info.device = value.at("device");
    info.gpu = value.at("gpu");
    info.threads = value.at("threads");
    info.clock = value.at("clock");
    info.error = value.at("error");
}

std::string pack(const Goodbye& goodbye) {
    return bytesOf({{"rank", goodbye.rank},
                    {"peakMemory", goodbye.peakMemory},
                    {"cpuSeconds", goodbye.cpuSeconds},
                    {"busySeconds", goodbye.busySeconds},
                    {"trace", goodbye.trace}});
}

void unpack(const std::string& bytes, Goodbye& goodbye) {
    const json value = valueOf(bytes);
    goodbye.rank = value.at("rank");
    goodbye.peakMemory = value.at("peakMemory");
    goodbye.cpuSeconds = value.at("cpuSeconds");
    goodbye.busySeconds = value.at("busySeconds");
    goodbye.trace = value.at("trace");
}

IndexRange partSpectra(const Plan& plan, int part, int parts) {
    // Where each unit begins: bundles where every part gets one, else subbundles.
    std::vector<int> starts;
    const int end = plan.specmin + plan.nspec;
    const int passes = plan.options.method == Method::Seamless ? 1 : 2; // seamless solves whole bundles
    for (int pass = 0; pass < passes; ++pass) {
        starts.clear();
        int bundle = -1;
        for (const Subbundle& sub : plan.subbundles) {
            if (pass == 0 && sub.bundle == bundle) continue;
            bundle = sub.bundle;
            starts.push_back(std::max(sub.core.first, plan.specmin));
        }
        if (static_cast<int>(starts.size()) >= parts) break;
    }
    const int units = static_cast<int>(starts.size());
    const auto boundary = [&](int index) {
        const int unit = static_cast<int>(static_cast<long>(units) * index / parts);
        return unit >= units ? end : starts[static_cast<std::size_t>(unit)];
    };
    return {boundary(part), boundary(part + 1)};
}

std::string packPart(int frame, int attempt, int part, const ExtractionResult& result, const Plan& whole,
                     IndexRange spectra) {
    const IndexRange subs = subbundlesOf(whole, spectra);
    PartHeader header{};
    header.frame = frame;
    header.attempt = attempt;
    header.part = part;
    header.firstRow = spectra.first - whole.specmin;
    header.rows = spectra.count();
    header.firstSubbundle = subs.first;
    header.subbundles = subs.count();
    header.steps = whole.nsteps;
    header.nwave = static_cast<std::int64_t>(result.frame.flux.columns());
    header.diagonals = static_cast<std::int64_t>(result.frame.resolution.rows());
    header.modelColumns = static_cast<std::int64_t>(result.modelFlux.columns());
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    if (header.rows == 0) return bytes;
    visitRows(result, 0, static_cast<std::size_t>(header.rows), [&](const auto* values, std::size_t count) {
        bytes.append(reinterpret_cast<const char*>(values), count * sizeof *values);
    });
    bytes.append(reinterpret_cast<const char*>(result.reports.data()), result.reports.size() * sizeof(PatchReport));
    return bytes;
}

PartAddress partAddress(const std::string& bytes) {
    PartHeader header{};
    if (bytes.size() < sizeof header) throw Error("a part of a frame without its header");
    std::memcpy(&header, bytes.data(), sizeof header);
    return {header.frame, header.attempt, header.part};
}

void unpackPart(const std::string& bytes, const Plan& whole, ExtractionResult& result) {
    PartHeader header{};
    if (bytes.size() < sizeof header) throw Error("a part of a frame without its header");
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.rows == 0) return;
    const IndexRange spectra{whole.specmin + header.firstRow, whole.specmin + header.firstRow + header.rows};
    const IndexRange subs = subbundlesOf(whole, spectra);
    const auto& frame = result.frame;
    if (header.firstRow < 0 || header.rows < 0 || header.firstRow + header.rows > whole.nspec ||
        subs != IndexRange{header.firstSubbundle, header.firstSubbundle + header.subbundles} ||
        header.steps != whole.nsteps || header.nwave != static_cast<std::int64_t>(frame.flux.columns()) ||
        header.diagonals != static_cast<std::int64_t>(frame.resolution.rows()) ||
        header.modelColumns != static_cast<std::int64_t>(result.modelFlux.columns()))
        throw Error("a part of a frame has another shape than its leader expects: do all ranks read the same files?");
    std::size_t at = sizeof header;
    const auto take = [&](void* to, std::size_t count) {
        if (bytes.size() - at < count) throw Error("a part of a frame is too short");
        std::memcpy(to, bytes.data() + at, count);
        at += count;
    };
    visitRows(result, static_cast<std::size_t>(header.firstRow), static_cast<std::size_t>(header.rows),
              [&](auto* values, std::size_t count) { take(values, count * sizeof *values); });
    const auto steps = static_cast<std::size_t>(whole.nsteps);
    take(result.reports.data() + static_cast<std::size_t>(subs.first) * steps,
         static_cast<std::size_t>(subs.count()) * steps * sizeof(PatchReport));
    if (at != bytes.size()) throw Error("a part of a frame is too long");
}

void copyPart(const ExtractionResult& part, const Plan& whole, IndexRange spectra, ExtractionResult& result) {
    unpackPart(packPart(0, 0, 0, part, whole, spectra), whole, result);
}

ExtractionResult emptyResult(const Plan& plan) {
    const auto nspec = static_cast<std::size_t>(plan.nspec);
    const auto nwave = static_cast<std::size_t>(plan.grid.nwave);
    ExtractionResult result;
    ExtractedFrame& frame = result.frame;
    frame.specmin = plan.specmin;
    frame.wavelength.resize(nwave);
    for (std::size_t i = 0; i < nwave; ++i) frame.wavelength[i] = plan.grid.outputWavelength(static_cast<int>(i));
    for (Array2<double>* values :
         {&frame.flux, &frame.ivar, &frame.chi2pix, &frame.pixmaskFraction, &frame.fluxweight, &frame.xflux})
        *values = Array2<double>(nspec, nwave);
    frame.mask = Array2<std::uint32_t>(nspec, nwave);
    frame.resolution = Array3<double>(nspec, static_cast<std::size_t>(2 * plan.ndiag + 1), nwave);
    result.modelFlux =
        Array2<double>(nspec, static_cast<std::size_t>(plan.nsteps) * static_cast<std::size_t>(plan.grid.nwavestep));
    result.reports.resize(static_cast<std::size_t>(plan.patchCount()));
    return result;
}

} // namespace patchlight::batch
