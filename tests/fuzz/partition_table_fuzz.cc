// Partition tables. A disk of the input's bytes; where there is a GPT header it may get the
// checksums it should have, or it would never be believed.
#include "tests/fuzz/input.h"
#include "ukernel/dev/block/partition_table.h"

namespace uk {
namespace {

constexpr size_t kSector = 512, kSectors = 128;

template <class T>
T get(const std::vector<std::byte>& disk, size_t at) {
  T v;
  std::memcpy(&v, &disk[at], sizeof v);
  return v;
}
void put(std::vector<std::byte>& disk, size_t at, uint32_t v) {
  std::memcpy(&disk[at], &v, sizeof v);
}

void give_checksums(std::vector<std::byte>& disk, size_t header) {
  std::memcpy(&disk[header], "EFI PART", 8);
  const uint64_t table = get<uint64_t>(disk, header + 72) % kSectors * kSector;
  const uint64_t bytes =
      uint64_t{get<uint32_t>(disk, header + 80)} * get<uint32_t>(disk, header + 84);
  if (bytes <= disk.size() - table)
    put(disk, header + 88, crc32(std::span(disk).subspan(table, bytes)));
  const uint32_t length = get<uint32_t>(disk, header + 12);
  put(disk, header + 16, 0);
  if (length <= disk.size() - header)
    put(disk, header + 16, crc32(std::span(disk).subspan(header, length)));
}

}  // namespace
}  // namespace uk

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace uk;
  FuzzInput in(data, size);
  const auto help = in.take<uint8_t>();
  std::vector<std::byte> disk(kSectors * kSector);
  if ((help & 8) == 0) in.fill(std::span(disk).subspan(440, 72));  // else a table is far away
  in.fill(std::span(disk).subspan(kSector, 92));
  in.fill(std::span(disk).subspan(2 * kSector));
  if ((help & 1) != 0) {
    disk[510] = std::byte{0x55};
    disk[511] = std::byte{0xaa};
  }
  if ((help & 2) != 0) give_checksums(disk, kSector);
  if ((help & 4) != 0) give_checksums(disk, disk.size() - kSector);
  size_t reads = 0;
  const auto found =
      read_partitions(disk.size(), [&](uint64_t at, std::span<std::byte> to) -> Result<> {
        if (at % kSector != 0 || to.size() % kSector != 0 || to.size() > disk.size() ||
            at > disk.size() - to.size() || ++reads > 10'000)
          std::abort();
        std::memcpy(to.data(), &disk[at], to.size());
        return {};
      });
  if (found.size() > kMaxTableEntries) std::abort();
  for (const Partition& p : found)
    if (p.bytes == 0 || p.start > disk.size() || p.bytes > disk.size() - p.start) std::abort();
  return 0;
}
