#include "ukernel/vfs/leases.h"

#include <fcntl.h>

#include <algorithm>

#include "ukernel/sched/reactor.h"
#include "ukernel/vfs/file.h"

namespace uk {

std::vector<FileLeases::Lease>::iterator FileLeases::find(const File& file) {
  return std::find_if(leases_.begin(), leases_.end(),
                      [&](const Lease& l) { return l.file == &file; });
}

Result<> FileLeases::set(const File& file, const Inode& inode, int type,
                         std::function<void()> tell) {
  if (type == F_RDLCK && inode.writers > 0) return Err(Errno::kAGAIN);
  // Nobody else has it open, and that counts (memfd_create(2) makes files that do not).
  if (type == F_WRLCK &&
      (inode.opens - inode.path_opens != 1 || (file.can_write() && inode.writers != 1)))
    return Err(Errno::kAGAIN);
  for (const Lease& l : leases_) {
    if (l.file == &file) continue;
    if (type == F_WRLCK || l.target == F_UNLCK) return Err(Errno::kAGAIN);
  }
  auto own = find(file);
  // Somebody waits to write: nothing but giving it up helps.
  if (own != leases_.end() && own->target == F_UNLCK && type == F_RDLCK) return Err(Errno::kAGAIN);
  if (own == leases_.end()) {
    leases_.push_back({&file, type, type, 0, std::move(tell)});
    return {};
  }
  own->type = own->target = type;
  own->tell = std::move(tell);
  changed_.wake_all();
  return {};
}

Result<> FileLeases::remove(const File& file) {
  if (find(file) == leases_.end()) return Err(Errno::kAGAIN);
  drop(file);
  return {};
}

int FileLeases::get(const File& file) const {
  for (const Lease& l : leases_)
    if (l.file == &file) return l.target;
  return F_UNLCK;
}

void FileLeases::drop(const File& file) {
  if (std::erase_if(leases_, [&](const Lease& l) { return l.file == &file; }) != 0)
    changed_.wake_all();
}

bool FileLeases::in_the_way(const Lease& l, bool write) { return write || l.type == F_WRLCK; }

void FileLeases::expire(uint64_t now_ns) {
  for (Lease& l : leases_)
    if (l.target != l.type && l.broken_ns <= now_ns) l.type = l.target;
  std::erase_if(leases_, [](const Lease& l) { return l.type == F_UNLCK; });
}

Result<> FileLeases::wait_break(Park& park, bool write, bool nonblock, uint64_t now_ns,
                                uint64_t limit_ns) {
  const int target = write ? F_UNLCK : F_RDLCK;
  bool any = false;
  std::vector<std::function<void()>> tell;
  for (Lease& l : leases_) {
    if (!in_the_way(l, write)) continue;
    any = true;
    // A lease that is to be given up altogether cannot be asked for more.
    if (l.target == F_UNLCK || l.target == target) continue;
    l.target = target;
    l.broken_ns = now_ns + limit_ns;
    tell.push_back(l.tell);
  }
  for (auto& t : tell) t();
  if (!any) return {};
  if (nonblock) return Err(Errno::kAGAIN);
  auto blocked = [&] {
    return std::any_of(leases_.begin(), leases_.end(),
                       [&](const Lease& l) { return in_the_way(l, write); });
  };
  while (blocked()) {
    uint64_t first = UINT64_MAX;
    for (const Lease& l : leases_)
      if (in_the_way(l, write)) first = std::min(first, l.broken_ns);
    Result<> r = changed_.wait(
        park, [&] { return !blocked(); }, WaitMode::kInterruptible, Deadline{first}, "break_lease");
    if (r) break;
    if (r.error() != Errno::kTIMEDOUT) return r;
    expire(first);
  }
  return {};
}

}  // namespace uk
