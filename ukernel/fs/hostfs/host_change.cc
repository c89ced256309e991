// hostfs: changes of a writable tree, extended attributes.
#include <stdio.h>
#include <unistd.h>

#include "ukernel/fs/hostfs/host_inode.h"

namespace uk {
namespace {

std::string fd_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

timespec to_timespec(const std::optional<FileTime>& t) {
  if (!t) return {0, UTIME_OMIT};
  return {t->sec, static_cast<long>(t->nsec)};
}

}  // namespace

Result<> HostInode::setattr(Park&, const AttrChange& change) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  if (change.size) {
    Ref<HostHandle> h = TRY(handle(Kind::kWrite));
    uint64_t old_size = attr_.size;
    TRY(sys::ftruncate(h->fd(), *change.size));
    attr_.size = *change.size;
    drop_mappings(old_size);
  }
  if (!change.mode && !change.uid && !change.gid && !change.atime && !change.mtime) {
    wrote();
    return {};
  }
  // By name below the parent; a file without a name by its descriptor.
  Ref<HostHandle> dir;
  std::string name = ".";
  if (pinned_ != nullptr) {
    name = fd_path(pinned_->fd());
  } else if (parent_ != nullptr) {
    dir = TRY(parent_handle());
    name = name_;
  }
  int at = dir != nullptr ? dir->fd() : parent_ == nullptr ? super().root_fd.get() : AT_FDCWD;
  int follow = pinned_ != nullptr ? 0 : AT_SYMLINK_NOFOLLOW;
  if (change.uid || change.gid) {
    TRY(sys::fchownat(at, name.c_str(), change.uid.value_or(~0u), change.gid.value_or(~0u),
                      follow));
  }
  if (change.mode) {
    if (type() == S_IFLNK) return Err(Errno::kOPNOTSUPP);
    if (type() == S_IFREG || type() == S_IFDIR) {
      Ref<HostHandle> h = pinned_;
      if (h == nullptr) {
        struct open_how how {};
        how.flags = O_PATH | O_NOFOLLOW;
        how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH;
        h = make_ref<HostHandle>(super().fds, TRY(sys::openat2(at, name.c_str(), how)), O_PATH);
      }
      TRY(sys::fchmodat(AT_FDCWD, fd_path(h->fd()).c_str(), *change.mode));
    } else {
      return Err(Errno::kOPNOTSUPP);
    }
  }
  if (change.atime || change.mtime) {
    timespec times[2] = {to_timespec(change.atime), to_timespec(change.mtime)};
    TRY(sys::utimensat(at, name.c_str(), times, follow));
  }
  wrote();
  return {};
}

// A new name has the owner and mode asked for, whatever the host's umask; an unprivileged kernel
// cannot give files away: they stay its user's.
Result<> HostInode::settle_new(const char* name, const MakeNode& node) {
  Ref<HostHandle> dir = TRY(handle(Kind::kPath));
  if (super().privileged) {
    TRY(sys::fchownat(dir->fd(), name, node.uid, node.gid, AT_SYMLINK_NOFOLLOW));
  }
  if (is_type(node.mode, S_IFLNK)) return {};
  struct open_how how {};
  how.flags = O_PATH | O_NOFOLLOW;
  how.resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH;
  sys::Fd fd = TRY(sys::openat2(dir->fd(), name, how));
  return sys::fchmodat(AT_FDCWD, fd_path(fd.get()).c_str(), node.mode & 07777);
}

Result<Ref<Inode>> HostInode::create(Park&, std::string_view name, const MakeNode& node) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  std::string n(name);
  Ref<HostHandle> dir = TRY(handle(Kind::kPath));
  switch (node.mode & S_IFMT) {
    case S_IFREG:
      TRY(sys::openat(dir->fd(), n.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0600));
      break;
    case S_IFDIR:
      TRY(sys::mkdirat(dir->fd(), n.c_str(), 0700));
      break;
    case S_IFLNK:
      TRY(sys::symlinkat(node.symlink_target.c_str(), dir->fd(), n.c_str()));
      break;
    case S_IFIFO:
    case S_IFSOCK:
      TRY(sys::mknodat(dir->fd(), n.c_str(), (node.mode & S_IFMT) | 0600, 0));
      break;
    default:
      return Err(Errno::kPERM);  // no device nodes on the host
  }
  Result<> settled = settle_new(n.c_str(), node);
  if (!settled) {
    (void)sys::unlinkat(dir->fd(), n.c_str(), is_type(node.mode, S_IFDIR) ? AT_REMOVEDIR : 0);
    return Err(settled.error());
  }
  wrote();
  return Ref<Inode>(TRY(find(name)));
}

Result<> HostInode::link(Park&, std::string_view name, Inode& target) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  auto& inode = static_cast<HostInode&>(target);
  Ref<HostHandle> to = TRY(handle(Kind::kPath));
  std::string n(name);
  if (inode.pinned_ != nullptr) {
    TRY(sys::linkat(AT_FDCWD, fd_path(inode.pinned_->fd()).c_str(), to->fd(), n.c_str(),
                    AT_SYMLINK_FOLLOW));
    inode.seen_as(Ref<HostInode>(this), n);
  } else {
    Ref<HostHandle> from = TRY(inode.parent_handle());
    TRY(sys::linkat(from->fd(), inode.name_.c_str(), to->fd(), n.c_str(), 0));
  }
  inode.wrote();
  wrote();
  return {};
}

