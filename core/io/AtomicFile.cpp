#include "core/io/AtomicFile.h"

#include "core/base/Error.h"
#include "core/io/FitsFile.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

namespace patchlight {

namespace {

std::string folderOf(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    if (slash == std::string::npos) return ".";
    return slash == 0 ? "/" : path.substr(0, slash);
}

/// Where a symbolic link leads; the path itself where it is none.
std::string resolved(const std::string& path) {
    struct stat info = {};
    if (::lstat(path.c_str(), &info) != 0 || !S_ISLNK(info.st_mode)) return path;
    const std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), std::free);
    return real ? real.get() : path;
}

} // namespace

AtomicFile::AtomicFile(const std::string& target) : target_(target), finalPath_(resolved(target)) {
    if (target.empty() || target.ends_with('/'))
        throw Error(fmt::format("'{}' cannot be written: the name of a file expected", printable(target)));
    struct stat info = {};
    if (::stat(finalPath_.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) // a rename would replace the device itself
        throw Error(fmt::format("{}: cannot be written: {}, a file expected", printable(target),
                                S_ISDIR(info.st_mode) ? "a directory" : "not a regular file"));
    const std::string folder = folderOf(finalPath_);
    const std::size_t slash = finalPath_.rfind('/');
    const std::string name = slash == std::string::npos ? finalPath_ : finalPath_.substr(slash + 1);
    // The added characters must not make the name too long for the file system (255 bytes).
    constexpr std::size_t longest = 200;
    static std::atomic<unsigned> counter{0};
    temporary_ = fmt::format("{}/.{}.{}.{}.tmp", folder, name.substr(0, longest), ::getpid(), counter++);
    ::unlink(temporary_.c_str());     // left behind by a killed process that had this one's number
    constexpr mode_t everyone = 0666; // the umask takes away what is not wanted
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, everyone);
    if (fd_ < 0) fail(fmt::format("folder {}", printable(folder)), errno);
}

AtomicFile::~AtomicFile() { discard(); }

void AtomicFile::discard() noexcept {
    if (fd_ >= 0) {
        ::close(fd_);
        fd_ = -1;
    }
    if (!temporary_.empty()) {
        ::unlink(temporary_.c_str());
        temporary_.clear();
    }
}

void AtomicFile::fail(const std::string& what, int error) const {
    throw Error(fmt::format("{}: cannot be written: {} ({})", printable(target_), std::strerror(error), what));
}

void AtomicFile::write(const void* bytes, std::size_t count) {
    writeAt(end_, bytes, count);
    end_ += count;
}

std::uint64_t AtomicFile::reserve(std::uint64_t count) {
    const std::uint64_t begin = end_;
    end_ += count;
    return begin;
}

void AtomicFile::writeAt(std::uint64_t offset, const void* bytes, std::size_t count) {
    if (fd_ < 0) throw Error(fmt::format("{}: written to after it was closed", printable(target_)));
    const char* next = static_cast<const char*>(bytes);
    while (count > 0) {
        const ssize_t done = ::pwrite(fd_, next, count, static_cast<off_t>(offset));
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) fail(fmt::format("at byte {}", offset), done < 0 ? errno : ENOSPC);
        next += done;
        count -= static_cast<std::size_t>(done);
        offset += static_cast<std::uint64_t>(done);
    }
}

void AtomicFile::startWriteback(std::uint64_t offset, std::uint64_t count) noexcept {
#ifdef SYNC_FILE_RANGE_WRITE
    // Whatever goes wrong here goes wrong in commit() as well, and is reported there.
    if (fd_ >= 0 && count > 0)
        (void)::sync_file_range(fd_, static_cast<off_t>(offset), static_cast<off_t>(count), SYNC_FILE_RANGE_WRITE);
#else
    (void)offset;
    (void)count;
#endif
}

void AtomicFile::commit() {
    if (fd_ < 0) throw Error(fmt::format("{}: written twice", printable(target_)));
    // Network file systems report a full disk as late as here.
    if (::fsync(fd_) != 0 && errno != EINVAL && errno != ENOSYS && errno != EROFS)
        fail("while it was brought to the disk", errno);
    const int closed = ::close(fd_);
    fd_ = -1;
    if (closed != 0) fail("while it was closed", errno);
    if (::rename(temporary_.c_str(), finalPath_.c_str()) != 0) fail("while it was renamed", errno);
    temporary_.clear();
    // The name lasts once its folder is on the disk. Some file systems cannot do that, and the file is complete anyway.
    const int folder = ::open(folderOf(finalPath_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) {
        (void)::fsync(folder);
        ::close(folder);
    }
}

void writeFileAtomically(const std::string& path, std::string_view content) {
    AtomicFile file(path);
    file.write(content.data(), content.size());
    file.commit();
}

void requireWritable(const std::string& path) { const AtomicFile probe(path); }

} // namespace patchlight
