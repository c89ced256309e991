#include "ukernel/fs/pipefs/pipe.h"

#include <sys/ioctl.h>

#include <bit>

#include "ukernel/vfs/vfs.h"

namespace uk {

Pipe::~Pipe() {
  if (fifo != nullptr && fifo->pipe_or_socket == this) fifo->pipe_or_socket = nullptr;
}

Result<size_t> Pipe::set_capacity(uint64_t wanted) {
  if (wanted > (1u << 31)) return Err(Errno::kINVAL);
  size_t size = std::bit_ceil(std::max<uint64_t>(wanted, kPageSize));
  if (size / kPageSize < pieces_.size()) return Err(Errno::kBUSY);
  capacity_ = size;
  queue_.wake_one(POLLOUT | POLLWRNORM);
  return size;
}

bool Pipe::can_merge(size_t n) const {
  return !pieces_.empty() && pieces_.back().mergeable && pieces_.back().end() + n <= kPageSize;
}

void Pipe::push(std::span<const std::byte> data, size_t offset, bool mergeable, bool packet) {
  pieces_.push_back({{data.begin(), data.end()}, 0, offset, mergeable, packet});
  bytes_ += data.size();
}

Result<size_t> Pipe::read(Park& park, IoSink& to, bool nonblock, bool packets) {
  if (to.remaining() == 0) return 0;
  if (bytes_ == 0) {
    if (writers == 0) return 0;
    if (nonblock) return Err(Errno::kAGAIN);
    TRY(queue_.wait(
        park, [&] { return bytes_ > 0 || writers == 0; }, WaitMode::kInterruptible, kNever,
        "pipe_read"));
  }
  size_t done = 0;
  while (!pieces_.empty() && to.remaining() > 0) {
    // The sink may suspend, and another reader may then run: take the piece off first.
    Piece piece = std::move(pieces_.front());
    pieces_.pop_front();
    bytes_ -= piece.size();
    size_t want = std::min(piece.size(), to.remaining());
    Result<size_t> n = to.put(park, std::span(piece.data).subspan(piece.start, want));
    if (n) {
      done += *n;
      piece.start += *n;
    }
    bool whole = n && *n == want;
    if (piece.size() > 0 &&
        !(packets && piece.packet && whole)) {  // the rest of a packet is dropped
      bytes_ += piece.size();
      pieces_.push_front(std::move(piece));
    }
    if (!whole) {
      if (done == 0) return n ? Err(Errno::kFAULT) : n;
      break;
    }
    if (packets && piece.packet) break;
  }
  queue_.wake_one(POLLOUT | POLLWRNORM);
  return done;
}

Result<> Pipe::wait_slot(Park& park) {
  return queue_.wait(
      park, [&] { return !full() || readers == 0; }, WaitMode::kInterruptible, kNever,
      "pipe_write");
}

Result<size_t> Pipe::write(Park& park, IoSource& from, bool nonblock, bool packet) {
  const size_t total = from.remaining();
  if (total == 0) return 0;
  size_t done = 0;
  auto short_of = [&](Errno why) { return done > 0 ? Result<size_t>(done) : Err(why); };
  // What exceeds whole pages goes where the last write ended, if it fits there; then a page a
  // piece.
  const size_t odd = total % kPageSize;
  bool merges = odd != 0 && can_merge(odd);
  std::vector<std::byte> chunk;
  while (from.remaining() > 0) {
    if (readers == 0) return short_of(Errno::kPIPE);
    if (!merges && full()) {
      if (nonblock) return short_of(Errno::kAGAIN);
      if (auto waited = wait_slot(park); !waited) return short_of(waited.error());
      continue;
    }
    chunk.resize(merges ? odd : std::min<size_t>(from.remaining(), kPageSize));
    Result<size_t> n = from.get(park, chunk);
    if (!n) return short_of(n.error());
    if (*n < chunk.size()) return short_of(Errno::kFAULT);  // half a page is none
    // Others may have run meanwhile.
    if (merges && can_merge(*n)) {
      std::vector<std::byte>& last = pieces_.back().data;
      last.insert(last.end(), chunk.begin(), chunk.end());
      bytes_ += *n;
    } else {
      while (full()) {
        if (nonblock) return short_of(Errno::kAGAIN);
        if (auto waited = wait_slot(park); !waited) return short_of(waited.error());
        if (readers == 0) return short_of(Errno::kPIPE);
      }
      push(chunk, 0, !packet, packet);
    }
    merges = false;
    done += *n;
    queue_.wake_one(POLLIN | POLLRDNORM);
  }
  return done;
}

size_t Pipe::put_pages(std::span<const std::byte> data, size_t offset) {
  size_t done = 0;
  while (done < data.size() && !full()) {
    const size_t n = std::min(data.size() - done, kPageSize - offset);
    push(data.subspan(done, n), offset, false, false);
    done += n;
    offset = 0;
  }
  if (done > 0) queue_.wake_one(POLLIN | POLLRDNORM);
  return done;
}

size_t Pipe::take_from(Pipe& in, size_t n, bool keep) {
  size_t done = 0;
  for (size_t i = 0; done < n && !full() && i < in.pieces_.size();) {
    Piece& p = in.pieces_[i];
    const size_t take = std::min(p.size(), n - done);
    push(std::span<const std::byte>(p.data).subspan(p.start, take), p.offset + p.start, false,
         p.packet);
    done += take;
    if (keep) {
      ++i;
    } else {
      in.consume(take);
    }
  }
  if (done > 0) queue_.wake_one(POLLIN | POLLRDNORM);
  return done;
}

std::vector<std::byte> Pipe::peek(size_t n) const {
  std::vector<std::byte> out;
  for (const Piece& p : pieces_) {
    if (out.size() == n) break;
    size_t take = std::min(p.size(), n - out.size());
    auto from = p.data.begin() + static_cast<ptrdiff_t>(p.start);
    out.insert(out.end(), from, from + static_cast<ptrdiff_t>(take));
  }
  return out;
}

void Pipe::consume(size_t n) {
  while (n > 0 && !pieces_.empty()) {
    Piece& p = pieces_.front();
    size_t take = std::min(n, p.size());
    p.start += take;
    bytes_ -= take;
    n -= take;
    if (p.size() == 0) pieces_.pop_front();
  }
  queue_.wake_one(POLLOUT | POLLWRNORM);
}

uint32_t Pipe::ready(bool reader, bool writer) const {
  uint32_t r = 0;
  if (reader) {
    if (bytes_ > 0) r |= POLLIN | POLLRDNORM;
    if (writers == 0 && writer_opens > 0) r |= POLLHUP;
  }
  if (writer) {
    if (!full()) r |= POLLOUT | POLLWRNORM;
    if (readers == 0) r |= POLLERR;
  }
  return r;
}

PipeFile::PipeFile(Path path, int flags, Ref<Pipe> pipe)
    : File(std::move(path), flags), pipe_(std::move(pipe)) {
  if (can_read()) ++pipe_->readers, ++pipe_->reader_opens;
  if (can_write()) ++pipe_->writers, ++pipe_->writer_opens;
  pipe_->queue().wake_all();
}

PipeFile::~PipeFile() {
  if (can_read()) --pipe_->readers;
  if (can_write()) --pipe_->writers;
  pipe_->queue().wake_all();
}

Result<size_t> PipeFile::read(Park& park, IoSink& to, uint64_t) {
  if (!can_read()) return Err(Errno::kINVAL);
  Ref<Pipe> pipe = pipe_;
  return pipe->read(park, to, nonblock());
}

Result<size_t> PipeFile::write(Park& park, IoSource& from, uint64_t&) {
  if (!can_write()) return Err(Errno::kINVAL);
  Ref<Pipe> pipe = pipe_;
  return pipe->write(park, from, nonblock(), (flags & O_DIRECT) != 0);
}

Result<int64_t> PipeFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  if (cmd != FIONREAD) return Err(Errno::kNOTTY);
  int n = static_cast<int>(pipe_->bytes());
  TRY(user.copy_out(park, arg, std::as_bytes(std::span(&n, 1))));
  return 0;
}

