// eventfd, timerfd and epoll.
#include <sys/epoll.h>

#include "ukernel/fs/anonfs/epoll.h"
#include "ukernel/fs/anonfs/eventfd.h"
#include "ukernel/fs/anonfs/timerfd.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

class AnonTest : public VfsTest {
 protected:
  static Result<uint64_t> get(Park& p, File& f) {
    uint64_t v = 0;
    BufferSink to(std::as_writable_bytes(std::span(&v, 1)));
    size_t n = TRY(f.read(p, to, 0));
    EXPECT_EQ(n, sizeof v);
    return v;
  }
  static Result<size_t> put(Park& p, File& f, uint64_t v) {
    uint64_t at = 0;
    BufferSource from(std::as_bytes(std::span(&v, 1)));
    return f.write(p, from, at);
  }
  Deadline in_ms(uint64_t ms) { return {sim.clock.monotonic_ns() + ms * 1'000'000}; }
  std::vector<uint64_t> wait(Epoll& e, uint64_t ms = 0, size_t max = 10) {
    std::vector<uint64_t> out;
    auto got = e.wait(*park, max, in_ms(ms));
    EXPECT_OK(got);
    for (const EpollEvent& ev : *got) out.push_back(ev.data);
    return out;
  }
};
using Ids = std::vector<uint64_t>;

TEST_F(AnonTest, EventFd) {
  run([&](Park& p) {
    EventFd e(3, false, O_NONBLOCK);
    EXPECT_EQ(*get(p, e), 3u);
    EXPECT_ERR(kAGAIN, get(p, e));
    EXPECT_OK(put(p, e, UINT64_MAX - 1));
    EXPECT_ERR(kAGAIN, put(p, e, 1));
    EXPECT_ERR(kINVAL, put(p, e, UINT64_MAX));
    EXPECT_FALSE(e.ready() & POLLOUT);
    auto s = make_ref<EventFd>(2, true, 0);
    EXPECT_EQ(*get(p, *s), 1u);
    EXPECT_EQ(*get(p, *s), 1u);
    spawn([s](Park& q) { EXPECT_OK(put(q, *s, 1)); });
    EXPECT_EQ(*get(p, *s), 1u) << "waited for the other fiber";
  });
}

TEST_F(AnonTest, TimerFdCountsExpiries) {
  run([&](Park& p) {
    constexpr uint64_t kMs = 1'000'000;
    auto t = make_ref<TimerFd>(sim.reactor.timers(), sim.clock, 1, false, 0);
    t->set({10 * kMs, 10 * kMs}, false, 0);
    EXPECT_EQ(t->get().value, 10 * kMs);
    EXPECT_EQ(*get(p, *t), 1u);
    EXPECT_EQ(sim.clock.monotonic_ns() / kMs, 10u);
    sim.clock.advance(35 * kMs);
    EXPECT_EQ(*get(p, *t), 3u) << "at 20, 30 and 40";
    EXPECT_EQ(t->get().value, 5 * kMs);
    t->flags |= O_NONBLOCK;
    EXPECT_ERR(kAGAIN, get(p, *t));
    const TimerFd::Setting old = t->set({0, 0}, false, 0);
    EXPECT_EQ(old.interval, 10 * kMs);
    EXPECT_EQ(t->get().value, 0u);
    t->set({sim.clock.realtime_ns() - 1, 0}, true, 0);  // of the monotonic clock: far away
    EXPECT_EQ(t->ready(), 0u);
    auto wall = make_ref<TimerFd>(sim.reactor.timers(), sim.clock, 0, true, 0);
    wall->set({sim.clock.realtime_ns() - 1, 0}, true, 0);  // past: at once
    EXPECT_EQ(*get(p, *wall), 1u);
  });
}

