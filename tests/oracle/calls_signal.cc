// Signals: actions, masks, sending, waiting for them.
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

const Words kHandler{{{"SIG_DFL", 0, 20}, {"SIG_IGN", 1, 20}, {"handler", 2, 50}, {"info", 3, 40}},
                     {}};
const Words kFlags{{{"0", 0, 40}},
                   {{"SA_RESTART", SA_RESTART, 20},
                    {"SA_NODEFER", SA_NODEFER, 15},
                    {"SA_RESETHAND", SA_RESETHAND, 15},
                    {"SA_NOCLDSTOP", SA_NOCLDSTOP, 15},
                    {"SA_NOCLDWAIT", SA_NOCLDWAIT, 8},
                    {"SA_ONSTACK", SA_ONSTACK, 10},
                    {"0x400", 0x400, 3}}};
const Words kSet{{},
                 {{"USR1", 1ull << (SIGUSR1 - 1), 35},
                  {"USR2", 1ull << (SIGUSR2 - 1), 30},
                  {"CHLD", 1ull << (SIGCHLD - 1), 25},
                  {"TERM", 1ull << (SIGTERM - 1), 15},
                  {"PIPE", 1ull << (SIGPIPE - 1), 10},
                  {"CONT", 1ull << (SIGCONT - 1), 5},
                  {"STOP", 1ull << (SIGSTOP - 1), 5},
                  {"KILL", 1ull << (SIGKILL - 1), 5},
                  {"TSTP", 1ull << (SIGTSTP - 1), 5},
                  {"RT40", 1ull << 39, 25},
                  {"RT34", 1ull << 33, 15},
                  {"RT63", 1ull << 62, 15}}};
const Words kHow{
    {ORACLE_WORD(SIG_BLOCK), ORACLE_WORD(SIG_UNBLOCK), ORACLE_WORD(SIG_SETMASK), {"7", 7, 1}}, {}};
const Words kValues = numbers({0, 1, 42, -1});
const Words kQueueCode = numbers({-1, -1, -1, -2, -6, -7, 0, 128});
const Words kStack = numbers({0, 1000, 8192, 16384});
const Words kStackFlags{
    {{"0", 0, 70}, {"SS_DISABLE", SS_DISABLE, 20}, {"SS_ONSTACK", SS_ONSTACK, 5}, {"8", 8, 3}}, {}};

// As the kernel has it: glibc's sigaction would not let the flags through.
struct KernelAction {
  uint64_t handler, flags, restorer, mask;
};

void log_info(Run& r, const siginfo_t& info) {
  r.log(" {%d code %d", info.si_signo, info.si_code);
  if (info.si_signo == SIGCHLD && info.si_code > 0) {
    r.log(" p%d uid %d status %x", r.process_of(info.si_pid), info.si_uid, info.si_status);
  } else {
    r.log(" p%d uid %d value %d", r.process_of(info.si_pid), info.si_uid,
          info.si_code == SI_QUEUE ? info.si_value.sival_int : 0);
  }
  r.log("}");
}

void on_signal(int number, siginfo_t*, void*) {
  g_run->enter_handler();
  g_run->log(" <%d>", number);
  g_run->leave_handler();
}

void on_info(int, siginfo_t* info, void* context) {
  g_run->enter_handler();
  g_run->log(" <");
  log_info(*g_run, *info);
  uint64_t mask = 0;
  memcpy(&mask, &static_cast<ucontext_t*>(context)->uc_sigmask, sizeof mask);
  g_run->signals(mask);
  uint64_t now = 0;
  g_run->sys_(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &now, 8);
  g_run->signals(now);
  g_run->log(">");
  g_run->leave_handler();
}

bool reserved(int64_t s) { return s == kBreakSignal || s == SIGSEGV || s == SIGBUS; }

// glibc's own restorer, taken from an action that it has set.
uint64_t restorer() {
  KernelAction a{};
  syscall(SYS_rt_sigaction, kBreakSignal, nullptr, &a, 8);
  return a.restorer;
}

