#pragma once

#include <string>

namespace patchlight {

/// Reads a whole file, plain or gzip, and compares CHECKSUM and DATASUM of every HDU with what is there (the FITS checksum
/// convention: 32-bit ones' complement sums). @throws Error: unreadable, damaged, an HDU without check sums or with wrong ones
void verifyChecksums(const std::string& path);

} // namespace patchlight
