// seccomp_unotify(2): a filter's listener, which answers calls that the filter hands to it
// (SECCOMP_RET_USER_NOTIF), and the file by which it does so.
//
// Ownership: the filter and its listener's file share a SeccompNotifier. Each call that waits for
// an answer has a Notification on its own fiber's behalf, listed there as long as it waits.
// Reactor-owned. hand_over() and the file's ioctl suspend. Answers are guest data: a listener may
// return any number.
#pragma once

#include <list>
#include <optional>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/sched/wait_queue.h"
#include "ukernel/task/seccomp.h"
#include "ukernel/vfs/file.h"

namespace uk {

class SeccompNotifier final : public RefCounted {
 public:
  explicit SeccompNotifier(bool killable, uint64_t first_id)
      : killable_(killable), next_id_(first_id) {}

  // Waits for the listener's answer to a call of `task`. Nothing: the call is to be made. Errors:
  // kRestartSys, when a signal ended the wait; kNOSYS, when nobody listens.
  std::optional<Result<int64_t>> hand_over(Task& task, const SeccompData& data);
  // The filter has no users any more: its listener's file says POLLHUP.
  void filter_gone();
  bool listened() const { return open_; }
  bool killable() const { return killable_; }

 private:
  friend class SeccompListenerFile;
  enum class State : uint8_t { kNew, kSent, kReplied };
  struct Notification : RefCounted {
    uint64_t id = 0;
    Task* task = nullptr;  // waits for the answer as long as this is listed
    SeccompData data{};
    State state = State::kNew;
    Result<int64_t> answer = 0;
    bool go_on = false;  // SECCOMP_USER_NOTIF_FLAG_CONTINUE
    WaitQueue changed;
  };
  Ref<Notification> find(uint64_t id) const;
  void close();

  const bool killable_;  // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
  bool open_ = true;     // the file is there
  bool filter_ = true;   // so is the filter
  uint64_t next_id_;
  // How many receives may go ahead. As on Linux one that was counted may find nothing, because the
  // call was interrupted meanwhile.
  uint64_t requests_ = 0;
  std::list<Ref<Notification>> list_;
  WaitQueue queue_;
};

// The listener's file.
Ref<File> make_seccomp_listener(Ref<SeccompNotifier> notifier);

}  // namespace uk