Result<> HostInode::unlink(Park&, std::string_view name, Inode& victim) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  auto& inode = static_cast<HostInode&>(victim);
  Ref<HostHandle> dir = TRY(handle(Kind::kPath));
  std::string n(name);
  bool is_its_name = inode.parent_.get() == this && inode.name_ == name;
  // An open file must outlive its name.
  Ref<HostHandle> pin;
  if (inode.opens > 0 && inode.type() == S_IFREG && inode.pinned_ == nullptr && is_its_name) {
    auto h = inode.handle(Kind::kWrite);
    if (!h) h = inode.handle(Kind::kRead);
    if (h) pin = *h;
  }
  TRY(sys::unlinkat(dir->fd(), n.c_str(), 0));
  if (is_its_name) {
    inode.nameless_ = true;
    inode.pinned_ = std::move(pin);
    if (inode.pinned_ != nullptr) {
      (void)inode.refresh(true);
    } else if (inode.attr_.nlink > 0) {
      --inode.attr_.nlink;
    }
  } else {
    inode.wrote();
  }
  wrote();
  return {};
}

Result<> HostInode::rmdir(Park&, std::string_view name, Inode& victim) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  auto& inode = static_cast<HostInode&>(victim);
  Ref<HostHandle> dir = TRY(handle(Kind::kPath));
  TRY(sys::unlinkat(dir->fd(), std::string(name).c_str(), AT_REMOVEDIR));
  inode.nameless_ = true;
  inode.attr_.nlink = 0;
  wrote();
  return {};
}

Result<> HostInode::rename(Park&, std::string_view old_name, Inode& moved, Inode& new_dir,
                           std::string_view new_name, Inode* replaced, uint32_t flags) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  constexpr uint32_t kWhiteout = 4, kExchange = 2;
  if ((flags & kWhiteout) != 0) return Err(Errno::kINVAL);
  auto& to = static_cast<HostInode&>(new_dir);
  auto& inode = static_cast<HostInode&>(moved);
  Ref<HostHandle> from_fd = TRY(handle(Kind::kPath)), to_fd = TRY(to.handle(Kind::kPath));
  std::string from_name(old_name), to_name(new_name);
  auto* other = static_cast<HostInode*>(replaced);
  Ref<HostHandle> pin;
  if (other != nullptr && other->opens > 0 && other->type() == S_IFREG &&
      other->pinned_ == nullptr && (flags & kExchange) == 0) {
    auto h = other->handle(Kind::kRead);
    if (h) pin = *h;
  }
  TRY(sys::renameat2(from_fd->fd(), from_name.c_str(), to_fd->fd(), to_name.c_str(), flags));
  if (other != nullptr && (flags & kExchange) != 0) {
    other->seen_as(Ref<HostInode>(this), from_name);
  } else if (other != nullptr && other->parent_.get() == &to && other->name_ == to_name) {
    other->nameless_ = true;
    other->pinned_ = std::move(pin);
    if (other->attr_.nlink > 0) --other->attr_.nlink;
  }
  inode.seen_as(Ref<HostInode>(&to), to_name);
  inode.wrote();
  wrote();
  if (&to != this) to.wrote();
  return {};
}

Result<Ref<Inode>> HostInode::tmpfile(Park&, const MakeNode& node) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  TRY(super().fds.make_room());
  Ref<HostHandle> dir = TRY(handle(Kind::kPath));
  sys::Fd fd = TRY(sys::openat(dir->fd(), ".", O_TMPFILE | O_RDWR, node.mode & 0777));
  if (super().privileged) TRY(sys::fchown(fd.get(), node.uid, node.gid));
  TRY(sys::fchmod(fd.get(), node.mode & 07777));
  struct statx st = TRY(sys::statx(fd.get(), "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME));
  auto inode = make_ref<HostInode>(Ref<HostSuper>(&super()), nullptr, "", st);
  inode->nameless_ = true;
  inode->pinned_ = make_ref<HostHandle>(super().fds, std::move(fd), O_RDWR);
  return Ref<Inode>(std::move(inode));
}

// ---- extended attributes, of files and directories only

Result<std::string> HostInode::getxattr(Park&, std::string_view name) {
  if (type() != S_IFREG && type() != S_IFDIR) return Err(Errno::kNODATA);
  Ref<HostHandle> h = TRY(handle(Kind::kRead));
  std::string n(name), value(256, '\0');
  for (;;) {
    auto got = sys::fgetxattr(h->fd(), n.c_str(),
                              std::as_writable_bytes(std::span(value.data(), value.size())));
    if (got) {
      value.resize(*got);
      return value;
    }
    constexpr size_t kMaxValue = 65536;
    if (got.error() != Errno::kRANGE || value.size() >= kMaxValue) return Err(got.error());
    value.resize(kMaxValue);
  }
}

Result<std::vector<std::string>> HostInode::listxattr(Park&) {
  std::vector<std::string> names;
  if (type() != S_IFREG && type() != S_IFDIR) return names;
  Ref<HostHandle> h = TRY(handle(Kind::kRead));
  std::string list(65536, '\0');
  auto got = sys::flistxattr(h->fd(), std::span(list.data(), list.size()));
  if (!got) {
    if (got.error() == Errno::kOPNOTSUPP) return names;
    return Err(got.error());
  }
  list.resize(*got);
  for (size_t at = 0; at < list.size();) {
    std::string_view name(list.data() + at);
    at += name.size() + 1;
    if (!name.empty()) names.emplace_back(name);
  }
  return names;
}

Result<> HostInode::setxattr(Park&, std::string_view name, std::string_view value, int flags) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  Ref<HostHandle> h = TRY(handle(Kind::kRead));
  return sys::fsetxattr(h->fd(), std::string(name).c_str(),
                        std::as_bytes(std::span(value.data(), value.size())), flags);
}

Result<> HostInode::removexattr(Park&, std::string_view name) {
  if (!super().opts.writable) return Err(Errno::kROFS);
  Ref<HostHandle> h = TRY(handle(Kind::kRead));
  return sys::fremovexattr(h->fd(), std::string(name).c_str());
}

}  // namespace uk
