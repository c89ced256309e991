// /proc/net/unix (proc(5), unix(7)): what lsof and ss read.
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <sstream>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

struct Row {
  unsigned refs = 0, protocol = 0, flags = 0, type = 0, state = 0;
  std::string path;
  bool found = false;
};

Row Find(int fd) {
  struct stat st;
  EXPECT_OK(fstat(fd, &st));
  std::istringstream text(ReadFile("/proc/net/unix"));
  std::string line;
  EXPECT_TRUE(std::getline(text, line));
  EXPECT_EQ(line, "Num       RefCount Protocol Flags    Type St Inode Path");
  Row row;
  while (std::getline(text, line)) {
    unsigned long inode = 0;
    char path[200] = "";
    Row r;
    if (sscanf(line.c_str(), "%*x: %x %x %x %x %x %lu %199s", &r.refs, &r.protocol, &r.flags,
               &r.type, &r.state, &inode, path) < 6 ||
        inode != st.st_ino)
      continue;
    row = r;
    row.path = path;
    row.found = true;
  }
  return row;
}

TEST(proc_net_unix, TellsOfEndpoints) {
  Fd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Row row = Find(listener);
  ASSERT_TRUE(row.found);
  EXPECT_EQ(row.type, unsigned{SOCK_STREAM});
  EXPECT_EQ(row.state, 1u) << "not connected";
  EXPECT_EQ(row.flags, 0u);
  EXPECT_EQ(row.path, "");
  sockaddr_un name = {AF_UNIX, {}};
  const int n = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "table.%d", getpid());
  const socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + n);
  ASSERT_OK(bind(listener, reinterpret_cast<sockaddr*>(&name), size));
  ASSERT_OK(listen(listener, 5));
  row = Find(listener);
  EXPECT_EQ(row.path, "@" + std::string(name.sun_path + 1));
  EXPECT_EQ(row.flags, 1u << 16) << "it takes connections";
  Fd client(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_OK(connect(client, reinterpret_cast<sockaddr*>(&name), size));
  EXPECT_EQ(Find(client).state, 3u) << "connected";
  Fd server(accept(listener, nullptr, nullptr));
  ASSERT_OK(server.get());
  row = Find(server);
  EXPECT_EQ(row.state, 3u);
  EXPECT_EQ(row.path, "@" + std::string(name.sun_path + 1));
  int pair[2];
  ASSERT_OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair));
  Fd a(pair[0]), b(pair[1]);
  EXPECT_EQ(Find(a).type, unsigned{SOCK_DGRAM});
  EXPECT_EQ(Find(b).state, 3u);
}

}  // namespace
}  // namespace uk::test
