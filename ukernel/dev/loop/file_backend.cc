#include "ukernel/dev/loop/file_backend.h"

#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>

#include "ukernel/sched/reactor.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {

struct FileBackend::State {
  explicit State(Reactor& reactor) : reactor(reactor) {}
  Reactor& reactor;
  Ref<File> file;
  uint64_t offset = 0, limit = 0, size = 0;
  std::deque<BlockRequest*> queue;
  bool working = false;
  WaitQueue idle;

  Errno serve(Park& park, BlockRequest& request) {
    if (file == nullptr) return Errno::kIO;
    Ref<File> with = file;
    const uint64_t at = offset + request.offset;
    switch (request.op) {
      case BlockOp::kRead:
        return read(park, *with, at, request);
      case BlockOp::kWrite:
        return write(park, *with, at, request);
      case BlockOp::kFlush:
        return errno_of(with->fsync(park, true));
      case BlockOp::kDiscard:
        return errno_of(
            with->fallocate(park, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, request.length));
      case BlockOp::kWriteZeroes:
        return zero(park, *with, at, request.length);
    }
    return Errno::kIO;
  }

  static Errno errno_of(const Result<>& r) { return r ? Errno::kOk : r.error(); }

  static Errno read(Park& park, File& from, uint64_t at, BlockRequest& request) {
    for (const struct iovec& v : request.segments) {
      std::span<std::byte> rest(static_cast<std::byte*>(v.iov_base), v.iov_len);
      while (!rest.empty()) {
        BufferSink sink(rest);
        Result<size_t> n = from.read(park, sink, at);
        if (!n) return n.error();
        if (*n == 0) {
          std::ranges::fill(rest, std::byte{0});
          at += rest.size();
          break;
        }
        rest = rest.subspan(*n);
        at += *n;
      }
    }
    return Errno::kOk;
  }

  Errno write(Park& park, File& to, uint64_t at, BlockRequest& request) {
    for (const struct iovec& v : request.segments) {
      std::span<const std::byte> rest(static_cast<std::byte*>(v.iov_base), v.iov_len);
      while (!rest.empty()) {
        BufferSource source(rest);
        uint64_t where = at;
        Result<size_t> n = to.write(park, source, where);
        if (!n) return n.error();
        if (*n == 0) return Errno::kIO;
        rest = rest.subspan(*n);
        at += *n;
      }
    }
    return request.fua ? errno_of(to.fsync(park, true)) : Errno::kOk;
  }

  // By a hole or a zeroed range if the file can have one, else by writing.
  Errno zero(Park& park, File& file, uint64_t at, uint64_t length) {
    for (int mode : {FALLOC_FL_ZERO_RANGE, FALLOC_FL_PUNCH_HOLE}) {
      Result<> r = file.fallocate(park, mode | FALLOC_FL_KEEP_SIZE, at, length);
      if (r) return Errno::kOk;
      if (r.error() != Errno::kOPNOTSUPP && r.error() != Errno::kNODEV) return r.error();
    }
    const std::vector<std::byte> zeroes(std::min<uint64_t>(length, 64 << 10));
    while (length > 0) {
      const std::span<const std::byte> all(zeroes);
      BufferSource source(all.first(std::min<uint64_t>(length, all.size())));
      uint64_t where = at;
      Result<size_t> n = file.write(park, source, where);
      if (!n) return n.error();
      if (*n == 0) return Errno::kIO;
      at += *n;
      length -= *n;
    }
    return Errno::kOk;
  }
};

FileBackend::FileBackend(Reactor& reactor) : state_(std::make_shared<State>(reactor)) {}
FileBackend::~FileBackend() = default;

void FileBackend::bind(Ref<File> file, uint64_t offset, uint64_t limit) {
  state_->file = std::move(file);
  state_->offset = offset;
  state_->limit = limit;
}

void FileBackend::unbind(Park& park) {
  auto state = state_;
  (void)state->idle.wait(
      park, [&] { return !state->working; }, WaitMode::kUninterruptible, kNever, "loop");
  Ref<File> file = std::exchange(state->file, nullptr);
  state->size = state->offset = state->limit = 0;
  if (file != nullptr && file->ref_count() == 1) file->release(park);
}

void FileBackend::abandon() { state_->file = nullptr; }

File* FileBackend::file() const { return state_->file.get(); }
uint64_t FileBackend::offset() const { return state_->offset; }
uint64_t FileBackend::limit() const { return state_->limit; }

Result<> FileBackend::measure(Park& park) {
  Ref<File> file = state_->file;
  if (file == nullptr) return Err(Errno::kNXIO);
  const uint64_t end = TRY(file->seek(park, 0, SEEK_END));
  uint64_t size = end > state_->offset ? end - state_->offset : 0;
  if (state_->limit != 0) size = std::min(size, state_->limit);
  state_->size = size / kSectorSize * kSectorSize;
  return {};
}

Result<uint64_t> FileBackend::size() { return state_->size; }

void FileBackend::start(Park&, BlockRequest& request) {
  state_->queue.push_back(&request);
  if (std::exchange(state_->working, true)) return;
  state_->reactor.spawn("loop", [state = state_](Park& park) {
    while (!state->queue.empty()) {
      BlockRequest* next = state->queue.front();
      state->queue.pop_front();
      next->end(state->serve(park, *next));
    }
    state->working = false;
    state->idle.wake_all();
  });
}

}  // namespace uk
