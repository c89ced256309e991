#include "ukernel/platform/notify/notify_platform.h"

#include <linux/seccomp.h>

#include "ukernel/platform/seccomp/seccomp_platform.h"

namespace uk::notify {

void register_notify(PlatformRegistry& registry) {
  static constexpr std::string_view kName = "notify";
  PlatformFactory f;
  f.name = kName;
  f.preference = 20;
  f.probe = &seccomp::probe;
  f.create = [](Reactor& reactor, Log& log) {
    const seccomp::Options o = {.name = kName,
                                .otherwise = SECCOMP_RET_USER_NOTIF,
                                .handler = stub::uk_stub_handler,
                                .slots = false};
    return seccomp::SeccompPlatform::create(o, reactor, log);
  };
  registry.add(std::move(f));
}

}  // namespace uk::notify
