#include "ukernel/mm/page_table.h"

#include "base/check.h"

namespace uk {

namespace {
size_t index_at(uint64_t page, int level) { return page >> (9 * level) & 511; }
}  // namespace

PageTable::PageTable() = default;
PageTable::~PageTable() = default;

PageTable::Leaf* PageTable::find_leaf(uint64_t page, uint64_t* skip) const {
  auto jump = [&](int level) {
    if (skip != nullptr) *skip = ((page >> (9 * level)) + 1) << (9 * level);
    return nullptr;
  };
  if (page >> 36 != 0) {
    if (skip != nullptr) *skip = ~0ull;
    return nullptr;
  }
  const Top* top = tops_[index_at(page, 3)].get();
  if (top == nullptr) return jump(3);
  const Mid* mid = top->mids[index_at(page, 2)].get();
  if (mid == nullptr) return jump(2);
  Leaf* leaf = mid->leaves[index_at(page, 1)].get();
  if (leaf == nullptr) return jump(1);
  return leaf;
}

void PageTable::set(uint64_t page, Pte pte) {
  DCHECK(page >> 36 == 0);
  std::unique_ptr<Top>& top = tops_[index_at(page, 3)];
  if (!top) {
    if (!pte) return;
    top = std::make_unique<Top>();
  }
  std::unique_ptr<Mid>& mid = top->mids[index_at(page, 2)];
  if (!mid) {
    if (!pte) return;
    mid = std::make_unique<Mid>();
    ++top->used;
  }
  std::unique_ptr<Leaf>& leaf = mid->leaves[index_at(page, 1)];
  if (!leaf) {
    if (!pte) return;
    leaf = std::make_unique<Leaf>();
    ++mid->used;
  }
  Pte& entry = leaf->entries[page & 511];
  const int change = int{bool(pte)} - int{bool(entry)};
  entry = pte;
  count_ += change;
  leaf->used += change;
  if (leaf->used != 0) return;
  hot_key_ = ~0ull;
  leaf.reset();
  if (--mid->used != 0) return;
  mid.reset();
  if (--top->used == 0) top.reset();
}

uint64_t PageTable::next(uint64_t first, uint64_t end) const {
  uint64_t found = end;
  each(first, end, [&](uint64_t page, Pte) {
    found = page;
    return false;
  });
  return found;
}

}  // namespace uk