void action(Run& r) {
  if (reserved(r.n(0))) return r.skip("reserved");
  void (*simple)(int, siginfo_t*, void*) = on_signal;
  void (*full)(int, siginfo_t*, void*) = on_info;
  KernelAction a{}, old{};
  a.handler = r.n(1) == 2   ? reinterpret_cast<uint64_t>(simple)
              : r.n(1) == 3 ? reinterpret_cast<uint64_t>(full)
                            : static_cast<uint64_t>(r.n(1));
  a.flags = static_cast<uint64_t>(r.n(2)) | 0x04000000 | (r.n(1) == 3 ? SA_SIGINFO : 0);
  a.restorer = restorer();
  a.mask = static_cast<uint64_t>(r.n(3));
  long n = r.sys_(SYS_rt_sigaction, r.n(0), &a, &old, 8);
  r.ret(n);
  if (n != 0) return;
  const char* what = old.handler == 0                                    ? "SIG_DFL"
                     : old.handler == 1                                  ? "SIG_IGN"
                     : old.handler == reinterpret_cast<uint64_t>(simple) ? "handler"
                                                                         : "info";
  r.log(" %s %lx", what, old.flags);
  r.signals(old.mask);
}

}  // namespace

void add_signal_calls(std::vector<Desc>* out) {
  out->insert(out->end(),
              {
                  {"sigaction",
                   kSignals | kProcs,
                   30,
                   {number(kSignalNumbers), words(kHandler), words(kFlags), words(kSet)},
                   action},
                  {"sigprocmask",
                   kSignals | kEvents,
                   20,
                   {words(kHow), words(kSet)},
                   [](Run& r) {
                     uint64_t set = static_cast<uint64_t>(r.n(1)), old = 0;
                     long n = r.sys_(SYS_rt_sigprocmask, r.n(0), &set, &old, 8);
                     r.ret(n);
                     r.signals(old);
                   },
                   0,
                   0,
                   true},
                  {"sigpending",
                   kSignals,
                   6,
                   {},
                   [](Run& r) {
                     uint64_t set = 0;
                     r.ret(r.sys_(SYS_rt_sigpending, &set, 8));
                     r.signals(set);
                   }},
                  {"kill",
                   kSignals | kProcs,
                   25,
                   {process(), number(kSignalNumbers)},
                   [](Run& r) { r.ret(r.sys_(SYS_kill, r.pid(0), r.n(1))); },
                   0,
                   0,
                   true},
                  {"kill_group",
                   kSignals | kProcs,
                   4,
                   {process(), number(kSignalNumbers)},
                   [](Run& r) { r.ret(r.sys_(SYS_kill, -r.pid(0), r.n(1))); },
                   0,
                   0,
                   true},
                  {"tgkill",
                   kSignals,
                   8,
                   {process(), process(), number(kSignalNumbers)},
                   [](Run& r) { r.ret(r.sys_(SYS_tgkill, r.pid(0), r.pid(1), r.n(2))); },
                   0,
                   0,
                   true},
                  {"raise",
                   kSignals | kEvents,
                   20,
                   {number(kSignalNumbers)},
                   [](Run& r) { r.ret(r.sys_(SYS_tkill, r.sys_(SYS_gettid), r.n(0))); },
                   0,
                   0,
                   true},
                  {"sigqueue",
                   kSignals,
                   12,
                   {process(), number(kSignalNumbers), number(kQueueCode), number(kValues)},
                   [](Run& r) {
                     siginfo_t info{};
                     info.si_signo = static_cast<int>(r.n(1));
                     info.si_code = static_cast<int>(r.n(2));
                     info.si_pid = static_cast<int>(r.sys_(SYS_getpid));
                     info.si_value.sival_int = static_cast<int>(r.n(3));
                     r.ret(r.sys_(SYS_rt_sigqueueinfo, r.pid(0), r.n(1), &info));
                   },
                   0,
                   0,
                   true},
                  {"sigtimedwait",
                   kSignals,
                   12,
                   {words(kSet)},
                   [](Run& r) {
                     uint64_t set = static_cast<uint64_t>(r.n(0));
                     siginfo_t info{};
                     timespec now{0, 0};
                     long n = r.sys_(SYS_rt_sigtimedwait, &set, &info, &now, 8);
                     r.ret(n);
                     if (n > 0) log_info(r, info);
                   }},
                  {"sigaltstack",
                   kSignals,
                   5,
                   {number(kStack), words(kStackFlags)},
                   [](Run& r) {
                     static char stack[16384];
                     stack_t s{}, old{};
                     s.ss_sp = stack;
                     s.ss_size = static_cast<size_t>(r.n(0));
                     s.ss_flags = static_cast<int>(r.n(1));
                     r.ret(r.sys_(SYS_sigaltstack, &s, &old));
                     r.log(" %s %d %zu", old.ss_sp == stack ? "ours" : "none", old.ss_flags,
                           old.ss_size);
                   }},
              });
}

}  // namespace oracle
