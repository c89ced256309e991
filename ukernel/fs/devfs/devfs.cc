#include "ukernel/fs/devfs/devfs.h"

#include "ukernel/dev/block/registry.h"

namespace uk {
namespace {

struct Node {
  const char* name;
  uint32_t mode;
  uint32_t major, minor;
};
constexpr Node kNodes[] = {
    {"kmsg", S_IFCHR | 0644, 1, 11},
    {"userfaultfd", S_IFCHR | 0600, 10, 126},
    {"null", S_IFCHR | 0666, 1, 3},
    {"zero", S_IFCHR | 0666, 1, 5},
    {"full", S_IFCHR | 0666, 1, 7},
    {"random", S_IFCHR | 0666, 1, 8},
    {"urandom", S_IFCHR | 0666, 1, 9},
    {"tty", S_IFCHR | 0666, 5, 0},
    {"console", S_IFCHR | 0600, 5, 1},
    {"ptmx", S_IFCHR | 0666, 5, 2},
    {"loop-control", S_IFCHR | 0660, 10, 237},
};
constexpr uint32_t kDiskGroup = 6;  // "disk" of Debian, as its udev rules say

struct Link {
  const char* name;
  const char* target;
};
constexpr Link kLinks[] = {
    {"fd", "/proc/self/fd"},
    {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"},
    {"stderr", "/proc/self/fd/2"},
};

const FsType* find_type(Vfs& vfs, std::string_view name) {
  for (const FsType& t : vfs.fs_types()) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

Result<> fill(Park& park, Inode& root, BlockDevices& disks) {
  std::vector<std::pair<std::string, uint64_t>> devices;
  disks.each([&](BlockDevice& d) { devices.emplace_back(d.name(), d.rdev()); });
  for (const auto& [name, rdev] : devices) {
    MakeNode make;
    make.mode = S_IFBLK | kDiskMode;
    make.gid = kDiskGroup;
    make.rdev = rdev;
    TRY(root.create(park, name, make));
  }
  for (const Node& n : kNodes) {
    MakeNode make;
    make.mode = n.mode;
    make.rdev = make_dev(n.major, n.minor);
    TRY(root.create(park, n.name, make));
  }
  for (const Link& l : kLinks) {
    MakeNode make;
    make.mode = S_IFLNK | 0777;
    make.symlink_target = l.target;
    TRY(root.create(park, l.name, make));
  }
  for (const char* dir : {"pts", "shm", "mqueue"}) {
    MakeNode make;
    make.mode = S_IFDIR | 0755;
    TRY(root.create(park, dir, make));
  }
  return {};
}

Result<> mount_at(Park& park, Vfs& vfs, const FsContext& ctx, const char* at, const char* type,
                  const char* options, uint32_t flags) {
  Path path = TRY(vfs.walk(park, ctx, {}, at, kWalkFollow | kWalkDirectory));
  TRY(vfs.mount(park, ctx, path, type, type, options, flags | kMntRelatime));
  return {};
}

}  // namespace

void register_devfs(Vfs& vfs, BlockDevices& disks) {
  vfs.register_fs(
      {"devtmpfs", false,
       [&disks](Park& park, Vfs& v, const std::string& source, const std::string& options,
                Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
         const FsType* tmpfs = find_type(v, "tmpfs");
         if (tmpfs == nullptr) return Err(Errno::kNODEV);
         std::string all = "mode=755";
         if (!options.empty()) all += "," + options;
         Ref<SuperBlock> sb = TRY(tmpfs->mount(park, v, source, all, root));
         TRY(fill(park, **root, disks));
         return sb;
       }});
}

Result<> mount_dev(Park& park, Vfs& vfs, const FsContext& ctx) {
  TRY(mount_at(park, vfs, ctx, "/dev", "devtmpfs", "", kMntNosuid));
  if (find_type(vfs, "devpts") != nullptr) {
    TRY(mount_at(park, vfs, ctx, "/dev/pts", "devpts", "gid=5,mode=620,ptmxmode=666",
                 kMntNosuid | kMntNoexec));
  }
  TRY(mount_at(park, vfs, ctx, "/dev/shm", "tmpfs", "mode=1777", kMntNosuid | kMntNodev));
  return {};
}

}  // namespace uk
