// Native asynchronous I/O: io_setup(2), io_submit(2), io_getevents(2), io_pgetevents(2),
// io_cancel(2), io_destroy(2).
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <sys/uio.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

long IoSetup(unsigned n, aio_context_t* id) { return syscall(SYS_io_setup, n, id); }
long IoDestroy(aio_context_t id) { return syscall(SYS_io_destroy, id); }
long IoSubmit(aio_context_t id, long n, iocb** list) { return syscall(SYS_io_submit, id, n, list); }
long GetEvents(aio_context_t id, long min, long n, io_event* events, timespec* timeout = nullptr) {
  return syscall(SYS_io_getevents, id, min, n, events, timeout);
}
long Cancel(aio_context_t id, iocb* cb, io_event* out) {
  return syscall(SYS_io_cancel, id, cb, out);
}

class Context {
 public:
  explicit Context(unsigned n = 16) {
    if (IoSetup(n, &id) != 0) {
      perror("io_setup");
      abort();
    }
  }
  ~Context() {
    if (id != 0) IoDestroy(id);
  }
  aio_context_t id = 0;
};

template <class P>
iocb Request(int opcode, int fd, P* buf, size_t n, int64_t offset, uint64_t data = 0) {
  iocb cb = {};
  cb.aio_lio_opcode = static_cast<uint16_t>(opcode);
  cb.aio_fildes = static_cast<uint32_t>(fd);
  cb.aio_buf = reinterpret_cast<uint64_t>(buf);
  cb.aio_nbytes = n;
  cb.aio_offset = offset;
  cb.aio_data = data;
  return cb;
}

iocb PollRequest(int fd, short events, uint64_t data = 0) {
  iocb cb = {};
  cb.aio_lio_opcode = IOCB_CMD_POLL;
  cb.aio_fildes = static_cast<uint32_t>(fd);
  cb.aio_buf = static_cast<uint64_t>(events);
  cb.aio_data = data;
  return cb;
}

// Submits one and waits for its event.
int64_t Do(Context& c, iocb cb) {
  iocb* list[] = {&cb};
  if (IoSubmit(c.id, 1, list) != 1) return -errno;
  io_event e = {};
  if (GetEvents(c.id, 1, 1, &e) != 1) return -10000;
  EXPECT_EQ(reinterpret_cast<uint64_t>(&cb), e.obj);
  EXPECT_EQ(cb.aio_data, e.data);
  return e.res;
}

TEST(io_setup, ChecksItsArguments) {
  aio_context_t id = 0;
  EXPECT_ERRNO(EFAULT, IoSetup(1, Bad<aio_context_t>()));
  EXPECT_ERRNO(EINVAL, IoSetup(0, &id));
  EXPECT_ERRNO(EINVAL, IoSetup(UINT32_MAX, &id));
  EXPECT_ERRNO(EAGAIN, IoSetup(3'000'000, &id));
  id = 1;
  EXPECT_ERRNO(EINVAL, IoSetup(1, &id));
  id = 0;
  ASSERT_OK(IoSetup(1, &id));
  EXPECT_NE(0u, id);
  EXPECT_OK(IoDestroy(id));
}

// libaio looks at the ring before it makes a call.
TEST(io_setup, RingIsMappedAsLinuxLaysItOut) {
  struct Ring {
    uint32_t id, nr, head, tail, magic, compat, incompat, header;
  };
  Context c(8);
  auto* ring = reinterpret_cast<volatile Ring*>(c.id);
  EXPECT_EQ(0xa10a10a1u, ring->magic);
  EXPECT_EQ(1u, ring->compat);
  EXPECT_EQ(0u, ring->incompat);
  EXPECT_EQ(32u, ring->header);
  EXPECT_GE(ring->nr, 8u);
  EXPECT_EQ(0u, ring->head);
  EXPECT_EQ(0u, ring->tail);
  EXPECT_NE(std::string::npos, ReadFile("/proc/self/maps").find("/[aio] (deleted)"));
}

