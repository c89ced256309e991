// What the tests of mounts and namespaces share: a private mount namespace to play in, and the
// lines of /proc/self/mountinfo.
#pragma once

#include <sched.h>
#include <sys/mount.h>

#include <sstream>

#include "tests/syscalls/testing.h"

namespace uk::test {

// Runs `body` in a child with a mount namespace of its own in which nothing is shared and `dir` is
// a tmpfs. Only root may.
template <typename F>
int InMounts(const std::string& dir, F body) {
  return RunChild([&] {
    CHILD_CHECK(unshare(CLONE_NEWNS) == 0);
    CHILD_CHECK(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0);
    CHILD_CHECK(mount("scratch", dir.c_str(), "tmpfs", 0, nullptr) == 0);
    body();
  });
}
#define IN_MOUNTS(dir, ...) \
  EXPECT_PRED_FORMAT1(::uk::test::ChildPassed, ::uk::test::InMounts((dir).path(), __VA_ARGS__))

struct MountLine {
  int id = 0, parent = 0;
  std::string root, place, options;
  std::string tags;  // "shared:1 master:2", the numbers as they are
  std::string type, source, super_options;
};

// Field by field (proc_pid_mountinfo(5)); the last mount at `place`, or one with id 0.
inline MountLine MountAt(const std::string& place, const char* file = "/proc/self/mountinfo") {
  MountLine found;
  for (const std::string& line : Lines(ReadFile(file))) {
    std::istringstream in(line);
    MountLine m;
    std::string dev, word;
    in >> m.id >> m.parent >> dev >> m.root >> m.place >> m.options;
    while (in >> word && word != "-") m.tags += (m.tags.empty() ? "" : " ") + word;
    in >> m.type >> m.source >> m.super_options;
    if (m.place == place) found = m;
  }
  return found;
}

// The number behind "shared:" or "master:" in the tags of a line; 0 if there is none.
inline int Tag(const MountLine& m, const std::string& name) {
  std::istringstream in(m.tags);
  std::string word;
  while (in >> word)
    if (word.starts_with(name + ":")) return atoi(word.c_str() + name.size() + 1);
  return 0;
}

inline bool IsMount(const std::string& place) { return MountAt(place).id != 0; }

}  // namespace uk::test
