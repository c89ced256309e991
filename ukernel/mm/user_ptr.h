// Typed pointers into guest memory, with direction. They carry only an address (guest input); every
// access goes through an AddressSpace, may suspend, and fails with kFAULT. Fetch once, then
// validate the copy.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "base/result.h"
#include "ukernel/mm/address_space.h"
#include "ukernel/mm/io.h"

namespace uk {

// An address the guest gave, of unknown meaning.
struct UserAddr {
  uint64_t addr = 0;
  explicit operator bool() const { return addr != 0; }
  UserAddr operator+(uint64_t n) const { return {addr + n}; }
};

template <class T>
struct UserIn : UserAddr {
  static_assert(std::is_trivially_copyable_v<T>);
  Result<T> get(Park& park, AddressSpace& mm, size_t index = 0) const {
    T value;
    size_t n = TRY(
        mm.copy_in(park, std::as_writable_bytes(std::span(&value, 1)), addr + index * sizeof(T)));
    if (n != sizeof(T)) return Err(Errno::kFAULT);
    return value;
  }
  Result<std::vector<T>> get_array(Park& park, AddressSpace& mm, size_t count) const {
    std::vector<T> values(count);
    if (count == 0) return values;
    size_t n = TRY(mm.copy_in(park, std::as_writable_bytes(std::span(values)), addr));
    if (n != count * sizeof(T)) return Err(Errno::kFAULT);
    return values;
  }
};

template <class T>
struct UserOut : UserAddr {
  static_assert(std::is_trivially_copyable_v<T>);
  Result<> put(Park& park, AddressSpace& mm, const T& value, size_t index = 0) const {
    size_t n =
        TRY(mm.copy_out(park, addr + index * sizeof(T), std::as_bytes(std::span(&value, 1))));
    if (n != sizeof(T)) return Err(Errno::kFAULT);
    return {};
  }
  Result<> put_array(Park& park, AddressSpace& mm, std::span<const T> values) const {
    if (values.empty()) return {};
    size_t n = TRY(mm.copy_out(park, addr, std::as_bytes(values)));
    if (n != values.size_bytes()) return Err(Errno::kFAULT);
    return {};
  }
};

template <class T>
struct UserInOut : UserIn<T> {
  UserOut<T> out() const { return UserOut<T>{{this->addr}}; }
  Result<> put(Park& park, AddressSpace& mm, const T& value) const {
    return out().put(park, mm, value);
  }
};

// A NUL-terminated string.
struct UserStr : UserAddr {
  Result<std::string> get(Park& park, AddressSpace& mm, size_t max = 4096) const {
    return mm.copy_in_string(park, addr, max);
  }
};

struct UserIovec {
  uint64_t base;
  uint64_t len;
};

// The pieces of an iovec and how much of them has been transferred.
class UserPieces {
 public:
  explicit UserPieces(std::vector<UserIovec> iov);
  size_t remaining() const { return remaining_; }

 protected:
  // The next `size` bytes, piece by piece: copy(address, bytes done before, bytes) says how many it
  // did. Ends early where that was fewer. Error: the copy's, if nothing was done before.
  template <class Copy>
  Result<size_t> transfer(size_t size, Copy copy);

 private:
  std::vector<UserIovec> iov_;
  size_t piece_ = 0, piece_done_ = 0, remaining_ = 0;
};

// An iovec of guest memory as sink or source. The pieces are fetched by the caller (fetch_iovec)
// and bounded.
class UserSink final : public IoSink, private UserPieces {
 public:
  UserSink(AddressSpace& mm, std::vector<UserIovec> iov) : UserPieces(std::move(iov)), mm_(mm) {}
  UserSink(AddressSpace& mm, uint64_t addr, uint64_t len) : UserSink(mm, {{addr, len}}) {}
  size_t remaining() const override { return UserPieces::remaining(); }
  Result<size_t> put(Park& park, std::span<const std::byte> from) override;

 private:
  AddressSpace& mm_;
};

class UserSource final : public IoSource, private UserPieces {
 public:
  UserSource(AddressSpace& mm, std::vector<UserIovec> iov) : UserPieces(std::move(iov)), mm_(mm) {}
  UserSource(AddressSpace& mm, uint64_t addr, uint64_t len) : UserSource(mm, {{addr, len}}) {}
  size_t remaining() const override { return UserPieces::remaining(); }
  Result<size_t> get(Park& park, std::span<std::byte> to) override;

 private:
  AddressSpace& mm_;
};

// readv(2)'s rules: at most 1024 pieces (kINVAL), no negative length (kINVAL), total cut at
// 0x7ffff000.
Result<std::vector<UserIovec>> fetch_iovec(Park& park, AddressSpace& mm, UserAddr iov,
                                           uint64_t count);

}  // namespace uk
