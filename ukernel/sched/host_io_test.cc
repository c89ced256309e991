#include "ukernel/sched/host_io.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>

#include <string>

#include "hostio/sys/file.h"
#include "ukernel/sched/host_clock.h"
#include "ukernel/sched/test_kit.h"

namespace uk {
namespace {

std::span<std::byte> out(std::string& s) { return std::as_writable_bytes(std::span(s)); }
std::span<const std::byte> in(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

struct Flag final : Interruptor {
  bool on = false;
  bool should_interrupt(WaitMode) const override { return on; }
};

TEST(HostIo, RetriesEintrAndReportsOtherFaults) {
  SimReactor sim(3);
  sim.ring.faults = {.eintr = 500, .min_delay_ns = 10, .max_delay_ns = 1000};
  int fd = sim.ring.add_file(std::string(100, 'x'));
  int reads = 0;
  sim.reactor.spawn("f", [&](Park& park) {
    std::string buf(100, '-');
    for (int i = 0; i < 100; ++i) {
      ASSERT_EQ(host_read(park, fd, out(buf), 0).value(), 100u);
      ++reads;
    }
    ASSERT_EQ(host_write(park, fd, in("yy"), 99).value(), 2u);
    ASSERT_TRUE(host_fsync(park, fd, true));
    sim.ring.faults.eio = 1000;
    sim.ring.faults.eintr = 0;
    EXPECT_EQ(host_read(park, fd, out(buf), 0).error(), Errno::kIO);
    EXPECT_EQ(host_fsync(park, fd, false).error(), Errno::kIO);
  });
  sim.run();
  EXPECT_EQ(reads, 100);
  EXPECT_EQ(sim.ring.content(fd).size(), 101u);
  EXPECT_EQ(sim.ring.fsyncs(fd), 1);
}

TEST(HostIo, PollIsInterruptibleAndReadIsNot) {
  SimReactor sim;
  int fd = sim.ring.add_stream();
  Flag flag;
  Result<uint32_t> polled;
  Result<size_t> got;
  std::string buf(4, '-');
  Ref<Fiber> poller = sim.reactor.spawn("p", [&](Park& park) {
    park.fiber().set_interruptor(&flag);
    polled = host_poll(park, fd, POLLIN);
  });
  Ref<Fiber> reader = sim.reactor.spawn("r", [&](Park& park) {
    park.fiber().set_interruptor(&flag);
    got = host_read(park, fd, out(buf), -1);
  });
  sim.reactor.spawn("signal", [&](Park& park) {
    park.yield();
    flag.on = true;
    poller->wake();
    reader->wake();
    for (int i = 0; i < 3; ++i) park.yield();
    EXPECT_TRUE(poller->done());
    EXPECT_FALSE(reader->done());
    sim.ring.feed(fd, "ok");
  });
  sim.run();
  EXPECT_EQ(polled.error(), Errno::kRestartSys);
  EXPECT_EQ(got.value(), 2u);
}

TEST(HostIo, RealFilesAndPipes) {
  HostClock clock;
  std::unique_ptr<hostio::Ring> ring = hostio::make_ring();
  Reactor reactor(*ring, clock);
  sys::Fd file = sys::memfd_create("t").value();
  sys::PipePair pipe = sys::pipe2().value();
  std::string got(8, '\0');
  reactor.spawn("reader", [&](Park& park) {
    EXPECT_EQ(host_poll(park, pipe.read_end.get(), POLLIN).value(), static_cast<uint32_t>(POLLIN));
    EXPECT_EQ(host_read(park, pipe.read_end.get(), out(got), -1).value(), 5u);
    EXPECT_EQ(host_write(park, file.get(), in(got), 0).value(), 8u);
    EXPECT_EQ(host_read(park, file.get(), out(got), 4).value(), 4u);  // short: the file ends
    EXPECT_EQ(host_read(park, file.get(), out(got), 100).value(), 0u);
    EXPECT_EQ(host_read(park, -1, out(got), 0).error(), Errno::kBADF);
    EXPECT_TRUE(host_fsync(park, file.get(), false));
    park.reactor().stop();
  });
  reactor.spawn("writer", [&](Park& park) {
    park.yield();
    EXPECT_EQ(host_write(park, pipe.write_end.get(), in("hello"), -1).value(), 5u);
  });
  reactor.run();
  EXPECT_EQ(got[0], 'o');
}

}  // namespace
}  // namespace uk
