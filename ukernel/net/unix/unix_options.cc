// Options at the socket level (socket(7)).
#include <sys/socket.h>
#include <sys/time.h>

#include <cstring>

#include "ukernel/net/unix/unix_socket.h"

namespace uk {
namespace {

constexpr int kMaxBuffer = 212992;  // net.core.wmem_max
constexpr int kMinSendBuffer = 4608, kMinReceiveBuffer = 2304;
constexpr int kPassPidfd = 76;                         // SO_PASSPIDFD
constexpr int kTimeoutNew = 66, kSendTimeoutNew = 67;  // SO_RCVTIMEO_NEW, SO_SNDTIMEO_NEW

template <class T>
Result<T> value_of(std::string_view bytes) {
  if (bytes.size() < sizeof(T)) return Err(Errno::kINVAL);
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

template <class T>
std::string bytes_of(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

Result<uint64_t> timeout_of(std::string_view bytes) {
  struct Time {
    int64_t sec, usec;
  };
  const Time t = TRY(value_of<Time>(bytes));
  if (t.usec < 0 || t.usec >= 1'000'000) return Err(Errno::kDOM);
  if (t.sec < 0) return 1;  // Linux: does not wait
  const uint64_t sec = std::min<uint64_t>(static_cast<uint64_t>(t.sec), 1ull << 32);
  return sec * 1'000'000'000 + static_cast<uint64_t>(t.usec) * 1000;
}

std::string timeout_bytes(uint64_t ns) {
  struct {
    int64_t sec, usec;
  } t{static_cast<int64_t>(ns / 1'000'000'000), static_cast<int64_t>(ns % 1'000'000'000 / 1000)};
  return bytes_of(t);
}

// What is asked for a buffer; negative numbers are large ones (socket(7): the maximum then).
int at_most(int wanted) {
  return static_cast<int>(std::min<uint32_t>(static_cast<uint32_t>(wanted), kMaxBuffer));
}

// Kept and told; nothing to do for local sockets.
bool is_plain(int name) {
  switch (name) {
    case SO_REUSEADDR:
    case SO_REUSEPORT:
    case SO_KEEPALIVE:
    case SO_BROADCAST:
    case SO_DONTROUTE:
    case SO_NO_CHECK:
    case SO_PRIORITY:
    case SO_RCVLOWAT:
    case SO_DEBUG:
    case SO_MARK:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<> UnixSocket::set_option(const SocketCaller& who, int name, std::string_view value) {
  switch (name) {
    case SO_RCVTIMEO:
    case kTimeoutNew:
      receive_timeout_ns_ = TRY(timeout_of(value));
      return {};
    case SO_SNDTIMEO:
    case kSendTimeoutNew:
      send_timeout_ns_ = TRY(timeout_of(value));
      return {};
    case SO_LINGER: {
      const auto l = TRY(value_of<struct linger>(value));
      linger_ = bytes_of(l);
      return {};
    }
    default:
      break;
  }
  const int v = TRY(value_of<int>(value));
  switch (name) {
    case SO_PASSCRED:
      pass_creds_ = v != 0;
      return {};
    case SO_OOBINLINE:
      urgent_inline_ = v != 0;
      return {};
    case kPassPidfd:
      pass_pidfd_ = v != 0;
      return {};
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
      if (v != 0) {
        stamp_option_ = name;
      } else if (stamp_option_ != 0) {
        stamp_option_ = 0;
      }
      return {};
    case SO_PEEK_OFF:
      peek_offset_ = std::max(v, -1);
      return {};
    case SO_SNDBUFFORCE:
      if (!who.fs.cred->has(Cap::kNetAdmin)) return Err(Errno::kPERM);
      budget_->limit = static_cast<size_t>(std::clamp(v, kMinSendBuffer / 2, 1 << 29)) * 2;
      return {};
    case SO_SNDBUF:
      budget_->limit = static_cast<size_t>(std::max(at_most(v) * 2, kMinSendBuffer));
      queue_.wake_all(POLLOUT | POLLWRNORM);
      return {};
    case SO_RCVBUF:
    case SO_RCVBUFFORCE:
      if (name == SO_RCVBUFFORCE && !who.fs.cred->has(Cap::kNetAdmin)) return Err(Errno::kPERM);
      receive_buffer_ = std::max(at_most(v) * 2, kMinReceiveBuffer);
      return {};
    default:
      if (!is_plain(name)) return Err(Errno::kNOPROTOOPT);
      plain_options_[name] =
          name == SO_PRIORITY || name == SO_MARK || name == SO_RCVLOWAT ? v : v != 0;
      return {};
  }
}

Result<std::string> UnixSocket::get_option(int name) {
  switch (name) {
    case SO_TYPE:
      return bytes_of(type_);
    case SO_DOMAIN:
      return bytes_of(int{AF_UNIX});
    case SO_PROTOCOL:
      return bytes_of(int{0});
    case SO_ERROR:
      return bytes_of(static_cast<int>(std::exchange(error_, Errno::kOk)));
    case SO_ACCEPTCONN:
      return bytes_of(int{state_ == State::kListening});
    case SO_SNDBUF:
      return bytes_of(static_cast<int>(budget_->limit));
    case SO_RCVBUF:
      return bytes_of(receive_buffer_);
    case SO_PASSCRED:
      return bytes_of(int{pass_creds_});
    case SO_OOBINLINE:
      return bytes_of(int{urgent_inline_});
    case SO_PEERCRED:
      return bytes_of(peer_creds);
    case kPassPidfd:
      return bytes_of(int{pass_pidfd_});
    case SO_TIMESTAMP:
    case SO_TIMESTAMPNS:
      return bytes_of(int{stamp_option_ == name});
    case SO_PEEK_OFF:
      return bytes_of(peek_offset_);
    case SO_PEERGROUPS: {
      if (!peer_cred) return Err(Errno::kNODATA);
      const auto& g = peer_cred->groups;
      return std::string(reinterpret_cast<const char*>(g.data()), g.size() * sizeof g[0]);
    }
    case SO_COOKIE:
      if (cookie_ == 0) cookie_ = table_->next_cookie_++;
      return bytes_of(cookie_);
    case SO_RCVTIMEO:
    case kTimeoutNew:
      return timeout_bytes(receive_timeout_ns_);
    case SO_SNDTIMEO:
    case kSendTimeoutNew:
      return timeout_bytes(send_timeout_ns_);
    case SO_LINGER: {
      struct linger none {};
      return linger_.empty() ? bytes_of(none) : linger_;
    }
    default: {
      if (!is_plain(name)) return Err(Errno::kNOPROTOOPT);
      auto it = plain_options_.find(name);
      const int initial = name == SO_RCVLOWAT ? 1 : 0;
      return bytes_of(it == plain_options_.end() ? initial : it->second);
    }
  }
}

}  // namespace uk
