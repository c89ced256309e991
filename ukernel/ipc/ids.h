// What all System V objects share: the header with key, owner and mode (struct ipc64_perm), the
// permission rule, and the table that gives out identifiers as Linux does (sysvipc(7)).
//
// Ownership: IpcIds holds a Ref to each object until it is removed; who waits on an object holds
// one too. Reactor-owned; nothing here suspends. Keys, ids and flags are guest input.
#pragma once

#include <sys/ipc.h>

#include <algorithm>
#include <cstdint>
#include <map>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/vfs/cred.h"

namespace uk {

struct IpcHeader {
  int id = -1;
  int32_t key = 0;  // IPC_PRIVATE (0) once a segment is marked for destruction
  uint32_t uid = 0, gid = 0, cuid = 0, cgid = 0;
  uint32_t mode = 0;
  int64_t ctime = 0;  // seconds
  bool removed = false;

  void own(const Cred& cred, int32_t k, uint32_t flags) {
    key = k;
    mode = flags & 0777;
    uid = cuid = cred.euid;
    gid = cgid = cred.egid;
  }
  // `wanted`: mode bits in any of the three places (0444 to read, 0222 to change).
  bool permits(const Cred& cred, uint32_t wanted) const {
    wanted |= (wanted >> 6) | (wanted >> 3);
    uint32_t granted = mode;
    if (cred.euid == cuid || cred.euid == uid) {
      granted >>= 6;
    } else if (in_group(cred, cgid) || in_group(cred, gid)) {
      granted >>= 3;
    }
    return (wanted & ~granted & 7) == 0 || cred.has(Cap::kIpcOwner);
  }
  // IPC_SET and IPC_RMID.
  bool owned_by(const Cred& cred) const {
    return cred.euid == cuid || cred.euid == uid || cred.has(Cap::kSysAdmin);
  }

 private:
  static bool in_group(const Cred& cred, uint32_t g) {
    return g == cred.egid ||
           std::find(cred.groups.begin(), cred.groups.end(), g) != cred.groups.end();
  }
};

// T is RefCounted and an IpcHeader. An id is a sequence number above an index.
template <class T>
class IpcIds {
 public:
  static constexpr int kIndexBits = 15;
  static constexpr int kIndexMask = (1 << kIndexBits) - 1;
  static constexpr int kMaxSequence = INT32_MAX >> kIndexBits;
  static constexpr int kMinCycle = 64;  // indices are not used again at once

  T* find(int id) const {
    T* t = id < 0 ? nullptr : at(id & kIndexMask);
    return t != nullptr && t->id == id ? t : nullptr;
  }
  T* at(int index) const {
    auto it = by_index_.find(index);
    return it == by_index_.end() ? nullptr : it->second.get();
  }
  T* by_key(int32_t key) const {
    if (key == IPC_PRIVATE) return nullptr;
    auto it = by_key_.find(key);
    return it == by_key_.end() ? nullptr : it->second;
  }
  // Gives the object its id. kNOSPC when there are `limit` already.
  Result<int> add(Ref<T> object, int limit) {
    limit = std::clamp(limit, 0, kIndexMask + 1);
    if (size() >= limit) return Err(Errno::kNOSPC);
    int index, sequence;
    if (next_id >= 0) {  // /proc/sys/kernel/*_next_id
      index = free_from(next_id & kIndexMask, kIndexMask + 1);
      sequence = next_id >> kIndexBits;
      next_id = -1;
    } else {
      const int cycle = std::min(std::max(size() * 3 / 2, kMinCycle), limit);
      index = free_from(last_ + 1, cycle);
      if (index < 0) index = free_from(0, kIndexMask + 1);
      if (index <= last_ && ++sequence_ > kMaxSequence) sequence_ = 0;
      last_ = index;
      sequence = sequence_;
    }
    if (index < 0) return Err(Errno::kNOSPC);
    object->id = (sequence << kIndexBits) + index;
    const int id = object->id;
    if (object->key != IPC_PRIVATE) by_key_.emplace(object->key, object.get());
    by_index_.emplace(index, std::move(object));
    return id;
  }
  // The caller holds a Ref if it goes on using it.
  void remove(T& object) {
    object.removed = true;
    forget_key(object);
    by_index_.erase(object.id & kIndexMask);
  }
  // Nobody finds it by its key any more.
  void forget_key(T& object) {
    if (object.key != IPC_PRIVATE) by_key_.erase(object.key);
    object.key = IPC_PRIVATE;
  }
  int size() const { return static_cast<int>(by_index_.size()); }
  int max_index() const { return by_index_.empty() ? -1 : by_index_.rbegin()->first; }
  const std::map<int, Ref<T>>& all() const { return by_index_; }
  int next_id = -1;

 private:
  int free_from(int from, int end) const {
    auto it = by_index_.lower_bound(from);
    for (int i = from; i < end; ++i, ++it)
      if (it == by_index_.end() || it->first != i) return i;
    return -1;
  }
  std::map<int, Ref<T>> by_index_;
  std::map<int32_t, T*> by_key_;
  int last_ = -1, sequence_ = 0;
};

}  // namespace uk
