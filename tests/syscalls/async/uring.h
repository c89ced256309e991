// A ring of io_uring(7) by raw calls, for tests.
#pragma once

#include <linux/io_uring.h>

#include "tests/syscalls/testing.h"

namespace uk::test {

inline long UringSetup(unsigned entries, io_uring_params* p) {
  return syscall(SYS_io_uring_setup, entries, p);
}
inline long UringEnter(int fd, unsigned submit, unsigned wait, unsigned flags,
                       const void* arg = nullptr, size_t size = 0) {
  return syscall(SYS_io_uring_enter, fd, submit, wait, flags, arg, size);
}
inline long UringRegister(int fd, unsigned op, const void* arg, unsigned n) {
  return syscall(SYS_io_uring_register, fd, op, arg, n);
}

struct Done {
  uint64_t data = 0;
  int res = 0;
  unsigned flags = 0;
};

class Uring {
 public:
  explicit Uring(unsigned entries = 32, unsigned flags = 0, unsigned cq_entries = 0) {
    params.flags = flags;
    params.cq_entries = cq_entries;
    fd = Fd(UringSetup(entries, &params));
    if (fd.get() < 0) return;
    ring_bytes_ = params.sq_off.array + params.sq_entries * sizeof(unsigned);
    const size_t cq = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
    if (cq > ring_bytes_) ring_bytes_ = cq;
    rings_ = static_cast<char*>(mmap(nullptr, ring_bytes_, PROT_READ | PROT_WRITE,
                                     MAP_SHARED | MAP_POPULATE, fd, IORING_OFF_SQ_RING));
    sqes = static_cast<io_uring_sqe*>(mmap(nullptr, params.sq_entries * sizeof(io_uring_sqe),
                                           PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
                                           IORING_OFF_SQES));
    if (rings_ == MAP_FAILED || sqes == MAP_FAILED) {
      perror("mmap of a ring");
      abort();
    }
  }
  ~Uring() {
    if (rings_ == nullptr) return;
    munmap(rings_, ring_bytes_);
    munmap(sqes, params.sq_entries * sizeof(io_uring_sqe));
  }
  unsigned* Word(unsigned at) const { return reinterpret_cast<unsigned*>(rings_ + at); }
  unsigned SqFlags() const { return __atomic_load_n(Word(params.sq_off.flags), __ATOMIC_ACQUIRE); }

  // The next free entry, cleared.
  io_uring_sqe* Get(int op = IORING_OP_NOP, int on = -1, uint64_t data = 0) {
    const unsigned i = tail_ & (params.sq_entries - 1);
    ++tail_;
    ++pending_;
    if (params.sq_off.array != 0) Word(params.sq_off.array)[i] = i;
    io_uring_sqe* s = &sqes[i];
    memset(s, 0, sizeof *s);
    s->opcode = static_cast<uint8_t>(op);
    s->fd = on;
    s->user_data = data;
    return s;
  }
  io_uring_sqe* Rw(int op, int on, const void* buf, unsigned len, uint64_t offset,
                   uint64_t data = 0) {
    io_uring_sqe* s = Get(op, on, data);
    s->addr = reinterpret_cast<uint64_t>(buf);
    s->len = len;
    s->off = offset;
    return s;
  }
  // Submits what was got; waits for so many completions.
  long Submit(unsigned wait = 0) {
    __atomic_store_n(Word(params.sq_off.tail), tail_, __ATOMIC_RELEASE);
    const unsigned n = pending_;
    pending_ = 0;
    return UringEnter(fd, n, wait, wait != 0 ? IORING_ENTER_GETEVENTS : 0);
  }
  unsigned Ready() const {
    return __atomic_load_n(Word(params.cq_off.tail), __ATOMIC_ACQUIRE) - *Word(params.cq_off.head);
  }
  // Takes a completion, waiting for it.
  Done Take() {
    while (Ready() == 0) {
      if (UringEnter(fd, 0, 1, IORING_ENTER_GETEVENTS) < 0 && errno != EINTR) return {0, -9999, 0};
    }
    const unsigned head = *Word(params.cq_off.head);
    auto* all = reinterpret_cast<io_uring_cqe*>(rings_ + params.cq_off.cqes);
    const io_uring_cqe& c = all[head & (params.cq_entries - 1)];
    Done d{c.user_data, c.res, c.flags};
    __atomic_store_n(Word(params.cq_off.head), head + 1, __ATOMIC_RELEASE);
    return d;
  }
  // One request from submission to its result.
  int Do() {
    if (Submit(1) != 1) return -9998;
    return Take().res;
  }

  io_uring_params params = {};
  Fd fd;
  io_uring_sqe* sqes = nullptr;

 private:
  char* rings_ = nullptr;
  size_t ring_bytes_ = 0;
  unsigned tail_ = 0, pending_ = 0;
};

inline __kernel_timespec Millis(int64_t ms) { return {ms / 1000, ms % 1000 * 1'000'000}; }

}  // namespace uk::test
