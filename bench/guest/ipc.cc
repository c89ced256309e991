// Round trips between processes and threads, signals, and waiting for descriptors.
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "bench/guest/rows.h"

namespace uk::bench {
namespace {

void SendByte(int fd) {
  char c = 'x';
  Need(write(fd, &c, 1) == 1, "write");
}

// False at the end of the other side.
bool TakeByte(int fd) {
  char c;
  ssize_t n = read(fd, &c, 1);
  Need(n >= 0, "read");
  return n == 1;
}

struct Ends {
  int in, out;
};

Ends MakePipe() {
  int fds[2];
  Need(pipe(fds) == 0, "pipe");
  return {fds[0], fds[1]};
}

// Echoes bytes in a child until `mine` is closed; the child keeps the `theirs` descriptors only.
void PingPong(Meter& meter, Ends mine, Ends theirs) {
  pid_t child = fork();
  if (child == 0) {
    close(mine.in);
    close(mine.out);
    while (TakeByte(theirs.in)) SendByte(theirs.out);
    _exit(0);
  }
  Need(child > 0, "fork");
  meter.Each([&] {
    SendByte(mine.out);
    Need(TakeByte(mine.in), "the other side has gone");
  });
  close(theirs.in);
  close(theirs.out);
  close(mine.in);
  close(mine.out);
  WaitFor(child);
}

void PipePingPong(Meter& meter) {
  Ends there = MakePipe(), back = MakePipe();
  PingPong(meter, {back.in, there.out}, {there.in, back.out});
}

void UnixPingPong(Meter& meter) {
  int fds[2];
  Need(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0, "socketpair");
  PingPong(meter, {fds[0], fds[0]}, {fds[1], fds[1]});
}

// Whose turn it is: 0 and 1 are the two threads, 2 ends the second.
std::atomic<int> turn{0};

void GiveTurn(int to) {
  turn.store(to);
  syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

int AwaitTurn(int not_while) {
  int now;
  while ((now = turn.load()) == not_while) {
    syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, not_while, nullptr, nullptr, 0);
  }
  return now;
}

void* SecondPlayer(void*) {
  while (AwaitTurn(0) == 1) GiveTurn(0);
  return nullptr;
}

void FutexPingPong(Meter& meter) {
  pthread_t second;
  errno = pthread_create(&second, nullptr, SecondPlayer, nullptr);
  Need(errno == 0, "pthread_create");
  meter.Each([] {
    GiveTurn(1);
    AwaitTurn(1);
  });
  GiveTurn(2);
  pthread_join(second, nullptr);
}

volatile sig_atomic_t signals = 0;

void Signal(Meter& meter) {
  struct sigaction action = {};
  action.sa_handler = [](int) { signals = signals + 1; };
  Need(sigaction(SIGUSR1, &action, nullptr) == 0, "sigaction");
  pid_t self = getpid();
  meter.Each([&] {
    int before = signals;
    kill(self, SIGUSR1);
    errno = 0;
    Need(signals == before + 1, "the signal's handler did not run");
  });
}

void Epoll(Meter& meter) {
  int event = eventfd(0, 0), epoll = epoll_create1(0);
  epoll_event e = {.events = EPOLLIN, .data = {.fd = event}};
  Need(event >= 0 && epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, event, &e) == 0, "epoll");
  meter.Each([&] {
    uint64_t value = 1;
    Need(write(event, &value, 8) == 8, "write");
    Need(epoll_wait(epoll, &e, 1, -1) == 1, "epoll_wait");
    Need(read(event, &value, 8) == 8, "read");
  });
}

void Poll100(Meter& meter) {
  pollfd fds[100];
  for (pollfd& fd : fds) fd = {.fd = MakePipe().in, .events = POLLIN, .revents = 0};
  meter.Each([&] { Need(poll(fds, 100, 0) == 0, "poll"); });
}

// A byte goes round a ring of processes; an operation is one hop.
template <int kTasks>
void Switches(Meter& meter) {
  Ends links[kTasks];
  for (Ends& link : links) link = MakePipe();
  // Process i reads link i and writes the next; this one is the last.
  pid_t children[kTasks - 1];
  for (int i = 0; i < kTasks - 1; i++) {
    children[i] = fork();
    Need(children[i] >= 0, "fork");
    if (children[i] == 0) {
      // Only what it needs stays open, so that the end travels round the ring.
      for (int j = 0; j < kTasks; j++) {
        if (j != i) close(links[j].in);
        if (j != i + 1) close(links[j].out);
      }
      while (TakeByte(links[i].in)) SendByte(links[i + 1].out);
      _exit(0);
    }
  }
  for (int j = 0; j < kTasks; j++) {
    if (j != kTasks - 1) close(links[j].in);
    if (j != 0) close(links[j].out);
  }
  meter.Groups(kTasks, [&](int64_t rounds) {
    int64_t start = Now();
    for (int64_t i = 0; i < rounds; i++) {
      SendByte(links[0].out);
      Need(TakeByte(links[kTasks - 1].in), "the ring is broken");
    }
    return Now() - start;
  });
  close(links[0].out);
  for (pid_t child : children) WaitFor(child);
}

}  // namespace

std::vector<Row> IpcRows() {
  return {
      {"pipe", "us", "pipe ping-pong of two processes", PipePingPong},
      {"unix", "us", "unix socket ping-pong of two processes", UnixPingPong},
      {"futex", "us", "futex ping-pong of two threads", FutexPingPong},
      {"signal", "us", "signal to oneself, with its handler", Signal},
      {"epoll", "us", "epoll loop: write, wait and read an eventfd", Epoll},
      {"poll100", "us", "poll of 100 quiet pipes", Poll100},
      {"switch2", "us", "context switch, 2 processes and pipes in a ring", Switches<2>},
      {"switch4", "us", "context switch, 4 processes", Switches<4>},
      {"switch8", "us", "context switch, 8 processes", Switches<8>},
      {"switch16", "us", "context switch, 16 processes", Switches<16>},
      {"switch32", "us", "context switch, 32 processes", Switches<32>},
      {"switch64", "us", "context switch, 64 processes", Switches<64>},
  };
}

}  // namespace uk::bench
