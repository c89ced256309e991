// futex: locks that lend priority to their owner, and waits that end as such a lock's owner.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include <atomic>
#include <thread>

#include "tests/syscalls/testing.h"

#ifndef FUTEX_LOCK_PI2
#define FUTEX_LOCK_PI2 13
#endif

namespace uk::test {
namespace {

using Word = std::atomic<uint32_t>;

long Futex(Word* word, int op, uint32_t value = 0, const void* timeout = nullptr,
           Word* word2 = nullptr, uint32_t value3 = 0) {
  return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}

uint32_t Tid() { return static_cast<uint32_t>(gettid()); }

// What field N (from 1) of a thread's stat line says.
std::string StatField(pid_t tid, int n) {
  char path[64], line[1024] = {};
  snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
  FILE* f = fopen(path, "r");
  if (f == nullptr) return "";
  size_t got = fread(line, 1, sizeof line - 1, f);
  fclose(f);
  std::string text(line, got);
  size_t at = text.rfind(')') + 2;
  for (int i = 3; i < n; i++) at = text.find(' ', at) + 1;
  return text.substr(at, text.find(' ', at) - at);
}

void UntilAsleep(const std::atomic<pid_t>& tid) {
  while (tid == 0 || StatField(tid, 3) != "S") sched_yield();
}

timespec In(int64_t ns, clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  t.tv_nsec += ns;
  t.tv_sec += t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  return t;
}

TEST(futex, LockPiHandsOverToTheWaiter) {
  Word word{Tid()};
  std::atomic<pid_t> tid{0};
  std::thread other([&] {
    tid = gettid();
    EXPECT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE));
    EXPECT_EQ(word & FUTEX_TID_MASK, Tid());
    EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE));
  });
  UntilAsleep(tid);
  EXPECT_EQ(word, Tid() | FUTEX_WAITERS);
  EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE));
  other.join();
  EXPECT_EQ(word, 0u);
}

TEST(futex, LockPiTimesOutAndTryLockDoesNotWait) {
  Word word{0};
  std::atomic<bool> held{false}, done{false};
  std::thread owner([&] {
    EXPECT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE));
    held = true;
    while (!done) sched_yield();
    EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE));
  });
  while (!held) sched_yield();
  EXPECT_ERRNO(EAGAIN, Futex(&word, FUTEX_TRYLOCK_PI_PRIVATE));
  timespec until = In(5000000, CLOCK_REALTIME);
  EXPECT_ERRNO(ETIMEDOUT, Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, &until));
  until = In(5000000, CLOCK_MONOTONIC);
  EXPECT_ERRNO(ETIMEDOUT, Futex(&word, FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG, 0, &until));
  until = In(5000000, CLOCK_REALTIME);
  EXPECT_ERRNO(ETIMEDOUT,
               Futex(&word, FUTEX_LOCK_PI2 | FUTEX_PRIVATE_FLAG | FUTEX_CLOCK_REALTIME, 0, &until));
  until.tv_nsec = 1000000000;
  EXPECT_ERRNO(EINVAL, Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0, &until));
  done = true;
  owner.join();
}

TEST(futex, PiErrors) {
  Word word{0};
  EXPECT_ERRNO(EPERM, Futex(&word, FUTEX_UNLOCK_PI_PRIVATE));
  word = 0x3ffffff;  // nobody has this number
  EXPECT_ERRNO(ESRCH, Futex(&word, FUTEX_LOCK_PI_PRIVATE));
  word = Tid();
  EXPECT_ERRNO(EDEADLK, Futex(&word, FUTEX_LOCK_PI_PRIVATE));
  EXPECT_ERRNO(EFAULT, Futex(nullptr, FUTEX_LOCK_PI_PRIVATE));
  EXPECT_ERRNO(EINVAL,
               syscall(SYS_futex, reinterpret_cast<char*>(&word) + 1, FUTEX_LOCK_PI, 0, nullptr));
  EXPECT_ERRNO(ENOSYS, Futex(&word, FUTEX_LOCK_PI_PRIVATE | FUTEX_CLOCK_REALTIME));
  Word other{0};
  EXPECT_ERRNO(EINVAL, Futex(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 2, reinterpret_cast<void*>(1),
                             &other, word));
  EXPECT_ERRNO(EINVAL, Futex(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, reinterpret_cast<void*>(1),
                             &word, word));
  EXPECT_ERRNO(EAGAIN, Futex(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, reinterpret_cast<void*>(1),
                             &other, word + 1));
  EXPECT_EQ(Futex(&word, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, reinterpret_cast<void*>(1), &other, word),
            0);
  EXPECT_ERRNO(EAGAIN, Futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, word + 1, nullptr, &other, ~0u));
  EXPECT_ERRNO(EINVAL, Futex(&word, FUTEX_WAIT_REQUEUE_PI_PRIVATE, word, nullptr, &word, ~0u));
}

TEST(futex, PiDeadlockIsFound) {
  // Two threads, each with a lock, want the other's: one of them is told.
  Word a{0}, b{0};
  std::atomic<pid_t> tid{0};
  ASSERT_OK(Futex(&a, FUTEX_LOCK_PI_PRIVATE));
  std::thread other([&] {
    EXPECT_OK(Futex(&b, FUTEX_LOCK_PI_PRIVATE));
    tid = gettid();
    EXPECT_OK(Futex(&a, FUTEX_LOCK_PI_PRIVATE));
    EXPECT_OK(Futex(&a, FUTEX_UNLOCK_PI_PRIVATE));
    EXPECT_OK(Futex(&b, FUTEX_UNLOCK_PI_PRIVATE));
  });
  UntilAsleep(tid);
  EXPECT_ERRNO(EDEADLK, Futex(&b, FUTEX_LOCK_PI_PRIVATE));
  EXPECT_OK(Futex(&a, FUTEX_UNLOCK_PI_PRIVATE));
  other.join();
}

