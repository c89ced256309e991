// AF_UNIX sockets: pairs, names, messages with descriptors, options.
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

const Words kType{{{"SOCK_STREAM", SOCK_STREAM, 45},
                   {"SOCK_DGRAM", SOCK_DGRAM, 30},
                   {"SOCK_SEQPACKET", SOCK_SEQPACKET, 25},
                   {"SOCK_RAW", SOCK_RAW, 2},
                   {"9", 9, 1}},
                  {{"SOCK_NONBLOCK", SOCK_NONBLOCK, 98}, {"SOCK_CLOEXEC", SOCK_CLOEXEC, 15}}};
const Words kAcceptFlags{{{"SOCK_NONBLOCK", SOCK_NONBLOCK, 98}},
                         {{"SOCK_CLOEXEC", SOCK_CLOEXEC, 20}, {"1", 1, 1}}};
const Words kSend{
    {{"MSG_DONTWAIT", MSG_DONTWAIT, 100}},
    {{"MSG_NOSIGNAL", MSG_NOSIGNAL, 60}, {"MSG_EOR", MSG_EOR, 8}, {"MSG_MORE", MSG_MORE, 5}}};
const Words kReceive{{{"MSG_DONTWAIT", MSG_DONTWAIT, 100}},
                     {{"MSG_PEEK", MSG_PEEK, 20},
                      {"MSG_TRUNC", MSG_TRUNC, 15},
                      {"MSG_WAITALL", MSG_WAITALL, 8},
                      {"MSG_CMSG_CLOEXEC", MSG_CMSG_CLOEXEC, 15}}};
const Words kLengths = numbers({0, 1, 2, 7, 10, 100, 1000, 4096});
const Words kHow = numbers({0, 1, 2, 1, 9});
const Words kBacklog = numbers({0, 1, 5, -1});
const Words kGet{{ORACLE_WORD(SO_TYPE),
                  ORACLE_WORD(SO_ERROR),
                  ORACLE_WORD(SO_ACCEPTCONN),
                  ORACLE_WORD(SO_DOMAIN),
                  ORACLE_WORD(SO_PROTOCOL),
                  ORACLE_WORD(SO_SNDBUF),
                  ORACLE_WORD(SO_RCVBUF),
                  ORACLE_WORD(SO_PASSCRED),
                  ORACLE_WORD(SO_REUSEADDR),
                  ORACLE_WORD(SO_KEEPALIVE),
                  ORACLE_WORD(SO_BROADCAST),
                  ORACLE_WORD(SO_LINGER),
                  ORACLE_WORD(SO_PEERCRED),
                  ORACLE_WORD(SO_RCVLOWAT),
                  ORACLE_WORD(SO_PRIORITY),
                  {"9999", 9999, 2}},
                 {}};
const Words kSet{{ORACLE_WORD(SO_PASSCRED),
                  ORACLE_WORD(SO_REUSEADDR),
                  ORACLE_WORD(SO_KEEPALIVE),
                  ORACLE_WORD(SO_BROADCAST),
                  ORACLE_WORD(SO_SNDBUF),
                  ORACLE_WORD(SO_RCVBUF),
                  ORACLE_WORD(SO_RCVLOWAT),
                  {"9999", 9999, 2}},
                 {}};
const Words kValues = numbers({0, 1, 1, 5000, 100000, -1});
// Whose name: a file's, or one of a few abstract ones.
const Words kNamed{{{"file", 0, 75}, {"autobind", 2, 4}, {"short", 3, 2}, {"wrong_family", 4, 2}},
                   {}};

socklen_t name(Run& r, int kind, int path, sockaddr_un* out) {
  memset(out, 0, sizeof *out);
  out->sun_family = AF_UNIX;
  const char* p = r.n(path) == kBad ? "" : r.path(path);
  switch (r.n(kind)) {
    case 2:
      return sizeof(sa_family_t);
    case 3:
      return 1;
    case 4:
      out->sun_family = AF_INET;
      break;
    default:
      break;
  }
  size_t n = strnlen(p, sizeof out->sun_path - 1);
  memcpy(out->sun_path, p, n);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + n + (n > 0 ? 1 : 0));
}

