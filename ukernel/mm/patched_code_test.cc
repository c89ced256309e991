// Code that many processes map with its call sites patched.
#include "ukernel/mm/patched_code.h"

#include <gtest/gtest.h>

#include "ukernel/mm/cpuid_sites.h"
#include "ukernel/mm/test_peer.h"

namespace uk {
namespace {

constexpr Prot kRX = Prot::kRead | Prot::kExec, kRW = Prot::kRead | Prot::kWrite;
constexpr uint64_t kGate = 0x7f0000001234;
constexpr uint64_t kFirst = 1, kPages = 3;            // of the file: its code
constexpr uint64_t kSite = kFirst * kPageSize + 100;  // offset in the file
constexpr uint64_t kLength = kPages * kPageSize;
constexpr uint64_t kThunks = PatchedCode::kThunkPages * kPageSize;
const std::string kMov{"\xb8\x27\0\0\0", 5}, kTail{"\x0f\x05\xc3", 3};

class Patched : public mm_test::SpaceTest {
 protected:
  void with_file(std::function<void(Park&, Ref<AddressSpace>)> body) {
    on([&](Park& park, AddressSpace& as) {
      w->platform.gate_address = kGate;
      std::string content((kFirst + kPages + 2) * kPageSize, '\x90');
      content.replace(kSite, 8, kMov + kTail);
      content.replace(kSite + kPageSize, 8, kMov + kTail);
      file = w->host_file(std::move(content));
      as.code_owner = 5;
      body(park, Ref<AddressSpace>(&as));
      file = nullptr;
      as.clear(park);
      w->mem->code_shelf = nullptr;
      EXPECT_EQ(w->mem->code_pages, 0u) << "a copy outlives its users";
    });
  }
  Ref<AddressSpace> other(Park& park, std::optional<uint32_t> owner = 5) {
    Ref<AddressSpace> as = w->space(park);
    as->code_owner = owner;
    return as;
  }
  uint64_t map_code(Park& park, AddressSpace& as, uint64_t addr = 0) {
    return CHECK_OK(map(park, as, addr, kLength, kRX, [&](MmapRequest& r) {
      r.object = file;
      r.offset = kFirst * kPageSize;
      r.fixed = addr != 0;
    }));
  }
  static uint64_t site_at(uint64_t code) { return code - kFirst * kPageSize + kSite; }
  static std::string bytes(Park& park, AddressSpace& as, uint64_t at, size_t n) {
    std::string out(n, 0);
    auto got = as.force_copy_in(park, std::as_writable_bytes(std::span(out)), at);
    return got && *got == n ? out : "";
  }
  static bool is_patched(Park& park, AddressSpace& as, uint64_t code) {
    const std::string now = bytes(park, as, site_at(code), 8);
    EXPECT_EQ(now.substr(5), kTail);
    EXPECT_TRUE(now[0] == '\xe9' || now.substr(0, 5) == kMov);
    return now[0] == '\xe9';
  }
  // Calls come from the site (or the one a page further on) until a copy is worth it.
  static void call_often(Park& park, AddressSpace& as, uint64_t code, uint64_t more = 0,
                         uint64_t rax = 0x27) {
    arch::UserRegs regs;
    regs.rip = site_at(code) + more + 7;
    regs.rax = rax;
    int learn = 0;
    for (int i = 0; i < 80; ++i) {
      if (!as.note_file_call(regs.rip)) continue;
      ++learn;
      as.learn_file_call(park, regs);
    }
    EXPECT_EQ(learn, 1);
  }
  // One that may map the copy which is worth it now.
  Ref<AddressSpace> other_after_calls(Park& park, AddressSpace& as) {
    call_often(park, as, map_code(park, as));
    return other(park);
  }
  Ref<mm_test::FakeHostFile> file;
};

TEST_F(Patched, WhoMapsTheCodeNextHasItsSitesPatched) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    const uint64_t code = map_code(park, *as);
    call_often(park, *as, code);
    EXPECT_FALSE(is_patched(park, *as, code)) << "it has the file";
    Ref<AddressSpace> next = other(park);
    const uint64_t a = map_code(park, *next), base = a - kFirst * kPageSize;
    ASSERT_TRUE(is_patched(park, *next, a));
    EXPECT_EQ(bytes(park, *next, site_at(a) + kPageSize, 8), kMov + kTail) << "nobody called there";
    EXPECT_EQ(bytes(park, *next, a + kLength - 4, 4), "\x90\x90\x90\x90");
    // The jump leads to a thunk right below the file's place.
    int32_t distance;
    memcpy(&distance, &bytes(park, *next, site_at(a) + 1, 4)[0], 4);
    const uint64_t thunk = site_at(a) + 5 + static_cast<uint64_t>(int64_t{distance});
    EXPECT_EQ(thunk, base - kThunks + 32);
    const std::span moved(reinterpret_cast<const uint8_t*>(kMov.data()), kMov.size());
    const CallThunk want = make_thunk(moved, thunk, site_at(a) + 7, base - kThunks);
    EXPECT_EQ(bytes(park, *next, thunk, want.size()),
              std::string(reinterpret_cast<const char*>(want.data()), want.size()));
    uint64_t gate;
    memcpy(&gate, &bytes(park, *next, base - kThunks, 8)[0], 8);
    EXPECT_EQ(gate, kGate);
    EXPECT_EQ(next->call_sites.visible_ip(thunk), site_at(a));
    EXPECT_EQ(next->call_sites.visible_ip(thunk + 5), site_at(a) + 5);
    EXPECT_EQ(next->call_sites.visible_ip(thunk + 32), thunk + 32) << "no site's";
    EXPECT_TRUE(next->munmap(park, base - kThunks - kPageSize, 3 * kPageSize)) << "they stay";
    EXPECT_TRUE(next->munmap(park, base - kPageSize, kPageSize));
    EXPECT_EQ(bytes(park, *next, thunk, 5), kMov);
    AddressSpaceTestPeer::check_mirror(*w, *next);
    // Their children, too.
    Ref<AddressSpace> child = CHECK_OK(next->fork(park, {}));
    EXPECT_TRUE(is_patched(park, *child, a));
    EXPECT_EQ(child->call_sites.visible_ip(thunk), site_at(a));
  });
}

