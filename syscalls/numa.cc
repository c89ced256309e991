#include "syscalls/numa.h"

#include <linux/mempolicy.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "syscalls/fs_common.h"
#include "syscalls/process.h"
#include "ukernel/kernel.h"
#include "ukernel/mm/marks.h"

namespace uk {
namespace {

constexpr uint64_t kNodes = 1;         // nodes there are
constexpr uint64_t kMostNodes = 1024;  // MAX_NUMNODES
constexpr uint64_t kMaskBits = 64;
constexpr uint32_t kWeightedInterleave = 6;  // MPOL_WEIGHTED_INTERLEAVE
constexpr uint32_t kModeFlags = MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES | MPOL_F_NUMA_BALANCING;

struct NodeMask {
  bool first = false;   // node 0
  bool others = false;  // nodes there are not
  bool empty() const { return !first && !others; }
};

// A mask of the guest's, of max_node - 1 bits. kINVAL: too long, or a node that cannot exist.
Result<NodeMask> fetch_nodes(Task& task, UserAddr addr, uint64_t max_node) {
  NodeMask mask;
  --max_node;
  if (max_node == 0 || !addr) return mask;
  if (max_node > kPageSize * 8) return Err(Errno::kINVAL);
  const size_t words = (max_node + kMaskBits - 1) / kMaskBits;
  std::vector<uint64_t> bits =
      TRY(UserIn<uint64_t>{{addr.addr}}.get_array(task.park(), task.mm(), words));
  if (const uint64_t rest = max_node % kMaskBits; rest != 0) bits.back() &= (1ull << rest) - 1;
  for (size_t i = kMostNodes / kMaskBits; i < words; ++i) {
    if (bits[i] != 0) return Err(Errno::kINVAL);
  }
  mask.first = (bits[0] & 1) != 0;
  bits[0] &= ~1ull;
  mask.others = std::any_of(bits.begin(), bits.end(), [](uint64_t w) { return w != 0; });
  return mask;
}

// The mask of the nodes there are, to the guest; what lies behind is cleared.
Result<> put_nodes(Task& task, UserAddr addr, uint64_t max_node, bool first) {
  size_t bytes = (max_node - 1 + kMaskBits - 1) / kMaskBits * sizeof(uint64_t);
  if (bytes > kPageSize) return Err(Errno::kINVAL);
  std::vector<uint64_t> words(bytes / sizeof(uint64_t));
  if (words.empty()) return {};
  words[0] = first ? 1 : 0;
  return UserOut<uint64_t>{{addr.addr}}.put_array(task.park(), task.mm(), words);
}

struct Split {
  uint32_t mode, flags;
};
Result<Split> split_mode(uint64_t mode) {
  const auto flags = static_cast<uint32_t>(mode) & kModeFlags;
  const auto m = static_cast<uint32_t>(mode) & ~kModeFlags;
  if (m > kWeightedInterleave) return Err(Errno::kINVAL);
  if ((flags & MPOL_F_STATIC_NODES) != 0 && (flags & MPOL_F_RELATIVE_NODES) != 0)
    return Err(Errno::kINVAL);
  if ((flags & MPOL_F_NUMA_BALANCING) != 0 && m != MPOL_BIND && m != MPOL_PREFERRED_MANY)
    return Err(Errno::kINVAL);
  return Split{m, flags};
}

// The policy that mode and nodes make; null is the default one.
Result<Ref<const MemPolicy>> make_policy(Split m, const NodeMask& nodes) {
  const bool fixed = (m.flags & (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES)) != 0;
  switch (m.mode) {
    case MPOL_DEFAULT:
      if (!nodes.empty()) return Err(Errno::kINVAL);
      return Ref<const MemPolicy>();
    case MPOL_LOCAL:
      if (!nodes.empty() || fixed) return Err(Errno::kINVAL);
      break;
    case MPOL_PREFERRED:
      if (!nodes.empty()) break;
      if (fixed) return Err(Errno::kINVAL);
      m.mode = MPOL_LOCAL;
      break;
    default:
      if (nodes.empty()) return Err(Errno::kINVAL);
  }
  // Relative numbers wrap around; others must name a node that is there.
  bool first = nodes.first;
  if ((m.flags & MPOL_F_RELATIVE_NODES) != 0) first = !nodes.empty();
  if (m.mode != MPOL_LOCAL && !first) return Err(Errno::kINVAL);
  return Ref<const MemPolicy>(make_ref<MemPolicy>(m.mode, m.flags, first));
}

// The process a call is about: kSRCH, kPERM; kINVAL: it has no memory any more.
Result<Ref<AddressSpace>> memory_of(Task& task, int pid) {
  Task* t = TRY(find_task(task, pid));
  if (t != &task && !may_access(task, *t)) return Err(Errno::kPERM);
  Ref<AddressSpace> mm = t->mm_ref();
  if (!mm) return Err(Errno::kINVAL);
  return mm;
}

}  // namespace

Result<int64_t> sys_set_mempolicy(Task& task, int mode, UserAddr nodes, uint64_t max_node) {
  const Split m = TRY(split_mode(static_cast<uint32_t>(mode)));
  const NodeMask mask = TRY(fetch_nodes(task, nodes, max_node));
  task.mem_policy = TRY(make_policy(m, mask));
  return 0;
}

Result<int64_t> sys_get_mempolicy(Task& task, UserOut<int32_t> policy, UserAddr nodes,
                                  uint64_t max_node, UserAddr addr, Hex flags) {
  if (nodes && max_node < kNodes) return Err(Errno::kINVAL);
  if ((flags & ~uint64_t{MPOL_F_NODE | MPOL_F_ADDR | MPOL_F_MEMS_ALLOWED}) != 0)
    return Err(Errno::kINVAL);
  int value = MPOL_DEFAULT;
  bool first = false;
  if ((flags & MPOL_F_MEMS_ALLOWED) != 0) {
    if ((flags & (MPOL_F_NODE | MPOL_F_ADDR)) != 0) return Err(Errno::kINVAL);
    first = true;
  } else {
    Ref<const MemPolicy> p = task.mem_policy;
    if ((flags & MPOL_F_ADDR) != 0) {
      p = TRY(policy_at(task.mm(), addr.addr));
    } else if (addr) {
      return Err(Errno::kINVAL);
    }
    if ((flags & MPOL_F_NODE) != 0) {
      if ((flags & MPOL_F_ADDR) != 0) {  // the page is brought in, to say where it is
        std::byte b;
        if (TRY(task.mm().copy_in(task.park(), std::span(&b, 1), addr.addr)) != 1)
          return Err(Errno::kFAULT);
      } else if (!p || (p->mode != MPOL_INTERLEAVE && p->mode != kWeightedInterleave)) {
        return Err(Errno::kINVAL);
      }
      value = 0;  // the page's node, or the next one of the interleaving
    } else if (p) {
      value = static_cast<int>(p->mode | p->flags);
    }
    first = p && p->mode != MPOL_LOCAL && p->node;
  }
  if (policy) TRY(policy.put(task.park(), task.mm(), value));
  if (nodes) TRY(put_nodes(task, nodes, max_node, first));
  return 0;
}

Result<int64_t> sys_mbind(Task& task, UserAddr addr, size_t len, uint64_t mode, UserAddr nodes,
                          uint64_t max_node, Hex flags) {
  constexpr uint64_t kValid = MPOL_MF_STRICT | MPOL_MF_MOVE | MPOL_MF_MOVE_ALL;
  const Split m = TRY(split_mode(mode & 0xffffffff));
  const NodeMask mask = TRY(fetch_nodes(task, nodes, max_node));
  const uint64_t f = flags.value & 0xffffffff;
  if ((f & ~kValid) != 0) return Err(Errno::kINVAL);
  if ((f & MPOL_MF_MOVE_ALL) != 0 && !task.cred().has(Cap::kSysNice)) return Err(Errno::kPERM);
  if ((addr.addr & kPageMask) != 0) return Err(Errno::kINVAL);
  const uint64_t end = addr.addr + page_ceil(len);
  if (end < addr.addr) return Err(Errno::kINVAL);
  if (end == addr.addr) return 0;
  // Every page is on the one node already, so there is nothing to move.
  Ref<const MemPolicy> p = TRY(make_policy(m, mask));
  return zero(set_policy(task.mm(), addr.addr, end, std::move(p)));
}

Result<int64_t> sys_set_mempolicy_home_node(Task& task, UserAddr addr, size_t len,
                                            uint64_t home_node, Hex flags) {
  if ((addr.addr & kPageMask) != 0 || flags != 0 || home_node >= kNodes) return Err(Errno::kINVAL);
  const uint64_t end = addr.addr + page_ceil(len);
  if (end < addr.addr) return Err(Errno::kINVAL);
  if (end == addr.addr) return 0;
  return zero(check_home_node(task.mm(), addr.addr, end));
}

Result<int64_t> sys_migrate_pages(Task& task, int pid, uint64_t max_node, UserAddr from,
                                  UserAddr to) {
  TRY(fetch_nodes(task, from, max_node));
  const NodeMask target = TRY(fetch_nodes(task, to, max_node));
  Task* t = TRY(find_task(task, pid));
  if (t != &task && !may_access(task, *t)) return Err(Errno::kPERM);
  if (target.others && !task.cred().has(Cap::kSysNice)) return Err(Errno::kPERM);
  if (!target.first || !t->mm_ref()) return Err(Errno::kINVAL);
  return 0;  // pages that could not be moved: none had to be
}

Result<int64_t> sys_move_pages(Task& task, int pid, uint64_t count, UserAddr pages, UserAddr nodes,
                               UserAddr status, Hex flags) {
  constexpr uint64_t kPiece = 512;
  const uint64_t f = flags.value & 0xffffffff;
  if ((f & ~uint64_t{MPOL_MF_MOVE | MPOL_MF_MOVE_ALL}) != 0) return Err(Errno::kINVAL);
  if ((f & MPOL_MF_MOVE_ALL) != 0 && !task.cred().has(Cap::kSysNice)) return Err(Errno::kPERM);
  const Ref<AddressSpace> mm = TRY(memory_of(task, pid));
  for (uint64_t done = 0; done < count;) {
    const uint64_t n = std::min(count - done, kPiece);
    std::vector<uint64_t> addrs =
        TRY(UserIn<uint64_t>{{pages.addr + done * sizeof(uint64_t)}}.get_array(task.park(),
                                                                               task.mm(), n));
    if (nodes) {
      std::vector<int32_t> wanted =
          TRY(UserIn<int32_t>{{nodes.addr + done * sizeof(int32_t)}}.get_array(task.park(),
                                                                               task.mm(), n));
      if (std::any_of(wanted.begin(), wanted.end(), [](int32_t node) { return node != 0; }))
        return Err(Errno::kNODEV);
    }
    std::vector<int32_t> told;
    for (uint64_t addr : addrs) {
      Result<int> node = node_of_page(*mm, addr);
      told.push_back(node ? *node : -static_cast<int32_t>(node.error()));
    }
    UserOut<int32_t> out{{status.addr + done * sizeof(int32_t)}};
    TRY(out.put_array(task.park(), task.mm(), told));
    done += n;
    if (task.should_interrupt(WaitMode::kKillable)) return Err(Errno::kINTR);
    if (done < count) task.park().yield();
  }
  return 0;
}

}  // namespace uk