void named(Run& r, long n, const sockaddr_un& a, socklen_t length) {
  r.ret(n);
  if (n < 0) return;
  r.log(" length %u", length);
  if (length > sizeof(sa_family_t) && a.sun_path[0] != 0) r.log(" %.108s", a.sun_path);
}

void send_message(Run& r) {
  alignas(8) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec v{const_cast<char*>(r.data(1)), static_cast<size_t>(r.n(2))};
  msghdr m{};
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  cmsghdr* c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(sizeof(int));
  int passed = r.fd(3);
  // When sockets that only messages refer to are collected is Linux's secret.
  struct stat st;
  if (::fstat(passed, &st) == 0 && S_ISSOCK(st.st_mode)) return r.skip("a socket in a socket");
  memcpy(CMSG_DATA(c), &passed, sizeof passed);
  r.ret(r.sys_(SYS_sendmsg, r.fd(0), &m, r.n(4)));
}

void receive_message(Run& r) {
  alignas(8) char control[256] = {};
  iovec v{r.buf(1), static_cast<size_t>(r.n(2))};
  sockaddr_un from{};
  msghdr m{};
  m.msg_name = &from;
  m.msg_namelen = sizeof from;
  m.msg_iov = &v;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = sizeof control;
  long n = r.sys_(SYS_recvmsg, r.fd(0), &m, r.n(3));
  r.ret(n);
  if (n < 0) return;
  r.bytes(r.buf(1), n < r.n(2) ? n : r.n(2));
  r.log(" flags %x name %u", m.msg_flags, m.msg_namelen);
  for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c)) {
    r.log(" {type %d length %zu", c->cmsg_type, static_cast<size_t>(c->cmsg_len));
    if (c->cmsg_type == SCM_RIGHTS) {
      for (size_t i = 0; CMSG_LEN(i * sizeof(int)) < c->cmsg_len; ++i) {
        int got;
        memcpy(&got, CMSG_DATA(c) + i * sizeof(int), sizeof got);
        r.log(" %d", got);
      }
    } else if (c->cmsg_type == SCM_CREDENTIALS) {
      ucred u;
      memcpy(&u, CMSG_DATA(c), sizeof u);
      r.log(" p%d %u %u", r.process_of(u.pid), u.uid, u.gid);
    }
    r.log("}");
  }
}

void option(Run& r) {
  unsigned char value[64] = {};
  socklen_t length = sizeof value;
  long n = r.sys_(SYS_getsockopt, r.fd(0), SOL_SOCKET, r.n(1), value, &length);
  r.ret(n);
  if (n < 0) return;
  int v[3];
  memcpy(v, value, sizeof v);
  if (r.n(1) == SO_PEERCRED) v[0] = r.process_of(v[0]);
  r.log(" length %u %d %d %d", length, v[0], v[1], v[2]);
}

}  // namespace