Pipe* pipe_of(File& file) {
  auto* p = dynamic_cast<PipeFile*>(&file);
  return p != nullptr ? &p->pipe() : nullptr;
}

namespace {

class PipeSuperBlock final : public SuperBlock {
 public:
  std::string_view fs_type() const override { return "pipefs"; }
  Result<FsStat> statfs(Park&) override {
    FsStat s;
    s.type = 0x50495045;  // PIPEFS_MAGIC
    return s;
  }
  uint64_t next_ino = 1;
};

class PipeInode final : public Inode {
 public:
  PipeInode(Ref<SuperBlock> sb, uint64_t ino, const Cred& cred, FileTime now)
      : Inode(std::move(sb)) {
    attr_.ino = ino;
    attr_.mode = S_IFIFO | 0600;
    attr_.uid = cred.fsuid;
    attr_.gid = cred.fsgid;
    attr_.atime = attr_.mtime = attr_.ctime = now;
  }
  ~PipeInode() override {
    if (pipe_or_socket != nullptr) static_cast<Pipe*>(pipe_or_socket)->fifo = nullptr;
  }
  uint32_t type() const override { return S_IFIFO; }
  Result<FileAttr> getattr(Park&) override {
    attr_.dev = sb().dev;
    return attr_;
  }
  Result<> setattr(Park&, const AttrChange& c) override {
    if (c.mode) attr_.mode = S_IFIFO | *c.mode;
    if (c.uid) attr_.uid = *c.uid;
    if (c.gid) attr_.gid = *c.gid;
    if (c.atime) attr_.atime = *c.atime;
    if (c.mtime) attr_.mtime = *c.mtime;
    if (c.ctime) attr_.ctime = *c.ctime;
    return {};
  }
  // Through /proc/PID/fd/N.
  Result<Ref<File>> open(Park& park, const Path& path, int flags, const Cred&) override {
    return open_fifo(park, path, flags, false);
  }