TEST_F(Patched, CpuidIsAnsweredInTheCopy) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    const std::string ask{"\xb8\0\0\0\x80\x0f\xa2", 7};
    constexpr uint64_t kAsk = 500;  // from the site
    file->content().replace(kSite + kAsk, ask.size(), ask);
    call_often(park, *as, map_code(park, *as));
    Ref<AddressSpace> next = other(park);
    const uint64_t a = map_code(park, *next), base = a - kFirst * kPageSize;
    ASSERT_TRUE(is_patched(park, *next, a));
    const uint64_t at = site_at(a) + kAsk, thunk = base - kThunks + 64;
    const auto jump = jump_to(at, thunk);
    EXPECT_EQ(bytes(park, *next, at, 7),
              std::string(reinterpret_cast<const char*>(jump.data()), jump.size()) + "\x0f\xa2");
    const CallThunk want = make_cpuid_thunk(0x80000000, thunk, at + 7);
    EXPECT_EQ(bytes(park, *next, thunk, want.size()),
              std::string(reinterpret_cast<const char*>(want.data()), want.size()));
    EXPECT_EQ(next->call_sites.visible_ip(thunk), at);
    EXPECT_EQ(next->call_sites.visible_ip(thunk + 15), at) << "eax is still to come";
    EXPECT_EQ(next->call_sites.visible_ip(thunk + 20), at + 7);
    next->call_sites.turn_off(park, *next);
    EXPECT_EQ(bytes(park, *next, at, 7), ask);
  });
}

