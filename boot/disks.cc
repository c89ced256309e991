#include "boot/disks.h"

#include "absl/strings/str_format.h"
#include "ukernel/dev/block/host_disk.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/dev/cow/cow_disk.h"
#include "ukernel/dev/loop/loop.h"

namespace uk::boot {
namespace {

std::string why_not(const DiskSpec& d, Errno error) {
  if (error == Errno::kAGAIN) return "in use by another process; end that, or give both ,ro";
  if (error == Errno::kINVAL)
    return d.direct ? "not a file that can be used past the host's cache; leave ,direct out"
                    : "neither a file nor a block device; give one of these";
  return absl::StrFormat(
      "%s; %s", errno_text(error),
      d.read_only ? "give a file you can read" : "give a file you can read and write, or add ,ro");
}

Result<std::unique_ptr<BlockBackend>> open_disk(Park& park, Kernel& kernel, const DiskSpec& d,
                                                std::string& why) {
  if (d.ram_bytes != 0) {
    if (d.ram_bytes > kernel.vfs.mem().total_pages() * kPageSize) {
      why = "larger than the guest's memory; give a larger --mem";
      return Err(Errno::kNOMEM);
    }
    return make_ram_disk(park, *kernel.disks, d.ram_bytes);
  }
  const HostDiskOptions how = {d.read_only, d.sync, d.direct};
  return d.cow.empty() ? open_host_disk(kernel.reactor, d.file, how)
                       : open_cow_disk(kernel.reactor, d.file, d.cow, how, why);
}

}  // namespace

std::string add_disks(Park& park, Kernel& kernel, const RunOptions& options) {
  for (const DiskSpec& d : options.disks) {
    const std::string what = "disk " + d.name + "=" + d.file + ": ";
    if (!BlockDevices::valid_name(d.name))
      return what + "not a device name; use up to 24 letters and digits, a letter first";
    std::string why;
    auto backend = open_disk(park, kernel, d, why);
    if (!backend) return what + (why.empty() ? why_not(d, backend.error()) : why);
    if (auto disk = kernel.disks->add(park, d.name, std::move(*backend), d.read_only); !disk)
      return what + std::string(errno_text(disk.error())) + "; give fewer disks";
  }
  return "";
}

}  // namespace uk::boot
