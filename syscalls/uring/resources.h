// What is registered with a ring (io_uring_register(2)): files, buffers, groups of buffers to
// choose from, credentials. Owned by the ring; requests hold Refs of what they use, so that a
// resource's tag is posted when the last of them is done. Addresses of buffers are the guest's:
// they are checked when they are used. DEVIATION: buffers are not pinned; a request reaches what is
// mapped at their addresses when it runs.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "syscalls/async/shared_frames.h"
#include "ukernel/mm/user_ptr.h"
#include "ukernel/task/task.h"

namespace uk::uring {

class Ring;

class Resource final : public RefCounted {
 public:
  Resource(Ring& ring, uint64_t tag) : ring_(ring), tag_(tag) {}
  ~Resource() override;            // posts the tag
  void forget_tag() { tag_ = 0; }  // it was not registered after all
  Ref<File> file;
  uint64_t addr = 0, len = 0;  // of a buffer; 0, 0: an empty place

 private:
  Ring& ring_;  // who uses a resource holds the ring
  uint64_t tag_;
};

struct ChosenBuffer {
  uint64_t addr = 0;
  uint32_t len = 0;
  uint16_t id = 0, group = 0;
};

// Buffers that requests take one by one (IOSQE_BUFFER_SELECT).
class BufferGroup final : public RefCounted {
 public:
  static constexpr size_t kMaxBuffers = 65536;
  bool is_ring() const { return ring_entries_ != 0; }
  std::deque<ChosenBuffer> list;

  // A ring of struct io_uring_buf in guest memory, or in `frames` that the guest maps.
  void use_ring(uint64_t addr, uint32_t entries, Ref<SharedFrames> frames);
  const Ref<SharedFrames>& frames() const { return frames_; }
  uint16_t head() const { return head_; }
  // kNOBUFS. May suspend: the ring is read from the guest's memory.
  Result<ChosenBuffer> take(Park& park, AddressSpace& mm);
  // It was not used after all.
  void give_back(const ChosenBuffer& b);

 private:
  uint64_t ring_addr_ = 0;
  uint32_t ring_entries_ = 0;
  uint16_t head_ = 0;
  Mutex lock_;  // of the reader of the guest's ring
  Ref<SharedFrames> frames_;
};

struct Resources {
  static constexpr uint32_t kMaxFiles = 32768, kMaxBuffers = 16384;
  std::optional<std::vector<Ref<Resource>>> files, buffers;  // unset: none registered
  uint32_t alloc_from = 0, alloc_to = 0;  // places that are given out by the kernel
  std::map<uint16_t, Ref<BufferGroup>> groups;
  std::map<uint16_t, Ref<Cred>> personalities;
  uint16_t next_personality = 1;

  Ref<Resource> file(uint32_t index) const;    // null: no such file
  Ref<Resource> buffer(uint32_t index) const;  // null: no such buffer
  // Puts a file in a place of the table, or in a free one (IORING_FILE_INDEX_ALLOC): the place.
  // kNXIO, kINVAL, kNFILE.
  Result<uint32_t> install(Ring& ring, Ref<File> file, uint32_t index);
  Result<> remove_file(uint32_t index);  // kBADF, kNXIO, kINVAL
};

}  // namespace uk::uring
