// futex: wait, wake, requeue, bitsets, wake-op, priority inheritance, robust lists, and threads.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <time.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

long Futex(std::atomic<uint32_t>* word, int op, uint32_t value, const timespec* timeout = nullptr,
           std::atomic<uint32_t>* word2 = nullptr, uint32_t value3 = 0) {
  return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}

TEST(futex, WaitChecksTheValue) {
  std::atomic<uint32_t> word{5};
  EXPECT_ERRNO(EAGAIN, Futex(&word, FUTEX_WAIT_PRIVATE, 4));
  timespec ts = {0, 3000000};
  int64_t start = MonotonicNs();
  EXPECT_ERRNO(ETIMEDOUT, Futex(&word, FUTEX_WAIT_PRIVATE, 5, &ts));
  EXPECT_GE(MonotonicNs() - start, 3000000);
  EXPECT_EQ(Futex(&word, FUTEX_WAKE_PRIVATE, 1), 0) << "nobody waits";
}

TEST(futex, WakeWakesAsManyAsAsked) {
  std::atomic<uint32_t> word{0}, woken{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; i++) {
    threads.emplace_back([&] {
      EXPECT_EQ(Futex(&word, FUTEX_WAIT_PRIVATE, 0), 0);
      woken++;
    });
  }
  // Three sleepers: waking nobody tells how many there are, by requeueing them onto themselves.
  std::atomic<uint32_t> other{0};
  long moved = 0;
  while (moved < 3) {
    long n =
        Futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 0, reinterpret_cast<timespec*>(1000l), &other, 0);
    ASSERT_GE(n, 0);
    moved += n;
    Breathe();
  }
  EXPECT_EQ(Futex(&word, FUTEX_WAKE_PRIVATE, 10), 0) << "all have moved";
  EXPECT_EQ(Futex(&other, FUTEX_WAKE_PRIVATE, 1), 1);
  EXPECT_EQ(Futex(&other, FUTEX_WAKE_PRIVATE, 10), 2);
  for (auto& t : threads) t.join();
  EXPECT_EQ(woken, 3u);
}

TEST(futex, CmpRequeueChecksTheValue) {
  std::atomic<uint32_t> a{1}, b{0};
  EXPECT_ERRNO(EAGAIN,
               Futex(&a, FUTEX_CMP_REQUEUE_PRIVATE, 1, reinterpret_cast<timespec*>(1l), &b, 2));
  EXPECT_EQ(Futex(&a, FUTEX_REQUEUE_PRIVATE, 1, reinterpret_cast<timespec*>(1l), &b), 0);
}

TEST(futex, BitsetsSelect) {
  std::atomic<uint32_t> word{0};
  std::thread t(
      [&] { EXPECT_EQ(Futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, nullptr, nullptr, 2), 0); });
  for (int i = 0; i < 200; i++) {
    EXPECT_EQ(Futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, nullptr, nullptr, 1), 0);
    sched_yield();
  }
  while (Futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, nullptr, nullptr, 6) == 0) Breathe();
  t.join();
  EXPECT_ERRNO(EINVAL, Futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, nullptr, nullptr, 0));
  timespec past = {1, 0};
  EXPECT_ERRNO(ETIMEDOUT, Futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, &past, nullptr, ~0u))
      << "the bitset form takes an absolute time";
}

TEST(futex, WakeOpChangesTheSecondWord) {
  std::atomic<uint32_t> a{0}, b{5};
  EXPECT_EQ(Futex(&a, FUTEX_WAKE_OP_PRIVATE, 1, reinterpret_cast<timespec*>(1l), &b,
                  FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 99)),
            0);
  EXPECT_EQ(b, 8u);
}

TEST(futex, Errors) {
  std::atomic<uint32_t> word{0};
  auto* odd = reinterpret_cast<std::atomic<uint32_t>*>(reinterpret_cast<char*>(&word) + 1);
  EXPECT_ERRNO(EINVAL, Futex(odd, FUTEX_WAIT_PRIVATE, 0));
  EXPECT_ERRNO(EFAULT, Futex(Bad<std::atomic<uint32_t>>(), FUTEX_WAIT_PRIVATE, 0));
  EXPECT_ERRNO(ENOSYS, Futex(&word, 77, 0));
  timespec wrong = {0, 1000000000};
  EXPECT_ERRNO(EINVAL, Futex(&word, FUTEX_WAIT_PRIVATE, 0, &wrong));
  EXPECT_ERRNO(EFAULT, Futex(&word, FUTEX_WAIT_PRIVATE, 0, Bad<timespec>()));
}

