// statmount(2) and listmount(2): mounts by their unique ids.
#include <sys/mount.h>

#include <array>
#include <cstring>

#include "syscalls/extensible.h"
#include "syscalls/fs_common.h"
#include "syscalls/fs_mount_new.h"
#include "syscalls/mount_attr.h"

namespace uk {
namespace {

// struct mnt_id_req.
struct Request {
  uint32_t size, spare;
  uint64_t mount_id;
  uint64_t param;  // statmount: what is asked for; listmount: the id to go on from
  uint64_t ns_id;  // 0: the caller's
};
constexpr uint32_t kOldestRequest = 24;

// struct statmount, up to the strings; those are offsets behind it.
struct Answer {
  uint32_t size, options;
  uint64_t mask;
  uint32_t dev_major, dev_minor;
  uint64_t magic;
  uint32_t sb_flags, type;
  uint64_t id, parent_id;
  uint32_t old_id, old_parent_id;
  uint64_t attributes, propagation, peer_group, master, propagate_from;
  uint32_t root, point;
  uint64_t ns_id;
  uint32_t subtype, source;
  uint32_t option_count, option_array, security_count, security_array;
  uint64_t supported;
  uint32_t uid_map_count, uid_map, gid_map_count, gid_map;
  uint64_t spare[43];
};
static_assert(sizeof(Answer) == 512);

enum Mask : uint64_t {
  kSbBasic = 1,
  kMntBasic = 2,
  kPropagateFrom = 4,
  kMntRoot = 8,
  kMntPoint = 0x10,
  kFsType = 0x20,
  kMntNsId = 0x40,
  kMntOptions = 0x80,
  kSbSource = 0x200,
  kOptionArray = 0x400,
  kSupportedMask = 0x1000,
  kAllMasks = kSbBasic | kMntBasic | kPropagateFrom | kMntRoot | kMntPoint | kFsType | kMntNsId |
              kMntOptions | kSbSource | kOptionArray | kSupportedMask,
};

constexpr uint64_t kRootOfAll = UINT64_MAX;  // LSMT_ROOT
constexpr size_t kMaxIds = 1'000'000;

Result<Request> fetch_request(Task& task, UserAddr user) {
  const uint32_t size = TRY(UserIn<uint32_t>{user}.get(task.park(), task.mm()));
  const auto r = TRY(fetch_extensible<Request>(task, user, size, kOldestRequest));
  if (r.spare != 0) return Err(Errno::kINVAL);
  if (r.mount_id <= Mount::kUniqueBase) return Err(Errno::kINVAL);
  return r;
}

// DEVIATION: other namespaces are not found by their number; see docs/CAVEATS.md.
Result<Ref<MountNamespace>> namespace_for(const Task& task, const Request& r) {
  Ref<MountNamespace> mine = task.mounts_;
  if (r.ns_id != 0 && r.ns_id != mine->id) return Err(Errno::kNOENT);
  return mine;
}

Ref<Mount> find_mount(const MountNamespace& ns, uint64_t unique_id) {
  auto it = ns.mounts.find(unique_id - Mount::kUniqueBase);
  return it == ns.mounts.end() ? Ref<Mount>() : it->second;
}

bool reachable(const Mount* m, const Dentry* d, const Path& root) {
  while (m != root.mount.get()) {
    if (m->parent == nullptr) return false;
    d = m->mountpoint.get();
    m = m->parent.get();
  }
  return dentry_below(d, root.dentry.get());
}

Result<> check_reachable(const Task& task, const Mount& m) {
  if (reachable(&m, m.root.get(), task.fs().root)) return {};
  return task.cred().has_in(task.mounts().owner.get(), Cap::kSysAdmin) ? Result<>()
                                                                       : Err(Errno::kPERM);
}

uint64_t propagation_of(const Mount& m) {
  const uint64_t flags = (m.shared ? uint64_t{MS_SHARED} : 0) |
                         (m.master ? uint64_t{MS_SLAVE} : 0) |
                         (m.unbindable ? uint64_t{MS_UNBINDABLE} : 0);
  return flags != 0 ? flags : uint64_t{MS_PRIVATE};
}

std::string root_inside(const Mount& m) {
  if (m.sb->fs_type() == "nsfs") return m.root->name();
  std::string out;
  for (const Dentry* d = m.root.get(); d->parent() != nullptr; d = d->parent())
    out = "/" + d->name() + out;
  return out.empty() ? "/" : out;
}

// The fixed part is filled in place, strings are gathered behind it.
class Teller {
 public:
  Teller(Task& task, const Mount& m, uint64_t asked) : task_(task), m_(m), asked_(asked) {}

  Result<> tell() {
    if (wants(kSbBasic)) {
      a.mask |= kSbBasic;
      a.dev_major = dev_major(m_.sb->dev);
      a.dev_minor = dev_minor(m_.sb->dev);
      a.magic = TRY(Ref<SuperBlock>(m_.sb)->statfs(task_.park())).type;
      a.sb_flags = m_.sb->read_only ? MS_RDONLY : 0;
    }
    if (wants(kMntBasic)) tell_mount();
    if (wants(kPropagateFrom)) a.mask |= kPropagateFrom;
    if (wants(kMntNsId)) {
      a.mask |= kMntNsId;
      a.ns_id = task_.mounts().id;
    }
    if (wants(kSupportedMask)) {
      a.mask |= kSupportedMask;
      a.supported = kAllMasks;
    }
    if (wants(kFsType)) put(kFsType, a.type, std::string(m_.sb->fs_type()));
    if (wants(kMntRoot)) put(kMntRoot, a.root, root_inside(m_));
    if (wants(kMntPoint)) tell_point();
    const std::string options = m_.sb->options();
    if (wants(kMntOptions) && !options.empty()) put(kMntOptions, a.options, options);
    if (wants(kSbSource)) put(kSbSource, a.source, m_.source.empty() ? "none" : m_.source);
    if (wants(kOptionArray) && !options.empty()) {
      std::string array = options;
      for (char& c : array) {
        a.option_count += c == ',';
        if (c == ',') c = '\0';
      }
      ++a.option_count;
      put(kOptionArray, a.option_array, array);
    }
    a.size = static_cast<uint32_t>(sizeof(Answer) + strings.size());
    return {};
  }

