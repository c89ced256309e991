// An IPC namespace (ipc_namespaces(7)): its System V objects with their limits, and its POSIX
// message queues.
//
// Ownership: tasks hold Refs; it owns the objects until they are removed. Segments outlive it while
// they are mapped. Reactor-owned; nothing here suspends.
#pragma once

#include <cstdint>
#include <functional>

#include "ukernel/ipc/ids.h"
#include "ukernel/ipc/msg.h"
#include "ukernel/ipc/sem.h"
#include "ukernel/ipc/shm.h"
#include "ukernel/mm/phys.h"
#include "ukernel/sched/clock.h"
#include "ukernel/vfs/inode.h"

namespace uk {

class IpcNamespace final : public Namespace {
 public:
  // `current_pid`: the process for which the kernel works now, for shm_lpid; 0 if none.
  IpcNamespace(Clock& clock, PhysMemory& mem, std::function<int()> current_pid);
  ~IpcNamespace() override;

  IpcIds<ShmSegment> segments;
  IpcIds<SemSet> sem_sets;
  IpcIds<MsgQueue> queues;

  // Limits of /proc/sys/kernel; the defaults are Linux's.
  uint64_t shm_max_bytes = UINT64_MAX - (1ull << 24), shm_max_pages = UINT64_MAX - (1ull << 24);
  int shm_max_segments = 4096;
  int msg_max_bytes = 8192, msg_queue_bytes = 16384, msg_max_queues = 32000;
  int sem_max_per_set = 32000, sem_max = 1024000000, sem_max_ops = 500, sem_max_sets = 32000;

  // And of /proc/sys/fs/mqueue.
  int mq_queues_max = 256, mq_msg_max = 10, mq_msgsize_max = 8192, mq_msg_default = 10,
      mq_msgsize_default = 8192;

  uint64_t shm_pages = 0;  // of all segments
  int sem_count = 0;

  // Kernel memory for messages and semaphores: an eighth of the guest's memory. False: no more.
  bool charge(uint64_t bytes);
  void uncharge(uint64_t bytes) { charged_ -= bytes; }

  int64_t now() const;  // seconds since the epoch
  int current_pid() const { return current_pid_(); }
  Clock& clock;
  PhysMemory& mem;
  // POSIX message queues (ukernel/fs/mqueue); null until first used.
  Ref<SuperBlock> mqueues;
  std::function<void()> close_mqueues;  // at the namespace's end
  // A fresh one with the same limits as Linux gives a new namespace.
  Ref<IpcNamespace> fresh() const { return make_ref<IpcNamespace>(clock, mem, current_pid_); }

 private:
  std::function<int()> current_pid_;
  uint64_t charged_ = 0;
  const uint64_t charge_limit_;
};

}  // namespace uk
