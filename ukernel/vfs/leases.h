// File leases (fcntl(2) F_SETLEASE): the holder is told before somebody opens or truncates the file
// in a way that the lease forbids, and is given time to let go.
//
// Ownership: an inode's FileLocks owns its FileLeases; a lease belongs to an open file, which drops
// it before it goes. wait_break() suspends; its caller holds the inode.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

class File;
class Inode;

class FileLeases {
 public:
  // type: F_RDLCK or F_WRLCK. `tell` is called, not suspending, when the lease is to be broken.
  // kAGAIN: the file is open in a way that forbids it, or others hold a lease.
  Result<> set(const File& file, const Inode& inode, int type, std::function<void()> tell);
  Result<> remove(const File& file);  // F_UNLCK; kAGAIN if there is none
  // What F_GETLEASE says: F_UNLCK without one; what it is being broken to.
  int get(const File& file) const;
  void drop(const File& file);

  // For an open or truncation that writes or (`write` false) reads: waits until no lease is in the
  // way, at most for `limit_ns` a lease. kAGAIN if `nonblock`, kRestartSys.
  Result<> wait_break(Park& park, bool write, bool nonblock, uint64_t now_ns, uint64_t limit_ns);

 private:
  struct Lease {
    const File* file;
    int type;
    int target;          // what it is being broken to; its type if it is not
    uint64_t broken_ns;  // then it is taken away
    std::function<void()> tell;
  };
  static bool in_the_way(const Lease& l, bool write);
  void expire(uint64_t now_ns);
  std::vector<Lease>::iterator find(const File& file);
  std::vector<Lease> leases_;
  WaitQueue changed_;
};

}  // namespace uk
