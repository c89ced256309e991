// System V shared memory, semaphores and message queues; POSIX message queues.
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <time.h>

#include "tests/syscalls/memory/fault.h"
#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

TEST(shmget, SegmentsAreSharedAndRemoved) {
  COVERS(shmat, shmdt, shmctl);
  int id = static_cast<int>(syscall(SYS_shmget, IPC_PRIVATE, 3 * kPage, IPC_CREAT | 0600));
  ASSERT_OK(id);
  auto* p = reinterpret_cast<char*>(syscall(SYS_shmat, id, nullptr, 0));
  ASSERT_OK(reinterpret_cast<long>(p));
  EXPECT_EQ(p[0], 0);
  IN_CHILD([&] { p[5] = 'c'; });
  EXPECT_EQ(p[5], 'c');
  auto* ro = reinterpret_cast<char*>(syscall(SYS_shmat, id, nullptr, SHM_RDONLY));
  EXPECT_EQ(ro[5], 'c');
  EXPECT_EQ(TryWrite(ro).signal, SIGSEGV);
  shmid_ds ds;
  EXPECT_OK(syscall(SYS_shmctl, id, IPC_STAT, &ds));
  EXPECT_EQ(ds.shm_nattch, 2u);
  EXPECT_EQ(ds.shm_segsz, 3 * kPage);
  EXPECT_EQ(ds.shm_cpid, getpid());
  EXPECT_OK(syscall(SYS_shmdt, ro));
  EXPECT_ERRNO(EINVAL, syscall(SYS_shmdt, ro));
  EXPECT_OK(syscall(SYS_shmctl, id, IPC_RMID, nullptr));
  EXPECT_EQ(p[5], 'c') << "usable until detached";
  EXPECT_OK(syscall(SYS_shmdt, p));
  EXPECT_ERRNO(EINVAL, syscall(SYS_shmat, id, nullptr, 0));
}

TEST(shmget, KeysAndErrors) {
  key_t key = 0x10000000 | getpid();
  int id = static_cast<int>(syscall(SYS_shmget, key, kPage, IPC_CREAT | IPC_EXCL | 0600));
  ASSERT_OK(id);
  EXPECT_EQ(syscall(SYS_shmget, key, kPage, 0), id);
  EXPECT_ERRNO(EEXIST, syscall(SYS_shmget, key, kPage, IPC_CREAT | IPC_EXCL | 0600));
  EXPECT_ERRNO(EINVAL, syscall(SYS_shmget, key, 2 * kPage, 0)) << "larger than it is";
  EXPECT_OK(syscall(SYS_shmctl, id, IPC_RMID, nullptr));
  EXPECT_ERRNO(ENOENT, syscall(SYS_shmget, key, kPage, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_shmget, IPC_PRIVATE, 0l, IPC_CREAT | 0600));
  EXPECT_ERRNO(EINVAL, syscall(SYS_shmctl, id, IPC_RMID, nullptr));
}

