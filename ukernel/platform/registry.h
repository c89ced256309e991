// The platforms by name, registered openly from boot/ (register_ptrace(registry), ...), and `auto`:
// the best one the host allows.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "ukernel/platform/platform.h"
#include "ukernel/sched/reactor.h"

namespace uk {

struct PlatformFactory {
  std::string name;
  int preference;  // auto takes the allowed one with the highest
  // Cheap test that the host allows it; else the reason in a sentence.
  std::function<Result<>(std::string* why_not)> probe;
  // Called early at boot on the reactor thread, before other threads exist and while the process is
  // small: the platform makes its first stub by fork.
  std::function<Result<std::unique_ptr<Platform>>(Reactor& reactor, Log& log)> create;
};

class PlatformRegistry {
 public:
  void add(PlatformFactory factory) { factories_.push_back(std::move(factory)); }
  // name "auto" picks. Errors: kNOENT unknown name, kOPNOTSUPP refused by the host (why says what).
  Result<const PlatformFactory*> choose(std::string_view name, std::string* why) const;
  const std::vector<PlatformFactory>& all() const { return factories_; }

 private:
  std::vector<PlatformFactory> factories_;
};

}  // namespace uk
