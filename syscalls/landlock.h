// landlock_create_ruleset(2), landlock_add_rule(2), landlock_restrict_self(2): what rulesets say is
// in vfs/landlock.h. Attributes are guest input; the errors are the man pages'.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_landlock_create_ruleset(Task& task, UserAddr attr, size_t size, Hex flags);
Result<int64_t> sys_landlock_add_rule(Task& task, Fd fd, int type, UserAddr attr, Hex flags);
Result<int64_t> sys_landlock_restrict_self(Task& task, Fd fd, Hex flags);

}  // namespace uk
