// The io controller (cgroup-v2, "IO").
#include "absl/strings/str_format.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/fs/cgroupfs/cgroup_inode.h"
#include "ukernel/task/io_group.h"

namespace uk::cgroupfs {
namespace {

constexpr int64_t kMaxMajor = 4095, kMaxMinor = (1 << 20) - 1;
constexpr uint64_t kMaxRequests = UINT32_MAX;  // a second

std::string number_of(uint64_t dev) {
  return absl::StrFormat("%d:%d", dev_major(dev), dev_minor(dev));
}
std::string or_max(uint64_t n) { return n == IoGroup::kMax ? "max" : std::to_string(n); }

Result<std::string> show_max(Ctx& c) {
  std::string out;
  if (!c.group.io) return out;
  for (const auto& [dev, d] : c.group.io->devices()) {
    const IoGroup::Limits& l = d.limits;
    if (l == IoGroup::Limits{}) continue;
    absl::StrAppendFormat(&out, "%s rbps=%s wbps=%s riops=%s wiops=%s\n", number_of(dev),
                          or_max(l.bytes[IoGroup::kReads]), or_max(l.bytes[IoGroup::kWrites]),
                          or_max(l.requests[IoGroup::kReads]),
                          or_max(l.requests[IoGroup::kWrites]));
  }
  return out;
}

// The number of a whole disk, as "MAJOR:MINOR". kINVAL, kNODEV.
Result<uint64_t> disk_of(Ctx& c, std::string_view word) {
  const size_t colon = word.find(':');
  if (colon == std::string_view::npos) return Err(Errno::kINVAL);
  const int64_t major = TRY(number(word.substr(0, colon), 0, kMaxMajor, Errno::kINVAL)),
                minor = TRY(number(word.substr(colon + 1), 0, kMaxMinor, Errno::kINVAL));
  Ref<BlockDevice> device;
  if (c.kernel.disks != nullptr)
    device =
        c.kernel.disks->find(make_dev(static_cast<uint32_t>(major), static_cast<uint32_t>(minor)));
  if (device == nullptr || device->number != 0) return Err(Errno::kNODEV);
  return device->rdev();
}

// KEY=VALUE of one limit.
Result<> set_one(IoGroup::Limits& limits, std::string_view word) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return Err(Errno::kINVAL);
  const std::string_view key = word.substr(0, equals), value = word.substr(equals + 1);
  uint64_t n = TRY(number_or_max(value, INT64_MAX));
  if (n == 0) return Err(Errno::kRANGE);
  if (key == "rbps") {
    limits.bytes[IoGroup::kReads] = n;
  } else if (key == "wbps") {
    limits.bytes[IoGroup::kWrites] = n;
  } else if (key == "riops" || key == "wiops") {
    if (n != IoGroup::kMax) n = std::min(n, kMaxRequests);
    limits.requests[key == "riops" ? IoGroup::kReads : IoGroup::kWrites] = n;
  } else {
    return Err(Errno::kINVAL);
  }
  return {};
}

Result<> store_max(Ctx& c, std::string_view text) {
  const auto words = words_of(text);
  if (words.empty()) return Err(Errno::kINVAL);
  const uint64_t dev = TRY(disk_of(c, words[0]));
  if (!c.group.io) return Err(Errno::kNODEV);
  IoGroup::Limits limits;
  auto known = c.group.io->devices().find(dev);
  if (known != c.group.io->devices().end()) limits = known->second.limits;
  for (size_t i = 1; i < words.size(); ++i) TRY(set_one(limits, words[i]));
  c.group.io->set_limits(dev, limits);
  return {};
}

Result<std::string> show_stat(Ctx& c) {
  std::string out;
  if (!c.group.io) return out;
  for (const auto& [dev, d] : c.group.io->devices()) {
    const auto& [reads, writes, discards] = d.counts;
    if (reads.requests + writes.requests + discards.requests == 0) continue;
    absl::StrAppendFormat(&out, "%s rbytes=%d wbytes=%d rios=%d wios=%d dbytes=%d dios=%d\n",
                          number_of(dev), reads.bytes, writes.bytes, reads.requests,
                          writes.requests, discards.bytes, discards.requests);
  }
  return out;
}

constexpr Entry kEntries[] = {
    {.name = "io.max",
     .perm = 0644,
     .show = show_max,
     .store = store_max,
     .controller = kIoController},
    {.name = "io.stat", .perm = 0444, .show = show_stat, .controller = kIoController},
};

}  // namespace

std::span<const Entry> io_entries() { return kEntries; }

}  // namespace uk::cgroupfs
