#include "ukernel/ipc/namespace.h"

namespace uk {

IpcNamespace::IpcNamespace(Clock& clock, PhysMemory& mem, std::function<int()> current_pid)
    : Namespace(NsKind::kIpc),
      clock(clock),
      mem(mem),
      current_pid_(std::move(current_pid)),
      charge_limit_(uint64_t{mem.total_pages()} * kPageSize / 8) {}

IpcNamespace::~IpcNamespace() {
  for (auto& [index, s] : segments.all()) s->orphan();
  if (close_mqueues) close_mqueues();
}

bool IpcNamespace::charge(uint64_t bytes) {
  if (bytes > charge_limit_ - charged_) return false;
  charged_ += bytes;
  return true;
}

int64_t IpcNamespace::now() const { return static_cast<int64_t>(clock.realtime_ns() / kNsPerSec); }

}  // namespace uk
