// FakeRing: a Ring whose files, streams and time are inventions, for tests and simulation.
// Operations finish in an order, and after delays and faults, drawn from a seed; the same seed
// gives the same run. Time is a variable that moves only when wait() sleeps.
//
// Ownership: a test owns it; `now_ns` is borrowed (FakeClock's).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "hostio/ring.h"

namespace uk::hostio {

class FakeRing final : public Ring {
 public:
  // Chances are in 1/1000 for each operation; delays are uniform between the two.
  struct Faults {
    int short_io = 0;  // transfers less than asked, at least one byte
    int eio = 0;
    int eintr = 0;
    uint64_t min_delay_ns = 0;
    uint64_t max_delay_ns = 0;
  };

  FakeRing(uint64_t& now_ns, uint64_t seed) : now_ns_(now_ns), random_(seed) {}

  Faults faults;
  // Called when wait() would sleep for ever. By default a CHECK fails; a test may feed something or
  // stop its loop.
  std::function<void()> on_deadlock;

  // An invented descriptor for a file with contents. openat() finds files by name.
  int add_file(std::string content, std::string name = {});
  std::string& content(int fd);
  // A stream: reads and polls wait until it is fed; writes append to written().
  int add_stream();
  void feed(int fd, std::string_view data);
  void end_stream(int fd);  // readers see the end of the file
  std::string& written(int fd);
  // Fsyncs completed on fd.
  int fsyncs(int fd) const;
  size_t pending() const { return pending_.size(); }

  const char* name() const override { return "fake"; }
  bool supports(OpCode code) const override {
    return code != OpCode::kFutexWait && code != OpCode::kWaitid;
  }
  bool simulated() const override { return true; }

 protected:
  void start(Completion& c) override;
  void request_cancel(Completion& c) override;
  void do_submit() override {}
  void reap() override;
  WaitEnd do_wait(int64_t timeout_ns, const sigset_t* mask) override;

 private:
  struct File {
    std::string data;     // contents, or what a stream was fed
    std::string written;  // stream only
    size_t position = 0;
    bool stream = false;
    bool ended = false;
    int fsyncs = 0;
  };
  struct Pending {
    Completion* completion;
    uint64_t due_ns;
    uint64_t rank;  // random order among what is due
  };

  File* file(int fd);
  const File* file(int fd) const { return const_cast<FakeRing*>(this)->file(fd); }
  bool executable(const Op& o);
  int32_t execute(const Op& o);
  int32_t transfer(const Op& o, File& f);
  uint32_t events_of(const File& f, uint32_t wanted) const;
  uint64_t random();
  bool chance(int per_mille) {
    return per_mille != 0 && random() % 1000 < static_cast<uint64_t>(per_mille);
  }

  uint64_t& now_ns_;
  uint64_t random_;
  std::vector<Pending> pending_;
  std::map<int, File> files_;
  std::map<std::string, std::string> named_;
  int next_fd_ = 1000;
};

}  // namespace uk::hostio
