#include "ukernel/fs/ext4/meta_cache.h"

#include <algorithm>
#include <cstring>

namespace uk::ext4 {

MetaCache::MetaCache(Ref<BlockDevice> device, uint32_t size, uint64_t count)
    : block_size(size), blocks(count), device_(std::move(device)) {}

MetaCache::~MetaCache() = default;

Ref<MetaBlock> MetaCache::insert(uint64_t number) {
  auto block = make_ref<MetaBlock>(number, block_size);
  map_.emplace(number, block);
  clean_.push_back(*block);
  ++clean_count_;
  return block;
}

Result<Ref<MetaBlock>> MetaCache::get(Park& park, uint64_t number, uint32_t ahead) {
  if (auto it = map_.find(number); it != map_.end()) {
    MetaBlock& b = *it->second;
    if (b.linked()) {
      b.unlink();
      clean_.push_back(b);
    }
    return it->second;
  }
  if (number >= blocks) return Err(Errno::kUCLEAN);
  uint64_t n = 1;
  while (n <= ahead && number + n < blocks && !map_.contains(number + n)) ++n;
  auto bytes = std::make_unique_for_overwrite<std::byte[]>(n * block_size);
  std::span<std::byte> to(bytes.get(), n * block_size);
  Result<> r = device_->submit(park, read_bio(number * block_size, to));
  if (!r && n > 1) {  // an error behind it is not this block's
    n = 1;
    to = to.first(block_size);
    r = device_->submit(park, read_bio(number * block_size, to));
  }
  if (!r) return Err(r.error());
  trim();
  for (uint64_t i = n; i-- > 0;) {
    Ref<MetaBlock> block = insert(number + i);
    std::memcpy(block->bytes().data(), to.data() + i * block_size, block_size);
    if (i == 0) return block;
  }
  return Err(Errno::kIO);
}

Ref<MetaBlock> MetaCache::fresh(uint64_t number) {
  Ref<MetaBlock> block;
  if (auto it = map_.find(number); it != map_.end()) {
    block = it->second;
    std::memset(block->bytes().data(), 0, block_size);
  } else {
    block = insert(number);
  }
  dirty(*block, MetaKind::kRaw, 0);
  return block;
}

void MetaCache::dirty(MetaBlock& block, MetaKind kind, uint32_t seed) {
  block.kind = kind;
  block.seed = seed;
  block.checked_ = kind != MetaKind::kRaw;
  if (block.linked()) {
    block.unlink();
    --clean_count_;
  }
  if (block.dirty_) return;
  block.dirty_ = true;
  ++dirty_count_;
}

void MetaCache::forget(uint64_t number) {
  auto it = map_.find(number);
  if (it == map_.end()) return;
  MetaBlock& b = *it->second;
  if (b.linked()) --clean_count_;
  if (b.dirty_) {
    b.dirty_ = false;
    --dirty_count_;
  }
  b.unlink();
  map_.erase(it);
}

std::vector<CommitBlock> MetaCache::take_dirty(const std::function<void(MetaBlock&)>& seal) {
  std::vector<CommitBlock> out;
  out.reserve(dirty_count_);
  for (auto& [number, block] : map_) {
    if (!block->dirty_) continue;
    seal(*block);
    block->dirty_ = false;
    block->committing_ = true;
    CommitBlock c{number, std::make_unique_for_overwrite<std::byte[]>(block_size)};
    std::memcpy(c.bytes.get(), block->bytes().data(), block_size);
    out.push_back(std::move(c));
  }
  dirty_count_ = 0;
  std::sort(out.begin(), out.end(),
            [](const CommitBlock& a, const CommitBlock& b) { return a.number < b.number; });
  return out;
}

void MetaCache::committed(const std::vector<CommitBlock>& done) {
  for (const CommitBlock& c : done) {
    auto it = map_.find(c.number);
    if (it == map_.end() || !it->second->committing_) continue;
    MetaBlock& b = *it->second;
    b.committing_ = false;
    if (b.dirty_ || b.linked()) continue;
    clean_.push_back(b);
    ++clean_count_;
  }
  trim();
}

void MetaCache::abandon() {
  absl::erase_if(map_, [](const auto& entry) { return entry.second->dirty_; });
  dirty_count_ = 0;
}

void MetaCache::trim() {
  const size_t most = kMaxCleanBytes / block_size;
  size_t looked = clean_count_;
  while (clean_count_ > most && looked-- > 0) {
    MetaBlock& b = clean_.front();
    b.unlink();
    if (b.ref_count() > 1) {  // in use
      clean_.push_back(b);
      continue;
    }
    --clean_count_;
    map_.erase(b.number);
  }
}

}  // namespace uk::ext4
