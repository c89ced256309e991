#include "ukernel/mm/memory_object.h"

#include <algorithm>
#include <vector>

namespace uk {

void MemoryObject::invalidate(uint64_t first, uint64_t count, bool private_copies) {
  for (MappingObserver& o : observers_) o.invalidate(first, count, private_copies);
}

void MemoryObject::write_protect(uint64_t first, uint64_t count) {
  for (MappingObserver& o : observers_) o.write_protect(first, count);
}

void MemoryObject::flush_mappings(Park& park) {
  std::vector<Ref<MappingSpace>> spaces;
  for (MappingObserver& o : observers_) spaces.push_back(o.space());
  std::sort(spaces.begin(), spaces.end(), [](auto& a, auto& b) { return a.get() < b.get(); });
  spaces.erase(std::unique(spaces.begin(), spaces.end()), spaces.end());
  for (auto& s : spaces) s->flush_mappings(park);
}

}  // namespace uk
