#include "app/batch/Completeness.h"

#include "app/patchlight/FrameHeader.h"
#include "core/base/Error.h"
#include "core/engine/Plan.h"
#include "core/io/FitsChecksum.h"
#include "core/io/FitsFile.h"
#include "core/psf/Psf.h"

#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <map>
#include <set>
#include <string_view>
#include <system_error>

#include <fmt/format.h>

namespace patchlight::batch {

namespace {

namespace fs = std::filesystem;

std::string keywordOf(const std::string& card) {
    const std::string keyword = card.substr(0, 8);
    return keyword.substr(0, keyword.find(' '));
}

/// The first keyword that is not as expected, in words; empty where all are.
std::string difference(const std::string& path, const FitsHeader& found, const FitsHeader& expected) {
    for (const std::string& card : expected.cards()) {
        const std::string keyword = keywordOf(card);
        const std::string right = expected.text(keyword).value_or("");
        const std::string is = found.text(keyword).value_or("nothing");
        if (is != right)
            return fmt::format("{}: {} = {}, this run would write {}", printable(path), keyword, printable(is),
                               printable(right));
    }
    return {};
}

/// The process' number in ".NAME.PID.N.tmp", and NAME; 0 where the name is another.
long temporaryOwner(const std::string& file, std::string& target) {
    constexpr std::string_view end = ".tmp";
    if (!file.starts_with('.') || !file.ends_with(end)) return 0;
    const std::string_view body = std::string_view(file).substr(1, file.size() - 1 - end.size());
    const std::size_t second = body.rfind('.');
    if (second == std::string_view::npos || second == 0) return 0;
    const std::size_t first = body.rfind('.', second - 1);
    if (first == std::string_view::npos || first == 0) return 0;
    const std::string_view number = body.substr(first + 1, second - first - 1);
    long owner = 0;
    const auto [last, error] = std::from_chars(number.data(), number.data() + number.size(), owner);
    if (error != std::errc{} || last != number.data() + number.size() || owner <= 0) return 0;
    target = body.substr(0, first);
    return owner;
}

} // namespace

bool outputsExist(const FrameTask& task) {
    std::error_code ignored;
    return fs::exists(task.output, ignored) && (task.model.empty() || fs::exists(task.model, ignored));
}

std::string whyIncomplete(const FrameTask& task) {
    std::error_code ignored;
    for (const std::string* path : {&task.output, &task.model})
        if (!path->empty() && !fs::exists(*path, ignored)) return fmt::format("{}: not there", printable(*path));
    for (const std::string* input : {&task.image, &task.psf, &task.fibermap}) {
        if (input->empty()) continue;
        const std::string there = existingFitsPath(*input);
        const auto written = fs::last_write_time(there, ignored);
        for (const std::string* path : {&task.output, &task.model})
            if (!ignored && !path->empty() && fs::last_write_time(*path, ignored) < written)
                return fmt::format("{}: older than {}", printable(*path), printable(there));
    }
    const Psf psf = readPsf(task.psf);
    // With a barycentric correction the wavelengths written are those asked for too: the factor is not needed.
    const Plan plan = makePlan(psf, task.options);
    FitsHeader expected;
    commands::describePlan(expected, plan, task.image, task.psf);
    for (const std::string* path : {&task.output, &task.model}) {
        if (path->empty()) continue;
        try {
            const FitsFile file(*path, [](const FitsHdu&) { return false; });
            const char* const name = path == &task.output ? "FLUX" : "MODEL";
            std::string wrong = difference(*path, file.require(name).header, expected);
            if (!wrong.empty()) return wrong;
            if (path == &task.output)
                for (const char* hdu : {"IVAR", "MASK", "WAVELENGTH", "RESOLUTION", "CHI2PIX"}) (void)file.require(hdu);
            verifyChecksums(file.path());
        } catch (const Error& error) {
            return error.what();
        }
    }
    return {};
}

std::vector<std::string> missingInputs(const FrameTask& task) {
    std::vector<std::string> missing;
    std::error_code ignored;
    for (const std::string* path : {&task.image, &task.psf, &task.fibermap})
        if (!path->empty() && !fs::exists(existingFitsPath(*path), ignored)) missing.push_back(*path);
    return missing;
}

int removeStaleFiles(const std::vector<FrameTask>& frames) {
    std::map<fs::path, std::set<std::string>> folders;
    for (const FrameTask& task : frames)
        for (const std::string* path : {&task.output, &task.model})
            if (!path->empty()) {
                const fs::path folder = fs::path(*path).parent_path();
                folders[folder.empty() ? "." : folder].insert(fs::path(*path).filename().string());
            }
    int removed = 0;
    for (const auto& [folder, names] : folders) {
        std::error_code error;
        for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
            std::string target;
            const long owner = temporaryOwner(entry->path().filename().string(), target);
            if (owner == 0 || !names.contains(target)) continue;
            const bool alive = ::kill(static_cast<pid_t>(owner), 0) == 0 || errno == EPERM;
            std::error_code ignored;
            const auto age = fs::file_time_type::clock::now() - fs::last_write_time(entry->path(), ignored);
            if (alive && age < std::chrono::minutes(1)) continue;
            if (fs::remove(entry->path(), ignored)) ++removed;
        }
    }
    return removed;
}

} // namespace patchlight::batch