TEST_F(Patched, OwnersAreApart) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    const uint64_t code = map_code(park, *as);
    call_often(park, *as, code);
    for (std::optional<uint32_t> owner : {std::optional<uint32_t>(6), std::optional<uint32_t>()}) {
      Ref<AddressSpace> stranger = other(park, owner);
      EXPECT_FALSE(is_patched(park, *stranger, map_code(park, *stranger)));
    }
    Ref<AddressSpace> nobody = other(park, std::nullopt);
    EXPECT_FALSE(nobody->note_file_call(site_at(map_code(park, *nobody)) + 7));
  });
}

TEST_F(Patched, OnlyWhatIsEvidentIsLearnt) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    const uint64_t code = map_code(park, *as);
    call_often(park, *as, code, 0, /*rax=*/0x28);
    call_often(park, *as, code, 20);  // no call is there
    Ref<AddressSpace> next = other(park);
    EXPECT_FALSE(is_patched(park, *next, map_code(park, *next)));
  });
}

TEST_F(Patched, MoreSitesMakeAnotherCopy) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    const uint64_t code = map_code(park, *as);
    call_often(park, *as, code);
    Ref<AddressSpace> second = other(park), third = other(park);
    const uint64_t b = map_code(park, *second);
    call_often(park, *second, b, kPageSize);
    EXPECT_EQ(bytes(park, *second, site_at(b) + kPageSize, 8), kMov + kTail) << "never changes";
    const uint64_t c = map_code(park, *third);
    EXPECT_TRUE(is_patched(park, *third, c));
    EXPECT_EQ(bytes(park, *third, site_at(c) + kPageSize, 1), "\xe9");
  });
}

TEST_F(Patched, AnotherFileIsNotTheOneThatWasLearnt) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    const uint64_t code = map_code(park, *as);
    call_often(park, *as, code);
    file->content().replace(kSite, 5, std::string("\xb8\x28\0\0\0", 5));
    file->version = 2;
    Ref<AddressSpace> next = other(park);
    const uint64_t a = map_code(park, *next);
    EXPECT_EQ(bytes(park, *next, site_at(a), 2), "\xb8\x28");
    call_often(park, *next, a, 0, 0x28);
    Ref<AddressSpace> third = other(park);
    EXPECT_EQ(bytes(park, *third, site_at(map_code(park, *third)), 1), "\xe9");
  });
}

TEST_F(Patched, WithoutRoomForTheThunksTheFileIsMapped) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    const uint64_t code = map_code(park, *as);
    call_often(park, *as, code);
    constexpr uint64_t kAt = 0x40000000;
    CHECK_OK(map(park, *as, kAt - 2 * kPageSize, kPageSize, kRW,
                 [](MmapRequest& r) { r.fixed = true; }));
    EXPECT_FALSE(is_patched(park, *as, map_code(park, *as, kAt)));
    Ref<AddressSpace> next = other(park);
    EXPECT_TRUE(is_patched(park, *next, map_code(park, *next, kAt)));
    // Its own thunks are in the way of a second one over it.
    EXPECT_FALSE(is_patched(park, *next, map_code(park, *next, kAt)));
  });
}

TEST_F(Patched, TheThunksGoWithTheCode) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    Ref<AddressSpace> next = other_after_calls(park, *as);
    const uint64_t a = map_code(park, *next), thunk = a - kFirst * kPageSize - kThunks + 32;
    CHECK_OK(next->munmap(park, a + kPageSize, kPageSize));
    EXPECT_EQ(next->stats().total_pages, kPages - 1 + PatchedCode::kThunkPages);
    EXPECT_EQ(next->call_sites.visible_ip(thunk), site_at(a));
    CHECK_OK(next->munmap(park, a, kLength));
    EXPECT_EQ(next->stats().total_pages, 0u);
    EXPECT_EQ(next->call_sites.visible_ip(thunk), thunk);
    AddressSpaceTestPeer::check_mirror(*w, *next);
    EXPECT_TRUE(is_patched(park, *next, map_code(park, *next)));
  });
}

