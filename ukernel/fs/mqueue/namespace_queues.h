// The message queues of an IPC namespace, made when they are first asked for. Does not suspend.
#pragma once

#include "ukernel/fs/mqueue/mqueue.h"
#include "ukernel/ipc/namespace.h"

namespace uk {

inline Ref<MqSuper> message_queues(Vfs& vfs, IpcNamespace& ns) {
  if (!ns.mqueues) {
    const uint64_t memory = uint64_t{ns.mem.total_pages()} * kPageSize;
    auto super = make_ref<MqSuper>(vfs, memory / 8);
    // Queues hold their superblock, and it them.
    ns.close_mqueues = [super] { super->queues.clear(); };
    ns.mqueues = super;
  }
  return static_ref_cast<MqSuper>(ns.mqueues);
}

}  // namespace uk
