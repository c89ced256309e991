#include <array>

#include "syscalls/uring/ops.h"

namespace uk::uring {
namespace {

constexpr std::array<const Op*, kOps> make_table() {
  std::array<const Op*, kOps> t{};
  t[IORING_OP_NOP] = &kNop;
  t[IORING_OP_READV] = &kReadv;
  t[IORING_OP_WRITEV] = &kWritev;
  t[IORING_OP_FSYNC] = &kFsync;
  t[IORING_OP_READ_FIXED] = &kReadFixed;
  t[IORING_OP_WRITE_FIXED] = &kWriteFixed;
  t[IORING_OP_POLL_ADD] = &kPollAdd;
  t[IORING_OP_POLL_REMOVE] = &kPollRemove;
  t[IORING_OP_SYNC_FILE_RANGE] = &kSyncFileRange;
  t[IORING_OP_SENDMSG] = &kSendmsg;
  t[IORING_OP_RECVMSG] = &kRecvmsg;
  t[IORING_OP_TIMEOUT] = &kTimeout;
  t[IORING_OP_TIMEOUT_REMOVE] = &kTimeoutRemove;
  t[IORING_OP_ACCEPT] = &kAccept;
  t[IORING_OP_ASYNC_CANCEL] = &kAsyncCancel;
  t[IORING_OP_LINK_TIMEOUT] = &kLinkTimeout;
  t[IORING_OP_CONNECT] = &kConnect;
  t[IORING_OP_FALLOCATE] = &kFallocate;
  t[IORING_OP_OPENAT] = &kOpenat;
  t[IORING_OP_CLOSE] = &kClose;
  t[IORING_OP_FILES_UPDATE] = &kFilesUpdate;
  t[IORING_OP_STATX] = &kStatx;
  t[IORING_OP_READ] = &kRead;
  t[IORING_OP_WRITE] = &kWrite;
  t[IORING_OP_FADVISE] = &kFadvise;
  t[IORING_OP_MADVISE] = &kMadvise;
  t[IORING_OP_SEND] = &kSend;
  t[IORING_OP_RECV] = &kRecv;
  t[IORING_OP_OPENAT2] = &kOpenat2;
  t[IORING_OP_EPOLL_CTL] = &kEpollCtl;
  t[IORING_OP_SPLICE] = &kSplice;
  t[IORING_OP_PROVIDE_BUFFERS] = &kProvideBuffers;
  t[IORING_OP_REMOVE_BUFFERS] = &kRemoveBuffers;
  t[IORING_OP_TEE] = &kTee;
  t[IORING_OP_SHUTDOWN] = &kShutdown;
  t[IORING_OP_RENAMEAT] = &kRenameat;
  t[IORING_OP_UNLINKAT] = &kUnlinkat;
  t[IORING_OP_MKDIRAT] = &kMkdirat;
  t[IORING_OP_SYMLINKAT] = &kSymlinkat;
  t[IORING_OP_LINKAT] = &kLinkat;
  t[IORING_OP_MSG_RING] = &kMsgRing;
  t[IORING_OP_SOCKET] = &kSocket;
  t[kOpReadMultishot] = &kReadMultishot;
  t[kOpInstallFd] = &kInstallFd;
  t[kOpTruncate] = &kTruncate;
  t[kOpBind] = &kBind;
  t[kOpListen] = &kListen;
  return t;
}

}  // namespace

const Op* op_of(uint8_t code) {
  static constexpr std::array<const Op*, kOps> kTable = make_table();
  return code < kOps ? kTable[code] : nullptr;
}

}  // namespace uk::uring
