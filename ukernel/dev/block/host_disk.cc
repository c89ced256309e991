#include "ukernel/dev/block/host_disk.h"

#include <linux/falloc.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <utility>

#include "hostio/sys/file.h"
#include "ukernel/dev/block/host_transfer.h"
#include "ukernel/sched/reactor.h"

namespace uk {
namespace {

class HostDisk final : public BlockBackend {
 public:
  HostDisk(Reactor& reactor, sys::Fd fd, std::string path, bool direct)
      : reactor_(reactor), fd_(std::move(fd)), path_(std::move(path)), direct_(direct) {}

  void start(Park& park, BlockRequest& request) override {
    switch (request.op) {
      case BlockOp::kRead:
      case BlockOp::kWrite:
        if (direct_ && Bounce::needed(request.segments))
          bounced_.emplace(&request, request.segments);
        return transfer(request);
      case BlockOp::kFlush:
        return reactor_.ring().fsync(request, fd_.get(), /*data_only=*/true);
      case BlockOp::kDiscard:
        return request.end(punch(park, FALLOC_FL_PUNCH_HOLE, request));
      case BlockOp::kWriteZeroes:
        return request.end(zero(park, request));
    }
  }

  // A transfer that came short goes on where it stopped: only an error or the end of the file ends
  // it.
  void host_done(BlockRequest& request, int32_t res) override {
    if (request.op == BlockOp::kFlush) return request.end(host_error(res));
    if (res == -static_cast<int32_t>(Errno::kINTR)) return transfer(request);
    if (res < 0) return end(request, host_error(res));
    if (res == 0) return end(request, Errno::kIO);  // the file has shrunk
    request.done += static_cast<uint64_t>(res);
    if (request.done >= request.length) return end(request, Errno::kOk);
    auto left = static_cast<size_t>(res);
    while (left > 0) {
      struct iovec& at = request.segments[request.segment];
      const size_t n = std::min(left, at.iov_len);
      at.iov_base = static_cast<std::byte*>(at.iov_base) + n;
      at.iov_len -= n;
      left -= n;
      if (at.iov_len == 0) ++request.segment;
    }
    transfer(request);
  }

  Result<uint64_t> size() override { return sys::lseek(fd_.get(), 0, SEEK_END); }
  bool can_discard() const override { return true; }
  std::string where() const override { return path_; }

 private:
  void end(BlockRequest& request, Errno error) {
    if (auto bounced = bounced_.find(&request); bounced != bounced_.end()) {
      if (request.op == BlockOp::kRead && error == Errno::kOk) bounced->second.copy_back();
      bounced_.erase(bounced);
    }
    request.end(error);
  }

  void transfer(BlockRequest& request) {
    auto rest = std::span(request.segments).subspan(request.segment);
    const auto at = static_cast<int64_t>(request.offset + request.done);
    if (request.op == BlockOp::kRead) {
      reactor_.ring().readv(request, fd_.get(), rest, at);
    } else {
      reactor_.ring().writev(request, fd_.get(), rest, at, request.fua ? RWF_DSYNC : 0);
    }
  }

  Errno punch(Park& park, int mode, const BlockRequest& request) {
    Result<> r;
    reactor_.offload(park, [&] {
      r = sys::fallocate(fd_.get(), mode | FALLOC_FL_KEEP_SIZE, request.offset, request.length);
    });
    return r ? Errno::kOk : r.error();
  }

  // Not every filesystem zeroes ranges (tmpfs), but most make holes, which read as zeros.
  Errno zero(Park& park, const BlockRequest& request) {
    const Errno e = punch(park, FALLOC_FL_ZERO_RANGE, request);
    return e == Errno::kOPNOTSUPP ? punch(park, FALLOC_FL_PUNCH_HOLE, request) : e;
  }

  Reactor& reactor_;
  const sys::Fd fd_;
  const std::string path_;
  const bool direct_;
  std::map<BlockRequest*, Bounce> bounced_;  // those in flight that need one
};

}  // namespace

Result<> lock_host_image(int fd, bool exclusive) {
  const struct stat st = TRY(sys::fstat(fd));
  if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) return Err(Errno::kINVAL);
  struct flock lock = {};
  lock.l_type = static_cast<short>(exclusive ? F_WRLCK : F_RDLCK);
  lock.l_whence = SEEK_SET;
  // Who was killed lets go of its files when the host has undone its ring, a little after it is
  // gone.
  constexpr int kTries = 50;
  constexpr timespec kPause = {0, 10'000'000};
  for (int tries = 1;; ++tries) {
    auto locked = sys::fcntl_ptr(fd, F_OFD_SETLK, &lock);
    if (locked) return {};
    const bool held = locked.error() == Errno::kACCES || locked.error() == Errno::kAGAIN;
    if (!held) return Err(locked.error());
    if (tries == kTries) return Err(Errno::kAGAIN);
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &kPause, nullptr);
  }
}

Result<std::unique_ptr<BlockBackend>> open_host_disk(Reactor& reactor, const std::string& path,
                                                     const HostDiskOptions& options) {
  int flags = (options.read_only ? O_RDONLY : O_RDWR) | O_NONBLOCK;
  if (options.sync) flags |= O_DSYNC;
  if (options.direct) flags |= O_DIRECT;
  sys::Fd fd = TRY(sys::open(path.c_str(), flags));
  TRY(lock_host_image(fd.get(), !options.read_only));
  return std::unique_ptr<BlockBackend>(
      std::make_unique<HostDisk>(reactor, std::move(fd), path, options.direct));
}

}  // namespace uk
