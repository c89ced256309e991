// System V shared memory (shmget(2), shmat(2)): a segment is a memory object that counts the
// mappings of it and goes with the last one once it has been marked (IPC_RMID).
//
// Ownership: the namespace's table and every mapping hold a Ref. Contents are guest data.
#pragma once

#include <string>

#include "ukernel/ipc/ids.h"
#include "ukernel/mm/page_cache.h"

namespace uk {

class IpcNamespace;

class ShmSegment final : public PageCacheObject, public IpcHeader {
 public:
  static constexpr uint32_t kDest = 01000, kLocked = 02000;  // bits of mode

  // Makes a segment of `bytes` and gives it an id. kINVAL (size), kNOSPC (limits).
  static Result<ShmSegment*> create(IpcNamespace& ns, const Cred& cred, int32_t key, uint64_t bytes,
                                    uint32_t flags);
  ShmSegment(IpcNamespace& ns, uint64_t bytes);

  // ---- MemoryObject: mappings of it come and go
  void mapped() override;
  void unmapped() override;
  bool is_segment() const override { return true; }
  uint64_t ino() const override { return static_cast<uint64_t>(id); }

  // IPC_RMID: gone at once, or with the last mapping.
  void mark();
  // The namespace has ended.
  void orphan() { ns_ = nullptr; }
  std::string map_name() const;  // "/SYSV00000000 (deleted)" of /proc/PID/maps

  const uint64_t bytes;
  const int creator_pid;
  int last_pid = 0;
  int64_t atime = 0, dtime = 0;
  uint64_t attached = 0;

 private:
  void destroy();
  IpcNamespace* ns_;
};

}  // namespace uk
