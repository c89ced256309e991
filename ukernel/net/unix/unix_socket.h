// AF_UNIX sockets (unix(7)): streams, datagrams and sequenced packets between tasks, with
// descriptors and credentials in messages.
//
// A UnixSocket is the endpoint; UnixSocketFile the open file on it. Peers, listeners' queues and
// messages point at endpoints; when the last reference to the file goes the endpoint is closed.
// Messages in flight hold Refs to files; cycles of sockets that hold each other are found and
// emptied (UnixSockets::collect_garbage).
//
// Ownership: the Kernel holds the UnixSockets table; each endpoint shares it. Sends, receives,
// accept and connect suspend (interruptible). Contents are guest data.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/list.h"
#include "ukernel/net/socket.h"
#include "ukernel/sched/reactor.h"

namespace uk {

class UnixSocket;
class UnixSocketFile;

// All AF_UNIX endpoints of an instance.
class UnixSockets {
 public:
  UnixSockets();
  ~UnixSockets();
  UnixSocket* find_abstract(const std::string& name) const;
  // Finds sockets that only messages in each other's queues refer to, and empties those queues.
  void collect_garbage();
  Ref<SuperBlock> sockfs() const { return sockfs_; }
  uint64_t new_ino() { return next_ino_++; }
  // The credentials of the task that runs now, for write(2) on a socket; set by who makes the
  // table.
  std::function<UserCreds()> current;
  std::function<RefCounted*()> current_process;
  // An urgent byte came (MSG_OOB): SIGURG to the owner of the file. As the others.
  std::function<void(const File&)> urgent;
  // Descriptors in flight that this user sent.
  uint64_t in_flight(uint32_t uid) const;
  // The text of /proc/net/unix (unix(7) names its columns): its first line, and one an endpoint.
  static std::string table_header();
  std::string table();

 private:
  friend class UnixSocket;
  friend class UnixMessage;
  std::map<std::string, UnixSocket*> abstract_;
  List<UnixSocket> all_;
  std::map<uint32_t, uint64_t> in_flight_;  // by uid
  std::map<const File*, uint32_t> flying_;  // how often a socket's file is in flight
  Ref<SuperBlock> sockfs_;
  uint64_t next_ino_ = 1;
  uint64_t next_cookie_ = 1;
  uint32_t next_autobind_ = 0;
};

// What a socket has sent and nobody has received yet; shared with its messages, which may outlive
// it.
class SendBudget final : public RefCounted {
 public:
  std::string name;  // the sender's, as whoever receives now is told
  size_t used = 0;
  size_t limit = 212992;
  UnixSocket* owner = nullptr;  // null once it is closed
};

// A piece of a stream, or a packet.
class UnixMessage {
 public:
  // `charge`: of the budget, while the message waits (see charge.h). `signed_by_sender`: it tells
  // who sent it; otherwise nobody did.
  UnixMessage(std::shared_ptr<UnixSockets> table, Ref<SendBudget> budget,
              std::vector<std::byte> data, SendMessage& m, size_t charge, bool signed_by_sender);
  UnixMessage(UnixMessage&&) = default;
  UnixMessage& operator=(UnixMessage&& other) noexcept;  // the two change places
  ~UnixMessage();

  std::vector<std::byte> data;
  size_t start = 0;
  bool urgent = false;  // its only byte is the socket's urgent one (MSG_OOB)
  UserCreds creds;
  Ref<RefCounted> process;
  uint64_t sent_ns;  // 0: not known
  const std::string& from() const { return budget_->name; }
  std::vector<Ref<File>> take_files();
  const std::vector<Ref<File>>& files() const { return files_; }
  std::span<const std::byte> rest() const { return std::span(data).subspan(start); }

 private:
  void land();
  std::shared_ptr<UnixSockets> table_;
  Ref<SendBudget> budget_;
  size_t charge_;
  uint32_t uid_;  // of whom the descriptors in flight are
  std::vector<Ref<File>> files_;
};

class UnixSocket final : public RefCounted, public ListNode<> {
 public:
  UnixSocket(std::shared_ptr<UnixSockets> table, int type);
  ~UnixSocket() override;

  int type() const { return type_; }
  bool connection_based() const;
  static void connect_pair(UnixSocket& a, UnixSocket& b);

