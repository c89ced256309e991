#include "boot/mounts.h"

#include <fcntl.h>

#include <memory>
#include <optional>

#include "absl/strings/str_format.h"
#include "boot/builtin_root.h"
#include "boot/device_events.h"
#include "boot/disks.h"
#include "hostio/sys/file.h"
#include "syscalls/userfaultfd.h"
#include "ukernel/dev/block/host_disk.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/dev/loop/loop.h"
#include "ukernel/dev/mem/kmsg.h"
#include "ukernel/dev/mem/mem_devices.h"
#include "ukernel/dev/tty/pty.h"
#include "ukernel/fs/cgroupfs/cgroupfs.h"
#include "ukernel/fs/devfs/devfs.h"
#include "ukernel/fs/devpts/devpts.h"
#include "ukernel/fs/ext4/ext4.h"
#include "ukernel/fs/hostfs/hostfs.h"
#include "ukernel/fs/initramfs/initramfs.h"
#include "ukernel/fs/mqueue/namespace_queues.h"
#include "ukernel/fs/overlay/overlay.h"
#include "ukernel/fs/pipefs/pipe.h"
#include "ukernel/fs/procfs/procfs.h"
#include "ukernel/fs/sysfs/sysfs.h"
#include "ukernel/fs/tmpfs/tmpfs.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/current.h"
#include "ukernel/task/fd_table.h"
#include "ukernel/task/io_group.h"
#include "ukernel/task/task.h"

