#include "ukernel/dev/loop/loop.h"

#include <linux/loop.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ukernel/dev/block/block_file.h"
#include "ukernel/dev/block/disk_cache.h"
#include "ukernel/dev/loop/file_backend.h"

namespace uk {
namespace {

constexpr uint32_t kControlMajor = 10, kControlMinor = 237;
constexpr uint32_t kSettable = LO_FLAGS_AUTOCLEAR;

class LoopBackend final : public FileBackend {
 public:
  LoopBackend(LoopDevices& owner, int number)
      : FileBackend(owner.devices.reactor), owner_(owner), number_(number) {}

  void set_disk(Disk& disk) { disk_ = &disk; }
  // Free: another file may be bound. One that was cleared is neither, until its last close.
  bool free() const { return file() == nullptr; }
  bool bound() const { return !free() && !cleared_; }

  Result<int64_t> ioctl(Park& park, BlockFile& by, IoctlUser& user, uint32_t cmd,
                        uint64_t arg) override {
    switch (cmd) {
      case LOOP_SET_FD:
        TRY(configure(park, by, user, static_cast<int>(arg), {}));
        return 0;
      case LOOP_CONFIGURE: {
        struct loop_config config = {};
        TRY(user.copy_in(park, std::as_writable_bytes(std::span(&config, 1)), arg));
        if (config.block_size != 0 && config.block_size != Disk::kLogicalBlock)
          return Err(Errno::kINVAL);
        TRY(configure(park, by, user, static_cast<int>(config.fd), config.info));
        return 0;
      }
      case LOOP_CLR_FD:
        return clear();
      case LOOP_GET_STATUS64:
        return get_status(park, user, arg);
      case LOOP_SET_STATUS64: {
        struct loop_info64 info = {};
        TRY(may_set(by, user));
        TRY(user.copy_in(park, std::as_writable_bytes(std::span(&info, 1)), arg));
        return set_status(park, info);
      }
      case LOOP_SET_CAPACITY:
        TRY(may_set(by, user));
        if (!bound()) return Err(Errno::kNXIO);
        TRY(measure(park));
        disk_->revalidate(park);
        return 0;
      case LOOP_SET_BLOCK_SIZE:
        TRY(may_set(by, user));
        if (!bound()) return Err(Errno::kNXIO);
        return arg == Disk::kLogicalBlock ? Result<int64_t>(0) : Err(Errno::kINVAL);
      case LOOP_SET_DIRECT_IO:
        TRY(may_set(by, user));
        if (!bound()) return Err(Errno::kNXIO);
        return arg == 0 ? Result<int64_t>(0) : Err(Errno::kINVAL);
      default:
        return Err(Errno::kNOTTY);
    }
  }

  void last_close(Park& park) override {
    if (!free() && (cleared_ || (flags_ & LO_FLAGS_AUTOCLEAR) != 0)) let_go(park);
  }

  std::vector<std::pair<std::string, std::string>> attributes() const override {
    if (!bound()) return {};
    return {{"loop/backing_file", backing_name()},
            {"loop/offset", std::to_string(offset())},
            {"loop/sizelimit", std::to_string(limit())},
            {"loop/autoclear", (flags_ & LO_FLAGS_AUTOCLEAR) != 0 ? "1" : "0"},
            {"loop/partscan", "0"},
            {"loop/dio", "0"}};
  }
  std::string where() const override { return free() ? "" : backing_name(); }

 private:
  std::string backing_name() const { return owner_.devices.vfs.path_name(file()->path(), Path()); }

  static Result<> may_set(const BlockFile& by, IoctlUser& user) {
    return by.can_write() || user.cred().has(Cap::kSysAdmin) ? Result<>() : Err(Errno::kPERM);
  }

  static Result<> check(const struct loop_info64& info) {
    if (info.lo_encrypt_type != 0 || info.lo_encrypt_key_size != 0) return Err(Errno::kINVAL);
    constexpr uint64_t kMaxOffset = INT64_MAX;
    return info.lo_offset > kMaxOffset || info.lo_sizelimit > kMaxOffset ? Err(Errno::kOVERFLOW)
                                                                         : Result<>();
  }

  // A chain of loop devices must not end in this one.
  Result<> check_file(File& f) {
    const Inode* inode = f.inode();
    if (inode == nullptr || (f.flags & O_PATH) != 0) return Err(Errno::kBADF);
    for (auto* file = dynamic_cast<BlockFile*>(&f); file != nullptr;) {
      auto* below = dynamic_cast<LoopBackend*>(&file->device().disk().backend());
      if (below == nullptr) break;
      if (below == this) return Err(Errno::kBADF);
      if (!below->bound()) return Err(Errno::kINVAL);
      file = dynamic_cast<BlockFile*>(below->file());
    }
    const bool right = is_type(inode->type(), S_IFREG) || is_type(inode->type(), S_IFBLK);
    return right ? Result<>() : Err(Errno::kINVAL);
  }

