// A guest file over a host descriptor that the caller of ukernel gave us: stdin, stdout or stderr
// that is a pipe, a file or a socket. Reads and writes are the host's, through the reactor's ring,
// so nothing blocks the reactor; the host description's own flags (O_NONBLOCK, position) are shared
// with the caller and left alone.
//
// Ownership: the descriptor stays the caller's. read() and write() suspend. Data read is input of
// the guest's: untrusted.
#pragma once

#include <memory>

#include "ukernel/sched/reactor.h"
#include "ukernel/vfs/file.h"

namespace uk {

// The inode behind such a file: attributes are the host's fstat(2).
Ref<Inode> make_stdio_inode(int host_fd);

class StdioFile final : public File {
 public:
  // `flags`: the access mode as the host's fcntl(F_GETFL) tells it.
  StdioFile(Reactor& reactor, Path path, int host_fd, int flags);
  ~StdioFile() override;

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  uint32_t ready() override;
  WaitQueue* poll_queue() override;

 private:
  class Watch;
  Reactor& reactor_;
  const int host_fd_;
  const bool regular_;  // a host file: always ready, never waited for
  WaitQueue queue_;
  std::unique_ptr<Watch> watch_;
};

}  // namespace uk
