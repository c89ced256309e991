// A platform without guests for the tests of mm and of what stands on it: FakeMirror records what a
// stub would have mapped, applies changes only at flush (so that a frame given away too early is
// seen), and plays the guest's accesses.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ukernel/mm/address_space.h"
#include "ukernel/platform/platform.h"
#include "ukernel/sched/test_kit.h"

namespace uk::mm_test {

constexpr uint64_t kUserLimit = uint64_t{1} << 47;

struct Mapped {
  int fd;
  uint64_t offset;
  Prot prot;
};

class FakeMirror final : public GuestSpace {
 public:
  void map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool) override {
    urgent_ = true;
    queue_map(addr, len, prot, fd, offset);
  }
  void map_late(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset, bool) override {
    for (uint64_t a = addr; a < addr + len; a += kPageSize)
      EXPECT_TRUE(!live.contains(a) || within(going_, a)) << "not even about to go";
    late_.emplace_back(addr, addr + len);
    queue_map(addr, len, prot, fd, offset);
  }
  bool late(uint64_t addr) const override { return within(late_, addr); }
  void unmap(uint64_t addr, uint64_t len, By by) override {
    check(addr, len);
    ++commands;
    unconfirmed_ = unconfirmed_ || by == By::kGuest;
    urgent_ = true;
    going_.emplace_back(addr, addr + len);
    queue_.push_back(
        [=, this] { live.erase(live.lower_bound(addr), live.lower_bound(addr + len)); });
  }
  void protect(uint64_t addr, uint64_t len, Prot prot, By) override {
    check(addr, len);
    ++commands;
    urgent_ = true;
    queue_.push_back([=, this] {
      for (uint64_t a = addr; a < addr + len; a += kPageSize) {
        auto it = live.find(a);
        ASSERT_NE(it, live.end()) << "protect of a page that is not mapped: " << std::hex << a;
        it->second.prot = prot;
      }
    });
  }
  Result<> flush(Park&) override {
    apply_all();
    unconfirmed_ = false;
    return {};
  }
  bool unconfirmed() const override { return unconfirmed_; }
  // What happens before the guest runs.
  void apply() {
    if (urgent_) apply_all();
  }
  void apply_all() {
    for (auto& f : std::exchange(queue_, {})) f();
    late_.clear();
    going_.clear();
    urgent_ = false;
  }
  bool dirty() const override { return urgent_; }
  Result<std::unique_ptr<GuestContext>> new_context(Park&, const arch::UserRegs&,
                                                    const arch::FpState&) override {
    return Err(Errno::kNOSYS);
  }
  void unmap_all() override {
    urgent_ = true;
    going_.emplace_back(0, kUserLimit);
    queue_.push_back([this] { live.clear(); });
  }
  int host_pid() const override { return 0; }

  std::map<uint64_t, Mapped> live;
  int commands = 0;

 private:
  using Ranges = std::vector<std::pair<uint64_t, uint64_t>>;
  static bool within(const Ranges& ranges, uint64_t addr) {
    for (auto [from, to] : ranges)
      if (from <= addr && addr < to) return true;
    return false;
  }
  void queue_map(uint64_t addr, uint64_t len, Prot prot, int fd, uint64_t offset) {
    check(addr, len);
    ++commands;
    queue_.push_back([=, this] {
      for (uint64_t o = 0; o < len; o += kPageSize) live[addr + o] = {fd, offset + o, prot};
    });
  }
  static void check(uint64_t addr, uint64_t len) {
    CHECK(addr % kPageSize == 0 && len % kPageSize == 0 && len != 0);
    CHECK(addr < kUserLimit && len <= kUserLimit - addr);
  }
  std::vector<std::function<void()>> queue_;
  Ranges late_, going_;  // mapped late; about to be unmapped
  bool urgent_ = false;
  bool unconfirmed_ = false;
};

class FakeMirrorPlatform final : public Platform {
 public:
  std::string_view name() const override { return "mirror"; }
  uint64_t user_limit() const override { return kUserLimit; }
  Result<std::unique_ptr<GuestSpace>> new_space(Park&, const SpaceLine&) override {
    return std::make_unique<FakeMirror>();
  }
  uint64_t gate() const override { return gate_address; }
  uint64_t gate_address = 0;
};

