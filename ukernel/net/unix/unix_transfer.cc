// Sending and receiving.
#include <sys/socket.h>

#include <algorithm>

#include "ukernel/net/unix/charge.h"
#include "ukernel/net/unix/unix_socket.h"

namespace uk {
namespace {

constexpr uint32_t kNoReceive = 1, kNoSend = 2;
constexpr size_t kPacketOverhead = 32;

}  // namespace

Result<> UnixSocket::take_error() {
  if (error_ == Errno::kOk) return {};
  return Err(std::exchange(error_, Errno::kOk));
}

// unix(7) ETOOMANYREFS: a user may have no more descriptors in flight than a task may have open.
Result<> UnixSocket::check_files(const SocketCaller& who, const SendMessage& m) const {
  if (m.files.empty() || who.fs.cred->has(Cap::kSysResource) || who.fs.cred->has(Cap::kSysAdmin))
    return {};
  auto fits = [&] { return table_->in_flight(m.creds.uid) + m.files.size() <= who.file_limit; };
  if (fits()) return {};
  table_->collect_garbage();
  if (!fits()) return Err(Errno::kTOOMANYREFS);
  return {};
}

void UnixSocket::deliver(UnixMessage message) {
  message_bytes_ += message.rest().size();
  messages_.push_back(std::move(message));
  queue_.wake_one(POLLIN | POLLRDNORM);
}

Result<size_t> UnixSocket::send(Park& park, const SocketCaller& who, SendMessage& m) {
  Ref<UnixSocket> self(this);
  TRY(check_files(who, m));
  if (type_ == SOCK_STREAM) return send_stream(park, m);
  return send_packet(park, &who, m);
}

Result<size_t> UnixSocket::send_plain(Park& park, SendMessage& m) {
  Ref<UnixSocket> self(this);
  return type_ == SOCK_STREAM ? send_stream(park, m) : send_packet(park, nullptr, m);
}

Result<size_t> UnixSocket::send_stream(Park& park, SendMessage& m) {
  const size_t urgent = (m.flags & MSG_OOB) != 0 ? 1 : 0;  // bytes
  if (m.data.remaining() < urgent) return Err(Errno::kOPNOTSUPP);
  if (!m.to.empty()) return Err(peer_ ? Errno::kISCONN : Errno::kOPNOTSUPP);
  if (!peer_) return Err(Errno::kNOTCONN);
  Ref<UnixSocket> peer = peer_;
  auto broken = [&] {
    return (shutdown_ & kNoSend) != 0 || peer->closed_ || (peer->shutdown_ & kNoReceive) != 0;
  };
  size_t done = 0;
  if (broken()) return Err(Errno::kPIPE);
  while (m.data.remaining() > 0) {
    auto room = [&] { return budget_->used < budget_->limit || broken(); };
    if (!room()) {
      if (m.nonblock) return done > 0 ? Result<size_t>(done) : Err(Errno::kAGAIN);
      auto waited = wait(park, queue_, send_timeout_ns_, room, "sock_alloc_send_pskb");
      if (!waited) return done > 0 ? Result<size_t>(done) : Err(waited.error());
    }
    if (broken()) return done > 0 ? Result<size_t>(done) : Err(Errno::kPIPE);
    const bool last = m.data.remaining() == urgent;  // by itself
    const size_t left = last ? urgent : m.data.remaining() - urgent;
    std::vector<std::byte> piece(unix_charge::piece_size(left, budget_->limit));
    Result<size_t> n = m.data.get(park, piece);
    // A piece that cannot be read whole is not sent.
    if (!n || *n < piece.size()) return done > 0 ? Result<size_t>(done) : Err(Errno::kFAULT);
    if (broken()) return done > 0 ? Result<size_t>(done) : Err(Errno::kPIPE);
    UnixMessage message(table_, budget_, std::move(piece), m, unix_charge::of_piece(*n),
                        signs_for(*peer, m));
    if (last && urgent != 0) {
      peer->deliver_urgent(std::move(message));
    } else {
      peer->deliver(std::move(message));
    }
    done += *n;
  }
  return done;
}

Result<> UnixSocket::may_send() {
  if (type_ != SOCK_SEQPACKET) return {};
  TRY(take_error());
  if (state_ != State::kConnected) return Err(Errno::kNOTCONN);
  return {};
}

bool UnixSocket::signs_for(const UnixSocket& receiver, const SendMessage& m) const {
  // Who has not been accepted yet may still ask for it.
  return m.claimed || pass_creds_ || pass_pidfd_ || receiver.pass_creds_ || receiver.pass_pidfd_ ||
         receiver.file == nullptr;
}

Result<Ref<UnixSocket>> UnixSocket::packet_target(Park& park, const SocketCaller* who,
                                                  const SendMessage& m) {
  Ref<UnixSocket> target = peer_;
  if (!m.to.empty() && !connection_based()) target = TRY(find(park, *who, m.to));
  if (!target) return Err(Errno::kNOTCONN);
  if (target->closed_) {
    if (connection_based()) return Err(Errno::kPIPE);
    if (target == peer_) {
      peer_.reset();
      state_ = State::kOpen;
      lost_peer(*target);
    }
    return Err(Errno::kCONNREFUSED);
  }
  // A connected datagram socket takes messages from its peer only.
  if (!connection_based() && target->peer_ && target->peer_.get() != this) return Err(Errno::kPERM);
  return target;
}

Result<size_t> UnixSocket::send_packet(Park& park, const SocketCaller* who, SendMessage& m) {
  TRY(may_send());
  if ((m.flags & MSG_OOB) != 0) return Err(Errno::kOPNOTSUPP);
  if (!connection_based() && !m.to.empty()) TRY(check_address(m.to));
  TRY(take_error());
  if (pass_creds_ || pass_pidfd_) TRY(autobind());
  const size_t size = m.data.remaining();
  if (size + kPacketOverhead > budget_->limit) return Err(Errno::kMSGSIZE);
  auto alone = [&] { return budget_->used < budget_->limit || (shutdown_ & kNoSend) != 0; };
  if (!alone()) {
    if (m.nonblock) return Err(Errno::kAGAIN);
    TRY(wait(park, queue_, send_timeout_ns_, alone, "sock_alloc_send_pskb"));
  }
  if (shutdown_ & kNoSend) return Err(Errno::kPIPE);
  // The message is there, and has its room, before anybody asks who takes it.
  std::vector<std::byte> bytes(size);
  if (size > 0) {
    size_t n = TRY(m.data.get(park, bytes));
    if (n != size) return Err(Errno::kFAULT);
  }
  Ref<UnixSocket> target = TRY(packet_target(park, who, m));
  auto broken = [&] {
    return (shutdown_ & kNoSend) != 0 || target->closed_ || (target->shutdown_ & kNoReceive) != 0;
  };
  auto own_room = [&] { return budget_->used < budget_->limit || broken(); };
  auto their_room = [&] { return !target->queue_full() || broken(); };
  while (!own_room() || !their_room()) {
    if (m.nonblock) return Err(Errno::kAGAIN);
    if (!own_room()) {
      TRY(wait(park, queue_, send_timeout_ns_, own_room, "sock_alloc_send_pskb"));
    } else {
      TRY(wait(park, target->queue_, send_timeout_ns_, their_room, "unix_wait_for_peer"));
    }
  }
  if ((shutdown_ & kNoSend) != 0) return Err(Errno::kPIPE);
  target = TRY(packet_target(park, who, m));  // it may have gone meanwhile
  if (target->shutdown_ & kNoReceive) return Err(Errno::kPIPE);
  target->deliver(UnixMessage(table_, budget_, std::move(bytes), m, unix_charge::of_packet(size),
                              signs_for(*target, m)));
  return size;
}

// ---- receiving

void UnixSocket::fill_control(UnixMessage& message, ReceiveMessage& m, bool peek) {
  if (pass_creds_) m.creds = message.creds;
  m.want_process = pass_pidfd_;
  if (pass_pidfd_) m.process = message.process;
  if (type_ != SOCK_STREAM) {
    m.stamp_option = stamp_option_;
    m.stamp_ns = message.sent_ns;
  }
  if (m.from.empty() && !message.from().empty()) {
    const sa_family_t family = AF_UNIX;
    m.from.assign(reinterpret_cast<const char*>(&family), sizeof family);
    m.from += message.from();
    if (message.from()[0] != '\0') m.from += '\0';
  }
  if (peek) {
    m.files.insert(m.files.end(), message.files().begin(), message.files().end());
  } else {
    std::vector<Ref<File>> files = message.take_files();
    m.files.insert(m.files.end(), files.begin(), files.end());
  }
}

// True: there is a message. False: the end.
Result<bool> UnixSocket::wait_for_message(Park& park, bool nonblock, size_t beyond) {
  auto ready = [&] {
    return messages_.size() > beyond || (shutdown_ & kNoReceive) != 0 || error_ != Errno::kOk;
  };
  if (type_ != SOCK_STREAM) TRY(take_error());  // even if there are messages
  if (!ready()) {
    if (nonblock) return Err(Errno::kAGAIN);
    TRY(wait(park, queue_, receive_timeout_ns_, ready, "unix_stream_read"));
  }
  if (messages_.size() > beyond) return true;
  TRY(take_error());
  // That datagrams are not received any more only ends waiting for them.
  if (nonblock && type_ == SOCK_DGRAM) return Err(Errno::kAGAIN);
  return false;
}

Result<size_t> UnixSocket::receive(Park& park, ReceiveMessage& m) {
  Ref<UnixSocket> self(this);
  const bool urgent = (m.flags & MSG_OOB) != 0;
  if (type_ == SOCK_STREAM) {
    if (state_ != State::kConnected) return Err(Errno::kINVAL);
    return urgent ? receive_urgent(park, m) : receive_stream(park, m);
  }
  if (type_ == SOCK_SEQPACKET && state_ != State::kConnected) return Err(Errno::kNOTCONN);
  if (urgent) return Err(Errno::kOPNOTSUPP);
  return receive_packet(park, m);
}

Result<size_t> UnixSocket::receive_stream(Park& park, ReceiveMessage& m) {
  const bool peek = (m.flags & MSG_PEEK) != 0;
  const size_t target = (m.flags & MSG_WAITALL) != 0 ? std::max<size_t>(m.data.remaining(), 1) : 1;
  size_t done = 0, seen = 0;
  // SO_PEEK_OFF: what is passed over before the first byte is shown.
  size_t skip = peek && peek_offset_ > 0 ? static_cast<size_t>(peek_offset_) : 0;
  bool first = true;
  // Room for nothing still waits for a message, and takes the descriptors that come with it.
  while (first || m.data.remaining() > 0) {
    if (seen < messages_.size()) {
      seen = next_plain(seen, peek, done > 0);
      if (seen >= messages_.size() && done > 0) break;  // the urgent byte ends a read
    }
    while (peek && seen < messages_.size() && skip >= messages_[seen].rest().size())
      skip -= messages_[seen++].rest().size();
    if (messages_.size() <= seen) {
      if (done >= target || (peek && done > 0)) break;
      auto more = wait_for_message(park, m.nonblock, seen);
      if (!more) return done > 0 ? Result<size_t>(done) : Err(more.error());
      if (!*more) {
        if (first && pass_creds_) m.creds = UserCreds{};  // the end, which nobody has sent
        break;
      }
      // The queue may have been read meanwhile: from the front again.
      seen = 0;
      skip = peek && peek_offset_ > 0 ? static_cast<size_t>(peek_offset_) : 0;
      continue;
    }
    if (!first && pass_creds_ && !(messages_[seen].creds == *m.creds)) break;
    if (!first && pass_pidfd_ && messages_[seen].process != m.process) break;
    if (!first && !messages_[seen].files().empty() && !m.files.empty()) break;
    if (peek) {
      UnixMessage& front = messages_[seen++];
      const size_t want = std::min(front.rest().size() - skip, m.data.remaining());
      auto from = front.rest().subspan(skip, want);
      skip = 0;
      std::vector<std::byte> copy(from.begin(), from.end());  // put() may suspend
      fill_control(front, m, true);
      size_t n = TRY(m.data.put(park, copy));
      done += n;
      peeked(n);
      if (n < want || !m.files.empty()) break;
      first = false;
      continue;
    }
    // Taken off the queue, as another reader may run while put() suspends.
    UnixMessage front = std::move(messages_.front());
    messages_.pop_front();
    message_bytes_ -= front.rest().size();
    const size_t want = std::min(front.rest().size(), m.data.remaining());
    Result<size_t> n = m.data.put(park, front.rest().first(want));
    if (n) {
      fill_control(front, m, false);
      front.start += *n;
      done += *n;
      taken(*n);
    }
    const bool had_files = !m.files.empty();
    const bool stop = !n || *n < want;
    if (!front.rest().empty()) {
      message_bytes_ += front.rest().size();
      messages_.push_front(std::move(front));
      queue_.wake_all(POLLIN | POLLRDNORM);
    }
    if (!n && done == 0) return n;
    if (stop || had_files) break;
    first = false;
  }
  return done;
}

Result<size_t> UnixSocket::receive_packet(Park& park, ReceiveMessage& m) {
  const bool peek = (m.flags & MSG_PEEK) != 0;
  size_t skip = 0, at = 0;  // SO_PEEK_OFF: in the packet number `at`
  do {
    if (!TRY(wait_for_message(park, m.nonblock, at))) return 0;
    skip = peek && peek_offset_ > 0 ? static_cast<size_t>(peek_offset_) : 0;
    for (at = 0; skip != 0 && at < messages_.size() && skip >= messages_[at].rest().size(); ++at)
      skip -= messages_[at].rest().size();
  } while (at >= messages_.size());
  const bool was_full = queue_full();
  const size_t room = m.data.remaining();
  std::vector<std::byte> bytes;
  if (peek) {
    UnixMessage& front = messages_[at];
    fill_control(front, m, true);
    const auto shown = front.rest().subspan(skip);
    bytes.assign(shown.begin(), shown.end());
    peeked(std::min(bytes.size(), room));
  } else {
    UnixMessage front = std::move(messages_.front());
    messages_.pop_front();
    message_bytes_ -= front.rest().size();
    fill_control(front, m, false);
    taken(front.rest().size());
    bytes = std::move(front.data);
  }
  if (was_full && !queue_full()) {
    queue_.wake_all(POLLOUT | POLLWRNORM);
    for (UnixSocket& s : table_->all_) {
      if (s.peer_.get() == this) s.queue_.wake_all(POLLOUT | POLLWRNORM);
    }
  }
  const size_t size = bytes.size();
  const size_t want = std::min(size, room);
  if (want > 0) {
    size_t n = TRY(m.data.put(park, std::span(bytes).first(want)));
    if (n < want) return Err(Errno::kFAULT);
  }
  if (size > want) m.out_flags |= MSG_TRUNC;
  return (m.flags & MSG_TRUNC) != 0 ? size : want;
}

}  // namespace uk
