// What is waited for: poll, epoll, eventfd, timerfd, signalfd, inotify. Nothing here lets time
// pass.
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "tests/oracle/run.h"
#include "tests/oracle/words.h"

namespace oracle {
namespace {

const Words kEventFd{
    {{"EFD_NONBLOCK", EFD_NONBLOCK, 98}},
    {{"EFD_SEMAPHORE", EFD_SEMAPHORE, 40}, {"EFD_CLOEXEC", EFD_CLOEXEC, 20}, {"0x10", 0x10, 1}}};
const Words kCounts = numbers({0, 1, 2, 5, 0xffffffff});
const Words kAdds = numbers({0, 1, 2, 3, 100, -1, -2, -10});
const Words kEpollFlags{{{"0", 0, 60}, {"EPOLL_CLOEXEC", EPOLL_CLOEXEC, 40}, {"1", 1, 1}}, {}};
const Words kEpollOp{{{"EPOLL_CTL_ADD", EPOLL_CTL_ADD, 60},
                      {"EPOLL_CTL_MOD", EPOLL_CTL_MOD, 25},
                      {"EPOLL_CTL_DEL", EPOLL_CTL_DEL, 20},
                      {"9", 9, 1}},
                     {}};
const Words kEpollEvents{{{"EPOLLIN", EPOLLIN, 50},
                          {"EPOLLOUT", EPOLLOUT, 25},
                          {"EPOLLIN|EPOLLOUT", EPOLLIN | EPOLLOUT, 40},
                          {"0", 0, 5}},
                         {{"EPOLLET", EPOLLET, 25},
                          {"EPOLLONESHOT", EPOLLONESHOT, 15},
                          {"EPOLLRDHUP", EPOLLRDHUP, 20},
                          {"EPOLLPRI", EPOLLPRI, 8},
                          {"EPOLLEXCLUSIVE", EPOLLEXCLUSIVE, 3},
                          {"EPOLLRDNORM", EPOLLRDNORM, 5},
                          {"EPOLLWRNORM", EPOLLWRNORM, 5}}};
const Words kMaxEvents = numbers({1, 2, 16, 16, 0, -1});
const Words kPollEvents{
    {{"POLLIN", POLLIN, 30},
     {"POLLOUT", POLLOUT, 20},
     {"POLLIN|POLLOUT", POLLIN | POLLOUT, 50},
     {"0", 0, 5}},
    {{"POLLRDHUP", POLLRDHUP, 20}, {"POLLPRI", POLLPRI, 20}, {"POLLRDNORM", POLLRDNORM, 10}}};
const Words kTimerFlags{{{"TFD_NONBLOCK", TFD_NONBLOCK, 98}},
                        {{"TFD_CLOEXEC", TFD_CLOEXEC, 20}, {"0x10", 0x10, 1}}};
const Words kClocks{{{"CLOCK_MONOTONIC", 1, 40},
                     {"CLOCK_REALTIME", 0, 30},
                     {"CLOCK_BOOTTIME", 7, 20},
                     {"CLOCK_PROCESS_CPUTIME_ID", 2, 3},
                     {"99", 99, 2}},
                    {}};
// A time that does not come, one that has been (absolute), none, and wrong ones.
const Words kWhen{{{"never", 0, 40}, {"past", 1, 40}, {"off", 2, 20}, {"invalid", 3, 5}}, {}};
const Words kSignalFdFlags{{{"SFD_NONBLOCK", SFD_NONBLOCK, 98}},
                           {{"SFD_CLOEXEC", SFD_CLOEXEC, 20}}};
const Words kMask{{},
                  {{"USR1", 1ull << (SIGUSR1 - 1), 50},
                   {"USR2", 1ull << (SIGUSR2 - 1), 40},
                   {"CHLD", 1ull << (SIGCHLD - 1), 30},
                   {"RT40", 1ull << 39, 30},
                   {"TERM", 1ull << (SIGTERM - 1), 10}}};
const Words kWatchFlags{{{"IN_NONBLOCK", IN_NONBLOCK, 98}}, {{"IN_CLOEXEC", IN_CLOEXEC, 20}}};
const Words kWatchMask{{{"IN_ALL_EVENTS", IN_ALL_EVENTS, 60},
                        {"IN_CREATE|IN_DELETE", IN_CREATE | IN_DELETE, 15},
                        {"IN_MODIFY", IN_MODIFY, 10},
                        {"IN_MOVED_FROM|IN_MOVED_TO", IN_MOVE, 10},
                        {"0", 0, 1}},
                       {{"IN_ONESHOT", IN_ONESHOT, 8},
                        {"IN_ONLYDIR", IN_ONLYDIR, 8},
                        {"IN_DONT_FOLLOW", IN_DONT_FOLLOW, 8},
                        {"IN_MASK_ADD", IN_MASK_ADD, 8},
                        {"IN_EXCL_UNLINK", IN_EXCL_UNLINK, 8},
                        {"IN_MASK_CREATE", IN_MASK_CREATE, 5}}};
const Words kWatches = numbers({1, 1, 2, 3, 9, -1});

void epoll_wait(Run& r) {
  struct epoll_event e[16] = {};
  long n = r.sys_(SYS_epoll_wait, r.fd(0), e, r.n(1), 0);
  r.ret(n);
  for (long i = 0; i < n; ++i)
    r.log(" %lu:%x", static_cast<unsigned long>(e[i].data.u64), e[i].events);
}

void set_timer(Run& r) {
  itimerspec t{}, old{};
  int flags = 0;
  switch (r.n(1)) {
    case 0:
      t.it_value.tv_sec = 1'000'000;
      break;
    case 1:
      t.it_value.tv_nsec = 1;
      flags = TFD_TIMER_ABSTIME;
      break;
    case 2:
      break;
    default:
      t.it_value.tv_nsec = 1'000'000'000;
  }
  long n = r.sys_(SYS_timerfd_settime, r.fd(0), flags, &t, &old);
  r.ret(n);
  r.log(" old %s", old.it_value.tv_sec != 0 || old.it_value.tv_nsec != 0 ? "on" : "off");
}

void read_watch(Run& r) {
  alignas(8) char buffer[4096];
  long n = r.sys_(SYS_read, r.fd(0), buffer, sizeof buffer);
  r.ret(n);
  uint32_t cookies[64];
  int seen = 0;
  for (long at = 0; at < n;) {
    auto* e = reinterpret_cast<inotify_event*>(buffer + at);
    at += static_cast<long>(sizeof *e + e->len);
    int cookie = 0;
    if (e->cookie != 0) {
      while (cookie < seen && cookies[cookie] != e->cookie) ++cookie;
      if (cookie == seen && seen < 64) cookies[seen++] = e->cookie;
      ++cookie;
    }
    r.log(" {%d %x %d %s}", e->wd, e->mask, cookie, e->len > 0 ? e->name : "");
  }
}

}  // namespace

void add_event_calls(std::vector<Desc>* out) {
  out->insert(
      out->end(),
      {
          {"eventfd2",
           kEvents | kFds,
           12,
           {number(kCounts), words(kEventFd)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_eventfd2, r.n(0), r.n(1))); },
           kEvent,
           1},
          {"event_add",
           kEvents,
           12,
           {fd(kEvent), number(kAdds)},
           [](Run& r) {
             uint64_t v = static_cast<uint64_t>(r.n(1));
             r.ret(r.sys_(SYS_write, r.fd(0), &v, 8));
           }},
          {"event_read",
           kEvents,
           10,
           {fd(kEvent | kTimer)},
           [](Run& r) {
             uint64_t v = 7;
             r.ret(r.sys_(SYS_read, r.fd(0), &v, 8));
             r.log(" %lu", v);
           }},
          {"epoll_create1",
           kEvents,
           12,
           {words(kEpollFlags)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_epoll_create1, r.n(0))); },
           kEpoll,
           1},
          {"epoll_ctl",
           kEvents,
           45,
           {fd(kEpoll), words(kEpollOp), fd(), words(kEpollEvents)},
           [](Run& r) {
             struct epoll_event e {};
             e.events = static_cast<uint32_t>(r.n(3));
             e.data.u64 = static_cast<uint64_t>(r.fd(2));
             r.ret(r.sys_(SYS_epoll_ctl, r.fd(0), r.n(1), r.fd(2), &e));
           }},
          {"epoll_wait", kEvents, 30, {fd(kEpoll), number(kMaxEvents)}, epoll_wait},
          {"poll",
           kEvents | kPipes | kSockets | kProcs,
           20,
           {fd(), words(kPollEvents), fd(), words(kPollEvents)},
           [](Run& r) {
             pollfd p[2] = {{r.fd(0), static_cast<short>(r.n(1)), 0},
                            {r.fd(2), static_cast<short>(r.n(3)), 0}};
             long n = r.sys_(SYS_poll, p, 2, 0);
             r.ret(n);
             r.log(" %x %x", p[0].revents, p[1].revents);
           }},
          {"timerfd_create",
           kEvents,
           8,
           {words(kClocks), words(kTimerFlags)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_timerfd_create, r.n(0), r.n(1))); },
           kTimer,
           1},
          {"timerfd_settime", kEvents, 10, {fd(kTimer), words(kWhen)}, set_timer},
          {"timerfd_gettime",
           kEvents,
           4,
           {fd(kTimer)},
           [](Run& r) {
             itimerspec t{};
             r.ret(r.sys_(SYS_timerfd_gettime, r.fd(0), &t));
             r.log(" %s", t.it_value.tv_sec != 0 || t.it_value.tv_nsec != 0 ? "on" : "off");
           }},
          {"signalfd4",
           kEvents | kSignals,
           6,
           {words(kMask), words(kSignalFdFlags)},
           [](Run& r) {
             uint64_t set = static_cast<uint64_t>(r.n(0));
             r.ret_fd(r.sys_(SYS_signalfd4, -1, &set, 8, r.n(1)));
           },
           kSignalFd,
           1},
          {"signalfd_read",
           kEvents | kSignals,
           8,
           {fd(kSignalFd)},
           [](Run& r) {
             signalfd_siginfo s[3] = {};
             long n = r.sys_(SYS_read, r.fd(0), s, sizeof s);
             r.ret(n);
             for (long i = 0; i * static_cast<long>(sizeof s[0]) < n; ++i) {
               r.log(" {%u code %d p%d uid %u status %d int %d}", s[i].ssi_signo, s[i].ssi_code,
                     r.process_of(s[i].ssi_pid), s[i].ssi_uid, s[i].ssi_status, s[i].ssi_int);
             }
           }},
          {"inotify_init1",
           kEvents | kTree,
           5,
           {words(kWatchFlags)},
           [](Run& r) { r.ret_fd(r.sys_(SYS_inotify_init1, r.n(0))); },
           kWatch,
           1},
          {"inotify_add_watch",
           kEvents | kTree,
           10,
           {fd(kWatch), path(), words(kWatchMask)},
           [](Run& r) { r.ret(r.sys_(SYS_inotify_add_watch, r.fd(0), r.path(1), r.n(2))); }},
          {"inotify_rm_watch",
           kEvents | kTree,
           3,
           {fd(kWatch), number(kWatches)},
           [](Run& r) { r.ret(r.sys_(SYS_inotify_rm_watch, r.fd(0), r.n(1))); }},
          {"inotify_read", kEvents | kTree, 12, {fd(kWatch)}, read_watch},
      });
}

}  // namespace oracle
