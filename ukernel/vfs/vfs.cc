// The Vfs object: registries, devices by number, time, notification.
#include "ukernel/vfs/vfs.h"

#include <algorithm>

#include "ukernel/vfs/file_locks.h"
#include "ukernel/vfs/inotify.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {

Vfs::Vfs(PhysMemory& mem, Clock& clock, Log& log)
    : mem_(mem), clock_(clock), log_(log), impl_(std::make_unique<Impl>()) {}
Vfs::~Vfs() = default;

void Vfs::register_fs(FsType type) { impl_->types.push_back(std::move(type)); }
const std::vector<FsType>& Vfs::fs_types() const { return impl_->types; }

void Vfs::register_device(bool block, uint32_t major, uint32_t minor, uint32_t count,
                          std::string name, DeviceOpener opener) {
  impl_->devices.push_back({block, major, minor, count, std::move(name), std::move(opener)});
}

Result<Ref<File>> Vfs::open_device(Park& park, const Path& path, int flags, const Cred& cred,
                                   bool block, uint64_t rdev) {
  uint32_t major = dev_major(rdev), minor = dev_minor(rdev);
  for (const DeviceRange& d : impl_->devices) {
    if (d.block != block || d.major != major || minor < d.minor || minor - d.minor >= d.count)
      continue;
    auto open = d.opener.open;  // a copy: the table may grow while it runs
    return open(park, path, flags, cred, rdev);
  }
  return Err(Errno::kNXIO);
}

std::vector<Vfs::DeviceName> Vfs::device_names(bool block) const {
  std::vector<DeviceName> out;
  for (const DeviceRange& d : impl_->devices) {
    if (d.block != block) continue;
    bool known = std::any_of(out.begin(), out.end(), [&](const DeviceName& n) {
      return n.major == d.major && n.name == d.name;
    });
    if (!known) out.push_back({d.major, d.name});
  }
  std::sort(out.begin(), out.end(),
            [](const DeviceName& a, const DeviceName& b) { return a.major < b.major; });
  return out;
}

void Vfs::set_fifo_opener(FifoOpener opener) { impl_->fifo = std::move(opener); }

LockGraph& Vfs::lock_graph() { return impl_->lock_graph; }
FileTime Vfs::now() { return file_time(clock_.realtime_ns()); }
uint64_t Vfs::new_anon_dev() { return make_dev(0, impl_->next_anon_minor++); }

void Vfs::shrink_names(bool all) {
  if (all) impl_->names.clear();
}

bool Vfs::wants_atime(const Path& path, int open_flags, const FileAttr& attr) {
  if ((open_flags & O_NOATIME) != 0) return false;
  if (path.mount != nullptr) {
    if (path.mount->read_only() || (path.mount->flags & kMntNoatime) != 0) return false;
    if ((path.mount->flags & kMntNodiratime) != 0 && path.inode()->type() == S_IFDIR) return false;
    if ((path.mount->flags & kMntRelatime) == 0 && !path.mount->internal) return true;
  }
  auto not_after = [](const FileTime& a, const FileTime& b) {
    return a.sec != b.sec ? a.sec < b.sec : a.nsec <= b.nsec;
  };
  constexpr int64_t kDay = 24 * 3600;
  return not_after(attr.atime, attr.mtime) || not_after(attr.atime, attr.ctime) ||
         now().sec - attr.atime.sec >= kDay;
}

Result<> Vfs::break_leases(Park& park, Inode& inode, bool write, bool nonblock) {
  if (inode.locks == nullptr) return {};
  Ref<Inode> keep(&inode);
  return inode.locks->leases.wait_break(park, write, nonblock, clock_.monotonic_ns(),
                                        settings.lease_break_s * kNsPerSec);
}

void Vfs::notify(const Path& path, uint32_t in_mask) {
  Inode* inode = path.inode();
  if (inode == nullptr) return;
  if (impl_->fanotify->any()) impl_->fanotify->file_event(path, in_mask);
  in_mask &= ~kOpenedToExecute;
  Dentry* parent = path.dentry->parent();
  Inode* dir = parent != nullptr ? parent->inode() : nullptr;
  const uint32_t unlinked = path.dentry->unlinked() ? kUnlinkedName : 0u;
  if (inode->watches == nullptr && (dir == nullptr || dir->watches == nullptr)) return;
  if (inode->type() == S_IFDIR) in_mask |= IN_ISDIR;
  Ref<Inode> keep(inode), keep_dir(dir);
  if (dir != nullptr && dir->watches != nullptr) {
    dir->watches->event(in_mask | unlinked, 0, path.dentry->name());
  }
  if (inode->watches != nullptr) inode->watches->event(in_mask, 0, {});
}

void Vfs::notify_name(const Path& dir, std::string_view name, uint32_t in_mask, uint32_t cookie) {
  Inode* inode = dir.inode();
  if (inode == nullptr) return;
  if (impl_->fanotify->any()) impl_->fanotify->name_event(dir, name, in_mask);
  if (inode->watches == nullptr) return;
  Ref<Inode> keep(inode);
  inode->watches->event(in_mask, cookie, name);
}

void Vfs::notify_removed(Inode& inode) {
  inode.dead = true;
  if (inode.opens == 0) notify_gone(inode);
}

void Vfs::notify_moved(Inode& inode) {
  if (impl_->fanotify->any()) impl_->fanotify->self_event(inode, IN_MOVE_SELF);
  if (inode.watches != nullptr) inode.watches->event(IN_MOVE_SELF, 0, {});
}

void Vfs::notify_gone(Inode& inode) {
  Ref<Inode> keep(&inode);
  if (impl_->fanotify->any()) impl_->fanotify->self_event(inode, IN_DELETE_SELF);
  if (inode.watches != nullptr) inode.watches->inode_gone();
}

}  // namespace uk