TEST(io_submit, WritesAndReads) {
  COVERS(io_getevents);
  Scratch dir;
  Fd f = dir.Open("f");
  Context c;
  char out[] = "asynchronous", in[32] = {};
  EXPECT_EQ(12, Do(c, Request(IOCB_CMD_PWRITE, f, out, 12, 100, 7)));
  EXPECT_EQ(12, Do(c, Request(IOCB_CMD_PREAD, f, in, sizeof in, 100, 8)));
  EXPECT_STREQ("asynchronous", in);
  EXPECT_EQ(0, lseek(f, 0, SEEK_CUR)) << "positions are not used";
  char a[4] = {}, b[8] = {};
  iovec iov[] = {{a, 4}, {b, 8}};
  EXPECT_EQ(12, Do(c, Request(IOCB_CMD_PREADV, f, iov, 2, 100)));
  EXPECT_EQ(0, memcmp(a, "asyn", 4));
  EXPECT_EQ(0, memcmp(b, "chronous", 8));
  EXPECT_EQ(12, Do(c, Request(IOCB_CMD_PWRITEV, f, iov, 2, 0)));
  EXPECT_EQ("asynchronous", ReadFile(dir / "f").substr(0, 12));
  EXPECT_EQ(0, Do(c, Request<char>(IOCB_CMD_FSYNC, f, nullptr, 0, 0)));
  EXPECT_EQ(0, Do(c, Request<char>(IOCB_CMD_FDSYNC, f, nullptr, 0, 0)));
  EXPECT_EQ(0, Do(c, Request(IOCB_CMD_PREAD, f, in, sizeof in, 4096))) << "at the end";
}

TEST(io_submit, ErrorsOfTheRequest) {
  Scratch dir;
  Fd f = dir.Open("f");
  Context c;
  char buf[16] = {};
  iocb* none[] = {nullptr};
  EXPECT_ERRNO(EINVAL, IoSubmit(0, 1, none));
  EXPECT_ERRNO(EINVAL, IoSubmit(c.id, -1, none));
  EXPECT_ERRNO(EFAULT, IoSubmit(c.id, 1, Bad<iocb*>()));
  EXPECT_ERRNO(EFAULT, IoSubmit(c.id, 1, none));
  EXPECT_EQ(0, IoSubmit(c.id, 0, none));
  EXPECT_EQ(-EBADF, Do(c, Request(IOCB_CMD_PREAD, kBadFd, buf, 16, 0)));
  EXPECT_EQ(-EINVAL, Do(c, Request(IOCB_CMD_NOOP, f, buf, 0, 0)));
  EXPECT_EQ(-EINVAL, Do(c, Request(99, f, buf, 0, 0)));
  EXPECT_EQ(-EINVAL, Do(c, Request(IOCB_CMD_PREAD, f, buf, 16, -1)));
  EXPECT_EQ(-EINVAL, Do(c, Request(IOCB_CMD_FSYNC, f, buf, 0, 0)));
  EXPECT_EQ(-EINVAL, Do(c, Request(IOCB_CMD_PREAD, f, buf, SIZE_MAX, 0)));
  iocb reserved = Request(IOCB_CMD_PREAD, f, buf, 16, 0);
  reserved.aio_reserved2 = 1;
  EXPECT_EQ(-EINVAL, Do(c, reserved));
  iocb flags = Request(IOCB_CMD_PREAD, f, buf, 16, 0);
  flags.aio_rw_flags = 0x40000000;
  EXPECT_EQ(-EOPNOTSUPP, Do(c, flags));
  Fd r(open((dir / "f").c_str(), O_RDONLY));
  EXPECT_EQ(-EBADF, Do(c, Request(IOCB_CMD_PWRITE, r, buf, 16, 0)));
  Fd w(open((dir / "f").c_str(), O_WRONLY));
  EXPECT_EQ(-EBADF, Do(c, Request(IOCB_CMD_PREAD, w, buf, 16, 0)));
  // What goes wrong later comes as an event.
  EXPECT_EQ(16, Do(c, Request(IOCB_CMD_PWRITE, f, buf, 16, 0)));
  EXPECT_EQ(-EFAULT, Do(c, Request(IOCB_CMD_PREAD, f, Bad<char>(), 16, 0)));
  iocb resfd = Request(IOCB_CMD_PREAD, f, buf, 16, 0);
  resfd.aio_flags = IOCB_FLAG_RESFD;
  resfd.aio_resfd = static_cast<uint32_t>(f.get());
  EXPECT_EQ(-EINVAL, Do(c, resfd));
  // Those before the bad one are submitted.
  iocb good = Request(IOCB_CMD_PREAD, f, buf, 16, 0), bad = Request(99, f, buf, 0, 0);
  iocb* list[] = {&good, &bad};
  EXPECT_EQ(1, IoSubmit(c.id, 2, list));
  io_event e = {};
  EXPECT_EQ(1, GetEvents(c.id, 1, 1, &e));
  EXPECT_EQ(16, e.res);
}

