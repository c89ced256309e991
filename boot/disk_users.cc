#include "boot/disk_users.h"

#include <set>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "ukernel/dev/block/block_file.h"
#include "ukernel/dev/block/disk.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/dev/loop/file_backend.h"
#include "ukernel/task/fd_table.h"
#include "ukernel/task/task.h"
#include "ukernel/vfs/mount.h"

namespace uk::boot {
namespace {

constexpr size_t kMost = 4;  // of a kind are named

std::string listed(const std::vector<std::string>& names) {
  const size_t n = std::min(names.size(), kMost);
  std::string text = absl::StrJoin(names.begin(), names.begin() + static_cast<ptrdiff_t>(n), ", ");
  return names.size() > n ? absl::StrCat(text, " and ", names.size() - n, " more") : text;
}

// The first namespace's places; elsewhere there are only others' words for them.
std::string mounted(Kernel& kernel, const BlockDevice& device) {
  std::vector<std::string> places;
  const Path root(kernel.mounts->root, kernel.mounts->root->root);
  for (const auto& [id, mount] : kernel.mounts->mounts) {
    if (mount->sb.get() == device.filesystem)
      places.push_back(absl::CHexEscape(kernel.vfs.path_name(Path(mount, mount->root), root)));
  }
  if (places.empty()) return "mounted in another mount namespace, or still in use there";
  return "mounted on " + listed(places);
}

std::vector<std::string> processes(Kernel& kernel, const BlockDevice& device) {
  std::vector<std::string> names;
  std::set<int> seen;
  kernel.pids.each_task([&](Task& task) {
    if (task.fds_ == nullptr || seen.contains(task.group->tgid)) return;
    task.fds_->each([&](int, File& file) {
      const auto* open = dynamic_cast<BlockFile*>(&file);
      if (open == nullptr || &open->device() != &device) return;
      if (seen.insert(task.group->tgid).second)
        names.push_back(absl::StrCat(task.group->tgid, " (", absl::CHexEscape(task.comm), ")"));
    });
  });
  return names;
}

std::vector<std::string> loops(Kernel& kernel, const BlockDevice& device) {
  std::vector<std::string> names;
  for (const Ref<Disk>& disk : kernel.disks->disks()) {
    const auto* loop = dynamic_cast<FileBackend*>(&disk->backend());
    const auto* file = loop == nullptr ? nullptr : dynamic_cast<BlockFile*>(loop->file());
    if (file != nullptr && &file->device() == &device) names.push_back(disk->options.name);
  }
  return names;
}

void look(Kernel& kernel, const BlockDevice& device, std::vector<std::string>& found) {
  const std::string is = device.name() + " is ";
  int unnamed = device.opens;
  if (device.filesystem != nullptr) {
    found.push_back(is + mounted(kernel, device));
    --unnamed;
  }
  if (auto names = processes(kernel, device); !names.empty()) {
    found.push_back(absl::StrCat(is, "open in process ", listed(names)));
    unnamed = 0;
  }
  if (auto names = loops(kernel, device); !names.empty()) {
    found.push_back(is + "what stands behind " + listed(names));
    unnamed = 0;
  }
  if (unnamed > 0) found.push_back(is + "open or mapped");
}

}  // namespace

std::string disk_users(Kernel& kernel, const Disk& disk) {
  std::vector<std::string> found;
  if (disk.mirror != nullptr)
    found.push_back(disk.options.name + " is being mirrored (mirror --cancel ends that)");
  if (!disk.removed()) {
    look(kernel, disk.whole(), found);
    for (const auto& [number, part] : disk.partitions()) look(kernel, *part, found);
  }
  return absl::StrJoin(found, ", ");
}

}  // namespace uk::boot
