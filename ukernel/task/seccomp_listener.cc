#include "ukernel/task/seccomp_listener.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include <algorithm>

#include "ukernel/task/pid_ns.h"
#include "ukernel/task/task.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {

std::optional<Result<int64_t>> SeccompNotifier::hand_over(Task& task, const SeccompData& data) {
  if (!open_) return Err(Errno::kNOSYS);
  Ref<SeccompNotifier> keep(this);
  auto n = make_ref<Notification>();
  n->id = next_id_++;
  n->task = &task;
  n->data = data;
  list_.push_back(n);
  ++requests_;
  queue_.wake_all(POLLIN | POLLRDNORM);
  Result<> answered;
  while (true) {
    const bool hard = killable_ && n->state != State::kNew;
    answered = n->changed.wait(
        task.park(), [&] { return n->state == State::kReplied; },
        hard ? WaitMode::kKillable : WaitMode::kInterruptible, kNever, "seccomp_do_user_notif");
    // A listener that took it up while the signal came keeps it.
    if (answered || hard || !killable_ || n->state == State::kNew) break;
  }
  list_.remove(n);
  n->task = nullptr;
  if (!answered) return Err(answered.error());
  if (n->go_on) return std::nullopt;
  return n->answer;
}

void SeccompNotifier::filter_gone() {
  filter_ = false;
  queue_.wake_all(POLLHUP);
}

Ref<SeccompNotifier::Notification> SeccompNotifier::find(uint64_t id) const {
  auto at = std::find_if(list_.begin(), list_.end(), [&](const auto& n) { return n->id == id; });
  return at == list_.end() ? nullptr : *at;
}

void SeccompNotifier::close() {
  open_ = false;
  for (const Ref<Notification>& n : list_) {
    if (n->state == State::kReplied) continue;
    n->state = State::kReplied;
    n->answer = Err(Errno::kNOSYS);
    n->changed.wake_all();
  }
}

class SeccompListenerFile final : public File {
 public:
  explicit SeccompListenerFile(Ref<SeccompNotifier> n)
      : File(make_anon_path("seccomp notify"), O_RDWR), n_(std::move(n)) {}
  ~SeccompListenerFile() override { n_->close(); }

  uint32_t ready() override {
    uint32_t events = n_->filter_ ? 0 : POLLHUP;
    for (const auto& n : n_->list_) {
      if (n->state == State::kNew) events |= POLLIN | POLLRDNORM;
      if (n->state == State::kSent) events |= POLLOUT | POLLWRNORM;
    }
    return events;
  }
  WaitQueue* poll_queue() override { return &n_->queue_; }
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;

 private:
  using State = SeccompNotifier::State;
  using Notification = SeccompNotifier::Notification;
  Result<int64_t> receive(Park& park, IoctlUser& user, uint64_t arg);
  Result<int64_t> send(Park& park, IoctlUser& user, uint64_t arg);
  Result<int64_t> add_fd(Park& park, IoctlUser& user, size_t size, uint64_t arg);
  // One that was received and has no answer yet: kNOENT, kINPROGRESS.
  Result<Ref<Notification>> sent(uint64_t id) const {
    Ref<Notification> n = n_->find(id);
    if (!n) return Err(Errno::kNOENT);
    if (n->state != State::kSent) return Err(Errno::kINPROGRESS);
    return n;
  }
  static void reply(Notification& n, Result<int64_t> answer, bool go_on) {
    n.state = State::kReplied;
    n.answer = answer;
    n.go_on = go_on;
    n.changed.wake_all();
  }
  const Ref<SeccompNotifier> n_;
};

namespace {

// Newer than the headers of Debian 12.
constexpr uint32_t kSetFlags = _IOW('!', 4, uint64_t), kWrongIdValid = _IOR('!', 2, uint64_t);
constexpr uint64_t kSyncWakeUp = 1;

template <class T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

}  // namespace

Result<int64_t> SeccompListenerFile::receive(Park& park, IoctlUser& user, uint64_t arg) {
  seccomp_notif out{};
  TRY(user.copy_in(park, bytes_of(out), arg));
  const auto given = std::as_bytes(std::span(&out, 1));
  if (std::any_of(given.begin(), given.end(), [](std::byte b) { return b != std::byte{}; }))
    return Err(Errno::kINVAL);
  TRY(n_->queue_.wait(
      park, [&] { return n_->requests_ != 0 || !n_->filter_; }, WaitMode::kInterruptible, kNever,
      "seccomp_notify_recv"));
  if (n_->requests_ != 0 && n_->filter_) --n_->requests_;
  auto at = std::find_if(n_->list_.begin(), n_->list_.end(),
                         [](const auto& n) { return n->state == State::kNew; });
  if (at == n_->list_.end()) return Err(Errno::kNOENT);
  Ref<Notification> n = *at;
  out.id = n->id;
  out.pid = static_cast<uint32_t>(shown_pid(*user.task(), n->task->tid));
  static_assert(sizeof out.data == sizeof n->data);
  std::memcpy(&out.data, &n->data, sizeof out.data);
  n->state = State::kSent;
  n->changed.wake_all();  // its wait may be of another kind now
  n_->queue_.wake_all(POLLOUT | POLLWRNORM);
  const Result<> copied = user.copy_out(park, arg, std::as_bytes(std::span(&out, 1)));
  if (copied) return 0;
  if (n->state == State::kSent && n->task != nullptr) {
    n->state = State::kNew;
    ++n_->requests_;
    n_->queue_.wake_all(POLLIN | POLLRDNORM);
  }
  return Err(copied.error());
}

