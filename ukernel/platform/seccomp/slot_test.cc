// The slot's protocol, with the stub played by the test.
#include "ukernel/platform/seccomp/slot.h"

#include <thread>

#include "gtest/gtest.h"

namespace uk::seccomp {
namespace {

struct Stub {
  alignas(64) stub::SlotWords words = {};
  Slot slot{reinterpret_cast<std::byte*>(&words)};

  std::atomic_ref<uint32_t> turn() { return std::atomic_ref(words.turn); }
  void report(uint64_t signo, uint64_t uc) {
    words.signo = signo;
    words.uc = uc;
    words.fs_base = signo + 1;
    words.gs_base = signo + 2;
    turn().exchange(UK_TURN_REPORTED);
  }
  bool change(uint32_t from, uint32_t to) { return turn().compare_exchange_strong(from, to); }
};

TEST(Slot, AReportIsTakenOnce) {
  Stub s;
  seccomp_data d;
  EXPECT_EQ(s.slot.take(&d), Slot::Found::kNothing);
  s.report(31, 0x1000);
  ASSERT_EQ(s.slot.take(&d), Slot::Found::kReport);
  EXPECT_EQ(d.nr, UK_NR_REPORT);
  EXPECT_EQ(d.args[0], 31u);
  EXPECT_EQ(d.args[2], 0x1000u);
  EXPECT_EQ(d.args[4], 32u);
  EXPECT_EQ(d.args[5], 33u);
  EXPECT_EQ(s.slot.take(&d), Slot::Found::kNothing);
  EXPECT_EQ(s.slot.answer(5), Slot::Gave::kDone);
  EXPECT_EQ(s.words.turn, UK_TURN_ANSWERED | 5u);
}

TEST(Slot, AReportTakenBackIsNotSeen) {
  Stub s;
  seccomp_data d;
  s.report(1, 0);
  ASSERT_TRUE(s.change(UK_TURN_REPORTED, 0));
  EXPECT_EQ(s.slot.take(&d), Slot::Found::kNothing);
}

TEST(Slot, AParkedOneIsAnsweredElsewhere) {
  Stub s;
  seccomp_data d;
  s.report(1, 0);
  ASSERT_EQ(s.slot.take(&d), Slot::Found::kReport);
  EXPECT_EQ(s.slot.park(), Slot::Gave::kDone);
  EXPECT_EQ(s.words.turn, static_cast<uint32_t>(UK_TURN_PARK));
  EXPECT_EQ(s.slot.sleep(), Slot::Gave::kParked);
  EXPECT_EQ(s.slot.answer(5), Slot::Gave::kParked) << "it was told to, and will";
}

TEST(Slot, ASleeperIsAnsweredOrSentToPark) {
  Stub s;
  seccomp_data d;
  s.report(1, 0);
  ASSERT_EQ(s.slot.take(&d), Slot::Found::kReport);
  EXPECT_EQ(s.slot.sleep(), Slot::Gave::kDone);
  EXPECT_EQ(s.slot.sleep(), Slot::Gave::kDone) << "it sleeps already";
  EXPECT_EQ(s.slot.answer(5), Slot::Gave::kDone);
  EXPECT_EQ(s.words.turn, UK_TURN_ANSWERED | 5u);
  s.report(1, 0);
  ASSERT_EQ(s.slot.take(&d), Slot::Found::kReport);
  ASSERT_TRUE(s.change(UK_TURN_TAKEN, UK_TURN_SLEEP)) << "by itself";
  EXPECT_EQ(s.slot.park(), Slot::Gave::kDone);
  EXPECT_EQ(s.slot.answer(5), Slot::Gave::kParked);
}

TEST(Slot, GarbageIsForged) {
  Stub s;
  seccomp_data d;
  for (uint32_t garbage : {0u, 6u, 8u, 0x80000000u, 0xffffffffu}) {
    s.report(1, 0);
    ASSERT_EQ(s.slot.take(&d), Slot::Found::kReport);
    s.turn().store(garbage);
    EXPECT_EQ(s.slot.answer(5), Slot::Gave::kForged) << garbage;
    EXPECT_EQ(s.slot.park(), Slot::Gave::kForged) << garbage;
    EXPECT_EQ(s.words.turn, garbage) << "nothing is written over it";
  }
}

TEST(Slot, ACallIsTakenAndItsResultGiven) {
  Stub s;
  seccomp_data d;
  s.words.nr = 39;
  s.words.result = s.words.ret = 0x1234;
  for (uint64_t i = 0; i < 6; ++i) s.words.args[i] = i + 1;
  s.turn().store(UK_TURN_CALL);
  ASSERT_EQ(s.slot.take(&d), Slot::Found::kCall);
  EXPECT_EQ(d.nr, 39);
  EXPECT_EQ(d.instruction_pointer, 0x1234u);
  for (uint64_t i = 0; i < 6; ++i) EXPECT_EQ(d.args[i], i + 1);
  EXPECT_EQ(s.slot.take(&d, true), Slot::Found::kNothing) << "it was taken";
  EXPECT_EQ(s.slot.answer_call(77, UK_LOAD_REGS), Slot::Gave::kDone);
  EXPECT_EQ(s.words.result, 77u);
  EXPECT_EQ(s.words.ret, 0x1234u);
  EXPECT_EQ(s.words.turn, UK_TURN_ANSWERED | UK_LOAD_REGS);
}

TEST(Slot, ACallThatTakesLongIsMarkedAndPutToSleep) {
  Stub s;
  seccomp_data d;
  for (uint32_t call : {UK_TURN_CALL, UK_TURN_CALL_ALL}) {
    s.turn().store(call);
    ASSERT_NE(s.slot.take(&d), Slot::Found::kNothing);
    s.slot.mark_taken();
    EXPECT_EQ(s.words.turn, static_cast<uint32_t>(UK_TURN_TAKEN));
    EXPECT_EQ(s.slot.sleep(), Slot::Gave::kDone);
    s.slot.mark_taken();
    EXPECT_EQ(s.words.turn, static_cast<uint32_t>(UK_TURN_SLEEP));
    EXPECT_EQ(s.slot.answer_call(77, 0), Slot::Gave::kDone);
    s.slot.mark_taken();
    EXPECT_EQ(s.words.turn, UK_TURN_ANSWERED);
  }
}

TEST(Slot, ACallComesWithRegistersAndReturnsWithOthers) {
  Stub s;
  seccomp_data d;
  for (uint64_t i = 0; i < 8; ++i) s.words.saved[i] = 10 + i;
  s.words.args[3] = 4;
  s.words.ret = 0x1234;
  s.turn().store(UK_TURN_CALL_ALL);
  ASSERT_EQ(s.slot.take(&d), Slot::Found::kCallAll);
  arch::UserRegs r = s.slot.call_regs();
  EXPECT_EQ(r.rbx, 10u);
  EXPECT_EQ(r.rsp, 12u);
  EXPECT_EQ(r.r15, 16u);
  EXPECT_EQ(r.fs_base, 17u);
  EXPECT_EQ(r.r10, 4u);
  EXPECT_EQ(r.rip, 0x1234u);
  EXPECT_EQ(r.rcx, 0x1234u) << "as the instruction leaves it";
  r.rax = 7;
  r.r15 = 99;
  s.slot.set_return(r);
  EXPECT_EQ(s.words.to[UK_TO_RAX / 8], 7u);
  EXPECT_EQ(s.words.to[UK_TO_R15 / 8], 99u);
  EXPECT_EQ(s.words.to[UK_TO_RIP / 8], 0x1234u);
  EXPECT_EQ(s.words.to[UK_TO_FLAGS / 8], r.eflags);
}

TEST(Slot, ASignalInTheGateOvertakesTheAnswer) {
  Stub s;
  seccomp_data d;
  s.words.nr = 39;
  s.words.ret = 0x1234;
  s.turn().store(UK_TURN_CALL);
  ASSERT_EQ(s.slot.take(&d), Slot::Found::kCall);
  s.words.was = UK_TURN_CALL;
  s.report(10, 0x1000);
  EXPECT_EQ(s.slot.answer_call(77, 0), Slot::Gave::kOvertaken);
  EXPECT_EQ(s.slot.park(), Slot::Gave::kOvertaken);
  EXPECT_EQ(s.slot.interrupted(true).turn, static_cast<uint32_t>(UK_TURN_CALL));
  EXPECT_EQ(s.slot.interrupted(true).nr, 39u);
  EXPECT_EQ(s.slot.interrupted(true).ret, 0x1234u);
  ASSERT_EQ(s.slot.take(&d, true), Slot::Found::kReport);
  EXPECT_EQ(d.args[0], 10u);
}

// Reporting, taking back and sleeping against a kernel that takes and answers: every report is
// either taken or taken back, every taken one is answered once, and no sleeper is left.
TEST(Slot, RacesAreDecided) {
  constexpr uint64_t kReports = 3000;
  Stub s;
  std::atomic<uint64_t> taken = 0, slept = 0;
  std::atomic<bool> done = false;
  std::thread kernel([&] {
    seccomp_data d;
    while (!done) {
      const uint64_t before = slept;  // it may fall asleep by itself as soon as it is taken
      if (s.slot.take(&d) == Slot::Found::kNothing) continue;
      ++taken;
      EXPECT_EQ(d.args[0] + 1, d.args[4]);
      if (taken % 5 == 0) {
        EXPECT_EQ(s.slot.sleep(), Slot::Gave::kDone);
        while (slept == before) std::this_thread::yield();
      }
      EXPECT_EQ(s.slot.answer(static_cast<uint32_t>(d.args[0] & 0xff)), Slot::Gave::kDone);
    }
  });
  uint64_t back = 0, answered = 0;
  for (uint64_t i = 0; i < kReports; ++i) {
    s.report(i, i);
    for (uint64_t k = 0; k < i % 64; ++k) __builtin_ia32_pause();
    // Some wait for the kernel however busy the machine is.
    while (i % 100 == 0 && s.turn().load() == UK_TURN_REPORTED) std::this_thread::yield();
    if (s.change(UK_TURN_REPORTED, 0)) {
      ++back;
      continue;
    }
    if (i % 3 == 0) (void)s.change(UK_TURN_TAKEN, UK_TURN_SLEEP);
    uint32_t turn;
    while (((turn = s.turn().load()) & UK_TURN_ANSWERED) == 0) {
      if (turn == UK_TURN_SLEEP) {
        ++slept;
        (void)sys::futex_wait(&s.words.turn, UK_TURN_SLEEP, -1, true);
      } else {
        std::this_thread::yield();
      }
    }
    ASSERT_EQ(turn, UK_TURN_ANSWERED | (i & 0xff));
    ++answered;
  }
  done = true;
  kernel.join();
  EXPECT_EQ(back + answered, kReports);
  EXPECT_EQ(taken, answered);
  EXPECT_GT(slept, 0u);
}

}  // namespace
}  // namespace uk::seccomp