void add_socket_calls(std::vector<Desc>* out) {
  out->insert(
      out->end(),
      {
          {"socketpair",
           kSockets | kEvents,
           25,
           {words(kType)},
           [](Run& r) {
             int fds[2] = {-7, -7};
             long n = r.sys_(SYS_socketpair, AF_UNIX, r.n(0), 0, fds);
             if (n < 0) return r.ret(n);
             r.ret_fd(fds[0], 0);
             r.ret_fd(fds[1], 1);
           },
           kSocket,
           2},
          {"socket",
           kSockets,
           20,
           {words(kType)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_socket, AF_UNIX, r.n(0), 0)); },
           kSocket,
           1},
          {"bind",
           kSockets,
           20,
           {fd(kSocket), words(kNamed), path()},
           [](Run& r) {
             sockaddr_un a;
             socklen_t n = name(r, 1, 2, &a);
             r.ret(r.sys_(SYS_bind, r.fd(0), &a, n));
           }},
          {"listen",
           kSockets,
           15,
           {fd(kSocket), number(kBacklog)},
           [](Run& r) { r.ret(r.sys_(SYS_listen, r.fd(0), r.n(1))); }},
          {"connect",
           kSockets,
           25,
           {fd(kSocket), words(kNamed), path()},
           [](Run& r) {
             sockaddr_un a;
             socklen_t n = name(r, 1, 2, &a);
             r.ret(r.sys_(SYS_connect, r.fd(0), &a, n));
           }},
          {"accept4",
           kSockets,
           15,
           {fd(kSocket), words(kAcceptFlags)},
           [](Run& r) {
             sockaddr_un a{};
             socklen_t n = sizeof a;
             long s = r.sys_(SYS_accept4, r.fd(0), &a, &n, r.n(1));
             r.ret_fd(s);
             if (s >= 0) r.log(" length %u", n);
           },
           kSocket,
           1},
          {"getsockname",
           kSockets,
           5,
           {fd(kSocket)},
           [](Run& r) {
             sockaddr_un a{};
             socklen_t n = sizeof a;
             long s = r.sys_(SYS_getsockname, r.fd(0), &a, &n);
             named(r, s, a, n);
           }},
          {"getpeername",
           kSockets,
           5,
           {fd(kSocket)},
           [](Run& r) {
             sockaddr_un a{};
             socklen_t n = sizeof a;
             long s = r.sys_(SYS_getpeername, r.fd(0), &a, &n);
             named(r, s, a, n);
           }},
          {"sendto",
           kSockets,
           25,
           {fd(kSocket), buffer(), number(kLengths), words(kSend)},
           [](Run& r) { r.ret(r.sys_(SYS_sendto, r.fd(0), r.data(1), r.n(2), r.n(3), 0, 0)); }},
          {"sendto_name",
           kSockets,
           10,
           {fd(kSocket), words(kNamed), path(), number(kLengths), words(kSend)},
           [](Run& r) {
             sockaddr_un a;
             socklen_t n = name(r, 1, 2, &a);
             r.ret(r.sys_(SYS_sendto, r.fd(0), r.data(5), r.n(3), r.n(4), &a, n));
           }},
          {"recvfrom",
           kSockets,
           25,
           {fd(kSocket), buffer(), number(kLengths), words(kReceive)},
           [](Run& r) {
             sockaddr_un a{};
             socklen_t length = sizeof a;
             long n = r.sys_(SYS_recvfrom, r.fd(0), r.buf(1), r.n(2), r.n(3), &a, &length);
             named(r, n, a, length);
             r.bytes(r.buf(1), n < r.n(2) ? n : r.n(2));
           }},
          {"sendmsg",
           kSockets,
           12,
           {fd(kSocket), buffer(), number(kLengths), fd(), words(kSend)},
           send_message},
          {"recvmsg",
           kSockets,
           20,
           {fd(kSocket), buffer(), number(kLengths), words(kReceive)},
           receive_message},
          {"shutdown",
           kSockets,
           8,
           {fd(kSocket), number(kHow)},
           [](Run& r) { r.ret(r.sys_(SYS_shutdown, r.fd(0), r.n(1))); }},
          {"getsockopt", kSockets, 10, {fd(kSocket), words(kGet)}, option},
          {"setsockopt",
           kSockets,
           6,
           {fd(kSocket), words(kSet), number(kValues)},
           [](Run& r) {
             int v = static_cast<int>(r.n(2));
             // The largest is a setting of the machine (net.core.wmem_max).
             if (v < 0 && (r.n(1) == SO_SNDBUF || r.n(1) == SO_RCVBUF)) return r.skip("the most");
             r.ret(r.sys_(SYS_setsockopt, r.fd(0), SOL_SOCKET, r.n(1), &v, sizeof v));
           }},
      });
}

}  // namespace oracle
