// fanotify(7): what is told of files, directories, mounts and filesystems, and to whom.
#include <poll.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr int kFdAt = AT_FDCWD;

long Init(unsigned flags, unsigned event_flags = O_RDONLY) {
  return syscall(SYS_fanotify_init, flags | FAN_CLOEXEC | FAN_NONBLOCK, event_flags);
}

long Mark(int fd, unsigned flags, uint64_t mask, const std::string& path, int dirfd = kFdAt) {
  return syscall(SYS_fanotify_mark, fd, flags, mask, dirfd, path.empty() ? nullptr : path.c_str());
}

struct Record {
  int type;
  std::string handle;  // as bytes
  std::string name;
  bool operator==(const Record&) const = default;
};

struct Event {
  uint64_t mask;
  int pid;
  Fd fd;
  std::vector<Record> records;
  // "FAN_...": the path its descriptor leads to.
  std::string Path() const {
    char buf[4096] = {};
    const std::string link = "/proc/self/fd/" + std::to_string(fd.get());
    const ssize_t n = readlink(link.c_str(), buf, sizeof buf - 1);
    return n < 0 ? "?" : buf;
  }
};

std::vector<Event> Read(int fd) {
  std::vector<Event> events;
  alignas(fanotify_event_metadata) static char buf[65536];
  const ssize_t n = read(fd, buf, sizeof buf);
  EXPECT_TRUE(n >= 0 || errno == EAGAIN);
  for (ssize_t at = 0; at < n;) {
    fanotify_event_metadata m;
    memcpy(&m, buf + at, sizeof m);
    EXPECT_EQ(m.vers, FANOTIFY_METADATA_VERSION);
    EXPECT_EQ(m.metadata_len, FAN_EVENT_METADATA_LEN);
    Event e{m.mask, m.pid, Fd(m.fd), {}};
    for (size_t i = FAN_EVENT_METADATA_LEN; i < m.event_len;) {
      const char* info = buf + at + i;
      fanotify_event_info_header head;
      memcpy(&head, info, sizeof head);
      uint32_t bytes;
      memcpy(&bytes, info + 12, sizeof bytes);
      Record r{head.info_type, std::string(info + 20, bytes), {}};
      const bool named = head.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME;
      if (named) r.name = info + 20 + bytes;
      EXPECT_EQ(head.len, (20 + bytes + (named ? r.name.size() + 1 : 0) + 3) / 4 * 4);
      e.records.push_back(r);
      i += head.len;
    }
    events.push_back(std::move(e));
    at += m.event_len;
  }
  return events;
}

std::string HandleOf(const std::string& path) {
  alignas(file_handle) char buf[sizeof(file_handle) + 128] = {};
  auto* h = reinterpret_cast<file_handle*>(buf);
  h->handle_bytes = 128;
  int mount = 0;
  EXPECT_OK(name_to_handle_at(AT_FDCWD, path.c_str(), h, &mount, 0));
  return std::string(reinterpret_cast<char*>(h->f_handle), h->handle_bytes);
}

// Runs with CAP_SYS_ADMIN only.
#define NEEDS_ROOT() \
  if (!IsRoot()) GTEST_SKIP() << "needs CAP_SYS_ADMIN"

TEST(fanotify_init, WhatMayBeAsked) {
  if (IsRoot()) {
    EXPECT_OK(Fd(Init(FAN_CLASS_NOTIF)).get());
    EXPECT_OK(Fd(Init(FAN_CLASS_CONTENT)).get());
    EXPECT_ERRNO(EINVAL, Init(FAN_CLASS_CONTENT | FAN_CLASS_PRE_CONTENT));
    EXPECT_ERRNO(EINVAL, Init(FAN_CLASS_CONTENT | FAN_REPORT_FID));
    EXPECT_ERRNO(EINVAL, Init(0x80000000));
    EXPECT_ERRNO(EINVAL, Init(FAN_CLASS_NOTIF, O_ACCMODE));
    EXPECT_ERRNO(EINVAL, Init(FAN_CLASS_NOTIF, O_CREAT));
  } else {
    EXPECT_ERRNO(EPERM, Init(FAN_CLASS_NOTIF)) << "descriptors for everything";
    EXPECT_ERRNO(EPERM, Init(FAN_CLASS_CONTENT | FAN_REPORT_FID));
    EXPECT_ERRNO(EPERM, Init(FAN_REPORT_FID | FAN_UNLIMITED_QUEUE));
    EXPECT_ERRNO(EPERM, Init(FAN_REPORT_FID | FAN_REPORT_TID));
  }
  EXPECT_ERRNO(EINVAL, Init(FAN_REPORT_NAME));
  Fd fd(Init(FAN_REPORT_DFID_NAME));
  EXPECT_OK(fd.get());
  EXPECT_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
  EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
  char c;
  EXPECT_ERRNO(EAGAIN, read(fd, &c, 1));
  EXPECT_ERRNO(EINVAL, write(fd, &c, 1));
}

