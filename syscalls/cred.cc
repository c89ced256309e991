#include "syscalls/cred.h"

#include <algorithm>

#include "syscalls/process.h"
#include "ukernel/kernel.h"

namespace uk {
namespace {

constexpr uint32_t kUnchanged = ~0u;
constexpr int kMaxGroups = 65536;
constexpr uint32_t kNoSetuidFixup = 4, kKeepCapsBit = 0x10;
// Capabilities that follow the file system uid (capabilities(7), "Effect of user ID changes").
constexpr uint64_t kFsCaps =
    1ull << 0 | 1ull << 1 | 1ull << 2 | 1ull << 3 | 1ull << 4 | 1ull << 9 | 1ull << 27 | 1ull << 32;

// Effects of a change of the real, effective and saved uid on capabilities.
void fix_capabilities(Task& task, const Cred& old, Cred& c) {
  if ((c.securebits & kNoSetuidFixup) != 0) return;
  const std::optional<uint32_t> root = kernel_uid(old.user_ns.get(), 0);
  bool was_root = old.uid == root || old.euid == root || old.suid == root;
  bool is_root = c.uid == root || c.euid == root || c.suid == root;
  if (was_root && !is_root) {
    if (!task.keep_caps && (c.securebits & kKeepCapsBit) == 0) {
      c.cap_permitted = 0;
      c.cap_effective = 0;
    }
    c.cap_ambient = 0;
  }
  if (old.euid == root && c.euid != root) c.cap_effective = 0;
  if (old.euid != root && c.euid == root) c.cap_effective = c.cap_permitted;
}

void fix_fs_capabilities(const Cred& old, Cred& c) {
  if ((c.securebits & kNoSetuidFixup) != 0) return;
  const std::optional<uint32_t> root = kernel_uid(old.user_ns.get(), 0);
  if (old.fsuid == root && c.fsuid != root) c.cap_effective &= ~kFsCaps;
  if (old.fsuid != root && c.fsuid == root) c.cap_effective |= c.cap_permitted & kFsCaps;
}

// Installs a changed copy of the credentials.
Result<int64_t> commit(Task& task, Ref<Cred> c) {
  const Cred& old = task.cred();
  bool changed = old.euid != c->euid || old.egid != c->egid || old.fsuid != c->fsuid ||
                 old.fsgid != c->fsgid || (c->cap_permitted & ~old.cap_permitted) != 0;
  if (changed) {
    task.mm().dumpable = false;
    task.parent_death_signal = 0;
  }
  task.set_cred(std::move(c));
  return 0;
}

Result<int64_t> put_ids(Task& task, const uint32_t (&ids)[3], UserOut<uint32_t> r,
                        UserOut<uint32_t> e, UserOut<uint32_t> s) {
  TRY(r.put(task.park(), task.mm(), ids[0]));
  TRY(e.put(task.park(), task.mm(), ids[1]));
  TRY(s.put(task.park(), task.mm(), ids[2]));
  return 0;
}

// Ids of the guest as the kernel's; kUnchanged stays, what has no mapping is kINVAL.
Result<uint32_t> take_uid(const Cred& c, uint32_t uid) {
  if (uid == kUnchanged) return uid;
  const auto id = kernel_uid(c.user_ns.get(), uid);
  return id ? Result<uint32_t>(*id) : Err(Errno::kINVAL);
}
Result<uint32_t> take_gid(const Cred& c, uint32_t gid) {
  if (gid == kUnchanged) return gid;
  const auto id = kernel_gid(c.user_ns.get(), gid);
  return id ? Result<uint32_t>(*id) : Err(Errno::kINVAL);
}
uint32_t show_uid(const Task& t, uint32_t id) { return shown_uid(t.cred().user_ns.get(), id); }
uint32_t show_gid(const Task& t, uint32_t id) { return shown_gid(t.cred().user_ns.get(), id); }

bool one_of(uint32_t id, std::initializer_list<uint32_t> ids) {
  return id == kUnchanged || std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

Result<int64_t> sys_getuid(Task& task) { return show_uid(task, task.cred().uid); }
Result<int64_t> sys_geteuid(Task& task) { return show_uid(task, task.cred().euid); }
Result<int64_t> sys_getgid(Task& task) { return show_gid(task, task.cred().gid); }
Result<int64_t> sys_getegid(Task& task) { return show_gid(task, task.cred().egid); }

Result<int64_t> sys_getresuid(Task& task, UserOut<uint32_t> r, UserOut<uint32_t> e,
                              UserOut<uint32_t> s) {
  return put_ids(task,
                 {show_uid(task, task.cred().uid), show_uid(task, task.cred().euid),
                  show_uid(task, task.cred().suid)},
                 r, e, s);
}

Result<int64_t> sys_getresgid(Task& task, UserOut<uint32_t> r, UserOut<uint32_t> e,
                              UserOut<uint32_t> s) {
  return put_ids(task,
                 {show_gid(task, task.cred().gid), show_gid(task, task.cred().egid),
                  show_gid(task, task.cred().sgid)},
                 r, e, s);
}

Result<int64_t> sys_setuid(Task& task, uint32_t uid) {
  if (uid == kUnchanged) return Err(Errno::kINVAL);
  const Cred& old = task.cred();
  uid = TRY(take_uid(old, uid));
  Ref<Cred> c = old.copy();
  if (old.raised(Cap::kSetuid)) {
    c->uid = c->suid = uid;
  } else if (uid != old.uid && uid != old.suid) {
    return Err(Errno::kPERM);
  }
  c->euid = c->fsuid = uid;
  fix_capabilities(task, old, *c);
  return commit(task, std::move(c));
}

Result<int64_t> sys_setgid(Task& task, uint32_t gid) {
  if (gid == kUnchanged) return Err(Errno::kINVAL);
  const Cred& old = task.cred();
  gid = TRY(take_gid(old, gid));
  Ref<Cred> c = old.copy();
  if (old.raised(Cap::kSetgid)) {
    c->gid = c->sgid = gid;
  } else if (gid != old.gid && gid != old.sgid) {
    return Err(Errno::kPERM);
  }
  c->egid = c->fsgid = gid;
  return commit(task, std::move(c));
}

Result<int64_t> sys_setreuid(Task& task, uint32_t r, uint32_t e) {
  const Cred& old = task.cred();
  r = TRY(take_uid(old, r));
  e = TRY(take_uid(old, e));
  if (!old.raised(Cap::kSetuid) &&
      (!one_of(r, {old.uid, old.euid}) || !one_of(e, {old.uid, old.euid, old.suid})))
    return Err(Errno::kPERM);
  Ref<Cred> c = old.copy();
  if (r != kUnchanged) c->uid = r;
  if (e != kUnchanged) c->euid = e;
  if (r != kUnchanged || (e != kUnchanged && e != old.uid)) c->suid = c->euid;
  c->fsuid = c->euid;
  fix_capabilities(task, old, *c);
  return commit(task, std::move(c));
}

Result<int64_t> sys_setregid(Task& task, uint32_t r, uint32_t e) {
  const Cred& old = task.cred();
  r = TRY(take_gid(old, r));
  e = TRY(take_gid(old, e));
  if (!old.raised(Cap::kSetgid) &&
      (!one_of(r, {old.gid, old.egid}) || !one_of(e, {old.gid, old.egid, old.sgid})))
    return Err(Errno::kPERM);
  Ref<Cred> c = old.copy();
  if (r != kUnchanged) c->gid = r;
  if (e != kUnchanged) c->egid = e;
  if (r != kUnchanged || (e != kUnchanged && e != old.gid)) c->sgid = c->egid;
  c->fsgid = c->egid;
  return commit(task, std::move(c));
}

Result<int64_t> sys_setresuid(Task& task, uint32_t r, uint32_t e, uint32_t s) {
  const Cred& old = task.cred();
  r = TRY(take_uid(old, r));
  e = TRY(take_uid(old, e));
  s = TRY(take_uid(old, s));
  if (!old.raised(Cap::kSetuid)) {
    for (uint32_t id : {r, e, s})
      if (!one_of(id, {old.uid, old.euid, old.suid})) return Err(Errno::kPERM);
  }
  Ref<Cred> c = old.copy();
  if (r != kUnchanged) c->uid = r;
  if (e != kUnchanged) c->euid = e;
  if (s != kUnchanged) c->suid = s;
  c->fsuid = c->euid;
  fix_capabilities(task, old, *c);
  return commit(task, std::move(c));
}

Result<int64_t> sys_setresgid(Task& task, uint32_t r, uint32_t e, uint32_t s) {
  const Cred& old = task.cred();
  r = TRY(take_gid(old, r));
  e = TRY(take_gid(old, e));
  s = TRY(take_gid(old, s));
  if (!old.raised(Cap::kSetgid)) {
    for (uint32_t id : {r, e, s})
      if (!one_of(id, {old.gid, old.egid, old.sgid})) return Err(Errno::kPERM);
  }
  Ref<Cred> c = old.copy();
  if (r != kUnchanged) c->gid = r;
  if (e != kUnchanged) c->egid = e;
  if (s != kUnchanged) c->sgid = s;
  c->fsgid = c->egid;
  return commit(task, std::move(c));
}

Result<int64_t> sys_setfsuid(Task& task, uint32_t uid) {
  const Cred& old = task.cred();
  uint32_t before = show_uid(task, old.fsuid);
  const auto id = take_uid(old, uid);
  if (uid == kUnchanged || !id) return before;
  uid = *id;
  bool may = old.raised(Cap::kSetuid) || uid == old.uid || uid == old.euid || uid == old.suid ||
             uid == old.fsuid;
  if (!may || uid == old.fsuid) return before;
  Ref<Cred> c = old.copy();
  c->fsuid = uid;
  fix_fs_capabilities(old, *c);
  TRY(commit(task, std::move(c)));
  return before;
}

Result<int64_t> sys_setfsgid(Task& task, uint32_t gid) {
  const Cred& old = task.cred();
  uint32_t before = show_gid(task, old.fsgid);
  const auto id = take_gid(old, gid);
  if (gid == kUnchanged || !id) return before;
  gid = *id;
  bool may = old.raised(Cap::kSetgid) || gid == old.gid || gid == old.egid || gid == old.sgid ||
             gid == old.fsgid;
  if (!may || gid == old.fsgid) return before;
  Ref<Cred> c = old.copy();
  c->fsgid = gid;
  TRY(commit(task, std::move(c)));
  return before;
}

Result<int64_t> sys_getgroups(Task& task, int size, UserOut<uint32_t> list) {
  std::vector<uint32_t> groups = task.cred().groups;
  for (uint32_t& g : groups) g = show_gid(task, g);
  if (size < 0) return Err(Errno::kINVAL);
  if (size != 0) {
    if (groups.size() > static_cast<size_t>(size)) return Err(Errno::kINVAL);
    TRY(list.put_array(task.park(), task.mm(), groups));
  }
  return static_cast<int64_t>(groups.size());
}

Result<int64_t> sys_setgroups(Task& task, int size, UserIn<uint32_t> list) {
  const UserNamespace* ns = task.cred().user_ns.get();
  if (!task.cred().raised(Cap::kSetgid)) return Err(Errno::kPERM);
  if (ns != nullptr && (ns->gids.empty() || !ns->setgroups_allowed)) return Err(Errno::kPERM);
  if (size < 0 || size > kMaxGroups) return Err(Errno::kINVAL);
  std::vector<uint32_t> groups =
      TRY(list.get_array(task.park(), task.mm(), static_cast<size_t>(size)));
  if (std::find(groups.begin(), groups.end(), kUnchanged) != groups.end())
    return Err(Errno::kINVAL);
  for (uint32_t& g : groups) g = TRY(take_gid(task.cred(), g));
  std::sort(groups.begin(), groups.end());
  Ref<Cred> c = task.cred().copy();
  c->groups = std::move(groups);
  return commit(task, std::move(c));
}

namespace {

constexpr uint32_t kCapVersion1 = 0x19980330, kCapVersion2 = 0x20071026, kCapVersion3 = 0x20080522;

// How many 32-bit halves the version in the header has. An unknown one is answered with ours.
Result<size_t> cap_words(Task& task, UserInOut<UserCapHeader> header, const UserCapHeader& h) {
  if (h.version == kCapVersion1) return 1;
  if (h.version == kCapVersion2 || h.version == kCapVersion3) return 2;
  TRY(header.put(task.park(), task.mm(), UserCapHeader{kCapVersion3, h.pid}));
  return Err(Errno::kINVAL);
}

}  // namespace

Result<int64_t> sys_capget(Task& task, UserInOut<UserCapHeader> header, UserOut<UserCapData> data) {
  UserCapHeader h = TRY(header.get(task.park(), task.mm()));
  Result<size_t> words = cap_words(task, header, h);
  if (!words) {
    // Asking for the version with no data is not an error.
    return words.error() == Errno::kINVAL && !data ? Result<int64_t>(0) : Err(words.error());
  }
  if (h.pid < 0) return Err(Errno::kINVAL);
  Task* t = TRY(find_task(task, h.pid));
  const Ref<Cred> c = t->cred_;
  for (size_t i = 0; data && i < *words; ++i) {
    auto half = [&](uint64_t set) { return static_cast<uint32_t>(set >> (32 * i)); };
    UserCapData d{half(c->cap_effective), half(c->cap_permitted), half(c->cap_inheritable)};
    TRY(data.put(task.park(), task.mm(), d, i));
  }
  return 0;
}

Result<int64_t> sys_capset(Task& task, UserInOut<UserCapHeader> header, UserIn<UserCapData> data) {
  UserCapHeader h = TRY(header.get(task.park(), task.mm()));
  size_t words = TRY(cap_words(task, header, h));
  if (h.pid != 0 && h.pid != task.tid) return Err(Errno::kPERM);
  uint64_t effective = 0, permitted = 0, inheritable = 0;
  for (size_t i = 0; i < words; ++i) {
    UserCapData d = TRY(data.get(task.park(), task.mm(), i));
    effective |= uint64_t{d.effective} << (32 * i);
    permitted |= uint64_t{d.permitted} << (32 * i);
    inheritable |= uint64_t{d.inheritable} << (32 * i);
  }
  effective &= kAllCaps, permitted &= kAllCaps, inheritable &= kAllCaps;
  const Cred& old = task.cred();
  if ((permitted & ~old.cap_permitted) != 0 || (effective & ~permitted) != 0)
    return Err(Errno::kPERM);
  uint64_t gained = inheritable & ~old.cap_inheritable;
  if (!old.raised(Cap::kSetpcap) && (gained & ~old.cap_permitted) != 0) return Err(Errno::kPERM);
  if ((gained & ~(old.cap_bounding | old.cap_permitted)) != 0 ||
      (inheritable & ~(old.cap_inheritable | old.cap_bounding)) != 0)
    return Err(Errno::kPERM);
  Ref<Cred> c = old.copy();
  c->cap_effective = effective;
  c->cap_permitted = permitted;
  c->cap_inheritable = inheritable;
  c->cap_ambient &= permitted & inheritable;
  return commit(task, std::move(c));
}

}  // namespace uk
