// The platforms that the suite runs over. Test-only.
#pragma once

#include "gtest/gtest.h"

namespace uk::conformance {
inline auto platforms() { return testing::Values("ptrace", "notify", "direct"); }
}  // namespace uk::conformance
