// Descriptor table (open(2), dup(2), close(2)): small integers to open files. Shared by tasks with
// CLONE_FILES. Reactor-owned. Closing may suspend (the file's release), hence Park&.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/vfs/file.h"

namespace uk {

class FdTable final : public RefCounted {
 public:
  // kBADF if fd is not open.
  Result<Ref<File>> get(int fd) const;
  // As get(), but kBADF for O_PATH descriptors too (calls that need real access).
  Result<Ref<File>> get_io(int fd) const;
  // Whether there is no free number below `limit`, so that add() would fail.
  bool full(uint64_t limit) const;
  // The lowest free number >= min. kMFILE at `limit` (RLIMIT_NOFILE).
  Result<int> add(Ref<File> file, bool cloexec, uint64_t limit, int min = 0);
  // Puts the file at exactly `fd`; returns what was there (the caller closes it with close_file()).
  Result<Ref<File>> replace(int fd, Ref<File> file, bool cloexec, uint64_t limit);
  // Takes the descriptor out; the caller closes the file.
  Result<Ref<File>> remove(int fd);
  Result<> close(Park& park, int fd);
  // Runs File::on_close for `file` with this table as the lock owner.
  void close_file(Park& park, Ref<File> file);
  void close_on_exec(Park& park);
  void close_all(Park& park);
  Result<bool> cloexec(int fd) const;
  Result<> set_cloexec(int fd, bool on);
  // kMFILE: it has descriptors for which a table may not be made, fs.nr_open being `nr_open`.
  Result<> check_copy(uint64_t nr_open) const;
  Ref<FdTable> copy() const;
  void each(const std::function<void(int fd, File&)>& f) const;
  int highest() const;
  size_t count() const;

  int users = 1;  // tasks; the last one closes all (a Ref may be held by those who only look)

 private:
  struct Entry {
    Ref<File> file;
    bool cloexec = false;
  };
  std::vector<Entry> entries_;
  mutable int first_free_ = 0;  // no free number is below
};

}  // namespace uk