 private:
  FileAttr attr_;
};

}  // namespace

Ref<SuperBlock> make_pipefs() { return make_ref<PipeSuperBlock>(); }

Result<PipeEnds> make_pipe(Park&, SuperBlock& pipefs, int flags, const Cred& cred, FileTime now) {
  auto& sb = static_cast<PipeSuperBlock&>(pipefs);
  uint64_t ino = sb.next_ino++;
  Ref<Inode> inode = make_ref<PipeInode>(Ref<SuperBlock>(&sb), ino, cred, now);
  auto pipe = make_ref<Pipe>();
  pipe->fifo = inode.get();
  inode->pipe_or_socket = pipe.get();
  Path path(nullptr, make_ref<Dentry>(nullptr, "pipe:[" + std::to_string(ino) + "]", inode));
  PipeEnds ends;
  ends.read_end = make_ref<PipeFile>(path, O_RDONLY | (flags & O_NONBLOCK), pipe);
  // Packets are made where they are written.
  ends.write_end = make_ref<PipeFile>(path, O_WRONLY | (flags & (O_NONBLOCK | O_DIRECT)), pipe);
  return ends;
}

Result<Ref<File>> open_fifo(Park& park, const Path& path, int flags, bool named) {
  Inode* inode = path.inode();
  CHECK(inode != nullptr);
  Ref<Pipe> pipe(static_cast<Pipe*>(inode->pipe_or_socket));
  if (!pipe) {
    pipe = make_ref<Pipe>();
    pipe->fifo = inode;
    inode->pipe_or_socket = pipe.get();
  }
  const int access = flags & O_ACCMODE;
  if (named && access == O_WRONLY && (flags & O_NONBLOCK) != 0 && pipe->readers == 0)
    return Err(Errno::kNXIO);
  const uint32_t peers = access == O_RDONLY ? pipe->writer_opens : pipe->reader_opens;
  Ref<File> file = make_ref<PipeFile>(path, flags, pipe);
  if (!named || access == O_RDWR || (flags & O_NONBLOCK) != 0) return file;
  TRY(pipe->queue().wait(
      park,
      [&] {
        return access == O_RDONLY ? pipe->writers > 0 || pipe->writer_opens != peers
                                  : pipe->readers > 0 || pipe->reader_opens != peers;
      },
      WaitMode::kInterruptible, kNever, "wait_for_partner"));
  return file;
}

}  // namespace uk