TEST(fanotify_mark, WhatMayBeMarked) {
  Scratch dir;
  const std::string file = dir.File("file");
  Fd fd(Init(FAN_REPORT_FID));
  ASSERT_OK(fd.get());
  EXPECT_ERRNO(EINVAL, Mark(fd, FAN_MARK_ADD, 0, file));
  EXPECT_ERRNO(EINVAL, Mark(fd, 0, FAN_OPEN, file));
  EXPECT_ERRNO(EINVAL, Mark(fd, FAN_MARK_ADD | FAN_MARK_REMOVE, FAN_OPEN, file));
  EXPECT_ERRNO(EINVAL, Mark(fd, FAN_MARK_ADD, 1ull << 32 | FAN_OPEN, file));
  EXPECT_ERRNO(EINVAL, Mark(fd, FAN_MARK_ADD, FAN_Q_OVERFLOW, file));
  EXPECT_ERRNO(EINVAL, Mark(fd, FAN_MARK_ADD | 0x80000000, FAN_OPEN, file));
  EXPECT_ERRNO(EINVAL, Mark(fd, FAN_MARK_FLUSH | FAN_MARK_ONLYDIR, 0, file));
  EXPECT_ERRNO(EINVAL, Mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORE | FAN_MARK_IGNORED_MASK, 1, file));
  EXPECT_ERRNO(EBADF, Mark(kBadFd, FAN_MARK_ADD, FAN_OPEN, file));
  EXPECT_ERRNO(EBADF, Mark(fd, FAN_MARK_ADD, FAN_OPEN, "", kBadFd));
  EXPECT_ERRNO(ENOENT, Mark(fd, FAN_MARK_ADD, FAN_OPEN, dir / "none"));
  EXPECT_ERRNO(ENOTDIR, Mark(fd, FAN_MARK_ADD | FAN_MARK_ONLYDIR, FAN_OPEN, file));
  EXPECT_ERRNO(EFAULT,
               syscall(SYS_fanotify_mark, fd.get(), FAN_MARK_ADD, FAN_OPEN, kFdAt, Bad<char>()));
  EXPECT_ERRNO(ENOENT, Mark(fd, FAN_MARK_REMOVE, FAN_OPEN, file));
  EXPECT_ERRNO(EISDIR, Mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORE, FAN_OPEN, dir.path()));
  EXPECT_ERRNO(ENOTDIR, Mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORE, FAN_OPEN | FAN_ONDIR, file));
  Pipe pipe;
  EXPECT_ERRNO(EINVAL, Mark(pipe.r, FAN_MARK_ADD, FAN_OPEN, file));
  EXPECT_OK(Mark(fd, FAN_MARK_ADD, FAN_OPEN, file));
  EXPECT_OK(Mark(fd, FAN_MARK_ADD, FAN_CLOSE, "", Fd(open(file.c_str(), O_RDONLY)).get()));
  EXPECT_OK(Mark(fd, FAN_MARK_REMOVE, FAN_OPEN, file));
  EXPECT_OK(Mark(fd, FAN_MARK_REMOVE, FAN_CLOSE, file));
  EXPECT_ERRNO(ENOENT, Mark(fd, FAN_MARK_REMOVE, FAN_CLOSE, file)) << "nothing was left of it";
  EXPECT_OK(Mark(fd, FAN_MARK_ADD, FAN_OPEN, file));
  EXPECT_OK(Mark(fd, FAN_MARK_FLUSH, 0, file));
  EXPECT_ERRNO(ENOENT, Mark(fd, FAN_MARK_REMOVE, FAN_OPEN, file));
  const std::string secret = dir.File("secret", "", 0);
  if (!IsRoot()) {
    EXPECT_ERRNO(EACCES, Mark(fd, FAN_MARK_ADD, FAN_OPEN, secret));
    EXPECT_ERRNO(EPERM, Mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_OPEN, file));
    EXPECT_ERRNO(EPERM, Mark(fd, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_OPEN, file));
    return;
  }
  EXPECT_ERRNO(EINVAL, Mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT, FAN_ATTRIB, file));
  EXPECT_ERRNO(EINVAL,
               Mark(fd, FAN_MARK_ADD | FAN_MARK_MOUNT | FAN_MARK_EVICTABLE, FAN_OPEN, file));
  Fd plain(Init(FAN_CLASS_NOTIF));
  EXPECT_ERRNO(EINVAL, Mark(plain, FAN_MARK_ADD, FAN_CREATE, dir.path())) << "needs ids";
  EXPECT_ERRNO(EINVAL, Mark(plain, FAN_MARK_ADD, FAN_ATTRIB, file));
}

