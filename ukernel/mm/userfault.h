// userfaultfd(2): faults on missing pages of registered ranges are told to a reader, who brings the
// page or lets the thread try again.
//
// Ownership: a UserFault is held by its open file and by the VMAs registered with it. It belongs to
// one address space, which it does not hold: `space()` is null when that has gone. Threads that
// wait lie on the stacks of their fibers. Functions with Park& may suspend; ranges and contents are
// the guest's, of any process that has the descriptor.
#pragma once

#include <optional>
#include <vector>

#include "ukernel/mm/address_space.h"

namespace uk {

class UserFault final : public RefCounted {
 public:
  // `user_mode_only`: an access by the kernel that meets a missing page fails.
  static Ref<UserFault> create(AddressSpace& space, bool user_mode_only);
  ~UserFault() override;

  AddressSpace* space() const { return space_; }
  // UFFD_FEATURE_SIGBUS: nobody is told, the thread gets SIGBUS.
  bool sigbus = false;

  // ---- the faulting side (fault.cc). Waits until the page may be there. kRestartSys, kFAULT.
  enum class Who : uint8_t { kGuest, kKernel };
  Result<> wait(Park& park, uint64_t addr, bool write, uint64_t thread, Who who);

  // ---- the telling side
  struct Fault {
    uint64_t addr;
    bool write;
    uint64_t thread;
  };
  // The first fault nobody has been told of.
  std::optional<Fault> take();
  bool pending() const;
  WaitQueue arrived;  // something is pending, or the end of it

  // UFFDIO_REGISTER of [start, end) for missing pages. Pages of nothing but zeros become missing:
  // the kernel may have brought them without anybody's touching them.
  // kINVAL: no memory of a kind that can be; kPERM; kBUSY: another's.
  Result<> enroll(Park& park, uint64_t start, uint64_t end);
  Result<> unregister(uint64_t start, uint64_t end);
  // The page at addr may be brought. kNOENT: it is not registered.
  Result<> expects(uint64_t addr) const;
  // Brings the page at addr with these contents. kNOENT: not registered; kEXIST; kNOMEM.
  Result<> provide(Park& park, uint64_t addr, std::span<const std::byte> page);
  // UFFDIO_MOVE: whether pages may go from [src, src+len) to [dst, dst+len). kINVAL.
  Result<> check_move(uint64_t dst, uint64_t src, uint64_t len) const;
  // Moves the page at src to where one is missing. kNOENT: there is none at src, or nothing is
  // registered at dst; kEXIST; kBUSY: others have the page too; kAGAIN: somebody touches it;
  // kNOMEM.
  Result<> move(Park& park, uint64_t dst, uint64_t src);
  // UFFDIO_POISON: who touches the missing page at addr gets SIGBUS, until it is unmapped or thrown
  // away. kNOENT, kEXIST; kNOMEM: too many.
  Result<> poison(uint64_t addr);
  // Lets who waits for [start, end) look again.
  void wake(uint64_t start, uint64_t end);
  // The file is closed: nothing is registered any more.
  void close();

 private:
  friend struct AddressSpace::Impl;
  explicit UserFault(AddressSpace& space, bool user_mode_only)
      : space_(&space), user_mode_only_(user_mode_only) {}
  struct Waiter;
  Result<> drop_zero_pages(Park& park, uint64_t start, uint64_t end);
  AddressSpace* space_;
  const bool user_mode_only_;
  bool closed_ = false;
  std::vector<Waiter*> waiters_;  // in order of arrival
};

}  // namespace uk
