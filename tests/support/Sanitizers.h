#pragma once

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

} // namespace patchlight::test