TEST_F(Patched, TurnedOffItIsTheFileAgain) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    Ref<AddressSpace> next = other_after_calls(park, *as);
    const uint64_t a = map_code(park, *next), b = map_code(park, *next);
    const uint64_t thunk = a - kFirst * kPageSize - kThunks + 32;
    // One page has become a private copy.
    const std::byte nop[] = {std::byte{0x90}}, change[] = {std::byte{0xcc}};
    CHECK_OK(next->replace_code(park, site_at(a) + 20, nop, change));
    ASSERT_TRUE(is_patched(park, *next, a) && is_patched(park, *next, b));
    next->call_sites.turn_off(park, *next);
    EXPECT_FALSE(is_patched(park, *next, a));
    EXPECT_FALSE(is_patched(park, *next, b));
    EXPECT_EQ(bytes(park, *next, site_at(a) + 20, 1), "\xcc");
    EXPECT_EQ(next->call_sites.visible_ip(thunk), site_at(a)) << "who stands in one finds back";
    EXPECT_FALSE(is_patched(park, *next, map_code(park, *next))) << "none any more";
    AddressSpaceTestPeer::check_mirror(*w, *next);
  });
}

TEST_F(Patched, WhereItsThunksMustGoItIsTheFileAgain) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    Ref<AddressSpace> next = other_after_calls(park, *as);
    const uint64_t a = map_code(park, *next), thunk = a - kFirst * kPageSize - kThunks + 32;
    CHECK_OK(map(park, *next, page_floor(thunk), kPageSize, kRW,
                 [](MmapRequest& r) { r.fixed = true; }));
    EXPECT_FALSE(is_patched(park, *next, a));
    EXPECT_EQ(next->call_sites.visible_ip(thunk), thunk);
    EXPECT_EQ(bytes(park, *next, thunk, 1), std::string(1, 0));
    CHECK_OK(next->munmap(park, page_floor(thunk), kThunks + kLength + kPageSize));
    EXPECT_EQ(next->stats().total_pages, 0u);
    AddressSpaceTestPeer::check_mirror(*w, *next);
  });
}

TEST_F(Patched, MovedItIsTheFileAgain) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    Ref<AddressSpace> next = other_after_calls(park, *as);
    const uint64_t a = map_code(park, *next);
    ASSERT_TRUE(is_patched(park, *next, a));
    const uint64_t to = CHECK_OK(next->mremap(park, a, kLength, kLength, 3, 0x50000000, {}));
    EXPECT_FALSE(is_patched(park, *next, to));
    AddressSpaceTestPeer::check_mirror(*w, *next);
  });
}

TEST_F(Patched, WhoHasTheFileCanAdoptTheCopy) {
  with_file([&](Park& park, Ref<AddressSpace> as) {
    const uint64_t code = map_code(park, *as), ip = site_at(code) + 7;
    EXPECT_FALSE(as->adopt_patched_code(park, ip)) << "there is none";
    const std::byte nop[] = {std::byte{0x90}}, change[] = {std::byte{0xcc}};
    CHECK_OK(as->replace_code(park, code + 2 * kPageSize, nop, change));
    call_often(park, *as, code);
    EXPECT_FALSE(as->adopt_patched_code(park, ip + kPageSize)) << "it has no such site";
    ASSERT_TRUE(as->adopt_patched_code(park, ip));
    EXPECT_TRUE(is_patched(park, *as, code));
    EXPECT_EQ(bytes(park, *as, code + 2 * kPageSize, 1), "\xcc");
    const uint64_t thunk = code - kFirst * kPageSize - kThunks + 32;
    EXPECT_EQ(as->call_sites.visible_ip(thunk), site_at(code));
    EXPECT_FALSE(as->adopt_patched_code(park, ip)) << "it has";
    AddressSpaceTestPeer::check_mirror(*w, *as);
    as->call_sites.turn_off(park, *as);
    EXPECT_FALSE(is_patched(park, *as, code));
    EXPECT_FALSE(as->adopt_patched_code(park, ip));
  });
}

}  // namespace
}  // namespace uk
