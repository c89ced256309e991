// fsopen(2), fspick(2), fsconfig(2), fsmount(2): a filesystem configured step by step, with a log
// of what was wrong, which read(2) tells.
#include <fcntl.h>

#include <deque>

#include "absl/strings/str_format.h"
#include "syscalls/fs_common.h"
#include "syscalls/fs_mount.h"
#include "syscalls/fs_mount_new.h"
#include "syscalls/mount_attr.h"
#include "ukernel/vfs/anon_inode.h"

namespace uk {
namespace {

enum Command : unsigned {
  kSetFlag,
  kSetString,
  kSetBinary,
  kSetPath,
  kSetPathEmpty,
  kSetFd,
  kCreate,
  kReconfigure,
  kCreateExcl,
};

constexpr size_t kMaxParameter = 256;  // of a key and of a value
constexpr size_t kMaxOptions = 4095;   // all together, as mount(2)'s data
constexpr size_t kMaxLog = 8;          // the oldest messages go

class FsContextFile final : public File {
 public:
  // What may come next.
  enum class Phase : uint8_t { kParameters, kCreated, kReconfigure, kFailed };

  FsContextFile(std::string type, Phase phase)
      : File(make_anon_path("fscontext"), O_RDWR), type(std::move(type)), phase(phase) {}

  // One message a read, none left: kNODATA.
  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    if (log_.empty()) return Err(Errno::kNODATA);
    if (log_.front().size() > to.remaining()) return Err(Errno::kMSGSIZE);
    const std::string message = std::move(log_.front());
    log_.pop_front();
    return to.put(park, std::as_bytes(std::span(message)));
  }
  std::unexpected<Errno> complain(Errno error, std::string_view what) {
    if (log_.size() >= kMaxLog) log_.pop_front();
    log_.push_back(absl::StrFormat("e %s: %s\n", type, what));
    return Err(error);
  }

  const std::string type;
  Phase phase;
  std::string source, options;
  std::optional<bool> read_only;
  Vfs::NewSuper super;  // once created
  Path picked;          // by fspick(2): the root of a mount

