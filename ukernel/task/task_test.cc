// Processes, threads, signals and exec on the fake platform, in invented time.
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "ukernel/task/job_control.h"
#include "ukernel/task/test_kit.h"
#include "ukernel/task/timers.h"

namespace uk {
namespace {

using K = SimKernel;
constexpr uint64_t kChild = 0x401400, kHandler = 0x401600, kDone = 0x401700;

int exited(int status) { return status << 8; }

// A step that calls `nr` with the result of an earlier step, kept in rbx.
K::Step keep() {
  return [](fake::Cpu& cpu) -> std::optional<Trap> {
    cpu.regs.rbx = cpu.regs.rax;
    return std::nullopt;
  };
}
K::Step call_kept(uint64_t nr, uint64_t second = 0) {
  return [nr, second](fake::Cpu& cpu) { return cpu.syscall(nr, {cpu.regs.rbx, second}); };
}
K::Step call_result(uint64_t nr) {
  return [nr](fake::Cpu& cpu) { return cpu.syscall(nr, {cpu.regs.rax}); };
}

TEST(Life, InitExits) {
  K k;
  k.code(kEntry, {K::call(K::kExit, {7})});
  EXPECT_EQ(k.run(), exited(7));
}

TEST(Life, ForkWaitAndStatus) {
  K k;
  k.code(kEntry,
         {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kWait), call_result(K::kNote),
          K::call(K::kWait), call_result(K::kNote), K::call(K::kExit, {0})});
  k.code(kChild, {K::call(K::kExit, {3})});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{exited(3), -static_cast<int>(Errno::kCHILD)}));
  EXPECT_EQ(k.kernel->pids.count(), 1) << "the zombie is gone";
}

TEST(Life, ManyProcessesLeaveNothing) {
  K k;
  constexpr int kRounds = 200;
  int round = 0;
  k.code(kEntry, {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kWait),
                  [&](fake::Cpu& cpu) -> std::optional<Trap> {
                    if (++round < kRounds) cpu.jump(kEntry);
                    return std::nullopt;
                  },
                  K::call(K::kExit, {0})});
  k.code(kChild, {K::call(K::kExit, {0})});
  uint64_t before = 0;
  k.calls[K::kNote] = k.calls[K::kNote];
  EXPECT_EQ(k.run(), 0);
  before = k.kernel->mem->free_pages();
  EXPECT_GT(before, 4096u - 200) << "memory of the dead comes back";
  EXPECT_EQ(k.kernel->pids.count(), 1);
  EXPECT_EQ(k.kernel->forks, static_cast<uint64_t>(kRounds));
}

TEST(Life, OrphansGoToInit) {
  K k;
  // init -> child -> grandchild; the child ends first, the grandchild is init's then.
  k.code(kEntry,
         {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kWait), call_result(K::kNote),
          K::call(K::kWait), call_result(K::kNote), K::call(K::kExit, {0})});
  k.code(kChild, {K::call(K::kFork), K::jump_if(0, kDone), K::call(K::kExit, {1})});
  k.code(kDone, {K::call(K::kSleep, {1000}), K::call(K::kExit, {2})});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{exited(1), exited(2)}));
}

TEST(Life, EndOfInitEndsAll) {
  K k;
  k.code(kEntry, {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kExit, {4})});
  k.code(kChild, {K::call(K::kFork), K::spin()});
  EXPECT_EQ(k.run(), exited(4));
  EXPECT_EQ(k.kernel->pids.count(), 1);
}

TEST(Life, ThreadsEndWithTheirGroup) {
  K k;
  k.code(kEntry,
         {K::call(K::kThread), K::jump_if(0, kChild), K::call(K::kThread),
          K::jump_if(0, kChild + 0x20), K::call(K::kSleep, {5000}), K::call(K::kExit, {9})});
  k.code(kChild, {K::spin()});
  k.code(kChild + 0x20, {K::call(K::kPause)});
  EXPECT_EQ(k.run(), exited(9));
}

TEST(Life, LeaderMayEndBeforeItsThreads) {
  K k;
  k.code(kEntry,
         {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kWait), call_result(K::kExit)});
  k.code(kChild, {K::call(K::kThread), K::jump_if(0, kDone), K::call(K::kExitThread, {5})});
  k.code(kDone, {K::call(K::kSleep, {1000}), K::call(K::kExitThread, {6})});
  EXPECT_EQ(k.run(), exited(exited(5) & 0xff)) << "the leader's status counts; it is in bits 8-15";
}