TEST(fanotify_mark, EventsComeWithDescriptors) {
  NEEDS_ROOT();
  COVERS(fanotify_init);
  Scratch dir;
  const std::string file = dir.File("file", "text");
  Fd fd(Init(FAN_CLASS_NOTIF, O_RDONLY | O_CLOEXEC));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_OPEN | FAN_ACCESS | FAN_MODIFY | FAN_CLOSE, file));
  {
    Fd f(open(file.c_str(), O_RDWR));
    char c;
    EXPECT_EQ(read(f, &c, 1), 1);
    EXPECT_EQ(write(f, "x", 1), 1);
  }
  pollfd p = {fd, POLLIN, 0};
  EXPECT_EQ(poll(&p, 1, 0), 1);
  int bytes = 0;
  EXPECT_OK(ioctl(fd, FIONREAD, &bytes));
  EXPECT_EQ(bytes, FAN_EVENT_METADATA_LEN);
  char small[8];
  EXPECT_ERRNO(EINVAL, read(fd, small, sizeof small));
  std::vector<Event> events = Read(fd);
  ASSERT_EQ(events.size(), 1u) << "what is alike is one";
  EXPECT_EQ(events[0].mask, FAN_OPEN | FAN_ACCESS | FAN_MODIFY | FAN_CLOSE_WRITE);
  EXPECT_EQ(events[0].pid, getpid());
  EXPECT_EQ(events[0].Path(), file);
  EXPECT_EQ(fcntl(events[0].fd, F_GETFD), FD_CLOEXEC);
  char buf[8] = {};
  EXPECT_EQ(read(events[0].fd, buf, sizeof buf), 4);
  EXPECT_STREQ(buf, "txxt");
  events.clear();
  EXPECT_TRUE(Read(fd).empty()) << "nothing of what is done with it";
}

TEST(fanotify_mark, DirectoriesTellOfTheirChildren) {
  NEEDS_ROOT();
  Scratch dir;
  const std::string file = dir.File("file");
  ASSERT_OK(mkdir((dir / "sub").c_str(), 0700));
  Fd fd(Init(FAN_CLASS_NOTIF));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_OPEN, dir.path()));
  Fd(open(file.c_str(), O_RDONLY));
  Fd(open(dir.c_str(), O_RDONLY));
  EXPECT_TRUE(Read(fd).empty()) << "neither children nor directories were asked for";
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_EVENT_ON_CHILD, dir.path()));
  Fd(open(file.c_str(), O_RDONLY));
  Fd(open((dir / "sub").c_str(), O_RDONLY));
  std::vector<Event> events = Read(fd);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].Path(), file);
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_ONDIR, dir.path()));
  Fd(open((dir / "sub").c_str(), O_RDONLY));
  Fd(open(dir.c_str(), O_RDONLY));
  events = Read(fd);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].mask, static_cast<uint64_t>(FAN_OPEN)) << "FAN_ONDIR is not told";
  EXPECT_EQ(events[0].Path(), dir / "sub");
  EXPECT_EQ(events[1].Path(), dir.path());
}

