#include "app/batch/FrameList.h"

#include "core/base/Error.h"
#include "core/io/FitsFile.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <system_error>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <glob.h>

namespace patchlight::batch {

namespace {

namespace fs = std::filesystem;

std::string readText(const std::string& path) {
    std::error_code ignored;
    if (fs::is_directory(path, ignored))
        throw Error(fmt::format("{}: a folder, a manifest expected (.csv or .json)", printable(path)));
    std::ifstream in(path, std::ios::binary);
    if (!in) throw Error(fmt::format("{}: the manifest cannot be read", printable(path)));
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

bool isOption(const std::string& name) {
    return std::any_of(optionTable().begin(), optionTable().end(),
                       [&](const OptionSpec& spec) { return spec.name == name; });
}

std::string fieldNames() {
    std::string names = "image, psf, output, model, fibermap";
    for (const OptionSpec& spec : optionTable()) names += ", " + spec.name;
    return names;
}

/// Sets one field of a row. @throws UsageError beginning with `where`
void setField(FrameTask& task, const std::string& name, const std::string& value, const std::string& where) {
    static const std::map<std::string, std::string FrameTask::*> files = {{"image", &FrameTask::image},
                                                                          {"psf", &FrameTask::psf},
                                                                          {"output", &FrameTask::output},
                                                                          {"model", &FrameTask::model},
                                                                          {"fibermap", &FrameTask::fibermap}};
    if (value.empty()) return;
    const auto file = files.find(name);
    if (file != files.end()) {
        task.*(file->second) = value;
        return;
    }
    try {
        findOption(name).set(task.options, value);
    } catch (const UsageError& error) {
        throw UsageError(fmt::format("{}: {}", where, error.what()));
    }
}

void requireFields(const FrameTask& task, const std::string& where) {
    for (const auto& [name, value] :
         {std::pair<const char*, const std::string&>{"image", task.image}, {"psf", task.psf}, {"output", task.output}})
        if (value.empty())
            throw UsageError(fmt::format("{}: no '{}'; every row needs image, psf and output", where, name));
    try {
        validate(task.options);
    } catch (const UsageError& error) {
        throw UsageError(fmt::format("{}: {}", where, error.what()));
    }
}

/// Fields of one record of CSV (RFC 4180); `at` moves behind it. Quoted fields may hold commas, quotes and ends of lines.
std::vector<std::string> csvRecord(std::string_view text, std::size_t& at, int& line, const std::string& path) {
    std::vector<std::string> fields(1);
    const int first = line;
    bool quoted = false;
    bool wasQuoted = false;
    while (at < text.size()) {
        const char c = text[at++];
        if (c == '\n') ++line;
        if (quoted) {
            if (c != '"') {
                fields.back() += c;
            } else if (at < text.size() && text[at] == '"') {
                fields.back() += text[at++];
            } else {
                quoted = false;
            }
        } else if (c == '"' && fields.back().find_first_not_of(" \t") == std::string::npos && !wasQuoted) {
            fields.back().clear();
            quoted = true;
            wasQuoted = true;
        } else if (c == ',') {
            fields.emplace_back();
            wasQuoted = false;
        } else if (c == '\n') {
            break;
        } else if (c != '\r') {
            fields.back() += c;
        }
    }
    if (quoted) throw UsageError(fmt::format("{}, line {}: a quote is opened and not closed", printable(path), first));
    for (std::string& field : fields) {
        const std::size_t begin = field.find_first_not_of(" \t");
        if (begin == std::string::npos) {
            field.clear();
            continue;
        }
        field = field.substr(begin, field.find_last_not_of(" \t") - begin + 1);
    }
    return fields;
}

std::string joined(const std::vector<std::string>& words) { return fmt::format("{}", fmt::join(words, ", ")); }

/// A file of a DESI exposure: the first of the places that exists, else the first.
std::string firstThatExists(const std::vector<std::string>& candidates) {
    std::error_code ignored;
    for (const std::string& candidate : candidates) {
        std::string found = existingFitsPath(candidate);
        if (fs::exists(found, ignored)) return found;
    }
    return candidates.front();
}

WavelengthRange desiGrid(char arm) {
    // What desispec's desi_proc hands to desi_extract_spectra.
    if (arm == 'b') return {3600.0, 5800.0, 0.8};
    if (arm == 'r') return {5760.0, 7620.0, 0.8};
    return {7520.0, 9824.0, 0.8};
}

} // namespace

std::vector<FrameTask> parseCsvManifest(std::string_view text, const std::string& path,
                                        const ExtractionOptions& defaults) {
    if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3); // spreadsheets put a byte order mark there
    std::vector<FrameTask> frames;
    std::vector<std::string> columns;
    std::size_t at = 0;
    int line = 1;
    while (at < text.size()) {
        const std::string where = fmt::format("{}, line {}", printable(path), line);
        const bool comment = text[at] == '#';
        const std::vector<std::string> fields = csvRecord(text, at, line, path);
        if (comment || (fields.size() == 1 && fields.front().empty())) continue;
        if (columns.empty()) {
            for (const std::string& field : fields) {
                static const std::set<std::string> files = {"image", "psf", "output", "model", "fibermap"};
                if (!files.contains(field) && !isOption(field))
                    throw UsageError(
                        fmt::format("{}: unknown column '{}'; the first line names the columns, which can be {}", where,
                                    printable(field), fieldNames()));
                if (std::find(columns.begin(), columns.end(), field) != columns.end())
                    throw UsageError(fmt::format("{}: the column '{}' is there twice", where, field));
                columns.push_back(field);
            }
            continue;
        }
        if (fields.size() != columns.size())
            throw UsageError(fmt::format("{}: {} fields, {} expected as in the first line ({})", where, fields.size(),
                                         columns.size(), joined(columns)));
        FrameTask task;
        task.options = defaults;
        for (std::size_t i = 0; i < fields.size(); ++i) setField(task, columns[i], fields[i], where);
        requireFields(task, where);
        frames.push_back(std::move(task));
    }
    if (columns.empty())
        throw UsageError(fmt::format(
            "{}: an empty manifest; the first line names the columns, such as image,psf,output", printable(path)));
    return frames;
}

std::vector<FrameTask> parseJsonManifest(std::string_view text, const std::string& path,
                                         const ExtractionOptions& defaults) {
    using nlohmann::json;
    json document;
    try {
        document = json::parse(text);
    } catch (const json::exception& error) {
        throw UsageError(fmt::format("{}: not JSON: {}", printable(path), printable(error.what())));
    }
    const json* rows = &document;
    if (document.is_object()) {
        const auto found = document.find("frames");
        if (found == document.end())
            throw UsageError(
                fmt::format("{}: no \"frames\"; a list of objects expected, or an object with it", printable(path)));
        rows = &*found;
    }
    if (!rows->is_array())
        throw UsageError(fmt::format("{}: {} where a list of frames is expected", printable(path), rows->type_name()));
    std::vector<FrameTask> frames;
    for (std::size_t i = 0; i < rows->size(); ++i) {
        const json& row = (*rows)[i];
        const std::string where = fmt::format("{}, frame {}", printable(path), i);
        if (!row.is_object())
            throw UsageError(
                fmt::format("{}: {} where an object with image, psf and output is expected", where, row.type_name()));
        FrameTask task;
        task.options = defaults;
        for (const auto& [name, value] : row.items()) {
            static const std::set<std::string> files = {"image", "psf", "output", "model", "fibermap"};
            if (!files.contains(name) && !isOption(name))
                throw UsageError(
                    fmt::format("{}: unknown field '{}'; it can be {}", where, printable(name), fieldNames()));
            if (value.is_null()) continue;
            if (value.is_array() || value.is_object() || (files.contains(name) && !value.is_string()))
                throw UsageError(
                    fmt::format("{}: '{}' is a JSON {}, {} expected", where, name, value.type_name(),
                                files.contains(name) ? "a path as text" : "text, a number, true or false"));
            setField(task, name, value.is_string() ? value.get<std::string>() : value.dump(), where);
        }
        requireFields(task, where);
        frames.push_back(std::move(task));
    }
    return frames;
}

std::vector<FrameTask> readManifest(const std::string& path, const ExtractionOptions& defaults) {
    const std::string text = readText(path);
    return path.ends_with(".json") ? parseJsonManifest(text, path, defaults) : parseCsvManifest(text, path, defaults);
}

std::vector<std::string> parseCameras(std::string_view text) {
    std::vector<std::string> cameras;
    const auto refuse = [&]() {
        throw UsageError(fmt::format(
            "--cameras: cameras such as b0,r3,z9, or a0123b4 (a: b, r and z) expected, got '{}'", printable(text)));
    };
    const auto add = [&](char arm, char digit) {
        std::string camera{arm, digit};
        if (std::find(cameras.begin(), cameras.end(), camera) == cameras.end()) cameras.push_back(std::move(camera));
    };
    char arm = 0;
    bool digits = true;
    for (const char c : text) {
        if (c == ',' || c == ' ') {
            if (!digits) refuse();
            arm = 0;
        } else if (c == 'a' || c == 'b' || c == 'r' || c == 'z') {
            if (!digits) refuse();
            arm = c;
            digits = false;
        } else if (std::isdigit(static_cast<unsigned char>(c)) != 0 && arm != 0) {
            digits = true;
            if (arm == 'a')
                for (const char each : {'b', 'r', 'z'}) add(each, c);
            else
                add(arm, c);
        } else {
            refuse();
        }
    }
    if (!digits || cameras.empty()) refuse();
    return cameras;
}

std::vector<long> parseExposures(std::string_view text) {
    std::vector<long> exposures;
    const auto refuse = [&]() {
        throw UsageError(
            fmt::format("--expid: exposure numbers such as 51060,51062-51064 expected, got '{}'", printable(text)));
    };
    const auto number = [&](std::string_view word) {
        long value = -1;
        const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
        if (error != std::errc{} || end != word.data() + word.size() || value < 0 || value > 99999999) refuse();
        return value;
    };
    std::string_view rest = text;
    while (true) {
        const std::size_t comma = rest.find(',');
        const std::string_view word = rest.substr(0, comma);
        const std::size_t dash = word.find('-');
        const long first = number(word.substr(0, dash));
        const long last = dash == std::string_view::npos ? first : number(word.substr(dash + 1));
        constexpr long most = 100000;
        if (last < first || last - first > most) refuse();
        for (long each = first; each <= last; ++each)
            if (std::find(exposures.begin(), exposures.end(), each) == exposures.end()) exposures.push_back(each);
        if (comma == std::string_view::npos) break;
        rest.remove_prefix(comma + 1);
    }
    return exposures;
}

std::vector<FrameTask> desiFrames(const DesiSelection& selection, const ExtractionOptions& options) {
    if (selection.indir.empty() || selection.outdir.empty() || selection.expids.empty() || selection.cameras.empty())
        throw UsageError(
            "DESI's names need --expid, --cameras, --indir and --outdir (and --night where --indir is a tree)");
    const std::string& night = selection.night;
    if (!night.empty() && (night.size() != 8 || night.find_first_not_of("0123456789") != std::string::npos))
        throw UsageError(fmt::format("--night: YYYYMMDD expected, got '{}'", printable(night)));
    std::error_code ignored;
    if (!fs::is_directory(selection.indir, ignored))
        throw UsageError(fmt::format("--indir {}: no such folder", printable(selection.indir)));
    const bool tree = fs::is_directory(fs::path(selection.indir) / "preproc", ignored) ||
                      fs::is_directory(fs::path(selection.indir) / "exposures", ignored);
    if (tree && night.empty())
        throw UsageError(
            fmt::format("--night: which night's exposures? {} is a tree of nights", printable(selection.indir)));
    std::vector<FrameTask> frames;
    for (const long expid : parseExposures(selection.expids)) {
        for (const std::string& camera : parseCameras(selection.cameras)) {
            const std::string id = fmt::format("{}-{:08d}", camera, expid);
            const std::string in = selection.indir;
            const std::string folder = fmt::format("{}/{:08d}", night, expid);
            FrameTask task;
            task.options = options;
            if (!task.options.wavelength) task.options.wavelength = desiGrid(camera.front());
            std::string out = selection.outdir;
            if (tree) {
                task.image = firstThatExists({fmt::format("{}/preproc/{}/preproc-{}.fits.gz", in, folder, id),
                                              fmt::format("{}/exposures/{}/preproc-{}.fits.gz", in, folder, id)});
                task.psf =
                    firstThatExists({fmt::format("{}/exposures/{}/psf-{}.fits", in, folder, id),
                                     fmt::format("{}/calibnight/{}/psfnight-{}-{}.fits", in, night, camera, night)});
                out = fmt::format("{}/exposures/{}", out, folder);
            } else {
                task.image = firstThatExists({fmt::format("{}/preproc-{}.fits.gz", in, id)});
                std::vector<std::string> psfs = {fmt::format("{}/psf-{}.fits", in, id)};
                if (!night.empty()) psfs.push_back(fmt::format("{}/psfnight-{}-{}.fits", in, camera, night));
                task.psf = firstThatExists(psfs);
            }
            task.output = fmt::format("{}/frame-{}.fits", out, id);
            if (selection.model) task.model = fmt::format("{}/model-{}.fits", out, id);
            frames.push_back(std::move(task));
        }
    }
    return frames;
}

std::string fillTemplate(std::string_view text, const std::string& image, std::string_view option) {
    const fs::path path(image);
    std::string name = path.filename().string();
    const std::size_t suffix = name.find(".fits");
    if (suffix != std::string::npos) name.resize(suffix);
    const std::size_t dash = name.find('-');
    const std::string id = dash == std::string::npos ? name : name.substr(dash + 1);
    std::map<std::string, std::string, std::less<>> words = {
        {"name", name}, {"id", id}, {"dir", path.parent_path().empty() ? "." : path.parent_path().string()}};
    // preproc-CAMERA-EXPID, as desispec names them.
    const std::size_t second = id.find('-');
    if (dash != std::string::npos && second != std::string::npos) {
        words["camera"] = id.substr(0, second);
        words["expid"] = id.substr(second + 1);
    }
    std::string filled;
    for (std::size_t at = 0; at < text.size();) {
        if (text[at] != '{') {
            filled += text[at++];
            continue;
        }
        const std::size_t end = text.find('}', at);
        const std::string_view word = text.substr(at + 1, end == std::string_view::npos ? end : end - at - 1);
        static const std::set<std::string, std::less<>> known = {"name", "id", "dir", "camera", "expid"};
        if (end == std::string_view::npos || !known.contains(word))
            throw UsageError(fmt::format("{} '{}': unknown placeholder '{{{}}}'; there are {{name}}, {{id}}, {{dir}}, "
                                         "{{camera}} and {{expid}}",
                                         option, printable(text), printable(word)));
        const auto found = words.find(word);
        if (found == words.end())
            throw UsageError(fmt::format("{} '{}': the name of {} says no {}; preproc-CAMERA-EXPID.fits would", option,
                                         printable(text), printable(image), word));
        filled += found->second;
        at = end + 1;
    }
    return filled;
}

FrameTask frameOfImage(const std::string& image, const NameTemplates& names, const ExtractionOptions& options) {
    FrameTask task;
    task.image = image;
    task.psf = fillTemplate(names.psf, image, "--psf");
    task.output = fillTemplate(names.output, image, "--output");
    if (!names.model.empty()) task.model = fillTemplate(names.model, image, "--model");
    task.options = options;
    return task;
}

std::vector<std::string> findImages(const std::vector<std::string>& patterns) {
    std::set<std::string> images;
    for (const std::string& pattern : patterns) {
        glob_t found{};
        const int code = ::glob(pattern.c_str(), 0, nullptr, &found);
        for (std::size_t i = 0; code == 0 && i < found.gl_pathc; ++i) images.insert(found.gl_pathv[i]);
        ::globfree(&found);
        if (code != 0)
            throw UsageError(fmt::format("--images {}: no file of that name or pattern", printable(pattern)));
    }
    return {images.begin(), images.end()};
}

void requireDistinctOutputs(const std::vector<FrameTask>& frames) {
    const auto canonical = [](const std::string& path) {
        std::error_code ignored;
        const fs::path name = fs::weakly_canonical(fs::absolute(path, ignored), ignored);
        return name.empty() ? path : name.string();
    };
    std::unordered_map<std::string, std::string> inputs;
    for (const FrameTask& task : frames)
        for (const std::string* path : {&task.image, &task.psf, &task.fibermap})
            if (!path->empty()) inputs.emplace(canonical(existingFitsPath(*path)), *path);
    std::unordered_map<std::string, std::size_t> outputs;
    for (std::size_t i = 0; i < frames.size(); ++i) {
        for (const std::string* path : {&frames[i].output, &frames[i].model}) {
            if (path->empty()) continue;
            std::string name = canonical(*path);
            const auto input = inputs.find(name);
            if (input != inputs.end())
                throw UsageError(fmt::format("{}: output of frame {}, and an input that would be overwritten ({})",
                                             printable(*path), i, printable(input->second)));
            const auto [other, isNew] = outputs.emplace(std::move(name), i);
            if (!isNew)
                throw UsageError(fmt::format("{}: output of frame {} and of frame {}; each needs its own",
                                             printable(*path), other->second, i));
        }
    }
}

} // namespace patchlight::batch
