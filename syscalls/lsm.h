// The security modules' calls: lsm_list_modules(2), lsm_get_self_attr(2), lsm_set_self_attr(2). The
// only module here is that of capabilities, which has no attributes.
#pragma once

#include "syscalls/decode.h"

namespace uk {

// struct lsm_ctx of <linux/lsm.h>; its text follows.
struct UserLsmContext {
  uint64_t id, flags, len, ctx_len;
};
static_assert(sizeof(UserLsmContext) == 32);

Result<int64_t> sys_lsm_get_self_attr(Task& task, unsigned attr, UserOut<UserLsmContext> to,
                                      UserInOut<uint32_t> size, Hex flags);
Result<int64_t> sys_lsm_set_self_attr(Task& task, unsigned attr, UserIn<UserLsmContext> from,
                                      uint32_t size, Hex flags);
Result<int64_t> sys_lsm_list_modules(Task& task, UserOut<uint64_t> ids, UserInOut<uint32_t> size,
                                     Hex flags);

}  // namespace uk
