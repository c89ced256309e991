#include "ukernel/platform/registry.h"

#include <algorithm>

namespace uk {

Result<const PlatformFactory*> PlatformRegistry::choose(std::string_view name,
                                                        std::string* why) const {
  const PlatformFactory* best = nullptr;
  bool known = false;
  std::string reasons;
  for (const PlatformFactory& f : factories_) {
    if (name != "auto" && name != f.name) continue;
    known = true;
    if (best != nullptr && f.preference <= best->preference) continue;
    std::string reason;
    if (f.probe(&reason)) {
      best = &f;
    } else {
      reasons += (reasons.empty() ? "" : "; ") + f.name + ": " + reason;
    }
  }
  if (best != nullptr) return best;
  if (why != nullptr) *why = reasons;
  return Err(known ? Errno::kOPNOTSUPP : Errno::kNOENT);
}

}  // namespace uk
