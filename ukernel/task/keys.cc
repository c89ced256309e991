#include "ukernel/task/keys.h"

#include <algorithm>
#include <set>

namespace uk {
namespace {

constexpr int64_t kMaxKeys = 200, kMaxBytes = 20000;
// DEVIATION: root may have a million on Linux; what guests can pin is bounded, for all users too.
constexpr int64_t kRootMaxKeys = 20'000, kRootMaxBytes = 2'500'000;
constexpr int64_t kAllMaxKeys = 50'000, kAllMaxBytes = 32 << 20;
constexpr int64_t kLinkBytes = 4;
constexpr size_t kMaxUsers = 4096;
constexpr uint32_t kUserPerm = 0x1f3f0000;  // of a user's two keyrings

}  // namespace

Result<> KeyAccounts::charge(uint32_t uid, int64_t keys, int64_t bytes) {
  const auto it = users.find(uid);
  const User have = it == users.end() ? User{} : it->second;
  if ((keys > 0 && have.keys + keys > (uid == 0 ? kRootMaxKeys : kMaxKeys)) ||
      (bytes > 0 && have.bytes + bytes > (uid == 0 ? kRootMaxBytes : kMaxBytes)))
    return Err(Errno::kDQUOT);
  if ((keys > 0 && all.keys + keys > kAllMaxKeys) ||
      (bytes > 0 && all.bytes + bytes > kAllMaxBytes))
    return Err(Errno::kDQUOT);
  users[uid] = {have.keys + keys, have.bytes + bytes};
  all.keys += keys;
  all.bytes += bytes;
  return {};
}

void KeyAccounts::uncharge(uint32_t uid, int64_t keys, int64_t bytes) {
  User& u = users[uid];
  u.keys -= keys;
  u.bytes -= bytes;
  all.keys -= keys;
  all.bytes -= bytes;
  if (u.keys == 0 && u.bytes == 0) users.erase(uid);
}

Key::Key(std::shared_ptr<KeyAccounts> accounts, KeyType type, std::string description,
         int32_t serial, uint32_t uid, uint32_t gid, uint32_t perm)
    : type(type),
      description(std::move(description)),
      serial(serial),
      uid(uid),
      gid(gid),
      perm(perm),
      accounts_(std::move(accounts)) {
  accounts_->by_serial[serial] = this;
}

// A long chain must not be taken down by recursion.
Key::~Key() {
  accounts_->uncharge(uid, 1, bytes());
  std::vector<Ref<Key>> todo = std::move(links_);
  while (!todo.empty()) {
    Ref<Key> k = std::move(todo.back());
    todo.pop_back();
    if (k->ref_count() != 1) continue;
    k->accounts_->uncharge(k->uid, 0, static_cast<int64_t>(k->links_.size()) * kLinkBytes);
    std::move(k->links_.begin(), k->links_.end(), std::back_inserter(todo));
    k->links_.clear();
  }
  accounts_->by_serial.erase(serial);
}

int64_t Key::bytes() const {
  return static_cast<int64_t>(description.size() + 1 + payload_.size()) +
         static_cast<int64_t>(links_.size()) * kLinkBytes;
}

Result<> Key::check_alive(uint64_t now_s) const {
  if (invalidated) return Err(Errno::kNOKEY);
  if (revoked) return Err(Errno::kKEYREVOKED);
  if (expires_s != 0 && now_s >= expires_s) return Err(Errno::kKEYEXPIRED);
  return {};
}

Result<> Key::set_payload(std::string payload) {
  TRY(accounts_->charge(
      uid, 0, static_cast<int64_t>(payload.size()) - static_cast<int64_t>(payload_.size())));
  payload_ = std::move(payload);
  return {};
}

// Level by level: each keyring is looked at once, and nothing recurses. kDEADLK: it would be a
// circle; kLOOP: too deep.
Result<> Key::may_be_linked(const Key& into) const {
  std::set<const Key*> seen{this};
  std::vector<const Key*> level{this};
  for (int depth = 1; !level.empty(); ++depth) {
    if (depth > KeyTable::kMaxDepth) return Err(Errno::kLOOP);
    std::vector<const Key*> next;
    for (const Key* ring : level) {
      if (ring == &into) return Err(Errno::kDEADLK);
      for (const Ref<Key>& k : ring->links_)
        if (k->type == KeyType::kKeyring && seen.insert(k.get()).second) next.push_back(k.get());
    }
    level = std::move(next);
  }
  return {};
}

Result<> Key::link(Ref<Key> key) {
  if (key->type == KeyType::kKeyring) {
    TRY(key->may_be_linked(*this));
  }
  for (Ref<Key>& k : links_) {
    if (k->type != key->type || k->description != key->description) continue;
    std::swap(k, key);  // the old one goes at the end
    return {};
  }
  TRY(accounts_->charge(uid, 0, kLinkBytes));
  links_.push_back(std::move(key));
  return {};
}

Result<> Key::unlink(const Key& key) {
  auto at = std::find_if(links_.begin(), links_.end(),
                         [&](const Ref<Key>& k) { return k.get() == &key; });
  if (at == links_.end()) return Err(Errno::kNOENT);
  accounts_->uncharge(uid, 0, kLinkBytes);
  links_.erase(at);
  return {};
}

void Key::clear() {
  accounts_->uncharge(uid, 0, static_cast<int64_t>(links_.size()) * kLinkBytes);
  links_.clear();
}

Result<> Key::change_owner(uint32_t new_uid) {
  TRY(accounts_->charge(new_uid, 1, bytes()));
  accounts_->uncharge(uid, 1, bytes());
  uid = new_uid;
  return {};
}

Ref<Key> Key::find(KeyType wanted, std::string_view text) const {
  for (const Ref<Key>& k : links_)
    if (k->type == wanted && k->description == text && !k->revoked && !k->invalidated) return k;
  return nullptr;
}

Result<Ref<Key>> KeyTable::create(KeyType type, std::string description, uint32_t uid, uint32_t gid,
                                  uint32_t perm) {
  TRY(accounts_->charge(uid, 1, static_cast<int64_t>(description.size() + 1)));
  int32_t& next = accounts_->next_serial;
  do {
    next = next >= INT32_MAX - 1 ? 1 : next + 1;
  } while (accounts_->by_serial.contains(next));
  return Ref<Key>(new Key(accounts_, type, std::move(description), next, uid, gid, perm));
}

Ref<Key> KeyTable::find(int32_t serial) const {
  auto it = accounts_->by_serial.find(serial);
  return it == accounts_->by_serial.end() ? nullptr : Ref<Key>(it->second);
}

Result<KeyTable::OfUser*> KeyTable::of_user(uint32_t uid) {
  if (auto it = users_.find(uid); it != users_.end()) return &it->second;
  if (users_.size() >= kMaxUsers) return Err(Errno::kDQUOT);
  const std::string number = std::to_string(uid);
  OfUser u;
  u.user = TRY(create(KeyType::kKeyring, "_uid." + number, uid, ~0u, kUserPerm));
  u.session = TRY(create(KeyType::kKeyring, "_uid_ses." + number, uid, ~0u, kUserPerm));
  TRY(u.session->link(u.user));
  return &users_.emplace(uid, std::move(u)).first->second;
}

Result<Ref<Key>> KeyTable::user_keyring(uint32_t uid) { return TRY(of_user(uid))->user; }
Result<Ref<Key>> KeyTable::user_session(uint32_t uid) { return TRY(of_user(uid))->session; }

bool may_use_key(const Key& key, bool possessed, const Cred& cred, uint32_t need) {
  constexpr uint32_t kGroupBits = 0x3f00, kNoGroup = ~0u;
  uint32_t bits = key.perm;
  if (key.uid == cred.fsuid) {
    bits >>= 16;
  } else if (key.gid != kNoGroup && (bits & kGroupBits) != 0 && cred.in_group(key.gid)) {
    bits >>= 8;
  }
  if (possessed) bits |= key.perm >> 24;
  return (bits & need) == need;
}

namespace {

// One keyring: the key, or the keyrings below to look into.
Ref<Key> search_one(const Key& ring, bool possessed, KeySearch& s, std::set<const Key*>& seen,
                    std::vector<const Key*>& below) {
  const auto tell = [&](Errno e) {
    if (s.error == Errno::kNOKEY || s.error == Errno::kACCES) s.error = e;
  };
  for (const Ref<Key>& k : ring.links()) {
    const bool match = s.exactly != nullptr ? k.get() == s.exactly
                                            : k->type == s.type && k->description == s.description;
    if (!match) continue;
    const Result<> alive = k->check_alive(s.now_s);
    if (!alive && s.exactly == nullptr) {
      tell(alive.error());
    } else if (!may_use_key(*k, possessed, s.cred, kKeySearch)) {
      tell(Errno::kACCES);
    } else {
      return k;
    }
  }
  for (const Ref<Key>& k : ring.links()) {
    if (k->type != KeyType::kKeyring || !k->check_alive(s.now_s)) continue;
    if (may_use_key(*k, possessed, s.cred, kKeySearch) && seen.insert(k.get()).second)
      below.push_back(k.get());
  }
  return nullptr;
}

}  // namespace

Ref<Key> search_keyring(const Ref<Key>& ring, bool possessed, KeySearch& search) {
  if (search.exactly == ring.get()) return ring;
  if (Result<> alive = ring->check_alive(search.now_s); !alive) {
    if (search.error == Errno::kNOKEY) search.error = alive.error();
    return nullptr;
  }
  std::set<const Key*> seen{ring.get()};
  std::vector<const Key*> level{ring.get()};
  for (int depth = 1; depth <= KeyTable::kMaxDepth && !level.empty(); ++depth) {
    std::vector<const Key*> next;
    for (const Key* at : level)
      if (Ref<Key> found = search_one(*at, possessed, search, seen, next)) return found;
    level = std::move(next);
  }
  return nullptr;
}

Ref<Cred> keys_for_child(Ref<Cred> cred, bool thread) {
  if (!cred->thread_keys && (thread || !cred->process_keys)) return cred;
  Ref<Cred> c = cred->copy();
  c->thread_keys.reset();
  if (!thread) c->process_keys.reset();
  return c;
}

void keys_for_exec(Cred& cred) {
  cred.thread_keys.reset();
  cred.process_keys.reset();
}

}  // namespace uk
