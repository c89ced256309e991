#include "syscalls/lsm.h"

#include <array>

#include "syscalls/fs_common.h"

namespace uk {
namespace {

constexpr std::array<uint64_t, 2> kModules = {100, 110};  // LSM_ID_CAPABILITY, LSM_ID_LANDLOCK
constexpr uint64_t kSingle = 1;                           // LSM_FLAG_SINGLE: of one module only

}  // namespace

Result<int64_t> sys_lsm_get_self_attr(Task& task, unsigned attr, UserOut<UserLsmContext> to,
                                      UserInOut<uint32_t> size, Hex flags) {
  if (attr == 0 || !size) return Err(Errno::kINVAL);
  TRY(size.get(task.park(), task.mm()));
  if (flags.value != 0) {
    if (flags.value != kSingle || !to) return Err(Errno::kINVAL);
    if (TRY(UserIn<UserLsmContext>{to}.get(task.park(), task.mm())).id == 0) {
      return Err(Errno::kINVAL);
    }
  }
  TRY(size.put(task.park(), task.mm(), 0));
  return Err(Errno::kOPNOTSUPP);
}

Result<int64_t> sys_lsm_set_self_attr(Task& task, unsigned attr, UserIn<UserLsmContext> from,
                                      uint32_t size, Hex flags) {
  if (attr == 0 || flags.value != 0 || size < sizeof(UserLsmContext)) return Err(Errno::kINVAL);
  if (size > kPageSize) return Err(Errno::k2BIG);
  UserLsmContext context = TRY(from.get(task.park(), task.mm()));
  if (size < context.len || context.ctx_len > context.len - sizeof(UserLsmContext) ||
      context.len < sizeof(UserLsmContext)) {
    return Err(Errno::kINVAL);
  }
  return Err(Errno::kOPNOTSUPP);
}

Result<int64_t> sys_lsm_list_modules(Task& task, UserOut<uint64_t> ids, UserInOut<uint32_t> size,
                                     Hex flags) {
  if (flags.value != 0) return Err(Errno::kINVAL);
  uint32_t room = TRY(size.get(task.park(), task.mm()));
  TRY(size.put(task.park(), task.mm(), sizeof kModules));
  if (room < sizeof kModules) return Err(Errno::k2BIG);
  TRY(ids.put_array(task.park(), task.mm(), kModules));
  return static_cast<int64_t>(kModules.size());
}

}  // namespace uk