TEST(io_submit, AppendAndSyncFlags) {
  Scratch dir;
  Fd f = dir.Open("f", "12345");
  Context c;
  char x[] = "678";
  iocb cb = Request(IOCB_CMD_PWRITE, f, x, 3, 0);
  cb.aio_rw_flags = RWF_APPEND | RWF_DSYNC;
  EXPECT_EQ(3, Do(c, cb));
  EXPECT_EQ("12345678", ReadFile(dir / "f"));
}

TEST(io_submit, TellsAnEventfd) {
  Scratch dir;
  Fd f = dir.Open("f", "hello"), event(eventfd(0, EFD_CLOEXEC));
  Context c;
  char buf[4][8] = {};
  iocb cbs[4];
  iocb* list[4];
  for (int i = 0; i < 4; ++i) {
    cbs[i] = Request(IOCB_CMD_PREAD, f, buf[i], 5, 0);
    cbs[i].aio_flags = IOCB_FLAG_RESFD;
    cbs[i].aio_resfd = static_cast<uint32_t>(event.get());
    list[i] = &cbs[i];
  }
  ASSERT_EQ(4, IoSubmit(c.id, 4, list));
  uint64_t total = 0;
  while (total < 4) {
    uint64_t n = 0;
    ASSERT_EQ(8, read(event, &n, 8));
    total += n;
  }
  EXPECT_EQ(4u, total);
  io_event e[8] = {};
  EXPECT_EQ(4, GetEvents(c.id, 0, 8, e));
}

TEST(io_submit, PollWaitsForAFile) {
  Pipe p;
  Context c;
  iocb poll = PollRequest(p.r, POLLIN, 42);
  iocb* list[] = {&poll};
  ASSERT_EQ(1, IoSubmit(c.id, 1, list));
  io_event e = {};
  timespec now = {0, 0};
  EXPECT_EQ(0, GetEvents(c.id, 0, 1, &e, &now));
  ASSERT_EQ(1, write(p.w, "x", 1));
  ASSERT_EQ(1, GetEvents(c.id, 1, 1, &e));
  EXPECT_EQ(42u, e.data);
  EXPECT_NE(0, e.res & POLLIN);
  EXPECT_EQ(POLLIN, Do(c, PollRequest(p.r, POLLIN))) << "ready at once";
  EXPECT_EQ(-EINVAL, Do(c, Request(IOCB_CMD_POLL, p.r, Bad<char>(), 0, 0)));
}

