// The urgent byte of a stream (MSG_OOB, unix(7)): the last byte of such a send, a message by
// itself. A socket has one at most: the next makes it an ordinary byte. Taken by MSG_OOB it leaves
// an empty message, the mark, at its place. Reads end before it; the next one goes past it,
// dropping it, or (SO_OOBINLINE) takes it as any other byte.
#include <sys/socket.h>

#include "ukernel/net/unix/unix_socket.h"

namespace uk {

void UnixSocket::deliver_urgent(UnixMessage message) {
  if (urgent_)
    for (UnixMessage& m : messages_) m.urgent = false;
  message.urgent = urgent_ = true;
  ++message_bytes_;
  messages_.push_back(std::move(message));
  if (file != nullptr && table_->urgent) table_->urgent(*file);
  queue_.wake_all(POLLIN | POLLPRI | POLLRDNORM);
}

// Where a plain read that has come to the message `at` goes on; the messages' number: nowhere. What
// is passed over is dropped unless it `peek`s; `copied`: the read has something.
size_t UnixSocket::next_plain(size_t at, bool peek, bool copied) {
  if (messages_[at].rest().empty()) {
    if (copied && !urgent_) return messages_.size();
    if (peek) {
      ++at;
    } else {
      messages_.pop_front();
    }
  }
  if (at >= messages_.size() || !messages_[at].urgent) return at;
  if (copied) return messages_.size();
  if (peek) return urgent_inline_ ? at : at + 1;
  messages_[at].urgent = urgent_ = false;
  if (!urgent_inline_) {
    --message_bytes_;  // DEVIATION: FIONREAD of Linux 6.18 goes on counting it
    messages_.pop_front();
  }
  return at;
}

Result<size_t> UnixSocket::receive_urgent(Park& park, ReceiveMessage& m) {
  if (urgent_inline_ || !urgent_) return Err(Errno::kINVAL);
  auto at = std::ranges::find_if(messages_, &UnixMessage::urgent);
  const std::byte byte = at->rest().front();
  if ((m.flags & MSG_PEEK) == 0) {
    at->urgent = urgent_ = false;
    ++at->start;
    --message_bytes_;
    // One mark is enough.
    if (at != messages_.begin() && std::prev(at)->rest().empty()) messages_.erase(std::prev(at));
  }
  if (m.data.remaining() > 0) TRY(m.data.put(park, std::span(&byte, 1)));
  m.out_flags |= MSG_OOB;
  return 1;
}

bool UnixSocket::at_mark() const {
  if (messages_.empty()) return false;
  const UnixMessage& front = messages_.front();
  if (front.urgent) return true;
  return front.rest().empty() && (!urgent_ || (messages_.size() > 1 && messages_[1].urgent));
}

}  // namespace uk
