// Life of an endpoint: names, connections, closing, readiness.
#include "ukernel/net/unix/unix_socket.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <cstddef>

#include "absl/strings/str_format.h"
#include "ukernel/vfs/landlock.h"

namespace uk {
namespace {

constexpr uint32_t kNoReceive = 1, kNoSend = 2;
constexpr size_t kMaxBacklog = 4096;  // net.core.somaxconn
constexpr size_t kPathOffset = offsetof(sockaddr_un, sun_path);

// The name in a sockaddr_un: empty, a path, or NUL and an abstract name.
Result<std::string> name_of(std::string_view address) {
  if (address.size() < kPathOffset || address.size() > sizeof(sockaddr_un))
    return Err(Errno::kINVAL);
  sa_family_t family;
  std::memcpy(&family, address.data(), sizeof family);
  if (family != AF_UNIX) return Err(Errno::kINVAL);
  std::string_view path = address.substr(kPathOffset);
  if (path.empty() || path[0] == '\0') return std::string(path);
  return std::string(path.substr(0, path.find('\0')));
}

std::string address_of(const std::string& name) {
  const sa_family_t family = AF_UNIX;
  std::string out(reinterpret_cast<const char*>(&family), sizeof family);
  out += name;
  if (!name.empty() && name[0] != '\0') out += '\0';
  return out;
}

bool is_unspec(std::string_view address) {
  sa_family_t family = AF_UNIX;
  if (address.size() >= sizeof family) std::memcpy(&family, address.data(), sizeof family);
  return family == AF_UNSPEC;
}

}  // namespace

UnixSocket::UnixSocket(std::shared_ptr<UnixSockets> table, int type)
    : table_(std::move(table)), type_(type), budget_(make_ref<SendBudget>()) {
  budget_->owner = this;
  table_->all_.push_back(*this);
}

UnixSocket::~UnixSocket() {
  budget_->owner = nullptr;
  messages_.clear();
}

bool UnixSocket::connection_based() const { return type_ != SOCK_DGRAM; }

void UnixSocket::know_peer(const UserCreds& creds, Ref<RefCounted> process, Ref<const Cred> cred) {
  peer_creds = creds;
  peer_process = std::move(process);
  peer_cred = std::move(cred);
}

void UnixSocket::connect_pair(UnixSocket& a, UnixSocket& b) {
  a.peer_ = Ref<UnixSocket>(&b);
  b.peer_ = Ref<UnixSocket>(&a);
  a.state_ = b.state_ = State::kConnected;
}

void UnixSocket::close() {
  Ref<UnixSocket> self(this);
  const bool was_full = queue_full();
  closed_ = true;
  file = nullptr;
  state_ = State::kOpen;
  shutdown_ = kNoReceive | kNoSend;
  if (!bound.empty() && bound[0] == '\0') {
    auto it = table_->abstract_.find(bound);
    if (it != table_->abstract_.end() && it->second == this) table_->abstract_.erase(it);
  }
  if (bound_inode_) bound_inode_->pipe_or_socket = nullptr;
  bound_inode_.reset();
  budget_->owner = nullptr;
  std::deque<UnixMessage> unread = std::exchange(messages_, {});
  message_bytes_ = 0;
  urgent_ = false;
  // Where an urgent byte was taken nothing is left to read.
  if (!unread.empty() && unread.front().rest().empty() && type_ == SOCK_STREAM) unread.pop_front();
  Ref<UnixSocket> peer = std::exchange(peer_, nullptr);
  if (peer && connection_based()) {
    peer->shutdown_ |= kNoReceive | kNoSend;
    // What was sent is lost, and that is an error; a packet of nothing in front of it is passed
    // over.
    const size_t passed = !unread.empty() && unread.front().rest().empty() ? 1 : 0;
    if (unread.size() > passed) peer->error_ = Errno::kCONNRESET;
    peer->queue_.wake_all();
  } else if (was_full && peer && peer->peer_ == self) {
    peer->queue_.wake_all(POLLOUT | POLLWRNORM);  // it is an error now, but no wait
  }
  std::deque<Ref<UnixSocket>> refused = std::exchange(pending_, {});
  for (const Ref<UnixSocket>& s : refused) {
    if (s->peer_) s->peer_->error_ = Errno::kCONNRESET;
    s->close();
  }
  unread.clear();
  queue_.wake_all();
  table_->collect_garbage();
}

// ---- names

Result<> UnixSocket::bind(Park& park, const SocketCaller& who, std::string_view address) {
  std::string name = TRY(name_of(address));
  // The name is made first, and taken away again where there is one already (bind_path()).
  if (!name.empty() && name[0] != '\0') return bind_path(park, who, std::move(name));
  if (name.empty()) return autobind();
  if (!bound.empty()) return Err(Errno::kINVAL);
  if (table_->find_abstract(name) != nullptr) return Err(Errno::kADDRINUSE);
  take_name(std::move(name));
  table_->abstract_[bound] = this;
  return {};
}

void UnixSocket::take_name(std::string name) {
  bound = std::move(name);
  budget_->name = bound;
}

Result<> UnixSocket::bind_path(Park& park, const SocketCaller& who, std::string path) {
  // The name gets the mode that the socket has, which fchmod(2) may have changed.
  const uint32_t mode = file != nullptr ? TRY(file->getattr(park)).mode & 07777 : 0777;
  MakeNode node;
  node.mode = S_IFSOCK | (mode & ~who.fs.umask);
  auto made = who.vfs.make_node(park, who.fs, {}, path, node);
  if (!made) return Err(made.error() == Errno::kEXIST ? Errno::kADDRINUSE : made.error());
  if (!bound.empty() || closed_) {
    (void)who.vfs.unlink(park, who.fs, {}, path);
    return Err(Errno::kINVAL);
  }
  take_name(std::move(path));
  bound_inode_ = Ref<Inode>(made->inode());
  bound_inode_->pipe_or_socket = this;
  return {};
}

// unix(7): five hexadecimal digits in the abstract name space.
Result<> UnixSocket::autobind() {
  if (!bound.empty()) return {};
  for (uint32_t tried = 0; tried <= 0xfffff; ++tried) {
    std::string name = absl::StrFormat("%c%05x", '\0', table_->next_autobind_++ & 0xfffff);
    if (table_->find_abstract(name) != nullptr) continue;
    take_name(std::move(name));
    table_->abstract_[bound] = this;
    return {};
  }
  return Err(Errno::kNOSPC);
}

Result<> UnixSocket::check_address(std::string_view address) {
  if (TRY(name_of(address)).empty()) return Err(Errno::kINVAL);
  return {};
}

Result<Ref<UnixSocket>> UnixSocket::find(Park& park, const SocketCaller& who,
                                         std::string_view address) {
  std::string name = TRY(name_of(address));
  if (name.empty()) return Err(Errno::kINVAL);
  UnixSocket* found = nullptr;
  if (name[0] == '\0') {
    found = table_->find_abstract(name);
    if (found != nullptr && found->file != nullptr && found->file->cred &&
        !landlock_in_scope(*who.fs.cred, *found->file->cred, landlock::kScopeAbstractUnix))
      return Err(Errno::kPERM);
  } else {
    Path path = TRY(who.vfs.walk(park, who.fs, {}, name, kWalkFollow));
    TRY(who.vfs.access(park, path, *who.fs.cred, kMayWrite));
    if (path.inode() != nullptr && path.inode()->type() == S_IFSOCK)
      found = static_cast<UnixSocket*>(path.inode()->pipe_or_socket);
  }
  if (found == nullptr) return Err(Errno::kCONNREFUSED);
  if (found->type_ != type_) return Err(Errno::kPROTOTYPE);
  return Ref<UnixSocket>(found);
}

Result<std::string> UnixSocket::local_address() const { return address_of(bound); }

Result<std::string> UnixSocket::peer_address() const {
  if (!peer_) return Err(Errno::kNOTCONN);
  return address_of(peer_->bound);
}

// ---- connections

Result<> UnixSocket::connect(Park& park, const SocketCaller& who, std::string_view address,
                             bool nonblock) {
  if (!connection_based()) {
    if (is_unspec(address)) {
      state_ = State::kOpen;
      if (Ref<UnixSocket> old = std::exchange(peer_, nullptr)) lost_peer(*old);
      return {};
    }
    TRY(check_address(address));
    if (pass_creds_) TRY(autobind());
    Ref<UnixSocket> other = TRY(find(park, who, address));
    if (other->peer_ && other->peer_.get() != this) return Err(Errno::kPERM);
    Ref<UnixSocket> old = std::exchange(peer_, other);
    state_ = State::kConnected;
    if (old && old != other) lost_peer(*old);
    know_peer(UserCreds{0, ~0u, ~0u}, nullptr, nullptr);
    queue_.wake_all();
    return {};
  }
  TRY(check_address(address));
  if (pass_creds_) TRY(autobind());
  return connect_stream(park, who, TRY(find(park, who, address)), nonblock);
}

void UnixSocket::lost_peer(UnixSocket& peer) {
  if (messages_.empty()) return;
  const std::deque<UnixMessage> lost = std::exchange(messages_, {});
  message_bytes_ = 0;
  queue_.wake_all(POLLOUT | POLLWRNORM);
  if (peer.closed_ || peer.peer_.get() != this) return;
  peer.error_ = Errno::kCONNRESET;
  peer.queue_.wake_all();
}

Result<> UnixSocket::connect_stream(Park& park, const SocketCaller& who, Ref<UnixSocket> other,
                                    bool nonblock) {
  auto refuses = [&] { return other->state_ != State::kListening || other->closed_; };
  auto full = [&] { return other->pending_.size() > other->backlog_; };
  // The other side comes first, then whether we can be connected.
  if (refuses() || (other->shutdown_ & kNoReceive) != 0) return Err(Errno::kCONNREFUSED);
  if (full()) {
    if (nonblock) return Err(Errno::kAGAIN);
    TRY(wait(
        park, other->queue_, send_timeout_ns_, [&] { return refuses() || !full(); },
        "unix_wait_for_peer"));
    if (refuses()) return Err(Errno::kCONNREFUSED);
  }
  if (state_ == State::kListening) return Err(Errno::kINVAL);
  if (state_ == State::kConnected || peer_) return Err(Errno::kISCONN);
  auto server = make_ref<UnixSocket>(table_, type_);
  server->take_name(other->bound);
  server->know_peer(who.creds, Ref<RefCounted>(who.process), Ref<const Cred>(who.fs.cred));
  server->pass_creds_ = other->pass_creds_;
  server->pass_pidfd_ = other->pass_pidfd_;
  know_peer(other->listen_creds_, other->listen_process_, other->listen_cred_);
  connect_pair(*this, *server);
  other->pending_.push_back(std::move(server));
  other->queue_.wake_all();
  queue_.wake_all();
  return {};
}

Result<> UnixSocket::listen(const SocketCaller& who, int backlog) {
  if (!connection_based()) return Err(Errno::kOPNOTSUPP);
  if (bound.empty()) return Err(Errno::kINVAL);
  if (state_ == State::kConnected) return Err(Errno::kINVAL);
  state_ = State::kListening;
  backlog_ =
      backlog < 0 ? kMaxBacklog : std::min<size_t>(static_cast<size_t>(backlog), kMaxBacklog);
  listen_creds_ = who.creds;
  listen_process_ = Ref<RefCounted>(who.process);
  listen_cred_ = Ref<const Cred>(who.fs.cred);
  know_peer(listen_creds_, listen_process_, listen_cred_);  // whoever asks is told so
  queue_.wake_all();
  return {};
}

Result<Ref<UnixSocket>> UnixSocket::accept(Park& park, bool nonblock) {
  if (!connection_based()) return Err(Errno::kOPNOTSUPP);
  if (state_ != State::kListening) return Err(Errno::kINVAL);
  // Only who would wait is told that nobody will come.
  if (pending_.empty() && nonblock) return Err(Errno::kAGAIN);
  TRY(wait(
      park, queue_, receive_timeout_ns_,
      [&] { return !pending_.empty() || closed_ || (shutdown_ & kNoReceive) != 0; },
      "unix_accept"));
  if (pending_.empty()) return Err(Errno::kINVAL);
  Ref<UnixSocket> s = std::move(pending_.front());
  pending_.pop_front();
  queue_.wake_all(POLLOUT | POLLWRNORM);  // a connect that waits for room
  return s;
}

Result<> UnixSocket::shutdown(int how) {
  if (how < SHUT_RD || how > SHUT_RDWR) return Err(Errno::kINVAL);
  uint32_t mine = 0, theirs = 0;
  if (how != SHUT_WR) mine |= kNoReceive, theirs |= kNoSend;
  if (how != SHUT_RD) mine |= kNoSend, theirs |= kNoReceive;
  shutdown_ |= mine;
  if (peer_ && connection_based()) {
    peer_->shutdown_ |= theirs;
    peer_->queue_.wake_all();
  }
  queue_.wake_all();
  return {};
}

// ---- readiness

bool UnixSocket::queue_full() const {
  constexpr size_t kMaxDatagrams = 512;  // net.unix.max_dgram_qlen
  return !connection_based() && messages_.size() > kMaxDatagrams;
}

uint32_t UnixSocket::ready() const {
  uint32_t r = 0;
  if (error_ != Errno::kOk) r |= POLLERR;
  if (shutdown_ == (kNoReceive | kNoSend)) r |= POLLHUP;
  if (shutdown_ & kNoReceive) r |= POLLRDHUP | POLLIN | POLLRDNORM;
  if (!messages_.empty() || !pending_.empty()) r |= POLLIN | POLLRDNORM;
  if (urgent_) r |= POLLPRI;
  if (connection_based() && state_ == State::kOpen) r |= POLLHUP;
  if (state_ == State::kListening) return r;
  const bool target_full =
      !connection_based() && peer_ && peer_->peer_.get() != this && peer_->queue_full();
  if (budget_->used * 4 <= budget_->limit && !target_full) r |= POLLOUT | POLLWRNORM | POLLWRBAND;
  return r;
}

Result<int> UnixSocket::readable_bytes() const {
  if (state_ == State::kListening) return Err(Errno::kINVAL);
  if (type_ == SOCK_STREAM || type_ == SOCK_SEQPACKET) return static_cast<int>(message_bytes_);
  return messages_.empty() ? 0 : static_cast<int>(messages_.front().rest().size());
}

}  // namespace uk
