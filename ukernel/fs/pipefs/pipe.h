// Pipes and FIFOs (pipe(7), fifo(7)): a bounded buffer of pieces with readers and writers. A Pipe
// is the buffer, a PipeFile an open end of it. Writes of up to PIPE_BUF bytes are atomic; O_DIRECT
// writes are packets. A piece is what a page is in Linux: it holds at most one, the capacity counts
// them however little is in them, and what is written next is added to the last if it fits.
//
// Ownership: PipeFiles hold a Ref to the Pipe; a FIFO's inode points at it (pipe_or_socket) without
// owning it. read() and write() suspend (interruptible). SIGPIPE is raised by the system call layer
// on kPIPE.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "ukernel/sched/wait_queue.h"
#include "ukernel/vfs/file.h"

namespace uk {

constexpr size_t kPipeBuf = 4096;              // atomic up to here
constexpr size_t kPipeDefaultBytes = 65536;    // pipe(7)
constexpr size_t kPipeMaxBytes = 1024 * 1024;  // /proc/sys/fs/pipe-max-size

class Pipe final : public RefCounted {
 public:
  ~Pipe() override;
  // Bytes that can be read; 0 with no writers is end of file.
  size_t bytes() const { return bytes_; }
  size_t capacity() const { return capacity_; }
  // F_SETPIPE_SZ: rounded up to a power of two pages; kBUSY if the contents do not fit. Returns the
  // new size.
  Result<size_t> set_capacity(uint64_t wanted);

  // `packets`: a read ends with a packet, and what is left of that is lost (pipe(2) O_DIRECT).
  Result<size_t> read(Park& park, IoSink& to, bool nonblock, bool packets = true);
  Result<size_t> write(Park& park, IoSource& from, bool nonblock, bool packet);
  // For splice(2) and tee(2): up to n bytes without or with consuming them; does not wait.
  std::vector<std::byte> peek(size_t n) const;
  void consume(size_t n);
  // No write(2) has room but one that fits behind the last.
  bool full() const { return pieces_.size() >= capacity_ / kPageSize; }
  size_t free_pieces() const { return full() ? 0 : capacity_ / kPageSize - pieces_.size(); }
  // For splice(2) and vmsplice(2): adds bytes that begin at `offset` of a page, as pieces of their
  // own, until it is full; how many. Does not wait.
  size_t put_pages(std::span<const std::byte> data, size_t offset);
  // For splice(2) and tee(2): moves, or with `keep` copies, up to n bytes of another pipe, piece by
  // piece until this one is full; how many. Does not wait.
  size_t take_from(Pipe& in, size_t n, bool keep);

  uint32_t ready(bool reader, bool writer) const;
  WaitQueue& queue() { return queue_; }

  int readers = 0;
  int writers = 0;
  uint32_t reader_opens =
      0;  // counts opens, so that fifo(7)'s open can tell that a peer came (and may have gone)
  uint32_t writer_opens = 0;
  Inode* fifo = nullptr;  // the inode that points at this pipe; not owned (its PipeFiles hold it)

 private:
  struct Piece {
    std::vector<std::byte> data;
    size_t start = 0;   // what has been read of data
    size_t offset = 0;  // of data in its page
    bool mergeable = false;
    bool packet = false;
    size_t size() const { return data.size() - start; }
    size_t end() const { return offset + data.size(); }
  };
  bool can_merge(size_t n) const;
  void push(std::span<const std::byte> data, size_t offset, bool mergeable, bool packet);
  Result<> wait_slot(Park& park);

  std::deque<Piece> pieces_;
  size_t bytes_ = 0;
  size_t capacity_ = kPipeDefaultBytes;
  WaitQueue queue_;
};

class PipeFile final : public File {
 public:
  PipeFile(Path path, int flags, Ref<Pipe> pipe);
  ~PipeFile() override;

  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override;
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override;
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override;
  uint32_t ready() override { return pipe_->ready(can_read(), can_write()); }
  WaitQueue* poll_queue() override { return &pipe_->queue(); }
  Pipe& pipe() const { return *pipe_; }

 private:
  Ref<Pipe> pipe_;
};

// The pipe of a file, or null if it is none.
Pipe* pipe_of(File& file);

struct PipeEnds {
  Ref<File> read_end, write_end;
};
// pipe2(2): flags O_NONBLOCK, O_DIRECT (others are the descriptor table's).
Result<PipeEnds> make_pipe(Park& park, SuperBlock& pipefs, int flags, const Cred& cred,
                           FileTime now);
// The filesystem that unnamed pipes belong to; one per kernel.
Ref<SuperBlock> make_pipefs();
// open(2) of a FIFO: waits for the other end as fifo(7) says. kNXIO, kRestartSys. An unnamed pipe
// (opened through /proc/PID/fd) is not waited for: `named` is false.
Result<Ref<File>> open_fifo(Park& park, const Path& path, int flags, bool named = true);

}  // namespace uk
