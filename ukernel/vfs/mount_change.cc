// Changes of mounts that stay where they are: flags, propagation (mount(2) MS_REMOUNT and
// MS_SHARED..., mount_setattr(2)).
#include "ukernel/vfs/vfs_impl.h"

namespace uk {

std::string mount_options(const Mount& m) {
  std::string out = (m.flags & kMntRdonly) != 0 ? "ro" : "rw";
  if (m.flags & kMntNosuid) out += ",nosuid";
  if (m.flags & kMntNodev) out += ",nodev";
  if (m.flags & kMntNoexec) out += ",noexec";
  if (m.flags & kMntNoatime) out += ",noatime";
  if (m.flags & kMntNodiratime) out += ",nodiratime";
  if (m.flags & kMntRelatime) out += ",relatime";
  if (m.flags & kMntNosymfollow) out += ",nosymfollow";
  return out;
}

std::string super_options(const SuperBlock& sb) {
  std::string out = sb.read_only ? "ro" : "rw";
  if (std::string more = sb.options(); !more.empty()) out += "," + more;
  return out;
}

namespace {

// Only mounts of our namespace, or of a tree without a place, may be changed.
Result<> may_change(const FsContext& ctx, const Path& at) {
  if (at.mount == nullptr || at.dentry != at.mount->root) return Err(Errno::kINVAL);
  if (at.mount->ns == nullptr || (at.mount->ns != ctx.ns && !at.mount->ns->anonymous))
    return Err(Errno::kINVAL);
  return {};
}

// What a more privileged namespace restricted stays so (mount_namespaces(7)).
Result<> check_locked(const Mount& m, uint32_t flags) {
  constexpr uint32_t kRestrictions = kMntRdonly | kMntNodev | kMntNosuid | kMntNoexec;
  if ((m.locked_flags & kRestrictions & ~flags) != 0) return Err(Errno::kPERM);
  if ((m.locked_flags & kMntAtime) != 0 && ((m.flags ^ flags) & kMntAtime) != 0)
    return Err(Errno::kPERM);
  return {};
}

}  // namespace

Result<> Vfs::remount(Park& park, const FsContext& ctx, const Path& at, uint32_t flags,
                      bool bind_only, const std::string& options) {
  TRY(may_change(ctx, at));
  Ref<Mount> m = at.mount;
  TRY(check_locked(*m, flags));
  if (!bind_only) {
    if (!ctx.cred->has_in(m->sb->user_ns.get(), Cap::kSysAdmin)) return Err(Errno::kPERM);
    if (!options.empty()) TRY(m->sb->reconfigure(options));
    TRY(m->sb->remount(park, (flags & kMntRdonly) != 0));
  }
  m->flags = flags & kMntKept;
  if (m->ns != nullptr) m->ns->notify_changed();
  return {};
}

Result<> Vfs::set_propagation(const FsContext& ctx, const Path& at, Propagation kind,
                              bool recursive) {
  return change_mounts(ctx, at, {.propagation = kind, .recursive = recursive});
}

Result<> Vfs::change_mounts(const FsContext& ctx, const Path& at, const MountChange& change) {
  TRY(may_change(ctx, at));
  std::vector<Mount*> tree =
      change.recursive ? mount_tree(*at.mount) : std::vector<Mount*>{at.mount.get()};
  auto flags_of = [&](const Mount& m) { return (m.flags & ~change.clear) | change.set; };
  for (const Mount* m : tree) TRY(check_locked(*m, flags_of(*m)));
  for (Mount* m : tree) {
    m->flags = flags_of(*m);
    if (change.propagation) impl_->make(*m, *change.propagation);
  }
  at.mount->ns->notify_changed();
  return {};
}

}  // namespace uk
