#include "ukernel/task/acct.h"

#include <linux/acct.h>

#include <algorithm>
#include <cstring>

#include "ukernel/kernel.h"

namespace uk {
namespace {

// acct_parm: the percentages of free blocks where accounting stops and goes on, and how often to
// look.
constexpr uint64_t kStopBelow = 2, kGoOnAbove = 4, kLookNs = 30'000'000'000;
constexpr uint64_t kTickNs = 1'000'000'000 / AHZ;
constexpr uint8_t kVersion = 3;

// comp_t: 13 bits, and 3 of an exponent of 8 (Linux: encode_comp_t()).
uint16_t compact(uint64_t value) {
  constexpr uint64_t kMost = (1 << 13) - 1;
  unsigned exponent = 0;
  bool round = false;
  for (; value > kMost; value >>= 3, ++exponent) round = (value & 4) != 0;
  if (round && ++value > kMost) {
    value >>= 3;
    ++exponent;
  }
  return exponent > 7 ? UINT16_MAX : static_cast<uint16_t>(exponent << 13 | value);
}

acct_v3 record_of(Task& last) {
  const ThreadGroup& g = *last.group;
  const Kernel& k = last.kernel;
  const Usage usage = g.usage();
  const int status = g.exiting ? g.exit_code : last.exit_code;
  const uint64_t now = k.clock.monotonic_ns() - k.boot_ns;
  const uint64_t ran_ns = now - std::min(now, g.start_ns);
  acct_v3 r = {};
  r.ac_version = kVersion;
  r.ac_flag = static_cast<char>((g.did_exec ? 0 : AFORK) | ((status & 0x80) != 0 ? ACORE : 0) |
                                ((status & 0x7f) != 0 ? AXSIG : 0));
  r.ac_exitcode = static_cast<uint32_t>(status);
  r.ac_uid = last.cred().uid;
  r.ac_gid = last.cred().gid;
  r.ac_pid = static_cast<uint32_t>(g.tgid);
  r.ac_ppid = g.parent != nullptr ? static_cast<uint32_t>(g.parent->tgid) : 0;
  r.ac_btime = static_cast<uint32_t>((k.clock.realtime_ns() - ran_ns) / 1'000'000'000);
  r.ac_etime = static_cast<float>(ran_ns / kTickNs);
  r.ac_utime = compact(usage.utime_ns / kTickNs);
  r.ac_stime = compact(usage.stime_ns / kTickNs);
  r.ac_minflt = compact(usage.min_faults);
  r.ac_majflt = compact(usage.maj_faults);
  if (last.mm_ref()) r.ac_mem = compact(last.mm().stats().total_pages * (kPageSize / 1024));
  std::strncpy(r.ac_comm, g.leader != nullptr ? g.leader->comm.c_str() : last.comm.c_str(),
               sizeof r.ac_comm - 1);
  return r;
}

}  // namespace

bool AccountFile::has_room(Park& park, Kernel& kernel) {
  const uint64_t now = kernel.clock.monotonic_ns();
  if (now < look_again_ns_) return !paused_;
  look_again_ns_ = now + kLookNs;
  Ref<SuperBlock> sb(&file_->inode()->sb());
  const Result<FsStat> stat = sb->statfs(park);
  if (!stat) return !paused_;
  const uint64_t limit = stat->blocks / 100 * (paused_ ? kGoOnAbove : kStopBelow);
  const bool room = paused_ ? stat->blocks_avail >= limit : stat->blocks_avail > limit;
  if (room == paused_)
    kernel.log.info(room ? "Process accounting resumed" : "Process accounting paused");
  paused_ = !room;
  return room;
}

void AccountFile::record(Park& park, Task& last) {
  if (!has_room(park, last.kernel)) return;
  const acct_v3 r = record_of(last);
  BufferSource from(std::as_bytes(std::span(&r, 1)));
  uint64_t at = 0;  // O_APPEND
  (void)file_->write(park, from, at);
}

std::shared_ptr<Accounting> accounting_of(Kernel& kernel) {
  if (!kernel.accounting) kernel.accounting = std::make_shared<Accounting>();
  return kernel.accounting;
}

void account_end(Park& park, Task& last) {
  const std::shared_ptr<AccountFile> on = last.kernel.accounting->file;  // it may go meanwhile
  if (on) on->record(park, last);
}

}  // namespace uk
