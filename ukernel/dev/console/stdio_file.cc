#include "ukernel/dev/console/stdio_file.h"

#include <poll.h>
#include <sys/ioctl.h>

#include <array>
#include <vector>

#include "hostio/ring.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "ukernel/sched/host_io.h"

namespace uk {
namespace {
constexpr size_t kChunk = 64 * 1024;

bool is_regular(int fd) {
  auto st = sys::fstat(fd);
  return st && (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode) || S_ISBLK(st->st_mode));
}
class HostSuperBlock final : public SuperBlock {
 public:
  std::string_view fs_type() const override { return "hostfd"; }
  Result<FsStat> statfs(Park&) override { return FsStat{}; }
};

class HostInode final : public Inode {
 public:
  explicit HostInode(int fd) : Inode(make_ref<HostSuperBlock>()), fd_(fd) {
    auto st = sys::fstat(fd);
    type_ = st ? st->st_mode & S_IFMT : 0;
  }
  uint32_t type() const override { return type_; }
  Result<FileAttr> getattr(Park&) override {
    struct stat st = TRY(sys::fstat(fd_));
    FileAttr a;
    a.ino = st.st_ino;
    a.dev = st.st_dev;
    a.rdev = st.st_rdev;
    a.mode = st.st_mode;
    a.nlink = static_cast<uint32_t>(st.st_nlink);
    a.uid = st.st_uid;
    a.gid = st.st_gid;
    a.size = static_cast<uint64_t>(st.st_size);
    a.blocks = static_cast<uint64_t>(st.st_blocks);
    a.block_size = static_cast<uint32_t>(st.st_blksize);
    a.atime = {st.st_atim.tv_sec, static_cast<uint32_t>(st.st_atim.tv_nsec)};
    a.mtime = {st.st_mtim.tv_sec, static_cast<uint32_t>(st.st_mtim.tv_nsec)};
    a.ctime = {st.st_ctim.tv_sec, static_cast<uint32_t>(st.st_ctim.tv_nsec)};
    return a;
  }

 private:
  const int fd_;
  uint32_t type_;
};

}  // namespace

Ref<Inode> make_stdio_inode(int host_fd) { return make_ref<HostInode>(host_fd); }

// Tells the wait queue when the host descriptor becomes ready; armed only while somebody listens.
class StdioFile::Watch final : public hostio::Completion {
 public:
  explicit Watch(StdioFile& file) : file_(file) {}
  void arm(uint32_t events) {
    if (!idle()) return;
    file_.reactor_.ring().poll(*this, file_.host_fd_, events);
  }
  void complete(int32_t res, bool) override {
    if (res != -ECANCELED) file_.queue_.wake_all(res > 0 ? static_cast<uint32_t>(res) : ~0u);
  }

 private:
  StdioFile& file_;
};

StdioFile::StdioFile(Reactor& reactor, Path path, int host_fd, int flags)
    : File(std::move(path), flags & (O_ACCMODE | O_APPEND)),
      reactor_(reactor),
      host_fd_(host_fd),
      regular_(is_regular(host_fd)),
      watch_(std::make_unique<Watch>(*this)) {}

StdioFile::~StdioFile() {
  if (!watch_->idle()) reactor_.ring().detach(*watch_);
}

Result<size_t> StdioFile::read(Park& park, IoSink& to, uint64_t) {
  size_t want = std::min(to.remaining(), kChunk);
  if (want == 0) return 0;
  if (!regular_) {
    if (nonblock() && (ready() & (POLLIN | POLLHUP | POLLERR)) == 0) return Err(Errno::kAGAIN);
    TRY(host_poll(park, host_fd_, POLLIN));
  }
  std::vector<std::byte> buf(want);
  size_t n = TRY(host_read(park, host_fd_, buf, -1));
  if (n == 0) return 0;
  return to.put(park, std::span(buf).first(n));
}

Result<size_t> StdioFile::write(Park& park, IoSource& from, uint64_t&) {
  size_t done = 0;
  std::vector<std::byte> buf(std::min(from.remaining(), kChunk));
  while (from.remaining() > 0) {
    Result<size_t> got =
        from.get(park, std::span(buf).first(std::min(buf.size(), from.remaining())));
    if (!got || *got == 0) return done > 0 || got ? Result<size_t>(done) : got;
    for (size_t at = 0; at < *got;) {
      if (!regular_) {
        if (nonblock() && (ready() & (POLLOUT | POLLHUP | POLLERR)) == 0) {
          return done > 0 ? Result<size_t>(done) : Err(Errno::kAGAIN);
        }
        if (auto r = host_poll(park, host_fd_, POLLOUT); !r)
          return done > 0 ? Result<size_t>(done) : Err(r.error());
      }
      Result<size_t> n = host_write(park, host_fd_, std::span(buf).subspan(at, *got - at), -1);
      if (!n) return done > 0 ? Result<size_t>(done) : n;
      at += *n;
      done += *n;
    }
  }
  return done;
}

Result<int64_t> StdioFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  if (cmd != FIONREAD) return Err(Errno::kNOTTY);
  int n = 0;
  TRY(sys::ioctl(host_fd_, FIONREAD, &n));
  TRY(user.copy_out(park, arg, std::as_bytes(std::span(&n, 1))));
  return 0;
}

uint32_t StdioFile::ready() {
  if (regular_) return POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM;
  std::array<pollfd, 1> fds{{{host_fd_, POLLIN | POLLOUT | POLLRDHUP, 0}}};
  auto n = sys::ppoll(fds, 0, nullptr);
  if (!n) return POLLERR;
  uint32_t r = static_cast<uint16_t>(fds[0].revents);
  if (r & POLLIN) r |= POLLRDNORM;
  if (r & POLLOUT) r |= POLLWRNORM;
  return r;
}

WaitQueue* StdioFile::poll_queue() {
  if (regular_) return nullptr;
  // Ask only for what is not true yet, or the watch would fire at once, again and again.
  uint32_t missing = (POLLIN | POLLOUT) & ~ready();
  if (!can_read()) missing &= ~static_cast<uint32_t>(POLLIN);
  if (!can_write()) missing &= ~static_cast<uint32_t>(POLLOUT);
  if (missing != 0) watch_->arm(missing);
  return &queue_;
}

}  // namespace uk
