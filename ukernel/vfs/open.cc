// open(2): the order of checks is Linux's (fs/namei.c describes it; errors are the man page's).
#include <sys/inotify.h>

#include "ukernel/vfs/landlock.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {
namespace {

constexpr int kTmpfileBit = O_TMPFILE & ~O_DIRECTORY;
// F_GETFL shows none of these.
constexpr int kCreationFlags = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC;

// What the access mode and O_TRUNC ask of the file's permissions.
uint32_t wanted_access(int flags) {
  constexpr uint32_t kByMode[] = {kMayRead, kMayWrite, kMayRead | kMayWrite, kMayRead | kMayWrite};
  uint32_t may = kByMode[flags & O_ACCMODE];
  if ((flags & O_TRUNC) != 0) may |= kMayWrite;
  return may;
}

// What Landlock has to allow for an open like this.
uint64_t landlock_rights(const Inode& inode, int flags) {
  const int mode = flags & O_ACCMODE;
  uint64_t rights = 0;
  if (mode != O_WRONLY) {
    rights |= inode.type() == S_IFDIR ? landlock::kReadDir : landlock::kReadFile;
  }
  if (mode != O_RDONLY) rights |= landlock::kWriteFile;
  if ((flags & O_TRUNC) != 0 && inode.type() == S_IFREG) rights |= landlock::kTruncate;
  return rights;
}

// Rights that matter later: they are the file's from now on.
void keep_landlock_rights(File& file, const Path& path, const Cred& cred) {
  const uint64_t granted = landlock_granted(cred, path, landlock::kTruncate | landlock::kIoctlDev);
  const uint32_t type = path.inode()->type();
  file.no_truncate = (granted & landlock::kTruncate) == 0;
  file.no_ioctl = (granted & landlock::kIoctlDev) == 0 && (type == S_IFCHR || type == S_IFBLK);
}

// An O_PATH descriptor: it names a place, and does no I/O.
class PathFile final : public File {
 public:
  PathFile(Path path, int flags) : File(std::move(path), flags) { ++inode()->path_opens; }
  ~PathFile() override { --inode()->path_opens; }
  Result<size_t> read(Park&, IoSink&, uint64_t) override { return Err(Errno::kBADF); }
  Result<size_t> write(Park&, IoSource&, uint64_t&) override { return Err(Errno::kBADF); }
  Result<int64_t> ioctl(Park&, IoctlUser&, uint32_t, uint64_t) override {
    return Err(Errno::kBADF);
  }
  Ref<MemoryObject> memory_object() override { return nullptr; }
};

class Opener {
 public:
  Opener(Vfs& vfs, Vfs::Impl& impl, Park& park, const FsContext& ctx, const OpenRequest& req)
      : vfs_(vfs),
        impl_(impl),
        park_(park),
        ctx_(ctx),
        flags_(req.flags),
        mode_(req.mode),
        walk_(req.walk) {}

  Result<> check_flags();
  Result<Ref<File>> run(WalkFrom from, std::string_view path);

 private:
  Result<Ref<File>> open_tmpfile(WalkFrom from, std::string_view path);
  Result<Path> find(WalkFrom from, std::string_view path);
  Result<Path> create_or_find(Walker& w);
  Result<> may_open(const Path& p);

