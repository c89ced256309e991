// add_key(2), request_key(2), keyctl(2): what keys are is in task/keys.h. Names and contents are
// guest input, bounded here. Nobody is asked to make keys (request-key(8)): what is not there is
// ENOKEY.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_add_key(Task& task, UserStr type, UserStr description, UserAddr payload,
                            size_t size, int ring);
Result<int64_t> sys_request_key(Task& task, UserStr type, UserStr description, UserStr callout,
                                int ring);
Result<int64_t> sys_keyctl(Task& task, int operation, uint64_t a, uint64_t b, uint64_t c,
                           uint64_t d);

}  // namespace uk