TEST(io_cancel, EndsAPoll) {
  COVERS(io_getevents);
  Pipe p;
  Context c;
  iocb poll = PollRequest(p.r, POLLIN, 43), other = PollRequest(p.r, POLLIN);
  iocb* list[] = {&poll};
  ASSERT_EQ(1, IoSubmit(c.id, 1, list));
  io_event e = {};
  EXPECT_ERRNO(EFAULT, Cancel(c.id, Bad<iocb>(), &e));
  EXPECT_ERRNO(EINVAL, Cancel(c.id, &other, &e));
  EXPECT_ERRNO(EINVAL, Cancel(0, &poll, &e));
  EXPECT_ERRNO(EINPROGRESS, Cancel(c.id, &poll, &e));
  ASSERT_EQ(1, GetEvents(c.id, 1, 1, &e));
  EXPECT_EQ(43u, e.data);
  EXPECT_EQ(0, e.res);
  EXPECT_ERRNO(EINVAL, Cancel(c.id, &poll, &e));
}

TEST(io_getevents, ChecksItsArguments) {
  Scratch dir;
  Fd f = dir.Open("f", "hello");
  Context c;
  io_event e[4] = {};
  EXPECT_ERRNO(EINVAL, GetEvents(0, 0, 1, e));
  EXPECT_ERRNO(EINVAL, GetEvents(c.id, 2, 1, e));
  EXPECT_ERRNO(EINVAL, GetEvents(c.id, -1, 1, e));
  EXPECT_ERRNO(EFAULT, GetEvents(c.id, 0, 1, e, Bad<timespec>()));
  EXPECT_EQ(0, GetEvents(c.id, 0, 1, e));
  char buf[8];
  iocb cb = Request(IOCB_CMD_PREAD, f, buf, 5, 0);
  iocb* list[] = {&cb};
  ASSERT_EQ(1, IoSubmit(c.id, 1, list));
  EXPECT_ERRNO(EFAULT, GetEvents(c.id, 1, 1, Bad<io_event>()));
}

TEST(io_getevents, TimesOutWithWhatThereIs) {
  Scratch dir;
  Fd f = dir.Open("f", "hello");
  Context c;
  char buf[8];
  iocb cb = Request(IOCB_CMD_PREAD, f, buf, 5, 0);
  iocb* list[] = {&cb};
  ASSERT_EQ(1, IoSubmit(c.id, 1, list));
  io_event e[4] = {};
  timespec t = {0, 20'000'000};
  const int64_t start = MonotonicNs();
  EXPECT_EQ(1, GetEvents(c.id, 2, 4, e, &t));
  EXPECT_GE(MonotonicNs() - start, 20'000'000);
  EXPECT_EQ(5, e[0].res);
}

TEST(io_getevents, WaitsForAnotherThread) {
  Pipe p;
  Context c;
  iocb poll = PollRequest(p.r, POLLIN);
  iocb* list[] = {&poll};
  ASSERT_EQ(1, IoSubmit(c.id, 1, list));
  std::thread writer([&] { EXPECT_EQ(1, write(p.w, "x", 1)); });
  io_event e = {};
  EXPECT_EQ(1, GetEvents(c.id, 1, 1, &e));
  writer.join();
}

std::atomic<int> signals;
void Count(int) { ++signals; }

TEST(io_getevents, SignalEndsTheWait) {
  IN_CHILD([] {
    ScopedHandler handler(SIGALRM, Count, SA_RESTART);
    Context c;
    // The signal comes again and again, so that one comes within the call.
    itimerval again = {{0, 10'000}, {0, 10'000}};
    CHILD_CHECK(setitimer(ITIMER_REAL, &again, nullptr) == 0);
    io_event e = {};
    CHILD_CHECK(GetEvents(c.id, 1, 1, &e) == -1 && errno == EINTR);
    CHILD_CHECK(signals > 0);
  });
}

struct Sigset {
  const sigset_t* mask;
  size_t size;
};

