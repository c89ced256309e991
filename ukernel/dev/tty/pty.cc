#include "ukernel/dev/tty/pty.h"

#include <asm/ioctls.h>

#include "ukernel/task/current.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr uint32_t kSlaveMajor = 136;
constexpr size_t kChunk = 4096;
constexpr uint32_t kGetPtyNumber = 0x80045430, kSetLock = 0x40045431, kGetLock = 0x80045439,
                   kGetPacket = 0x80045438, kGetPeer = 0x5441, kSendSignal = 0x40045436;
constexpr uint8_t kPacketData = 0;

template <class T>
Result<int64_t> store(Park& park, IoctlUser& user, uint64_t arg, const T& value) {
  TRY(user.copy_out(park, arg, std::as_bytes(std::span(&value, 1))));
  return 0;
}
Result<int32_t> fetch_int(Park& park, IoctlUser& user, uint64_t arg) {
  int32_t value = 0;
  TRY(user.copy_in(park, std::as_writable_bytes(std::span(&value, 1)), arg));
  return value;
}

class PtmxFile final : public File {
 public:
  PtmxFile(Path path, int flags, Ref<Pty> pty)
      : File(std::move(path), flags), pty_(std::move(pty)) {}
  ~PtmxFile() override { pty_->master_closed(); }

  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    Ref<Pty> pty = pty_;
    return pty->master_read(park, to, nonblock());
  }
  Result<size_t> write(Park& park, IoSource& from, uint64_t&) override {
    Ref<Pty> pty = pty_;
    return pty->master_write(park, from, nonblock());
  }
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override {
    Ref<Pty> pty = pty_;
    return pty->master_ioctl(park, user, cmd, arg);
  }
  uint32_t ready() override { return pty_->master_ready(); }
  WaitQueue* poll_queue() override { return &pty_->master_queue(); }
  std::string fdinfo() const override {
    return "tty-index:\t" + std::to_string(pty_->index()) + "\n";
  }

 private:
  Ref<Pty> pty_;
};

}  // namespace

Pty::Pty(Kernel& kernel, Ref<PtyTable> table, int index, const Cred& owner)
    : Tty(kernel, make_dev(kSlaveMajor, static_cast<uint32_t>(index))),
      table_(std::move(table)),
      index_(index) {
  UserTermios settings = default_termios();
  settings.cflag &= ~uint32_t{HUPCL};
  line().set_termios(settings);
  attr.ino = static_cast<uint64_t>(index) + 3;
  attr.rdev = rdev();
  attr.mode = S_IFCHR | table_->new_mode;
  attr.uid = owner.fsuid;
  attr.gid = table_->new_gid;
  attr.block_size = 1024;
  attr.atime = attr.mtime = attr.ctime = kernel.vfs.now();
}

Pty::~Pty() { table_->ptys_.erase(index_); }

Result<> Pty::check_open(const Cred& cred) const {
  if (locked_) return Err(Errno::kIO);
  return Tty::check_open(cred);
}

void Pty::output_added() { master_queue_.wake_all(POLLIN | POLLRDNORM); }
void Pty::input_taken() { master_queue_.wake_all(POLLOUT | POLLWRNORM); }
void Pty::last_file_closed() {
  was_opened_ = true;
  master_queue_.wake_all();
}
void Pty::packet_event(uint8_t event) {
  if (!packet_) return;
  // A newer event takes back its opposite.
  if (event == TIOCPKT_STOP) packet_events_ &= static_cast<uint8_t>(~TIOCPKT_START);
  if (event == TIOCPKT_START) packet_events_ &= static_cast<uint8_t>(~TIOCPKT_STOP);
  if (event == TIOCPKT_NOSTOP) packet_events_ &= static_cast<uint8_t>(~TIOCPKT_DOSTOP);
  if (event == TIOCPKT_DOSTOP) packet_events_ &= static_cast<uint8_t>(~TIOCPKT_NOSTOP);
  packet_events_ |= event;
  master_queue_.wake_all(POLLIN | POLLPRI);
}
void Pty::adjust_termios(UserTermios& t) const {
  t.cflag = (t.cflag & ~uint32_t{CSIZE | PARENB}) | CS8 | CREAD;
}

