// Storage in a file of the guest: what loop devices and disks in memory are made of. A fiber of its
// own does the requests, one after the other, through the file's page cache, so that a submitter's
// signals and stack have nothing to do with it.
//
// Ownership: the Disk owns the backend, which holds the file while it is bound. What takes a Park
// suspends. The file is the guest's: it may shrink (reads beyond it are zeroes, as Linux has it),
// fill up or fail, which is the request's error.
#pragma once

#include <deque>
#include <memory>

#include "base/ref.h"
#include "ukernel/dev/block/request.h"
#include "ukernel/vfs/file.h"

namespace uk {

class Reactor;

class FileBackend : public BlockBackend {
 public:
  explicit FileBackend(Reactor& reactor);
  ~FileBackend() override;

  // Takes the place of what was bound. Requests in flight end with the file they began with.
  void bind(Ref<File> file, uint64_t offset, uint64_t limit);
  // Waits for requests in flight, and lets go of the file.
  void unbind(Park& park);
  File* file() const;  // null: nothing is bound, every request is kIO
  uint64_t offset() const;
  uint64_t limit() const;  // 0: the file's end

  // Takes the size that the file has now; whole sectors.
  Result<> measure(Park& park);

  void start(Park& park, BlockRequest& request) override;
  Result<uint64_t> size() override;
  void abandon() override;
  bool can_discard() const override { return true; }

 private:
  struct State;  // shared with the fiber
  const std::shared_ptr<State> state_;
};

}  // namespace uk
