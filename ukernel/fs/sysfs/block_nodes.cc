#include "ukernel/fs/sysfs/block_nodes.h"

#include "absl/strings/str_format.h"
#include "ukernel/dev/block/registry.h"

namespace uk::sysfs {
namespace {

constexpr const char* kPlace = "devices/virtual/block";

std::string number_of(const BlockDevice& d) {
  return absl::StrFormat("%d:%d", dev_major(d.rdev()), dev_minor(d.rdev()));
}

class BlockNodes {
 public:
  BlockNodes(Super& super, BlockDevices& disks) : tree_(Ref<Super>(&super)), disks_(disks) {}

  void make() {
    for (const char* path : {"block", "class/block", "dev/block", kPlace})
      tree_.dir(path).children.clear();
    disks_.each([this](BlockDevice& d) { add(d); });
  }

 private:
  void add(const BlockDevice& d) {
    const std::string disk = d.disk().options.name, name = d.name();
    const std::string below = d.number == 0 ? name : disk + "/" + name;
    const std::string at = std::string(kPlace) + "/" + below;
    if (d.number == 0) tree_.link("block/" + name, "../" + at);
    tree_.link("class/block/" + name, "../../" + at);
    tree_.link("dev/block/" + number_of(d), "../../" + at);
    add_common(d, at + "/");
    d.number == 0 ? add_disk(d, at + "/") : add_partition(d, at + "/");
  }

  // A file that tells of the device as it is when it is read.
  void live(const BlockDevice& d, const std::string& path, std::string (*show)(BlockDevice&)) {
    tree_.text(path, [&disks = disks_, show, rdev = d.rdev()] {
      Ref<BlockDevice> device = disks.find(rdev);
      return device == nullptr ? std::string() : show(*device) + "\n";
    });
  }

  void add_common(const BlockDevice& d, const std::string& at) {
    tree_.text(at + "dev", number_of(d));
    tree_.text(at + "uevent", absl::StrFormat("MAJOR=%d\nMINOR=%d\nDEVNAME=%s\nDEVTYPE=%s",
                                              dev_major(d.rdev()), dev_minor(d.rdev()), d.name(),
                                              d.number == 0 ? "disk" : "partition"));
    tree_.text(at + "alignment_offset", "0");
    tree_.text(at + "discard_alignment", "0");
    tree_.dir(at + "holders");
    tree_.link(at + "subsystem",
               d.number == 0 ? "../../../../class/block" : "../../../../../class/block");
    live(d, at + "size", [](BlockDevice& b) { return std::to_string(b.size() / kSectorSize); });
    live(d, at + "ro", [](BlockDevice& b) { return std::string(b.read_only() ? "1" : "0"); });
    live(d, at + "stat",
         [](BlockDevice& b) { return b.stats.text(b.disk().owner().vfs.clock().monotonic_ns()); });
    live(d, at + "inflight", [](BlockDevice& b) {
      return absl::StrFormat("%8d %8d", b.stats.in_flight_reads(), b.stats.in_flight_writes());
    });
  }

  void add_partition(const BlockDevice& d, const std::string& at) {
    tree_.text(at + "partition", std::to_string(d.number));
    tree_.text(at + "start", std::to_string(d.start / kSectorSize));
  }

  void add_disk(const BlockDevice& d, const std::string& at) {
    constexpr uint64_t kMaxKb = RequestQueue::kMaxRequestBytes / 1024;
    const bool discard = d.disk().backend().can_discard();
    tree_.dir(at + "slaves");
    const std::pair<const char*, std::string> constants[] = {
        {"removable", "0"},
        {"hidden", "0"},
        {"capability", "0"},
        {"range", std::to_string(d.disk().options.minors)},
        {"ext_range", std::to_string(d.disk().options.minors)},
        {"queue/logical_block_size", std::to_string(Disk::kLogicalBlock)},
        {"queue/hw_sector_size", std::to_string(Disk::kLogicalBlock)},
        {"queue/physical_block_size", std::to_string(Disk::kPhysicalBlock)},
        {"queue/minimum_io_size", std::to_string(Disk::kPhysicalBlock)},
        {"queue/optimal_io_size", "0"},
        {"queue/discard_granularity", discard ? std::to_string(Disk::kPhysicalBlock) : "0"},
        {"queue/discard_max_bytes", discard ? "1073741824" : "0"},
        {"queue/discard_max_hw_bytes", discard ? "1073741824" : "0"},
        {"queue/discard_zeroes_data", "0"},
        {"queue/write_zeroes_max_bytes", "1073741824"},
        {"queue/write_same_max_bytes", "0"},
        {"queue/max_sectors_kb", std::to_string(kMaxKb)},
        {"queue/max_hw_sectors_kb", std::to_string(kMaxKb)},
        {"queue/max_segments", std::to_string(RequestQueue::kMaxSegments)},
        {"queue/nr_requests", std::to_string(RequestQueue::kDepth)},
        {"queue/rotational", "0"},
        {"queue/scheduler", "[none]"},
        {"queue/add_random", "0"},
        {"queue/nomerges", "0"},
        {"queue/iostats", "1"},
        {"queue/zoned", "none"},
        {"queue/dax", "0"},
        {"queue/fua", "1"},
        {"queue/write_cache", "write back"},
    };
    for (const auto& [name, value] : constants) tree_.text(at + name, value);
    for (const auto& [name, value] : d.disk().backend().attributes()) tree_.text(at + name, value);
    live(d, at + "queue/read_ahead_kb",
         [](BlockDevice& b) { return std::to_string(b.read_ahead_sectors / 2); });
  }

  Builder tree_;
  BlockDevices& disks_;
};

}  // namespace

void follow_block_devices(Super& super, BlockDevices& disks) {
  super.refresh = [&disks, version = uint64_t{0}](Super& sb) mutable {
    if (sb.root == nullptr || std::exchange(version, disks.version) == disks.version) return;
    BlockNodes(sb, disks).make();
  };
  super.refresh(super);
}

}  // namespace uk::sysfs
