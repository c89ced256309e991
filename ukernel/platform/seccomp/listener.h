// The kernel's end of seccomp user notification (seccomp_unotify(2)): receives the stopped calls of
// all stubs and answers them. One listener serves all stubs of a platform, as they inherit the
// zygote's filter.
//
// Ownership: the platform owns it. Reactor-owned. Nothing suspends, and nothing may block: a
// receive on an empty listener would, so one is made only when the host has provably more to give
// (see receive_all()). Untrusted: nr, args and ip of a notification are the guest's; pid and id are
// the host's word.
#pragma once

#include <linux/seccomp.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "base/result.h"
#include "hostio/ring.h"
#include "hostio/sys/fd.h"

namespace uk::seccomp {

class Listener final : public hostio::Completion {
 public:
  using Handler = std::function<void(const seccomp_notif&)>;

  // `fd`: the listener's descriptor, non-owning. `active`: how many threads may notify now, kept by
  // the platform: when it falls to zero, nobody looks for another notification behind the one
  // received, though the host announces two at once when we come late. So whoever may notify must
  // be counted, also if it stands in a call and only a signal on its way will get it out of that:
  // its report would stay unread until something else is announced.
  Listener(hostio::Ring& ring, int fd, const int& active, Handler handler);
  ~Listener() override;

  Result<> start();
  // Where the thread that is answered goes on: on this CPU, once we sleep, or where the host likes.
  // Hosts before Linux 6.6 do as they like.
  enum class Wake { kHere, kElsewhere };
  // Lets the call return `value`. Error: kNOENT: the call was interrupted; it will be notified
  // anew, or a signal handler is running.
  Result<> answer(uint64_t id, uint64_t value, Wake wake = Wake::kHere);
  // The notification has neither been answered nor abandoned.
  bool valid(uint64_t id) const;
  // Receives whatever is there, `active` or not. After kNOENT, when the call's successor may be
  // there already.
  void sweep();

 private:
  void complete(int32_t res, bool more) override;
  void receive_all();
  bool receive_one();
  bool readable() const;
  bool set_wake(Wake wake);

  hostio::Ring& ring_;
  int fd_;
  const int& active_;
  Handler handler_;
  std::vector<std::byte> notif_, response_;  // of the host's sizes
  bool steers_ = false;                      // the host can be told where to wake
  bool exact_;  // each completion stands for at least one notification of its own
  uint64_t announced_ = 0, received_ = 0;
};

}  // namespace uk::seccomp
