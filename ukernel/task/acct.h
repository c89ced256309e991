// Process accounting (acct(2), acct(5)): a record at the end of a file for every process that ends,
// as long as its filesystem has room.
//
// Ownership: the Kernel holds the Accounting while it is on, and so does who writes a record.
// record() suspends.
#pragma once

#include "ukernel/task/task.h"

namespace uk {

class Accounting {
 public:
  explicit Accounting(Ref<File> file) : file_(std::move(file)) {}
  // `last` is the last thread of a process that ends, and still has its memory.
  void record(Park& park, Task& last);

 private:
  bool has_room(Park& park, Kernel& kernel);
  Ref<File> file_;
  bool paused_ = false;
  uint64_t look_again_ns_ = 0;
};

// Records the end of the process, whose last thread this is, if accounting is on.
void account_end(Park& park, Task& last);

}  // namespace uk
