// Sockets as the system call layer sees them (socket(7)): a File with the calls of sockets on top.
// Address families implement it. Addresses are sockaddr bytes, family included, already copied from
// the guest: untrusted contents, at most sizeof(sockaddr_storage).
//
// Ownership: descriptors and messages in flight hold Refs. Functions with Park& may suspend.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ukernel/vfs/file.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

// SCM_CREDENTIALS, SO_PEERCRED; guest ABI (struct ucred).
struct UserCreds {
  int32_t pid = 0;
  uint32_t uid = 0;
  uint32_t gid = 0;
  bool operator==(const UserCreds&) const = default;
};

// Who calls. Borrowed for the length of a call.
struct SocketCaller {
  Vfs& vfs;
  const FsContext& fs;
  UserCreds creds;      // real ids, as Linux tells them
  uint64_t file_limit;  // RLIMIT_NOFILE: bounds descriptors in flight
  RefCounted* process =
      nullptr;  // the caller's, as SO_PEERPIDFD and SCM_PIDFD tell it; opaque here
};

struct SendMessage {
  IoSource& data;
  std::string_view to = {};  // address, may be empty
  int flags = 0;             // MSG_*
  bool nonblock = false;
  UserCreds creds = {};  // the sender's, or those it gave with SCM_CREDENTIALS
  bool claimed = false;  // it gave them
  std::vector<Ref<File>> files = {};
  RefCounted* process = nullptr;  // the sender's
  uint64_t now_ns = 0;            // on the wall clock; 0: not known
};

struct ReceiveMessage {
  IoSink& data;
  int flags = 0;
  bool nonblock = false;
  bool want_control = false;  // the caller has room for control messages
  // Filled in:
  std::string from = {};
  int out_flags = 0;  // MSG_TRUNC, MSG_EOR
  std::optional<UserCreds> creds = {};
  std::vector<Ref<File>> files = {};
  bool want_process = false;     // SO_PASSPIDFD
  Ref<RefCounted> process = {};  // with it
  int stamp_option = 0;          // SO_TIMESTAMP, SO_TIMESTAMPNS: the time is wanted so
  uint64_t stamp_ns = 0;         // 0: not taken yet, it is now
};

class Socket : public File {
 public:
  using File::File;

  virtual int family() const = 0;
  virtual int type() const = 0;
  virtual int protocol() const { return 0; }

  virtual Result<> bind(Park& park, const SocketCaller& who, std::string_view address) = 0;
  virtual Result<> connect(Park& park, const SocketCaller& who, std::string_view address) = 0;
  virtual Result<> listen(const SocketCaller& who, int backlog) = 0;
  // `flags`: O_NONBLOCK of the new socket.
  virtual Result<Ref<Socket>> accept(Park& park, const SocketCaller& who, int flags) = 0;
  virtual Result<std::string> local_address() = 0;
  virtual Result<std::string> peer_address() = 0;
  // Why nothing could be sent now, whatever it is: asked before control messages are looked at.
  virtual Result<> may_send() { return {}; }
  virtual Result<size_t> send(Park& park, const SocketCaller& who, SendMessage& message) = 0;
  virtual Result<size_t> receive(Park& park, ReceiveMessage& message) = 0;
  virtual Result<> shutdown(int how) = 0;
  // Values as bytes; the layer above has bounded their length.
  virtual Result<> set_option(const SocketCaller& who, int level, int name,
                              std::string_view value) = 0;
  virtual Result<std::string> get_option(int level, int name) = 0;
  // SO_PEERPIDFD: null, if there is none.
  virtual Ref<RefCounted> peer_process() { return nullptr; }
};

// The socket behind a file, or null.
inline Socket* socket_of(File& file) { return dynamic_cast<Socket*>(&file); }

}  // namespace uk