TEST(Signals, KillEndsASpinningGuest) {
  K k;
  k.code(kEntry, {K::call(K::kFork), K::jump_if(0, kChild), keep(), K::call(K::kSleep, {1000}),
                  call_kept(K::kKill, SIGKILL), K::call(K::kWait), call_result(K::kNote),
                  K::call(K::kExit, {0})});
  k.code(kChild, {K::spin()});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{SIGKILL}));
}

TEST(Signals, HandlerRunsAndTheCallIsInterrupted) {
  K k;
  k.code(kEntry,
         {K::call(K::kAction, {SIGUSR1, kHandler, 0}), K::call(K::kFork), K::jump_if(0, kChild),
          K::call(K::kSleep, {1'000'000}), call_result(K::kNote), K::call(K::kExit, {0})});
  k.code(kChild, {K::call(K::kKill, {1, SIGUSR1}), K::call(K::kExit, {0})});
  k.code(kHandler, {K::call(K::kNote, {77}), K::ret()});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{77, -static_cast<int>(Errno::kINTR)}));
}

TEST(Signals, SaRestartMakesTheCallAgain) {
  K k;
  k.code(kEntry, {K::call(K::kAction, {SIGUSR1, kHandler, SA_RESTART}), K::call(K::kFork),
                  K::jump_if(0, kChild), K::call(K::kSleep, {1'000'000}), call_result(K::kNote),
                  K::call(K::kExit, {0})});
  k.code(kChild, {K::call(K::kKill, {1, SIGUSR1}), K::call(K::kExit, {0})});
  k.code(kHandler, {K::call(K::kNote, {77}), K::ret()});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{77, 0}));
}

TEST(Signals, IgnoredOnesDoNotInterrupt) {
  K k;
  k.code(kEntry,
         {K::call(K::kAction, {SIGUSR1, kSigIgn, 0}), K::call(K::kFork), K::jump_if(0, kChild),
          K::call(K::kSleep, {1'000'000}), call_result(K::kNote), K::call(K::kExit, {0})});
  k.code(kChild, {K::call(K::kKill, {1, SIGUSR1}), K::call(K::kKill, {1, SIGCHLD}),
                  K::call(K::kExit, {0})});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{0}));
}

TEST(Signals, BlockedOnesWaitForTheirTime) {
  K k;
  k.code(kEntry, {K::call(K::kAction, {SIGUSR1, kHandler, 0}),
                  K::call(K::kMask, {sig_bits({SIGUSR1}).bits()}), K::call(K::kKill, {1, SIGUSR1}),
                  K::call(K::kKill, {1, SIGUSR1}), K::call(K::kNote, {1}), K::call(K::kMask, {0}),
                  K::call(K::kNote, {2}), K::call(K::kExit, {0})});
  k.code(kHandler, {K::call(K::kNote, {77}), K::ret()});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{1, 77, 2})) << "a standard signal is queued once";
}

TEST(Signals, FaultGoesToTheHandlerAndKillsWithout) {
  K k;
  k.code(kEntry, {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kWait),
                  call_result(K::kNote), K::call(K::kAction, {SIGSEGV, kHandler, 0}),
                  [](fake::Cpu& cpu) { return cpu.store(0x10, 1); }, K::call(K::kExit, {0})});
  k.code(kChild, {[](fake::Cpu& cpu) { return cpu.store(0x10, 1); }});
  k.code(kHandler, {K::call(K::kNote, {77}), K::call(K::kExit, {8})});
  EXPECT_EQ(k.run(), exited(8));
  EXPECT_EQ(k.notes, (std::vector<int64_t>{SIGSEGV, 77}));
}

TEST(Signals, NoRoomForAFrameKills) {
  K k;
  k.code(kEntry, {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kWait),
                  call_result(K::kNote), K::call(K::kExit, {0})});
  k.code(kChild,
         {K::call(K::kAction, {SIGUSR1, kHandler, 0}), K::call(K::kAction, {SIGSEGV, kHandler, 0}),
          [](fake::Cpu& cpu) -> std::optional<Trap> {
            cpu.regs.rsp = 0x1000;
            return std::nullopt;
          },
          K::call(K::kKill, {2, SIGUSR1}), K::call(K::kExit, {0})});
  k.code(kHandler, {K::call(K::kNote, {77})});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{SIGSEGV}));
}

