#include "ukernel/dev/mem/mem_devices.h"

#include <linux/random.h>
#include <sys/ioctl.h>

#include <array>

#include "ukernel/mm/page_cache.h"

namespace uk {
namespace {

constexpr uint32_t kMemMajor = 1;
constexpr size_t kChunk = 4096;

// What writing to all of these does: the bytes are taken and forgotten.
Result<size_t> discard(Park& park, IoSource& from, uint64_t& offset) {
  std::array<std::byte, kChunk> buf;
  size_t done = 0;
  while (from.remaining() > 0) {
    Result<size_t> n = from.get(park, buf);
    if (!n || *n == 0) return done > 0 || n ? Result<size_t>(done) : n;
    done += *n;
  }
  offset += done;
  return done;
}

class MemDevice : public File {
 public:
  using File::File;
  Result<uint64_t> seek(Park&, int64_t, int) override { return 0; }
  bool seekable() const override { return true; }
};

class Null final : public MemDevice {
 public:
  using MemDevice::MemDevice;
  Result<size_t> read(Park&, IoSink&, uint64_t) override { return 0; }
  // Linux does not even look at the bytes.
  Result<size_t> write(Park&, IoSource& from, uint64_t&) override { return from.remaining(); }
};

class Zero final : public MemDevice {
 public:
  Zero(Path path, int flags, PhysMemory& mem) : MemDevice(std::move(path), flags), mem_(mem) {}
  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    return to.put_zeros(park, to.remaining());
  }
  Result<size_t> write(Park&, IoSource& from, uint64_t&) override { return from.remaining(); }
  // Each shared mapping is memory of its own; a private one is anonymous.
  Ref<MemoryObject> memory_object() override {
    PageCacheObject::Options options;
    options.allocate_around = true;
    options.zeros = true;
    options.size = PageCacheObject::kMaxSize;
    return make_ref<PageCacheObject>(mem_, std::move(options));
  }

 private:
  PhysMemory& mem_;
};

class Full final : public MemDevice {
 public:
  using MemDevice::MemDevice;
  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    return to.put_zeros(park, to.remaining());
  }
  Result<size_t> write(Park&, IoSource&, uint64_t&) override { return Err(Errno::kNOSPC); }
};

class Random final : public MemDevice {
 public:
  Random(Path path, int flags, RandomSource random)
      : MemDevice(std::move(path), flags), random_(std::move(random)) {}
  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    std::array<std::byte, kChunk> buf;
    size_t done = 0;
    while (to.remaining() > 0) {
      auto piece = std::span(buf).first(std::min(kChunk, to.remaining()));
      random_(piece);
      Result<size_t> n = to.put(park, piece);
      if (!n) return done > 0 ? Result<size_t>(done) : n;
      done += *n;
      if (*n < piece.size() || park.interrupted(WaitMode::kInterruptible)) break;
    }
    return done;
  }
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override {
    return discard(park, from, offset);
  }
  // random(4). Random numbers are the host's: what is given is forgotten and nothing runs out.
  Result<int64_t> ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) override {
    switch (cmd) {
      case RNDGETENTCNT: {
        const int bits = 256;
        TRY(user.copy_out(park, arg, std::as_bytes(std::span(&bits, 1))));
        return 0;
      }
      case RNDADDTOENTCNT:
      case RNDADDENTROPY: {
        if (!user.cred().has(Cap::kSysAdmin)) return Err(Errno::kPERM);
        int bits = 0;
        TRY(user.copy_in(park, std::as_writable_bytes(std::span(&bits, 1)), arg));
        if (bits < 0) return Err(Errno::kINVAL);
        return cmd == RNDADDENTROPY ? take(park, user, arg + sizeof bits) : Result<int64_t>(0);
      }
      case RNDZAPENTCNT:
      case RNDCLEARPOOL:
      case kReseed:
        if (!user.cred().has(Cap::kSysAdmin)) return Err(Errno::kPERM);
        return 0;
      default:
        return Err(Errno::kINVAL);
    }
  }

 private:
  static constexpr uint32_t kReseed = 0x5207;  // RNDRESEEDCRNG

  // The rest of a struct rand_pool_info: its size and bytes, which must be there.
  static Result<int64_t> take(Park& park, IoctlUser& user, uint64_t at) {
    int size = 0;
    TRY(user.copy_in(park, std::as_writable_bytes(std::span(&size, 1)), at));
    if (size < 0) return Err(Errno::kFAULT);
    std::array<std::byte, kChunk> buf;
    for (uint64_t done = 0, left; (left = static_cast<uint64_t>(size) - done) > 0;) {
      auto piece = std::span(buf).first(std::min<uint64_t>(kChunk, left));
      TRY(user.copy_in(park, piece, at + sizeof size + done));
      done += piece.size();
      if (park.interrupted(WaitMode::kInterruptible)) break;
    }
    return 0;
  }

  RandomSource random_;
};

template <class Device, class... Args>
void add(Vfs& vfs, uint32_t minor, const char* name, Args&... args) {
  vfs.register_device(
      false, kMemMajor, minor, 1, name,
      {[&args...](Park&, const Path& path, int flags, const Cred&, uint64_t) -> Result<Ref<File>> {
        return Ref<File>(make_ref<Device>(path, flags, args...));
      }});
}

}  // namespace

void register_mem_devices(Vfs& vfs, RandomSource random) {
  add<Null>(vfs, 3, "null");
  add<Zero>(vfs, 5, "zero", vfs.mem());
  add<Full>(vfs, 7, "full");
  for (uint32_t minor : {8u, 9u}) {
    vfs.register_device(
        false, kMemMajor, minor, 1, minor == 8 ? "random" : "urandom",
        {[random](Park&, const Path& path, int flags, const Cred&, uint64_t) -> Result<Ref<File>> {
          return Ref<File>(make_ref<Random>(path, flags, random));
        }});
  }
}

}  // namespace uk
