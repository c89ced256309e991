// Moving bytes through pipes: splice(2), tee(2), vmsplice(2).
#pragma once

#include <optional>

#include "syscalls/decode.h"

namespace uk {

// splice(2) and tee(2) of files that the caller holds. Offsets that are set move.
Result<size_t> splice_files(Task& task, File& in, std::optional<uint64_t>& in_off, File& out,
                            std::optional<uint64_t>& out_off, size_t count, uint64_t flags);
// sendfile(2) into a pipe.
Result<size_t> splice_into_pipe(Task& task, File& in, std::optional<uint64_t>& offset, File& out,
                                size_t count);
Result<size_t> tee_files(Task& task, File& in, File& out, size_t count, uint64_t flags);

Result<int64_t> sys_splice(Task& task, Fd in, UserInOut<int64_t> in_off, Fd out,
                           UserInOut<int64_t> out_off, size_t count, Hex flags);
Result<int64_t> sys_tee(Task& task, Fd in, Fd out, size_t count, Hex flags);
Result<int64_t> sys_vmsplice(Task& task, Fd fd, UserAddr iov, uint64_t count, Hex flags);

}  // namespace uk
