#include "tests/oracle/snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <vector>

#include "tests/oracle/run.h"

namespace oracle {
namespace {

constexpr int kDepth = 24;

std::vector<std::string> names(int directory) {
  std::vector<std::string> out;
  int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return out;
  alignas(8) char buffer[8192];
  long n;
  while ((n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0) {
    for (long at = 0; at < n;) {
      struct dirent64* e = reinterpret_cast<struct dirent64*>(buffer + at);
      at += e->d_reclen;
      if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) out.push_back(e->d_name);
    }
  }
  ::close(fd);
  std::sort(out.begin(), out.end());
  return out;
}

class Walk {
 public:
  explicit Walk(bool blocks) : blocks_(blocks) {}
  std::string text;

  void directory(int fd, const std::string& prefix, int depth) {
    for (const std::string& name : names(fd)) entry(fd, name, prefix + name, depth);
  }

 private:
  template <typename... A>
  void add(const char* format, A... args) {
    char line[400];
    snprintf(line, sizeof line, format, args...);
    text += line;
  }

  void entry(int directory_fd, const std::string& name, const std::string& path, int depth) {
    struct stat st;
    if (fstatat(directory_fd, name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return;
    auto number = inodes_.emplace(st.st_ino, inodes_.size()).first->second;
    add("%s: #%zu %o nlink %lu uid %u gid %u size %ld blocks %ld rdev %lx", path.c_str(), number,
        st.st_mode, static_cast<unsigned long>(st.st_nlink), st.st_uid, st.st_gid,
        static_cast<long>(st.st_size), blocks_ ? static_cast<long>(st.st_blocks) : -1,
        static_cast<unsigned long>(st.st_rdev));
    if (st.st_mtim.tv_sec < 1'000'000'000)
      add(" mtime %ld.%09ld", st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    if (S_ISLNK(st.st_mode)) {
      char target[4096];
      ssize_t n = readlinkat(directory_fd, name.c_str(), target, sizeof target - 1);
      target[n < 0 ? 0 : n] = 0;
      text += " -> " + std::string(target);
    }
    int fd = -1;
    if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) {
      // The sequence may have taken our rights; that its mode says so is in the line already.
      fd = openat(directory_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
      if (fd < 0 && errno == EACCES) {
        fchmodat(directory_fd, name.c_str(), S_ISDIR(st.st_mode) ? 0700 : 0600, 0);
        fd = openat(directory_fd, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
      }
    }
    if (fd >= 0) {
      attributes(fd);
      if (S_ISREG(st.st_mode)) contents(fd, st.st_size);
    }
    text += "\n";
    if (fd >= 0 && S_ISDIR(st.st_mode) && depth < kDepth) {
      // Listing needs to read, its entries to search.
      if ((st.st_mode & 0700) != 0700) fchmod(fd, 0700);
      directory(fd, path + "/", depth + 1);
    }
    if (fd >= 0) ::close(fd);
  }

  void attributes(int fd) {
    char list[2048];
    ssize_t n = flistxattr(fd, list, sizeof list);
    std::vector<std::string> found;
    for (ssize_t at = 0; at < n; at += static_cast<ssize_t>(strlen(list + at)) + 1) {
      char value[2048];
      ssize_t length = fgetxattr(fd, list + at, value, sizeof value);
      char line[400];
      snprintf(line, sizeof line, " %s(%zd)=%016lx", list + at, length,
               length > 0 ? hash(value, static_cast<size_t>(length)) : 0);
      found.push_back(line);
    }
    std::sort(found.begin(), found.end());
    for (const std::string& f : found) text += f;
  }

  void contents(int fd, long size) {
    static char buffer[65536];
    uint64_t h = 0xcbf29ce484222325;
    long at = 0;
    for (ssize_t n; at < size && (n = pread(fd, buffer, sizeof buffer, at)) > 0; at += n) {
      // The odd word a time is enough of a hash for zeros, of which there are many.
      bool zero = buffer[0] == 0 && memcmp(buffer, buffer + 1, static_cast<size_t>(n) - 1) == 0;
      h = zero ? hash(&n, sizeof n, h) : hash(buffer, static_cast<size_t>(n), h);
    }
    add(" read %ld #%016lx", at, h);
  }

  bool blocks_;
  std::map<ino_t, size_t> inodes_;
};

void clear_at(int directory, int depth) {
  for (const std::string& name : names(directory)) {
    if (unlinkat(directory, name.c_str(), 0) == 0) continue;
    fchmodat(directory, name.c_str(), 0700, 0);
    int fd = openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) {
      if (depth < kDepth) clear_at(fd, depth + 1);
      ::close(fd);
    }
    unlinkat(directory, name.c_str(), AT_REMOVEDIR);
  }
}

}  // namespace

std::string tree(int directory, bool blocks) {
  Walk walk(blocks);
  walk.directory(directory, "", 0);
  return std::move(walk.text);
}

void clear(int directory) { clear_at(directory, 0); }

// ---- what a process has
// --------------------------------------------------------------------------

void Run::dump() {
  log_caught();
  log("= descriptors\n");
  for (int f = 0; f < 64; ++f) {
    long flags = sys_(SYS_fcntl, f, F_GETFD);
    if (flags < 0) continue;
    struct stat st;
    long r = ::fstat(f, &st);
    log("%d: fd %lx fl %lx", f, flags, sys_(SYS_fcntl, f, F_GETFL));
    if (r == 0) log(" type %o", st.st_mode & S_IFMT);
    if (r == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
      log(" size %ld", S_ISREG(st.st_mode) ? st.st_size : 0);
      if (S_ISREG(st.st_mode)) log(" at %ld", sys_(SYS_lseek, f, 0, SEEK_CUR));
    }
    log("\n");
  }
  uint64_t blocked = 0, pending = 0;
  sys_(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &blocked, 8);
  sys_(SYS_rt_sigpending, &pending, 8);
  log("= blocked");
  signals(blocked);
  log(" pending");
  signals(pending);
  char cwd[4096];
  long r = sys_(SYS_getcwd, cwd, sizeof cwd);
  const char* inside = strstr(cwd, "/1/2/3/4/5/6");
  log("\n= cwd %s\n", r < 0               ? error_name(static_cast<int>(-r))
                      : inside != nullptr ? inside + 12
                                          : cwd);
  if (!shared_->dump_memory) return;
  log("= memory");
  for (int page = 0; page < kArenaPages; ++page) {
    uint64_t at = kArena + static_cast<uint64_t>(page) * kPage;
    unsigned char seen;
    if (sys_(SYS_mincore, at, kPage, &seen) == -ENOMEM) continue;
    siginfo_t fault;
    if (load(at, &seen, &fault)) {
      log("\n%d: signal %d code %d at %+ld", page, fault.si_signo, fault.si_code,
          static_cast<long>(reinterpret_cast<uint64_t>(fault.si_addr) - at));
    } else {
      log("\n%d: #%016lx", page, hash(reinterpret_cast<void*>(at), kPage));
    }
  }
  log("\n");
}

}  // namespace oracle
