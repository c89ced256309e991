#include "boot/disks.h"

#include "absl/strings/str_format.h"
#include "ukernel/dev/block/host_disk.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/dev/cow/cow_disk.h"
#include "ukernel/dev/loop/loop.h"
#include "ukernel/sched/reactor.h"

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
  Result<std::unique_ptr<BlockBackend>> opened = Err(Errno::kIO);
  // The calls may wait, for a slow host and for locks.
  kernel.reactor.offload(park, [&] {
    opened = d.cow.empty() ? open_host_disk(kernel.reactor, d.file, how)
                           : open_cow_disk(kernel.reactor, d.file, d.cow, how, why);
  });
  return opened;
}

}  // namespace

std::string add_disk(Park& park, Kernel& kernel, const DiskSpec& d) {
  if (!BlockDevices::valid_name(d.name))
    return "not a device name; use up to 24 letters and digits, a letter first";
  const char* const taken = "there is a disk of that name already; give another NAME";
  for (const Ref<Disk>& disk : kernel.disks->disks()) {
    if (disk->options.name == d.name) return taken;  // before its file is made
  }
  std::string why;
  auto backend = open_disk(park, kernel, d, why);
  if (!backend) return why.empty() ? why_not(d, backend.error()) : why;
  auto disk = kernel.disks->add(park, d.name, std::move(*backend), d.read_only);
  if (disk) return "";
  if (disk.error() == Errno::kEXIST) return taken;
  return std::string(errno_text(disk.error())) + "; give fewer disks";
}

std::string add_disks(Park& park, Kernel& kernel, const RunOptions& options) {
  for (const DiskSpec& d : options.disks) {
    if (std::string why = add_disk(park, kernel, d); !why.empty())
      return "disk " + d.name + "=" + d.file + ": " + why;
  }
  return "";
}

}  // namespace uk::boot
