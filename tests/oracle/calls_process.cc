// Processes: making them, their end, waiting, groups and sessions, limits.
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

const Words kFork{{{"SIGCHLD", SIGCHLD, 70}, {"0", 0, 8}, {"SIGUSR1", SIGUSR1, 8}},
                  {{"CLONE_FILES", CLONE_FILES, 12},
                   {"CLONE_FS", CLONE_FS, 12},
                   {"CLONE_PARENT", CLONE_PARENT, 4}}};
const Words kCodes = numbers({0, 1, 7, 255, 256, -1});
const Words kWait{{{"WNOHANG", WNOHANG, 97}, {"0", 0, 3}},
                  {{"WUNTRACED", WUNTRACED, 30},
                   {"WCONTINUED", WCONTINUED, 25},
                   {"__WALL", __WALL, 10},
                   {"__WCLONE", __WCLONE, 5}}};
const Words kWaitId{
    {{"WNOHANG|WEXITED", WNOHANG | WEXITED, 60},
     {"WNOHANG", WNOHANG, 30},
     {"WNOHANG|WNOWAIT|WEXITED", WNOHANG | WNOWAIT | WEXITED, 20}},
    {{"WSTOPPED", WSTOPPED, 30}, {"WCONTINUED", WCONTINUED, 30}, {"__WALL", __WALL, 10}}};
const Words kWaitFor{
    {{"P_ALL", P_ALL, 40}, {"P_PID", P_PID, 60}, {"P_PGID", P_PGID, 20}, {"9", 9, 1}}, {}};
// Who wait4 waits for: a process, its group, any, our own group.
const Words kWho{{{"pid", 0, 50}, {"group", 1, 10}, {"any", 2, 35}, {"mine", 3, 10}}, {}};
const Words kResource{
    {ORACLE_WORD(RLIMIT_NOFILE), ORACLE_WORD(RLIMIT_FSIZE), ORACLE_WORD(RLIMIT_CORE)}, {}};
const Words kLimits = numbers({0, 5, 10, 4096, 10000, 65536, 1000000});
const Words kPrctl{{ORACLE_WORD(PR_GET_DUMPABLE),
                    ORACLE_WORD(PR_GET_KEEPCAPS),
                    ORACLE_WORD(PR_GET_PDEATHSIG),
                    ORACLE_WORD(PR_GET_NO_NEW_PRIVS),
                    ORACLE_WORD(PR_GET_TIMERSLACK),
                    ORACLE_WORD(PR_GET_CHILD_SUBREAPER),
                    ORACLE_WORD(PR_SET_KEEPCAPS),
                    ORACLE_WORD(PR_SET_TIMERSLACK),
                    ORACLE_WORD(PR_SET_CHILD_SUBREAPER),
                    ORACLE_WORD(PR_SET_NO_NEW_PRIVS),
                    ORACLE_WORD(PR_GET_SECUREBITS),
                    ORACLE_WORD(PR_GET_THP_DISABLE),
                    {"9999", 9999, 2}},
                   {}};
const Words kPidfd{{{"0", 0, 60}, {"PIDFD_NONBLOCK", 04000, 40}, {"1", 1, 2}}, {}};
const Words kNice = numbers({0, 1, 5, 19});
const Words kIdKinds = numbers({0, 1, 2, 3});

void wait_for(Run& r) {
  long who = 0;
  switch (r.n(0)) {
    case 0:
      who = r.pid(1);
      break;
    case 1:
      who = -static_cast<long>(r.pid(1));
      break;
    case 2:
      who = -1;
      break;
    default:
      who = 0;
  }
  int status = 0;
  long n = r.sys_(SYS_wait4, who, &status, r.n(2), nullptr);
  r.ret_pid(n);
  if (n > 0) r.log(" status %x", status);
}

void wait_id(Run& r) {
  siginfo_t info{};
  info.si_pid = -7;
  long n = r.sys_(SYS_waitid, r.n(0), r.n(0) == P_ALL ? 0 : r.pid(1), &info, r.n(2), nullptr);
  r.ret(n);
  if (n == 0 && info.si_pid != 0) {
    r.log(" {signo %d code %d p%d uid %d status %x}", info.si_signo, info.si_code,
          r.process_of(info.si_pid), info.si_uid, info.si_status);
  }
}

}  // namespace

