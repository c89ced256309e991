// rename(2), renameat2(2).
#include <stdio.h>
#include <sys/inotify.h>

#include <optional>

#include "ukernel/vfs/inotify.h"
#include "ukernel/vfs/landlock.h"
#include "ukernel/vfs/vfs_impl.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#define RENAME_WHITEOUT 4
#endif

namespace uk {
namespace {

bool is_below(const Dentry& d, const Dentry& ancestor) {
  for (const Dentry* at = &d; at != nullptr; at = at->parent()) {
    if (at == &ancestor) return true;
  }
  return false;
}

// The locks of both directories; two renames between directories never meet.
class RenameLocks {
 public:
  RenameLocks(Park& park, Mutex& all, Inode& a, Inode& b) {
    if (&a == &b) {
      first_.emplace(park, a.dir_lock);
      return;
    }
    all_.emplace(park, all);
    Inode& low = &a < &b ? a : b;
    Inode& high = &a < &b ? b : a;
    first_.emplace(park, low.dir_lock);
    second_.emplace(park, high.dir_lock);
  }

 private:
  std::optional<MutexLock> all_, first_, second_;
};

struct Side {
  Vfs::Parent parent;
  Ref<Inode> dir;
  Ref<Dentry> d;
  bool is_dir() const { return d->inode() != nullptr && d->inode()->type() == S_IFDIR; }
};

// The rules about names and types, before permissions.
Result<> check_sides(const Side& from, const Side& to, uint32_t flags) {
  bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if ((flags & RENAME_NOREPLACE) != 0 && to.d->inode() != nullptr) return Err(Errno::kEXIST);
  if (exchange) {
    if (to.d->inode() == nullptr) return Err(Errno::kNOENT);
    if (!to.is_dir() && to.parent.trailing_slash) return Err(Errno::kNOTDIR);
  }
  if (!from.is_dir()) {
    if (from.parent.trailing_slash) return Err(Errno::kNOTDIR);
    if (!exchange && to.parent.trailing_slash) return Err(Errno::kNOTDIR);
  }
  if (is_below(*to.parent.dir.dentry, *from.d)) return Err(Errno::kINVAL);
  if (is_below(*from.parent.dir.dentry, *to.d)) {
    return Err(exchange ? Errno::kINVAL : Errno::kNOTEMPTY);
  }
  return {};
}

Result<> check_rights(Park& park, Vfs& vfs, const Side& from, const Side& to, const Cred& cred,
                      uint32_t flags) {
  bool exchange = (flags & RENAME_EXCHANGE) != 0;
  TRY(may_delete(park, vfs, from.parent.dir, *from.d, cred, from.is_dir()));
  if (to.d->inode() == nullptr) {
    TRY(may_create(park, vfs, to.parent.dir, cred));
  } else {
    TRY(may_delete(park, vfs, to.parent.dir, *to.d, cred, exchange ? to.is_dir() : from.is_dir()));
  }
  // A directory that moves has its ".." rewritten.
  if (from.dir != to.dir) {
    if (from.is_dir()) {
      TRY(vfs.check_permission(park, *from.d->inode(), cred, kMayWrite));
    }
    if (exchange && to.is_dir()) {
      TRY(vfs.check_permission(park, *to.d->inode(), cred, kMayWrite));
    }
  }
  if (from.d->mount_count != 0 || to.d->mount_count != 0) return Err(Errno::kBUSY);
  return {};
}

void exchange_dentries(Dentry& a, Dentry& b) {
  Ref<Dentry> a_parent(a.parent()), b_parent(b.parent());
  std::string a_name = a.name(), b_name = b.name();
  a.detach();
  b.move_to(std::move(a_parent), std::move(a_name));
  a.move_to(std::move(b_parent), std::move(b_name));
}

}  // namespace

Result<> Vfs::rename(Park& park, const FsContext& ctx, WalkFrom from1, std::string_view path1,
                     WalkFrom from2, std::string_view path2, uint32_t flags) {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) != 0 ||
      ((flags & RENAME_EXCHANGE) != 0 && (flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) != 0)) {
    return Err(Errno::kINVAL);
  }
  if ((flags & RENAME_WHITEOUT) != 0 && !ctx.cred->has(Cap::kMknod)) return Err(Errno::kPERM);
  Side from{TRY(walk_parent(park, ctx, from1, path1)), {}, {}};
  Side to{TRY(walk_parent(park, ctx, from2, path2)), {}, {}};
  if (from.parent.dir.mount != to.parent.dir.mount) return Err(Errno::kXDEV);
  if (from.parent.last != Parent::Last::kName) return Err(Errno::kBUSY);
  if (to.parent.last != Parent::Last::kName) {
    return Err((flags & RENAME_NOREPLACE) != 0 ? Errno::kEXIST : Errno::kBUSY);
  }
  TRY(want_write(from.parent.dir));
  from.dir = from.parent.dir.dentry->inode_ref();
  to.dir = to.parent.dir.dentry->inode_ref();

  Ref<Inode> moved, replaced;
  {
    RenameLocks locks(park, impl_->rename_lock, *from.dir, *to.dir);
    from.d = TRY(impl_->lookup(park, *from.parent.dir.dentry, from.parent.name, true));
    if (from.d->inode() == nullptr) return Err(Errno::kNOENT);  // before the other name is judged
    to.d = TRY(impl_->lookup(park, *to.parent.dir.dentry, to.parent.name, true));
    TRY(check_sides(from, to, flags));
    moved = from.d->inode_ref();
    replaced = to.d->inode_ref();
    if (moved == replaced) return {};
    TRY(landlock_check_move(*ctx.cred, from.parent.dir, *from.d, to.parent.dir,
                            replaced ? to.d.get() : nullptr, true, (flags & RENAME_EXCHANGE) != 0));
    TRY(check_rights(park, *this, from, to, *ctx.cred, flags));
    TRY(from.dir->rename(park, from.parent.name, *moved, *to.dir, to.parent.name, replaced.get(),
                         flags));
    if ((flags & RENAME_EXCHANGE) != 0) {
      exchange_dentries(*from.d, *to.d);
    } else {
      impl_->drop(*to.d);
      from.d->move_to(to.parent.dir.dentry, to.parent.name);
    }
  }
  uint32_t is_dir = moved->type() == S_IFDIR ? IN_ISDIR : 0u;
  uint32_t cookie = impl_->next_cookie++;
  const uint32_t within = from.dir == to.dir ? kRenamedWithin : 0u;
  notify_name(from.parent.dir, from.parent.name, IN_MOVED_FROM | is_dir | within, cookie);
  notify_name(to.parent.dir, to.parent.name, IN_MOVED_TO | is_dir, cookie);
  notify_moved(*moved);
  if (replaced == nullptr) return {};
  if ((flags & RENAME_EXCHANGE) != 0) {
    is_dir = replaced->type() == S_IFDIR ? IN_ISDIR : 0u;
    cookie = impl_->next_cookie++;
    notify_name(to.parent.dir, to.parent.name, IN_MOVED_FROM | is_dir, cookie);
    notify_name(from.parent.dir, from.parent.name, IN_MOVED_TO | is_dir, cookie);
    return {};
  }
  auto attr = replaced->getattr(park);
  if (replaced->type() == S_IFDIR || !attr || attr->nlink == 0) notify_removed(*replaced);
  return {};
}

}  // namespace uk
