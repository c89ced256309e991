#include "ukernel/task/fd_table.h"

#include <fcntl.h>

#include <algorithm>

namespace uk {

Result<Ref<File>> FdTable::get(int fd) const {
  if (fd < 0 || static_cast<size_t>(fd) >= entries_.size() || !entries_[fd].file)
    return Err(Errno::kBADF);
  return entries_[fd].file;
}

Result<Ref<File>> FdTable::get_io(int fd) const {
  Ref<File> file = TRY(get(fd));
  if ((file->flags & O_PATH) != 0) return Err(Errno::kBADF);
  return file;
}

Result<int> FdTable::add(Ref<File> file, bool cloexec, uint64_t limit, int min) {
  if (min < 0) return Err(Errno::kINVAL);
  size_t fd = std::max<size_t>(static_cast<size_t>(min), min <= first_free_ ? first_free_ : 0);
  while (fd < entries_.size() && entries_[fd].file) ++fd;
  if (fd >= limit) return Err(Errno::kMFILE);
  if (fd >= entries_.size()) entries_.resize(fd + 1);
  entries_[fd] = {std::move(file), cloexec};
  if (min <= first_free_) first_free_ = static_cast<int>(fd) + 1;
  return static_cast<int>(fd);
}

bool FdTable::full(uint64_t limit) const {
  auto fd = static_cast<size_t>(first_free_);
  while (fd < entries_.size() && entries_[fd].file) ++fd;
  first_free_ = static_cast<int>(fd);
  return fd >= limit;
}

Result<Ref<File>> FdTable::replace(int fd, Ref<File> file, bool cloexec, uint64_t limit) {
  if (fd < 0 || static_cast<uint64_t>(fd) >= limit) return Err(Errno::kBADF);
  if (static_cast<size_t>(fd) >= entries_.size()) entries_.resize(static_cast<size_t>(fd) + 1);
  Ref<File> old = std::move(entries_[fd].file);
  entries_[fd] = {std::move(file), cloexec};
  return old;
}

Result<Ref<File>> FdTable::remove(int fd) {
  Ref<File> file = TRY(get(fd));
  entries_[fd] = {};
  first_free_ = std::min(first_free_, fd);
  while (!entries_.empty() && !entries_.back().file) entries_.pop_back();
  return file;
}

Result<> FdTable::close(Park& park, int fd) {
  close_file(park, TRY(remove(fd)));
  return {};
}

void FdTable::close_file(Park& park, Ref<File> file) {
  if (!file) return;
  file->on_close(park, this);
  if (file->ref_count() == 1) file->release(park);
}

void FdTable::close_on_exec(Park& park) {
  // Closing may suspend, and the table may change then: look at the size again each time.
  for (size_t fd = 0; fd < entries_.size(); ++fd) {
    if (entries_[fd].file && entries_[fd].cloexec) {
      if (Result<Ref<File>> file = remove(static_cast<int>(fd))) close_file(park, std::move(*file));
    }
  }
}

void FdTable::close_all(Park& park) {
  for (size_t fd = 0; fd < entries_.size(); ++fd) {
    if (!entries_[fd].file) continue;
    if (Result<Ref<File>> file = remove(static_cast<int>(fd))) close_file(park, std::move(*file));
  }
}

Result<bool> FdTable::cloexec(int fd) const {
  TRY(get(fd));
  return entries_[fd].cloexec;
}

Result<> FdTable::set_cloexec(int fd, bool on) {
  TRY(get(fd));
  entries_[fd].cloexec = on;
  return {};
}

Result<> FdTable::check_copy(uint64_t nr_open) const {
  constexpr uint64_t kGrain = 64;  // a word of Linux's bitmap of open descriptors
  const auto needs = static_cast<uint64_t>(highest()) / kGrain * kGrain + kGrain;
  return highest() >= 0 && needs > nr_open ? Err(Errno::kMFILE) : Result<>();
}

Ref<FdTable> FdTable::copy() const {
  auto t = make_ref<FdTable>();
  t->entries_ = entries_;
  t->first_free_ = first_free_;
  return t;
}

void FdTable::each(const std::function<void(int fd, File&)>& f) const {
  for (size_t fd = 0; fd < entries_.size(); ++fd)
    if (entries_[fd].file) f(static_cast<int>(fd), *entries_[fd].file);
}

int FdTable::highest() const {
  for (size_t fd = entries_.size(); fd > 0; --fd)
    if (entries_[fd - 1].file) return static_cast<int>(fd - 1);
  return -1;
}

size_t FdTable::count() const {
  return static_cast<size_t>(
      std::count_if(entries_.begin(), entries_.end(), [](const Entry& e) { return bool(e.file); }));
}

}  // namespace uk
