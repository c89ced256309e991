#include "syscalls/cred.h"

#include <linux/securebits.h>

#include "syscalls/fs_common.h"

namespace uk {
namespace {

constexpr uint32_t kSame = ~0u;  // -1: leave it
constexpr int kMaxGroups = 65536;
constexpr uint64_t kFsCaps =
    (1ull << static_cast<int>(Cap::kChown)) | (1ull << static_cast<int>(Cap::kDacOverride)) |
    (1ull << static_cast<int>(Cap::kDacReadSearch)) | (1ull << static_cast<int>(Cap::kFowner)) |
    (1ull << static_cast<int>(Cap::kFsetid)) | (1ull << static_cast<int>(Cap::kLinuxImmutable)) |
    (1ull << static_cast<int>(Cap::kMknod)) | (1ull << static_cast<int>(Cap::kMacOverride));

// What changes of user ids do to capabilities (capabilities(7), "Effect of user ID changes").
void fix_caps(const Cred& old, Cred& now) {
  if (now.securebits & SECBIT_NO_SETUID_FIXUP) return;
  const bool had_root = old.uid == 0 || old.euid == 0 || old.suid == 0;
  const bool has_root = now.uid == 0 || now.euid == 0 || now.suid == 0;
  if (had_root && !has_root) {
    if ((now.securebits & SECBIT_KEEP_CAPS) == 0) now.cap_permitted = now.cap_effective = 0;
    now.cap_ambient = 0;
  }
  if (old.euid == 0 && now.euid != 0) now.cap_effective = 0;
  if (old.euid != 0 && now.euid == 0) now.cap_effective = now.cap_permitted;
}

int64_t commit_uids(Task& task, Ref<Cred> now) {
  now->fsuid = now->euid;
  fix_caps(task.cred(), *now);
  if (now->euid != task.cred().euid || now->egid != task.cred().egid) task.mm().dumpable = false;
  task.set_cred(std::move(now));
  return 0;
}

int64_t commit_gids(Task& task, Ref<Cred> now) {
  now->fsgid = now->egid;
  if (now->egid != task.cred().egid) task.mm().dumpable = false;
  task.set_cred(std::move(now));
  return 0;
}

bool one_of(uint32_t id, uint32_t a, uint32_t b, uint32_t c) {
  return id == kSame || id == a || id == b || id == c;
}

constexpr uint32_t kCapVersion1 = 0x19980330, kCapVersion2 = 0x20071026, kCapVersion3 = 0x20080522;

// How many UserCapData a version has; for an unknown one the kernel's own version is stored and
// kINVAL given.
Result<int> cap_words(Task& task, UserInOut<UserCapHeader> user, const UserCapHeader& h) {
  switch (h.version) {
    case kCapVersion1:
      return 1;
    case kCapVersion2:
    case kCapVersion3:
      return 2;
    default:
      TRY(user.put(task.park(), task.mm(), {kCapVersion3, h.pid}));
      return Err(Errno::kINVAL);
  }
}

}  // namespace

Result<int64_t> sys_getuid(Task& task) { return task.cred().uid; }
Result<int64_t> sys_geteuid(Task& task) { return task.cred().euid; }
Result<int64_t> sys_getgid(Task& task) { return task.cred().gid; }
Result<int64_t> sys_getegid(Task& task) { return task.cred().egid; }

Result<int64_t> sys_setuid(Task& task, uint32_t uid) {
  if (uid == kSame) return Err(Errno::kINVAL);
  const Cred& old = task.cred();
  Ref<Cred> now = old.copy();
  if (old.has(Cap::kSetuid)) {
    now->uid = now->suid = uid;
  } else if (uid != old.uid && uid != old.suid) {
    return Err(Errno::kPERM);
  }
  now->euid = uid;
  return commit_uids(task, std::move(now));
}

Result<int64_t> sys_setgid(Task& task, uint32_t gid) {
  if (gid == kSame) return Err(Errno::kINVAL);
  const Cred& old = task.cred();
  Ref<Cred> now = old.copy();
  if (old.has(Cap::kSetgid)) {
    now->gid = now->sgid = gid;
  } else if (gid != old.gid && gid != old.sgid) {
    return Err(Errno::kPERM);
  }
  now->egid = gid;
  return commit_gids(task, std::move(now));
}

Result<int64_t> sys_setreuid(Task& task, uint32_t ruid, uint32_t euid) {
  const Cred& old = task.cred();
  if (!old.has(Cap::kSetuid)) {
    if (!one_of(ruid, old.uid, old.euid, old.uid) || !one_of(euid, old.uid, old.euid, old.suid))
      return Err(Errno::kPERM);
  }
  Ref<Cred> now = old.copy();
  if (ruid != kSame) now->uid = ruid;
  if (euid != kSame) now->euid = euid;
  if (ruid != kSame || (euid != kSame && euid != old.uid)) now->suid = now->euid;
  return commit_uids(task, std::move(now));
}

Result<int64_t> sys_setregid(Task& task, uint32_t rgid, uint32_t egid) {
  const Cred& old = task.cred();
  if (!old.has(Cap::kSetgid)) {
    if (!one_of(rgid, old.gid, old.egid, old.gid) || !one_of(egid, old.gid, old.egid, old.sgid))
      return Err(Errno::kPERM);
  }
  Ref<Cred> now = old.copy();
  if (rgid != kSame) now->gid = rgid;
  if (egid != kSame) now->egid = egid;
  if (rgid != kSame || (egid != kSame && egid != old.gid)) now->sgid = now->egid;
  return commit_gids(task, std::move(now));
}

Result<int64_t> sys_setresuid(Task& task, uint32_t ruid, uint32_t euid, uint32_t suid) {
  const Cred& old = task.cred();
  if (!old.has(Cap::kSetuid)) {
    for (uint32_t id : {ruid, euid, suid}) {
      if (!one_of(id, old.uid, old.euid, old.suid)) return Err(Errno::kPERM);
    }
  }
  Ref<Cred> now = old.copy();
  if (ruid != kSame) now->uid = ruid;
  if (euid != kSame) now->euid = euid;
  if (suid != kSame) now->suid = suid;
  return commit_uids(task, std::move(now));
}

Result<int64_t> sys_setresgid(Task& task, uint32_t rgid, uint32_t egid, uint32_t sgid) {
  const Cred& old = task.cred();
  if (!old.has(Cap::kSetgid)) {
    for (uint32_t id : {rgid, egid, sgid}) {
      if (!one_of(id, old.gid, old.egid, old.sgid)) return Err(Errno::kPERM);
    }
  }
  Ref<Cred> now = old.copy();
  if (rgid != kSame) now->gid = rgid;
  if (egid != kSame) now->egid = egid;
  if (sgid != kSame) now->sgid = sgid;
  return commit_gids(task, std::move(now));
}

Result<int64_t> sys_getresuid(Task& task, UserOut<uint32_t> ruid, UserOut<uint32_t> euid,
                              UserOut<uint32_t> suid) {
  TRY(ruid.put(task.park(), task.mm(), task.cred().uid));
  TRY(euid.put(task.park(), task.mm(), task.cred().euid));
  return zero(suid.put(task.park(), task.mm(), task.cred().suid));
}

Result<int64_t> sys_getresgid(Task& task, UserOut<uint32_t> rgid, UserOut<uint32_t> egid,
                              UserOut<uint32_t> sgid) {
  TRY(rgid.put(task.park(), task.mm(), task.cred().gid));
  TRY(egid.put(task.park(), task.mm(), task.cred().egid));
  return zero(sgid.put(task.park(), task.mm(), task.cred().sgid));
}

// setfsuid(2) and setfsgid(2) cannot fail: they return the previous id.
Result<int64_t> sys_setfsuid(Task& task, uint32_t uid) {
  const Cred& old = task.cred();
  const uint32_t previous = old.fsuid;
  if (uid == kSame ||
      (!one_of(uid, old.uid, old.euid, old.suid) && uid != old.fsuid && !old.has(Cap::kSetuid)))
    return previous;
  Ref<Cred> now = old.copy();
  now->fsuid = uid;
  if ((now->securebits & SECBIT_NO_SETUID_FIXUP) == 0) {
    if (previous == 0 && uid != 0) now->cap_effective &= ~kFsCaps;
    if (previous != 0 && uid == 0) now->cap_effective |= now->cap_permitted & kFsCaps;
  }
  task.set_cred(std::move(now));
  return previous;
}

Result<int64_t> sys_setfsgid(Task& task, uint32_t gid) {
  const Cred& old = task.cred();
  const uint32_t previous = old.fsgid;
  if (gid == kSame ||
      (!one_of(gid, old.gid, old.egid, old.sgid) && gid != old.fsgid && !old.has(Cap::kSetgid)))
    return previous;
  Ref<Cred> now = old.copy();
  now->fsgid = gid;
  task.set_cred(std::move(now));
  return previous;
}

Result<int64_t> sys_getgroups(Task& task, int count, UserOut<uint32_t> list) {
  if (count < 0) return Err(Errno::kINVAL);
  std::vector<uint32_t> groups = task.cred().groups;
  if (count == 0) return static_cast<int64_t>(groups.size());
  if (static_cast<size_t>(count) < groups.size()) return Err(Errno::kINVAL);
  TRY(list.put_array(task.park(), task.mm(), groups));
  return static_cast<int64_t>(groups.size());
}

Result<int64_t> sys_setgroups(Task& task, int count, UserIn<uint32_t> list) {
  if (!task.cred().has(Cap::kSetgid)) return Err(Errno::kPERM);
  if (count < 0 || count > kMaxGroups) return Err(Errno::kINVAL);
  auto groups = TRY(list.get_array(task.park(), task.mm(), static_cast<size_t>(count)));
  for (uint32_t g : groups) {
    if (g == kSame) return Err(Errno::kINVAL);
  }
  std::sort(groups.begin(), groups.end());  // getgroups(2) shows them sorted on Linux
  Ref<Cred> now = task.cred().copy();
  now->groups = std::move(groups);
  task.set_cred(std::move(now));
  return 0;
}

Result<int64_t> sys_capget(Task& task, UserInOut<UserCapHeader> user, UserOut<UserCapData> data) {
  UserCapHeader h = TRY(user.get(task.park(), task.mm()));
  auto words = cap_words(task, user, h);
  if (!words)
    return !data && words.error() == Errno::kINVAL ? Result<int64_t>(0) : Err(words.error());
  if (h.pid < 0) return Err(Errno::kINVAL);
  Task* target = h.pid == 0 ? &task : task.kernel.pids.task(h.pid);
  if (target == nullptr) return Err(Errno::kSRCH);
  if (!data) return 0;
  const Cred& c = target->cred();
  UserCapData out[2];
  for (int i = 0; i < 2; ++i) {
    out[i] = {static_cast<uint32_t>(c.cap_effective >> (32 * i)),
              static_cast<uint32_t>(c.cap_permitted >> (32 * i)),
              static_cast<uint32_t>(c.cap_inheritable >> (32 * i))};
  }
  return zero(data.put_array(task.park(), task.mm(),
                             std::span<const UserCapData>(out, static_cast<size_t>(*words))));
}

Result<int64_t> sys_capset(Task& task, UserInOut<UserCapHeader> user, UserIn<UserCapData> data) {
  UserCapHeader h = TRY(user.get(task.park(), task.mm()));
  int words = TRY(cap_words(task, user, h));
  if (h.pid != 0 && h.pid != task.tid) return Err(Errno::kPERM);
  auto in = TRY(data.get_array(task.park(), task.mm(), static_cast<size_t>(words)));
  uint64_t effective = 0, permitted = 0, inheritable = 0;
  for (int i = 0; i < words; ++i) {
    effective |= static_cast<uint64_t>(in[static_cast<size_t>(i)].effective) << (32 * i);
    permitted |= static_cast<uint64_t>(in[static_cast<size_t>(i)].permitted) << (32 * i);
    inheritable |= static_cast<uint64_t>(in[static_cast<size_t>(i)].inheritable) << (32 * i);
  }
  effective &= kAllCaps, permitted &= kAllCaps, inheritable &= kAllCaps;
  const Cred& old = task.cred();
  if ((permitted & ~old.cap_permitted) != 0 || (effective & ~permitted) != 0)
    return Err(Errno::kPERM);
  if (!old.has(Cap::kSetpcap) && (inheritable & ~(old.cap_inheritable | old.cap_permitted)) != 0)
    return Err(Errno::kPERM);
  if ((inheritable & ~(old.cap_inheritable | old.cap_bounding)) != 0) return Err(Errno::kPERM);
  Ref<Cred> now = old.copy();
  now->cap_effective = effective;
  now->cap_permitted = permitted;
  now->cap_inheritable = inheritable;
  now->cap_ambient &= permitted & inheritable;
  task.set_cred(std::move(now));
  return 0;
}

}  // namespace uk