  Result<> configure(Park& park, BlockFile& by, IoctlUser& user, int fd,
                     const struct loop_info64& info) {
    Ref<File> given = TRY(owner_.file_of(user, fd));
    constexpr uint32_t kKnown =
        LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_PARTSCAN | LO_FLAGS_DIRECT_IO;
    if ((info.lo_flags & ~kKnown) != 0) return Err(Errno::kINVAL);
    // DEVIATION: these are refused; see docs/CAVEATS.md.
    if ((info.lo_flags & (LO_FLAGS_PARTSCAN | LO_FLAGS_DIRECT_IO)) != 0) return Err(Errno::kINVAL);
    if (!free() || binding_) return Err(Errno::kBUSY);
    TRY(check_file(*given));
    TRY(check(info));
    if (!given->can_read()) return Err(Errno::kBADF);
    const bool read_only =
        (info.lo_flags & LO_FLAGS_READ_ONLY) != 0 || !given->can_write() || !by.can_write();
    // A description of our own: flags of the caller's, and its position, are not ours.
    binding_ = true;
    Result<Ref<File>> own = owner_.devices.vfs.open_path(
        park, given->path(), (read_only ? O_RDONLY : O_RDWR) | O_LARGEFILE, user.cred());
    binding_ = false;
    if (!own) return Err(own.error());
    if (!free()) return Err(Errno::kBUSY);
    bind(std::move(*own), info.lo_offset, info.lo_sizelimit);
    flags_ = (info.lo_flags & kSettable) | (read_only ? uint32_t{LO_FLAGS_READ_ONLY} : 0u);
    take_name(info);
    if (Result<> r = measure(park); !r) {
      unbind(park);
      return r;
    }
    disk_->whole().set_read_only = read_only;
    changed(park);
    return {};
  }

  void take_name(const struct loop_info64& info) {
    const auto* name = reinterpret_cast<const char*>(info.lo_file_name);
    name_.assign(name, strnlen(name, LO_NAME_SIZE - 1));
  }

  void changed(Park& park) {
    disk_->revalidate(park);
    ++owner_.devices.version;
  }

  // The file goes with the last close; with nobody else who has the device open, nothing but reads
  // and writes is left until then. (__loop_clr_fd() in Linux since 5.17.)
  Result<int64_t> clear() {
    if (!bound()) return Err(Errno::kNXIO);
    flags_ |= LO_FLAGS_AUTOCLEAR;
    cleared_ = disk_->whole().opens == 1;
    return 0;
  }

  void let_go(Park& park) {
    Ref<BlockDevice> whole(&disk_->whole());
    if (whole->cache_if_any() != nullptr) {
      Ref<DiskCache> cache = whole->cache();
      (void)cache->sync(park, 0, UINT64_MAX);
      if (cache->observers().empty()) cache->forget(park, 0, UINT64_MAX);
    }
    unbind(park);
    flags_ = 0;
    cleared_ = false;
    name_.clear();
    whole->set_read_only = false;
    changed(park);
  }

  Result<int64_t> get_status(Park& park, IoctlUser& user, uint64_t arg) {
    if (!bound()) return Err(Errno::kNXIO);
    Ref<File> backing(file());
    const FileAttr attr = TRY(backing->getattr(park));
    struct loop_info64 info = {};
    info.lo_device = attr.dev;
    info.lo_inode = attr.ino;
    info.lo_rdevice = attr.rdev;
    info.lo_offset = offset();
    info.lo_sizelimit = limit();
    info.lo_number = static_cast<uint32_t>(number_);
    info.lo_flags = flags_;
    name_.copy(reinterpret_cast<char*>(info.lo_file_name), LO_NAME_SIZE - 1);
    TRY(user.copy_out(park, arg, std::as_bytes(std::span(&info, 1))));
    return 0;
  }

  Result<int64_t> set_status(Park& park, const struct loop_info64& info) {
    if (!bound()) return Err(Errno::kNXIO);
    TRY(check(info));
    // DEVIATION: partitions of loop devices are not looked for; see docs/CAVEATS.md.
    if ((info.lo_flags & LO_FLAGS_PARTSCAN) != 0) return Err(Errno::kINVAL);
    if (info.lo_offset != offset() || info.lo_sizelimit != limit()) {
      Ref<DiskCache> cache = disk_->whole().cache();
      TRY(cache->sync(park, 0, UINT64_MAX));
      if (cache->observers().empty()) cache->forget(park, 0, UINT64_MAX);
      if (!bound()) return Err(Errno::kNXIO);
      bind(Ref<File>(file()), info.lo_offset, info.lo_sizelimit);
      TRY(measure(park));
    }
    flags_ = (flags_ & ~kSettable) | (info.lo_flags & kSettable);
    take_name(info);
    changed(park);
    return 0;
  }

