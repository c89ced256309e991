// What the three kinds of System V objects share at the call boundary: finding and making by key,
// looking up by id or (the *_STAT commands) by index, and struct ipc_perm.
#pragma once

#include <sys/ipc.h>

#include "ukernel/ipc/namespace.h"
#include "ukernel/task/identity.h"

namespace uk {

constexpr int kIpcStat = IPC_STAT, kIpcInfo = 3;

template <class T>
Result<T*> ipc_find(IpcIds<T>& ids, int id) {
  T* t = ids.find(id);
  if (t == nullptr) return Err(Errno::kINVAL);
  return t;
}

// *get(2): `suits` checks an object found, `make` makes a new one.
template <class T, class Suits, class Make>
Result<int64_t> ipc_get(Task& task, IpcIds<T>& ids, int32_t key, uint64_t flags, Suits&& suits,
                        Make&& make) {
  if (T* t = ids.by_key(key); t != nullptr) {
    if ((flags & IPC_CREAT) != 0 && (flags & IPC_EXCL) != 0) return Err(Errno::kEXIST);
    TRY(suits(*t));
    if (!t->permits(task.cred(), flags & 0777)) return Err(Errno::kACCES);
    return t->id;
  }
  if (key != IPC_PRIVATE && (flags & IPC_CREAT) == 0) return Err(Errno::kNOENT);
  T* made = TRY(make());
  return made->id;
}

// The object whose state a command shows: by id, or by index (`by_index`); `any` skips the check.
template <class T>
Result<T*> ipc_stat_target(Task& task, IpcIds<T>& ids, int id, bool by_index, bool any) {
  if (id < 0) return Err(Errno::kINVAL);
  T* t = by_index ? ids.at(id & IpcIds<T>::kIndexMask) : ids.find(id);
  if (t == nullptr) return Err(Errno::kINVAL);
  if (!any && !t->permits(task.cred(), 0444)) return Err(Errno::kACCES);
  return t;
}

inline ipc_perm to_ipc_perm(const Task& viewer, const IpcHeader& h) {
  ipc_perm p = {};
  p.__key = h.key;
  p.uid = shown_uid(viewer, h.uid);
  p.gid = shown_gid(viewer, h.gid);
  p.cuid = shown_uid(viewer, h.cuid);
  p.cgid = shown_gid(viewer, h.cgid);
  p.mode = static_cast<decltype(p.mode)>(h.mode);
  p.__seq = static_cast<uint16_t>(h.id >> IpcIds<SemSet>::kIndexBits);
  return p;
}

// IPC_SET, what all kinds let change. kINVAL: no such user or group.
inline Result<> ipc_set(const Task& task, IpcHeader& h, const ipc_perm& p) {
  const UserNamespace* ns = task.cred().user_ns.get();
  const std::optional<uint32_t> uid = kernel_uid(ns, p.uid), gid = kernel_gid(ns, p.gid);
  if (!uid || !gid) return Err(Errno::kINVAL);
  h.uid = *uid;
  h.gid = *gid;
  h.mode = (h.mode & ~0777u) | (p.mode & 0777u);
  h.ctime = task.ipc().now();
  return {};
}

// The highest index in use, as the *_INFO commands return it.
template <class T>
int64_t ipc_max_index(const IpcIds<T>& ids) {
  return std::max(ids.max_index(), 0);
}

}  // namespace uk
