#include "hostio/fake_ring.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <memory>

namespace uk::hostio {
namespace {

struct Recorder final : Completion {
  explicit Recorder(std::vector<int>* log = nullptr, int id = 0) : log(log), id(id) {}
  void complete(int32_t res, bool) override {
    results.push_back(res);
    if (log != nullptr) log->push_back(id);
  }
  std::vector<int32_t> results;
  std::vector<int>* log;
  int id;
};

std::span<std::byte> out(std::string& s) { return std::as_writable_bytes(std::span(s)); }
std::span<const std::byte> in(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

std::vector<int> order_of(uint64_t seed) {
  uint64_t now = 0;
  FakeRing ring(now, seed);
  std::vector<int> log;
  std::vector<std::unique_ptr<Recorder>> all;
  for (int i = 0; i < 20; ++i) {
    all.push_back(std::make_unique<Recorder>(&log, i));
    ring.nop(*all.back());
  }
  ring.drain();
  return log;
}

TEST(FakeRing, OrderComesFromTheSeed) {
  EXPECT_EQ(order_of(1), order_of(1));
  EXPECT_NE(order_of(1), order_of(2));
}

TEST(FakeRing, FilesHoldWhatIsWritten) {
  uint64_t now = 0;
  FakeRing ring(now, 1);
  int fd = ring.add_file("abc", "/f");
  Recorder w, r, s, e, o;
  ring.write(w, fd, in("XY"), 5);
  ring.drain();
  EXPECT_EQ(w.results[0], 2);
  EXPECT_EQ(ring.content(fd), std::string("abc\0\0XY", 7));
  std::string buf(3, '-');
  ring.read(r, fd, out(buf), -1);
  ring.drain();
  ring.read(r, fd, out(buf), -1);
  ring.drain();
  EXPECT_EQ(buf, std::string("\0\0X", 3));
  ring.fsync(s, fd, false);
  ring.read(e, 7, out(buf), 0);
  ring.openat(o, -1, "/f", 0, 0);
  ring.drain();
  EXPECT_EQ(ring.fsyncs(fd), 1);
  EXPECT_EQ(e.results[0], -EBADF);
  EXPECT_EQ(ring.content(o.results[0]), "abc");
}

TEST(FakeRing, StreamsWaitAndEnd) {
  uint64_t now = 0;
  FakeRing ring(now, 1);
  int fd = ring.add_stream();
  Recorder r, p, w;
  std::string buf(8, '-');
  ring.read(r, fd, out(buf), -1);
  ring.poll(p, fd, POLLIN, true);
  EXPECT_FALSE(ring.drain());
  ring.feed(fd, "hi");
  ring.drain();
  EXPECT_EQ(r.results.size() + p.results.size() > 0, true);
  ring.write(w, fd, in("out"), -1);
  ring.drain();
  EXPECT_EQ(ring.written(fd), "out");
  ASSERT_EQ(r.results.size(), 1u);
  EXPECT_EQ(r.results[0], 2);
  ring.end_stream(fd);
  ring.read(r, fd, out(buf), -1);
  ring.drain();
  EXPECT_EQ(r.results[1], 0);
  EXPECT_TRUE(p.results.back() & POLLHUP);
  ring.cancel(p);
  ring.drain();
  EXPECT_EQ(p.results.back(), -ECANCELED);
  EXPECT_TRUE(p.idle());
}

TEST(FakeRing, DelaysPassInFakeTime) {
  uint64_t now = 0;
  FakeRing ring(now, 1);
  ring.faults.min_delay_ns = ring.faults.max_delay_ns = 500;
  Recorder c;
  ring.nop(c);
  EXPECT_EQ(ring.wait(200, nullptr), WaitEnd::kTimeout);
  EXPECT_EQ(now, 200u);
  EXPECT_EQ(ring.wait(-1, nullptr), WaitEnd::kEvent);
  EXPECT_EQ(now, 500u);
  EXPECT_TRUE(ring.drain());
}

TEST(FakeRing, FaultsHappenAboutAsOftenAsAsked) {
  uint64_t now = 0;
  FakeRing ring(now, 42);
  ring.faults = {.short_io = 500, .eio = 100, .eintr = 100};
  int fd = ring.add_file(std::string(100, 'x'));
  int shorts = 0, eio = 0, eintr = 0;
  for (int i = 0; i < 1000; ++i) {
    Recorder c;
    std::string buf(100, '-');
    ring.read(c, fd, out(buf), 0);
    ring.drain();
    int32_t res = c.results.at(0);
    shorts += res > 0 && res < 100;
    eio += res == -EIO;
    eintr += res == -EINTR;
    EXPECT_NE(res, 0);
  }
  EXPECT_NEAR(shorts, 400, 80);
  EXPECT_NEAR(eio, 90, 40);
  EXPECT_NEAR(eintr, 100, 40);
}

TEST(FakeRingDeathTest, SleepingForEverIsABug) {
  uint64_t now = 0;
  FakeRing ring(now, 1);
  EXPECT_DEATH(ring.wait(-1, nullptr), "nothing can ever happen");
  bool called = false;
  ring.on_deadlock = [&] { called = true; };
  ring.wait(-1, nullptr);
  EXPECT_TRUE(called);
}

}  // namespace
}  // namespace uk::hostio