  Vfs& vfs_;
  Vfs::Impl& impl_;
  Park& park_;
  const FsContext& ctx_;
  int flags_;
  uint32_t mode_;
  uint32_t walk_;
  bool follow_ = true;  // a symbolic link at the end
  bool created_ = false;
};

Result<> Opener::check_flags() {
  if ((flags_ & O_PATH) != 0) flags_ &= O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC;
  if ((flags_ & kTmpfileBit) != 0) {
    if ((flags_ & O_DIRECTORY) == 0 || (flags_ & O_CREAT) != 0) return Err(Errno::kINVAL);
    if ((flags_ & O_ACCMODE) == O_RDONLY) return Err(Errno::kINVAL);
  }
  if ((flags_ & (O_DIRECTORY | O_CREAT)) == (O_DIRECTORY | O_CREAT)) return Err(Errno::kINVAL);
  follow_ = (flags_ & O_NOFOLLOW) == 0 && (flags_ & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
  if ((flags_ & O_DIRECTORY) != 0) walk_ |= kWalkDirectory;
  if (follow_) walk_ |= kWalkFollow;
  return {};
}

// An existing file or a new one.
Result<Path> Opener::find(WalkFrom from, std::string_view path) {
  Walker w(vfs_, impl_, park_, ctx_, walk_);
  TRY(w.start(from, path));
  if ((flags_ & O_CREAT) == 0) return w.walk();
  for (;;) {
    TRY(w.to_parent());
    if (w.last() != Walker::Last::kName) {
      // A magic link ends here too, and may well be a file.
      TRY(w.take_last(true));
      TRY(w.check_end());
      return w.at();
    }
    if (w.trailing_slash()) return Err(Errno::kISDIR);
    Path p = TRY(create_or_find(w));
    if (follow_ && p.inode()->type() == S_IFLNK) {
      TRY(w.follow_link(p));
      continue;
    }
    w.set(p);
    TRY(w.check_end());
    return p;
  }
}

Result<Path> Opener::create_or_find(Walker& w) {
  Path dir = w.at();
  std::string name(w.name());
  Ref<Inode> parent = dir.dentry->inode_ref();
  {
    MutexLock lock(park_, parent->dir_lock);
    Ref<Dentry> d = TRY(impl_.lookup(park_, *dir.dentry, name, true));
    if (d->inode() == nullptr) {
      TRY(landlock_check(*ctx_.cred, dir, landlock::kMakeReg));
      TRY(may_create(park_, vfs_, dir, *ctx_.cred));
      FileAttr dir_attr = TRY(parent->getattr(park_));
      MakeNode node;
      node.mode = S_IFREG | (mode_ & 07777);
      const NewAcls acls = TRY(acls_for_new(park_, *parent, dir_attr, ctx_.umask, &node.mode));
      node.uid = ctx_.cred->fsuid;
      node.gid = (dir_attr.mode & S_ISGID) != 0 ? dir_attr.gid : ctx_.cred->fsgid;
      if ((dir_attr.mode & S_ISGID) != 0 &&
          (node.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
          !ctx_.cred->in_group(node.gid) && !ctx_.cred->has(Cap::kFsetid)) {
        node.mode &= ~static_cast<uint32_t>(S_ISGID);
      }
      Ref<Inode> made = TRY(parent->create(park_, name, node));
      TRY(set_new_acls(park_, *made, acls));
      impl_.fill(*d, std::move(made));
      created_ = true;
    }
    if (created_) {
      vfs_.notify_name(dir, name, IN_CREATE);
      return Path(dir.mount, std::move(d));
    }
    Path p(dir.mount, std::move(d));
    if ((flags_ & O_EXCL) != 0) return Err(Errno::kEXIST);
    if (p.dentry->mount_count == 0) return p;
    Path over = vfs_.follow_mounts(p);
    if (over.mount != p.mount && (w.flags() & kWalkNoXdev) != 0) return Err(Errno::kXDEV);
    return over;
  }
}

Result<> Opener::may_open(const Path& p) {
  uint32_t may = wanted_access(flags_);
  Inode& inode = *p.inode();
  switch (inode.type()) {
    case S_IFLNK:
      return Err(Errno::kLOOP);
    case S_IFDIR:
      if ((may & kMayWrite) != 0) return Err(Errno::kISDIR);
      break;
    case S_IFCHR:
    case S_IFBLK:
      if (p.mount != nullptr && (p.mount->flags & kMntNodev) != 0) return Err(Errno::kACCES);
      [[fallthrough]];
    case S_IFIFO:
    case S_IFSOCK:
      flags_ &= ~O_TRUNC;
      break;
    default:
      break;
  }
  TRY(vfs_.check_permission(park_, inode, *ctx_.cred, may));
  if ((inode.inode_flags() & kInodeAppend) != 0) {
    if ((flags_ & O_ACCMODE) != O_RDONLY && (flags_ & O_APPEND) == 0) return Err(Errno::kPERM);
    if ((flags_ & O_TRUNC) != 0) return Err(Errno::kPERM);
  }
  if ((flags_ & O_NOATIME) != 0) {
    FileAttr attr = TRY(inode.getattr(park_));
    if (!owner_or_capable(attr, *ctx_.cred)) return Err(Errno::kPERM);
  }
  return {};
}

Result<Ref<File>> Opener::open_tmpfile(WalkFrom from, std::string_view path) {
  Path dir = TRY(vfs_.walk(park_, ctx_, from, path, walk_));
  TRY(may_create(park_, vfs_, dir, *ctx_.cred));
  Ref<Inode> parent = dir.dentry->inode_ref();
  FileAttr dir_attr = TRY(parent->getattr(park_));
  MakeNode node;
  node.mode = S_IFREG | (mode_ & 07777);
  const NewAcls acls = TRY(acls_for_new(park_, *parent, dir_attr, ctx_.umask, &node.mode));
  node.uid = ctx_.cred->fsuid;
  node.gid = (dir_attr.mode & S_ISGID) != 0 ? dir_attr.gid : ctx_.cred->fsgid;
  Ref<Inode> inode = TRY(parent->tmpfile(park_, node));
  TRY(set_new_acls(park_, *inode, acls));
  inode->no_link = (flags_ & O_EXCL) != 0;
  // Named after its number, under the directory, and deleted from the start.
  FileAttr attr = TRY(inode->getattr(park_));
  auto d = make_ref<Dentry>(dir.dentry, "#" + std::to_string(attr.ino), inode);
  d->detach();
  const Path place(dir.mount, std::move(d));
  if (ctx_.cred->landlock) TRY(landlock_check(*ctx_.cred, place, landlock_rights(*inode, flags_)));
  Ref<File> file = TRY(vfs_.open_path(park_, place, flags_ & ~kTmpfileBit, *ctx_.cred));
  file->flags |= kTmpfileBit;  // F_GETFL shows it
  if (ctx_.cred->landlock) keep_landlock_rights(*file, place, *ctx_.cred);
  return file;
}

Result<Ref<File>> Opener::run(WalkFrom from, std::string_view path) {
  TRY(check_flags());
  if ((flags_ & kTmpfileBit) != 0) return open_tmpfile(from, path);
  Path p = TRY(find(from, path));
  Ref<Inode> inode = p.dentry->inode_ref();
  if ((flags_ & O_PATH) != 0) return Ref<File>(make_ref<PathFile>(p, flags_ & ~kCreationFlags));
  if ((flags_ & O_CREAT) != 0 && !created_) {
    if ((flags_ & O_EXCL) != 0) return Err(Errno::kEXIST);
    if (inode->type() == S_IFDIR) return Err(Errno::kISDIR);
  }
  if (created_) {
    flags_ &= ~O_TRUNC;
  } else {
    if (inode->type() == S_IFREG && (flags_ & O_TRUNC) != 0) TRY(want_write(p));
    TRY(may_open(p));
  }
  if (ctx_.cred->landlock) TRY(landlock_check(*ctx_.cred, p, landlock_rights(*inode, flags_)));
  if (inode->locks != nullptr && inode->type() == S_IFREG) {
    const bool write = (flags_ & O_ACCMODE) != O_RDONLY || (flags_ & O_TRUNC) != 0;
    TRY(vfs_.break_leases(park_, *inode, write, (flags_ & O_NONBLOCK) != 0));
  }
  Ref<File> file = TRY(vfs_.open_path(park_, p, flags_, *ctx_.cred));
  // Found of what is open: a FIFO has waited for its peer, a device may have refused otherwise.
  if ((flags_ & O_DIRECT) != 0 && inode->type() != S_IFREG && inode->type() != S_IFBLK) {
    return Err(Errno::kINVAL);
  }
  file->created = created_;
  if (ctx_.cred->landlock) keep_landlock_rights(*file, p, *ctx_.cred);
  if ((flags_ & O_TRUNC) != 0 && inode->type() == S_IFREG) {
    if (inode->deny_write > 0) return Err(Errno::kTXTBSY);
    AttrChange change;
    change.size = 0;
    FileAttr attr = TRY(inode->getattr(park_));
    if ((attr.mode & (S_ISUID | S_ISGID)) != 0) change.mode = mode_after_change(attr, &*ctx_.cred);
    change.mtime = change.ctime = vfs_.now();
    TRY(inode->setattr(park_, change));
    vfs_.notify(p, IN_MODIFY);
  }
  vfs_.notify(p, IN_OPEN);
  return file;
}

}  // namespace

Result<Ref<File>> Vfs::open(Park& park, const FsContext& ctx, WalkFrom from, std::string_view path,
                            const OpenRequest& req) {
  return Opener(*this, *impl_, park, ctx, req).run(from, path);
}

Result<Ref<File>> Vfs::open_path(Park& park, const Path& path, int flags, const Cred& cred) {
  Ref<Inode> inode = path.dentry->inode_ref();
  if (inode == nullptr) return Err(Errno::kNOENT);
  uint32_t type = inode->type();
  bool regular = type == S_IFREG;
  bool writes = (flags & O_ACCMODE) != O_RDONLY;
  if (writes && regular) {
    if (inode->deny_write > 0) return Err(Errno::kTXTBSY);
    TRY(want_write(path));
  }
  // Until the file counts itself, the inode must not become an executing one.
  if (writes && regular) ++inode->writers;
  Result<Ref<File>> file = inode->open(park, path, flags, cred);
  if (writes && regular) --inode->writers;
  if (!file && file.error() == Errno::kNOSYS) {
    switch (type) {
      case S_IFCHR:
      case S_IFBLK:
        // The nodes of devpts are the kernel's, whoever mounted it.
        if (inode->sb().user_ns != nullptr && inode->sb().fs_type() != "devpts")
          return Err(Errno::kACCES);
        file =
            open_device(park, path, flags, cred, type == S_IFBLK, TRY(inode->getattr(park)).rdev);
        break;
      case S_IFIFO:
        file = impl_->fifo ? impl_->fifo(park, path, flags, cred)
                           : Result<Ref<File>>(Err(Errno::kNXIO));
        break;
      case S_IFLNK:
        return Err(Errno::kLOOP);
      default:
        return Err(Errno::kNXIO);
    }
  }
  if (!file) return file;
  (*file)->flags = ((*file)->flags | flags) & ~kCreationFlags;
  (*file)->cred = Ref<const Cred>(&cred);
  (*file)->opened_by_ = this;
  if (writes && regular) TRY((*file)->begin_write());
  return file;
}

Result<Ref<File>> Vfs::open_exec(Park& park, const FsContext& ctx, WalkFrom from,
                                 std::string_view path, uint32_t walk_flags) {
  Path p = TRY(walk(park, ctx, from, path, walk_flags));
  Ref<Inode> inode = p.dentry->inode_ref();
  if (inode->type() == S_IFLNK) return Err(Errno::kLOOP);
  if (inode->type() != S_IFREG) return Err(Errno::kACCES);
  if (p.mount != nullptr && (p.mount->flags & kMntNoexec) != 0) return Err(Errno::kACCES);
  TRY(check_permission(park, *inode, *ctx.cred, kMayExec));
  TRY(landlock_check(*ctx.cred, p, landlock::kExecute | landlock::kReadFile));
  if (inode->writers > 0) return Err(Errno::kTXTBSY);
  // The right to execute is enough: the program's bytes are read with the kernel's own authority.
  Ref<File> file = TRY(open_path(park, p, O_RDONLY, *ctx.cred));
  notify(p, IN_OPEN | kOpenedToExecute);
  return file;
}

}  // namespace uk
