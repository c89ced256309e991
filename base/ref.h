// Ref<T>: intrusive reference counting for kernel objects. The count is not atomic: objects are
// reactor-owned (one thread). The last Ref destroys the object; a destructor must not suspend.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "base/check.h"

namespace uk {

class RefCounted {
 public:
  RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;

  void ref() const { ++refs_; }
  void unref() const {
    DCHECK(refs_ > 0);
    if (--refs_ == 0) on_last_unref();
  }
  uint32_t ref_count() const { return refs_; }

 protected:
  virtual ~RefCounted() = default;
  // Called when the count falls to zero; by default destroys the object. A cache may override it
  // and keep it.
  virtual void on_last_unref() const { delete this; }

 private:
  mutable uint32_t refs_ = 0;
};

template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}  // NOLINT: implicit, like a pointer
  explicit Ref(T* p) : p_(p) {
    if (p_ != nullptr) p_->ref();
  }
  Ref(const Ref& o) : Ref(o.p_) {}
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <class U>
  requires std::convertible_to<U*, T*> Ref(const Ref<U>& o) : Ref(o.get()) {}  // NOLINT
  template <class U>
  requires std::convertible_to<U*, T*> Ref(Ref<U>&& o)
  noexcept : p_(o.release()) {}  // NOLINT
  ~Ref() {
    if (p_ != nullptr) p_->unref();
  }
  Ref& operator=(Ref o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }

  T* get() const { return p_; }
  T* operator->() const { return p_; }
  T& operator*() const { return *p_; }
  explicit operator bool() const { return p_ != nullptr; }
  void reset() { *this = Ref(); }
  // Gives the reference away without dropping it.
  T* release() { return std::exchange(p_, nullptr); }

  friend bool operator==(const Ref& a, const Ref& b) { return a.p_ == b.p_; }
  friend bool operator==(const Ref& a, std::nullptr_t) { return a.p_ == nullptr; }

 private:
  T* p_ = nullptr;
};

template <class T, class... Args>
Ref<T> make_ref(Args&&... args) {
  return Ref<T>(new T(std::forward<Args>(args)...));
}

template <class T, class U>
Ref<T> static_ref_cast(const Ref<U>& r) {
  return Ref<T>(static_cast<T*>(r.get()));
}

}  // namespace uk
