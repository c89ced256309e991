#include "ukernel/platform/stub/stub_space.h"

#include <sys/syscall.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "ukernel/platform/stub/filter.h"

namespace uk::stub {
namespace {

Errno host_error(uint64_t value) { return static_cast<Errno>(-static_cast<int64_t>(value)); }

}  // namespace

Result<uint64_t> MmThread::command(Park& park, CommandPage& page, const Command& c) {
  MutexLock hold(park, lock_);
  page.commands[0] = c;
  page.count = 1;
  BatchResult r = TRY(run_batch(park));
  if (r.left != 0) return Err(host_error(r.value));
  return r.value;
}

void StubSpace::check_range(uint64_t addr, uint64_t len) const {
  CHECK((addr | len) % kPage == 0 && len != 0 && addr < user_limit_ && len <= user_limit_ - addr);
}

void StubSpace::map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                    bool populate) {
  check_range(addr, len);
  queue_.map(addr, len, prot, fd, offset, populate);
}

void StubSpace::map_late(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset,
                         bool populate) {
  check_range(addr, len);
  queue_.map_late(addr, len, prot, fd, offset, populate);
}

void StubSpace::unmap(uint64_t addr, uint64_t len, By by) {
  check_range(addr, len);
  queue_.unmap(addr, len, may_be_errand(addr, len, by));
}

void StubSpace::protect(uint64_t addr, uint64_t len, Prot prot, By by) {
  check_range(addr, len);
  queue_.protect(addr, len, prot, may_be_errand(addr, len, by));
}

bool StubSpace::may_be_errand(uint64_t addr, uint64_t len, By by) const {
  return by == By::kGuest && has_errands() && stub::may_be_errand(user_limit_, addr, len);
}

void StubSpace::unmap_all() {
  queue_.clear();
  queue_.unmap(0, user_limit_);
}

Mappings StubSpace::take_account() {
  if (broken_ || found_) account_.lose();
  queue_.each([&](const Command& c) { account_.forget(c.args[0], c.args[0] + c.args[1]); });
  return std::exchange(account_, {});
}

void StubSpace::errands_over(bool made) {
  // Whether rights are gone is the guest's word; nobody will see to it.
  queue_.each_errand([&](uint64_t start, uint64_t end) { account_.forget(start, end); });
  queue_.errands_over(made);
}

void StubSpace::adopt_found() {
  Mappings wanted;
  queue_.each([&](const Command& c) { wanted.apply(c); });
  if (wanted.lost()) {
    std::vector<Command> all = {{.nr = SYS_munmap, .args = {0, user_limit_}}};
    queue_.each([&](const Command& c) { all.push_back(c); });
    queue_.replace(all);
  } else {
    queue_.replace(found_->change_into(wanted));
  }
  account_ = *std::exchange(found_, std::nullopt);
}

Result<> StubSpace::flush(Park& park) {
  // Taken even when nothing is queued: another fiber's batch, holding earlier changes of ours, may
  // be on its way.
  MutexLock hold(park, mm_.lock());
  if (broken_) return Err(Errno::kSRCH);
  if (found_) adopt_found();
  Result<> result;
  while (!queue_.empty()) {
    CommandPage& p = page_;
    uint32_t todo = static_cast<uint32_t>(queue_.fill(p));
    for (uint32_t i = 0; i < todo; ++i) account_.apply(p.commands[i]);
    while (todo != 0) {
      BatchResult r = TRY(mm_.run_batch(park));
      if (r.left == 0) break;
      if (r.left > todo) {  // no mm thread of ours
        account_.lose();
        return Err(Errno::kSRCH);
      }
      // One was refused. The rest must still take effect: unmapped pages are about to get new
      // owners.
      broken_ = true;
      if (result) result = Err(host_error(r.value));
      const uint32_t failed = todo - r.left;
      std::copy(p.commands + failed + 1, p.commands + todo, p.commands);
      todo = r.left - 1;
      p.count = todo;
    }
  }
  return result;
}

}  // namespace uk::stub
