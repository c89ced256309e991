// Headers and maps of copy-on-write files, ours and User Mode Linux's. Checksums are made good
// where the input wants it.
#include "tests/fuzz/input.h"
#include "ukernel/dev/cow/format.h"

namespace uk {
namespace {

constexpr size_t kChecksumAt = cow::kMapBlock - 4;

void give_checksum(std::span<std::byte> block) {
  const uint32_t sum = crc32c(block.first(kChecksumAt));
  std::memcpy(&block[kChecksumAt], &sum, sizeof sum);
}

}  // namespace
}  // namespace uk

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace uk;
  FuzzInput in(data, size);
  const auto help = in.take<uint8_t>();
  std::vector<std::byte> front(cow::kHeaderBytes);
  for (size_t at : {size_t{0}, cow::kMapBlock}) {
    const auto copy = std::span(front).subspan(at, cow::kMapBlock);
    in.fill(copy.first(160));
    if ((help & 1) != 0) std::memcpy(copy.data(), "UKCOW\r\n\x1a", 8);
    if ((help & 2) != 0) give_checksum(copy);
  }
  if ((help & 4) != 0) std::memcpy(front.data(), "OOOM\0\0\0\3", 8);
  Result<cow::Header> header = cow::parse_header(front);
  if (!header) return 0;
  if (header->clusters() == 0 || header->clusters() > cow::kMaxClusters ||
      header->data_offset < header->map_offset || header->backing.empty())
    std::abort();
  if (header->clusters() > 1 << 20) return 0;  // the map is the same, but large
  // What is understood is written so that it is understood again.
  cow::Header again = *header;
  if (header->kind == cow::Kind::kOwn) {
    const cow::Write w = cow::encode_header(again);
    std::vector<std::byte> copy(cow::kHeaderBytes);
    std::memcpy(&copy[w.offset], w.bytes.data(), w.bytes.size());
    Result<cow::Header> same = cow::parse_header(copy);
    if (!same || same->disk_bytes != header->disk_bytes || same->backing != header->backing)
      std::abort();
  }
  cow::Map map(*header);
  bool torn = false;
  for (uint32_t block = 0; block < std::min(map.blocks(), 4u); ++block) {
    std::vector<std::byte> bytes(map.place_bytes(block));
    in.fill(std::span(bytes).first(std::min<size_t>(bytes.size(), 64)));
    if (header->kind == cow::Kind::kOwn && (help & 8) != 0) {
      const auto copy = std::span(bytes).first(cow::kMapBlock);
      const uint32_t magic_and_block[] = {0x504d4b55, block};
      std::memcpy(copy.data(), magic_and_block, sizeof magic_and_block);
      give_checksum(copy);
    }
    (void)map.load(block, bytes, &torn);
  }
  const uint64_t clusters = header->clusters();
  for (int i = 0; i < 8; ++i) {
    const uint64_t first = in.take<uint32_t>() % clusters;
    const uint64_t count = 1 + in.take<uint16_t>() % (clusters - first);
    const uint64_t run = map.run(first, count);
    if (run == 0 || run > count) std::abort();
    if (map.all_present(first, count) != (map.present(first) && run == count)) std::abort();
    if (in.take<uint8_t>() % 2 == 0) map.set(first, count);
  }
  if (map.count() > clusters) std::abort();
  const auto writes = map.take_dirty();
  for (const cow::Write& w : writes)
    if (w.offset < header->map_offset || w.offset + w.bytes.size() > header->data_offset)
      std::abort();
  map.written(writes, in.take<uint8_t>() % 2 == 0);
  return 0;
}
