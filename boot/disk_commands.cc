#include "boot/disk_commands.h"

#include <fcntl.h>

#include "absl/strings/str_format.h"
#include "boot/disk_users.h"
#include "boot/disks.h"
#include "boot/progress.h"
#include "hostio/sys/file.h"
#include "ukernel/dev/block/host_disk.h"
#include "ukernel/dev/block/mirror.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/sched/reactor.h"

namespace uk::boot {
namespace {

using Kind = DiskCommand::Kind;

constexpr uint64_t kProgressNs = 100'000'000;

// The file of a mirror, made if it is not there. Blocks the thread.
struct Target {
  bool made = false;
  std::unique_ptr<BlockBackend> backend;
  std::string why;  // "": good
};

// What was made is there after a crash too: its name.
Result<> sync_directory(const std::string& path) {
  const std::string dir = path.substr(0, path.rfind('/') + 1);
  sys::Fd fd = TRY(sys::open(dir.c_str(), O_RDONLY | O_DIRECTORY));
  return sys::fsync(fd.get());
}

Result<> make_file(const std::string& path, uint64_t bytes, bool& made) {
  auto fd = sys::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL, 0644);
  if (!fd) return fd.error() == Errno::kEXIST ? Result<>() : Err(fd.error());
  made = true;
  TRY(sys::ftruncate(fd->get(), bytes));
  return sync_directory(path);
}

Target open_target(Reactor& reactor, const DiskSpec& spec, uint64_t bytes) {
  Target t;
  Result<> r = make_file(spec.file, bytes, t.made);
  if (r) {
    auto backend = open_host_disk(reactor, spec.file, {false, spec.sync, spec.direct});
    if (backend) {
      t.backend = std::move(*backend);
      const Result<uint64_t> there = t.backend->size();
      if (!there || *there != bytes) {
        t.why = absl::StrFormat("has %d bytes and the disk %d; give one of that size, or a new one",
                                there.value_or(0), bytes);
        t.backend = nullptr;
      }
      return t;
    }
    r = Err(backend.error());
  }
  if (t.made) (void)sys::unlinkat(AT_FDCWD, spec.file.c_str(), 0);
  if (r.error() == Errno::kAGAIN) {
    t.why = "in use; give another file";
  } else if (r.error() == Errno::kINVAL) {
    t.why = spec.direct ? "not a file that can be used past the host's cache; leave ,direct out"
                        : "neither a file nor a block device; give one of these";
  } else {
    t.why = std::string(errno_text(r.error())) + "; give a file you can make or write";
  }
  return t;
}

}  // namespace

void DiskCommands::register_with(ControlServer& server) {
  for (const char* verb : {"config", "remove", "mirror"}) {
    server.add(verb, [this](Park& park, const Words& words, ControlReply& reply) {
      return handle(park, words, reply);
    });
  }
}

Ref<Disk> DiskCommands::find(const std::string& name) const {
  for (const Ref<Disk>& disk : kernel().disks->disks()) {
    if (disk->options.name == name && disk->options.major == BlockDevices::kHostDiskMajor)
      return disk;
  }
  return nullptr;
}

std::string DiskCommands::handle(Park& park, const Words& words, ControlReply& reply) {
  const auto [command, error] = parse_disk_command(words);
  if (!error.empty()) return error;
  const std::string& name = command.disk.name;
  switch (command.kind) {
    case Kind::kList:
      reply.out(park, list());
      return "";
    case Kind::kAdd: {
      const std::string why = add_disk(park, kernel(), command.disk);
      return why.empty() ? "" : "disk " + name + "=" + command.disk.file + ": " + why;
    }
    case Kind::kRemove:
    case Kind::kMirror:
    case Kind::kCancelMirror:
      break;
  }
  const std::string what = words[0] + " " + name + ": ";
  const Ref<Disk> disk = find(name);
  if (disk == nullptr) return what + "no such disk; config lists those that are there";
  std::string why;
  if (command.kind == Kind::kRemove) why = remove(park, command);
  if (command.kind == Kind::kMirror) why = mirror(park, command.disk, reply);
  if (command.kind == Kind::kCancelMirror) why = cancel_mirror(*disk);
  return why.empty() ? "" : what + why;
}

