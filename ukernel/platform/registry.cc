#include "ukernel/platform/registry.h"

#include <algorithm>

namespace uk {

Result<const PlatformFactory*> PlatformRegistry::choose(std::string_view name,
                                                        std::string* why) const {
  std::vector<const PlatformFactory*> candidates;
  for (const PlatformFactory& f : factories_) {
    if (name == "auto" || name == f.name) candidates.push_back(&f);
  }
  if (candidates.empty()) return Err(Errno::kNOENT);
  std::ranges::stable_sort(candidates, std::greater(), &PlatformFactory::preference);
  std::string reasons;
  for (const PlatformFactory* f : candidates) {
    std::string reason;
    if (f->probe(&reason)) return f;
    reasons += (reasons.empty() ? "" : "; ") + f->name + ": " + reason;
  }
  if (why != nullptr) *why = reasons;
  return Err(Errno::kOPNOTSUPP);
}

}  // namespace uk
