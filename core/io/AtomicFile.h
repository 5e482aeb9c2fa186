#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace patchlight {

/// A file that appears under its name only when it is complete: written under a temporary name in the same folder
/// (".NAME.PID.N.tmp"), then renamed. Until commit() an older file of that name stays as it is; without commit() the temporary
/// file is removed. Messages of errors name the target.
class AtomicFile {
public:
    /// Creates the temporary file. A symbolic link as target keeps pointing to its file, which is replaced.
    /// @throws Error: the target is a directory, a device or the like; its folder is missing or cannot be written
    explicit AtomicFile(const std::string& target);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    /// Appends bytes. @throws Error: full disk and the like
    void write(const void* bytes, std::size_t count);
    /// Writes bytes at a place of their own, which leaves what write() appends to where it is: for content that is made in another order,
    /// or by several threads at once. @throws Error
    void writeAt(std::uint64_t offset, const void* bytes, std::size_t count);
    /// Moves the end, where write() appends, `count` bytes on; they belong to writeAt(). Returns where the end was.
    std::uint64_t reserve(std::uint64_t count);
    /// Lets the system begin to bring the bytes from `offset` on to the disk, so that commit() has less to wait for.
    void startWriteback(std::uint64_t offset, std::uint64_t count) noexcept;
    /// Brings all to the disk and gives the file its name. @throws Error, and then the target is as it was before
    void commit();

    [[nodiscard]] const std::string& target() const { return target_; }

private:
    [[noreturn]] void fail(const std::string& what, int error) const;
    void discard() noexcept;

    std::string target_;    ///< as it was given, for messages
    std::string finalPath_; ///< symbolic links followed
    std::string temporary_;
    int fd_ = -1;
    std::uint64_t end_ = 0; ///< where write() appends
};

/// Writes a whole file atomically. @throws Error
void writeFileAtomically(const std::string& path, std::string_view content);

/// Finds out whether a file of this name could be written, before hours are spent on its content. @throws Error
void requireWritable(const std::string& path);

} // namespace patchlight