TEST(fanotify_mark, MountsAndFilesystemsTellOfAllInThem) {
  NEEDS_ROOT();
  Scratch dir;
  const std::string file = dir.File("file");
  for (unsigned type : {FAN_MARK_MOUNT, FAN_MARK_FILESYSTEM}) {
    Fd fd(Init(FAN_CLASS_NOTIF));
    ASSERT_OK(Mark(fd, FAN_MARK_ADD | type, FAN_CLOSE_WRITE, dir.path()));
    // Others use the filesystem too.
    Fd(open(file.c_str(), O_WRONLY));
    bool seen = false;
    for (const Event& e : Read(fd)) seen |= e.Path() == file && e.pid == getpid();
    EXPECT_TRUE(seen);
    EXPECT_OK(Mark(fd, FAN_MARK_REMOVE | type, FAN_CLOSE_WRITE, dir.path()));
    Read(fd);
    Fd(open(file.c_str(), O_WRONLY));
    EXPECT_TRUE(Read(fd).empty());
  }
}

TEST(fanotify_mark, IgnoredEventsUntilTheFileChanges) {
  NEEDS_ROOT();
  Scratch dir;
  const std::string file = dir.File("file");
  Fd fd(Init(FAN_CLASS_NOTIF));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_OPEN | FAN_EVENT_ON_CHILD, dir.path()));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, FAN_OPEN, file));
  { Fd f(open(file.c_str(), O_WRONLY)); }
  EXPECT_TRUE(Read(fd).empty());
  {
    Fd f(open(file.c_str(), O_WRONLY));
    EXPECT_EQ(write(f, "x", 1), 1);
  }
  EXPECT_TRUE(Read(fd).empty());
  { Fd f(open(file.c_str(), O_WRONLY)); }
  EXPECT_EQ(Read(fd).size(), 1u) << "it was written";
  ASSERT_OK(Mark(fd, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY, FAN_OPEN,
                 file));
  {
    Fd f(open(file.c_str(), O_WRONLY));
    EXPECT_EQ(write(f, "x", 1), 1);
  }
  { Fd f(open(file.c_str(), O_WRONLY)); }
  EXPECT_TRUE(Read(fd).empty());
}

TEST(fanotify_mark, NamesAndIdsForEverybody) {
  COVERS(fanotify_init);
  Scratch dir;
  Fd fd(Init(FAN_REPORT_DFID_NAME | FAN_REPORT_FID));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD,
                 FAN_CREATE | FAN_DELETE | FAN_MOVE | FAN_CLOSE_WRITE | FAN_ATTRIB |
                     FAN_EVENT_ON_CHILD | FAN_ONDIR,
                 dir.path()));
  const std::string file = dir.File("file");
  const std::string here = HandleOf(dir.path());
  const Record named{FAN_EVENT_INFO_TYPE_DFID_NAME, here, "file"};
  const Record self{FAN_EVENT_INFO_TYPE_FID, HandleOf(file), ""};
  std::vector<Event> events = Read(fd);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].mask, static_cast<uint64_t>(FAN_CREATE));
  EXPECT_EQ(events[0].records, std::vector<Record>{named});
  EXPECT_EQ(events[0].pid, getpid());
  EXPECT_EQ(events[0].fd.get(), -1);
  EXPECT_EQ(events[1].mask & FAN_CLOSE_WRITE, static_cast<uint64_t>(FAN_CLOSE_WRITE));
  EXPECT_EQ(events[1].records, (std::vector<Record>{named, self}));
  ASSERT_OK(rename(file.c_str(), (dir / "other").c_str()));
  ASSERT_OK(mkdir((dir / "sub").c_str(), 0700));
  ASSERT_OK(chmod(dir.c_str(), 0755));
  ASSERT_OK(rmdir((dir / "sub").c_str()));
  events = Read(fd);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[0].mask, static_cast<uint64_t>(FAN_MOVED_FROM));
  EXPECT_EQ(events[0].records, std::vector<Record>{named});
  EXPECT_EQ(events[1].mask, static_cast<uint64_t>(FAN_MOVED_TO));
  EXPECT_EQ(events[1].records[0].name, "other");
  EXPECT_EQ(events[2].mask, static_cast<uint64_t>(FAN_CREATE | FAN_DELETE | FAN_ONDIR)) << "both";
  EXPECT_EQ(events[2].records, (std::vector<Record>{{FAN_EVENT_INFO_TYPE_DFID_NAME, here, "sub"}}));
  EXPECT_EQ(events[3].mask, static_cast<uint64_t>(FAN_ATTRIB | FAN_ONDIR));
  EXPECT_EQ(events[3].records, (std::vector<Record>{{FAN_EVENT_INFO_TYPE_DFID_NAME, here, "."}}));
}

