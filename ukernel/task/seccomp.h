// seccomp(2): filters of classic BPF over a system call, and what becomes of the call.
//
// Ownership: tasks hold the newest filter, each filter the one before it. Programs are guest input:
// create() checks all that run() relies on. Only before_filtered_call() may suspend (a
// tracer's stop, a listener's answer).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/platform/platform.h"

namespace uk {

class SeccompNotifier;
class Task;

struct SeccompData {  // struct seccomp_data, what programs load from
  int32_t nr;
  uint32_t arch;
  uint64_t ip;
  uint64_t args[6];
};
static_assert(sizeof(SeccompData) == 64);

class SeccompFilter final : public RefCounted {
 public:
  struct Insn {  // struct sock_filter
    uint16_t code;
    uint8_t jump_true, jump_false;
    uint32_t k;
  };
  static constexpr size_t kMaxInsns = 4096;  // BPF_MAXINSNS

  // kINVAL: not a program; kNOMEM: too much for one call.
  static Result<Ref<SeccompFilter>> create(std::vector<Insn> program, Ref<SeccompFilter> previous,
                                           bool log);
  // The strictest answer of all filters, with the data of the one that gave it (`by`).
  uint32_t run(const SeccompData& data, const SeccompFilter** by) const;
  // Is `other` this filter or one before it?
  bool descends_from(const SeccompFilter* other) const;
  int count() const { return previous_ ? previous_->count() + 1 : 1; }
  bool log() const { return log_; }
  const std::vector<Insn>& program() const { return program_; }
  const SeccompFilter* previous() const { return previous_.get(); }
  // Who answers SECCOMP_RET_USER_NOTIF; null if nobody was asked for.
  SeccompNotifier* notifier() const { return notifier_.get(); }
  void set_notifier(Ref<SeccompNotifier> n);
  // This filter or one before it has somebody who listens.
  bool listened() const;

  explicit SeccompFilter(std::vector<Insn> program);
  ~SeccompFilter() override;

 private:
  uint32_t run_one(const SeccompData& data) const;
  std::vector<Insn> program_;
  Ref<SeccompFilter> previous_;
  size_t path_insns_ = 0;  // of it and those before, as Linux counts them
  bool log_ = false;
  Ref<SeccompNotifier> notifier_;
};

// What mode and filters say of the call that is about to be made. A result: it is not made, and
// this is what it gives; the only errors are restarts (a signal came while a listener was asked:
// ask again, unless a handler runs). The task may have got a signal or have to exit; a tracer may
// have changed the call (`trap`).
std::optional<Result<int64_t>> before_filtered_call(Task& task, Trap& trap);

}  // namespace uk
