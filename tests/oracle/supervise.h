// Runs a sequence: starts its first process, hands out the calls one after the other, waits until
// each is over, and collects what was written.
//
// The supervisor takes part in no call. It knows its processes by pidfd, so it never signals
// another's; it ends all of them before it returns. Waiting is bounded: a call that sleeps for
// kPatience is interrupted, a sequence that makes no progress for ten seconds is killed, which the
// text says.
#pragma once

#include <string>
#include <vector>

#include "tests/oracle/call.h"

namespace oracle {

struct Settings {
  std::string scratch;  // an existing directory, ours alone
  int uid = 0;          // who the sequences run as
  bool chroot = false;  // into the scratch directory: needs privilege
};

class Supervisor {
 public:
  explicit Supervisor(const Settings& settings);
  // The calls with their results, what each process had at the end, and the tree of files.
  std::string run(const std::vector<Call>& calls);

 private:
  void enter_place();
  struct Watched {
    int pidfd = -1, stat = -1;
  };

  [[noreturn]] void first_process(const std::vector<Call>& calls);
  void meet();              // opens what new processes are watched by
  char state(int process);  // as /proc/PID/stat has it; 'X' when it is gone
  bool hand_out(int process, uint32_t begin, uint32_t end);
  void settle();
  void end_all();

  Settings settings_;
  struct Shared* shared_;
  Watched watched_[kProcesses];
  std::string place_;   // the scratch directory
  int directory_ = -1;  // the same, open, while a sequence has it
  uint32_t batch_ = 0;
};

}  // namespace oracle
