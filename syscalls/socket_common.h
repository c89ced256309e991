// What the socket calls share: the socket of a descriptor, the caller, addresses to and from guest
// memory. Everything that comes from the guest is bounded here.
#pragma once

#include "syscalls/fs_common.h"
#include "syscalls/socket.h"
#include "ukernel/net/socket.h"

namespace uk {

constexpr size_t kMaxAddress = 128;  // sockaddr_storage

// kBADF, kNOTSOCK. Holds the file for the length of the call.
class SocketRef {
 public:
  static Result<SocketRef> get(Task& task, Fd fd) { return of(TRY(task.fds().get_io(fd))); }
  static Result<SocketRef> of(Ref<File> file) {
    SocketRef s;
    s.file_ = std::move(file);
    s.socket_ = socket_of(*s.file_);
    if (s.socket_ == nullptr) return Err(Errno::kNOTSOCK);
    return s;
  }
  Socket* operator->() const { return socket_; }

 private:
  Ref<File> file_;
  Socket* socket_ = nullptr;
};

// Holds what SocketCaller borrows.
class Caller {
 public:
  explicit Caller(Task& task)
      : fs_(task.fs_context()),
        who_{task.kernel.vfs,
             fs_,
             {task.tgid(), task.cred().euid, task.cred().egid},
             task.rlimit(RLIMIT_NOFILE).cur,
             task.group.get()} {}
  Caller(const Caller&) = delete;
  operator const SocketCaller&() const { return who_; }  // NOLINT

 private:
  FsContext fs_;
  SocketCaller who_;
};

// A sockaddr argument. kINVAL for a length out of range, kFAULT.
Result<std::string> fetch_address(Task& task, UserAddr address, int64_t len);
// accept(2), getsockname(2): as much as fits; the real length goes to `len`. Null address: nothing.
Result<> store_address(Task& task, UserAddr to, UserInOut<int32_t> len, std::string_view address);

// ---- the calls, of a socket that the caller holds
// What the caller says of itself if it does not claim anything else.
UserCreds real_creds(const Task& task);
// Credentials of the kernel as `viewer` knows them.
UserCreds shown_creds(const Task& viewer, const UserCreds& creds);
// Sends SIGPIPE as it is due.
Result<int64_t> do_send(Task& task, SocketRef& s, SendMessage& m, bool nonblock);
Result<int64_t> send_message(Task& task, SocketRef& s, const UserMsghdr& h, int flags);
// With what the header points to at hand.
Result<int64_t> send_pieces(Task& task, SocketRef& s, const UserMsghdr& h,
                            std::vector<UserIovec> iov, std::string_view to, int flags);
Result<int64_t> receive_pieces(Task& task, SocketRef& s, UserMsghdr& h, std::vector<UserIovec> iov,
                               int flags);
// Updates the out fields of `h`, which store_header() brings to the guest.
Result<int64_t> receive_message(Task& task, SocketRef& s, UserMsghdr& h, int flags);
Result<> store_header(Task& task, uint64_t at, const UserMsghdr& h);
// accept4(2) without the descriptor.
Result<Ref<File>> accept_socket(Task& task, SocketRef& s, UserAddr address, UserInOut<int32_t> len,
                                int flags);

}  // namespace uk
