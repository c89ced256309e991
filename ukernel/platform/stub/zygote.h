// The zygote: the first stub, forked once at boot while the kernel is small. It removes everything
// from its address space but the stub area and from then on clones stubs on command. Here is the
// shared part: finding the area, the memory shared with stubs, the fork. A platform drives the
// zygote's mm thread its own way.
//
// Ownership: the Platform owns its Zygote. Stubs share the kernel's descriptor table (CLONE_FILES),
// so that a command names a memfd or host file by number. They die with the kernel: parent-death
// signal, and PTRACE_O_EXITKILL under ptrace.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/result.h"
#include "hostio/sys/mem.h"
#include "ukernel/platform/stub/layout.h"

namespace uk::stub {

// The lowest address that the host refuses to map, by trying: TASK_SIZE, or an outer kernel's
// limit.
Result<uint64_t> probe_address_top();

// True if the host lets programs read and write their FS and GS bases by instruction.
bool has_fsgsbase();
// True if the gate can save and load all of a guest's registers here (direct).
bool gate_saves();

// Command pages, one for each stub, in one memfd: mapped whole in the kernel, one page read-only in
// each stub.
class CommandPages {
 public:
  static constexpr uint32_t kMaxSlots = 65536;
  static Result<CommandPages> create();

  Result<uint32_t> take();        // kAGAIN: all in use
  void give_back(uint32_t slot);  // only when no stub maps it any more
  CommandPage& page(uint32_t slot) { return reinterpret_cast<CommandPage*>(map_.data())[slot]; }
  static uint64_t offset(uint32_t slot) { return slot * kPage; }
  int fd() const { return fd_.get(); }

 private:
  sys::Fd fd_;
  sys::Mapping map_;
  uint32_t next_ = 0;
  std::vector<uint32_t> free_;
};

// A command page slot, given back on destruction.
class Slot {
 public:
  Slot() = default;
  Slot(CommandPages& pages, uint32_t index) : pages_(&pages), index_(index) {}
  Slot(Slot&& o) noexcept : pages_(std::exchange(o.pages_, nullptr)), index_(o.index_) {}
  Slot& operator=(Slot&& o) noexcept {
    std::swap(pages_, o.pages_);
    std::swap(index_, o.index_);
    return *this;
  }
  ~Slot() {
    if (pages_ != nullptr) pages_->give_back(index_);
  }
  uint32_t index() const { return index_; }
  CommandPage& page() const { return pages_->page(index_); }
  uint64_t offset() const { return CommandPages::offset(index_); }

 private:
  CommandPages* pages_ = nullptr;
  uint32_t index_ = 0;
};

struct Zygote {
  uint64_t area = 0;  // base of the stub area
  CommandPages pages;
  Slot slot;
  Slot published_page;
  int pid = 0;

  // What all stubs can read.
  Published& published() { return reinterpret_cast<Published&>(published_page.page()); }

  // What the child says about its start, in memory shared until it unmaps all.
  struct Report {
    uint32_t ready;    // futex: 1 when the filter is in force
    int32_t error;     // errno of what failed, 0
    int32_t listener;  // with SECCOMP_FILTER_FLAG_NEW_LISTENER: its descriptor, in the shared table
  };
  sys::Mapping report_page;
  // Descriptors the child uses while it starts; the table is shared, so they stay open until
  // started().
  std::vector<sys::Fd> starting;
  void started() { starting.clear(); }
  Report& report() { return *reinterpret_cast<Report*>(report_page.data()); }

  struct Options {
    const char* entry;          // symbol: the mm thread's loop
    uint32_t otherwise;         // what the filter answers to calls not from stub code
    uint32_t report;            // ... and to reports of stub code
    unsigned filter_flags = 0;  // SECCOMP_FILTER_FLAG_NEW_LISTENER...
    const char* handler = uk_stub_handler;
    bool errands = false;  // guest threads may make some (stub/commands.h)
    // Signals that enter the handler; with any, the mm thread blocks all and the others are
    // ignored.
    std::vector<int> handled = {};
    // Called in the kernel while the child waits; an error ends it.
    std::function<Result<>(int pid)> attach;
  };
  // Forks and lets the child go. The platform then awaits its entering the loop, or its death.
  // Errors: the host's.
  static Result<std::unique_ptr<Zygote>> start(const Options& options);

  // Prepares a new stub's command page and the command that clones it.
  Result<Slot> prepare_stub(uint64_t extra_clone_flags, Command* clone);
  uint64_t address(const char* symbol) const { return stub_address(area, symbol); }
};

}  // namespace uk::stub
