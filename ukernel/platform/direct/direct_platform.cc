#include "ukernel/platform/direct/direct_platform.h"

#include <linux/seccomp.h>

#include "ukernel/platform/seccomp/seccomp_platform.h"

namespace uk::direct {

void register_direct(PlatformRegistry& registry) {
  static constexpr std::string_view kName = "direct";
  PlatformFactory f;
  f.name = kName;
  f.preference = 5;
  f.probe = &seccomp::probe;
  f.create = [](Reactor& reactor, Log& log) {
    const seccomp::Options o = {.name = kName,
                                .otherwise = SECCOMP_RET_TRAP,
                                .handler = stub::uk_stub_handler_direct,
                                .slots = true};
    return seccomp::SeccompPlatform::create(o, reactor, log);
  };
  registry.add(std::move(f));
}

}  // namespace uk::direct