TEST(fanotify_mark, ObjectsTellOfTheirOwnEnd) {
  Scratch dir;
  const std::string file = dir.File("file");
  const std::string handle = HandleOf(file);
  Fd fd(Init(FAN_REPORT_FID));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_DELETE_SELF | FAN_MOVE_SELF, file));
  ASSERT_OK(rename(file.c_str(), (dir / "other").c_str()));
  std::vector<Event> events = Read(fd);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].mask, static_cast<uint64_t>(FAN_MOVE_SELF));
  EXPECT_EQ(events[0].records, (std::vector<Record>{{FAN_EVENT_INFO_TYPE_FID, handle, ""}}));
  {
    Fd open_still(open((dir / "other").c_str(), O_RDONLY));
    ASSERT_OK(unlink((dir / "other").c_str()));
    EXPECT_TRUE(Read(fd).empty());
  }
  events = Read(fd);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].mask, static_cast<uint64_t>(FAN_DELETE_SELF));
  EXPECT_EQ(events[0].records, (std::vector<Record>{{FAN_EVENT_INFO_TYPE_FID, handle, ""}}));
}

TEST(fanotify_mark, ExecutionsAreOpensOfTheirOwnKind) {
  NEEDS_ROOT();
  Fd fd(Init(FAN_CLASS_NOTIF));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_OPEN_EXEC, "/bin/true"));
  Fd(open("/bin/true", O_RDONLY));
  EXPECT_TRUE(Read(fd).empty());
  const pid_t child = Spawn([] { execl("/bin/true", "true", nullptr); });
  EXPECT_EQ(WaitFor(child), Exited(0));
  std::vector<Event> events = Read(fd);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].mask, static_cast<uint64_t>(FAN_OPEN_EXEC));
  EXPECT_EQ(events[0].pid, child);
}

TEST(fanotify_mark, OthersHaveNoNumberForTheUnprivileged) {
  Scratch dir;
  const std::string file = dir.File("file");
  Fd fd(Init(FAN_REPORT_FID));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_OPEN, file));
  const pid_t child = Spawn([&] { Fd(open(file.c_str(), O_RDONLY)); });
  EXPECT_EQ(WaitFor(child), Exited(0));
  Fd(open(file.c_str(), O_RDONLY));
  std::vector<Event> events = Read(fd);
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].pid, IsRoot() ? child : 0);
  EXPECT_EQ(events[1].pid, getpid());
}

TEST(fanotify_mark, AReaderWaits) {
  Scratch dir;
  const std::string file = dir.File("file");
  Fd fd(syscall(SYS_fanotify_init, FAN_REPORT_FID, 0));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_OPEN, file));
  const pid_t child = Spawn([&] {
    char buf[256];
    CHILD_CHECK(read(fd, buf, sizeof buf) > static_cast<ssize_t>(FAN_EVENT_METADATA_LEN));
    return 5;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  Fd(open(file.c_str(), O_RDONLY));
  EXPECT_EQ(WaitFor(child), Exited(5));
}

TEST(fanotify_mark, TooManyEventsOverflow) {
  Scratch dir;
  Fd fd(Init(FAN_REPORT_DFID_NAME));
  ASSERT_OK(Mark(fd, FAN_MARK_ADD, FAN_CREATE, dir.path()));
  const std::string queued = ReadFile("/proc/sys/fs/fanotify/max_queued_events");
  const int most = atoi(queued.c_str());
  if (most > 20000) GTEST_SKIP() << "this system keeps very many";
  const std::string one = dir.File("first");
  for (int i = 0; i < most + 10; ++i) {
    const std::string name = dir / std::to_string(i);
    ASSERT_OK(link(one.c_str(), name.c_str()));
    ASSERT_OK(unlink(name.c_str()));
  }
  size_t told = 0;
  uint64_t last = 0;
  for (;;) {
    const std::vector<Event> events = Read(fd);
    if (events.empty()) break;
    told += events.size();
    last = events.back().mask;
  }
  EXPECT_EQ(told, static_cast<size_t>(most) + 1);
  EXPECT_EQ(last, static_cast<uint64_t>(FAN_Q_OVERFLOW));
}

}  // namespace
}  // namespace uk::test
