// userfaultfd(2) and /dev/userfaultfd. Handlers run on the calling task's fiber.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_userfaultfd(Task& task, int flags);
// The device, for boot/ to register.
void register_userfaultfd(Kernel& kernel);

}  // namespace uk
