#include "ukernel/mm/marks.h"

#include <linux/mempolicy.h>

#include "ukernel/mm/space.h"

namespace uk {

Result<> seal_range(AddressSpace& mm, uint64_t start, uint64_t len) {
  AddressSpace::Impl& im = mm.inside();
  TRY(im.check_range(start, &len));
  if (len == 0) return {};
  if (len > mm.user_limit() || start > mm.user_limit() - len) return Err(Errno::kNOMEM);
  const uint64_t end = start + len;
  if (!im.covered(start, end) || im.is_sealed(start, end)) return Err(Errno::kNOMEM);
  if (!im.may_split(2)) return Err(Errno::kNOMEM);
  return im.each_piece(start, end, [](Vma& v) -> Result<> {
    v.frozen = true;
    return {};
  });
}

Result<> AddressSpace::Impl::check_frozen(uint64_t start, uint64_t end) const {
  for (const Vma* v = vmas.at_or_above(start); v != nullptr && v->start < end; v = vmas.next(*v)) {
    if (v->frozen) return Err(Errno::kPERM);
  }
  return {};
}

Result<> set_policy(AddressSpace& mm, uint64_t start, uint64_t end, Ref<const MemPolicy> policy) {
  AddressSpace::Impl& im = mm.inside();
  if (end > mm.user_limit() || start > end || !im.covered(start, end)) return Err(Errno::kFAULT);
  if (!im.may_split(2)) return Err(Errno::kNOMEM);
  return im.each_piece(start, end, [&](Vma& v) -> Result<> {
    v.policy = policy;
    return {};
  });
}

Result<Ref<const MemPolicy>> policy_at(AddressSpace& mm, uint64_t addr) {
  const Vma* v = mm.inside().vmas.find(addr);
  if (v == nullptr || v->sealed) return Err(Errno::kFAULT);
  return v->policy;
}

Result<> check_home_node(AddressSpace& mm, uint64_t start, uint64_t end) {
  AddressSpace::Impl& im = mm.inside();
  bool any = false;
  for (const Vma* v = im.vmas.at_or_above(start); v != nullptr && v->start < end;
       v = im.vmas.next(*v)) {
    if (!v->policy) continue;
    if (v->policy->mode != MPOL_BIND && v->policy->mode != MPOL_PREFERRED_MANY)
      return Err(Errno::kOPNOTSUPP);
    any = true;
  }
  return any ? Result<>() : Err(Errno::kNOENT);
}

Result<int> node_of_page(AddressSpace& mm, uint64_t addr) {
  AddressSpace::Impl& im = mm.inside();
  const Vma* v = im.vmas.find(addr);
  if (v == nullptr || v->sealed) return Err(Errno::kFAULT);
  if (!im.pt.get(addr / kPageSize)) return Err(Errno::kNOENT);
  return 0;
}

bool mapped_at_or_above(AddressSpace& mm, uint64_t addr) {
  return mm.inside().vmas.at_or_above(addr) != nullptr;
}

bool left_out_of_dumps(AddressSpace& mm, uint64_t addr) {
  const Vma* v = mm.inside().vmas.find(addr);
  return v != nullptr && v->dont_dump;
}

}  // namespace uk
