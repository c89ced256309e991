// The kernel's log as guests meet it: syslog(2), /dev/kmsg and /proc/kmsg. Keeps who has read how
// far; the lines are those of base/log.h, a bounded ring.
//
// Ownership: the Kernel owns it and the Log, which must outlive it. print() and read() with Park&
// may suspend. Lines may hold what guests wrote.
#pragma once

#include <cstdint>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

class KernelLog {
 public:
  explicit KernelLog(Log& log);
  ~KernelLog();

  // ---- syslog(2). Texts are records as "<6>[    1.234567] text\n".
  // Up to `max` bytes of what no such reader has had; waits until there is something. kRestartSys.
  Result<std::string> take(Park& park, size_t max, bool wait);
  // The newest whole records since the last clear() that fit into `max` bytes.
  std::string newest(size_t max) const;
  void clear();
  size_t unread_bytes() const;
  size_t capacity_bytes() const;

  // ---- /dev/kmsg: "6,SEQ,USEC,-;text\n", a record a read.
  // The first record at or behind `seq`, and its number; nullptr if there is none.
  const Log::Line* at_or_behind(uint64_t seq) const;
  static std::string kmsg_record(const Log::Line& line);
  uint64_t first_seq() const;  // of what is still kept
  uint64_t next_seq() const;
  uint64_t clear_seq() const { return clear_seq_; }
  // A line of a guest's: "<14>text" or "text"; facility 0 is the kernel's alone and becomes 1.
  void write(std::string_view text);

  WaitQueue arrived;
  Log& log() { return log_; }

 private:
  static std::string syslog_record(const Log::Line& line);
  Log& log_;
  uint64_t read_seq_ = 0;
  size_t read_offset_ = 0;  // bytes of that record which are read
  uint64_t clear_seq_ = 0;
};

}  // namespace uk