TEST(futex, SharedBetweenProcesses) {
  Scratch dir;
  Fd fd = dir.Open("f");
  ASSERT_OK(ftruncate(fd, kPage));
  auto map = [&] {
    return static_cast<std::atomic<uint32_t>*>(
        mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  };
  auto* word = map();
  pid_t child = Spawn([&] {
    auto* mine = map();  // another address, the same futex
    while (*mine == 0) Futex(mine, FUTEX_WAIT, 0);
    return mine->load() == 7 ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  *word = 7;
  Futex(word, FUTEX_WAKE, 1);
  EXPECT_EQ(WaitFor(child), Exited(0));
  munmap(word, kPage);
}

TEST(futex, InterruptedAndRestarted) {
  Gate ready;
  for (int flags : {0, SA_RESTART}) {
    Mapping shared(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    auto* word = new (shared.at()) std::atomic<uint32_t>(0);
    pid_t child = Spawn([&] {
      ScopedHandler h(
          SIGUSR1, [](int) {}, flags);
      ready.Open();
      long r = Futex(word, FUTEX_WAIT, 0);
      return r == 0 ? 1 : errno == EINTR ? 2 : errno == EAGAIN ? 1 : 3;
    });
    ASSERT_TRUE(ready.Wait());
    EXPECT_TRUE(WaitForState(child, 'S'));
    kill(child, SIGUSR1);
    if (flags) {
      *word = 1;
      Futex(word, FUTEX_WAKE, 1);
    }
    EXPECT_EQ(WaitFor(child), Exited(flags ? 1 : 2));
  }
}

TEST(futex, PriorityInheritanceMutex) {
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  ASSERT_EQ(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT), 0);
  pthread_mutex_t mutex;
  ASSERT_EQ(pthread_mutex_init(&mutex, &attr), 0);
  int counter = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++) {
    threads.emplace_back([&] {
      for (int k = 0; k < 200; k++) {
        ASSERT_EQ(pthread_mutex_lock(&mutex), 0);
        counter++;
        ASSERT_EQ(pthread_mutex_unlock(&mutex), 0);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(counter, 800);
  EXPECT_EQ(pthread_mutex_destroy(&mutex), 0);
  std::atomic<uint32_t> word{0};
  EXPECT_OK(Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0));
  EXPECT_EQ(word, static_cast<uint32_t>(gettid()));
  EXPECT_ERRNO(EDEADLK, Futex(&word, FUTEX_LOCK_PI_PRIVATE, 0));
  EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0));
  EXPECT_ERRNO(EPERM, Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0));
  EXPECT_OK(Futex(&word, FUTEX_TRYLOCK_PI_PRIVATE, 0));
  EXPECT_OK(Futex(&word, FUTEX_UNLOCK_PI_PRIVATE, 0));
}

TEST(set_robust_list, OwnerDeathIsSeen) {
  Mapping shared(kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  auto* mutex = shared.as<pthread_mutex_t>();
  pthread_mutexattr_t attr;
  pthread_mutexattr_init(&attr);
  pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
  ASSERT_EQ(pthread_mutex_init(mutex, &attr), 0);
  IN_CHILD([&] { CHILD_CHECK(pthread_mutex_lock(mutex) == 0); });  // and dies holding it
  EXPECT_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
  EXPECT_EQ(pthread_mutex_consistent(mutex), 0);
  EXPECT_EQ(pthread_mutex_unlock(mutex), 0);
  // With a waiter present the dying owner wakes it.
  Gate locked, die;
  pid_t owner = Spawn([&] {
    CHILD_CHECK(pthread_mutex_lock(mutex) == 0);
    locked.Open();
    die.Wait();
    return 0;
  });
  ASSERT_TRUE(locked.Wait());
  pid_t waiter = Spawn([&] { return pthread_mutex_lock(mutex) == EOWNERDEAD ? 0 : 1; });
  EXPECT_TRUE(WaitForState(waiter, 'S'));
  die.Open();
  EXPECT_EQ(WaitFor(owner), Exited(0));
  EXPECT_EQ(WaitFor(waiter), Exited(0));
}

TEST(get_robust_list, ReturnsWhatWasSet) {
  robust_list_head* head = nullptr;
  size_t size = 0;
  EXPECT_OK(syscall(SYS_get_robust_list, 0, &head, &size));
  EXPECT_EQ(size, sizeof(robust_list_head));
  EXPECT_NE(head, nullptr);
  EXPECT_OK(syscall(SYS_set_robust_list, head, size));
  EXPECT_ERRNO(EINVAL, syscall(SYS_set_robust_list, head, size + 1));
  EXPECT_ERRNO(ESRCH, syscall(SYS_get_robust_list, 0x3fffffff, &head, &size));
  EXPECT_ERRNO(EFAULT, syscall(SYS_get_robust_list, 0, BadPointer(), &size));
}

TEST(futex_waitv, WaitsForAnyOfSeveral) {
  struct Waiter {
    uint64_t val, uaddr;
    uint32_t flags, reserved;
  };
  std::atomic<uint32_t> a{0}, b{0};
  Waiter w[2] = {{0, reinterpret_cast<uint64_t>(&a), 2 | 128, 0},
                 {1, reinterpret_cast<uint64_t>(&b), 2 | 128, 0}};
  constexpr int kFutexWaitv = 449;
  EXPECT_ERRNO(EAGAIN, syscall(kFutexWaitv, w, 2, 0, nullptr, CLOCK_MONOTONIC));
  w[1].val = 0;
  timespec past = {0, 1};
  EXPECT_ERRNO(ETIMEDOUT, syscall(kFutexWaitv, w, 2, 0, &past, CLOCK_MONOTONIC));
  std::thread t([&] {
    while (Futex(&b, FUTEX_WAKE_PRIVATE, 1) == 0) Breathe();
  });
  EXPECT_EQ(syscall(kFutexWaitv, w, 2, 0, nullptr, CLOCK_MONOTONIC), 1) << "the index of the woken";
  t.join();
  EXPECT_ERRNO(EINVAL, syscall(kFutexWaitv, w, 0, 0, nullptr, CLOCK_MONOTONIC));
  EXPECT_ERRNO(EINVAL, syscall(kFutexWaitv, w, 129, 0, nullptr, CLOCK_MONOTONIC));
}

// ---- threads: what glibc builds on these -----------------------------------------------------

TEST(threads, CreateJoinAndTls) {
  static thread_local int mine = 1;
  std::atomic<int> sum{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 16; i++) {
    threads.emplace_back([&, i] {
      EXPECT_EQ(mine, 1);
      mine = i;
      sched_yield();
      EXPECT_EQ(mine, i);
      sum += mine;
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(sum, 120);
  EXPECT_EQ(mine, 1);
}

TEST(threads, MutexAndConditionPingPong) {
  std::mutex mutex;
  std::condition_variable cv;
  int turn = 0, rounds = 0;
  auto player = [&](int me) {
    for (int i = 0; i < 300; i++) {
      std::unique_lock lock(mutex);
      cv.wait(lock, [&] { return turn == me; });
      turn = 1 - me;
      rounds++;
      cv.notify_all();
    }
  };
  std::thread a(player, 0), b(player, 1);
  a.join();
  b.join();
  EXPECT_EQ(rounds, 600);
}

TEST(threads, SameProcessDifferentTids) {
  pid_t pid = getpid(), tid = 0, ppid = 0;
  std::thread([&] {
    EXPECT_EQ(getpid(), pid);
    tid = gettid();
    ppid = getppid();
    EXPECT_TRUE(Exists("/proc/self/task/" + std::to_string(tid)));
  }).join();
  EXPECT_NE(tid, pid);
  EXPECT_EQ(ppid, getppid());
}

TEST(threads, RunInParallelAndSemaphores) {
  sem_t sem;
  ASSERT_EQ(sem_init(&sem, 0, 0), 0);
  std::atomic<int> a{0}, b{0};
  // Each waits for the other without a system call: both must get processor time.
  std::thread t([&] {
    a = 1;
    while (b == 0) {
    }
    sem_post(&sem);
  });
  while (a == 0) {
  }
  b = 1;
  EXPECT_EQ(sem_wait(&sem), 0);
  t.join();
  sem_destroy(&sem);
}

TEST(threads, CancelAndCleanup) {
  static std::atomic<bool> cleaned;
  cleaned = false;
  pthread_t t;
  Pipe p;
  int fd = p.r;
  ASSERT_EQ(pthread_create(
                &t, nullptr,
                [](void* arg) -> void* {
                  pthread_cleanup_push([](void*) { cleaned = true; }, nullptr);
                  char c;
                  (void)!read(*static_cast<int*>(arg), &c, 1);
                  pthread_cleanup_pop(0);
                  return nullptr;
                },
                &fd),
            0);
  pthread_cancel(t);
  void* result;
  pthread_join(t, &result);
  EXPECT_EQ(result, PTHREAD_CANCELED);
  EXPECT_TRUE(cleaned);
}

TEST(threads, ManySequentially) {
  for (int i = 0; i < 200; i++) std::thread([] {}).join();
}

}  // namespace
}  // namespace uk::test
