#include "ukernel/dev/jbd2/recovery_flag.h"

#include <cstring>
#include <vector>

#include "base/crc32c.h"

namespace uk::jbd2 {
namespace {

// (Documentation/filesystems/ext4/super.rst in Linux; little-endian.)
constexpr size_t kSuperAt = 1024, kSuperEnd = 2048;
constexpr size_t kMagicAt = kSuperAt + 0x38, kIncompatAt = kSuperAt + 0x60,
                 kRoCompatAt = kSuperAt + 0x64, kChecksumAt = kSuperAt + 0x3fc;
constexpr uint16_t kExt4Magic = 0xef53;
constexpr uint32_t kRecover = 0x4, kMetadataChecksum = 0x400;
constexpr size_t kFront = 4096;  // the device's first bytes: the superblock and what is around it

template <class T>
T get(const std::vector<std::byte>& from, size_t at) {
  T v{};
  std::memcpy(&v, from.data() + at, sizeof v);
  return v;
}

Result<std::vector<std::byte>> read_front(Park& park, BlockDevice& device) {
  if (device.size() < kFront) return Err(Errno::kUCLEAN);
  std::vector<std::byte> front(kFront);
  TRY(device.submit(park, read_bio(0, front)));
  if (get<uint16_t>(front, kMagicAt) != kExt4Magic) return Err(Errno::kUCLEAN);
  return front;
}

}  // namespace

Result<bool> needs_recovery(Park& park, BlockDevice& device) {
  return (get<uint32_t>(TRY(read_front(park, device)), kIncompatAt) & kRecover) != 0;
}

Result<> set_needs_recovery(Park& park, BlockDevice& device, bool on) {
  std::vector<std::byte> front = TRY(read_front(park, device));
  uint32_t incompat = get<uint32_t>(front, kIncompatAt);
  if (((incompat & kRecover) != 0) == on) return {};
  incompat ^= kRecover;
  std::memcpy(&front[kIncompatAt], &incompat, sizeof incompat);
  if ((get<uint32_t>(front, kRoCompatAt) & kMetadataChecksum) != 0) {
    const auto covered = std::span(front).subspan(kSuperAt, kChecksumAt - kSuperAt);
    const uint32_t crc = crc32c_update(~0u, covered);
    std::memcpy(&front[kChecksumAt], &crc, sizeof crc);
  }
  static_assert(kChecksumAt + 4 == kSuperEnd);
  return device.submit(park, write_bio(0, front, /*fua=*/true));
}

}  // namespace uk::jbd2
