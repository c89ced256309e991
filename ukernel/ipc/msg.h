// System V message queues (msgsnd(2), msgrcv(2)).
//
// Ownership: the namespace's table and those who wait hold Refs. send() and receive() suspend.
// Lengths are checked by the caller against the namespace's limits.
#pragma once

#include <cstdint>
#include <list>
#include <string>

#include "ukernel/ipc/ids.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

class IpcNamespace;

class MsgQueue final : public IpcHeader, public RefCounted {
 public:
  struct Message {
    int64_t type;
    std::string text;
  };
  static Result<MsgQueue*> create(IpcNamespace& ns, const Cred& cred, int32_t key, uint32_t flags);
  explicit MsgQueue(IpcNamespace& ns);
  ~MsgQueue() override;

  // Waits for room unless `nowait`: kAGAIN, kIDRM, kRestartNoHand; kNOMEM.
  Result<> send(Park& park, Message message, int pid, bool nowait);
  struct Want {
    int64_t type = 0;     // as msgrcv(2): 0 any, > 0 this one, < 0 the lowest up to -type
    uint64_t max = 0;     // bytes of the buffer
    bool except = false;  // MSG_EXCEPT
    bool cut = false;     // MSG_NOERROR
    bool nowait = false;
  };
  // kNOMSG, k2BIG, kIDRM, kRestartNoHand. The text may be longer than `max` if it may be cut.
  Result<Message> receive(Park& park, const Want& want, int pid);
  // MSG_COPY: the message at this place stays. kNOMSG.
  Result<Message> peek(uint64_t index) const;
  void remove();
  void wake() { changed_.wake_all(); }

  uint64_t max_bytes;
  uint64_t bytes = 0;
  size_t count() const { return messages_.size(); }
  int64_t stime = 0, rtime = 0;
  int last_sender = 0, last_receiver = 0;

 private:
  std::list<Message>::iterator match(const Want& want);
  IpcNamespace& ns_;
  std::list<Message> messages_;
  WaitQueue changed_;
};

}  // namespace uk