TEST(futex, DeadOwnerOfAPiLockIsSeen) {
  Word word{0};
  std::atomic<bool> held{false}, end{false};
  std::thread owner([&] {
    EXPECT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE));
    held = true;
    while (!end) sched_yield();
  });
  while (!held) sched_yield();
  std::atomic<pid_t> tid{0};
  std::thread waiter([&] {
    tid = gettid();
    EXPECT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE));
    EXPECT_EQ(word & FUTEX_TID_MASK, Tid());
    EXPECT_NE(word & FUTEX_OWNER_DIED, 0u);
    EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE));
  });
  UntilAsleep(tid);
  end = true;
  owner.join();
  waiter.join();
}

TEST(futex, RobustPiMutexBetweenProcesses) {
  COVERS(set_robust_list);
  auto* mutex = static_cast<pthread_mutex_t*>(
      mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(mutex, MAP_FAILED);
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  ASSERT_EQ(pthread_mutex_init(mutex, &attr), 0);
  // The owner dies before anybody waits, and while somebody does.
  IN_CHILD([&] { CHILD_CHECK(pthread_mutex_lock(mutex) == 0); });
  EXPECT_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
  EXPECT_EQ(pthread_mutex_consistent(mutex), 0);
  EXPECT_EQ(pthread_mutex_unlock(mutex), 0);
  int ready[2];
  ASSERT_OK(pipe(ready));
  pid_t child = Spawn([&] {
    CHILD_CHECK(pthread_mutex_lock(mutex) == 0);
    CHILD_CHECK(write(ready[1], "x", 1) == 1);
    pause();
  });
  char c;
  ASSERT_EQ(read(ready[0], &c, 1), 1);
  std::atomic<pid_t> tid{0};
  std::thread waiter([&] {
    tid = gettid();
    EXPECT_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
    EXPECT_EQ(pthread_mutex_consistent(mutex), 0);
    EXPECT_EQ(pthread_mutex_unlock(mutex), 0);
  });
  UntilAsleep(tid);
  kill(child, SIGKILL);
  EXPECT_EQ(WaitFor(child), Killed(SIGKILL));
  waiter.join();
  close(ready[0]);
  close(ready[1]);
  munmap(mutex, kPage);
}

TEST(futex, WaitRequeuePi) {
  // Waiters of a condition get the lock one after another.
  constexpr int kWaiters = 3;
  Word condition{7}, lock{0};
  std::atomic<pid_t> tids[kWaiters] = {};
  std::atomic<int> got{0};
  std::vector<std::thread> threads;
  ASSERT_OK(Futex(&lock, FUTEX_LOCK_PI_PRIVATE));
  for (int i = 0; i < kWaiters; i++) {
    threads.emplace_back([&, i] {
      tids[i] = gettid();
      EXPECT_OK(Futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 7, nullptr, &lock, ~0u));
      EXPECT_EQ(lock & FUTEX_TID_MASK, Tid());
      got++;
      EXPECT_OK(Futex(&lock, FUTEX_UNLOCK_PI_PRIVATE));
    });
  }
  for (auto& tid : tids) UntilAsleep(tid);
  EXPECT_ERRNO(EINVAL, Futex(&condition, FUTEX_WAKE_PRIVATE, 1)) << "they want the lock";
  EXPECT_EQ(Futex(&condition, FUTEX_CMP_REQUEUE_PI_PRIVATE, 1, reinterpret_cast<void*>(kWaiters),
                  &lock, 7),
            kWaiters);
  EXPECT_EQ(got, 0);
  EXPECT_OK(Futex(&lock, FUTEX_UNLOCK_PI_PRIVATE));
  for (auto& t : threads) t.join();
  EXPECT_EQ(got, kWaiters);
  EXPECT_EQ(lock, 0u);
  // Nobody requeues: the time runs out.
  timespec until = In(5000000, CLOCK_MONOTONIC);
  EXPECT_ERRNO(ETIMEDOUT, Futex(&condition, FUTEX_WAIT_REQUEUE_PI_PRIVATE, 7, &until, &lock, ~0u));
}

TEST(futex, PiLendsTheWaitersPriority) {
  sched_param param = {.sched_priority = 30};
  if (sched_setscheduler(0, SCHED_FIFO, &param) != 0) GTEST_SKIP() << "no real-time priorities";
  Word word{0};
  std::atomic<pid_t> owner_tid{0}, waiter_tid{0};
  std::atomic<bool> end{false};
  std::thread owner([&] {
    sched_param none = {};
    EXPECT_OK(sched_setscheduler(0, SCHED_OTHER, &none));
    EXPECT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE));
    owner_tid = gettid();
    while (!end) usleep(1000);
    EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE));
    EXPECT_EQ(StatField(gettid(), 18), "20") << "it has its own priority again";
  });
  while (owner_tid == 0) usleep(1000);
  EXPECT_EQ(StatField(owner_tid, 18), "20");
  std::thread waiter([&] {
    waiter_tid = gettid();
    EXPECT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE));
    EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE));
  });
  UntilAsleep(waiter_tid);
  EXPECT_EQ(StatField(owner_tid, 18), "-31") << "that of its waiter";
  end = true;
  owner.join();
  waiter.join();
  sched_param none = {};
  EXPECT_OK(sched_setscheduler(0, SCHED_OTHER, &none));
}

}  // namespace
}  // namespace uk::test
