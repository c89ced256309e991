#include "tests/syscalls/testing.h"

#include <dirent.h>
#include <time.h>

#include <sstream>

namespace uk::test {
namespace {

// Removes a tree without caring about modes: directories are opened up first.
void RemoveTree(const std::string& path) {
  chmod(path.c_str(), 0700);
  if (DIR* d = opendir(path.c_str())) {
    while (dirent* e = readdir(d)) {
      std::string name = e->d_name;
      if (name == "." || name == "..") continue;
      std::string child = path + "/" + name;
      struct stat st;
      if (lstat(child.c_str(), &st) == 0 && S_ISDIR(st.st_mode)) {
        RemoveTree(child);
      } else {
        unlink(child.c_str());
      }
    }
    closedir(d);
  }
  rmdir(path.c_str());
}

}  // namespace

Scratch::~Scratch() { RemoveTree(path_); }

std::string Scratch::File(const std::string& name, const std::string& contents, mode_t mode) {
  std::string path = *this / name;
  if (!WriteFile(path, contents, mode)) ADD_FAILURE() << "cannot write " << path;
  chmod(path.c_str(), mode);
  return path;
}

Fd Scratch::Open(const std::string& name, const std::string& contents) {
  std::string path = File(name, contents);
  return Fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
}

bool WriteFile(const std::string& path, const std::string& contents, mode_t mode) {
  Fd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  size_t done = 0;
  while (fd >= 0 && done < contents.size()) {
    ssize_t n = write(fd, contents.data() + done, contents.size() - done);
    if (n <= 0) return false;
    done += n;
  }
  return fd >= 0;
}

std::string ReadFd(int fd) {
  std::string out;
  char buffer[16384];
  ssize_t n;
  while ((n = read(fd, buffer, sizeof buffer)) > 0 || (n == -1 && errno == EINTR)) {
    if (n > 0) out.append(buffer, n);
  }
  return out;
}

std::string ReadFile(const std::string& path) {
  Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return fd >= 0 ? ReadFd(fd) : std::string();
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

std::string ProcField(const std::string& path, const std::string& key) {
  for (const std::string& line : Lines(ReadFile(path))) {
    if (line.compare(0, key.size() + 1, key + ":") != 0) continue;
    size_t start = line.find_first_not_of(" \t", key.size() + 1);
    return start == std::string::npos ? std::string() : line.substr(start);
  }
  return {};
}

bool WaitForState(pid_t pid, char state) {
  std::string path = "/proc/" + std::to_string(pid) + "/stat";
  while (true) {
    std::string text = ReadFile(path);
    size_t paren = text.rfind(')');
    if (paren == std::string::npos || paren + 2 >= text.size()) return false;
    char now = text[paren + 2];
    if (now == state) return true;
    if (now == 'Z' || now == 'X') return false;  // it will never be anything else
    Breathe();
  }
}

bool Exists(const std::string& path) {
  struct stat st;
  return lstat(path.c_str(), &st) == 0;
}

mode_t ModeOf(const std::string& path) {
  struct stat st;
  return stat(path.c_str(), &st) == 0 ? (st.st_mode & 07777) : ~0u;
}

void Breathe() {
  timespec ts = {0, 100000};
  nanosleep(&ts, nullptr);
}

int64_t MonotonicNs() {
  timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

}  // namespace uk::test
