// /proc/net/unix: the endpoints as a table (proc(5), unix(7)).
#include "absl/strings/str_format.h"
#include "ukernel/net/unix/unix_socket.h"

namespace uk {
namespace {

constexpr uint32_t kAcceptsConnections = 1 << 16;                 // Flags: it listens
constexpr int kUnconnected = 1, kConnecting = 2, kConnected = 3;  // St

}  // namespace

std::string UnixSockets::table_header() {
  return "Num       RefCount Protocol Flags    Type St Inode Path\n";
}

std::string UnixSockets::table() {
  std::string out;
  for (UnixSocket& s : all_) {
    if (!s.closed_) out += s.table_line();
  }
  return out;
}

std::string UnixSocket::table_line() const {
  const bool connected = state_ == State::kConnected;
  // A connection that nobody has accepted yet has no file, and so no inode.
  const int state = connected ? (file != nullptr ? kConnected : kConnecting) : kUnconnected;
  std::string name = bound;
  for (char& c : name) {
    if (c == '\0') c = '@';
  }
  return absl::StrFormat("%016x: %08X %08X %08X %04X %02X %5d%s%s\n", 0, connected ? 3 : 2, 0,
                         state_ == State::kListening ? kAcceptsConnections : 0, type_, state,
                         file != nullptr ? ino : 0, name.empty() ? "" : " ", name);
}

}  // namespace uk