  // ---- the calls; see Socket. `wait` says how long (SO_RCVTIMEO and friends).
  Result<> bind(Park& park, const SocketCaller& who, std::string_view address);
  Result<> connect(Park& park, const SocketCaller& who, std::string_view address, bool nonblock);
  Result<> listen(const SocketCaller& who, int backlog);
  Result<Ref<UnixSocket>> accept(Park& park, bool nonblock);
  Result<size_t> send(Park& park, const SocketCaller& who, SendMessage& m);
  Result<size_t> receive(Park& park, ReceiveMessage& m);
  // What is refused before control messages are looked at.
  Result<> may_send();
  Result<> shutdown(int how);
  Result<std::string> local_address() const;
  Result<std::string> peer_address() const;
  Result<> set_option(const SocketCaller& who, int name, std::string_view value);
  Result<std::string> get_option(int name);
  uint32_t ready() const;
  Result<int> readable_bytes() const;
  // SIOCATMARK: a read would begin at, or behind, the urgent byte.
  bool at_mark() const;
  // write(2): no address, no control.
  Result<size_t> send_plain(Park& park, SendMessage& m);
  UnixSockets& table() const { return *table_; }
  size_t unsent_bytes() const { return budget_->used; }
  std::string table_line() const;
  WaitQueue& queue() { return queue_; }
  // The last reference to its file has gone.
  void close();

  UserCreds peer_creds{0, ~0u, ~0u};
  // With them: SO_PEERPIDFD, SO_PEERGROUPS. Null until there is a peer.
  Ref<RefCounted> peer_process;
  Ref<const Cred> peer_cred;
  void know_peer(const UserCreds& creds, Ref<RefCounted> process, Ref<const Cred> cred);
  std::string bound;               // name: empty, a path, or NUL and an abstract name
  UnixSocketFile* file = nullptr;  // the open file, while there is one
  uint64_t ino = 0;                // of its inode

 private:
  friend class UnixSockets;
  friend class UnixMessage;
  enum class State : uint8_t { kOpen, kListening, kConnected };

  Result<Ref<UnixSocket>> find(Park& park, const SocketCaller& who, std::string_view address);
  // The form of an address that messages are sent to. kINVAL.
  static Result<> check_address(std::string_view address);
  // A datagram socket has lost its peer: what is in its queue is lost, and the peer, if it was
  // connected to us, is told of it.
  void lost_peer(UnixSocket& peer);
  Result<> bind_path(Park& park, const SocketCaller& who, std::string path);
  Result<> autobind();
  void take_name(std::string name);
  Result<> connect_stream(Park& park, const SocketCaller& who, Ref<UnixSocket> listener,
                          bool nonblock);
  Result<size_t> send_stream(Park& park, SendMessage& m);
  // `who` is null for write(2), which names no target.
  Result<size_t> send_packet(Park& park, const SocketCaller* who, SendMessage& m);
  Result<Ref<UnixSocket>> packet_target(Park& park, const SocketCaller* who, const SendMessage& m);
  Result<> check_files(const SocketCaller& who, const SendMessage& m) const;
  Result<size_t> receive_stream(Park& park, ReceiveMessage& m);
  // The urgent byte (unix_urgent.cc).
  Result<size_t> receive_urgent(Park& park, ReceiveMessage& m);
  size_t next_plain(size_t at, bool peek, bool copied);
  void deliver_urgent(UnixMessage message);
  Result<size_t> receive_packet(Park& park, ReceiveMessage& m);
  // More messages than `beyond`.
  Result<bool> wait_for_message(Park& park, bool nonblock, size_t beyond = 0);
  void deliver(UnixMessage message);
  // Does a message between us say who sent it?
  bool signs_for(const UnixSocket& receiver, const SendMessage& m) const;
  void fill_control(UnixMessage& message, ReceiveMessage& m, bool peek);
  bool queue_full() const;
  Result<> take_error();
  // kAGAIN after `timeout_ns` (0: none), and then kINTR instead of a restart (signal(7)).
  template <class Pred>
  static Result<> wait(Park& park, WaitQueue& queue, uint64_t timeout_ns, Pred pred,
                       const char* why) {
    Deadline deadline = kNever;
    if (timeout_ns != 0) deadline.at_ns = park.reactor().now_ns() + timeout_ns;
    auto r = queue.wait(park, pred, WaitMode::kInterruptible, deadline, why);
    if (!r && r.error() == Errno::kTIMEDOUT) return Err(Errno::kAGAIN);
    if (!r && timeout_ns != 0) return Err(Errno::kINTR);
    return r;
  }

