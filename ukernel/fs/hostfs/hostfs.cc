// hostfs: the superblock, descriptors, attributes, lookups, links.
#include "ukernel/fs/hostfs/hostfs.h"

#include <sys/resource.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "hostio/sys/process.h"
#include "ukernel/fs/hostfs/host_inode.h"
#include "ukernel/sched/reactor.h"

namespace uk {
namespace {

constexpr uint64_t kFreshNs = 5'000'000;  // attributes of an unstable tree are believed this long
constexpr unsigned kStatxMask = STATX_BASIC_STATS | STATX_BTIME;
constexpr uint64_t kResolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;

FileTime from_statx(const struct statx_timestamp& t) { return {t.tv_sec, t.tv_nsec}; }

// One component below `dir`. It is no symlink and holds no slash, so it cannot lead outside.
Result<sys::Fd> open_beneath(int dir, const char* name, int flags) {
  struct open_how how {};
  how.flags = static_cast<uint64_t>(flags | O_NOFOLLOW | O_CLOEXEC);
  how.resolve = kResolve;
  Result<sys::Fd> fd = sys::openat2(dir, name, how);
  if (!fd && (fd.error() == Errno::kNOSYS || fd.error() == Errno::kPERM)) {
    return sys::openat(dir, name, flags | O_NOFOLLOW);
  }
  return fd;
}

}  // namespace

HostSuper::HostSuper(Vfs& v, sys::Fd root, const HostFsOptions& o, size_t max_fds)
    : vfs(v), opts(o), root_fd(std::move(root)), privileged(sys::geteuid() == 0), fds(max_fds) {
  read_only = !o.writable;
  dev = v.new_anon_dev();
}

uint64_t HostSuper::guest_dev(uint64_t host_dev) {
  auto [it, fresh] = devs_.emplace(host_dev, 0);
  if (fresh) it->second = devs_.size() == 1 ? dev : vfs.new_anon_dev();
  return it->second;
}

std::unique_ptr<std::byte[]> HostSuper::take_buffer() {
  if (spare_buffer_ != nullptr) return std::move(spare_buffer_);
  return std::make_unique_for_overwrite<std::byte[]>(kBufferBytes);
}

Result<FsStat> HostSuper::statfs(Park&) {
  struct ::statfs host = TRY(sys::fstatfs(root_fd.get()));
  FsStat st;
  st.type = static_cast<uint64_t>(host.f_type);
  st.block_size = static_cast<uint64_t>(host.f_bsize);
  st.blocks = host.f_blocks;
  st.blocks_free = host.f_bfree;
  st.blocks_avail = host.f_bavail;
  st.files = host.f_files;
  st.files_free = host.f_ffree;
  st.fsid = dev;
  st.name_max = std::min<uint64_t>(static_cast<uint64_t>(host.f_namelen), kNameMax);
  return st;
}

Result<> HostSuper::sync(Park& park) {
  if (!opts.writable) return {};
  Result<> r;
  Ref<HostSuper> keep(this);
  sys::Fd fd = TRY(sys::openat(root_fd.get(), ".", O_RDONLY | O_DIRECTORY));
  park.reactor().offload(park, [&] { r = sys::syncfs(fd.get()); });
  return r;
}

Result<Ref<SuperBlock>> make_hostfs(Vfs& vfs, const std::string& host_path,
                                    const HostFsOptions& options, Ref<Inode>* root) {
  sys::Fd fd = TRY(sys::open(host_path.c_str(), O_PATH | O_DIRECTORY));
  struct statx st = TRY(sys::statx(fd.get(), "", AT_EMPTY_PATH, kStatxMask));
  size_t max_fds = options.max_fds;
  if (max_fds == 0) {
    auto limit = sys::getrlimit(RLIMIT_NOFILE);
    max_fds = std::clamp<size_t>(limit ? static_cast<size_t>(limit->rlim_cur / 2) : 512, 16, 4096);
  }
  auto sb = make_ref<HostSuper>(vfs, std::move(fd), options, max_fds);
  *root = make_ref<HostInode>(sb, nullptr, "", st);
  return Ref<SuperBlock>(sb);
}

// ---- inodes

HostInode::HostInode(Ref<HostSuper> sb, Ref<HostInode> parent, std::string name,
                     const struct ::statx& st)
    : Inode(sb), parent_(std::move(parent)), name_(std::move(name)) {
  take(st);
  super().inodes.emplace(key_, this);
}

HostInode::~HostInode() {
  for (Ref<HostHandle>& slot : slots_) super().fds.forget(&slot);
  auto it = super().inodes.find(key_);
  if (it != super().inodes.end() && it->second == this) super().inodes.erase(it);
  // The chain of parents, not by recursion.
  Ref<HostInode> up = std::move(parent_);
  while (up != nullptr && up->ref_count() == 1) {
    Ref<HostInode> next = std::move(up->parent_);
    up = std::move(next);
  }
}

void HostInode::take(const struct ::statx& st) {
  uint64_t host_dev = makedev(st.stx_dev_major, st.stx_dev_minor);
  key_ = {host_dev, st.stx_ino};
  attr_.ino = st.stx_ino;
  attr_.dev = super().guest_dev(host_dev);
  attr_.rdev = make_dev(st.stx_rdev_major, st.stx_rdev_minor);
  attr_.mode = st.stx_mode;
  attr_.nlink = st.stx_nlink;
  attr_.uid = st.stx_uid;
  attr_.gid = st.stx_gid;
  attr_.size = st.stx_size;
  attr_.blocks = st.stx_blocks;
  attr_.block_size = st.stx_blksize;
  attr_.atime = from_statx(st.stx_atime);
  attr_.mtime = from_statx(st.stx_mtime);
  attr_.ctime = from_statx(st.stx_ctime);
  if ((st.stx_mask & STATX_BTIME) != 0) attr_.btime = from_statx(st.stx_btime);
  asked_ns_ = super().vfs.clock().monotonic_ns();
}

void HostInode::seen_as(Ref<HostInode> parent, std::string name) {
  parent_ = std::move(parent);
  name_ = std::move(name);
  nameless_ = false;
}

Result<Ref<HostHandle>> HostInode::handle(Kind kind) {
  if (pinned_ != nullptr) return pinned_;
  Ref<HostHandle>& slot = slots_[static_cast<int>(kind)];
  if (slot != nullptr) {
    super().fds.used(*slot);
    return slot;
  }
  // A descriptor that can write serves readers as well.
  if (kind == Kind::kRead && slots_[2] != nullptr && (slots_[2]->flags() & O_RDWR) != 0) {
    super().fds.used(*slots_[2]);
    return slots_[2];
  }
  if (nameless_) return Err(Errno::kSTALE);
  Ref<HostHandle> h = TRY(open_handle(kind));
  super().fds.keep(h, &slot);
  return h;
}

Result<Ref<HostHandle>> HostInode::parent_handle() {
  if (parent_ == nullptr) return Err(Errno::kSTALE);
  // From the nearest ancestor that is open down to the parent; not by recursion.
  std::vector<HostInode*> closed;
  HostInode* at = parent_.get();
  constexpr size_t kMaxDepth = 4096;
  while (at != nullptr && at->slots_[0] == nullptr && at->parent_ != nullptr) {
    closed.push_back(at);
    if (closed.size() > kMaxDepth) return Err(Errno::kNAMETOOLONG);
    at = at->parent_.get();
  }
  Ref<HostHandle> h = TRY(at->handle(Kind::kPath));
  while (!closed.empty()) {
    h = TRY(closed.back()->handle(Kind::kPath));
    closed.pop_back();
  }
  return h;
}

Result<Ref<HostHandle>> HostInode::open_handle(Kind kind) {
  int flags = 0;
  switch (kind) {
    case Kind::kPath:
      if (type() != S_IFDIR) return Err(Errno::kNOTDIR);
      flags = O_PATH | O_DIRECTORY;
      break;
    case Kind::kRead:
      if (type() != S_IFREG && type() != S_IFDIR) return Err(Errno::kOPNOTSUPP);
      flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | (type() == S_IFDIR ? O_DIRECTORY : 0);
      break;
    case Kind::kWrite:
      if (type() != S_IFREG) return Err(Errno::kOPNOTSUPP);
      if (!super().opts.writable) return Err(Errno::kROFS);
      flags = O_RDWR | O_NONBLOCK | O_NOCTTY;
      break;
  }
  TRY(super().fds.make_room());
  if (parent_ == nullptr) {
    sys::Fd fd = kind == Kind::kPath ? TRY(sys::dup(super().root_fd.get()))
                                     : TRY(sys::openat(super().root_fd.get(), ".", flags));
    return make_ref<HostHandle>(super().fds, std::move(fd), flags);
  }
  Ref<HostHandle> dir = TRY(parent_handle());
  Result<sys::Fd> fd = open_beneath(dir->fd(), name_.c_str(), flags);
  if (!fd && kind == Kind::kWrite && fd.error() == Errno::kACCES) {
    flags = (flags & ~O_ACCMODE) | O_WRONLY;
    fd = open_beneath(dir->fd(), name_.c_str(), flags);
  }
  if (!fd) return Err(fd.error());
  // O_PATH and O_DIRECTORY leave no doubt what it is, and open nothing.
  if (kind != Kind::kPath || !super().opts.stable) TRY(check(fd->get()));
  return make_ref<HostHandle>(super().fds, *std::move(fd), flags);
}

Result<> HostInode::check(int fd) {
  struct statx st = TRY(sys::statx(fd, "", AT_EMPTY_PATH, kStatxMask));
  if ((st.stx_mode & S_IFMT) != type()) return Err(Errno::kSTALE);
  HostKey now{makedev(st.stx_dev_major, st.stx_dev_minor), st.stx_ino};
  if (now != key_) {  // replaced on the host: the name counts
    auto it = super().inodes.find(key_);
    if (it != super().inodes.end() && it->second == this) super().inodes.erase(it);
    super().inodes.emplace(now, this);
  }
  take(st);
  return {};
}

Result<> HostInode::refresh(bool always) {
  if (!always) {
    if (super().opts.stable && !super().opts.writable) return {};
    if (super().vfs.clock().monotonic_ns() - asked_ns_ < kFreshNs) return {};
  }
  if (pinned_ != nullptr) return check(pinned_->fd());
  if (nameless_) return {};
  if (parent_ == nullptr) return check(super().root_fd.get());
  Ref<HostHandle> dir = TRY(parent_handle());
  struct statx st =
      TRY(sys::statx(dir->fd(), name_.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, kStatxMask));
  HostKey now{makedev(st.stx_dev_major, st.stx_dev_minor), st.stx_ino};
  if (now == key_ && (st.stx_mode & S_IFMT) == type()) take(st);
  return {};
}

// Also a tree called stable may be changed by its owner; an open sees the file that has the name
// now.
void HostInode::look_again() {
  constexpr uint64_t kOldNs = 1'000'000'000;
  if (!super().opts.stable || parent_ == nullptr || nameless_ ||
      super().vfs.clock().monotonic_ns() - asked_ns_ < kOldNs) {
    return;
  }
  auto dir = parent_handle();
  if (!dir) return;
  auto st =
      sys::statx((*dir)->fd(), name_.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, kStatxMask);
  if (!st || (st->stx_mode & S_IFMT) != type()) return;
  HostKey now{makedev(st->stx_dev_major, st->stx_dev_minor), st->stx_ino};
  if (now != key_) {  // replaced: descriptors of the old file serve only who mapped them
    for (Ref<HostHandle>& slot : slots_) super().fds.forget(&slot);
    object_ = nullptr;
    auto it = super().inodes.find(key_);
    if (it != super().inodes.end() && it->second == this) super().inodes.erase(it);
    super().inodes.emplace(now, this);
  }
  take(*st);
}

void HostInode::wrote() { (void)refresh(true); }

Result<FileAttr> HostInode::getattr(Park&) {
  (void)refresh(false);  // gone on the host: what was known last
  return attr_;
}

Ref<HostInode> HostInode::known(const struct ::statx& st) {
  auto it = super().inodes.find({makedev(st.stx_dev_major, st.stx_dev_minor), st.stx_ino});
  if (it == super().inodes.end() || it->second->type() != (st.stx_mode & S_IFMT)) return nullptr;
  return Ref<HostInode>(it->second);
}

Result<Ref<HostInode>> HostInode::find(std::string_view name) {
  if (type() != S_IFDIR) return Err(Errno::kNOTDIR);
  std::string host_name(name);
  Ref<HostHandle> dir = TRY(handle(Kind::kPath));
  struct statx st = TRY(
      sys::statx(dir->fd(), host_name.c_str(), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, kStatxMask));
  Ref<HostInode> inode = known(st);
  if (inode == nullptr) {
    return make_ref<HostInode>(Ref<HostSuper>(&super()), Ref<HostInode>(this), std::move(host_name),
                               st);
  }
  inode->take(st);
  // Not into a loop: a bind mount on the host may show a directory below itself.
  for (HostInode* up = this; up != nullptr; up = up->parent_.get()) {
    if (up == inode.get()) return inode;
  }
  inode->seen_as(Ref<HostInode>(this), std::move(host_name));
  return inode;
}

Result<Ref<Inode>> HostInode::lookup(Park&, std::string_view name) {
  return Ref<Inode>(TRY(find(name)));
}

Result<std::string> HostInode::readlink(Park&) {
  if (type() != S_IFLNK) return Err(Errno::kINVAL);
  if (!target_.empty()) return target_;
  Ref<HostHandle> dir = TRY(parent_handle());
  std::string target = TRY(sys::readlinkat(dir->fd(), name_.c_str()));
  if (super().opts.stable && !super().opts.writable) target_ = target;
  return target;
}

}  // namespace uk