std::string DiskCommands::list() {
  std::string text;
  for (const Ref<Disk>& disk : kernel().disks->disks()) {
    if (disk->options.major != BlockDevices::kHostDiskMajor) continue;  // the guest's own
    const std::string where = disk->backend().where();
    text += absl::StrFormat("%s=%s%s  %s", disk->options.name, where.empty() ? "memory" : where,
                            disk->options.read_only ? ",ro" : "", size_text(disk->whole().size()));
    if (const Mirror* m = disk->mirror; m != nullptr)
      text += absl::StrFormat("  mirror: %s of %s", size_text(m->done_bytes()),
                              size_text(m->total_bytes()));
    text += '\n';
  }
  return text;
}

// Nothing is cached that nobody has open: the last close has written it out.
std::string DiskCommands::remove(Park& park, const DiskCommand& command) {
  const Ref<Disk> disk = find(command.disk.name);
  auto busy = [&]() -> std::string {
    const std::string users = command.force ? "" : disk_users(kernel(), *disk);
    return users.empty() ? "" : users + "; end that, or give --force";
  };
  if (std::string why = busy(); !why.empty()) return why;
  if (!command.force && !disk->options.read_only) {
    const Ref<BlockDevice> whole(&disk->whole());
    if (Result<> r = whole->flush(park); !r)
      return absl::StrFormat(
          "what was written last is not on stable storage: %s; mend that, or "
          "give --force",
          errno_text(r.error()));
    // Meanwhile anything may have happened.
    if (disk->removed()) return "somebody else has removed it; there is nothing to do";
    if (std::string why = busy(); !why.empty()) return why;
  }
  if (disk->removed()) return "somebody else has removed it; there is nothing to do";
  kernel().log.info(
      absl::StrFormat("%s: removed%s", command.disk.name, command.force ? " by force" : ""));
  kernel().disks->remove(park, *disk);
  disk->let_go(park);
  return "";
}

std::string DiskCommands::cancel_mirror(Disk& disk) {
  if (disk.mirror == nullptr) return "it has no mirror; there is nothing to do";
  disk.mirror->cancel();
  return "";
}

std::string DiskCommands::mirror(Park& park, const DiskSpec& spec, ControlReply& reply) {
  const Ref<Disk> disk = find(spec.name);
  const char* const busy = "it has a mirror already; wait for that, or give --cancel";
  if (ending_) return "the instance ends; there is nothing to do";
  if (disk->mirror != nullptr) return busy;
  ++mirrors_;
  Reactor& reactor = kernel().reactor;
  Target target;
  const uint64_t bytes = disk->whole().size();
  reactor.offload(park, [&] { target = open_target(reactor, spec, bytes); });
  std::string why = target.why;
  if (why.empty()) {
    Mirror job(reactor, disk, std::move(target.backend), target.made);
    bool over = false;
    // Tells the client, and ends before we do.
    Ref<Fiber> teller =
        reactor.spawn("mirror progress", [&, me = Ref<Fiber>(&park.fiber())](Park& own) {
          while (!over) {
            reply.progress(job.done_bytes(), job.total_bytes());
            own.suspend(Deadline{reactor.now_ns() + kProgressNs});
          }
          me->wake();
        });
    if (ending_) job.cancel();
    Result<> r = job.run(park);
    over = true;
    teller->wake();
    while (!teller->done()) park.yield();
    if (r) {
      kernel().log.info(absl::StrFormat("%s: moved to %s", spec.name, spec.file));
    } else if (r.error() == Errno::kBUSY && !job.source_failed()) {
      why = busy;
    } else if (r.error() == Errno::kCANCELED) {
      why = "the mirror was cancelled; the disk stays where it was";
    } else if (r.error() == Errno::kNODEV) {
      why = "the disk was removed; there is nothing to do";
    } else {
      why = absl::StrFormat("%s: %s; the disk stays where it was",
                            job.source_failed() ? disk->backend().where() : spec.file,
                            errno_text(r.error()));
    }
    if (!why.empty() && target.made)
      reactor.offload(park, [&] { (void)sys::unlinkat(AT_FDCWD, spec.file.c_str(), 0); });
  } else {
    why = spec.file + ": " + why;
  }
  --mirrors_;
  mirror_over_.wake_all();
  return why;
}

void DiskCommands::end(Park& park) {
  ending_ = true;
  for (const Ref<Disk>& disk : kernel().disks->disks()) {
    if (disk->mirror != nullptr) disk->mirror->cancel();
  }
  (void)mirror_over_.wait(
      park, [&] { return mirrors_ == 0; }, WaitMode::kUninterruptible, kNever, "mirror");
}

}  // namespace uk::boot