void add_process_calls(std::vector<Desc>* out) {
  out->insert(
      out->end(),
      {
          {"fork",
           kProcs | kSignals | kFiles | kMemory | kPipes,
           10,
           {words(kFork)},
           [](Run& r) { r.spawn(r.n(0)); },
           0,
           0,
           true},
          {"exit",
           kProcs,
           4,
           {number(kCodes)},
           [](Run& r) { r.sys_(SYS_exit_group, r.n(0)); },
           0,
           0,
           true},
          {"wait4",
           kProcs | kSignals,
           20,
           {words(kWho), process(), words(kWait)},
           wait_for,
           0,
           0,
           true},
          {"waitid", kProcs, 15, {words(kWaitFor), process(), words(kWaitId)}, wait_id, 0, 0, true},
          {"getppid", kProcs, 3, {}, [](Run& r) { r.ret_pid(r.sys_(SYS_getppid)); }},
          {"setpgid",
           kProcs,
           8,
           {process(), process()},
           [](Run& r) { r.ret(r.sys_(SYS_setpgid, r.pid(0), r.pid(1))); },
           0,
           0,
           true},
          {"getpgid",
           kProcs,
           5,
           {process()},
           [](Run& r) { r.ret_pid(r.sys_(SYS_getpgid, r.pid(0))); }},
          {"setsid", kProcs, 3, {}, [](Run& r) { r.ret_pid(r.sys_(SYS_setsid)); }, 0, 0, true},
          {"getsid",
           kProcs,
           3,
           {process()},
           [](Run& r) { r.ret_pid(r.sys_(SYS_getsid, r.pid(0))); }},
          {"pidfd_open",
           kProcs | kEvents,
           6,
           {process(), words(kPidfd)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_pidfd_open, r.pid(0), r.n(1))); },
           kPidFd,
           1},
          {"pidfd_send_signal",
           kProcs,
           6,
           {fd(kPidFd), number(kSignalNumbers)},
           [](Run& r) { r.ret(r.sys_(SYS_pidfd_send_signal, r.fd(0), r.n(1), nullptr, 0)); },
           0,
           0,
           true},
          {"pidfd_getfd",
           kProcs,
           3,
           {fd(kPidFd), number(kIdKinds)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_pidfd_getfd, r.fd(0), r.n(1) + 3, 0)); },
           kData,
           1},
          {"wait_pidfd",
           kProcs,
           4,
           {fd(kPidFd), words(kWaitId)},
           [](Run& r) {
             siginfo_t info{};
             long n = r.sys_(SYS_waitid, 3, r.fd(0), &info, r.n(1), nullptr);
             r.ret(n);
             if (n == 0 && info.si_pid != 0)
               r.log(" {code %d p%d status %x}", info.si_code, r.process_of(info.si_pid),
                     info.si_status);
           },
           0,
           0,
           true},
          {"setrlimit",
           kProcs | kFiles | kFds,
           2,
           {words(kResource), number(kLimits), number(kLimits)},
           [](Run& r) {
             rlimit l{static_cast<rlim_t>(r.n(1)), static_cast<rlim_t>(r.n(2))};
             r.ret(r.sys_(SYS_prlimit64, 0, r.n(0), &l, nullptr));
           }},
          {"getrlimit",
           kProcs,
           2,
           {words(kResource)},
           [](Run& r) {
             rlimit l{};
             r.ret(r.sys_(SYS_prlimit64, 0, r.n(0), nullptr, &l));
             r.log(" %lu %lu", l.rlim_cur, l.rlim_max);
           }},
          {"prctl",
           kProcs,
           4,
           {words(kPrctl), number(kIdKinds)},
           [](Run& r) {
             int out = -1;
             bool pointer = r.n(0) == PR_GET_PDEATHSIG || r.n(0) == PR_GET_CHILD_SUBREAPER;
             r.ret(r.sys_(SYS_prctl, r.n(0), pointer ? reinterpret_cast<long>(&out) : r.n(1), 0, 0,
                          0));
             if (pointer) r.log(" %d", out);
           }},
          {"setpriority",
           kProcs,
           2,
           {process(), number(kNice)},
           [](Run& r) { r.ret(r.sys_(SYS_setpriority, 0, r.pid(0), r.n(1))); }},
          {"getpriority",
           kProcs,
           2,
           {process()},
           [](Run& r) { r.ret(r.sys_(SYS_getpriority, 0, r.pid(0))); }},
          {"set_tid",
           kProcs,
           1,
           {},
           [](Run& r) {
             r.log(" -> %s", r.sys_(SYS_getpid) == r.sys_(SYS_gettid) ? "leader" : "thread");
           }},
      });
}

}  // namespace oracle
