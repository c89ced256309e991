// /proc/kmsg (proc_kmsg(5)): what syslog(2)'s SYSLOG_ACTION_READ gives, as a file. All its readers
// share one place in the log, that of syslog(2).
#include <poll.h>

#include "ukernel/fs/procfs/proc_node.h"
#include "ukernel/vfs/kernel_log.h"

namespace uk::procfs {
namespace {

constexpr size_t kPiece = 64 << 10;  // more takes another read

class KmsgFile final : public File {
 public:
  KmsgFile(Path path, int flags, std::shared_ptr<KernelLog> log)
      : File(std::move(path), flags), log_(std::move(log)) {}

  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    const size_t size = std::min(to.remaining(), kPiece);
    if (nonblock() && log_->unread_bytes() == 0) return Err(Errno::kAGAIN);
    if (size == 0) return size_t{0};
    const std::string text = TRY(log_->take(park, size, true));
    return to.put(park, std::as_bytes(std::span(text)));
  }
  Result<size_t> write(Park&, IoSource&, uint64_t&) override { return Err(Errno::kIO); }

  uint32_t ready() override { return log_->unread_bytes() != 0 ? POLLIN | POLLRDNORM : 0; }
  WaitQueue* poll_queue() override { return &log_->arrived; }

 private:
  const std::shared_ptr<KernelLog> log_;
};

class KmsgNode final : public Node {
 public:
  using Node::Node;
  Result<Ref<File>> open(Park&, const Path& path, int flags, const Cred& cred) override {
    if (!cred.has(Cap::kSyslog)) return Err(Errno::kPERM);
    return Ref<File>(make_ref<KmsgFile>(path, flags, kernel().guest_log));
  }
};

}  // namespace

Ref<Node> make_kmsg(const Node& dir, const Entry& entry, uint64_t ino) {
  return make_ref<KmsgNode>(dir.sb_ref(), &entry, entry.mode, ino, nullptr);
}

}  // namespace uk::procfs