TEST_F(AnonTest, LevelEdgeAndOneShot) {
  run([&](Park& p) {
    Epoll ep;
    auto a = make_ref<EventFd>(1, false, O_NONBLOCK), b = make_ref<EventFd>(1, false, O_NONBLOCK),
         c = make_ref<EventFd>(1, false, O_NONBLOCK);
    EXPECT_OK(ep.add(1, a, {EPOLLIN, 1}));
    EXPECT_OK(ep.add(2, b, {EPOLLIN | EPOLLET, 2}));
    EXPECT_OK(ep.add(3, c, {EPOLLIN | EPOLLONESHOT, 3}));
    EXPECT_EQ(wait(ep), (Ids{1, 2, 3}));
    EXPECT_EQ(wait(ep), (Ids{1})) << "only the level-triggered one is told again";
    EXPECT_OK(put(p, *b, 1));
    EXPECT_OK(put(p, *c, 1));
    EXPECT_EQ(wait(ep), (Ids{1, 2}));
    EXPECT_OK(ep.modify(3, *c, {EPOLLIN | EPOLLONESHOT, 33}));
    EXPECT_OK(get(p, *a));
    EXPECT_EQ(wait(ep), (Ids{33}));
    EXPECT_EQ(wait(ep), Ids{});
    EXPECT_OK(ep.remove(2, *b));
    EXPECT_ERR(kNOENT, ep.remove(2, *b));
    EXPECT_ERR(kEXIST, ep.add(1, a, {EPOLLIN, 1}));
  });
}

TEST_F(AnonTest, LevelTriggeredOnesTakeTurns) {
  run([&](Park&) {
    Epoll ep;
    std::vector<Ref<File>> files;
    for (uint64_t i = 0; i < 3; ++i) {
      files.push_back(make_ref<EventFd>(1, false, 0));
      EXPECT_OK(ep.add(static_cast<int>(i), files.back(), {EPOLLIN, i}));
    }
    EXPECT_EQ(wait(ep, 0, 2), (Ids{0, 1}));
    EXPECT_EQ(wait(ep, 0, 2), (Ids{2, 0}));
  });
}

TEST_F(AnonTest, WaitsAndForgetsClosedFiles) {
  run([&](Park&) {
    Epoll ep;
    auto e = make_ref<EventFd>(0, false, 0);
    EXPECT_OK(ep.add(7, e, {EPOLLIN, 7}));
    EXPECT_EQ(wait(ep, 20), Ids{});
    EXPECT_EQ(sim.clock.monotonic_ns(), 20'000'000u);
    spawn([e](Park& q) { EXPECT_OK(put(q, *e, 1)); });
    EXPECT_EQ(wait(ep, 1000), Ids{7});
    e.reset();
    EXPECT_EQ(wait(ep), Ids{}) << "the last reference to the file has gone";
    EXPECT_EQ(ep.fdinfo(), "");
  });
}

TEST_F(AnonTest, Nesting) {
  run([&](Park& p) {
    auto outer = make_ref<Epoll>(), inner = make_ref<Epoll>();
    auto e = make_ref<EventFd>(0, false, 0);
    EXPECT_OK(outer->add(1, inner, {EPOLLIN, 1}));
    EXPECT_OK(inner->add(2, e, {EPOLLIN, 2}));
    EXPECT_ERR(kLOOP, inner->add(3, outer, {EPOLLIN, 3}));
    EXPECT_ERR(kINVAL, inner->add(3, inner, {EPOLLIN, 3}));
    EXPECT_EQ(wait(*outer), Ids{});
    EXPECT_OK(put(p, *e, 1));
    EXPECT_EQ(wait(*outer), Ids{1});
    EXPECT_EQ(wait(*inner), Ids{2});
    std::vector<Ref<Epoll>> chain{outer};  // an epoll does not keep what it watches
    for (int i = 0; i < 3; ++i) {
      auto next = make_ref<Epoll>();
      EXPECT_OK(next->add(9, chain.back(), {EPOLLIN, 9}));
      chain.push_back(next);
    }
    auto too_deep = make_ref<Epoll>();
    EXPECT_ERR(kLOOP, too_deep->add(9, chain.back(), {EPOLLIN, 9}));
  });
}

TEST_F(AnonTest, FilesWithoutReadinessAreRefused) {
  run([&](Park&) {
    EXPECT_OK(write_file("/f", "x"));
    Epoll ep;
    EXPECT_ERR(kPERM, ep.add(1, *open("/f", O_RDONLY), {EPOLLIN, 1}));
  });
}

}  // namespace
}  // namespace uk
