// Code changed by the kernel, and the pages it adds for that.
#include <gtest/gtest.h>

#include "ukernel/mm/address_space.h"
#include "ukernel/mm/call_sites.h"
#include "ukernel/mm/test_peer.h"

namespace uk {
namespace {

using mm_test::World;
constexpr Prot kRW = Prot::kRead | Prot::kWrite, kRX = Prot::kRead | Prot::kExec;
constexpr uint64_t kGate = 0x7f0000001234;

class Code : public testing::Test {
 protected:
  void on(std::function<void(Park&, AddressSpace&)> body) {
    w.run([&](Park& park) {
      Ref<AddressSpace> as = w.space(park);
      as->set_mmap_base(as->user_limit() - (2ull << 30));  // short jumps lead upwards
      body(park, *as);
      AddressSpaceTestPeer::check_mirror(w, *as);
    });
    EXPECT_EQ(w.mem->free_pages(), w.mem->total_pages());
    EXPECT_EQ(w.mem->anon_pages, 0u);
  }
  static uint64_t map(Park& park, AddressSpace& as, uint64_t len) {
    MmapRequest r;
    r.len = len;
    r.prot = kRW;
    return CHECK_OK(as.mmap(park, r, {}));
  }
  static std::string bytes(Park& park, AddressSpace& as, uint64_t at, size_t n) {
    std::string out(n, 0);
    EXPECT_EQ(CHECK_OK(as.force_copy_in(park, std::as_writable_bytes(std::span(out)), at)), n);
    return out;
  }
  // A page of code with a call site at offset 100, `instruction` and the call; the registers there.
  static arch::UserRegs site(Park& park, AddressSpace& as, const std::string& instruction = kMov,
                             const std::string& before = "\x90") {
    const uint64_t a = map(park, as, kPageSize);
    const std::string code = before + instruction + kTail;
    CHECK_OK(as.copy_out(park, a + 100 - before.size(), std::as_bytes(std::span(code))));
    CHECK_OK(as.mprotect(park, a, kPageSize, kRX));
    arch::UserRegs regs;
    regs.rax = 0x27;
    regs.rip = a + 100 + instruction.size() + 2;
    return regs;
  }
  static uint64_t target(const std::string& code, size_t operand, uint64_t ip) {
    int32_t distance;
    memcpy(&distance, &code[operand], 4);
    return ip + static_cast<uint64_t>(static_cast<int64_t>(distance));
  }
  // What stands where the jump of the site leads to.
  static void check_thunk(Park& park, AddressSpace& as, const std::string& instruction,
                          const arch::UserRegs& regs) {
    const size_t n = instruction.size();
    const uint64_t at = regs.rip - 2 - n;
    const std::string now = bytes(park, as, at, n + kTail.size());
    ASSERT_EQ(now[0], '\xe9');
    EXPECT_EQ(now.substr(n), kTail);
    const uint64_t thunk = target(now, 1, at + 5);
    // The instruction; lea ip(%rip), %rcx; jmp *(%rip), by way of the gate's address.
    const std::string code = bytes(park, as, thunk, n + 13);
    EXPECT_EQ(code.substr(0, n + 3), instruction + "\x48\x8d\x0d");
    EXPECT_EQ(target(code, n + 3, thunk + n + 7), regs.rip);
    EXPECT_EQ(code.substr(n + 7, 2), "\xff\x25");
    uint64_t gate;
    memcpy(&gate, bytes(park, as, target(code, n + 9, thunk + n + 13), 8).data(), 8);
    EXPECT_EQ(gate, kGate);
    EXPECT_EQ(as.call_sites.visible_ip(thunk), at);
    for (uint64_t i = 1; i < n + 13; ++i) {
      EXPECT_EQ(as.call_sites.visible_ip(thunk + i), regs.rip - 2);
    }
    EXPECT_EQ(as.call_sites.visible_ip(at), at);
  }
  static inline const std::string kMov{"\xb8\x27\0\0\0", 5};
  static inline const std::string kTail{"\x0f\x05\x48\x3d\x01\xf0\xff\xff", 8};

