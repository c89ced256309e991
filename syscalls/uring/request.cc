#include "syscalls/uring/request.h"

#include <poll.h>

#include "syscalls/fs_common.h"

namespace uk::uring {
namespace {

// Errors by which a call says that it would wait.
bool says_wait(Errno e) { return is_restart(e) || e == Errno::kAGAIN; }

uint32_t poll_bits(uint32_t wanted) {
  uint32_t bits = wanted | POLLERR | POLLHUP;
  if ((wanted & POLLIN) != 0) bits |= POLLRDNORM | POLLRDHUP;
  if ((wanted & POLLOUT) != 0) bits |= POLLWRNORM;
  return bits;
}

}  // namespace

Request::Request(Ref<Ring> ring, Task& task, const Sqe& sqe)
    : ring_(std::move(ring)), task_(&task), sqe_(sqe), op_(op_of(sqe.opcode)) {
  skip_cqe_ = flag(IOSQE_CQE_SKIP_SUCCESS);
}

Request::~Request() {
  Waiter::unlink();
  ring_->kernel().workers->uncharge(charged_);
}

Ref<Request> Request::create(Ref<Ring> ring, Task& task, const Sqe& sqe) {
  if (!task.kernel.workers->charge(kBytes)) return nullptr;
  return Ref<Request>(new Request(std::move(ring), task, sqe));
}

Result<> Request::charge(uint64_t bytes) {
  if (!ring_->kernel().workers->charge(bytes)) return Err(Errno::kNOMEM);
  charged_ += bytes;
  return {};
}

Result<> Request::copy_path(Task& task, uint64_t addr, bool empty_ok) {
  std::string text = TRY(fetch_path(task, UserStr{{addr}}, empty_ok));
  TRY(charge(text.size()));
  prepared.paths.push_back(std::move(text));
  return {};
}

const std::string* Request::path(uint64_t index) const {
  return index < prepared.paths.size() ? &prepared.paths[index] : nullptr;
}

// ---- beginning

Result<> Request::find_file() {
  if (flag(IOSQE_FIXED_FILE)) {
    Ref<Resource> r = ring_->resources.file(static_cast<uint32_t>(sqe_.fd));
    if (!r) return Err(Errno::kBADF);
    file = r->file;
    resource = std::move(r);
  } else {
    file = TRY(task_->fds().get_io(sqe_.fd));
  }
  return {};
}

void Request::issue() {
  Ref<Request> keep(this);
  issued_ = true;
  if (failed) return fail(error);
  if (ring_->closed() || task_ == nullptr || cancelled()) return fail(Errno::kCANCELED);
  arm_guard();
  if (op_->file) {
    if (Result<> found = find_file(); !found) return fail(found.error());
  }
  if (op_->now != nullptr) return op_->now(*this);
  const bool polls = op_->poll != 0 && file && file->poll_queue() != nullptr;
  no_wait = nowait || (polls && !must_wait);
  start();
}

void Request::start() {
  if (task_ == nullptr) return fail(Errno::kCANCELED);
  Workers& workers = *ring_->kernel().workers;
  Ref<Task> worker = workers.make(*task_, /*uses_files=*/true);
  if (creds) worker->cred_ = creds;
  ++ring_->started;
  woken_ = false;
  workers.start(std::move(worker), Ref<Request>(this));
}

// The timeout behind this request watches it from now on.
void Request::arm_guard() {
  if (!next || next->sqe_.opcode != IORING_OP_LINK_TIMEOUT || !linked_on()) return;
  Ref<Request> timeout = next;
  next = std::move(timeout->next);
  // What follows the timeout follows this one, by the timeout's flags.
  sqe_.flags = static_cast<uint8_t>((sqe_.flags & ~(IOSQE_IO_LINK | IOSQE_IO_HARDLINK)) |
                                    (timeout->sqe_.flags & (IOSQE_IO_LINK | IOSQE_IO_HARDLINK)));
  timeout->issued_ = true;
  timeout->guarded = this;
  guard = timeout.get();
  const auto& p = timeout->prepared;
  const bool absolute = (p.timeout_flags & IORING_TIMEOUT_ABS) != 0;
  const uint64_t now = ring_->kernel().clock.monotonic_ns();
  timeout->wait_until({absolute ? p.time_ns : now + p.time_ns});
}

Result<int64_t> Request::run(Task& worker) { return op_->run(worker, *this); }

// ---- waiting

void Request::wait_until(Deadline at) {
  if (!timer_)
    timer_ = std::make_unique<Timer>(ring_->kernel().reactor.timers(), [this] { start(); });
  deadline_ = at;
  timer_->arm(at);
}

void Request::wait_ready() {
  WaitQueue* queue = file->poll_queue();
  if (const uint32_t now = file->ready() & poll_mask; now != 0) {
    if (!multishot) return complete(now);
    post_more(now);
    if (done_) return;
  } else if (queue == nullptr) {
    // Never: until it is cancelled.
    return wait_until(kNever);
  }
  if (queue != nullptr && !Waiter::linked()) queue->add(*this);
}

void Request::set_poll(uint32_t mask, uint64_t user_data) {
  poll_mask = mask;
  sqe_.user_data = user_data;
  Waiter::unlink();
  wait_ready();
}

// In the queue of the file, until on_wake().
void Request::arm_poll() {
  WaitQueue* queue = file->poll_queue();
  poll_mask = poll_bits(op_->poll);
  if (queue == nullptr || ((file->ready() & poll_mask) != 0 && std::exchange(tried_, true))) {
    // It is ready and cannot be done: what it needs is more than polling tells.
    no_wait = false;
    return start();
  }
  if ((file->ready() & poll_mask) != 0) return start();
  queue->add(*this);
}

void Request::on_wake(uint32_t events) {
  if ((events & poll_mask) == 0) return;
  tried_ = false;
  if (active()) {
    woken_ = true;
    return;
  }
  if (!multishot || op_->poll != 0) Waiter::unlink();
  start();
}

bool Request::would_wait(Errno e) const {
  return says_wait(e) && op_->poll != 0 && file && file->poll_queue() != nullptr && !nowait;
}

void Request::finished(Result<int64_t> result) {
  Ref<Request> keep(this);
  const bool poll_op = poll_mask != 0 && op_->poll == 0;
  if (cancelled() && (!result || poll_op)) return fail(Errno::kCANCELED);
  if (poll_op) {
    if (!multishot) return *result != 0 ? complete(*result) : wait_ready();
    if (*result != 0) post_more(*result);
    if (woken_ && !done_) start();
    return;
  }
  if (!result) {
    if (result.error() == Errno::kTIME && multishot) {  // a timeout that fires again
      if (prepared.count != 1) {
        if (prepared.count != 0) --prepared.count;
        post_more(-static_cast<int64_t>(Errno::kTIME));
        if (done_) return;
        return wait_until({deadline_.at_ns + prepared.time_ns});
      }
    }
    give_buffer_back();
    if (would_wait(result.error())) return arm_poll();
    if (is_restart(result.error())) return fail(nowait ? Errno::kAGAIN : Errno::kINTR);
    return fail(result.error());
  }
  const bool goes_on = multishot && (*result > 0 || sqe_.opcode == IORING_OP_ACCEPT);
  if (!goes_on) return complete(*result);
  post_more(*result);
  if (!done_) start();
}

Result<> Request::cancel() {
  Ref<Request> keep(this);
  if (done_) return Err(Errno::kNOENT);
  if (active()) {
    const bool waits = waits_for_fiber();
    ring_->kernel().workers->cancel(*this);
    return waits ? Result<>() : Err(Errno::kALREADY);
  }
  fail(Errno::kCANCELED);
  return {};
}

// ---- the end

uint32_t Request::take_buffer_flags() {
  if (!buffer_) return 0;
  const uint32_t f = IORING_CQE_F_BUFFER | static_cast<uint32_t>(buffer_->id)
                                               << IORING_CQE_BUFFER_SHIFT;
  buffer_.reset();
  return f;
}

Result<ChosenBuffer> Request::choose_buffer(Task& worker, uint64_t limit) {
  auto& groups = ring_->resources.groups;
  auto it = groups.find(sqe_.buf_group);
  if (it == groups.end()) return Err(Errno::kNOBUFS);
  Ref<BufferGroup> group = it->second;
  ChosenBuffer b = TRY(group->take(worker.park(), worker.mm()));
  b.group = sqe_.buf_group;
  if (limit != 0) b.len = static_cast<uint32_t>(std::min<uint64_t>(b.len, limit));
  buffer_ = b;
  return b;
}

void Request::give_buffer_back() {
  if (!buffer_) return;
  auto& groups = ring_->resources.groups;
  if (auto it = groups.find(buffer_->group); it != groups.end()) it->second->give_back(*buffer_);
  buffer_.reset();
}

// Without room for its completion it ends: the guest is to see that it fell behind.
void Request::post_more(int64_t res) {
  if (ring_->full()) return complete(res);
  ring_->post(sqe_.user_data, static_cast<int32_t>(res), IORING_CQE_F_MORE | take_buffer_flags());
}

void Request::complete(int64_t res) {
  if (done_) return;
  Ref<Request> keep(this);
  done_ = true;
  Waiter::unlink();
  if (timer_) timer_->cancel();
  if (guarded != nullptr) std::exchange(guarded, nullptr)->guard = nullptr;
  Request* watcher = std::exchange(guard, nullptr);
  const bool lenient = (prepared.timeout_flags & IORING_TIMEOUT_ETIME_SUCCESS) != 0 &&
                       res == -static_cast<int64_t>(Errno::kTIME);
  const bool failure =
      (res < 0 && !lenient) || (op_ != nullptr && op_->short_fails && res < wanted);
  const bool silent = failure && skip_cqe_;  // then those behind it say nothing
  if ((!skip_cqe_ || failure) && !quiet_) {
    ring_->post(sqe_.user_data, static_cast<int32_t>(res), take_buffer_flags());
    if (sqe_.opcode == IORING_OP_TIMEOUT) ring_->uncount();
  }
  if (prepared.target != 0) ring_->counted.erase({prepared.target, this});
  if (watcher != nullptr) {
    watcher->guarded = nullptr;
    watcher->quiet_ = watcher->skip_cqe_;
    if (!watcher->active()) watcher->fail(Errno::kCANCELED);
  }
  Ref<Request> then = std::move(next);
  ring_->remove(*this);
  resource.reset();
  if (then && failure && !flag(IOSQE_IO_HARDLINK)) {
    then->cancel_chain(silent);
    then = nullptr;
  }
  ring_->run_ready(std::move(then));
}

void Request::cancel_chain(bool silent) {
  Ref<Request> r(this);
  while (r) {
    Ref<Request> after = std::move(r->next);
    r->skip_cqe_ = false;
    if (silent) {
      r->skip_cqe_ = true;
      r->complete(0);
    } else {
      r->fail(r->failed ? r->error : Errno::kCANCELED);
    }
    r = std::move(after);
  }
}

}  // namespace uk::uring