Result<size_t> Pty::master_read(Park& park, IoSink& to, bool nonblock) {
  if (to.remaining() == 0) return 0;
  auto ready = [&] { return output_pending() > 0 || packet_events_ != 0 || slave_closed(); };
  if (!ready() && nonblock) return Err(Errno::kAGAIN);
  TRY(master_queue_.wait(park, ready, WaitMode::kInterruptible, kNever, "pty_read"));
  if (packet_ && packet_events_ != 0) {
    const uint8_t event = std::exchange(packet_events_, 0);
    return to.put(park, std::as_bytes(std::span(&event, 1)));
  }
  if (output_pending() == 0) return Err(Errno::kIO);  // nobody has the slave open any more
  size_t done = 0;
  if (packet_) {
    done = TRY(to.put(park, std::as_bytes(std::span(&kPacketData, 1))));
    if (to.remaining() == 0) return done;
  }
  std::string out = take_output(std::min(to.remaining(), kChunk));
  if (out.empty()) return done;
  Result<size_t> n = to.put(park, std::as_bytes(std::span(out)));
  if (!n) return done > 0 ? Result<size_t>(done) : n;
  return done + *n;
}

Result<size_t> Pty::master_write(Park& park, IoSource& from, bool nonblock) {
  Ref<Pty> self(this);
  size_t done = 0;
  std::string chunk;
  while (from.remaining() > 0) {
    if (input_room() == 0) {
      if (nonblock) return done > 0 ? Result<size_t>(done) : Err(Errno::kAGAIN);
      auto waited = master_queue_.wait(
          park, [&] { return input_room() > 0; }, WaitMode::kInterruptible, kNever, "pty_write");
      if (!waited) return done > 0 ? Result<size_t>(done) : Err(waited.error());
    }
    chunk.resize(std::min(from.remaining(), input_room()));
    Result<size_t> n = from.get(park, std::as_writable_bytes(std::span(chunk)));
    if (!n || *n == 0) return done > 0 ? Result<size_t>(done) : (n ? Err(Errno::kFAULT) : n);
    std::string_view rest = std::string_view(chunk).substr(0, *n);
    // Others may have written while guest memory was fetched; nothing that was taken is lost.
    while (!rest.empty()) {
      rest.remove_prefix(input(rest));
      if (rest.empty()) break;
      auto waited = master_queue_.wait(
          park, [&] { return input_room() > 0; }, WaitMode::kInterruptible, kNever, "pty_write");
      if (!waited) {
        done += *n - rest.size();
        return done > 0 ? Result<size_t>(done) : Err(waited.error());
      }
    }
    done += *n;
  }
  return done;
}

uint32_t Pty::master_ready() const {
  uint32_t r = 0;
  if (output_pending() > 0) r |= POLLIN | POLLRDNORM;
  if (packet_events_ != 0) r |= POLLIN | POLLRDNORM | POLLPRI;
  if (slave_closed()) r |= POLLHUP;
  if (input_room() > 0) r |= POLLOUT | POLLWRNORM;
  return r;
}

void Pty::master_closed() {
  Ref<Pty> self(this);
  other_closed_ = true;
  hangup();
}

