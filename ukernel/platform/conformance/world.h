// What a platform test needs: a reactor with the host's ring and clock, one platform, and a page or
// more of guest memory holding a piece of assembly. Test-only.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/log.h"
#include "hostio/ring.h"
#include "hostio/sys/mem.h"
#include "ukernel/platform/registry.h"
#include "ukernel/sched/host_clock.h"
#include "ukernel/sched/reactor.h"

namespace uk::conformance {

constexpr uint64_t kCode = 0x400000;
constexpr uint64_t kData = 0x600000;
constexpr uint64_t kPage = 4096;

// Shared guest memory: a memfd, mapped in the test too.
class Memory {
 public:
  explicit Memory(size_t pages);
  int fd() const { return fd_.get(); }
  std::byte* data() const { return map_.data(); }
  template <class T = uint64_t>
  T& at(uint64_t offset) {
    return *reinterpret_cast<T*>(map_.data() + offset);
  }

 private:
  sys::Fd fd_;
  sys::Mapping map_;
};

// A piece of conformance/guest_code.S.
struct Blob {
  const char* begin;
  const char* end;
};

class World {
 public:
  explicit World(std::string_view platform);
  ~World();

  Platform& platform() { return *platform_; }
  Reactor& reactor() { return *reactor_; }
  Clock& clock() { return clock_; }
  // Runs `body` on a fiber until it returns.
  void run(std::function<void(Park&)> body);

 private:
  HostClock clock_;
  Log log_;
  std::unique_ptr<hostio::Ring> ring_;
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<Platform> platform_;
};

PlatformRegistry& registry();

// A space with one page of code at kCode (r-x), 16 pages of data at kData (rw-), and contexts
// starting in the code.
struct Guest {
  Guest(World& world, Park& park, Blob code);
  std::unique_ptr<GuestContext> context(Park& park, uint64_t arg = 0, uint64_t rip = kCode);
  arch::UserRegs start_regs(uint64_t arg = 0, uint64_t rip = kCode);

  Memory code{1};
  Memory data{16};
  std::unique_ptr<GuestSpace> space;
};

}  // namespace uk::conformance
