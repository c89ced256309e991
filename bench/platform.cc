// What the platforms cost, beside the bare host primitive of the same run: a null system call
// (bar: 1.3 times the bare round trip), registers, faults, changes of the address space, making
// spaces and threads. Medians of batches, with the spread (median absolute deviation); primitive
// and platform take turns, so that a loaded host hurts both alike.
//
//   tools/dev bench platform [--quick] [ptrace|notify]
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/check.h"
#include "hostio/sys/event.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/platform/conformance/guest_code.h"
#include "ukernel/platform/conformance/world.h"

namespace uk {
namespace {

using conformance::Guest;
using conformance::kCode;
using conformance::kData;
using conformance::Memory;
using conformance::World;
namespace blob = conformance::blob;

int batches = 41;
int calls = 400;

uint64_t now() { return sys::clock_ns(CLOCK_MONOTONIC); }

double median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<long>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

struct Samples {
  std::vector<double> ns;
  void take(int n, const std::function<void()>& f) {
    const uint64_t start = now();
    f();
    ns.push_back(static_cast<double>(now() - start) / n);
  }
  double mid() const { return median(ns); }
  double spread() const {
    std::vector<double> d;
    for (double x : ns) d.push_back(x > mid() ? x - mid() : mid() - x);
    return median(d);
  }
  void print(const std::string& what, const Samples* bare = nullptr) const {
    printf("%-44s %9.0f ns  +- %.0f", what.c_str(), mid(), spread());
    if (bare != nullptr) printf("   %.2f x bare", mid() / bare->mid());
    printf("\n");
    fflush(stdout);
  }
};

// A child that calls getppid for ever; the parent serves it by the host's bare means.
class Bare {
 public:
  virtual ~Bare() {
    (void)sys::kill(pid_, SIGKILL);
    int status;
    (void)sys::waitpid(pid_, &status, __WALL);
  }
  virtual void serve(int n) = 0;

 protected:
  int pid_ = 0;
};

[[noreturn]] void call_for_ever() {
  for (;;) syscall(SYS_getppid);
}

class BarePtrace final : public Bare {
 public:
  BarePtrace() {
    pid_ = CHECK_OK(sys::fork());
    if (pid_ == 0) {
      (void)sys::ptrace(PTRACE_TRACEME, 0, 0, 0);
      raise(SIGSTOP);
      call_for_ever();
    }
    int status;
    (void)sys::waitpid(pid_, &status, 0);
    CHECK_OK(sys::ptrace(PTRACE_SETOPTIONS, pid_, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL));
  }
  void serve(int n) override {
    for (int i = 0; i < n; ++i) {
      CHECK_OK(sys::ptrace(PTRACE_SYSEMU, pid_, 0, 0));
      int status;
      (void)sys::waitpid(pid_, &status, __WALL);
      user_regs_struct regs;
      CHECK_OK(sys::ptrace(PTRACE_GETREGS, pid_, 0, reinterpret_cast<uintptr_t>(&regs)));
      regs.rax = 7;
      CHECK_OK(sys::ptrace(PTRACE_SETREGS, pid_, 0, reinterpret_cast<uintptr_t>(&regs)));
    }
  }
};

class BareNotify final : public Bare {
 public:
  BareNotify() {
    // The child's descriptor table is ours, so its listener is too.
    auto* shared = static_cast<volatile int*>(CHECK_OK(
        sys::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)));
    *shared = -1;
    pid_ = static_cast<int>(syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0));
    if (pid_ == 0) {
      sock_filter code[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
                            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
      sock_fprog prog = {.len = 4, .filter = code};
      prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
      *shared = static_cast<int>(
          syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog));
      call_for_ever();
    }
    while (*shared == -1) sched_yield();
    fd_ = sys::Fd(*shared);
    (void)sys::ioctl_value(fd_.get(), _IOW('!', 4, uint64_t), 1);  // SYNC_WAKE_UP
  }
  void serve(int n) override {
    for (int i = 0; i < n; ++i) {
      seccomp_notif notif = {};
      CHECK_OK(sys::ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_RECV, &notif));
      seccomp_notif_resp resp = {};
      resp.id = notif.id;
      resp.val = 7;
      CHECK_OK(sys::ioctl(fd_.get(), SECCOMP_IOCTL_NOTIF_SEND, &resp));
    }
  }

 private:
  sys::Fd fd_;
};

