#include "ukernel/dev/mem/kmsg.h"

#include <poll.h>

#include <string>

namespace uk {
namespace {

constexpr uint32_t kMemMajor = 1, kKmsgMinor = 11;
constexpr size_t kMaxWrite = 1024;  // as Linux; longer lines are refused

class Kmsg final : public File {
 public:
  Kmsg(Path path, int flags, std::shared_ptr<KernelLog> log)
      : File(std::move(path), flags), log_(std::move(log)), next_(log_->first_seq()) {}

  Result<size_t> read(Park& park, IoSink& to, uint64_t) override {
    if (nonblock() && log_->at_or_behind(next_) == nullptr) return Err(Errno::kAGAIN);
    TRY(log_->arrived.wait(
        park, [&] { return log_->at_or_behind(next_) != nullptr; }, WaitMode::kInterruptible,
        kNever, "devkmsg_read"));
    const Log::Line* line = log_->at_or_behind(next_);
    if (line->seq != next_) {  // it was overwritten
      next_ = line->seq;
      return Err(Errno::kPIPE);
    }
    const std::string record = KernelLog::kmsg_record(*line);
    if (record.size() > to.remaining()) return Err(Errno::kINVAL);
    ++next_;
    return to.put(park, std::as_bytes(std::span(record)));
  }

  Result<size_t> write(Park& park, IoSource& from, uint64_t&) override {
    std::string text(from.remaining(), '\0');
    if (text.size() > kMaxWrite) return Err(Errno::kINVAL);
    text.resize(TRY(from.get(park, std::as_writable_bytes(std::span(text)))));
    log_->write(text);
    return text.size();
  }

  Result<uint64_t> seek(Park&, int64_t offset, int whence) override {
    if (offset != 0) return Err(Errno::kSPIPE);
    if (whence == SEEK_SET) {
      next_ = log_->first_seq();
    } else if (whence == SEEK_DATA) {  // what came since it was last cleared
      next_ = log_->clear_seq();
    } else if (whence == SEEK_END) {
      next_ = log_->next_seq();
    } else {
      return Err(Errno::kINVAL);
    }
    return 0;
  }

  uint32_t ready() override {
    const bool more = log_->at_or_behind(next_) != nullptr;
    return POLLOUT | POLLWRNORM | (more ? POLLIN | POLLRDNORM : 0);
  }
  WaitQueue* poll_queue() override { return &log_->arrived; }

 private:
  const std::shared_ptr<KernelLog> log_;
  uint64_t next_;
};

}  // namespace

void register_kmsg(Vfs& vfs, std::shared_ptr<KernelLog> log) {
  vfs.register_device(
      false, kMemMajor, kKmsgMinor, 1, "kmsg",
      {[log](Park&, const Path& path, int flags, const Cred& cred, uint64_t) -> Result<Ref<File>> {
        if ((flags & O_ACCMODE) != O_WRONLY && !cred.has(Cap::kSyslog)) return Err(Errno::kPERM);
        return Ref<File>(make_ref<Kmsg>(path, flags, log));
      }});
}

}  // namespace uk
