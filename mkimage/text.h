// Sentences for errors: parts put together. Debian's absl::StrCat does not take std::string_view.
// Nothing is owned, nothing suspends.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

namespace uk::mkimage {

// Text and whole numbers, one behind the other.
std::string cat(const auto&... parts) {
  std::string all;
  const auto append = [&](const auto& part) {
    if constexpr (std::integral<std::remove_cvref_t<decltype(part)>>) {
      all += std::to_string(part);
    } else {
      all += std::string_view(part);
    }
  };
  (append(parts), ...);
  return all;
}

}  // namespace uk::mkimage
