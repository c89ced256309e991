// What uname(2) and /proc/version tell about this kernel. One place, so that they agree.
#pragma once

#include <string_view>

namespace uk {

constexpr std::string_view kUnameSysname = "Linux";
// Programs compare it with the Linux version that brought a feature; the level of this system call
// table.
constexpr std::string_view kUnameRelease = "6.12.0-ukernel";
constexpr std::string_view kUnameVersion = "#1 SMP PREEMPT_DYNAMIC ukernel";
constexpr std::string_view kUnameMachine = "x86_64";

}  // namespace uk