namespace uk::boot {
namespace {

std::string sentence(const std::string& what, Errno e, const char* what_to_do) {
  return absl::StrFormat("%s: %s; %s", what, errno_text(e), what_to_do);
}

void register_all(Kernel& kernel) {
  register_tmpfs(kernel.vfs);
  kernel.disks = std::make_shared<BlockDevices>(kernel.vfs, kernel.reactor);
  register_devfs(kernel.vfs, *kernel.disks);
  register_ext4(kernel.vfs, *kernel.disks);
  register_procfs(kernel);
  register_sysfs(kernel.vfs, kernel.options.cpus, *kernel.disks);
  register_cgroupfs(kernel);
  register_devpts(kernel.vfs, register_ptys(kernel), [&kernel] {
    const Task* task = current_task(kernel.reactor);
    return task == nullptr || task->cred().user_ns == nullptr;
  });
  register_mqueue(kernel.vfs, [&kernel] {
    Task* task = current_task(kernel.reactor);
    return message_queues(kernel.vfs, task != nullptr ? task->ipc() : *kernel.ipc);
  });
  register_kmsg(kernel.vfs, kernel.guest_log);
  register_userfaultfd(kernel);
  register_mem_devices(kernel.vfs, [&kernel](std::span<std::byte> out) { kernel.random(out); });
  kernel.vfs.set_fifo_opener([](Park& park, const Path& path, int flags, const Cred&) {
    return open_fifo(park, path, flags);
  });
  kernel.pipefs = make_pipefs();
}

Result<Ref<SuperBlock>> builtin_root(Park& park, Vfs& vfs, Ref<Inode>* root) {
  TmpfsOptions options;
  options.mode = 0755;
  Ref<SuperBlock> sb = make_tmpfs(vfs, options, root);
  // What starts at a page boundary there is mapped straight from our own program's file.
  std::optional<ArchiveFile> file;
  auto self = sys::open("/proc/self/exe", O_RDONLY);
  auto offset = builtin_root_file_offset();
  if (self && offset) file = {std::make_shared<sys::Fd>(std::move(*self)), *offset};
  TRY(unpack_initramfs(park, vfs, *root, builtin_root_cpio(), file));
  return sb;
}

// Writes to a root go into memory from here on.
std::string overlay_memory(Vfs& vfs, Ref<SuperBlock>* sb, Ref<Inode>* root) {
  TmpfsOptions upper_options;
  upper_options.mode = 0755;
  upper_options.max_pages = upper_options.max_inodes = vfs.mem().total_pages() / 2;
  Ref<Inode> upper, lower = *root;
  Ref<SuperBlock> memory = make_tmpfs(vfs, upper_options, &upper);
  auto overlay = make_overlay(vfs, upper, lower, root);
  if (!overlay) return sentence("overlay", overlay.error(), "give a larger --mem");
  *sb = *overlay;
  return "";
}

// An image as the root: the first disk whose name nobody else wants.
std::string add_root_disk(Park& park, Kernel& kernel, const RunOptions& options,
                          Ref<BlockDevice>* device) {
  const std::string what = "root image:" + options.root.path;
  std::string name;
  for (char letter = 'a'; letter <= 'z' && name.empty(); ++letter) {
    name = std::string("vd") + letter;
    for (const DiskSpec& d : options.disks) {
      if (d.name == name) name.clear();
    }
  }
  if (name.empty()) return what + ": no name is left for its disk; give fewer disks";
  auto backend =
      open_host_disk(kernel.reactor, options.root.path, {.read_only = !options.root.writable});
  if (!backend && backend.error() == Errno::kAGAIN)
    return what + ": in use by another process; end that, or give both :ro";
  if (!backend)
    return sentence(what, backend.error(),
                    options.root.writable ? "give an image you can read and write, or add :ro"
                                          : "give an image you can read");
  auto disk = kernel.disks->add(park, name, std::move(*backend), !options.root.writable);
  if (!disk) return sentence(what, disk.error(), "give fewer disks");
  *device = Ref<BlockDevice>(&(*disk)->whole());
  return "";
}

// The root as --root and --overlay say.
std::string mount_slash(Park& park, Kernel& kernel, const RunOptions& options) {
  Vfs& vfs = kernel.vfs;
  Ref<Inode> root;
  Ref<SuperBlock> sb;
  std::string source = "rootfs";
  if (options.root.kind == RootSpec::Kind::kBuiltin) {
    auto made = builtin_root(park, vfs, &root);
    if (!made) return sentence("root builtin", made.error(), "give a larger --mem");
    sb = *made;
  } else if (options.root.kind == RootSpec::Kind::kImage) {
    Ref<BlockDevice> device;
    if (std::string why = add_root_disk(park, kernel, options, &device); !why.empty()) return why;
    source = "/dev/" + device->name();
    auto made =
        mount_ext4(park, *kernel.disks, device, {.read_only = !options.root.writable}, &root);
    if (!made)
      return sentence("root image:" + options.root.path, made.error(),
                      "give an ext4 image that is whole (e2fsck); --dmesg says more");
    sb = *made;
    if (!options.root.writable && options.overlay == RunOptions::Overlay::kMemory) {
      if (std::string why = overlay_memory(vfs, &sb, &root); !why.empty()) return why;
      source = "overlay";
    }
  } else {
    source = options.root.path;
    // Through its own ".", which needs the right to search it besides that to read it.
    if (auto readable = sys::open((source + "/.").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        !readable)
      return sentence("root " + source, readable.error(),
                      "give a directory you can read to --root=dir:PATH");
    auto made = make_hostfs(
        vfs, source, {.writable = options.root.writable, .stable = !options.root.writable}, &root);
    if (!made)
      return sentence("root " + source, made.error(),
                      "give a directory you can read to --root=dir:PATH");
    sb = *made;
    if (!options.root.writable && options.overlay == RunOptions::Overlay::kMemory) {
      if (std::string why = overlay_memory(vfs, &sb, &root); !why.empty()) return why;
      source = "overlay";
    } else if (!options.root.writable) {
      sb->read_only = true;
    }
  }
  auto mounted = vfs.new_root(park, *kernel.mounts, sb, root, source, 0);
  if (!mounted) return sentence("root " + source, mounted.error(), "give another --root");
  return "";
}

// Mounts a pseudo filesystem if its type exists and the root has the directory.
void mount_if_possible(Park& park, Kernel& kernel, const FsContext& ctx, const char* type,
                       const char* at, const std::string& options = "") {
  for (const FsType& t : kernel.vfs.fs_types()) {
    if (t.name != type) continue;
    auto path = kernel.vfs.walk(park, ctx, {}, at, kWalkFollow | kWalkDirectory);
    if (!path) return;
    auto mounted = kernel.vfs.mount(park, ctx, *path, type, type, options, kMntRelatime);
    if (!mounted)
      kernel.log.warn(absl::StrFormat("mount %s on %s: %s", type, at, errno_text(mounted.error())));
  }
}

std::string mount_host_dirs(Park& park, Kernel& kernel, const FsContext& ctx,
                            const RunOptions& options) {
  for (const MountSpec& m : options.mounts) {
    const std::string what = absl::StrFormat("mount %s:%s", m.host, m.guest);
    auto at = kernel.vfs.walk(park, ctx, {}, m.guest, kWalkFollow | kWalkDirectory);
    if (!at && at.error() == Errno::kNOENT) {
      if (auto made = kernel.vfs.mkdir(park, ctx, {}, m.guest, 0755); !made)
        return sentence(what, made.error(), "give a guest directory that exists");
      at = kernel.vfs.walk(park, ctx, {}, m.guest, kWalkFollow | kWalkDirectory);
    }
    if (!at) return sentence(what, at.error(), "give a guest directory that exists");
    Ref<Inode> root;
    auto sb = make_hostfs(kernel.vfs, m.host, {.writable = !m.read_only, .stable = false}, &root);
    if (!sb) return sentence(what, sb.error(), "give a host directory you can read");
    auto dentry = make_ref<Dentry>(nullptr, "", root);
    auto mounted = kernel.vfs.attach(*kernel.mounts, *at, *sb, dentry, m.host,
                                     kMntRelatime | (m.read_only ? uint32_t{kMntRdonly} : 0u));
    if (!mounted) return sentence(what, mounted.error(), "give another guest directory");
  }
  return "";
}

IoKind io_kind(BlockOp op) {
  if (op == BlockOp::kRead) return IoKind::kRead;
  return op == BlockOp::kDiscard ? IoKind::kDiscard : IoKind::kWrite;
}

// Control groups pay for what is done to disks.
void let_cgroups_pay(Kernel& kernel) {
  BlockPayment& payment = kernel.disks->payment;
  payment.charge = [&kernel](Park& park, uint64_t dev, BlockOp op, uint64_t bytes,
                             RefCounted* payer) -> Result<> {
    if (op == BlockOp::kFlush) return {};
    return charge_io(kernel, park, static_cast<Cgroup*>(payer), dev, io_kind(op), bytes);
  };
  payment.payer = [&kernel]() -> Ref<RefCounted> {
    const Task* task = current_task(kernel.reactor);
    if (task == nullptr) return nullptr;
    return Ref<RefCounted>(task->group->cgroup ? task->group->cgroup : kernel.cgroups->root);
  };
}

// Loop devices are told of files by their descriptors.
void make_loop_devices(Kernel& kernel) {
  register_loop(*kernel.disks, [](IoctlUser& user, int fd) -> Result<Ref<File>> {
    Task* task = user.task();
    return task == nullptr ? Err(Errno::kBADF) : task->fds().get(fd);
  });
}

// Devices that come and go later do so in /dev of the first mount namespace too, and are told of.
void follow_devices(Kernel& kernel) {
  auto events = std::make_shared<DeviceEvents>(kernel);
  kernel.disks->on_change = [&kernel, events](Park& park, BlockDevice& device, bool there) {
    auto cred = make_ref<Cred>();
    FsContext ctx = kernel_root_context(kernel, cred);
    const std::string path = "/dev/" + device.name();
    Result<> r = there ? kernel.vfs.mknod(park, ctx, {}, path, S_IFBLK | kDiskMode, device.rdev())
                       : kernel.vfs.unlink(park, ctx, {}, path);
    if (!r) kernel.log.warn(absl::StrFormat("%s: %s", path, errno_text(r.error())));
    events->tell(device, there);
  };
}

}  // namespace

FsContext kernel_root_context(Kernel& kernel, const Ref<Cred>& cred) {
  Path root(kernel.mounts->root, kernel.mounts->root->root);
  return FsContext{root, root, cred.get(), 022, kernel.mounts.get()};
}

std::string mount_root(Park& park, Kernel& kernel, const RunOptions& options) {
  register_all(kernel);
  if (std::string why = mount_slash(park, kernel, options); !why.empty()) return why;
  auto cred = make_ref<Cred>();
  FsContext ctx = kernel_root_context(kernel, cred);
  if (std::string why = add_disks(park, kernel, options); !why.empty()) return why;
  make_loop_devices(kernel);
  follow_devices(kernel);
  let_cgroups_pay(kernel);
  if (auto dev = mount_dev(park, kernel.vfs, ctx); !dev)
    kernel.log.warn(absl::StrFormat("mount /dev: %s", errno_text(dev.error())));
  mount_if_possible(park, kernel, ctx, "proc", "/proc");
  mount_if_possible(park, kernel, ctx, "sysfs", "/sys");
  mount_if_possible(park, kernel, ctx, "cgroup2", "/sys/fs/cgroup");
  if (kernel.mounts->root->read_only()) {  // nothing else would be writable
    mount_if_possible(park, kernel, ctx, "tmpfs", "/tmp", "mode=1777");
    mount_if_possible(park, kernel, ctx, "tmpfs", "/run", "mode=755");
  }
  return mount_host_dirs(park, kernel, ctx, options);
}

}  // namespace uk::boot