  World w{64 << 20};
};

TEST_F(Code, CodeIsReplacedInAFrameOfItsOwn) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = map(park, as, 2 * kPageSize);
    std::byte buf[8], seen[8];
    std::fill(std::begin(buf), std::end(buf), std::byte{1});
    CHECK_OK(as.copy_out(park, a, buf));
    EXPECT_EQ(as.replace_code(park, a, buf, buf).error(), Errno::kACCES);  // the guest may write it
    CHECK_OK(as.mprotect(park, a, 2 * kPageSize, kRX));
    Ref<AddressSpace> child = CHECK_OK(as.fork(park, {}));
    const std::byte was[] = {buf[0]};
    buf[0] = std::byte{2};
    EXPECT_EQ(as.replace_code(park, a, std::span(buf).first(1), was).error(), Errno::kAGAIN);
    CHECK_OK(as.replace_code(park, a, was, std::span(buf).first(1)));
    EXPECT_EQ(CHECK_OK(as.force_copy_in(park, seen, a)), 8u);
    EXPECT_EQ(seen[0], std::byte{2});
    EXPECT_EQ(seen[1], std::byte{1});
    EXPECT_EQ(CHECK_OK(child->force_copy_in(park, seen, a)), 8u);
    EXPECT_EQ(seen[0], std::byte{1});
    EXPECT_EQ(as.replace_code(park, a + (1 << 20), buf, buf).error(), Errno::kACCES);
  });
}

TEST_F(Code, PagesOfCodeAreNearAndSealed) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = map(park, as, kPageSize);
    uint64_t code = CHECK_OK(as.map_code(park, a - (1 << 20), a, "[test]"));
    EXPECT_LT(code, a);
    EXPECT_LE(a - code, 1u << 20);
    EXPECT_EQ(as.map_code(park, code, code, "[test]").error(), Errno::kNOMEM);
    EXPECT_EQ(as.map_code(park, 0, kPageSize, "[test]").error(), Errno::kNOMEM);
    // To the guest's calls there is nothing; what is there stays.
    EXPECT_TRUE(as.munmap(park, code, kPageSize));
    EXPECT_EQ(as.mprotect(park, code, kPageSize, kRW).error(), Errno::kNOMEM);
    EXPECT_EQ(as.madvise(park, code, kPageSize, 4).error(), Errno::kNOMEM);
    EXPECT_EQ(as.mremap(park, code, kPageSize, 2 * kPageSize, 1, 0, {}).error(), Errno::kFAULT);
    EXPECT_EQ(as.map_code(park, code, code, "[test]").error(), Errno::kNOMEM) << "it stayed";
    Ref<AddressSpace> child = CHECK_OK(as.fork(park, {}));
    EXPECT_TRUE(child->munmap(park, code, kPageSize));
    EXPECT_EQ(child->map_code(park, code, code, "[test]").error(), Errno::kNOMEM);
    MmapRequest r;
    r.addr = code;
    r.len = kPageSize;
    r.fixed_noreplace = true;
    r.prot = kRW;
    EXPECT_EQ(as.mmap(park, r, {}).error(), Errno::kEXIST);
    // Unless a mapping must go there.
    r.fixed_noreplace = false;
    r.fixed = true;
    EXPECT_EQ(CHECK_OK(as.mmap(park, r, {})), code);
    EXPECT_TRUE(as.munmap(park, code, kPageSize));
    EXPECT_TRUE(as.call_sites.off());
    EXPECT_TRUE(as.munmap(park, a, kPageSize));
  });
}

TEST_F(Code, AHotSiteJumpsAndItsInstructionStays) {
  on([&](Park& park, AddressSpace& as) {
    const arch::UserRegs regs = site(park, as);
    int hot = 0;
    for (uint32_t i = 0; i < 3 * CallSites::kHot; ++i) hot += as.call_sites.note(regs.rip);
    EXPECT_EQ(hot, 1);
    ASSERT_TRUE(as.call_sites.patch(park, as, regs, kGate));
    check_thunk(park, as, kMov, regs);
    EXPECT_FALSE(as.call_sites.patch(park, as, regs, kGate)) << "it is patched";
    as.call_sites.turn_off(park, as);
    EXPECT_EQ(bytes(park, as, regs.rip - 7, 13), kMov + kTail);
    for (uint32_t i = 0; i < 3 * CallSites::kHot; ++i) {
      EXPECT_FALSE(as.call_sites.note(regs.rip + 1));
    }
    EXPECT_FALSE(as.call_sites.patch(park, as, regs, kGate)) << "none any more";
  });
}

