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
  static Result<SocketRef> get(Task& task, Fd fd) {
    SocketRef s;
    s.file_ = TRY(task.fds().get_io(fd));
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

}  // namespace uk
