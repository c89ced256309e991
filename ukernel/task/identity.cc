#include "ukernel/task/identity.h"

namespace uk {

SigInfo siginfo_from(const Task& from, const Task& to, int signo, int code) {
  return siginfo_user(signo, code, pid_in(*to.group, from.tgid()), shown_uid(to, from.cred().uid));
}

SigInfo siginfo_about(const Task& child, const Task& to, int code, int status, uint64_t utime,
                      uint64_t stime) {
  return siginfo_child(code, pid_in(*to.group, child.tid), shown_uid(to, child.cred().uid), status,
                       utime, stime);
}

}  // namespace uk
