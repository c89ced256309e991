#include "ukernel/mm/vma.h"

#include <algorithm>

#include "base/check.h"

namespace uk {

void Vma::set_object(Ref<MemoryObject> o) {
  if (object) {
    unlink();
    if (counted_writable_) --object->shared_writable_mappings;
    counted_writable_ = false;
    object->unmapped();
  }
  object = std::move(o);
  if (!object) return;
  object->observers().push_back(*this);
  object->mapped();
  counted_writable_ = shared && may_write;
  if (counted_writable_) ++object->shared_writable_mappings;
}

bool Vma::continues_with(const Vma& n) const {
  return end == n.start && prot == n.prot && shared == n.shared && grows_down == n.grows_down &&
         locked == n.locked && may_write == n.may_write && may_exec == n.may_exec &&
         noreserve == n.noreserve && dont_fork == n.dont_fork && wipe_on_fork == n.wipe_on_fork &&
         dont_dump == n.dont_dump && sealed == n.sealed && random == n.random &&
         sequential == n.sequential && host == n.host && frozen == n.frozen && object == n.object &&
         (!object || offset + len() == n.offset) && name == n.name && userfault == n.userfault &&
         same_policy(policy.get(), n.policy.get());
}

std::unique_ptr<Vma> Vma::clone(VmaOwner& new_owner) const {
  auto v = std::make_unique<Vma>(new_owner);
  v->start = start;
  v->end = end;
  v->prot = prot;
  v->shared = shared;
  v->grows_down = grows_down;
  v->locked = locked;
  v->may_write = may_write;
  v->may_exec = may_exec;
  v->noreserve = noreserve;
  v->dont_fork = dont_fork;
  v->wipe_on_fork = wipe_on_fork;
  v->dont_dump = dont_dump;
  v->sealed = sealed;
  v->random = random;
  v->sequential = sequential;
  v->frozen = frozen;
  v->policy = policy;
  if (&new_owner == &owner) v->userfault = userfault;  // a fork's child has none
  v->host = host;
  v->offset = offset;
  v->name = name;
  v->next_fault = next_fault;
  v->window = window;
  v->set_object(object);
  return v;
}

bool Vma::part(uint64_t first, uint64_t count, uint64_t* from, uint64_t* to) const {
  const uint64_t my_first = offset / kPageSize, my_end = my_first + pages();
  const uint64_t lo = std::max(first, my_first);
  const uint64_t hi = count > UINT64_MAX - first ? my_end : std::min(first + count, my_end);
  if (lo >= hi) return false;
  *from = start + (lo - my_first) * kPageSize;
  *to = start + (hi - my_first) * kPageSize;
  return true;
}

void Vma::invalidate(uint64_t first, uint64_t count, bool private_copies) {
  uint64_t from, to;
  if (part(first, count, &from, &to)) owner.invalidate(*this, from, to, private_copies);
}

void Vma::write_protect(uint64_t first, uint64_t count) {
  uint64_t from, to;
  if (shared && part(first, count, &from, &to)) owner.write_protect(*this, from, to);
}

Vma* VmaSet::find(uint64_t addr) const {
  Vma* v = at_or_above(addr);
  return v != nullptr && v->start <= addr ? v : nullptr;
}

Vma* VmaSet::at_or_above(uint64_t addr) const {
  auto it = map_.upper_bound(addr);
  if (it != map_.begin()) {
    auto before = std::prev(it);
    if (before->second->end > addr) return before->second.get();
  }
  return it == map_.end() ? nullptr : it->second.get();
}

Vma* VmaSet::below(uint64_t addr) const {
  auto it = map_.lower_bound(addr);
  return it == map_.begin() ? nullptr : std::prev(it)->second.get();
}

Vma& VmaSet::insert(std::unique_ptr<Vma> v) {
  DCHECK(v->start < v->end && free(v->start, v->end));
  v->id = next_id_++;
  Vma& r = *v;
  if (r.start == offered_) {  // gap()'s last answer was taken: what it passed by is known
    cache_from_ = offered_;
    cache_hole_ = offered_hole_;
  }
  map_.emplace(r.start, std::move(v));
  return r;
}

std::unique_ptr<Vma> VmaSet::remove(Vma& v) {
  auto it = map_.find(v.start);
  CHECK(it != map_.end() && it->second.get() == &v);
  std::unique_ptr<Vma> out = std::move(it->second);
  map_.erase(it);
  cache_from_ = offered_ = UINT64_MAX;
  return out;
}

void VmaSet::split(uint64_t addr) {
  Vma* v = find(addr);
  if (v == nullptr || v->start == addr) return;
  std::unique_ptr<Vma> upper = v->clone(v->owner);
  upper->start = addr;
  if (v->object) upper->offset += addr - v->start;
  v->end = addr;
  v->id = next_id_++;
  insert(std::move(upper));
}

Vma& VmaSet::merge(Vma& v) {
  Vma* at = &v;
  if (Vma* p = below(at->start); p != nullptr && p->continues_with(*at)) {
    p->end = at->end;
    p->id = next_id_++;
    const uint64_t from = cache_from_;
    remove(*at);
    cache_from_ = from;  // no gap came into being
    at = p;
  }
  if (Vma* n = next(*at); n != nullptr && at->continues_with(*n)) {
    at->end = n->end;
    at->id = next_id_++;
    const uint64_t from = cache_from_;
    remove(*n);
    cache_from_ = from;
  }
  return *at;
}

void VmaSet::set_start(Vma& v, uint64_t start) {
  auto it = map_.find(v.start);
  CHECK(it != map_.end() && it->second.get() == &v && start < v.end);
  std::unique_ptr<Vma> p = std::move(it->second);
  map_.erase(it);
  v.start = start;
  map_.emplace(start, std::move(p));
}

bool VmaSet::free(uint64_t start, uint64_t end) const {
  const Vma* v = at_or_above(start);
  return v == nullptr || v->start >= end;
}

uint64_t VmaSet::room_start(const Vma& v) {
  if (!v.grows_down) return v.start;
  return v.start > kStackGap ? v.start - kStackGap : 0;
}

std::optional<uint64_t> VmaSet::gap(uint64_t len, uint64_t floor, uint64_t ceiling) const {
  if (ceiling != cache_ceiling_) {
    cache_from_ = offered_ = UINT64_MAX;
    cache_ceiling_ = ceiling;
  }
  // Start below the part known to have no hole of this size; remember the largest hole passed on
  // the way down.
  uint64_t top = ceiling, largest = 0;
  if (cache_from_ < ceiling && len > cache_hole_) {
    top = cache_from_;
    largest = cache_hole_;
  }
  auto it = map_.lower_bound(top);
  if (it != map_.end()) top = std::min(top, room_start(*it->second));
  for (;;) {
    uint64_t bottom = floor;
    if (it != map_.begin()) {
      --it;
      bottom = std::max(floor, it->second->end);
    } else {
      it = map_.end();
    }
    if (top > bottom && top - bottom >= len) {
      offered_ = top - len;
      offered_hole_ = largest;
      return top - len;
    }
    if (top > bottom) largest = std::max(largest, top - bottom);
    if (it == map_.end() || bottom == floor) break;
    top = std::min(top, room_start(*it->second));
  }
  if (cache_from_ == UINT64_MAX) return std::nullopt;
  cache_from_ = UINT64_MAX;
  return gap(len, floor, ceiling);
}

std::optional<uint64_t> VmaSet::gap_up(uint64_t len, uint64_t floor, uint64_t ceiling) const {
  uint64_t at = floor;
  for (const Vma* v = at_or_above(floor); v != nullptr && v->start < ceiling; v = next(*v)) {
    const uint64_t room = room_start(*v);
    if (room > at && room - at >= len) break;
    at = std::max(at, v->end);
  }
  if (at > ceiling || ceiling - at < len) return std::nullopt;
  return at;
}

}  // namespace uk