TEST_F(Code, InstructionsOfManyLengthsMove) {
  on([&](Park& park, AddressSpace& as) {
    const uint64_t stack = map(park, as, kPageSize);
    const uint64_t argument = 0x1122334455667788;
    CHECK_OK(as.copy_out(park, stack + 8, std::as_bytes(std::span(&argument, 1))));
    const struct {
      std::string code;
      void (*set)(arch::UserRegs&);
    } forms[] = {
        {"\x31\xc0", [](arch::UserRegs& r) { r.rax = 0; }},
        {"\x44\x89\xc0", [](arch::UserRegs& r) { r.r8 = 0x27; }},
        {"\x40\x80\xf6\x81", [](arch::UserRegs& r) { r.rsi = 0x80; }},
        {"\x8b\x7c\x24\x08", [](arch::UserRegs& r) { r.rdi = 0x55667788; }},
        {"\x4c\x8b\x4c\x24\x08", [](arch::UserRegs& r) { r.r9 = 0x1122334455667788; }},
        {std::string("\x81\xe6\x80\0\0\0", 6), [](arch::UserRegs& r) { r.rsi = 0x80; }},
        {std::string("\x48\xc7\xc0\x27\0\0\0", 7), [](arch::UserRegs&) {}},
    };
    for (const auto& f : forms) {
      arch::UserRegs regs = site(park, as, f.code, "\xc3");
      regs.rsp = stack;
      f.set(regs);
      ASSERT_TRUE(as.call_sites.patch(park, as, regs, kGate)) << f.code.size();
      const size_t n = f.code.size();
      if (n <= 5) {
        check_thunk(park, as, f.code, regs);
      } else {  // a whole jump, and the rest of the instruction
        EXPECT_EQ(bytes(park, as, regs.rip - 2 - n + 5, n - 5), f.code.substr(5));
      }
    }
    as.call_sites.turn_off(park, as);
  });
}

// A short jump leads to few places.
TEST_F(Code, WhereNoThunkFitsTheSiteStays) {
  on([&](Park& park, AddressSpace& as) {
    const std::string clear = "\x31\xc0";
    arch::UserRegs regs = site(park, as, clear);
    regs.rax = 0;
    MmapRequest r;
    r.addr = page_floor(regs.rip + 1 + 0x48050f00);
    r.len = 2 * kPageSize;
    r.fixed = true;
    r.prot = kRX;
    CHECK_OK(as.mmap(park, r, {}));
    EXPECT_FALSE(as.call_sites.patch(park, as, regs, kGate));
    EXPECT_EQ(bytes(park, as, regs.rip - 4, 10), clear + kTail);
    CHECK_OK(as.munmap(park, r.addr, r.len));
    EXPECT_TRUE(as.call_sites.patch(park, as, regs, kGate));
    // Two sites at one distance share a page.
    const size_t pages = as.stats().total_pages;
    CHECK_OK(as.mprotect(park, page_floor(regs.rip), kPageSize, kRW));
    const std::string code = clear + kTail;
    CHECK_OK(as.copy_out(park, page_floor(regs.rip) + 200, std::as_bytes(std::span(code))));
    CHECK_OK(as.mprotect(park, page_floor(regs.rip), kPageSize, kRX));
    regs.rip = page_floor(regs.rip) + 204;
    EXPECT_TRUE(as.call_sites.patch(park, as, regs, kGate));
    EXPECT_EQ(as.stats().total_pages, pages);
    check_thunk(park, as, clear, regs);
  });
}

TEST_F(Code, WhatIsNoSuchSiteStaysAsItIs) {
  on([&](Park& park, AddressSpace& as) {
    const arch::UserRegs regs = site(park, as);
    auto fails = [&](auto change) {
      arch::UserRegs r = regs;
      change(r);
      return !as.call_sites.patch(park, as, r, kGate);
    };
    EXPECT_TRUE(fails([](arch::UserRegs& r) { r.rax = 0x28; })) << "another number";
    EXPECT_TRUE(fails([](arch::UserRegs& r) { r.rip += 1; }));
    EXPECT_TRUE(fails([](arch::UserRegs& r) { r.rip = 3; }));
    EXPECT_TRUE(fails([](arch::UserRegs& r) { r.rip += 64 << 20; })) << "nothing there";
    const arch::UserRegs prefixed = site(park, as, kMov, "\x41");
    EXPECT_FALSE(as.call_sites.patch(park, as, prefixed, kGate)) << "mov $0x27, %r8d";
    CHECK_OK(as.mprotect(park, page_floor(regs.rip), kPageSize, kRW | Prot::kExec));
    EXPECT_TRUE(fails([](arch::UserRegs&) {})) << "the guest may write it";
    EXPECT_EQ(bytes(park, as, regs.rip - 7, 13), kMov + kTail);
  });
}

// What is mapped over a patched site later is not touched.
TEST_F(Code, TurningOffRespectsWhatCameAfter) {
  on([&](Park& park, AddressSpace& as) {
    const arch::UserRegs regs = site(park, as);
    ASSERT_TRUE(as.call_sites.patch(park, as, regs, kGate));
    CHECK_OK(as.munmap(park, page_floor(regs.rip), kPageSize));
    MmapRequest r;
    r.addr = page_floor(regs.rip);
    r.len = kPageSize;
    r.fixed = true;
    r.prot = kRX;
    CHECK_OK(as.mmap(park, r, {}));
    as.call_sites.turn_off(park, as);
    EXPECT_EQ(bytes(park, as, regs.rip - 7, 5), std::string(5, 0));
  });
}

}  // namespace
}  // namespace uk
