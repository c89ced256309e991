#include "boot/run.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "boot/control/server.h"
#include "boot/disk_commands.h"
#include "boot/mounts.h"
#include "boot/platforms.h"
#include "boot/stdio.h"
#include "hostio/ring.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "syscalls/table.h"
#include "ukernel/dev/block/registry.h"
#include "ukernel/kernel.h"
#include "ukernel/sched/host_clock.h"
#include "ukernel/sched/reactor.h"
#include "ukernel/task/cgroup.h"
#include "ukernel/task/io_group.h"

namespace uk::boot {
namespace {

constexpr int kOwnError = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;
constexpr uint64_t kMaxDefaultMem = 4ull << 30;

// An end of the run before the guest's own: what to print and the status to exit with.
struct Failure {
  int status = 0;
  std::string sentence;
};

uint64_t default_mem() {
  auto pages = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES));
  auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return std::min(pages * page / 2, kMaxDefaultMem);
}

int default_cpus() {
  return static_cast<int>(std::clamp<long>(sysconf(_SC_NPROCESSORS_ONLN), 1, 64));
}

int exit_status(int wait_status) {
  return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}

std::vector<std::string> environment(const RunOptions& o) {
  std::vector<std::string> env;
  if (!o.clear_env) {
    for (char** e = environ; *e != nullptr; ++e) env.emplace_back(*e);
  }
  auto has = [&](std::string_view name) {
    for (const std::string& e : env) {
      if (e.size() > name.size() && e.starts_with(name) && e[name.size()] == '=') return true;
    }
    return false;
  };
  if (!has("PATH"))
    env.push_back("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
  if (!has("HOME")) env.push_back("HOME=/root");
  for (const std::string& set : o.env) {
    std::string name = set.substr(0, set.find('=') + 1);
    std::erase_if(env, [&](const std::string& e) { return e.starts_with(name); });
    env.push_back(set);
  }
  return env;
}

std::string env_value(const std::vector<std::string>& env, const std::string& name) {
  for (const std::string& e : env) {
    if (e.starts_with(name + "=")) return e.substr(name.size() + 1);
  }
  return "";
}

Ref<Cred> credentials(const RunOptions& o) {
  auto cred = make_ref<Cred>();
  if (!o.uid) return cred;
  cred->uid = cred->euid = cred->suid = cred->fsuid = *o.uid;
  uint32_t gid = o.gid.value_or(*o.uid);
  cred->gid = cred->egid = cred->sgid = cred->fsgid = gid;
  if (*o.uid != 0)
    cred->cap_permitted = cred->cap_effective = cred->cap_ambient = cred->cap_inheritable = 0;
  return cred;
}

// The parts of one instance, in the order in which they are made.
class Instance {
 public:
  explicit Instance(const RunOptions& options) : options_(options) {}

  int run() {
    if (std::optional<Failure> f = assemble()) return report(*f);
    std::optional<Failure> failure;
    reactor_->spawn("boot", [&](Park& park) {
      failure = boot(park);
      if (failure) reactor_->stop();
    });
    reactor_->run();
    stdio_.restore();
    if (failure) return report(*failure);
    return exit_status(wait_status_);
  }

 private:
  int report(const Failure& f) {
    stdio_.restore();
    std::fprintf(stderr, "ukernel: %s\n", f.sentence.c_str());
    return f.status;
  }

  std::optional<Failure> assemble() {
    signal(SIGPIPE, SIG_IGN);
    if (auto f = open_outputs()) return f;
    PlatformRegistry platforms;
    register_platforms(platforms);
    std::string why;
    auto factory = platforms.choose(options_.platform, &why);
    if (!factory)
      return Failure{kOwnError, absl::StrFormat("platform %s: %s; try --platform=auto",
                                                options_.platform, why)};
    ring_ = hostio::make_ring();
    reactor_ = std::make_unique<Reactor>(*ring_, clock_);
    auto platform = (*factory)->create(*reactor_, log_);
    if (!platform) {
      return Failure{kOwnError, absl::StrFormat("platform %s: %s; try another --platform",
                                                (*factory)->name, errno_text(platform.error()))};
    }
    auto mem = PhysMemory::create(options_.mem_bytes != 0 ? options_.mem_bytes : default_mem());
    if (!mem)
      return Failure{kOwnError, absl::StrFormat("guest memory: %s; give a smaller --mem",
                                                errno_text(mem.error()))};
    KernelOptions ko;
    ko.patch_calls = options_.patch;
    ko.tell_ids = !options_.strace;
    ko.mem_bytes = (*mem)->total_pages() * kPageSize;
    ko.cpus = options_.cpus != 0 ? options_.cpus : default_cpus();
    ko.hostname = options_.hostname;
    kernel_ = std::make_unique<Kernel>(*reactor_, clock_, log_, std::move(*mem),
                                       std::move(*platform), ko);
    kernel_->syscalls = &table_;
    kernel_->on_exit = [this](int status) {
      wait_status_ = status;
      power_off();
    };
    log_.info(absl::StrFormat("ukernel: platform %s, ring %s, %d cpus, %u MiB",
                              std::string(kernel_->platform->name()), ring_->name(), ko.cpus,
                              ko.mem_bytes >> 20));
    return open_control();
  }

  // Without a place for its socket an instance that nobody has named goes on alone.
  std::optional<Failure> open_control() {
    std::string why;
    control_ = ControlServer::open(*reactor_, options_.name, why);
    if (control_ == nullptr) {
      if (!options_.name.empty()) return Failure{kOwnError, why};
      log_.warn("no control socket: " + why);
      return std::nullopt;
    }
    log_.info("control: instance " + control_->name());
    disk_commands_.register_with(*control_);
    control_->add("ps", [this](Park& park, const Words&, ControlReply& reply) {
      const std::string command =
          options_.command.empty() ? "(shell)" : absl::StrJoin(options_.command, " ");
      reply.out(park,
                absl::StrFormat("%8d %8d %s\n", sys::getpid(), kernel_->uptime_ns() / kNsPerSec,
                                absl::CHexEscape(command).substr(0, 1000)));
      return "";
    });
    return std::nullopt;
  }

  // What is dirty reaches the disks first, and stable storage.
  void power_off() {
    if (kernel_->disks == nullptr || kernel_->disks->disks().empty()) return reactor_->stop();
    kernel_->disks->payment.off = true;
    end_io_limits(*kernel_->cgroups);
    reactor_->spawn("power off", [this](Park& park) {
      disk_commands_.end(park);
      if (Result<> r = kernel_->disks->sync(park); !r)
        std::fprintf(stderr, "ukernel: disks: %s; what was written last is lost\n",
                     std::string(errno_text(r.error())).c_str());
      park.yield();  // fibers that write back, and hold caches, have nothing left to do, and end
      reactor_->stop();
    });
  }

  std::optional<Failure> open_outputs() {
    log_.set_clock([this] { return clock_.monotonic_ns(); });
    if (options_.dmesg) {
      log_.set_sink([](const Log::Line& line) {
        (void)sys::write_all(2, absl::StrFormat("[%5d.%06d] %s\n", line.time_ns / kNsPerSec,
                                                line.time_ns % kNsPerSec / 1000, line.text));
      });
    }
    if (!options_.strace) return std::nullopt;
    int fd = 2;
    if (!options_.strace_file.empty()) {
      auto opened = sys::open(options_.strace_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
      if (!opened) {
        return Failure{kOwnError,
                       absl::StrFormat("%s: %s; give a file that can be written to --strace",
                                       options_.strace_file, errno_text(opened.error()))};
      }
      strace_file_ = std::move(*opened);
      fd = strace_file_.get();
    }
    table_.set_trace([fd](Task&, std::string line) {
      line += '\n';
      (void)sys::write_all(fd, line);
    });
    return std::nullopt;
  }

  std::optional<Failure> boot(Park& park) {
    if (std::string why = mount_root(park, *kernel_, options_); !why.empty())
      return Failure{kOwnError, why};
    if (control_ != nullptr) control_->start();
    Kernel::InitRequest init;
    init.envp = environment(options_);
    init.cred = credentials(options_);
    init.argv = options_.command;
    init.cwd = start_directory(park);
    if (auto cwd =
            kernel_->vfs.walk(park, root_context(), {}, init.cwd, kWalkFollow | kWalkDirectory);
        !cwd)
      return Failure{
          kOwnError,
          absl::StrFormat("working directory %s: %s; give a directory of the guest to --cwd",
                          init.cwd, errno_text(cwd.error()))};
    if (std::string why = stdio_.open(park, *kernel_, init); !why.empty())
      return Failure{kOwnError, why};
    if (init.argv.empty()) init.argv = {default_shell(park)};
    auto path = find_program(park, init.argv[0], env_value(init.envp, "PATH"), init.cwd);
    if (!path) return exec_failure(init.argv[0], path.error());
    init.path = *path;
    std::string name = init.argv[0];
    auto task = kernel_->start_init(park, std::move(init));
    if (!task) return exec_failure(name, task.error());
    (*task)->sched.nice = getpriority(PRIO_PROCESS, 0);  // as a child of the caller's would be
    stdio_.forward_signals(*kernel_);
    return std::nullopt;
  }

  Failure exec_failure(const std::string& name, Errno e) {
    if (name.empty()) return {kNotFound, "program: the name is empty; name a program of the guest"};
    if (e == Errno::kNOENT || e == Errno::kNOTDIR)
      return {kNotFound,
              absl::StrFormat("%s: not found; check the path as the guest sees it (--root)", name)};
    if (e == Errno::kNOMEM)
      return {kOwnError, absl::StrFormat(
                             "%s: not enough guest memory to start it; give a larger --mem", name)};
    return {kNotExecutable,
            absl::StrFormat("%s: %s; give a program the guest can execute", name, errno_text(e))};
  }

  FsContext root_context() { return kernel_root_context(*kernel_, cred_); }

  bool is_program(Park& park, const std::string& path) {
    auto p = kernel_->vfs.walk(park, root_context(), {}, path, kWalkFollow);
    return p && is_type(p->inode()->type(), S_IFREG);
  }

  std::string default_shell(Park& park) {
    if (options_.root.kind != RootSpec::Kind::kBuiltin && is_program(park, "/bin/bash"))
      return "/bin/bash";
    return "/bin/sh";
  }

  std::string start_directory(Park& park) {
    if (!options_.cwd.empty()) return options_.cwd;
    if (options_.root.kind != RootSpec::Kind::kDir) return "/";
    char* here = getcwd(nullptr, 0);
    if (here == nullptr) return "/";
    std::string dir = here;
    free(here);
    auto p = kernel_->vfs.walk(park, root_context(), {}, dir, kWalkFollow | kWalkDirectory);
    return p ? dir : "/";
  }

  // As execvp(3): a name without '/' is looked for in PATH.
  Result<std::string> find_program(Park& park, const std::string& name, const std::string& search,
                                   const std::string& cwd) {
    if (name.empty()) return Err(Errno::kNOENT);
    if (name.find('/') != std::string::npos) return name;
    Errno error = Errno::kNOENT;
    for (size_t at = 0; at <= search.size();) {
      size_t end = std::min(search.find(':', at), search.size());
      std::string dir = search.substr(at, end - at);
      if (dir.empty()) dir = cwd;
      std::string full = dir + "/" + name;
      if (is_program(park, full)) {
        auto p = kernel_->vfs.walk(park, root_context(), {}, full, kWalkFollow);
        if (p && kernel_->vfs.access(park, *p, *cred_, kMayExec)) return full;
        error = Errno::kACCES;
      }
      at = end + 1;
    }
    return Err(error);
  }

  const RunOptions& options_;
  Ref<Cred> cred_ = make_ref<Cred>();
  HostClock clock_;
  Log log_;
  sys::Fd strace_file_;
  SyscallTable table_;
  std::unique_ptr<hostio::Ring> ring_;
  std::unique_ptr<Reactor> reactor_;
  std::unique_ptr<Kernel> kernel_;
  DiskCommands disk_commands_{kernel_};
  std::unique_ptr<ControlServer> control_;
  Stdio stdio_;
  int wait_status_ = 0;
};

}  // namespace

int run_instance(const RunOptions& options) { return Instance(options).run(); }

}  // namespace uk::boot