 private:
  std::deque<std::string> log_;
};

using Phase = FsContextFile::Phase;

Result<Ref<FsContextFile>> context_of(Task& task, Fd fd) {
  Ref<File> file = TRY(task.fds().get_io(fd));
  if (dynamic_cast<FsContextFile*>(file.get()) == nullptr) return Err(Errno::kINVAL);
  return static_ref_cast<FsContextFile>(file);
}

// Parameters of every filesystem. True if it was one of these.
Result<bool> common_parameter(FsContextFile& c, std::string_view key,
                              const std::optional<std::string>& value) {
  if (key == "ro" || key == "rw") {
    c.read_only = key == "ro";
    return true;
  }
  for (std::string_view known : {"sync", "async", "dirsync", "lazytime", "nolazytime", "mand"})
    if (key == known) return true;  // no effect on filesystems in memory
  if (key != "source") return false;
  if (!value) return c.complain(Errno::kINVAL, "Non-string source");
  if (!c.source.empty()) return c.complain(Errno::kINVAL, "Multiple sources");
  c.source = *value;
  return true;
}

// Types that say at once what they do not know: their options have no effect before they are
// mounted.
bool can_try(std::string_view type) {
  return type == "tmpfs" || type == "ramfs" || type == "devtmpfs";
}

Result<> set_parameter(Task& task, FsContextFile& c, const std::string& key,
                       const std::optional<std::string>& value) {
  if (c.phase != Phase::kParameters && c.phase != Phase::kReconfigure) return Err(Errno::kBUSY);
  if (key.empty()) return c.complain(Errno::kINVAL, "Unnamed parameter");
  if (TRY(common_parameter(c, key, value))) return {};
  const std::string option = value ? key + "=" + *value : key;
  const bool known = can_try(c.type) || c.type == "devpts" || c.type == "ext4";
  if (key.find_first_of(",=") != std::string::npos || option.find(',') != std::string::npos ||
      !known) {
    return c.complain(Errno::kINVAL, absl::StrFormat("Unknown parameter '%s'", key));
  }
  if (can_try(c.type)) {
    auto tried = task.kernel.vfs.make_super(task.park(), task.fs_context(), c.type, "none", option);
    if (!tried) {
      const bool bare =
          !task.kernel.vfs.make_super(task.park(), task.fs_context(), c.type, "none", key + "=1")
               .has_value();
      return c.complain(tried.error(), bare ? absl::StrFormat("Unknown parameter '%s'", key)
                                            : absl::StrFormat("Bad value for '%s'", key));
    }
  }
  if (c.options.size() + option.size() + 1 > kMaxOptions) return Err(Errno::kNOMEM);
  if (!c.options.empty()) c.options += ',';
  c.options += option;
  return {};
}

Result<> create(Task& task, FsContextFile& c) {
  if (c.phase != Phase::kParameters) return Err(Errno::kBUSY);
  Ref<FsContextFile> keep(&c);
  c.phase = Phase::kFailed;
  auto made = task.kernel.vfs.make_super(task.park(), task.fs_context(), c.type,
                                         c.source.empty() ? "none" : c.source, c.options,
                                         c.read_only.value_or(false));
  if (!made) return c.complain(made.error(), "Cannot be created with these parameters");
  c.super = *made;
  if (c.read_only.value_or(false)) c.super.sb->read_only = true;
  c.phase = Phase::kCreated;
  return {};
}

Result<> reconfigure(Task& task, FsContextFile& c) {
  if (c.phase != Phase::kReconfigure) return Err(Errno::kBUSY);
  Ref<SuperBlock> sb = c.picked ? c.picked.mount->sb : c.super.sb;
  if (!task.cred().has_in(sb->user_ns.get(), Cap::kSysAdmin)) return Err(Errno::kPERM);
  const std::string options = std::exchange(c.options, {});
  if (!options.empty()) TRY(sb->reconfigure(options));
  if (c.read_only) {
    if (!*c.read_only && sb->never_writable()) return Err(Errno::kROFS);
    sb->read_only = *c.read_only;
  }
  c.read_only.reset();
  task.mounts().notify_changed();
  return {};
}

// Which arguments each command takes.
Result<> check_arguments(unsigned command, UserStr key, UserAddr value, int aux) {
  const bool k = static_cast<bool>(key), v = static_cast<bool>(value);
  bool good = false;
  switch (command) {
    case kSetFlag:
      good = k && !v && aux == 0;
      break;
    case kSetString:
      good = k && v && aux == 0;
      break;
    case kSetBinary:
      good = k && v && aux > 0 && aux <= 1024 * 1024;
      break;
    case kSetPath:
    case kSetPathEmpty:
      good = k && v && (aux == AT_FDCWD || aux >= 0);
      break;
    case kSetFd:
      good = k && !v && aux >= 0;
      break;
    case kCreate:
    case kCreateExcl:
    case kReconfigure:
      good = !k && !v && aux == 0;
      break;
    default:
      return Err(Errno::kOPNOTSUPP);
  }
  return good ? Result<>() : Err(Errno::kINVAL);
}

bool type_exists(Vfs& vfs, std::string_view name) {
  for (const FsType& t : vfs.fs_types())
    if (t.name == name) return true;
  return false;
}

}  // namespace

Result<int64_t> sys_fsopen(Task& task, UserStr user, Hex raw) {
  constexpr uint32_t kCloexec = 1;
  const auto flags = static_cast<uint32_t>(raw.value);
  if (!may_mount(task)) return Err(Errno::kPERM);
  if ((flags & ~kCloexec) != 0) return Err(Errno::kINVAL);
  auto name = user.get(task.park(), task.mm(), kPageSize - 1);
  if (!name) return Err(name.error() == Errno::kNAMETOOLONG ? Errno::kINVAL : name.error());
  if (!type_exists(task.kernel.vfs, *name)) return Err(Errno::kNODEV);
  return install_fd(task, make_ref<FsContextFile>(*name, Phase::kParameters),
                    (flags & kCloexec) != 0);
}

