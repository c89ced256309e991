#include "ukernel/sched/timer.h"

namespace uk {

void Timer::arm(Deadline at) {
  cancel();
  at_ = at;
  if (!at.never()) queue_.insert(*this);
}

void Timer::cancel() {
  if (slot_ != kNone) queue_.remove(*this);
  unlink();  // due, but its callback has not run yet
}

void TimerQueue::place(size_t slot, Timer* t) {
  heap_[slot] = t;
  t->slot_ = slot;
}

void TimerQueue::sift_up(size_t slot) {
  Timer* t = heap_[slot];
  while (slot > 0 && before(*t, *heap_[(slot - 1) / 2])) {
    place(slot, heap_[(slot - 1) / 2]);
    slot = (slot - 1) / 2;
  }
  place(slot, t);
}

void TimerQueue::sift_down(size_t slot) {
  Timer* t = heap_[slot];
  while (true) {
    size_t child = 2 * slot + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && before(*heap_[child + 1], *heap_[child])) ++child;
    if (!before(*heap_[child], *t)) break;
    place(slot, heap_[child]);
    slot = child;
  }
  place(slot, t);
}

void TimerQueue::insert(Timer& t) {
  t.order_ = next_order_++;
  heap_.push_back(&t);
  sift_up(heap_.size() - 1);
}

void TimerQueue::remove(Timer& t) {
  size_t slot = t.slot_;
  Timer* last = heap_.back();
  heap_.pop_back();
  t.slot_ = Timer::kNone;
  if (last == &t) return;
  place(slot, last);
  sift_down(slot);
  sift_up(last->slot_);
}

void TimerQueue::clear() {
  while (!heap_.empty()) remove(*heap_.back());
}

size_t TimerQueue::expire(uint64_t now_ns) {
  // First all that are due leave the heap: callbacks may arm, cancel and destroy timers, due ones
  // too.
  List<Timer> due;
  while (!heap_.empty() && heap_.front()->at_.at_ns <= now_ns) {
    Timer& t = *heap_.front();
    remove(t);
    due.push_back(t);
  }
  size_t ran = 0;
  while (Timer* t = due.pop_front()) {
    ++ran;
    t->callback_();
  }
  return ran;
}

}  // namespace uk
