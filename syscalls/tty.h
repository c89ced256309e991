// vhangup(2). Everything else about terminals is ioctls.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_vhangup(Task& task);

}  // namespace uk
