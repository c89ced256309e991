#include "ukernel/dev/cow/cow_disk.h"

#include <fcntl.h>
#include <linux/falloc.h>

#include <algorithm>
#include <list>
#include <new>

#include "hostio/sys/file.h"
#include "ukernel/dev/block/host_transfer.h"
#include "ukernel/sched/host_io.h"
#include "ukernel/sched/reactor.h"
#include "ukernel/sched/wait_queue.h"

namespace uk {
namespace {

using cow::CowFile;

struct FreeAligned {
  void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{4096}); }
};
// Memory that the host's O_DIRECT takes.
using Aligned = std::unique_ptr<std::byte[], FreeAligned>;
Aligned aligned(size_t n) {
  return Aligned(static_cast<std::byte*>(::operator new[](n, std::align_val_t{4096})));
}

// Clusters [first, last].
struct Range {
  uint64_t first = 0, last = 0;
  bool meets(const Range& r) const { return first <= r.last && r.first <= last; }
  uint64_t count() const { return last - first + 1; }
};

// The segments of a request from `skip` bytes on, `length` bytes of them.
std::vector<struct iovec> part_of(std::span<const struct iovec> segments, uint64_t skip,
                                  uint64_t length) {
  std::vector<struct iovec> out;
  for (const struct iovec& v : segments) {
    if (skip >= v.iov_len) {
      skip -= v.iov_len;
      continue;
    }
    const size_t n = std::min<uint64_t>(v.iov_len - skip, length);
    if (n == 0) break;
    out.push_back({static_cast<std::byte*>(v.iov_base) + skip, n});
    skip = 0;
    length -= n;
  }
  return out;
}

class CowDisk final : public BlockBackend {
 public:
  CowDisk(Reactor& reactor, std::unique_ptr<CowFile> file, sys::Fd backing, uint64_t backing_bytes,
          const HostDiskOptions& options)
      : reactor_(reactor),
        file_(std::move(file)),
        backing_(std::move(backing)),
        backing_bytes_(backing_bytes),
        sync_(options.sync),
        direct_(options.direct) {}
  // What was not flushed is not lost for that: only the map of it is in memory alone.
  ~CowDisk() override {
    if (!file_->map.dirty()) return;
    if (direct_) (void)sys::fcntl(file_->fd.get(), F_SETFL, O_NONBLOCK);  // any memory will do
    (void)cow::save_map(*file_);
  }

  void start(Park& park, BlockRequest& request) override {
    switch (request.op) {
      case BlockOp::kRead:
        return read(request);
      case BlockOp::kWrite:
        return write(park, request);
      case BlockOp::kFlush:
        return request.end(flush(park));
      case BlockOp::kDiscard:
        return request.end(discard(park, request.offset, request.length));
      case BlockOp::kWriteZeroes:
        return request.end(zero(park, request));
    }
  }
  Result<uint64_t> size() override { return file_->header.disk_bytes; }
  bool can_discard() const override { return true; }
  std::string where() const override { return file_->path; }

 private:
  // A request's transfers; ends it with the last of them.
  struct Job {
    BlockRequest* request = nullptr;
    size_t left = 1;  // ours, until all are started
    Errno error = Errno::kOk;
    std::list<HostTransfer> transfers;
    std::list<Job>::iterator self;
  };

  uint64_t cluster() const { return file_->header.cluster; }
  uint64_t data_at(uint64_t offset) const { return file_->header.data_offset + offset; }
  Range clusters_of(uint64_t offset, uint64_t length) const {
    return {offset / cluster(), (offset + length - 1) / cluster()};
  }

  void read(BlockRequest& request) {
    Job& job = jobs_.emplace_back();
    job.self = std::prev(jobs_.end());
    job.request = &request;
    for (uint64_t done = 0; done < request.length;) {
      const uint64_t at = request.offset + done, first = at / cluster();
      const uint64_t run = file_->map.run(first, (request.length - done) / cluster() + 2);
      const uint64_t n = std::min(request.length - done, (first + run) * cluster() - at);
      HostTransfer::Args args;
      args.segments = part_of(request.segments, done, n);
      const bool here = file_->map.present(first);
      if (here || at < backing_bytes_) {
        args.fd = here ? file_->fd.get() : backing_.get();
        args.offset = here ? data_at(at) : at;
        args.zero_past_end = !here;
        go(job, std::move(args));
      } else {
        for (const struct iovec& v : args.segments) std::memset(v.iov_base, 0, v.iov_len);
      }
      done += n;
    }
    drop(job);
  }

