// The operations of io_uring, a file a family: what each takes from its entry, and how it is done.
// op_table.cc names them all.
#pragma once

#include "syscalls/uring/request.h"

namespace uk::uring {

// op_rw.cc: reading, writing, and what else is done to an open file
extern const Op kNop, kRead, kWrite, kReadv, kWritev, kReadFixed, kWriteFixed, kReadMultishot,
    kFsync, kSyncFileRange, kFallocate, kFadvise, kMadvise, kTruncate, kSplice, kTee;
// op_names.cc: names and descriptors
extern const Op kOpenat, kOpenat2, kClose, kStatx, kRenameat, kUnlinkat, kMkdirat, kSymlinkat,
    kLinkat, kEpollCtl, kInstallFd;
// op_net.cc: sockets
extern const Op kAccept, kConnect, kSend, kRecv, kSendmsg, kRecvmsg, kShutdown, kSocket, kBind,
    kListen;
// op_wait.cc: polls, timeouts, cancelling, buffers, messages between rings
extern const Op kPollAdd, kPollRemove, kTimeout, kTimeoutRemove, kLinkTimeout, kAsyncCancel,
    kProvideBuffers, kRemoveBuffers, kFilesUpdate, kMsgRing;

// kINVAL unless these fields of the entry are 0, as they have no meaning for the operation.
inline Result<> unused(std::initializer_list<uint64_t> fields) {
  for (uint64_t f : fields)
    if (f != 0) return Err(Errno::kINVAL);
  return {};
}

// Puts a new file where the entry wants it: a place among the registered files (sqe.file_index) or
// a descriptor.
Result<int64_t> place_file(Task& worker, Request& r, Ref<File> file, bool cloexec);

// ASYNC_CANCEL and IORING_REGISTER_SYNC_CANCEL.
struct CancelKey {
  uint32_t flags = 0;  // IORING_ASYNC_CANCEL_*
  uint64_t user_data = 0;
  Ref<File> file;
  uint8_t opcode = 0;
  const Request* self = nullptr;
};
// How many were cancelled with ALL or ANY, else 0. kNOENT, kALREADY.
Result<int64_t> cancel_matching(Ring& ring, const CancelKey& key);

}  // namespace uk::uring