TEST(JobControl, StopContinueAndWait) {
  K k;
  k.code(kEntry,
         {K::call(K::kFork), K::jump_if(0, kChild), keep(), K::call(K::kSleep, {1000}),
          call_kept(K::kKill, SIGSTOP), call_kept(K::kWait, WUNTRACED), call_result(K::kNote),
          call_kept(K::kKill, SIGCONT), call_kept(K::kWait, WCONTINUED), call_result(K::kNote),
          call_kept(K::kKill, SIGTERM), call_kept(K::kWait), call_result(K::kNote),
          K::call(K::kExit, {0})});
  k.code(kChild, {K::call(K::kThread), K::spin()});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{SIGSTOP << 8 | 0x7f, 0xffff, SIGTERM}));
}

// setpgid(0, 0) for the caller.
void add_own_group(K& k) {
  k.calls[22] = [](Task& t, const uint64_t(&)[6]) -> Result<int64_t> {
    new_pgrp(*t.group, t.group->group->session);
    return 0;
  };
}

TEST(JobControl, TerminalStopNeedsAParentThatCares) {
  K k;
  add_own_group(k);
  // A child of pid 1 in a group of its own stops; once its parent is not of its session's jobs any
  // more (it was adopted), the stop is ignored.
  k.code(kEntry,
         {K::call(K::kFork), K::jump_if(0, kChild), keep(), K::call(K::kSleep, {1000}),
          call_kept(K::kKill, SIGTSTP), call_kept(K::kWait, WUNTRACED), call_result(K::kNote),
          call_kept(K::kKill, SIGKILL), call_kept(K::kWait), K::call(K::kFork),
          K::jump_if(0, kHandler), K::call(K::kWait), K::call(K::kKill, {4, SIGTSTP}),
          K::call(K::kWait), call_result(K::kNote), K::call(K::kExit, {0})});
  k.code(kChild, {K::call(22), K::spin()});
  k.code(kHandler, {K::call(K::kFork), K::jump_if(0, kDone), K::call(K::kExit, {0})});
  k.code(kDone, {K::call(22), K::call(K::kSleep, {50'000}), K::call(K::kExit, {3})});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{SIGTSTP << 8 | 0x7f, exited(3)}));
}

TEST(JobControl, OrphanedStoppedGroupIsHungUp) {
  K k;
  add_own_group(k);
  // The middle process stops its child and ends: the child's group is an orphan and gets SIGHUP.
  k.code(kEntry, {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kWait), K::call(K::kWait),
                  call_result(K::kNote), K::call(K::kExit, {0})});
  k.code(kChild,
         {K::call(K::kFork), K::jump_if(0, kDone), keep(), K::call(K::kSleep, {1000}),
          call_kept(K::kKill, SIGSTOP), call_kept(K::kWait, WUNTRACED), K::call(K::kExit, {0})});
  k.code(kDone, {K::call(22), K::spin()});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{SIGHUP}));
}

TEST(JobControl, SleepGoesOnBehindAStop) {
  K k;
  k.code(kEntry, {K::call(K::kFork), K::jump_if(0, kChild), keep(), K::call(K::kSleep, {1000}),
                  call_kept(K::kKill, SIGSTOP), call_kept(K::kWait, WUNTRACED),
                  call_kept(K::kKill, SIGCONT), call_kept(K::kWait), call_result(K::kNote),
                  K::call(K::kExit, {0})});
  k.code(kChild, {K::call(K::kSleep, {50'000}), K::jump_if(0, kDone), K::call(K::kExit, {1})});
  k.code(kDone, {K::call(K::kExit, {2})});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{exited(2)}));
}

TEST(Exec, ReplacesTheImageAndEndsOtherThreads) {
  K k;
  k.prepare = [&](Park& park) { k.make_file(park, "/init2", tiny_elf(kDone), 0755); };
  // The second thread executes: it becomes the leader with the leader's number.
  k.code(kEntry, {K::call(K::kThread), K::jump_if(0, kChild), K::spin()});
  k.code(kChild, {K::call(K::kExec), K::call(K::kExit, {1})});
  k.calls[K::kNote] = [&](Task& t, const uint64_t(&)[6]) -> Result<int64_t> {
    k.notes = {t.tid, t.tgid(), static_cast<int64_t>(t.group->threads.size()), t.is_leader()};
    EXPECT_EQ(t.comm, "init2");
    return 0;
  };
  k.code(kDone, {K::call(K::kNote), K::call(K::kExit, {6})});
  EXPECT_EQ(k.run(), exited(6));
  EXPECT_EQ(k.notes, (std::vector<int64_t>{1, 1, 1, 1}));
}

TEST(Exec, ErrorsLeaveTheCallerAsItWas) {
  struct Case {
    std::string content;
    uint32_t mode;
    Errno error;
  };
  std::string truncated = tiny_elf().substr(0, 80);
  for (const Case& c :
       {Case{tiny_elf(), 0644, Errno::kACCES}, Case{"", 0755, Errno::kNOEXEC},
        Case{"text", 0755, Errno::kNOEXEC}, Case{truncated, 0755, Errno::kNOEXEC},
        Case{"#!/none\n", 0755, Errno::kNOENT}, Case{"#!/init2\n", 0755, Errno::kLOOP},
        Case{"#!\n", 0755, Errno::kNOEXEC}}) {
    K k;
    k.prepare = [&](Park& park) { k.make_file(park, "/init2", c.content, c.mode); };
    k.code(kEntry, {K::call(K::kExec), call_result(K::kNote), K::call(K::kExit, {0})});
    EXPECT_EQ(k.run(), 0);
    EXPECT_EQ(k.notes, (std::vector<int64_t>{-static_cast<int>(c.error)})) << c.content;
  }
}

TEST(Exec, ScriptsRunTheirInterpreter) {
  K k;
  k.prepare = [&](Park& park) {
    k.make_file(park, "/init2", "#! /interp  one arg \nrest", 0755);
    k.make_file(park, "/interp", tiny_elf(kDone), 0755);
  };
  k.code(kEntry, {K::call(K::kExec), K::call(K::kExit, {1})});
  std::string args;
  k.calls[K::kNote] = [&](Task& t, const uint64_t(&)[6]) -> Result<int64_t> {
    const auto& image = t.mm().image;
    args.resize(image.arg_end - image.arg_start);
    EXPECT_TRUE(t.mm().copy_in(t.park(), std::as_writable_bytes(std::span(args)), image.arg_start));
    return 0;
  };
  k.code(kDone, {K::call(K::kNote), K::call(K::kExit, {0})});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(args, std::string("/interp\0one arg\0/init2\0", 23));
}

TEST(Exec, AFailedStartIsAnErrorAndNoExit) {
  K k;
  k.init_path = "/none";
  EXPECT_EQ(k.run(), -1);
  EXPECT_EQ(k.started.error(), Errno::kNOENT);
}

TEST(Timers, IntervalTimerFiresAgainAndAgain) {
  K k;
  k.calls[20] = [](Task& t, const uint64_t(&)[6]) -> Result<int64_t> {
    t.group->timers->set(0, {1'000'000, 2'000'000});
    return 0;
  };
  k.code(kEntry, {K::call(K::kAction, {SIGALRM, kHandler, 0}), K::call(20), K::call(K::kPause),
                  K::call(K::kPause), K::call(K::kPause), K::call(K::kExit, {0})});
  k.code(kHandler, {K::call(K::kNote, {77}), K::ret()});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes.size(), 3u);
}

TEST(Oom, KillsTheLargestAndNotInit) {
  K k;
  k.calls[20] = [](Task& t, const uint64_t(&)[6]) -> Result<int64_t> {
    MmapRequest r;
    r.len = 2000 * kPageSize;
    r.prot = Prot::kRead | Prot::kWrite;
    r.populate = true;
    TRY(t.mm().mmap(t.park(), r, t.mm_limits()));
    return 0;
  };
  k.calls[21] = [](Task& t, const uint64_t(&)[6]) -> Result<int64_t> {
    return t.kernel.oom_kill("test");
  };
  k.code(kEntry,
         {K::call(K::kFork), K::jump_if(0, kChild), K::call(K::kSleep, {1000}), K::call(21),
          call_result(K::kNote), K::call(K::kWait), call_result(K::kNote), K::call(K::kExit, {0})});
  k.code(kChild, {K::call(20), K::call(K::kPause)});
  EXPECT_EQ(k.run(), 0);
  EXPECT_EQ(k.notes, (std::vector<int64_t>{1, SIGKILL}));
}

}  // namespace
}  // namespace uk