  void go(Job& job, HostTransfer::Args args) {
    ++job.left;
    args.direct = direct_;
    args.done = [this, &job](Errno error) {
      if (error != Errno::kOk && job.error == Errno::kOk) job.error = error;
      drop(job);
    };
    job.transfers.emplace_back(reactor_.ring(), std::move(args)).start();
  }
  void drop(Job& job) {
    if (--job.left != 0) return;
    BlockRequest* request = job.request;
    const Errno error = job.error;
    jobs_.erase(job.self);
    request->end(error);
  }

  void write(Park& park, BlockRequest& request) {
    const Range range = clusters_of(request.offset, request.length);
    const bool durable = request.fua || sync_;
    if (!file_->map.all_present(range.first, range.count())) wait_for(park, range);
    if (file_->map.all_present(range.first, range.count())) {
      if (durable && file_->map.dirty(range.first, range.count())) {
        const Errno e = transfer(park, request.segments, request.offset);
        return request.end(e == Errno::kOk ? flush(park) : e);
      }
      Job& job = jobs_.emplace_back();
      job.self = std::prev(jobs_.end());
      job.request = &request;
      HostTransfer::Args args;
      args.fd = file_->fd.get();
      args.write = true;
      args.rwf = durable ? RWF_DSYNC : 0;
      args.offset = data_at(request.offset);
      args.segments = request.segments;
      go(job, std::move(args));
      return drop(job);
    }
    busy_.push_back(range);
    const auto mine = std::prev(busy_.end());
    const Errno error = first_write(park, request, range);
    busy_.erase(mine);
    idle_.wake_all();
    request.end(error == Errno::kOk && durable ? flush(park) : error);
  }

  // Until nobody writes to clusters of the range for the first time.
  void wait_for(Park& park, const Range& range) {
    (void)idle_.wait(
        park, [&] { return std::ranges::none_of(busy_, [&](auto& b) { return b.meets(range); }); },
        WaitMode::kUninterruptible, kNever, "cow");
  }

  // Writes the request and, of clusters at its ends that are not here yet, the rest.
  Errno first_write(Park& park, const BlockRequest& request, const Range& range) {
    const uint64_t end = request.offset + request.length;
    uint64_t from = request.offset, to = end;
    if (!file_->map.present(range.first)) from = range.first * cluster();
    if (!file_->map.present(range.last))
      to = std::min((range.last + 1) * cluster(), file_->header.disk_bytes);
    Aligned front, back;
    std::vector<struct iovec> all;
    Errno e = Errno::kOk;
    if (from < request.offset) e = fill(park, from, request.offset, front, all);
    all.insert(all.end(), request.segments.begin(), request.segments.end());
    if (e == Errno::kOk && end < to) e = fill(park, end, to, back, all);
    if (e == Errno::kOk) e = transfer(park, std::move(all), from);
    if (e == Errno::kOk) file_->map.set(range.first, range.count());
    return e;
  }

  // Reads [from, to) of the backing file into new memory.
  Errno fill(Park& park, uint64_t from, uint64_t to, Aligned& memory,
             std::vector<struct iovec>& segments) {
    memory = aligned(to - from);
    std::span<std::byte> rest(memory.get(), to - from);
    segments.push_back({rest.data(), rest.size()});
    for (uint64_t at = from; !rest.empty();) {
      Result<size_t> n = host_read(park, backing_.get(), rest, static_cast<int64_t>(at));
      if (!n) return n.error();
      if (*n == 0) {
        std::ranges::fill(rest, std::byte{0});
        break;
      }
      rest = rest.subspan(*n);
      at += *n;
    }
    return Errno::kOk;
  }

  // Writes to the place of `offset` in the file, and waits for it.
  Errno transfer(Park& park, std::vector<struct iovec> segments, uint64_t offset) {
    bool ended = false;
    Errno result = Errno::kOk;
    HostTransfer::Args args;
    args.fd = file_->fd.get();
    args.write = true;
    args.offset = data_at(offset);
    args.segments = std::move(segments);
    args.direct = direct_;
    args.done = [&](Errno e) {
      result = e;
      ended = true;
      park.fiber().wake();
    };
    HostTransfer one(reactor_.ring(), std::move(args));
    one.start();
    while (!ended) park.suspend();
    return result;
  }

