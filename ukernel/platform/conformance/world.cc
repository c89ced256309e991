#include "ukernel/platform/conformance/world.h"

#include <cstring>

#include "base/check.h"
#include "hostio/sys/file.h"
#include "ukernel/platform/direct/direct_platform.h"
#include "ukernel/platform/notify/notify_platform.h"
#include "ukernel/platform/ptrace/ptrace_platform.h"

namespace uk::conformance {

Memory::Memory(size_t pages) {
  fd_ = CHECK_OK(sys::memfd_create("guest"));
  CHECK_OK(sys::ftruncate(fd_.get(), pages * kPage));
  map_ = CHECK_OK(sys::Mapping::shared(fd_.get(), 0, pages * kPage));
}

PlatformRegistry& registry() {
  static PlatformRegistry r = [] {
    PlatformRegistry all;
    ptrace::register_ptrace(all);
    notify::register_notify(all);
    direct::register_direct(all);
    return all;
  }();
  return r;
}

World::World(std::string_view platform) : ring_(hostio::make_ring()) {
  reactor_ = std::make_unique<Reactor>(*ring_, clock_);
  std::string why;
  auto factory = registry().choose(platform, &why);
  CHECK(factory);
  platform_ = CHECK_OK((*factory)->create(*reactor_, log_));
}

World::~World() {
  // The platform's event source must leave before the reactor goes.
  platform_.reset();
}

void World::run(std::function<void(Park&)> body) {
  reactor_->spawn("test", [&](Park& park) {
    body(park);
    reactor_->stop();
  });
  reactor_->run();
}

Guest::Guest(World& world, Park& park, Blob blob) {
  const size_t n = static_cast<size_t>(blob.end - blob.begin);
  CHECK(n <= kPage);
  std::memcpy(code.data(), blob.begin, n);
  space = CHECK_OK(world.platform().new_space(park, {}));
  space->map(kCode, kPage, Prot::kRead | Prot::kExec, code.fd(), 0, false);
  space->map(kData, 16 * kPage, Prot::kRead | Prot::kWrite, data.fd(), 0, false);
}

arch::UserRegs Guest::start_regs(uint64_t arg, uint64_t rip) {
  arch::UserRegs r;
  r.rip = rip;
  r.rdi = arg;
  r.rsp = kData + 16 * kPage;
  return r;
}

std::unique_ptr<GuestContext> Guest::context(Park& park, uint64_t arg, uint64_t rip) {
  return CHECK_OK(space->new_context(park, start_regs(arg, rip), {}));
}

}  // namespace uk::conformance
