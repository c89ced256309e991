#include "hostio/fake_ring.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include <algorithm>

namespace uk::hostio {

// SplitMix64 (Steele, Lea, Flood 2014): any seed will do, and the sequence is the same everywhere.
uint64_t FakeRing::random() {
  uint64_t z = (random_ += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

FakeRing::File* FakeRing::file(int fd) {
  auto it = files_.find(fd);
  return it == files_.end() ? nullptr : &it->second;
}

int FakeRing::add_file(std::string content, std::string name) {
  if (!name.empty()) named_[name] = content;
  files_[next_fd_].data = std::move(content);
  return next_fd_++;
}

int FakeRing::add_stream() {
  files_[next_fd_].stream = true;
  return next_fd_++;
}

std::string& FakeRing::content(int fd) {
  CHECK(file(fd) != nullptr);
  return file(fd)->data;
}

std::string& FakeRing::written(int fd) {
  CHECK(file(fd) != nullptr && file(fd)->stream);
  return file(fd)->written;
}

int FakeRing::fsyncs(int fd) const {
  CHECK(file(fd) != nullptr);
  return file(fd)->fsyncs;
}

void FakeRing::feed(int fd, std::string_view data) {
  CHECK(file(fd) != nullptr && file(fd)->stream);
  file(fd)->data += data;
  for (Pending& p : pending_) {
    const Op& o = op(*p.completion);
    if (o.multishot && o.fd == fd) aux(*p.completion) = 1;  // an edge
  }
}

void FakeRing::end_stream(int fd) {
  CHECK(file(fd) != nullptr && file(fd)->stream);
  file(fd)->ended = true;
  feed(fd, "");
}

void FakeRing::start(Completion& c) {
  const Op& o = op(c);
  if (!supports(o.code)) return finish(c, -EOPNOTSUPP);
  aux(c) = 1;  // multishot poll: the first look counts as an edge
  uint64_t span =
      faults.max_delay_ns > faults.min_delay_ns ? faults.max_delay_ns - faults.min_delay_ns : 0;
  uint64_t delay = faults.min_delay_ns + (span != 0 ? random() % (span + 1) : 0);
  pending_.push_back({&c, now_ns_ + delay, random()});
}

void FakeRing::request_cancel(Completion& c) {
  std::erase_if(pending_, [&](const Pending& p) { return p.completion == &c; });
  finish(c, -ECANCELED);
}

uint32_t FakeRing::events_of(const File& f, uint32_t wanted) const {
  uint32_t events = POLLOUT | POLLWRNORM;
  if (!f.stream || !f.data.empty() || f.ended) events |= POLLIN | POLLRDNORM;
  events &= wanted;
  if (f.stream && f.ended) events |= POLLHUP;
  return events;
}

// Whether an operation that is due can go ahead, or has to wait for its stream.
bool FakeRing::executable(const Op& o) {
  File* f = file(o.fd);
  if (f == nullptr || !f->stream) return true;
  if (o.code == OpCode::kPoll) return events_of(*f, o.flags) != 0;
  if (o.code == OpCode::kRead || o.code == OpCode::kReadv) return !f->data.empty() || f->ended;
  return true;
}

int32_t FakeRing::execute(const Op& o) {
  if (o.code == OpCode::kNop) return 0;
  if (o.code == OpCode::kOpenat) {
    auto it = named_.find(reinterpret_cast<const char*>(o.addr));
    return it == named_.end() ? -ENOENT : add_file(it->second);
  }
  File* f = file(o.fd);
  if (f == nullptr) return -EBADF;
  if (o.code == OpCode::kPoll) return static_cast<int32_t>(events_of(*f, o.flags));
  if (chance(faults.eintr)) return -EINTR;
  if (chance(faults.eio)) return -EIO;
  if (o.code == OpCode::kFsync) {
    ++f->fsyncs;
    return 0;
  }
  return transfer(o, *f);
}

int32_t FakeRing::transfer(const Op& o, File& f) {
  struct iovec one = {reinterpret_cast<void*>(o.addr), static_cast<size_t>(o.len)};
  std::span<const struct iovec> iov(&one, 1);
  if (o.code == OpCode::kReadv || o.code == OpCode::kWritev)
    iov = {reinterpret_cast<const struct iovec*>(o.addr), static_cast<size_t>(o.len)};
  size_t want = 0;
  for (const struct iovec& v : iov) want += v.iov_len;
  if (want > 1 && chance(faults.short_io)) want = 1 + random() % (want - 1);
  bool at_position = o.offset < 0;
  size_t pos = at_position ? f.position : static_cast<size_t>(o.offset);
  bool reads = o.code == OpCode::kRead || o.code == OpCode::kReadv;
  if (reads && f.stream) pos = 0;
  std::string& data = !reads && f.stream ? f.written : f.data;
  if (!reads && f.stream) pos = data.size();
  if (reads) want = pos < data.size() ? std::min(want, data.size() - pos) : 0;
  if (!reads && data.size() < pos + want) data.resize(pos + want);
  size_t done = 0;
  for (const struct iovec& v : iov) {
    size_t n = std::min(v.iov_len, want - done);
    if (n == 0) continue;
    char* at = data.data() + pos + done;
    memcpy(reads ? v.iov_base : at, reads ? at : v.iov_base, n);
    done += n;
  }
  if (reads && f.stream) data.erase(0, done);
  if (at_position && !f.stream) f.position += done;
  return static_cast<int32_t>(done);
}

void FakeRing::reap() {
  std::vector<Pending> due;
  for (const Pending& p : pending_) {
    const Op& o = op(*p.completion);
    if (p.due_ns <= now_ns_ && executable(o) && (!o.multishot || aux(*p.completion) != 0))
      due.push_back(p);
  }
  std::sort(due.begin(), due.end(),
            [](const Pending& a, const Pending& b) { return a.rank < b.rank; });
  for (const Pending& p : due) {
    const Op& o = op(*p.completion);
    if (!executable(o)) continue;  // another reader of the stream was first
    int32_t res = execute(o);
    bool more = o.multishot && res >= 0;
    if (more) {
      aux(*p.completion) = 0;
    } else {
      std::erase_if(pending_, [&](const Pending& q) { return q.completion == p.completion; });
    }
    finish(*p.completion, res, more);
  }
}

WaitEnd FakeRing::do_wait(int64_t timeout_ns, const sigset_t*) {
  uint64_t next = UINT64_MAX;
  for (const Pending& p : pending_) {
    const Op& o = op(*p.completion);
    if (executable(o) && (!o.multishot || aux(*p.completion) != 0)) next = std::min(next, p.due_ns);
  }
  uint64_t limit = timeout_ns < 0 ? UINT64_MAX : now_ns_ + static_cast<uint64_t>(timeout_ns);
  if (next == UINT64_MAX && limit == UINT64_MAX) {
    if (!on_deadlock) check_failed(__FILE__, __LINE__, "FakeRing::wait: nothing can ever happen");
    on_deadlock();
    return WaitEnd::kSignal;
  }
  now_ns_ = std::max(now_ns_, std::min(next, limit));
  return next <= limit ? WaitEnd::kEvent : WaitEnd::kTimeout;
}

}  // namespace uk::hostio
