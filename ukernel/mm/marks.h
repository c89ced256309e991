// What guests say of ranges of their memory that has no use for pages: seals (mseal(2)), policies
// (mbind(2)), and what follows for others who ask.
//
// Functions work on one address space, whose VMAs they may split; ranges are checked by the caller
// as the call's page says, except where an error is named. Nothing here suspends.
#pragma once

#include "base/result.h"
#include "ukernel/mm/address_space.h"
#include "ukernel/mm/policy.h"

namespace uk {

// mseal(2): [start, start+len) may not be unmapped, moved, replaced or change its protection any
// more. kINVAL; kNOMEM: a hole.
Result<> seal_range(AddressSpace& mm, uint64_t start, uint64_t len);
// mbind(2) of the pages [start, end); null: the default. kFAULT: a hole.
Result<> set_policy(AddressSpace& mm, uint64_t start, uint64_t end, Ref<const MemPolicy> policy);
// The policy of the mapping at addr, null if it has none. kFAULT: no mapping.
Result<Ref<const MemPolicy>> policy_at(AddressSpace& mm, uint64_t addr);
// set_mempolicy_home_node(2): every policy in [start, end) must be of a kind that can have a home.
// kNOENT: there is none; kOPNOTSUPP.
Result<> check_home_node(AddressSpace& mm, uint64_t start, uint64_t end);
// The node of the page at addr, 0: it has a frame. kNOENT: none; kFAULT: no mapping.
Result<int> node_of_page(AddressSpace& mm, uint64_t addr);
// MADV_DONTDUMP was said of the mapping at addr.
bool left_out_of_dumps(AddressSpace& mm, uint64_t addr);

// Some mapping ends behind addr.
bool mapped_at_or_above(AddressSpace& mm, uint64_t addr);

}  // namespace uk
