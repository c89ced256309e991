// The table of endpoints, messages in flight, and the collection of cycles among them.
#include <vector>

#include "ukernel/net/unix/unix_socket.h"

namespace uk {
namespace {

constexpr uint64_t kSockfsMagic = 0x534f434b;
// Who sent a message that does not say: a process out of sight, the overflow ids.
constexpr UserCreds kNobody{0, 65534, 65534};

class SockfsSuper final : public SuperBlock {
 public:
  SockfsSuper() { dev = make_dev(0, 8); }
  std::string_view fs_type() const override { return "sockfs"; }
  Result<FsStat> statfs(Park&) override {
    FsStat s;
    s.type = kSockfsMagic;
    return s;
  }
};

}  // namespace

UnixSockets::UnixSockets() : sockfs_(make_ref<SockfsSuper>()) {}
UnixSockets::~UnixSockets() = default;

UnixSocket* UnixSockets::find_abstract(const std::string& name) const {
  auto it = abstract_.find(name);
  return it == abstract_.end() ? nullptr : it->second;
}

uint64_t UnixSockets::in_flight(uint32_t uid) const {
  auto it = in_flight_.find(uid);
  return it == in_flight_.end() ? 0 : it->second;
}

// A socket whose file is referred to from messages only is alive if a message that can still be
// received holds it: one in the queue of a socket that is alive.
void UnixSockets::collect_garbage() {
  if (flying_.empty()) return;
  std::map<const UnixSocket*, bool> doubtful;  // -> reached
  for (UnixSocket& s : all_) {
    if (s.file == nullptr) continue;
    auto it = flying_.find(s.file);
    if (it != flying_.end() && it->second == s.file->ref_count()) doubtful[&s] = false;
  }
  if (doubtful.empty()) return;
  std::vector<const UnixSocket*> todo;
  for (UnixSocket& s : all_) {
    // Connections not accepted yet have no file; they are reached through their listener.
    if (s.file != nullptr && !doubtful.contains(&s)) todo.push_back(&s);
  }
  auto visit = [&](const UnixSocket& s) {
    for (const UnixMessage& m : s.messages_) {
      for (const Ref<File>& f : m.files()) {
        auto* inner = dynamic_cast<UnixSocketFile*>(f.get());
        if (inner == nullptr) continue;
        auto it = doubtful.find(&inner->socket());
        if (it == doubtful.end() || it->second) continue;
        it->second = true;
        todo.push_back(it->first);
      }
    }
  };
  while (!todo.empty()) {
    const UnixSocket* s = todo.back();
    todo.pop_back();
    visit(*s);
    for (const Ref<UnixSocket>& p : s->pending_) visit(*p);
  }
  std::deque<UnixMessage> garbage;  // destroyed at the end: closes the files, and then the sockets
  for (UnixSocket& s : all_) {
    auto it = doubtful.find(&s);
    if (it == doubtful.end() || it->second) continue;
    for (UnixMessage& m : s.messages_) garbage.push_back(std::move(m));
    s.messages_.clear();
    s.message_bytes_ = 0;
    for (const Ref<UnixSocket>& p : s.pending_) {
      for (UnixMessage& m : p->messages_) garbage.push_back(std::move(m));
      p->messages_.clear();
      p->message_bytes_ = 0;
    }
  }
}

UnixMessage::UnixMessage(std::shared_ptr<UnixSockets> table, Ref<SendBudget> budget,
                         std::vector<std::byte> bytes, SendMessage& m, size_t charge,
                         bool signed_by_sender)
    : data(std::move(bytes)),
      creds(signed_by_sender ? m.creds : kNobody),
      process(signed_by_sender ? m.process : nullptr),
      sent_ns(m.now_ns),
      table_(std::move(table)),
      budget_(std::move(budget)),
      charge_(charge),
      uid_(m.creds.uid),
      files_(std::exchange(m.files, {})) {
  budget_->used += charge_;
  if (files_.empty()) return;
  table_->in_flight_[uid_] += files_.size();
  for (const Ref<File>& f : files_) ++table_->flying_[f.get()];
}

UnixMessage::~UnixMessage() {
  if (!budget_) return;  // moved from
  land();
  budget_->used -= charge_;
  if (budget_->owner != nullptr) budget_->owner->queue().wake_all(POLLOUT | POLLWRNORM);
}

UnixMessage& UnixMessage::operator=(UnixMessage&& other) noexcept {
  std::swap(data, other.data);
  std::swap(start, other.start);
  std::swap(urgent, other.urgent);
  std::swap(creds, other.creds);
  std::swap(process, other.process);
  std::swap(sent_ns, other.sent_ns);
  std::swap(table_, other.table_);
  std::swap(budget_, other.budget_);
  std::swap(charge_, other.charge_);
  std::swap(uid_, other.uid_);
  std::swap(files_, other.files_);
  return *this;
}

void UnixMessage::land() {
  if (files_.empty()) return;
  auto it = table_->in_flight_.find(uid_);
  if (it != table_->in_flight_.end() && (it->second -= files_.size()) == 0)
    table_->in_flight_.erase(it);
  for (const Ref<File>& f : files_) {
    auto flying = table_->flying_.find(f.get());
    if (flying != table_->flying_.end() && --flying->second == 0) table_->flying_.erase(flying);
  }
}

std::vector<Ref<File>> UnixMessage::take_files() {
  land();
  return std::exchange(files_, {});
}

}  // namespace uk
