// A control group of version 2 for one test (cgroups(7)), below the group that the test is in.
// Where none can be made (no cgroup2 is mounted, or the caller may not write there) tests are
// skipped.
#pragma once

#include <poll.h>

#include <fstream>
#include <memory>
#include <sstream>

#include "tests/syscalls/testing.h"

namespace uk::test {

// The first mount of cgroup2; empty: there is none.
inline std::string CgroupMount() {
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string source, at, type;
    words >> source >> at >> type;
    if (type == "cgroup2") return at;
  }
  return "";
}

// The caller's group, as a path from the root of its cgroup namespace.
inline std::string OwnCgroup() {
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);)
    if (line.starts_with("0::")) return line.substr(3);
  return "";
}

class Cgroup {
 public:
  explicit Cgroup(std::string path) : path_(std::move(path)) {
    made_ = mkdir(path_.c_str(), 0755) == 0;
  }
  // Ends what is in it, and removes it.
  ~Cgroup() {
    if (!made_) return;
    Write("cgroup.kill", "1");
    AwaitEvent("populated 0");
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    EXPECT_EQ(rmdir(path_.c_str()), 0) << path_ << ": " << strerrorname_np(errno);
  }
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  bool made() const { return made_; }
  void Forget() { made_ = false; }  // the test removed it
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  std::string Read(const std::string& name) const {
    std::ifstream file(path_ + "/" + name);
    std::stringstream all;
    all << file.rdbuf();
    return all.str();
  }
  // 0, or the errno.
  int Write(const std::string& name, const std::string& text) const {
    Fd fd(open((path_ + "/" + name).c_str(), O_WRONLY | O_CLOEXEC));
    if (fd.get() < 0) return errno;
    return write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : errno;
  }
  // The number behind `key` in a file of lines "key number".
  long Value(const std::string& name, const std::string& key) const {
    std::istringstream words(Read(name));
    std::string word;
    for (long value = 0; words >> word >> value;)
      if (word == key) return value;
    return -1;
  }
  // Waits until cgroup.events has this line.
  bool AwaitEvent(const std::string& line) const {
    Fd fd(open((path_ + "/cgroup.events").c_str(), O_RDONLY | O_CLOEXEC));
    for (;;) {
      char text[256] = {};
      if (pread(fd, text, sizeof text - 1, 0) <= 0) return false;
      if (std::string(text).find(line) != std::string::npos) return true;
      pollfd p = {fd, POLLPRI, 0};
      if (poll(&p, 1, 10'000) == 0) return false;
    }
  }
  // A child that has put itself here before it runs `body`.
  template <typename F>
  pid_t SpawnIn(F body) const {
    return Spawn([&] {
      if (Write("cgroup.procs", "0") != 0) _exit(98);
      return body();
    });
  }

 private:
  std::string path_;
  bool made_ = false;
};

struct CgroupTest : testing::Test {
  void SetUp() override {
    const std::string mount = CgroupMount();
    if (mount.empty()) GTEST_SKIP() << "no cgroup2 is mounted";
    static int count = 0;
    group = std::make_unique<Cgroup>(mount + (OwnCgroup() == "/" ? "" : OwnCgroup()) + "/ukt." +
                                     std::to_string(getpid()) + "." + std::to_string(count++));
    if (!group->made()) {
      const int error = errno;
      group.reset();
      GTEST_SKIP() << "no group can be made below " << mount << ": " << strerrorname_np(error);
    }
  }
  std::unique_ptr<Cgroup> group;
};

}  // namespace uk::test