TEST(io_pgetevents, ChangesTheMaskWhileItWaits) {
  IN_CHILD([] {
    ScopedBlock block({SIGUSR1});
    ScopedHandler handler(SIGUSR1, Count);
    Context c;
    io_event e = {};
    sigset_t none;
    sigemptyset(&none);
    Sigset set{&none, 8};
    raise(SIGUSR1);
    CHILD_CHECK(signals == 0);
    CHILD_CHECK(syscall(SYS_io_pgetevents, c.id, 1, 1, &e, nullptr, &set) == -1);
    CHILD_CHECK(errno == EINTR && signals == 1);
    sigset_t now;
    CHILD_CHECK(sigprocmask(SIG_BLOCK, nullptr, &now) == 0 && sigismember(&now, SIGUSR1));
    set.size = 4;
    timespec zero = {};
    CHILD_CHECK(syscall(SYS_io_pgetevents, c.id, 1, 1, &e, &zero, &set) == -1);
    CHILD_CHECK(errno == EINVAL);
    CHILD_CHECK(syscall(SYS_io_pgetevents, c.id, 0, 1, &e, &zero, nullptr) == 0);
  });
}

TEST(io_destroy, CancelsWhatWaits) {
  Pipe p;
  aio_context_t id = 0;
  ASSERT_OK(IoSetup(4, &id));
  iocb poll = PollRequest(p.r, POLLIN);
  iocb* list[] = {&poll};
  ASSERT_EQ(1, IoSubmit(id, 1, list));
  EXPECT_OK(IoDestroy(id));
  EXPECT_ERRNO(EINVAL, IoDestroy(id));
  EXPECT_ERRNO(EINVAL, IoSubmit(id, 1, list));
  EXPECT_ERRNO(EINVAL, IoDestroy(0));
}

TEST(io_submit, RingFull) {
  Pipe p;
  Context c(1);
  uint32_t slots = reinterpret_cast<uint32_t*>(c.id)[1];
  std::vector<iocb> polls(slots + 8, PollRequest(p.r, POLLIN));
  std::vector<iocb*> list;
  for (iocb& cb : polls) list.push_back(&cb);
  long total = 0, n;
  while ((n = IoSubmit(c.id, static_cast<long>(list.size()) - total, list.data() + total)) > 0)
    total += n;
  EXPECT_EQ(EAGAIN, errno);
  EXPECT_GT(total, 0);
  EXPECT_LE(total, static_cast<long>(slots));
}

TEST(io_submit, ManyAtOnce) {
  Scratch dir;
  std::string text(64 * 1024, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7 + i / 512);
  Fd f = dir.Open("f", text);
  Context c(128);
  std::vector<char> got(text.size());
  std::vector<iocb> cbs;
  for (size_t i = 0; i < 128; ++i)
    cbs.push_back(
        Request(IOCB_CMD_PREAD, f, got.data() + i * 512, 512, static_cast<int64_t>(i * 512), i));
  std::vector<iocb*> list;
  for (iocb& cb : cbs) list.push_back(&cb);
  ASSERT_EQ(128, IoSubmit(c.id, 128, list.data()));
  std::vector<io_event> events(128);
  long n = 0;
  while (n < 128) {
    long more = GetEvents(c.id, 1, 128 - n, events.data() + n);
    ASSERT_GT(more, 0);
    n += more;
  }
  std::vector<bool> seen(128);
  for (const io_event& e : events) {
    EXPECT_EQ(512, e.res);
    EXPECT_FALSE(seen[e.data]);
    seen[e.data] = true;
  }
  EXPECT_EQ(0, memcmp(text.data(), got.data(), text.size()));
}

// The process ends, and its children do not have its contexts.
TEST(io_submit, EndsWithTheProcess) {
  COVERS(io_setup);
  Pipe p;
  Context c;
  EXPECT_EQ(0, RunChild([&] {
              io_event e;
              CHILD_CHECK(GetEvents(c.id, 0, 1, &e) == -1 && errno == EINVAL);
              Context mine;
              iocb poll = PollRequest(p.r, POLLIN);
              iocb* list[] = {&poll};
              CHILD_CHECK(IoSubmit(mine.id, 1, list) == 1);
              _exit(0);
            }));
}

}  // namespace
}  // namespace uk::test
