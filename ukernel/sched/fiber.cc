#include "ukernel/sched/fiber.h"

#include <boost/context/detail/fcontext.hpp>

#include "ukernel/sched/asan.h"
#include "ukernel/sched/reactor.h"
#include "ukernel/sched/stack_pool.h"

namespace uk {

namespace fctx = boost::context::detail;

namespace {
// Instrumented frames are several times larger.
constexpr size_t kStackBytes = asan::kEnabled ? 8 * kFiberStackBytes : kFiberStackBytes;
constexpr size_t kGuardBytes = sys::kPageSize;
}  // namespace

sys::Mapping StackPool::get() {
  if (!free_.empty()) {
    sys::Mapping stack = std::move(free_.back());
    free_.pop_back();
    return stack;
  }
  sys::Mapping stack = CHECK_OK(sys::Mapping::anonymous(
      kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, MAP_NORESERVE | MAP_STACK));
  CHECK_OK(sys::mprotect(stack.data(), kGuardBytes, PROT_NONE));
  return stack;
}

void StackPool::put(sys::Mapping stack) {
  if (free_.size() >= kKeep) return;
  asan::unpoison(stack.data() + kGuardBytes, stack.size() - kGuardBytes);
  free_.push_back(std::move(stack));
}

struct Fiber::Switch {
  sys::Mapping stack;
  fctx::fcontext_t fiber = nullptr;    // where the fiber goes on
  fctx::fcontext_t reactor = nullptr;  // where the reactor goes on, while the fiber runs
  // For AddressSanitizer: each side's shadow of its stack, and the bounds of the reactor's.
  void* fiber_shadow = nullptr;
  void* reactor_shadow = nullptr;
  const void* reactor_bottom = nullptr;
  size_t reactor_size = 0;

  const void* bottom() const { return stack.data() + kGuardBytes; }
  size_t size() const { return stack.size() - kGuardBytes; }

  static void entry(fctx::transfer_t t) {
    Fiber& f = *static_cast<Fiber*>(t.data);
    Switch& s = *f.switch_;
    asan::finish_switch(nullptr, &s.reactor_bottom, &s.reactor_size);
    s.reactor = t.fctx;
    {
      Park park(f, f.reactor_);
      f.main_(park);
      f.main_ = nullptr;  // what it captured dies on the fiber
    }
    f.state_ = State::kDone;
    f.switch_out();
    UNREACHABLE();
  }
};

Fiber::Fiber(Reactor& reactor, std::string name, Main main)
    : reactor_(reactor),
      name_(std::move(name)),
      main_(std::move(main)),
      switch_(std::make_unique<Switch>()),
      sleep_timer_(reactor.timers(), [this] { wake(); }) {}

Fiber::~Fiber() = default;

void Fiber::resume() {
  Switch& s = *switch_;
  if (s.fiber == nullptr) {
    s.stack = reactor_.stacks().get();
    s.fiber = fctx::make_fcontext(s.stack.data() + s.stack.size(), s.size(), &Switch::entry);
  }
  state_ = State::kRunning;
  asan::start_switch(&s.reactor_shadow, s.bottom(), s.size());
  fctx::transfer_t t = fctx::jump_fcontext(s.fiber, this);
  asan::finish_switch(s.reactor_shadow, nullptr, nullptr);
  s.fiber = t.fctx;
}

void Fiber::switch_out() {
  Switch& s = *switch_;
  // A null shadow tells the sanitizer that this stack ends here.
  asan::start_switch(done() ? nullptr : &s.fiber_shadow, s.reactor_bottom, s.reactor_size);
  fctx::transfer_t t = fctx::jump_fcontext(s.reactor, nullptr);
  asan::finish_switch(s.fiber_shadow, &s.reactor_bottom, &s.reactor_size);
  s.reactor = t.fctx;
}

void Fiber::release_stack() {
  sleep_timer_.cancel();
  if (switch_->stack) reactor_.stacks().put(std::move(switch_->stack));
  switch_.reset();
}

void Fiber::wake() {
  switch (state_) {
    case State::kRunning:
      wake_pending_ = true;
      break;
    case State::kSuspended:
      state_ = State::kReady;
      reactor_.make_ready(*this);
      break;
    case State::kReady:  // will look at the world again anyway
    case State::kDone:
      break;
  }
}

void Park::suspend(Deadline deadline) {
  if (fiber_.wake_pending_) return suspend_uncounted();
  if (!deadline.never()) fiber_.sleep_timer_.arm(deadline);
  uint64_t since = reactor_.now_ns();
  suspend_uncounted();
  fiber_.suspended_ns_ += reactor_.now_ns() - since;
  fiber_.sleep_timer_.cancel();
}

void Park::suspend_uncounted() {
  DCHECK(reactor_.current() == &fiber_);
  if (std::exchange(fiber_.wake_pending_, false)) return;
  fiber_.state_ = Fiber::State::kSuspended;
  fiber_.switch_out();
}

void Park::yield() {
  fiber_.state_ = Fiber::State::kReady;
  reactor_.make_ready(fiber_);
  uint64_t since = reactor_.now_ns();
  fiber_.switch_out();
  fiber_.suspended_ns_ += reactor_.now_ns() - since;
}

bool Park::interrupted(WaitMode mode) const {
  const Interruptor* i = fiber_.interruptor();
  return i != nullptr && mode != WaitMode::kUninterruptible && i->should_interrupt(mode);
}

}  // namespace uk