  std::shared_ptr<UnixSockets> table_;
  const int type_;
  State state_ = State::kOpen;
  Ref<UnixSocket> peer_;
  bool closed_ = false;
  uint32_t shutdown_ = 0;  // 1: no more receiving, 2: no more sending
  std::deque<UnixMessage> messages_;
  size_t message_bytes_ = 0;
  bool urgent_ = false;                  // one of the messages is
  bool urgent_inline_ = false;           // SO_OOBINLINE
  std::deque<Ref<UnixSocket>> pending_;  // of a listener: not accepted yet
  size_t backlog_ = 0;
  UserCreds listen_creds_;
  Ref<RefCounted> listen_process_;
  Ref<const Cred> listen_cred_;
  Ref<SendBudget> budget_;
  Ref<Inode> bound_inode_;
  WaitQueue queue_;
  Errno error_ = Errno::kOk;  // SO_ERROR
  // Options.
  bool pass_creds_ = false, pass_pidfd_ = false;
  int stamp_option_ = 0;  // SO_TIMESTAMP or SO_TIMESTAMPNS
  int peek_offset_ = -1;  // SO_PEEK_OFF; negative: off
  void peeked(size_t bytes) {
    if (peek_offset_ >= 0) peek_offset_ += static_cast<int>(bytes);
  }
  void taken(size_t bytes) {
    if (peek_offset_ > 0) peek_offset_ -= static_cast<int>(std::min<size_t>(bytes, peek_offset_));
  }
  uint64_t cookie_ = 0;                                    // SO_COOKIE; 0: nobody asked yet
  uint64_t receive_timeout_ns_ = 0, send_timeout_ns_ = 0;  // 0: none
  int receive_buffer_ = 212992;
  std::map<int, int> plain_options_;  // kept and told, without effect (SO_KEEPALIVE, ...)
  std::string linger_;
};

class UnixSocketFile final : public Socket {
 public:
  UnixSocketFile(Path path, int flags, Ref<UnixSocket> socket);
  ~UnixSocketFile() override;

  int family() const override;
  int type() const override { return socket_->type(); }
  Result<> bind(Park& park, const SocketCaller& who, std::string_view address) override;
  Result<> connect(Park& park, const SocketCaller& who, std::string_view address) override;
  Result<> listen(const SocketCaller& who, int backlog) override;
  Result<Ref<Socket>> accept(Park& park, const SocketCaller& who, int flags) override;
  Result<std::string> local_address() override { return socket_->local_address(); }
  Result<std::string> peer_address() override { return socket_->peer_address(); }
  Result<size_t> send(Park& park, const SocketCaller& who, SendMessage& m) override;
  Result<size_t> receive(Park& park, ReceiveMessage& m) override;
  Result<> may_send() override { return socket_->may_send(); }
  Result<> shutdown(int how) override { return socket_->shutdown(how); }
  Result<> set_option(const SocketCaller& who, int level, int name,
                      std::string_view value) override;
  Result<std::string> get_option(int level, int name) override;
  Ref<RefCounted> peer_process() override { return socket_->peer_process; }

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  uint32_t ready() override { return socket_->ready(); }
  WaitQueue* poll_queue() override { return &socket_->queue(); }
  UnixSocket& socket() const { return *socket_; }

 private:
  Ref<UnixSocket> socket_;
};

// socket(2). kPROTONOSUPPORT, kSOCKTNOSUPPORT. `flags`: O_NONBLOCK.
Result<Ref<Socket>> make_unix_socket(std::shared_ptr<UnixSockets> table, int type, int protocol,
                                     int flags, const Cred& cred, FileTime now);
// socketpair(2).
struct UnixPair {
  Ref<Socket> a, b;
};
Result<UnixPair> make_unix_pair(std::shared_ptr<UnixSockets> table, int type, int protocol,
                                int flags, const Cred& cred, UserCreds who, FileTime now,
                                RefCounted* process = nullptr);

}  // namespace uk
