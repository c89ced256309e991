#include "ukernel/task/test_kit.h"

#include <elf.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstring>

namespace uk {

std::string tiny_elf(uint64_t entry) {
  std::string out(3 * kPageSize, '\0');
  Elf64_Ehdr h{};
  std::memcpy(h.e_ident, ELFMAG, SELFMAG);
  h.e_ident[EI_CLASS] = ELFCLASS64;
  h.e_ident[EI_DATA] = ELFDATA2LSB;
  h.e_ident[EI_VERSION] = EV_CURRENT;
  h.e_type = ET_EXEC;
  h.e_machine = EM_X86_64;
  h.e_version = EV_CURRENT;
  h.e_entry = entry;
  h.e_phoff = sizeof h;
  h.e_ehsize = sizeof h;
  h.e_phentsize = sizeof(Elf64_Phdr);
  h.e_phnum = 2;
  std::memcpy(out.data(), &h, sizeof h);
  Elf64_Phdr p[2]{};
  p[0] = {.p_type = PT_LOAD,
          .p_flags = PF_R | PF_X,
          .p_offset = 0,
          .p_vaddr = kTextBase,
          .p_paddr = 0,
          .p_filesz = 2 * kPageSize,
          .p_memsz = 2 * kPageSize,
          .p_align = kPageSize};
  p[1] = {.p_type = PT_LOAD,
          .p_flags = PF_R | PF_W,
          .p_offset = 2 * kPageSize,
          .p_vaddr = kTextBase + 2 * kPageSize,
          .p_paddr = 0,
          .p_filesz = 100,
          .p_memsz = 3 * kPageSize,
          .p_align = kPageSize};
  std::memcpy(out.data() + sizeof h, p, sizeof p);
  return out;
}

SimKernel::SimKernel(uint64_t mem_pages) {
  auto mem = CHECK_OK(PhysMemory::create(mem_pages * kPageSize));
  auto fake = std::make_unique<fake::FakePlatform>();
  platform = fake.get();
  KernelOptions options;
  options.seed = 1;
  kernel = std::make_unique<Kernel>(sim.reactor, sim.clock, log, std::move(mem), std::move(fake),
                                    options);
  kernel->syscalls = this;
  kernel->on_exit = [this](int status) {
    status_ = status;
    sim.reactor.stop();
  };
  standard_calls();
  code(kRestorer, {call(kReturn)});
}

SimKernel::~SimKernel() = default;

void SimKernel::code(uint64_t address, std::vector<Step> steps) {
  for (size_t i = 0; i < steps.size(); ++i) {
    uint64_t at = address + 2 * i;
    platform->at(at, [step = std::move(steps[i]), at](fake::Cpu& cpu) -> std::optional<Trap> {
      std::optional<Trap> trap = step(cpu);
      if (!trap && cpu.regs.rip == at) cpu.jump(at + 2);
      return trap;
    });
  }
}

SimKernel::Step SimKernel::jump_if(int64_t value, uint64_t to) {
  return [value, to](fake::Cpu& cpu) -> std::optional<Trap> {
    if (static_cast<int64_t>(cpu.regs.rax) == value) cpu.jump(to);
    return std::nullopt;
  };
}

SimKernel::Step SimKernel::ret() {
  return [](fake::Cpu& cpu) -> std::optional<Trap> {
    uint64_t to = 0;
    if (std::optional<Trap> fault = cpu.load(cpu.regs.rsp, &to)) return fault;
    cpu.regs.rsp += 8;
    cpu.jump(to);
    return std::nullopt;
  };
}

SimKernel::Step SimKernel::spin() {
  return [](fake::Cpu& cpu) -> std::optional<Trap> {
    cpu.spin();
    return std::nullopt;
  };
}

void SimKernel::make_file(Park& park, const std::string& path, const std::string& content,
                          uint32_t mode) {
  Cred root;
  FsContext ctx{.root = Path(kernel->mounts->root, kernel->mounts->root->root),
                .cwd = Path(kernel->mounts->root, kernel->mounts->root->root),
                .cred = &root,
                .umask = 0,
                .ns = kernel->mounts.get()};
  root.ref();  // on the stack: never to be deleted
  Ref<File> f = CHECK_OK(kernel->vfs.open(
      park, ctx, {}, path, {.flags = O_CREAT | O_TRUNC | O_WRONLY, .mode = mode, .walk = 0}));
  BufferSource source(std::as_bytes(std::span(content)));
  uint64_t offset = 0;
  CHECK(CHECK_OK(f->write(park, source, offset)) == content.size());
  f->release(park);
}

int SimKernel::run() {
  sim.reactor.spawn("boot", [this](Park& park) {
    Ref<Inode> root;
    Ref<SuperBlock> sb = make_tmpfs(kernel->vfs, {}, &root);
    CHECK_OK(kernel->vfs.new_root(park, *kernel->mounts, sb, root, "tmpfs", 0));
    make_file(park, "/init", tiny_elf(), 0755);
    if (prepare) prepare(park);
    Kernel::InitRequest init;
    init.path = init_path;
    init.argv = {init_path};
    init.cred = make_ref<Cred>();
    Result<Ref<Task>> task = kernel->start_init(park, std::move(init));
    started = task ? Result<>() : Err(task.error());
    if (!task) sim.reactor.stop();
  });
  sim.run();
  return status_;
}

void SimKernel::standard_calls() {
  using Args = const uint64_t(&)[6];
  calls[kExit] = [](Task& t, Args a) -> Result<int64_t> {
    begin_exit_group(*t.group, static_cast<int>(a[0] & 0xff) << 8);
    return 0;
  };
  calls[kExitThread] = [](Task& t, Args a) -> Result<int64_t> {
    begin_exit_thread(t, static_cast<int>(a[0] & 0xff) << 8);
    return 0;
  };
  calls[kFork] = [](Task& t, Args) -> Result<int64_t> {
    return TRY(do_clone(t, {.exit_signal = SIGCHLD}));
  };
  calls[kThread] = [](Task& t, Args a) -> Result<int64_t> {
    // The fake has no code to start at: the child finds its way by its result of 0.
    (void)a;
    return TRY(
        do_clone(t, {.flags = CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FILES | CLONE_FS}));
  };
  calls[kWait] = [](Task& t, Args a) -> Result<int64_t> {
    WaitRequest r;
    auto pid = static_cast<int>(a[0]);
    if (pid > 0) r.which = WaitRequest::Which::kPid, r.id = pid;
    r.options = static_cast<int>(a[1]) | WEXITED;
    WaitResult w = TRY(wait_for_child(t, r));
    return w.pid == 0 ? 0 : w.status;
  };
  calls[kKill] = [](Task& t, Args a) -> Result<int64_t> {
    ThreadGroup* g = t.kernel.pids.group(static_cast<int>(a[0]));
    if (g == nullptr) return Err(Errno::kSRCH);
    TRY(send_signal_group(*g, siginfo_user(static_cast<int>(a[1]), SI_USER, t.tgid(), 0)));
    return 0;
  };
  calls[kPause] = [](Task& t, Args) -> Result<int64_t> {
    WaitQueue nothing;
    (void)nothing.wait(t.park(), [] { return false; });
    return Err(Errno::kRestartNoHand);
  };
  calls[kAction] = [](Task& t, Args a) -> Result<int64_t> {
    constexpr uint64_t kSaRestorer = 0x04000000;
    t.group->handlers->actions[a[0]] = {
        .handler = a[1], .flags = a[2] | kSaRestorer, .restorer = kRestorer, .mask = 0};
    return 0;
  };
  calls[kNote] = [this](Task&, Args a) -> Result<int64_t> {
    notes.push_back(static_cast<int64_t>(a[0]));
    return 0;
  };
  calls[kReturn] = [](Task& t, Args) -> Result<int64_t> {
    TRY(restore_sigframe(t));
    return 0;
  };
  calls[kSleep] = [](Task& t, Args a) -> Result<int64_t> {
    WaitQueue nothing;
    Result<> r = nothing.wait(
        t.park(), [] { return false; }, WaitMode::kInterruptible,
        Deadline{t.kernel.clock.monotonic_ns() + a[0]});
    return r.error() == Errno::kTIMEDOUT ? Result<int64_t>(0) : Err(r.error());
  };
  calls[kExec] = [](Task& t, Args) -> Result<int64_t> {
    ExecRequest r;
    r.path = "/init2";
    r.argv = {"init2"};
    TRY(do_execve(t, r));
    return 0;
  };
  calls[kMask] = [](Task& t, Args a) -> Result<int64_t> {
    set_blocked(t, SigSet(a[0]));
    return 0;
  };
}

}  // namespace uk
