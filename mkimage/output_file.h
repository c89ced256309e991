// A file that gets its name when it is complete, so that no half-made one is ever found: not after
// an error, a signal, or kill -9.
//
// Ownership: the caller's; what was not published goes with it. Blocks the thread. Where the host's
// file system has no files without names (O_TMPFILE, open(2)), the file has one for the time being,
// FILE.PID.part, which an error, SIGINT, SIGTERM and SIGHUP remove; one such file at a time in a
// process.
#pragma once

#include <string>

#include "hostio/sys/fd.h"

namespace uk::mkimage {

class OutputFile {
 public:
  // `path`: the name it is to have.
  explicit OutputFile(std::string path) : path_(std::move(path)) {}
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  Result<> create();
  int fd() const { return fd_.get(); }
  // Gives it its name. `replace`: even if another file has it, which is then gone; else kEXIST.
  Result<> publish(bool replace);

 private:
  const std::string path_;
  std::string part_;  // its name for the time being; empty: none
  sys::Fd fd_;
};

// A file in this directory that never gets a name.
Result<sys::Fd> nameless_file(const std::string& directory);
// The directory in which a path is.
std::string directory_of(const std::string& path);

}  // namespace uk::mkimage
