#pragma once

namespace patchlight::commands {

/// Whether this process has a limit of its address space (ulimit -v). OpenBLAS does not stand one: a thread of it that gets no
/// memory tries again for ever, and the end of the program waits for its threads.
[[nodiscard]] bool addressSpaceIsLimited();

/// @throws Error where the limit leaves too little for the buffers of that many threads; 0: one a core
void requireAddressSpace(int threads);

} // namespace patchlight::commands