  LoopDevices& owner_;
  const int number_;
  Disk* disk_ = nullptr;  // which owns us
  uint32_t flags_ = 0;
  bool binding_ = false, cleared_ = false;
  std::string name_;  // lo_file_name: the guest's, for itself
};

LoopBackend* loop_of(Disk& disk) { return dynamic_cast<LoopBackend*>(&disk.backend()); }

class LoopControl final : public File {
 public:
  LoopControl(Path path, int flags, LoopDevices& loops)
      : File(std::move(path), flags), loops_(loops) {}
  Result<int64_t> ioctl(Park& park, IoctlUser&, uint32_t cmd, uint64_t arg) override {
    const auto number = static_cast<int>(arg);
    switch (cmd) {
      case LOOP_CTL_ADD:
        return TRY(loops_.add(park, number));
      case LOOP_CTL_REMOVE:
        return TRY(loops_.remove(park, number));
      case LOOP_CTL_GET_FREE:
        return TRY(loops_.get_free(park));
      default:
        return Err(Errno::kNOSYS);  // as Linux
    }
  }

 private:
  LoopDevices& loops_;
};

}  // namespace

LoopDevices::LoopDevices(BlockDevices& devices, FileOf file_of)
    : devices(devices), file_of(std::move(file_of)) {}

Disk* LoopDevices::find(int number) const {
  for (const Ref<Disk>& disk : devices.disks()) {
    if (disk->options.major == kMajor && disk->options.first_minor == static_cast<uint32_t>(number))
      return disk.get();
  }
  return nullptr;
}

Result<int> LoopDevices::add(Park& park, int number) {
  if (number < 0) {
    number = 0;
    while (number < static_cast<int>(kMax) && find(number) != nullptr) ++number;
  }
  if (number >= static_cast<int>(kMax)) return Err(Errno::kNOSPC);
  if (find(number) != nullptr) return Err(Errno::kEXIST);
  Disk::Options options;
  options.name = absl::StrCat("loop", number);
  options.major = kMajor;
  options.first_minor = static_cast<uint32_t>(number);
  options.minors = 1;
  options.partitions = false;
  auto backend = std::make_unique<LoopBackend>(*this, number);
  LoopBackend* loop = backend.get();
  loop->set_disk(*TRY(devices.add(park, std::move(options), std::move(backend))));
  return number;
}

Result<int> LoopDevices::remove(Park& park, int number) {
  if (number < 0) return Err(Errno::kINVAL);
  Ref<Disk> disk(find(number));
  if (disk == nullptr) return Err(Errno::kNODEV);
  if (!loop_of(*disk)->free() || disk->whole().opens != 0) return Err(Errno::kBUSY);
  devices.remove(park, *disk);
  return number;
}

Result<int> LoopDevices::get_free(Park& park) {
  for (int number = 0; number < static_cast<int>(kMax); ++number) {
    Disk* disk = find(number);
    if (disk == nullptr) return add(park, number);
    if (loop_of(*disk)->free()) return number;
  }
  return Err(Errno::kNOSPC);
}

std::shared_ptr<LoopDevices> register_loop(BlockDevices& devices, LoopDevices::FileOf file_of) {
  auto loops = std::make_shared<LoopDevices>(devices, std::move(file_of));
  devices.register_major(LoopDevices::kMajor, LoopDevices::kMax, "loop");
  devices.vfs.register_device(
      false, kControlMajor, kControlMinor, 1, "misc",
      {[loops](Park&, const Path& path, int flags, const Cred&, uint64_t) -> Result<Ref<File>> {
        return Ref<File>(make_ref<LoopControl>(path, flags, *loops));
      }});
  return loops;
}

Result<std::unique_ptr<BlockBackend>> make_ram_disk(Park& park, BlockDevices& devices,
                                                    uint64_t bytes) {
  auto cred = make_ref<Cred>();
  Ref<File> file = TRY(devices.vfs.memory_file(park, *cred, "/ramdisk", 0600));
  TRY(file->truncate(park, bytes));
  auto backend = std::make_unique<FileBackend>(devices.reactor);
  backend->bind(std::move(file), 0, 0);
  TRY(backend->measure(park));
  return std::unique_ptr<BlockBackend>(std::move(backend));
}

}  // namespace uk
