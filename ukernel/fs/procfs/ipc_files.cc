// /proc/sysvipc, and the limits of /proc/sys/kernel and /proc/sys/fs/mqueue: of the IPC namespace
// of whoever looks (proc(5), sysvipc(7), mq_overview(7)).
#include <charconv>

#include "absl/strings/str_format.h"
#include "ukernel/fs/procfs/proc_node.h"
#include "ukernel/ipc/namespace.h"
#include "ukernel/task/current.h"

namespace uk::procfs {
namespace {

IpcNamespace& ns_of(Ctx& c) {
  Task* t = current_task(c.kernel.reactor);
  return t != nullptr && t->ipc_ ? t->ipc() : *c.kernel.ipc;
}

Result<std::string> shm(Ctx& c) {
  std::string out =
      "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid"
      "      atime      dtime      ctime                   rss                  swap\n";
  for (auto& [index, s] : ns_of(c).segments.all()) {
    absl::StrAppendFormat(
        &out, "%10d %10d  %4o %21d %5d %5d  %5d %5d %5d %5d %5d %10d %10d %10d %21d %21d\n", s->key,
        s->id, s->mode, s->bytes, c.shown(s->creator_pid), c.shown(s->last_pid), s->attached,
        s->uid, s->gid, s->cuid, s->cgid, s->atime, s->dtime, s->ctime,
        s->resident_pages() * kPageSize, 0);
  }
  return out;
}

Result<std::string> sem(Ctx& c) {
  std::string out =
      "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n";
  for (auto& [index, s] : ns_of(c).sem_sets.all()) {
    absl::StrAppendFormat(&out, "%10d %10d  %4o %10d %5d %5d %5d %5d %10d %10d\n", s->key, s->id,
                          s->mode, s->count(), s->uid, s->gid, s->cuid, s->cgid, s->otime,
                          s->ctime);
  }
  return out;
}

Result<std::string> msg(Ctx& c) {
  std::string out =
      "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid"
      "      stime      rtime      ctime\n";
  for (auto& [index, q] : ns_of(c).queues.all()) {
    absl::StrAppendFormat(
        &out, "%10d %10d  %4o  %10d %10d %5d %5d %5d %5d %5d %5d %10d %10d %10d\n", q->key, q->id,
        q->mode, q->bytes, q->count(), c.shown(q->last_sender), c.shown(q->last_receiver), q->uid,
        q->gid, q->cuid, q->cgid, q->stime, q->rtime, q->ctime);
  }
  return out;
}

template <auto kMember>
Result<std::string> show(Ctx& c) {
  return std::to_string(ns_of(c).*kMember) + "\n";
}
template <auto kMember, int64_t kLow, int64_t kHigh>
Result<> store(Ctx& c, std::string_view s) {
  auto& member = ns_of(c).*kMember;
  member =
      static_cast<std::remove_reference_t<decltype(member)>>(TRY(parse_number(s, kLow, kHigh)));
  return {};
}
// An unsigned long, which parse_number() cannot hold.
template <auto kMember>
Result<> store_ulong(Ctx& c, std::string_view s) {
  s = s.substr(0, s.find_last_not_of(" \t\n") + 1);
  uint64_t v = 0;
  auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (error != std::errc{} || end != s.data() + s.size()) return Err(Errno::kINVAL);
  ns_of(c).*kMember = v;
  return {};
}
template <auto kMember, int64_t kLow, int64_t kHigh>
constexpr Entry limit(const char* name) {
  return text(name, show<kMember>, 0644, store<kMember, kLow, kHigh>);
}

Result<std::string> sem_limits(Ctx& c) {
  const IpcNamespace& ns = ns_of(c);
  return absl::StrFormat("%d\t%d\t%d\t%d\n", ns.sem_max_per_set, ns.sem_max, ns.sem_max_ops,
                         ns.sem_max_sets);
}
Result<> set_sem_limits(Ctx& c, std::string_view s) {
  IpcNamespace& ns = ns_of(c);
  int* const members[] = {&ns.sem_max_per_set, &ns.sem_max, &ns.sem_max_ops, &ns.sem_max_sets};
  size_t i = 0;
  constexpr std::string_view kBlanks = " \t\n";
  for (;;) {
    s.remove_prefix(std::min(s.find_first_not_of(kBlanks), s.size()));
    if (s.empty()) break;
    const std::string_view word = s.substr(0, s.find_first_of(kBlanks));
    s.remove_prefix(word.size());
    if (i == std::size(members)) return Err(Errno::kINVAL);
    const int64_t most = i == 2 ? 500 : i == 3 ? IpcIds<SemSet>::kIndexMask + 1 : INT32_MAX;
    *members[i++] = static_cast<int>(TRY(parse_number(word, 0, most)));
  }
  return {};
}

template <auto kIds>
Result<std::string> show_next(Ctx& c) {
  return std::to_string((ns_of(c).*kIds).next_id) + "\n";
}
template <auto kIds>
Result<> store_next(Ctx& c, std::string_view s) {
  (ns_of(c).*kIds).next_id = static_cast<int>(TRY(parse_number(s, 0, INT32_MAX)));
  return {};
}

using N = IpcNamespace;
constexpr Entry kSysvipc[] = {
    text("msg", msg),
    text("sem", sem),
    text("shm", shm),
};
constexpr Entry kLimits[] = {
    text("msg_next_id", show_next<&N::queues>, 0644, store_next<&N::queues>),
    limit<&N::msg_max_bytes, 0, INT32_MAX>("msgmax"),
    limit<&N::msg_queue_bytes, 0, INT32_MAX>("msgmnb"),
    limit<&N::msg_max_queues, 0, IpcIds<MsgQueue>::kIndexMask + 1>("msgmni"),
    text("sem", sem_limits, 0644, set_sem_limits),
    text("sem_next_id", show_next<&N::sem_sets>, 0644, store_next<&N::sem_sets>),
    text("shm_next_id", show_next<&N::segments>, 0644, store_next<&N::segments>),
    text("shmall", show<&N::shm_max_pages>, 0644, store_ulong<&N::shm_max_pages>),
    text("shmmax", show<&N::shm_max_bytes>, 0644, store_ulong<&N::shm_max_bytes>),
    limit<&N::shm_max_segments, 0, IpcIds<ShmSegment>::kIndexMask + 1>("shmmni"),
};

constexpr Entry kMqueue[] = {
    limit<&N::mq_msg_default, 1, 65536>("msg_default"),
    limit<&N::mq_msg_max, 1, 65536>("msg_max"),
    limit<&N::mq_msgsize_default, 128, 16 << 20>("msgsize_default"),
    limit<&N::mq_msgsize_max, 128, 16 << 20>("msgsize_max"),
    limit<&N::mq_queues_max, 0, INT32_MAX>("queues_max"),
};

}  // namespace

std::span<const Entry> mqueue_limit_entries() { return kMqueue; }
std::span<const Entry> sysvipc_entries() { return kSysvipc; }
std::span<const Entry> ipc_limit_entries() { return kLimits; }

}  // namespace uk::procfs