Result<int64_t> sys_fspick(Task& task, Fd dirfd, UserStr path, Hex raw) {
  constexpr uint32_t kCloexec = 1, kNofollow = 2, kNoAutomount = 4, kEmptyPath = 8;
  const auto flags = static_cast<uint32_t>(raw.value);
  if (!may_mount(task)) return Err(Errno::kPERM);
  if ((flags & ~(kCloexec | kNofollow | kNoAutomount | kEmptyPath)) != 0) return Err(Errno::kINVAL);
  Path at = TRY(walk_at(task, dirfd, path,
                        ((flags & kNofollow) != 0 ? AT_SYMLINK_NOFOLLOW : 0) |
                            ((flags & kEmptyPath) != 0 ? AT_EMPTY_PATH : 0)));
  if (at.mount == nullptr || at.dentry != at.mount->root) return Err(Errno::kINVAL);
  auto file = make_ref<FsContextFile>(std::string(at.mount->sb->fs_type()), Phase::kReconfigure);
  file->picked = std::move(at);
  return install_fd(task, std::move(file), (flags & kCloexec) != 0);
}

Result<int64_t> sys_fsconfig(Task& task, Fd fd, unsigned command, UserStr user_key, UserAddr value,
                             int aux) {
  if (fd < 0) return Err(Errno::kINVAL);
  TRY(check_arguments(command, user_key, value, aux));
  Ref<FsContextFile> c = TRY(context_of(task, fd));
  if (command == kCreate) return zero(create(task, *c));
  if (command == kReconfigure) return zero(reconfigure(task, *c));
  // DEVIATION: no filesystem here can refuse to share, none has such parameters.
  if (command == kCreateExcl) return Err(Errno::kOPNOTSUPP);
  auto fetch = [&](UserStr from) -> Result<std::string> {
    auto text = from.get(task.park(), task.mm(), kMaxParameter - 1);
    if (!text && text.error() == Errno::kNAMETOOLONG) return Err(Errno::kINVAL);
    return text;
  };
  const std::string key = TRY(fetch(user_key));
  std::optional<std::string> text;
  if (command == kSetString) {
    UserStr from;
    from.addr = value.addr;
    text = TRY(fetch(from));
  } else if (command != kSetFlag) {
    if (c->phase != Phase::kParameters && c->phase != Phase::kReconfigure) return Err(Errno::kBUSY);
    return c->complain(Errno::kINVAL, absl::StrFormat("Unknown parameter '%s'", key));
  }
  return zero(set_parameter(task, *c, key, text));
}

Result<int64_t> sys_fsmount(Task& task, Fd fd, Hex raw, Hex attributes) {
  constexpr uint32_t kCloexec = 1;
  const auto flags = static_cast<uint32_t>(raw.value);
  if (!may_mount(task)) return Err(Errno::kPERM);
  if ((flags & ~kCloexec) != 0) return Err(Errno::kINVAL);
  const uint64_t attr = attributes.value & UINT32_MAX;
  if ((attr & ~kAttrAll) != 0) return Err(Errno::kINVAL);
  const uint32_t mount_flags = plain_mount_flags(attr) | TRY(atime_mount_flags(attr));
  Ref<FsContextFile> c = TRY(context_of(task, fd));
  if (!c->super.root && !c->picked) return Err(Errno::kINVAL);
  if (c->phase != Phase::kCreated) return Err(Errno::kBUSY);
  Ref<MountNamespace> tree =
      TRY(task.kernel.vfs.detached_mount(task.fs_context(), c->super.sb, c->super.root,
                                         c->source.empty() ? "none" : c->source, mount_flags));
  const int64_t made = TRY(install_tree(task, std::move(tree), (flags & kCloexec) != 0));
  c->options.clear();
  c->read_only.reset();
  c->phase = Phase::kReconfigure;
  return made;
}

}  // namespace uk
