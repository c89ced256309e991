#include "ukernel/platform/direct/direct_platform.h"

#include <linux/seccomp.h>

#include "hostio/sys/process.h"
#include "ukernel/platform/seccomp/seccomp_platform.h"

namespace uk::direct {

void register_direct(PlatformRegistry& registry) {
  static constexpr std::string_view kName = "direct";
  PlatformFactory f;
  f.name = kName;
  f.preference = 30;
  f.probe = &seccomp::probe;
  f.create = [](Reactor& reactor, Log& log) {
    // On one CPU nobody spins, and a notification is the shortest way for a call.
    const bool spin = sys::usable_cpus() > 1;
    const seccomp::Options o = {
        .name = kName,
        .otherwise = spin ? SECCOMP_RET_TRAP : SECCOMP_RET_USER_NOTIF,
        .handler = spin ? stub::uk_stub_handler_direct : stub::uk_stub_handler,
        .slots = spin};
    return seccomp::SeccompPlatform::create(o, reactor, log);
  };
  registry.add(std::move(f));
}

}  // namespace uk::direct