// A file of the host that is mapped without copies.
class FakeHostFile final : public MemoryObject {
 public:
  FakeHostFile(int fd, std::string content) : fd_(fd), content_(std::move(content)) {}
  Result<PageRef> get_page(Park&, uint64_t, bool) override {
    ADD_FAILURE() << "get_page of a host-backed object";
    return Err(Errno::kIO);
  }
  std::optional<HostRange> host_range(uint64_t index) override {
    return HostRange{fd_, index * kPageSize};
  }
  Result<size_t> read(Park& park, uint64_t offset, std::span<std::byte> out) override {
    if (suspends) park.yield();
    if (offset >= content_.size()) return 0;
    size_t n = std::min(out.size(), content_.size() - offset);
    std::memcpy(out.data(), content_.data() + offset, n);
    return n;
  }
  uint64_t size() override { return content_.size(); }
  bool writable() const override { return false; }
  std::string& content() { return content_; }
  int fd() const { return fd_; }
  std::optional<uint64_t> stamp() override { return version; }
  bool suspends = false;
  uint64_t version = 1;

 private:
  int fd_;
  std::string content_;
};

// Memory, platform and a fiber to run on.
struct World {
  explicit World(uint64_t bytes = 64 << 20) : mem(CHECK_OK(PhysMemory::create(bytes))) {}

  void run(std::function<void(Park&)> body) {
    bool done = false;
    sim.reactor.spawn("test", [&](Park& park) {
      body(park);
      done = true;
    });
    sim.run();
    ASSERT_TRUE(done);
  }
  Ref<AddressSpace> space(Park& park) {
    return CHECK_OK(AddressSpace::create(park, *mem, platform));
  }
  Ref<FakeHostFile> host_file(std::string content) {
    auto f = make_ref<FakeHostFile>(next_fd++, std::move(content));
    files[f->fd()] = f;
    return f;
  }

  static FakeMirror& mirror(AddressSpace& as) { return static_cast<FakeMirror&>(as.guest()); }

  // One access of guest code, faulting as the hardware and the platform would; null: done. `exact`:
  // the platform knows the kind of access (notify), else not (ptrace).
  std::optional<FaultError> access(Park& park, AddressSpace& as, uint64_t addr, bool write,
                                   std::byte* byte, bool exact = false) {
    for (int tries = 0; tries < 20; ++tries) {
      mirror(as).apply();
      auto it = mirror(as).live.find(page_floor(addr));
      if (it != mirror(as).live.end()) {
        const Mapped& m = it->second;
        if (any(m.prot & (write ? Prot::kWrite : Prot::kRead | Prot::kWrite | Prot::kExec))) {
          if (m.fd == mem->fd()) {
            std::byte* p = mem->ptr(static_cast<Pfn>(m.offset / kPageSize)) + addr % kPageSize;
            write ? (void)(*p = *byte) : (void)(*byte = *p);
          } else {
            CHECK(!write);
            std::string& c = files.at(m.fd)->content();
            const uint64_t at = m.offset + addr % kPageSize;
            if (page_ceil(c.size()) <= m.offset) return FaultError{SIGBUS, BUS_ADRERR};
            *byte = at < c.size() ? std::byte(c[at]) : std::byte(0);
          }
          return std::nullopt;
        }
      }
      ++faults;
      auto r = as.fault(park, addr,
                        !exact  ? Access::kUnknown
                        : write ? Access::kWrite
                                : Access::kRead,
                        0x7000);
      if (!r) return r.error();
    }
    ADD_FAILURE() << "no progress at " << std::hex << addr;
    return FaultError{SIGKILL, 0};
  }
  // -1: faulted.
  int read(Park& park, AddressSpace& as, uint64_t addr) {
    std::byte b{};
    return access(park, as, addr, false, &b) ? -1 : static_cast<int>(b);
  }
  bool write(Park& park, AddressSpace& as, uint64_t addr, int value) {
    std::byte b = static_cast<std::byte>(value);
    return !access(park, as, addr, true, &b);
  }

  SimReactor sim;
  std::unique_ptr<PhysMemory> mem;
  FakeMirrorPlatform platform;
  std::map<int, Ref<FakeHostFile>> files;
  int next_fd = 100000;
  int faults = 0;
};

}  // namespace uk::mm_test