  // The map as it was before the data became stable is written after it has.
  Errno flush(Park& park) {
    MutexLock lock(park, flushing_);
    const std::vector<cow::Write> writes = file_->map.take_dirty();
    Result<> r = host_fsync(park, file_->fd.get(), /*data_only=*/true);
    for (size_t i = 0; r && i < writes.size(); ++i) r = write_map(park, writes[i]);
    if (r && !writes.empty()) r = host_fsync(park, file_->fd.get(), /*data_only=*/true);
    file_->map.written(writes, r.has_value());
    return r ? Errno::kOk : r.error();
  }
  Result<> write_map(Park& park, const cow::Write& w) {
    Aligned copy = aligned(w.bytes.size());
    std::memcpy(copy.get(), w.bytes.data(), w.bytes.size());
    std::span<const std::byte> rest(copy.get(), w.bytes.size());
    for (uint64_t at = w.offset; !rest.empty();) {
      const size_t n = TRY(host_write(park, file_->fd.get(), rest, static_cast<int64_t>(at)));
      if (n == 0) return Err(Errno::kIO);
      rest = rest.subspan(n);
      at += n;
    }
    return {};
  }

  // Of what is here; the backing file's contents stay visible where nothing was written.
  Errno discard(Park& park, uint64_t offset, uint64_t length) {
    for (uint64_t at = offset; at < offset + length;) {
      const uint64_t first = at / cluster();
      const uint64_t run = file_->map.run(first, (offset + length - at) / cluster() + 2);
      const uint64_t end = std::min(offset + length, (first + run) * cluster());
      if (file_->map.present(first)) {
        if (Errno e = punch(park, at, end - at); e != Errno::kOk) return e;
      }
      at = end;
    }
    return Errno::kOk;
  }

  Errno zero(Park& park, const BlockRequest& request) {
    const Range range = clusters_of(request.offset, request.length);
    wait_for(park, range);
    busy_.push_back(range);
    const auto mine = std::prev(busy_.end());
    Errno e = zero_range(park, request.offset, request.length, range);
    busy_.erase(mine);
    idle_.wake_all();
    if (e == Errno::kOk && sync_) e = flush(park);
    return e;
  }

  Errno zero_range(Park& park, uint64_t offset, uint64_t length, const Range& range) {
    const uint64_t end = offset + length;
    // The rest of clusters at the ends comes along.
    for (uint64_t c : {range.first, range.last}) {
      const uint64_t from = c * cluster(),
                     to = std::min(from + cluster(), file_->header.disk_bytes);
      if (file_->map.present(c) || (offset <= from && end >= to)) continue;
      Aligned memory;
      std::vector<struct iovec> segments;
      if (Errno e = fill(park, from, to, memory, segments); e != Errno::kOk) return e;
      if (Errno e = transfer(park, std::move(segments), from); e != Errno::kOk) return e;
      file_->map.set(c, 1);
    }
    if (Errno e = punch(park, offset, length); e != Errno::kOk) return e;
    file_->map.set(range.first, range.count());
    return Errno::kOk;
  }

  Errno punch(Park& park, uint64_t offset, uint64_t length) {
    Result<> r;
    reactor_.offload(park, [&] {
      r = sys::fallocate(file_->fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                         data_at(offset), length);
    });
    return r ? Errno::kOk : r.error();
  }

  Reactor& reactor_;
  const std::unique_ptr<CowFile> file_;
  const sys::Fd backing_;
  const uint64_t backing_bytes_;
  const bool sync_, direct_;
  std::list<Job> jobs_;
  std::list<Range> busy_;  // being written for the first time
  WaitQueue idle_;
  Mutex flushing_;
};

}  // namespace

Result<std::unique_ptr<BlockBackend>> open_cow_disk(Reactor& reactor, const std::string& backing,
                                                    const std::string& cow,
                                                    const HostDiskOptions& options,
                                                    std::string& why) {
  if (!options.read_only && !sys::faccessat(AT_FDCWD, cow.c_str(), 0))
    TRY(cow::create_cow(cow, cow::Kind::kOwn, backing, 0, why));
  const int direct = options.direct ? O_DIRECT : 0;
  // Header and map are read without O_DIRECT, which has its own ideas of alignment.
  std::unique_ptr<CowFile> file =
      TRY(cow::open_cow(cow, options.read_only ? O_RDONLY : O_RDWR, why));
  if (file->header.committing) {
    why = cow +
          ": a commit into its backing file was interrupted; finish it with ukernel image commit";
    return Err(Errno::kBUSY);
  }
  sys::Fd base =
      TRY(cow::open_backing(file->header, backing, O_RDONLY | direct, /*changed_too=*/false, why));
  if (options.direct) {
    if (Result<int> r = sys::fcntl(file->fd.get(), F_SETFL, O_DIRECT | O_NONBLOCK); !r) {
      why = cow + ": the host cannot use it past its cache; leave ,direct out";
      return Err(r.error());
    }
  }
  const uint64_t bytes = file->header.backing_bytes;
  return std::unique_ptr<BlockBackend>(
      std::make_unique<CowDisk>(reactor, std::move(file), std::move(base), bytes, options));
}

}  // namespace uk
