// Moves a disk to other storage while it is used: copies it, sends what is written meanwhile to
// both, and puts the new storage in the place of the old one when they are the same. Until then the
// old one answers, and an error of the new one ends the mirror and is nobody else's.
//
// While it runs a MirrorDisk is the disk's backend. A disk is copied in chunks, each marked until
// it has been copied. A change goes to the old storage first; then to the new one, unless its
// chunks are marked anyway. A change that fails on the old storage, or that the new one cannot do
// (discard), marks its chunks again. Changes and copies of the same bytes wait for each other in
// the order in which they came, so both sides see them in one order. At the end the disk's queue is
// frozen, the new storage flushed and exchanged: what was flushed is there for good.
//
// Ownership: the caller owns the Mirror for as long as run() runs; the disk owns its storage at any
// moment, and what is given up is destroyed in run(). Reactor-owned; run() suspends, as long as the
// copy takes. Contents are not looked at, but for being zero.
#pragma once

#include <memory>

#include "ukernel/dev/block/disk.h"

namespace uk {

class Mirror {
 public:
  static constexpr uint64_t kMaxBytes = 1ull << 46;  // marks lie in memory

  // `fresh`: all of `to` reads as zeroes, and so do holes; zeroes are not written then.
  Mirror(Reactor& reactor, Ref<Disk> disk, std::unique_ptr<BlockBackend> to, bool fresh);
  ~Mirror();
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  // Once. Success: the disk is on the new storage. Else it is on the old one, and nothing but
  // the time has changed for it: kINVAL: the new storage has another size; kFBIG: kMaxBytes;
  // kBUSY: the disk has a mirror already; kNODEV: it is removed; kCANCELED; and the storage's
  // errors, kIO, kNOSPC, ...
  Result<> run(Park& park);
  // Ends run() soon, if it has not yet begun to exchange.
  void cancel() { cancelled_ = true; }
  bool source_failed() const { return source_failed_; }  // the error is the old storage's
  uint64_t done_bytes() const;
  uint64_t total_bytes() const { return bytes_; }

 private:
  // `frozen`: it has left the disk's queue so.
  Result<> copy(Park& park, bool& frozen);
  Result<> copy_and_exchange(Park& park);

  class MirrorDisk;
  Reactor& reactor_;
  const Ref<Disk> disk_;
  std::unique_ptr<MirrorDisk> made_;  // until it is the disk's
  MirrorDisk* mirror_ = nullptr;      // the disk's, while run() runs
  uint64_t bytes_ = 0;
  bool cancelled_ = false;
  bool source_failed_ = false;
};

}  // namespace uk
