// Where instances can be reached: one socket each, NAME.sock, in $XDG_RUNTIME_DIR/ukernel, or in
// /tmp/ukernel-UID without a usable XDG_RUNTIME_DIR. The directory is the user's own and nobody
// else can enter it; what is found there and not so is refused. Sockets that nobody listens at (the
// instance was killed) are removed when they are met, by whoever comes; an empty directory with the
// last of them.
//
// Ownership: a Place owns the directory's descriptor; all names are looked up in that, so what was
// checked is what is used. Calls block for a moment: not on a reactor that runs. Errors are
// "WHAT: WHY; WHAT TO DO" in `why`.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "hostio/sys/fd.h"

namespace uk::boot {

class Place {
 public:
  // Makes the directory if `make`; else null, and `why` empty, if there is none.
  static std::optional<Place> open(bool make, std::string& why);

  // A socket that listens for `name`; empty: a name is made up. kADDRINUSE: an instance has it.
  Result<sys::Fd> listen(std::string& name, std::string& why);
  // Connected to the instance `name`, run by this user. kNOENT: there is none.
  Result<sys::Fd> connect(const std::string& name, std::string& why);
  // Of all instances, in order.
  std::vector<std::string> names();
  // The instance ends: its socket goes, and the directory if it was the last.
  void leave(const std::string& name);

 private:
  explicit Place(sys::Fd dir, std::string path) : dir_(std::move(dir)), path_(std::move(path)) {}
  static Result<sys::Fd> open_checked(const std::string& path, bool make, std::string& why);
  Result<sys::Fd> try_connect(const std::string& name, int flags = 0);
  bool lock();  // against others who come, go or clean up
  void unlock();
  void remove_if_stale(const std::string& name);
  void sweep(const std::string& own);

  sys::Fd dir_;
  std::string path_;
};

}  // namespace uk::boot