void null_call(World& world, const std::string& name) {
  std::unique_ptr<Bare> bare;
  if (name == "ptrace") bare = std::make_unique<BarePtrace>();
  if (name == "notify") bare = std::make_unique<BareNotify>();
  world.run([&](Park& park) {
    Guest g(world, park, blob::syscalls);
    auto c = g.context(park);
    Samples bare_ns, ns, regs_ns;
    for (int b = 0; b < batches; ++b) {
      bare_ns.take(calls, [&] { bare->serve(calls); });
      ns.take(calls, [&] {
        for (int i = 0; i < calls; ++i) {
          CHECK(c->run(park).kind == Trap::Kind::kSyscall);
          c->set_syscall_result(7);
        }
      });
      regs_ns.take(calls, [&] {
        for (int i = 0; i < calls; ++i) {
          CHECK(c->run(park).kind == Trap::Kind::kSyscall);
          arch::UserRegs r = *c->get_regs(park);
          r.rax = 7;
          CHECK_OK(c->set_regs(park, r));
        }
      });
    }
    bare_ns.print(name + ": bare round trip");
    ns.print(name + ": null call", &bare_ns);
    regs_ns.print(name + ": call with get_regs, set_regs", &bare_ns);
  });
}

void faults(World& world, const std::string& name) {
  world.run([&](Park& park) {
    Guest g(world, park, blob::touch);
    Memory m(1);
    auto c = g.context(park, 0x10000000);
    Samples ns, flush_ns;
    for (int b = 0; b < batches; ++b) {
      ns.take(calls / 4, [&] {
        for (int i = 0; i < calls / 4; ++i) {
          CHECK(c->run(park).kind == Trap::Kind::kPageFault);
          g.space->map(0x10000000, 4096, Prot::kRead | Prot::kWrite, m.fd(), 0, true);
          CHECK(c->run(park).kind == Trap::Kind::kSyscall);
          g.space->unmap(0x10000000, 4096);
        }
      });
      flush_ns.take(calls / 4, [&] {
        for (int i = 0; i < calls / 4; ++i) {
          g.space->map(0x20000000, 4096, Prot::kRead, m.fd(), 0, true);
          CHECK_OK(g.space->flush(park));
        }
      });
    }
    ns.print(name + ": fault + map, call + unmap");
    flush_ns.print(name + ": map one page and flush");
  });
}

void creation(World& world, const std::string& name) {
  world.run([&](Park& park) {
    Samples space_ns, thread_ns, again_ns;
    const int n = 5;
    for (int b = 0; b < batches; ++b) {
      space_ns.take(n, [&] {
        for (int i = 0; i < n; ++i) {
          Guest g(world, park, blob::syscalls);
          auto c = g.context(park);
          CHECK(c->run(park).kind == Trap::Kind::kSyscall);
        }
      });
      Guest g(world, park, blob::syscalls);
      std::vector<std::unique_ptr<GuestContext>> cs;
      thread_ns.take(n, [&] {
        for (int i = 0; i < n; ++i) {
          cs.push_back(g.context(park));
          CHECK(cs.back()->run(park).kind == Trap::Kind::kSyscall);
        }
      });
      cs.clear();
      again_ns.take(n, [&] {
        for (int i = 0; i < n; ++i) {
          auto c = g.context(park);
          CHECK(c->run(park).kind == Trap::Kind::kSyscall);
        }
      });
    }
    space_ns.print(name + ": space, thread, first call, destroyed");
    thread_ns.print(name + ": one more thread, first call");
    again_ns.print(name + ": a used thread, first call");
  });
}

}  // namespace
}  // namespace uk

int main(int argc, char** argv) {
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--quick") == 0) {
      uk::batches = 5;
      uk::calls = 100;
    } else {
      names.push_back(argv[i]);
    }
  }
  if (names.empty()) names = {"ptrace", "notify"};
  for (const std::string& name : names) {
    uk::conformance::World world(name);
    uk::null_call(world, name);
    uk::faults(world, name);
    uk::creation(world, name);
  }
}
