#pragma once

#include <stdexcept>
#include <string>

namespace patchlight {

/// A run that failed: bad data, unreadable file, full disk. The program ends with exit code 1.
/// The message says what is wrong, where (file, HDU, keyword, option), what was found and what would be right.
class Error : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// A command line or option value that makes no sense. The program ends with exit code 2.
class UsageError : public Error {
public:
    using Error::Error;
};

/// The run was stopped on request, between two batches.
class Cancelled : public Error {
public:
    Cancelled() : Error("cancelled") {}
};

} // namespace patchlight
