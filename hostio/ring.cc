#include "hostio/ring.h"

namespace uk::hostio {

Ring::~Ring() { CHECK(in_flight_.empty()); }

void Ring::begin(Completion& c, const Op& op) {
  CHECK(c.idle());
  c.op_ = op;
  c.state_ = Completion::State::kInFlight;
  c.more_ = c.detached_ = false;
  c.res_ = 0;
  in_flight_.push_back(c);
  start(c);
}

void Ring::finish(Completion& c, int32_t res, bool more) {
  CHECK(!c.idle());
  if (c.detached_) {
    if (more) return;
    c.unlink();
    c.state_ = Completion::State::kIdle;
    return;
  }
  if (c.state_ ==
      Completion::State::kFinished) {  // a multishot poll whose last event has not been run yet
    c.res_ = res < 0 ? res : (c.res_ | res);
    c.more_ = more;
    return;
  }
  c.unlink();
  c.state_ = Completion::State::kFinished;
  c.res_ = res;
  c.more_ = more;
  finished_.push_back(c);
}

bool Ring::drain() {
  reap();
  if (finished_.empty()) return false;
  List<Completion> batch;  // what finishes meanwhile waits for the next drain
  batch.splice_back(finished_);
  while (Completion* c = batch.pop_front()) {
    bool more = c->more_;
    c->state_ = more ? Completion::State::kInFlight : Completion::State::kIdle;
    if (more) in_flight_.push_back(*c);
    c->complete(c->res_, more);
  }
  return true;
}

WaitEnd Ring::wait(int64_t timeout_ns, const sigset_t* mask) {
  if (!finished_.empty()) {
    do_submit();
    return WaitEnd::kEvent;
  }
  return do_wait(timeout_ns, mask);
}

void Ring::cancel(Completion& c) {
  bool running = c.state_ == Completion::State::kInFlight ||
                 (c.state_ == Completion::State::kFinished && c.more_);
  if (running) request_cancel(c);
}

void Ring::detach(Completion& c) {
  if (c.idle()) return;
  if (c.state_ == Completion::State::kFinished) {
    c.unlink();
    if (!c.more_) {
      c.state_ = Completion::State::kIdle;
      return;
    }
    c.state_ = Completion::State::kInFlight;
    in_flight_.push_back(c);
  }
  c.detached_ = true;
  request_cancel(c);
  // A signal that ends the wait is of no interest here; the loop goes on until the host lets go.
  while (true) {
    reap();
    if (c.idle()) return;
    do_wait(-1, nullptr);
  }
}

void Ring::detach_all() {
  while (!finished_.empty()) detach(finished_.front());
  while (!in_flight_.empty()) detach(in_flight_.front());
}

std::unique_ptr<Ring> make_ring() {
  if (std::unique_ptr<Ring> ring = make_uring()) return ring;
  return make_thread_ring();
}

}  // namespace uk::hostio
