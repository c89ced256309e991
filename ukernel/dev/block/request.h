// What the block layer moves: pieces of work that a caller makes (Bio), the requests they are
// merged into, the storage that serves those (BlockBackend), and the counts of /proc/diskstats. All
// offsets and lengths are bytes, multiples of the device's logical block; the submitter has checked
// them.
//
// Ownership: bios and their buffers belong to the caller, who waits for them; requests to the queue
// (queue.h). Reactor-owned. Contents are the guest's or an image's: untrusted.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "hostio/ring.h"
#include "ukernel/sched/fiber.h"

namespace uk {

constexpr uint32_t kSectorSize = 512;

enum class BlockOp : uint8_t { kRead, kWrite, kFlush, kDiscard, kWriteZeroes };

struct Bio {
  BlockOp op = BlockOp::kRead;
  bool fua = false;  // kWrite: on stable storage when it is done
  uint64_t offset = 0;
  uint64_t length = 0;           // kRead, kWrite: bytes.size()
  std::span<std::byte> bytes{};  // only read by kWrite
  Errno error = Errno::kOk;      // set when it is done
};

inline Bio read_bio(uint64_t offset, std::span<std::byte> to) {
  return {BlockOp::kRead, false, offset, to.size(), to, Errno::kOk};
}
inline Bio write_bio(uint64_t offset, std::span<const std::byte> from, bool fua = false) {
  return {
      BlockOp::kWrite, fua, offset, from.size(), {const_cast<std::byte*>(from.data()), from.size()},
      Errno::kOk};
}

class BlockBackend;
class BlockFile;
class IoctlUser;

// Bios that follow each other, as storage sees them. In flight from BlockBackend::start() to end().
class BlockRequest final : public hostio::Completion {
 public:
  BlockOp op = BlockOp::kRead;
  bool fua = false;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::vector<struct iovec> segments;
  std::vector<Bio*> bios;

  // Called once by the backend; the request may be gone afterwards.
  void end(Errno error);

  // Of the backend while it is in flight: how far a transfer has come.
  uint64_t done = 0;
  size_t segment = 0;

 private:
  friend class RequestQueue;
  void complete(int32_t res, bool more) override;
  BlockBackend* backend_ = nullptr;
  class RequestQueue* queue_ = nullptr;
  Fiber* waiter_ = nullptr;
  size_t* left_ = nullptr;  // requests that the waiter still waits for
};

class BlockBackend {
 public:
  virtual ~BlockBackend() = default;
  // Starts a request; end() follows now or later. May suspend instead of doing it later.
  virtual void start(Park& park, BlockRequest& request) = 0;
  // The host call that start() began for the request on the ring is done.
  virtual void host_done(BlockRequest& request, int32_t res) { request.end(host_error(res)); }
  // Bytes the device has now; may change between calls.
  virtual Result<uint64_t> size() = 0;
  virtual bool can_discard() const { return false; }
  // What it keeps its bytes in, for messages: a host file's name; may be empty.
  virtual std::string where() const { return ""; }
  // Ioctls of its own, through a file of the whole device.
  virtual Result<int64_t> ioctl(Park& park, BlockFile& by, IoctlUser& user, uint32_t cmd,
                                uint64_t arg) {
    return (void)park, (void)by, (void)user, (void)cmd, (void)arg, Err(Errno::kNOTTY);
  }
  // Nobody uses the device any more.
  virtual void last_close(Park& park) { (void)park; }
  // Files of its own in /sys/block/NAME, by path, as they are until BlockDevices::version changes.
  virtual std::vector<std::pair<std::string, std::string>> attributes() const { return {}; }
  // The disk is taken away, or the instance ends: what it holds of the guest's goes now. Requests
  // are kIO from here on.
  virtual void abandon() {}

 protected:
  static Errno host_error(int32_t res) { return res < 0 ? static_cast<Errno>(-res) : Errno::kOk; }
};

// Counts of a device since it was made (Documentation/admin-guide/iostats.rst in Linux).
struct BlockStats {
  struct Kind {
    uint64_t ios = 0, merges = 0, bytes = 0, wait_ns = 0;
  };
  enum Which : uint8_t { kReads, kWrites, kDiscards, kFlushes };
  std::array<Kind, 4> kinds;
  uint32_t in_flight = 0, reads_in_flight = 0;
  uint64_t busy_ns = 0;     // with anything in flight
  uint64_t busy_since = 0;  // while in_flight != 0

  static Which which(BlockOp op);
  uint32_t in_flight_reads() const { return reads_in_flight; }
  uint32_t in_flight_writes() const { return in_flight - reads_in_flight; }
  void begin(const BlockRequest& request, uint64_t now_ns);
  // The 17 numbers of /proc/diskstats and /sys/block/NAME/stat, in their order.
  std::string text(uint64_t now_ns) const;
  void finish(const BlockRequest& request, uint64_t started_ns, uint64_t now_ns);
};

}  // namespace uk
