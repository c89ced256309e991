// Typed bit operations for enum classes that are sets of bits: `UK_BITMASK(Prot)` after the enum.
#pragma once

#include <type_traits>

#define UK_BITMASK(E)                                                                \
  constexpr E operator|(E a, E b) {                                                  \
    return static_cast<E>(static_cast<std::underlying_type_t<E>>(a) |                \
                          static_cast<std::underlying_type_t<E>>(b));                \
  }                                                                                  \
  constexpr E operator&(E a, E b) {                                                  \
    return static_cast<E>(static_cast<std::underlying_type_t<E>>(a) &                \
                          static_cast<std::underlying_type_t<E>>(b));                \
  }                                                                                  \
  constexpr E operator~(E a) {                                                       \
    return static_cast<E>(~static_cast<std::underlying_type_t<E>>(a));               \
  }                                                                                  \
  constexpr E& operator|=(E& a, E b) { return a = a | b; }                           \
  constexpr E& operator&=(E& a, E b) { return a = a & b; }                           \
  constexpr bool any(E a) { return static_cast<std::underlying_type_t<E>>(a) != 0; } \
  static_assert(std::is_enum_v<E>)
