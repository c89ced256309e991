// prctl(PR_SET_MM): where the arguments lie is told anew.
#include <linux/prctl.h>
#include <sys/prctl.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

std::string Cmdline() {
  char text[256] = {};
  Fd file(open("/proc/self/cmdline", O_RDONLY));
  ssize_t n = read(file.get(), text, sizeof text);
  return std::string(text, n < 0 ? 0 : static_cast<size_t>(n));
}

// CAP_SYS_RESOURCE, which root may lack in a container.
bool MayChangeIt() {
  char text[4096] = {};
  Fd file(open("/proc/self/status", O_RDONLY));
  if (read(file.get(), text, sizeof text - 1) <= 0) return false;
  const char* line = strstr(text, "CapEff:\t");
  return line != nullptr && (strtoull(line + 8, nullptr, 16) >> 24 & 1) != 0;
}

TEST(prctl, SetMmMovesTheArguments) {
  if (!MayChangeIt()) {
    EXPECT_ERRNO(EPERM, prctl(PR_SET_MM, PR_SET_MM_ARG_START, 0x100000, 0, 0));
    return;
  }
  IN_CHILD([] {
    auto* p = static_cast<char*>(
        mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    strcpy(p, "a new name");
    const auto at = reinterpret_cast<unsigned long>(p);
    // The start must not pass the end on the way.
    CHILD_CHECK(prctl(PR_SET_MM, PR_SET_MM_ARG_START, at, 0, 0) == 0);
    CHILD_CHECK(prctl(PR_SET_MM, PR_SET_MM_ARG_END, at + 11, 0, 0) == 0);
    CHILD_CHECK(Cmdline() == std::string("a new name", 11));
    CHILD_CHECK(prctl(PR_SET_MM, PR_SET_MM_ARG_END, at - 1, 0, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(prctl(PR_SET_MM, PR_SET_MM_ARG_START, 8, 0, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(prctl(PR_SET_MM, PR_SET_MM_ARG_START, at, 1, 0) == -1 && errno == EINVAL);
    CHILD_CHECK(prctl(PR_SET_MM, 99, at, 0, 0) == -1 && errno == EINVAL);
    unsigned long aux[4] = {6, 4096, 0, 0};
    CHILD_CHECK(prctl(PR_SET_MM, PR_SET_MM_AUXV, aux, sizeof aux, 0) == 0);
    unsigned long got[8] = {};
    Fd file(open("/proc/self/auxv", O_RDONLY));
    CHILD_CHECK(read(file.get(), got, sizeof got) >= static_cast<ssize_t>(sizeof aux));
    CHILD_CHECK(memcmp(got, aux, sizeof aux) == 0);
    CHILD_CHECK(prctl(PR_SET_MM, PR_SET_MM_AUXV, aux, 1 << 20, 0) == -1 && errno == EINVAL);
  });
}

}  // namespace
}  // namespace uk::test
