// The parts of task that need no instance: signal queues, descriptor tables, numbers, ELF headers,
// credentials of exec, random numbers, load averages.
#include <elf.h>
#include <fcntl.h>
#include <signal.h>

#include <cstring>
#include <random>

#include "ukernel/load_average.h"
#include "ukernel/random.h"
#include "ukernel/task/elf.h"
#include "ukernel/task/exec.h"
#include "ukernel/task/pid_ns.h"
#include "ukernel/task/test_kit.h"

namespace uk {
namespace {

TEST(SigQueue, StandardOnceRealTimeInOrderFaultsFirst) {
  SigQueue q;
  EXPECT_TRUE(q.add(siginfo_user(SIGUSR2, 0, 1, 0), 10));
  EXPECT_TRUE(q.add(siginfo_user(SIGUSR2, 0, 2, 0), 10));
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(q.add(siginfo_sigqueue(40, SI_QUEUE, 1, 0, i), 10));
  EXPECT_TRUE(q.add(siginfo_fault(SIGSEGV, SEGV_MAPERR, 0x10), 10));
  SigSet all(~0ull);
  EXPECT_EQ(q.take(all)->signo, SIGSEGV);
  EXPECT_EQ(siginfo_u32(*q.take(all), 16), 1u) << "the first of the two";
  for (uint32_t i = 0; i < 3; ++i) EXPECT_EQ(siginfo_u32(*q.take(all), 24), i);
  EXPECT_FALSE(q.take(all));
  EXPECT_TRUE(q.pending().empty());
}

TEST(SigQueue, RealTimeLimit) {
  SigQueue q;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(q.add(siginfo_user(40, SI_QUEUE, 1, 0), 3), i < 3);
  EXPECT_TRUE(q.add(siginfo_user(SIGTERM, 0, 1, 0), 3)) << "standard signals always fit";
  q.remove(sig_bits({40}));
  EXPECT_EQ(q.pending(), sig_bits({SIGTERM}));
}

TEST(FdTable, LowestFreeNumberAndLimits) {
  FdTable t;
  auto file = make_ref<BytesFile>("");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(t.add(file, false, 5), i);
  EXPECT_EQ(t.add(file, false, 5).error(), Errno::kMFILE);
  EXPECT_TRUE(t.remove(3));
  EXPECT_TRUE(t.remove(1));
  EXPECT_EQ(t.add(file, true, 5, 2), 3);
  EXPECT_EQ(t.add(file, false, 5), 1);
  EXPECT_TRUE(*t.cloexec(3));
  EXPECT_EQ(t.get(7).error(), Errno::kBADF);
  EXPECT_EQ(t.get(-1).error(), Errno::kBADF);
  EXPECT_EQ(t.replace(5, file, false, 5).error(), Errno::kBADF);
  EXPECT_EQ(t.highest(), 4);
  EXPECT_EQ(t.copy()->count(), 5u);
}

TEST(PidTable, WrapsAndSkipsTheUsed) {
  PidTable p;
  p.pid_max = 310;
  for (int i = 1; i < 310; ++i) EXPECT_EQ(p.alloc(), i);
  EXPECT_EQ(p.alloc().error(), Errno::kAGAIN);
  p.unreserve(305);
  p.unreserve(5);
  EXPECT_EQ(p.alloc(), 305) << "low numbers are not used again";
  EXPECT_EQ(p.alloc().error(), Errno::kAGAIN);
  EXPECT_EQ(p.alloc(nullptr, std::array{5}), 5);
  EXPECT_EQ(p.alloc(nullptr, std::array{5}).error(), Errno::kEXIST);
}

TEST(PidTable, NumbersOfNamespacesEndWithTheirLastUse) {
  PidTable p;
  auto outer = make_ref<PidNamespace>(nullptr, 310);
  auto inner = make_ref<PidNamespace>(outer, 310);
  EXPECT_EQ(p.alloc(), 1);
  EXPECT_EQ(p.alloc(inner.get()), 2);
  EXPECT_EQ(p.ns_of(2), inner.get());
  EXPECT_EQ(p.ns_of(1), nullptr);
  EXPECT_EQ(outer->inside(2), 1);
  EXPECT_EQ(inner->inside(2), 1);
  EXPECT_EQ(inner->inside(1), 0);
  EXPECT_EQ(p.alloc(inner.get(), std::array{40, 50, 60}), 60);
  EXPECT_EQ(inner->outside(40), 60);
  EXPECT_EQ(outer->outside(50), 60);
  EXPECT_EQ(p.alloc(inner.get(), std::array{41, 50}).error(), Errno::kEXIST);
  EXPECT_EQ(inner->outside(41), 0) << "nothing is left of the attempt";
  EXPECT_EQ(inner->count(), 2);
  auto fresh = make_ref<PidNamespace>(outer, 310);
  EXPECT_EQ(p.alloc(fresh.get(), std::array{1, 50}).error(), Errno::kEXIST);
  const int first = *p.alloc(fresh.get());
  EXPECT_EQ(fresh->inside(first), 1) << "an attempt does not count";
  p.unreserve(first);
  p.unreserve(60);
  EXPECT_EQ(p.ns_of(60), nullptr);
  EXPECT_EQ(inner->count(), 1);
  EXPECT_FALSE(inner->closed);
  p.unreserve(2);
  EXPECT_TRUE(inner->closed) << "process 1 was never made";
  EXPECT_EQ(p.alloc(inner.get()).error(), Errno::kNOMEM);
  EXPECT_EQ(outer->count(), 0);
}

// Runs on a fiber of an instance in invented time.
void on_fiber(const std::function<void(Park&)>& f) {
  SimReactor sim;
  sim.reactor.spawn("test", [&](Park& park) {
    f(park);
    sim.reactor.stop();
  });
  sim.run();
}

std::string patched(size_t offset, const void* data, size_t n) {
  std::string elf = tiny_elf();
  std::memcpy(elf.data() + offset, data, n);
  return elf;
}
template <class T>
std::string patched(size_t offset, T value) {
  return patched(offset, &value, sizeof value);
}

TEST(Elf, ReadsAGoodOne) {
  on_fiber([](Park& park) {
    auto file = make_ref<BytesFile>(tiny_elf());
    Result<ElfFile> elf = read_elf(park, *file);
    ASSERT_TRUE(elf);
    EXPECT_TRUE(elf->fixed);
    EXPECT_EQ(elf->segments.size(), 2u);
    EXPECT_EQ(elf->phdr_vaddr, kTextBase + sizeof(Elf64_Ehdr));
    EXPECT_EQ(elf->low(), kTextBase);
    EXPECT_EQ(elf->high(), kTextBase + 5 * kPageSize);
  });
}

TEST(Elf, LyingHeaders) {
  constexpr size_t kPhdr = sizeof(Elf64_Ehdr);
  struct Case {
    std::string bytes;
    Errno error;
  };
  std::vector<Case> cases = {
      {patched<uint8_t>(0, 'x'), Errno::kNOEXEC},
      {patched<uint8_t>(EI_CLASS, ELFCLASS32), Errno::kNOEXEC},
      {patched<uint8_t>(EI_DATA, ELFDATA2MSB), Errno::kNOEXEC},
      {patched<uint16_t>(offsetof(Elf64_Ehdr, e_type), ET_REL), Errno::kNOEXEC},
      {patched<uint16_t>(offsetof(Elf64_Ehdr, e_machine), EM_AARCH64), Errno::kNOEXEC},
      {patched<uint16_t>(offsetof(Elf64_Ehdr, e_phentsize), 55), Errno::kNOEXEC},
      {patched<uint16_t>(offsetof(Elf64_Ehdr, e_phnum), 0), Errno::kNOEXEC},
      {patched<uint16_t>(offsetof(Elf64_Ehdr, e_phnum), 0xffff), Errno::kNOEXEC},
      {patched<uint64_t>(offsetof(Elf64_Ehdr, e_phoff), ~0ull), Errno::kNOEXEC},
      {patched<uint64_t>(offsetof(Elf64_Ehdr, e_phoff), 1 << 20), Errno::kNOEXEC},
      {patched<uint64_t>(kPhdr + offsetof(Elf64_Phdr, p_filesz), ~0ull), Errno::kINVAL},
      {patched<uint64_t>(kPhdr + offsetof(Elf64_Phdr, p_memsz), ~0ull), Errno::kINVAL},
      {patched<uint64_t>(kPhdr + offsetof(Elf64_Phdr, p_vaddr), ~0ull << 12), Errno::kINVAL},
      {patched<uint64_t>(kPhdr + offsetof(Elf64_Phdr, p_vaddr), 0x400123), Errno::kINVAL},
      {patched<uint64_t>(kPhdr + offsetof(Elf64_Phdr, p_offset), ~0xfffull), Errno::kINVAL},
      {patched<uint32_t>(kPhdr + offsetof(Elf64_Phdr, p_type), PT_INTERP), Errno::kNOEXEC},
  };
  on_fiber([&](Park& park) {
    for (size_t i = 0; i < cases.size(); ++i) {
      auto file = make_ref<BytesFile>(cases[i].bytes);
      Result<ElfFile> elf = read_elf(park, *file);
      ASSERT_FALSE(elf) << i;
      EXPECT_EQ(elf.error(), cases[i].error) << i;
    }
  });
}

TEST(Elf, RandomDamageIsAnErrorOrBounded) {
  uint32_t seed = std::random_device()();
  SCOPED_TRACE(seed);
  std::mt19937 rng(seed);
  on_fiber([&](Park& park) {
    for (int i = 0; i < 5000; ++i) {
      std::string bytes = tiny_elf();
      for (int n = 1 + static_cast<int>(rng() % 4); n > 0; --n)
        bytes[rng() % (sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr))] = static_cast<char>(rng());
      if (rng() % 4 == 0) bytes.resize(rng() % 400);
      auto file = make_ref<BytesFile>(bytes);
      Result<ElfFile> elf = read_elf(park, *file);
      if (!elf) continue;
      EXPECT_FALSE(elf->segments.empty());
      EXPECT_LE(elf->low(), elf->high());
      for (const ElfSegment& s : elf->segments) EXPECT_LE(s.file_size, s.mem_size);
    }
  });
}

Ref<Cred> user(uint32_t uid) {
  auto c = make_ref<Cred>();
  c->uid = c->euid = c->suid = c->fsuid = c->gid = c->egid = c->sgid = c->fsgid = uid;
  c->cap_permitted = c->cap_effective = 0;
  return c;
}

TEST(ExecCred, SetuidRootAndBack) {
  Ref<Cred> u = user(1000);
  FileAttr attr;
  attr.mode = S_IFREG | S_ISUID | 0755;
  attr.uid = 0;
  bool secure = false;
  Ref<Cred> c = exec_cred(*u, attr, false, &secure);
  EXPECT_TRUE(secure);
  EXPECT_EQ(c->euid, 0u);
  EXPECT_EQ(c->suid, 0u);
  EXPECT_EQ(c->uid, 1000u);
  EXPECT_EQ(c->cap_effective, kAllCaps);
  c = exec_cred(*u, attr, true, &secure);
  EXPECT_EQ(c->euid, 1000u) << "nosuid mount";
  EXPECT_FALSE(secure);
  u->no_new_privs = true;
  EXPECT_EQ(exec_cred(*u, attr, false, &secure)->cap_effective, 0u);
}

TEST(ExecCred, SetgidNeedsGroupExec) {
  Ref<Cred> u = user(1000);
  FileAttr attr;
  attr.gid = 50;
  bool secure = false;
  attr.mode = S_IFREG | S_ISGID | 0755;
  EXPECT_EQ(exec_cred(*u, attr, false, &secure)->egid, 50u);
  attr.mode = S_IFREG | S_ISGID | 0745;
  EXPECT_EQ(exec_cred(*u, attr, false, &secure)->egid, 1000u);
}

TEST(ExecCred, CapabilitiesOfAnOrdinaryUserGo) {
  Ref<Cred> u = user(1000);
  u->cap_permitted = u->cap_effective = kAllCaps;
  u->cap_inheritable = u->cap_ambient = 1 << 10;
  FileAttr attr;
  attr.mode = S_IFREG | 0755;
  bool secure = true;
  Ref<Cred> c = exec_cred(*u, attr, false, &secure);
  EXPECT_EQ(c->cap_permitted, 1u << 10);
  EXPECT_EQ(c->cap_effective, 1u << 10);
  EXPECT_FALSE(secure);
}

TEST(Random, SeedRepeatsAndKeysDiffer) {
  std::array<std::byte, 100> a{}, b{}, c{};
  Random one(7), same(7), other(8);
  one.fill(a);
  same.fill(b);
  other.fill(c);
  EXPECT_EQ(a, b);
  EXPECT_NE(a, c);
  one.fill(b);
  EXPECT_NE(a, b) << "it goes on";
}

TEST(LoadAverage, RisesWithWorkAndFallsWhenIdle) {
  LoadAverage load;
  uint64_t now = 0, busy = 0;
  for (int i = 0; i < 120; ++i) {
    now += 5'000'000'000;
    busy += 10'000'000'000;
    load.update(now, busy, 0);
  }
  EXPECT_NEAR(load.value()[0], 2.0, 0.01);
  load.update(now + 600'000'000'000, busy, 0);
  EXPECT_LT(load.value()[0], 0.01);
  EXPECT_GT(load.value()[2], 0.3);
}

}  // namespace
}  // namespace uk