// TIOCGPTPEER: opens the slave, a new descriptor of the caller's.
Result<int64_t> Pty::open_peer(Park& park, Task& task, int flags) {
  FsContext ctx = task.fs_context();
  Path path = TRY(kernel().vfs.walk(park, ctx, {}, "/dev/pts/" + std::to_string(index_), 0));
  if (path.inode() == nullptr || (TRY(path.inode()->getattr(park))).rdev != rdev())
    return Err(Errno::kIO);
  Ref<File> peer = TRY(open_tty(path, flags & ~O_CLOEXEC, task.cred(), Ref<Tty>(this), kernel()));
  constexpr size_t kNofile = 7;  // RLIMIT_NOFILE
  return TRY(task.fds().add(peer, (flags & O_CLOEXEC) != 0, task.group->rlimits[kNofile].cur));
}

Result<int64_t> Pty::master_ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  switch (cmd) {
    case kGetPtyNumber:
      return store(park, user, arg, uint32_t(index_));
    case kSetLock:
      locked_ = TRY(fetch_int(park, user, arg)) != 0;
      return 0;
    case kGetLock:
      return store(park, user, arg, int32_t{locked_});
    case TIOCPKT:
      packet_ = TRY(fetch_int(park, user, arg)) != 0;
      packet_events_ = 0;
      return 0;
    case kGetPacket:
      return store(park, user, arg, int32_t{packet_});
    case kGetPeer:
      return open_peer(park, *user.task(), static_cast<int>(arg));
    case kSendSignal: {
      if (arg == 0 || arg > kSignals) return Err(Errno::kINVAL);
      if (Ref<ProcessGroup> group = kernel().pids.pgrp(foreground_pgid()))
        send_signal_pgrp(*group, siginfo_kernel(static_cast<int>(arg)));
      return 0;
    }
    case FIONREAD:
      return store(park, user, arg, static_cast<int32_t>(output_pending()));
    case TIOCOUTQ:
      return store(park, user, arg, static_cast<int32_t>(line().available()));
    case TIOCGPGRP:  // the slave's, whatever the caller's terminal is
      return store(park, user, arg,
                   int32_t{shown_pid(*user.task(), std::max(0, foreground_pgid()))});
    case TIOCGSID:
      if (session() == nullptr) return Err(Errno::kNOTTY);
      return store(park, user, arg, int32_t{shown_pid(*user.task(), session()->sid)});
    case TIOCSCTTY:
    case TIOCNOTTY:
      return Err(Errno::kNOTTY);
    default:
      return tty_ioctl(*this, park, user, cmd, arg);
  }
}

Result<Ref<Pty>> PtyTable::make(Kernel& kernel, const Cred& owner) {
  int index = 0;
  for (const auto& [used, pty] : ptys_) {
    if (used != index) break;
    ++index;
  }
  if (index >= kMax) return Err(Errno::kNOSPC);
  auto pty = make_ref<Pty>(kernel, Ref<PtyTable>(this), index, owner);
  ptys_[index] = pty.get();
  return pty;
}

Ref<Pty> PtyTable::find(int index) const {
  auto it = ptys_.find(index);
  if (it == ptys_.end() || it->second->master_gone()) return nullptr;
  return Ref<Pty>(it->second);
}

Ref<PtyTable> register_ptys(Kernel& kernel) {
  auto table = make_ref<PtyTable>();
  Kernel* k = &kernel;
  kernel.vfs.register_device(false, 5, 2, 1, "/dev/ptmx",
                             {[k, table](Park&, const Path& path, int flags, const Cred& cred,
                                         uint64_t) -> Result<Ref<File>> {
                               Ref<Pty> pty = TRY(table->make(*k, cred));
                               return Ref<File>(make_ref<PtmxFile>(path, flags, pty));
                             }});
  kernel.vfs.register_device(false, kSlaveMajor, 0, PtyTable::kMax, "pts",
                             {[k, table](Park&, const Path& path, int flags, const Cred& cred,
                                         uint64_t rdev) -> Result<Ref<File>> {
                               Ref<Pty> pty = table->find(static_cast<int>(dev_minor(rdev)));
                               if (!pty) return Err(Errno::kIO);
                               return open_tty(path, flags, cred, pty, *k);
                             }});
  return table;
}

}  // namespace uk
