#include "base/check.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace uk {
namespace {
CheckHook g_hook = nullptr;
void* g_hook_arg = nullptr;
bool g_failing = false;
}  // namespace

void set_check_hook(CheckHook hook, void* arg) {
  g_hook = hook;
  g_hook_arg = arg;
}

void check_failed(const char* file, int line, const char* what, std::string_view detail) {
  char text[512];
  int n =
      std::snprintf(text, sizeof text, "ukernel: kernel bug at %s:%d: %s%s%.*s\n", file, line, what,
                    detail.empty() ? "" : ": ", static_cast<int>(detail.size()), detail.data());
  if (n > 0) {
    [[maybe_unused]] auto written = ::write(
        2, text, static_cast<size_t>(n) < sizeof text ? static_cast<size_t>(n) : sizeof text - 1);
  }
  if (g_hook != nullptr && !g_failing) {
    g_failing = true;
    g_hook(g_hook_arg);
  }
  std::abort();
}

}  // namespace uk