Result<int64_t> SeccompListenerFile::send(Park& park, IoctlUser& user, uint64_t arg) {
  seccomp_notif_resp r{};
  TRY(user.copy_in(park, bytes_of(r), arg));
  if ((r.flags & ~SECCOMP_USER_NOTIF_FLAG_CONTINUE) != 0) return Err(Errno::kINVAL);
  const bool go_on = r.flags != 0;
  if (go_on && (r.error != 0 || r.val != 0)) return Err(Errno::kINVAL);
  Ref<Notification> n = TRY(sent(r.id));
  // rax is the error if there is one, whatever its sign.
  reply(*n, r.error != 0 ? r.error : r.val, go_on);
  return 0;
}

Result<int64_t> SeccompListenerFile::add_fd(Park& park, IoctlUser& user, size_t size,
                                            uint64_t arg) {
  constexpr size_t kFirstSize = 24, kMaxSize = 4096;
  static_assert(sizeof(seccomp_notif_addfd) == kFirstSize);
  if (size < kFirstSize || size >= kMaxSize) return Err(Errno::kINVAL);
  std::array<std::byte, kMaxSize> raw{};
  TRY(user.copy_in(park, std::span(raw).first(size), arg));
  if (std::any_of(raw.begin() + kFirstSize, raw.begin() + static_cast<std::ptrdiff_t>(size),
                  [](std::byte b) { return b != std::byte{}; }))
    return Err(Errno::k2BIG);
  seccomp_notif_addfd a{};
  std::memcpy(&a, raw.data(), sizeof a);
  if ((a.newfd_flags & ~static_cast<uint32_t>(O_CLOEXEC)) != 0) return Err(Errno::kINVAL);
  const bool set = (a.flags & SECCOMP_ADDFD_FLAG_SETFD) != 0;
  const bool send = (a.flags & SECCOMP_ADDFD_FLAG_SEND) != 0;
  if ((a.flags & ~(SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND)) != 0)
    return Err(Errno::kINVAL);
  if (a.newfd != 0 && !set) return Err(Errno::kINVAL);
  Ref<File> file = TRY(user.task()->fds().get_io(static_cast<int>(a.srcfd)));
  Ref<Notification> n = TRY(sent(a.id));
  Task& target = *n->task;
  if (!target.fds_) return Err(Errno::kSRCH);
  Ref<FdTable> fds = target.fds_;
  const bool cloexec = a.newfd_flags != 0;
  const uint64_t limit = target.rlimit(RLIMIT_NOFILE).cur;
  int fd = static_cast<int>(a.newfd);
  Ref<File> replaced;
  if (set) {
    replaced = TRY(fds->replace(fd, std::move(file), cloexec, limit));
  } else {
    fd = TRY(fds->add(std::move(file), cloexec, limit));
  }
  if (send) reply(*n, fd, false);
  fds->close_file(park, std::move(replaced));
  return fd;
}

Result<int64_t> SeccompListenerFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd,
                                           uint64_t arg) {
  uint64_t word = 0;
  switch (cmd) {
    case SECCOMP_IOCTL_NOTIF_RECV:
      return receive(park, user, arg);
    case SECCOMP_IOCTL_NOTIF_SEND:
      return send(park, user, arg);
    case SECCOMP_IOCTL_NOTIF_ID_VALID:
      [[fallthrough]];
    case kWrongIdValid: {
      TRY(user.copy_in(park, bytes_of(word), arg));
      Ref<Notification> n = n_->find(word);
      if (!n || n->state != State::kSent) return Err(Errno::kNOENT);
      return 0;
    }
    case kSetFlags:
      // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP asks to run both sides on one CPU; that is placement's.
      if ((arg & ~kSyncWakeUp) != 0) return Err(Errno::kINVAL);
      return 0;
    default:
      break;
  }
  constexpr uint32_t kSizeMask = static_cast<uint32_t>(_IOC_SIZEMASK) << _IOC_SIZESHIFT;
  if ((cmd & ~kSizeMask) == (SECCOMP_IOCTL_NOTIF_ADDFD & ~kSizeMask))
    return add_fd(park, user, _IOC_SIZE(cmd), arg);
  return Err(Errno::kINVAL);
}

Ref<File> make_seccomp_listener(Ref<SeccompNotifier> notifier) {
  return make_ref<SeccompListenerFile>(std::move(notifier));
}

}  // namespace uk
