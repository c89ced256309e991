// Who is told of what processes do: the file of process accounting (acct(2), acct(5)), which gets a
// record for every process that ends as long as its filesystem has room, and those who watch
// (process_events.h).
//
// Ownership: the Kernel holds the Accounting once there was anybody to tell; so do watchers, and
// who writes a record holds its file. record() suspends.
#pragma once

#include <memory>
#include <vector>

#include "ukernel/task/task.h"

namespace uk {

class ProcessWatcher;

class AccountFile {
 public:
  explicit AccountFile(Ref<File> file) : file_(std::move(file)) {}
  // `last` is the last thread of a process that ends, and still has its memory.
  void record(Park& park, Task& last);

 private:
  bool has_room(Park& park, Kernel& kernel);
  Ref<File> file_;
  bool paused_ = false;
  uint64_t look_again_ns_ = 0;
};

class Accounting {
 public:
  std::shared_ptr<AccountFile> file;      // null: acct(2) is off
  std::vector<ProcessWatcher*> watchers;  // not owned
};
// The instance's, made with its first use.
std::shared_ptr<Accounting> accounting_of(Kernel& kernel);

// Records the end of the process, whose last thread this is, if accounting is on.
void account_end(Park& park, Task& last);

}  // namespace uk