  Answer a{};
  std::string strings;

 private:
  bool wants(Mask bit) const { return (asked_ & bit) != 0; }
  void put(Mask bit, uint32_t& offset, const std::string& text) {
    a.mask |= bit;
    offset = static_cast<uint32_t>(strings.size());
    strings += text;
    strings += '\0';
  }
  void tell_mount() {
    a.mask |= kMntBasic;
    const Mount& parent = m_.parent ? *m_.parent : m_;
    a.id = m_.unique_id();
    a.parent_id = parent.unique_id();
    a.old_id = static_cast<uint32_t>(m_.id);
    a.old_parent_id = static_cast<uint32_t>(parent.id);
    a.attributes = mount_attr(m_.flags);
    a.propagation = propagation_of(m_);
    a.peer_group = m_.shared ? static_cast<uint64_t>(m_.shared->id) : 0;
    a.master = m_.master ? static_cast<uint64_t>(m_.master->id) : 0;
  }
  void tell_point() {
    const Path& root = task_.fs().root;
    std::string name =
        task_.kernel.vfs.path_name(Path(Ref<Mount>(const_cast<Mount*>(&m_)), m_.root), root, true);
    // Of one that cannot be reached Linux says nothing.
    if (!name.starts_with("(unreachable)")) put(kMntPoint, a.point, name);
  }

  Task& task_;
  const Mount& m_;
  const uint64_t asked_;
};

constexpr uint64_t kStrings =
    kMntRoot | kMntPoint | kFsType | kMntOptions | kSbSource | kOptionArray;

}  // namespace

Result<int64_t> sys_statmount(Task& task, UserAddr request, UserAddr out, size_t size, Hex flags) {
  if ((flags.value & UINT32_MAX) != 0) return Err(Errno::kINVAL);
  const Request r = TRY(fetch_request(task, request));
  Ref<MountNamespace> ns = TRY(namespace_for(task, r));
  Ref<Mount> m = find_mount(*ns, r.mount_id);
  if (!m) return Err(Errno::kNOENT);
  TRY(check_reachable(task, *m));
  if ((r.param & kStrings) != 0 && size == sizeof(Answer)) return Err(Errno::kOVERFLOW);
  Teller teller(task, *m, r.param);
  TRY(teller.tell());
  if (!teller.strings.empty() && size < sizeof(Answer) + teller.strings.size())
    return Err(Errno::kOVERFLOW);
  std::string all(reinterpret_cast<const char*>(&teller.a), sizeof(Answer));
  all += teller.strings;
  all.resize(std::min(all.size(), size));
  const size_t done = TRY(
      task.mm().copy_out(task.park(), out.addr, std::as_bytes(std::span(all.data(), all.size()))));
  return done == all.size() ? Result<int64_t>(0) : Err(Errno::kFAULT);
}

Result<int64_t> sys_listmount(Task& task, UserAddr request, UserAddr ids, size_t count, Hex raw) {
  constexpr uint32_t kReverse = 1;
  constexpr size_t kAtOnce = 256;
  const auto flags = static_cast<uint32_t>(raw.value);
  if ((flags & ~kReverse) != 0) return Err(Errno::kINVAL);
  if (count > kMaxIds) return Err(Errno::kOVERFLOW);
  const Request r = TRY(fetch_request(task, request));
  if (r.param != 0 && r.param <= Mount::kUniqueBase) return Err(Errno::kINVAL);
  Ref<MountNamespace> ns = TRY(namespace_for(task, r));
  Path top = task.fs().root;
  if (r.mount_id != kRootOfAll) {
    Ref<Mount> m = find_mount(*ns, r.mount_id);
    if (!m) return Err(Errno::kNOENT);
    TRY(check_reachable(task, *m));
    top = Path(m, m->root);
  }
  const bool reverse = (flags & kReverse) != 0;
  uint64_t last = r.param != 0 ? r.param - Mount::kUniqueBase : reverse ? UINT64_MAX : 0;
  std::vector<uint64_t> some;
  size_t done = 0;
  auto flush = [&]() -> Result<> {
    const auto bytes = std::as_bytes(std::span(some));
    const size_t n =
        TRY(task.mm().copy_out(task.park(), ids.addr + done * sizeof(uint64_t), bytes));
    if (n != bytes.size()) return Err(Errno::kFAULT);
    done += some.size();
    some.clear();
    return {};
  };
  for (size_t looked = 1; done + some.size() < count; ++looked) {
    // By id, since the table may change while the copy waits.
    auto& mounts = ns->mounts;
    auto it = reverse ? mounts.lower_bound(last) : mounts.upper_bound(last);
    if (reverse ? it == mounts.begin() : it == mounts.end()) break;
    if (reverse) --it;
    const Mount& m = *it->second;
    last = m.id;
    if (m.unique_id() != r.mount_id && reachable(&m, m.root.get(), top))
      some.push_back(m.unique_id());
    if (some.size() == kAtOnce) TRY(flush());
    if (looked % kAtOnce == 0) task.park().yield();
  }
  TRY(flush());
  return static_cast<int64_t>(done);
}

}  // namespace uk