TEST(semget, OperationsAndUndo) {
  COVERS(semop, semctl, semtimedop);
  int id = static_cast<int>(syscall(SYS_semget, IPC_PRIVATE, 2, IPC_CREAT | 0600));
  ASSERT_OK(id);
  EXPECT_OK(syscall(SYS_semctl, id, 0, SETVAL, 3));
  EXPECT_EQ(syscall(SYS_semctl, id, 0, GETVAL, 0), 3);
  sembuf take = {0, -2, 0};
  EXPECT_OK(syscall(SYS_semop, id, &take, 1));
  EXPECT_EQ(syscall(SYS_semctl, id, 0, GETVAL, 0), 1);
  sembuf nowait = {0, -2, IPC_NOWAIT};
  EXPECT_ERRNO(EAGAIN, syscall(SYS_semop, id, &nowait, 1));
  sembuf both[2] = {{0, -1, IPC_NOWAIT}, {1, -1, IPC_NOWAIT}};
  EXPECT_ERRNO(EAGAIN, syscall(SYS_semop, id, both, 2));
  EXPECT_EQ(syscall(SYS_semctl, id, 0, GETVAL, 0), 1) << "all or nothing";
  timespec ts = {0, 2000000};
  sembuf zero = {0, 0, 0};
  EXPECT_ERRNO(EAGAIN, syscall(SYS_semtimedop, id, &zero, 1, &ts));
  sembuf nothing_to_undo = {1, 0, SEM_UNDO};
  EXPECT_OK(syscall(SYS_semop, id, &nothing_to_undo, 1));
  IN_CHILD([&] {
    sembuf undo = {0, 5, SEM_UNDO};
    CHILD_CHECK(semop(id, &undo, 1) == 0);
    CHILD_CHECK(semctl(id, 0, GETVAL) == 6);
  });
  EXPECT_EQ(syscall(SYS_semctl, id, 0, GETVAL, 0), 1) << "undone at exit";
  pid_t child = Spawn([&] {
    sembuf wait = {1, -1, 0};
    return semop(id, &wait, 1);
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  EXPECT_EQ(syscall(SYS_semctl, id, 1, GETNCNT, 0), 1);
  sembuf post = {1, 1, 0};
  EXPECT_OK(syscall(SYS_semop, id, &post, 1));
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_ERRNO(EFBIG, syscall(SYS_semop, id, (both[0] = {9, 1, 0}, both), 1));
  EXPECT_OK(syscall(SYS_semctl, id, 0, IPC_RMID, 0));
  EXPECT_ERRNO(EINVAL, syscall(SYS_semop, id, &post, 1));
}

TEST(semop, RemovalWakesWaiters) {
  int id = semget(IPC_PRIVATE, 1, IPC_CREAT | 0600);
  ASSERT_OK(id);
  pid_t child = Spawn([&] {
    sembuf wait = {0, -1, 0};
    return semop(id, &wait, 1) == -1 && errno == EIDRM ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  ASSERT_OK(semctl(id, 0, IPC_RMID));
  EXPECT_EQ(WaitFor(child), Exited(0));
}

TEST(msgget, TypesAndOrder) {
  COVERS(msgsnd, msgrcv, msgctl);
  int id = static_cast<int>(syscall(SYS_msgget, IPC_PRIVATE, IPC_CREAT | 0600));
  ASSERT_OK(id);
  struct Message {
    long type;
    char text[16];
  };
  Message m = {3, "three"}, n = {1, "one"}, k = {2, "two"}, got = {};
  EXPECT_OK(syscall(SYS_msgsnd, id, &m, 6l, 0));
  EXPECT_OK(syscall(SYS_msgsnd, id, &n, 4l, 0));
  EXPECT_OK(syscall(SYS_msgsnd, id, &k, 4l, 0));
  EXPECT_EQ(syscall(SYS_msgrcv, id, &got, 16l, 2l, 0), 4);
  EXPECT_STREQ(got.text, "two");
  EXPECT_EQ(syscall(SYS_msgrcv, id, &got, 16l, -3l, 0), 4) << "lowest type first";
  EXPECT_STREQ(got.text, "one");
  EXPECT_ERRNO(E2BIG, syscall(SYS_msgrcv, id, &got, 2l, 0l, 0));
  EXPECT_EQ(syscall(SYS_msgrcv, id, &got, 2l, 0l, MSG_NOERROR), 2);
  EXPECT_ERRNO(ENOMSG, syscall(SYS_msgrcv, id, &got, 16l, 0l, IPC_NOWAIT));
  m.type = 0;
  EXPECT_ERRNO(EINVAL, syscall(SYS_msgsnd, id, &m, 6l, 0));
  pid_t child = Spawn([&] {
    Message mine;
    return msgrcv(id, &mine, 16, 0, 0) == 4 ? 0 : 1;
  });
  EXPECT_TRUE(WaitForState(child, 'S'));
  EXPECT_OK(syscall(SYS_msgsnd, id, &n, 4l, 0));
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_OK(syscall(SYS_msgctl, id, IPC_RMID, nullptr));
  EXPECT_ERRNO(EINVAL, syscall(SYS_msgsnd, id, &n, 4l, 0));
}

TEST(mq_open, PrioritiesAndLimits) {
  COVERS(mq_timedsend, mq_timedreceive, mq_unlink, mq_getsetattr, mq_notify);
  std::string name = "/ukt-" + std::to_string(getpid());
  mq_attr attr = {};
  attr.mq_maxmsg = 3;
  attr.mq_msgsize = 32;
  mqd_t q = mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attr);
  ASSERT_OK(q);
  EXPECT_ERRNO(EEXIST, mq_open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600, &attr));
  EXPECT_OK(mq_send(q, "low", 3, 1));
  EXPECT_OK(mq_send(q, "high", 4, 9));
  EXPECT_OK(mq_send(q, "low2", 4, 1));
  EXPECT_ERRNO(EAGAIN, mq_send(q, "full", 4, 1));
  EXPECT_OK(mq_getattr(q, &attr));
  EXPECT_EQ(attr.mq_curmsgs, 3);
  char text[32];
  unsigned priority;
  EXPECT_EQ(mq_receive(q, text, 32, &priority), 4);
  EXPECT_EQ(priority, 9u);
  EXPECT_ERRNO(EMSGSIZE, mq_receive(q, text, 8, &priority));
  EXPECT_EQ(mq_receive(q, text, 32, nullptr), 3);
  EXPECT_EQ(mq_receive(q, text, 32, nullptr), 4);
  EXPECT_ERRNO(EAGAIN, mq_receive(q, text, 32, nullptr));
  EXPECT_ERRNO(EMSGSIZE, mq_send(q, text, 33, 1));
  ScopedBlock block({SIGUSR1});
  sigevent ev = {};
  ev.sigev_notify = SIGEV_SIGNAL;
  ev.sigev_signo = SIGUSR1;
  EXPECT_OK(mq_notify(q, &ev));
  EXPECT_ERRNO(EBUSY, mq_notify(q, &ev));
  EXPECT_OK(mq_send(q, "n", 1, 0));
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  siginfo_t info;
  EXPECT_EQ(sigwaitinfo(&set, &info), SIGUSR1);
  EXPECT_EQ(info.si_code, SI_MESGQ);
  EXPECT_OK(mq_unlink(name.c_str()));
  EXPECT_ERRNO(ENOENT, mq_unlink(name.c_str()));
  mq_close(q);
}

TEST(semctl, WaitersAreCountedAndTold) {
  int id = semget(IPC_PRIVATE, 2, IPC_CREAT | 0600);
  ASSERT_OK(id);
  unsigned short values[2] = {1, 0};
  EXPECT_OK(syscall(SYS_semctl, id, 0, SETALL, values));
  pid_t zero = Spawn([&] {
    sembuf wait = {0, 0, 0};
    return semop(id, &wait, 1);
  });
  EXPECT_TRUE(WaitForState(zero, 'S'));
  EXPECT_EQ(semctl(id, 0, GETZCNT), 1);
  EXPECT_EQ(semctl(id, 0, GETNCNT), 0);
  sembuf take = {0, -1, 0};
  EXPECT_OK(semop(id, &take, 1));
  EXPECT_EQ(WaitFor(zero), Exited(0));
  EXPECT_EQ(semctl(id, 0, GETPID), zero) << "the last operation was the waiter's";
  EXPECT_ERRNO(ERANGE, semctl(id, 0, SETVAL, 32768));
  EXPECT_ERRNO(EINVAL, semctl(id, 2, GETVAL));
  sembuf much = {0, 32767, 0}, one = {0, 1, 0};
  EXPECT_OK(semop(id, &much, 1));
  EXPECT_ERRNO(ERANGE, semop(id, &one, 1));
  EXPECT_ERRNO(E2BIG, syscall(SYS_semop, id, &one, 100000l));
  EXPECT_OK(semctl(id, 0, IPC_RMID));
}

TEST(shmat, PlacesAndPieces) {
  int id = shmget(IPC_PRIVATE, 4 * kPage, IPC_CREAT | 0600);
  ASSERT_OK(id);
  Mapping room(16 * kPage);
  char* at = room.at(4 * kPage);
  EXPECT_ERRNO(EINVAL, syscall(SYS_shmat, id, at, 0)) << "something is there";
  EXPECT_ERRNO(EINVAL, syscall(SYS_shmat, id, at + 1, SHM_REMAP));
  ASSERT_EQ(syscall(SYS_shmat, id, at + 1, SHM_REMAP | SHM_RND), AsLong(at));
  at[0] = 'a';
  EXPECT_OK(munmap(at, kPage)) << "its first page alone";
  shmid_ds ds;
  EXPECT_OK(shmctl(id, IPC_STAT, &ds));
  EXPECT_EQ(ds.shm_nattch, 1u);
  EXPECT_OK(shmdt(at)) << "what is left of it";
  EXPECT_OK(shmctl(id, IPC_STAT, &ds));
  EXPECT_EQ(ds.shm_nattch, 0u);
  std::string table = ReadFile("/proc/sysvipc/shm");
  EXPECT_NE(table.find(" " + std::to_string(id) + " "), std::string::npos);
  EXPECT_OK(shmctl(id, IPC_RMID, nullptr));
}

TEST(msgsnd, AFullQueueBlocksUntilThereIsRoom) {
  int id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
  ASSERT_OK(id);
  struct {
    long type = 1;
    char text[4096] = {};
  } m;
  msqid_ds ds;
  ASSERT_OK(msgctl(id, IPC_STAT, &ds));
  unsigned long fits = ds.msg_qbytes / sizeof m.text;
  for (unsigned long i = 0; i < fits; i++) ASSERT_OK(msgsnd(id, &m, sizeof m.text, IPC_NOWAIT));
  EXPECT_ERRNO(EAGAIN, msgsnd(id, &m, sizeof m.text, IPC_NOWAIT));
  pid_t child = Spawn([&] { return msgsnd(id, &m, sizeof m.text, 0); });
  EXPECT_TRUE(WaitForState(child, 'S'));
  EXPECT_EQ(msgrcv(id, &m, sizeof m.text, 0, 0), static_cast<long>(sizeof m.text));
  EXPECT_EQ(WaitFor(child), Exited(0));
  EXPECT_OK(msgctl(id, IPC_STAT, &ds));
  EXPECT_EQ(ds.msg_qnum, fits);
  EXPECT_EQ(ds.msg_lspid, child);
  EXPECT_EQ(ds.msg_lrpid, getpid());
  EXPECT_OK(msgctl(id, IPC_RMID, nullptr));
}

}  // namespace
}  // namespace uk::test
