// The open file on an endpoint, and how sockets are made.
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "ukernel/net/sockfs.h"
#include "ukernel/net/unix/unix_socket.h"

namespace uk {
namespace {

Ref<UnixSocketFile> make_file(UnixSockets& table, Ref<UnixSocket> socket, int flags,
                              const Cred& cred, FileTime now) {
  const uint64_t ino = socket->ino = table.new_ino();
  Path path = make_socket_path(table.sockfs(), ino, cred, now,
                               socket->type() == SOCK_STREAM ? "UNIX-STREAM" : "UNIX");
  auto file = make_ref<UnixSocketFile>(std::move(path), O_RDWR | flags, std::move(socket));
  file->cred = Ref<const Cred>(&cred);
  return file;
}

Result<int> check_kind(int type, int protocol) {
  if (protocol != 0 && protocol != PF_UNIX) return Err(Errno::kPROTONOSUPPORT);
  if (type == SOCK_RAW) return SOCK_DGRAM;  // as Linux does
  if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET)
    return Err(Errno::kSOCKTNOSUPPORT);
  return type;
}

}  // namespace

UnixSocketFile::UnixSocketFile(Path path, int flags, Ref<UnixSocket> socket)
    : Socket(std::move(path), flags), socket_(std::move(socket)) {
  socket_->file = this;
}

UnixSocketFile::~UnixSocketFile() { socket_->close(); }

int UnixSocketFile::family() const { return AF_UNIX; }

Result<> UnixSocketFile::bind(Park& park, const SocketCaller& who, std::string_view address) {
  return socket_->bind(park, who, address);
}
Result<> UnixSocketFile::connect(Park& park, const SocketCaller& who, std::string_view address) {
  return socket_->connect(park, who, address, nonblock());
}
Result<> UnixSocketFile::listen(const SocketCaller& who, int backlog) {
  return socket_->listen(who, backlog);
}
Result<Ref<Socket>> UnixSocketFile::accept(Park& park, const SocketCaller& who, int new_flags) {
  Ref<UnixSocket> s = TRY(socket_->accept(park, nonblock()));
  return Ref<Socket>(make_file(s->table(), s, new_flags & O_NONBLOCK, *who.fs.cred, who.vfs.now()));
}
Result<size_t> UnixSocketFile::send(Park& park, const SocketCaller& who, SendMessage& m) {
  return socket_->send(park, who, m);
}
Result<size_t> UnixSocketFile::receive(Park& park, ReceiveMessage& m) {
  return socket_->receive(park, m);
}

Result<> UnixSocketFile::set_option(const SocketCaller& who, int level, int name,
                                    std::string_view value) {
  if (level != SOL_SOCKET) return Err(Errno::kOPNOTSUPP);
  return socket_->set_option(who, name, value);
}
Result<std::string> UnixSocketFile::get_option(int level, int name) {
  if (level != SOL_SOCKET) return Err(Errno::kOPNOTSUPP);
  return socket_->get_option(name);
}

Result<size_t> UnixSocketFile::read(Park& park, IoSink& to, uint64_t) {
  ReceiveMessage m{.data = to, .nonblock = nonblock()};
  return socket_->receive(park, m);
}

Result<size_t> UnixSocketFile::write(Park& park, IoSource& from, uint64_t&) {
  UserCreds creds;
  if (socket_->table().current) creds = socket_->table().current();
  SendMessage m{.data = from, .nonblock = nonblock(), .creds = creds};
  if (socket_->table().current_process) m.process = socket_->table().current_process();
  return socket_->send_plain(park, m);
}

Result<int64_t> UnixSocketFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  int value = 0;
  switch (cmd) {
    case FIONREAD:
      value = TRY(socket_->readable_bytes());
      break;
    case SIOCOUTQ:
      value = static_cast<int>(socket_->unsent_bytes());
      break;
    case SIOCATMARK:
      value = socket_->at_mark();
      break;
    default:
      return Err(Errno::kNOTTY);
  }
  TRY(user.copy_out(park, arg, std::as_bytes(std::span(&value, 1))));
  return 0;
}

Result<Ref<Socket>> make_unix_socket(std::shared_ptr<UnixSockets> table, int type, int protocol,
                                     int flags, const Cred& cred, FileTime now) {
  const int kind = TRY(check_kind(type, protocol));
  return Ref<Socket>(make_file(*table, make_ref<UnixSocket>(table, kind), flags, cred, now));
}

Result<UnixPair> make_unix_pair(std::shared_ptr<UnixSockets> table, int type, int protocol,
                                int flags, const Cred& cred, UserCreds who, FileTime now,
                                RefCounted* process) {
  const int kind = TRY(check_kind(type, protocol));
  auto a = make_ref<UnixSocket>(table, kind), b = make_ref<UnixSocket>(table, kind);
  for (UnixSocket* s : {a.get(), b.get()})
    s->know_peer(who, Ref<RefCounted>(process), Ref<const Cred>(&cred));
  UnixSocket::connect_pair(*a, *b);
  return UnixPair{make_file(*table, a, flags, cred, now), make_file(*table, b, flags, cred, now)};
}

}  // namespace uk
