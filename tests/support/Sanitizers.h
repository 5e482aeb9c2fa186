#pragma once

#include <initializer_list>
#include <string_view>

/// Whether this program runs with a sanitizer, which makes it about ten times slower: tables of a test then have fewer rows.
namespace patchlight::test {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif
#ifdef __SANITIZE_THREAD__
inline constexpr bool watchingThreads = true; ///< which meet in the same places in all rows of a table
#else
inline constexpr bool watchingThreads = false;
#endif

/// Whether a table has this row: all of them without a sanitizer; with one those named, that reach code of their own.
constexpr bool worthwhile(std::string_view row, std::initializer_list<std::string_view> sanitizedRows) {
    if (!sanitized) return true;
    for (const std::string_view one : sanitizedRows)
        if (one == row) return true;
    return false;
}

} // namespace patchlight::test
