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
  // A page of code with a call site at offset 100; returns the address behind its instruction.
  static uint64_t site(Park& park, AddressSpace& as, std::string before = "\x90") {
    const uint64_t a = map(park, as, kPageSize);
    const std::string code = before + std::string("\xb8\x27\0\0\0\x0f\x05\xc3", 8);
    CHECK_OK(as.copy_out(park, a + 100 - before.size(), std::as_bytes(std::span(code))));
    CHECK_OK(as.mprotect(park, a, kPageSize, kRX));
    return a + 107;
  }

  World w{64 << 20};
};

TEST_F(Code, CodeIsReplacedInAFrameOfItsOwn) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = map(park, as, 2 * kPageSize);
    std::byte buf[8], seen[8];
    std::fill(std::begin(buf), std::end(buf), std::byte{1});
    CHECK_OK(as.copy_out(park, a, buf));
    EXPECT_EQ(as.replace_code(park, a, buf).error(), Errno::kACCES);  // the guest may write it
    CHECK_OK(as.mprotect(park, a, 2 * kPageSize, kRX));
    Ref<AddressSpace> child = CHECK_OK(as.fork(park, {}));
    buf[0] = std::byte{2};
    CHECK_OK(as.replace_code(park, a, std::span(buf).first(1)));
    EXPECT_EQ(CHECK_OK(as.force_copy_in(park, seen, a)), 8u);
    EXPECT_EQ(seen[0], std::byte{2});
    EXPECT_EQ(seen[1], std::byte{1});
    EXPECT_EQ(CHECK_OK(child->force_copy_in(park, seen, a)), 8u);
    EXPECT_EQ(seen[0], std::byte{1});
    EXPECT_EQ(as.replace_code(park, a + (1 << 20), buf).error(), Errno::kACCES);
  });
}

TEST_F(Code, PagesOfCodeAreNearAndSealed) {
  on([&](Park& park, AddressSpace& as) {
    uint64_t a = map(park, as, kPageSize);
    uint64_t code = CHECK_OK(as.map_code(park, a, 1 << 20, "[test]"));
    EXPECT_LT(code, a);
    EXPECT_LE(a - code, 1u << 20);
    EXPECT_EQ(as.munmap(park, code, kPageSize).error(), Errno::kPERM);
    EXPECT_EQ(as.mprotect(park, code, kPageSize, kRW).error(), Errno::kPERM);
    EXPECT_EQ(as.madvise(park, code, kPageSize, 4).error(), Errno::kPERM);
    MmapRequest r;
    r.addr = code;
    r.len = kPageSize;
    r.fixed = true;
    r.prot = kRW;
    EXPECT_EQ(as.mmap(park, r, {}).error(), Errno::kPERM);
    Ref<AddressSpace> child = CHECK_OK(as.fork(park, {}));
    EXPECT_EQ(child->munmap(park, code, kPageSize).error(), Errno::kPERM);
    EXPECT_TRUE(as.munmap(park, a, kPageSize));
  });
}

TEST_F(Code, AHotSiteJumpsAndItsInstructionStays) {
  on([&](Park& park, AddressSpace& as) {
    const uint64_t ip = site(park, as);
    int hot = 0;
    for (uint32_t i = 0; i < 3 * CallSites::kHot; ++i) hot += as.call_sites.note(ip);
    EXPECT_EQ(hot, 1);
    ASSERT_TRUE(as.call_sites.patch(park, as, ip, 0x27, kGate));
    const std::string now = bytes(park, as, ip - 7, 8);
    EXPECT_EQ(now[0], '\xe9');
    EXPECT_EQ(now.substr(5), "\x0f\x05\xc3");
    int32_t distance;
    memcpy(&distance, &now[1], 4);
    const uint64_t thunk = ip - 2 + static_cast<uint64_t>(static_cast<int64_t>(distance));
    // mov $0x27, %eax; lea ip(%rip), %rcx; jmp *(%rip), by way of the gate's address.
    const std::string code = bytes(park, as, thunk, 18);
    EXPECT_EQ(code.substr(0, 8), std::string("\xb8\x27\0\0\0\x48\x8d\x0d", 8));
    memcpy(&distance, &code[8], 4);
    EXPECT_EQ(thunk + 12 + static_cast<uint64_t>(static_cast<int64_t>(distance)), ip);
    EXPECT_EQ(code.substr(12, 2), "\xff\x25");
    memcpy(&distance, &code[14], 4);
    uint64_t gate;
    const uint64_t from = thunk + 18 + static_cast<uint64_t>(static_cast<int64_t>(distance));
    memcpy(&gate, bytes(park, as, from, 8).data(), 8);
    EXPECT_EQ(gate, kGate);
    as.call_sites.turn_off(park, as);
    EXPECT_EQ(bytes(park, as, ip - 7, 8), std::string("\xb8\x27\0\0\0\x0f\x05\xc3", 8));
    for (uint32_t i = 0; i < 3 * CallSites::kHot; ++i) EXPECT_FALSE(as.call_sites.note(ip + 1));
  });
}

TEST_F(Code, WhatIsNoSuchSiteStaysAsItIs) {
  on([&](Park& park, AddressSpace& as) {
    const uint64_t ip = site(park, as);
    EXPECT_FALSE(as.call_sites.patch(park, as, ip, 0x28, kGate)) << "another number";
    EXPECT_FALSE(as.call_sites.patch(park, as, ip + 1, 0x27, kGate));
    EXPECT_FALSE(as.call_sites.patch(park, as, 3, 0x27, kGate));
    EXPECT_FALSE(as.call_sites.patch(park, as, ip + (64 << 20), 0x27, kGate)) << "nothing there";
    const uint64_t prefixed = site(park, as, "\x41");
    EXPECT_FALSE(as.call_sites.patch(park, as, prefixed, 0x27, kGate)) << "mov $0x27, %r8d";
    CHECK_OK(as.mprotect(park, page_floor(ip), kPageSize, kRW | Prot::kExec));
    EXPECT_FALSE(as.call_sites.patch(park, as, ip, 0x27, kGate)) << "the guest may write it";
    EXPECT_EQ(bytes(park, as, ip - 7, 8), std::string("\xb8\x27\0\0\0\x0f\x05\xc3", 8));
  });
}

// What is mapped over a patched site later is not touched.
TEST_F(Code, TurningOffRespectsWhatCameAfter) {
  on([&](Park& park, AddressSpace& as) {
    const uint64_t ip = site(park, as);
    ASSERT_TRUE(as.call_sites.patch(park, as, ip, 0x27, kGate));
    CHECK_OK(as.munmap(park, page_floor(ip), kPageSize));
    MmapRequest r;
    r.addr = page_floor(ip);
    r.len = kPageSize;
    r.fixed = true;
    r.prot = kRX;
    CHECK_OK(as.mmap(park, r, {}));
    as.call_sites.turn_off(park, as);
    EXPECT_EQ(bytes(park, as, ip - 7, 5), std::string(5, 0));
  });
}

}  // namespace
}  // namespace uk
