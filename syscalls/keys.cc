#include "syscalls/keys.h"

#include <linux/keyctl.h>

#include "absl/strings/str_format.h"
#include "syscalls/fs_common.h"
#include "ukernel/task/keys.h"

namespace uk {
namespace {

constexpr size_t kMaxType = 31, kMaxDescription = 4095, kMaxPayload = (1 << 20) - 1,
                 kMaxUserPayload = 32767;
constexpr uint32_t kPossessorAll = 0x3f000000;
constexpr uint32_t kUserView = 0x10000, kUserRead = 0x20000, kUserLink = 0x100000;
constexpr uint32_t kKnownPerms = 0x3f3f3f3f;

KeyTable& table(Task& task) {
  if (!task.kernel.keys) task.kernel.keys = std::make_shared<KeyTable>();
  return *task.kernel.keys;
}

uint64_t now_s(Task& task) { return task.kernel.clock.realtime_ns() / kNsPerSec; }

Key* ring_of(const Ref<RefCounted>& ring) { return static_cast<Key*>(ring.get()); }

struct Found {
  Ref<Key> key;
  bool possessed;
};

// ---- the caller's keyrings

// Puts a new keyring into the caller's credentials.
Result<Ref<Key>> install(Task& task, Ref<RefCounted> Cred::*place, const char* name,
                         uint32_t perm) {
  const Cred& c = task.cred();
  Ref<Key> ring = TRY(table(task).create(KeyType::kKeyring, name, c.uid, c.gid, perm));
  Ref<Cred> changed = c.copy();
  (*changed).*place = ring;
  task.set_cred(std::move(changed));
  return ring;
}

Result<Ref<Key>> session_keyring(Task& task, bool create) {
  if (Key* ring = ring_of(task.cred().session_keys)) return Ref<Key>(ring);
  // Until it has one of its own, a process uses its user's.
  if (create)
    return install(task, &Cred::session_keys, "_ses", kPossessorAll | kUserView | kUserRead);
  Ref<Cred> c = task.cred().copy();
  Ref<Key> ring = TRY(table(task).user_session(c->uid));
  c->session_keys = ring;
  task.set_cred(std::move(c));
  return ring;
}

Result<Ref<Key>> special_keyring(Task& task, int32_t id, bool create) {
  const Cred& c = task.cred();
  switch (id) {
    case KEY_SPEC_THREAD_KEYRING:
      if (Key* ring = ring_of(c.thread_keys)) return Ref<Key>(ring);
      if (!create) return Err(Errno::kNOKEY);
      return install(task, &Cred::thread_keys, "_tid", kPossessorAll | kUserView);
    case KEY_SPEC_PROCESS_KEYRING:
      if (Key* ring = ring_of(c.process_keys)) return Ref<Key>(ring);
      if (!create) return Err(Errno::kNOKEY);
      return install(task, &Cred::process_keys, "_pid", kPossessorAll | kUserView);
    case KEY_SPEC_SESSION_KEYRING:
      return session_keyring(task, create);
    case KEY_SPEC_USER_KEYRING:
      return table(task).user_keyring(c.uid);
    case KEY_SPEC_USER_SESSION_KEYRING:
      return table(task).user_session(c.uid);
    case KEY_SPEC_REQKEY_AUTH_KEY:
    case KEY_SPEC_REQUESTOR_KEYRING:
      return Err(Errno::kNOKEY);  // nobody is asked to make keys
    default:
      return Err(Errno::kINVAL);
  }
}

// Through the thread's, the process's and the session's keyring.
Ref<Key> search_own(Task& task, KeySearch& search) {
  const Cred& c = task.cred();
  for (Key* ring : {ring_of(c.thread_keys), ring_of(c.process_keys), ring_of(c.session_keys)}) {
    if (ring == nullptr) continue;
    if (Ref<Key> found = search_keyring(Ref<Key>(ring), true, search)) return found;
  }
  if (c.session_keys) return nullptr;
  Result<Ref<Key>> ring = table(task).user_session(c.uid);
  return ring ? search_keyring(*ring, true, search) : nullptr;
}

// A key by its number or a KEY_SPEC_*. `need` is asked of it; without, it may be dead too.
Result<Found> lookup(Task& task, int32_t id, bool create, uint32_t need) {
  Found f{nullptr, true};
  if (id <= 0) {
    if (id == 0) return Err(Errno::kINVAL);
    f.key = TRY(special_keyring(task, id, create));
  } else {
    f.key = table(task).find(id);
    if (!f.key) return Err(Errno::kNOKEY);
    KeySearch search{task.cred(), now_s(task), f.key->type, f.key->description, f.key.get()};
    f.possessed = search_own(task, search) != nullptr;
  }
  if (need != 0) {
    TRY(f.key->check_alive(now_s(task)));
    if (!may_use_key(*f.key, f.possessed, task.cred(), need)) return Err(Errno::kACCES);
  }
  return f;
}

Result<Found> lookup_ring(Task& task, int32_t id, bool create, uint32_t need) {
  Found f = TRY(lookup(task, id, create, need));
  if (f.key->type != KeyType::kKeyring) return Err(Errno::kNOTDIR);
  return f;
}

// ---- arguments

Result<std::string> fetch_type(Task& task, UserStr user) {
  auto text = user.get(task.park(), task.mm(), kMaxType);
  if (!text) return Err(text.error() == Errno::kNAMETOOLONG ? Errno::kINVAL : text.error());
  if (text->empty()) return Err(Errno::kINVAL);
  if (text->front() == '.') return Err(Errno::kPERM);
  return text;
}

Result<std::string> fetch_description(Task& task, UserStr user) {
  auto text = user.get(task.park(), task.mm(), kMaxDescription);
  if (!text) return Err(text.error() == Errno::kNAMETOOLONG ? Errno::kINVAL : text.error());
  return text;
}

Result<KeyType> type_of(const std::string& name) {
  if (name == "user") return KeyType::kUser;
  if (name == "logon") return KeyType::kLogon;
  if (name == "keyring") return KeyType::kKeyring;
  return Err(Errno::kNODEV);
}

const char* name_of(KeyType t) {
  return t == KeyType::kUser ? "user" : t == KeyType::kLogon ? "logon" : "keyring";
}

Result<> check_content(KeyType type, const std::string& description, size_t size) {
  if (description.empty()) return Err(Errno::kINVAL);
  if (type == KeyType::kKeyring) return size == 0 ? Result<>{} : Err(Errno::kINVAL);
  // A logon key's name begins with the name of a service.
  const size_t colon = description.find(':');
  if (type == KeyType::kLogon && (colon == std::string::npos || colon == 0))
    return Err(Errno::kINVAL);
  if (size == 0 || size > kMaxUserPayload) return Err(Errno::kINVAL);
  return {};
}

Result<std::string> fetch_payload(Task& task, UserAddr at, size_t size) {
  if (size > kMaxPayload) return Err(Errno::kINVAL);
  std::vector<char> bytes = TRY(UserIn<char>{at}.get_array(task.park(), task.mm(), size));
  return std::string(bytes.begin(), bytes.end());
}

// As much as there is, if all fits; how much there is.
Result<int64_t> put(Task& task, uint64_t at, uint64_t room, std::string_view bytes) {
  if (at != 0 && room >= bytes.size())
    TRY(UserOut<char>{{at}}.put_array(task.park(), task.mm(),
                                      std::span<const char>(bytes.data(), bytes.size())));
  return static_cast<int64_t>(bytes.size());
}

// ---- operations

Result<int64_t> join_session(Task& task, UserStr user) {
  if (!user) {
    return TRY(install(task, &Cred::session_keys, "_ses", kPossessorAll | kUserView | kUserRead))
        ->serial;
  }
  const std::string name = TRY(fetch_description(task, user));
  if (!name.empty() && name.front() == '.') return Err(Errno::kPERM);
  // DEVIATION: a session keyring of that name is not looked for; see docs/CAVEATS.md.
  return TRY(install(task, &Cred::session_keys, name.c_str(),
                     kPossessorAll | kUserView | kUserRead | kUserLink))
      ->serial;
}

Result<int64_t> update(Task& task, int32_t id, UserAddr payload, size_t size) {
  if (size > kPageSize) return Err(Errno::kINVAL);
  std::string bytes = TRY(fetch_payload(task, payload, size));
  const Found f = TRY(lookup(task, id, false, kKeyWrite));
  if (f.key->type == KeyType::kKeyring) return Err(Errno::kOPNOTSUPP);
  TRY(check_content(f.key->type, f.key->description, bytes.size()));
  TRY(f.key->set_payload(std::move(bytes)));
  f.key->expires_s = 0;
  return 0;
}

Result<int64_t> revoke(Task& task, int32_t id) {
  Result<Found> f = lookup(task, id, false, kKeyWrite);
  if (!f && f.error() == Errno::kACCES) f = lookup(task, id, false, kKeySetattr);
  if (!f) return Err(f.error());
  f->key->revoked = true;
  if (f->key->type == KeyType::kKeyring) f->key->clear();
  return 0;
}

Result<int64_t> invalidate(Task& task, int32_t id) {
  const Found f = TRY(lookup(task, id, false, kKeySearch));
  f.key->invalidated = true;
  f.key->clear();
  return 0;
}

Result<int64_t> chown(Task& task, int32_t id, uint32_t uid, uint32_t gid) {
  constexpr uint32_t kUnchanged = ~0u;
  if (uid == kUnchanged && gid == kUnchanged) return 0;
  const Found f = TRY(lookup(task, id, true, kKeySetattr));
  const Cred& c = task.cred();
  if (!c.has(Cap::kSysAdmin)) {
    if (uid != kUnchanged && uid != f.key->uid) return Err(Errno::kACCES);
    if (gid != kUnchanged && gid != f.key->gid && !c.in_group(gid)) return Err(Errno::kACCES);
  }
  if (uid != kUnchanged && uid != f.key->uid) TRY(f.key->change_owner(uid));
  if (gid != kUnchanged) f.key->gid = gid;
  return 0;
}

Result<int64_t> set_perm(Task& task, int32_t id, uint32_t perm) {
  if ((perm & ~kKnownPerms) != 0) return Err(Errno::kINVAL);
  const Found f = TRY(lookup(task, id, true, kKeySetattr));
  if (!task.cred().has(Cap::kSysAdmin) && f.key->uid != task.cred().fsuid)
    return Err(Errno::kACCES);
  f.key->perm = perm;
  return 0;
}

Result<int64_t> describe(Task& task, int32_t id, uint64_t at, uint64_t room) {
  const Found f = TRY(lookup(task, id, false, kKeyView));
  std::string text =
      absl::StrFormat("%s;%d;%d;%08x;%s", name_of(f.key->type), static_cast<int32_t>(f.key->uid),
                      static_cast<int32_t>(f.key->gid), f.key->perm, f.key->description);
  text += '\0';
  return put(task, at, room, text);
}

Result<int64_t> link(Task& task, int32_t id, int32_t ring_id) {
  const Found ring = TRY(lookup_ring(task, ring_id, true, kKeyWrite));
  const Found f = TRY(lookup(task, id, true, kKeyLink));
  TRY(ring.key->link(f.key));
  return 0;
}

Result<int64_t> unlink(Task& task, int32_t id, int32_t ring_id) {
  const Found ring = TRY(lookup_ring(task, ring_id, false, kKeyWrite));
  const Found f = TRY(lookup(task, id, false, 0));
  TRY(ring.key->unlink(*f.key));
  return 0;
}

Result<int64_t> move(Task& task, int32_t id, int32_t from_id, int32_t to_id, uint32_t flags) {
  constexpr uint32_t kExclusive = 1;  // KEYCTL_MOVE_EXCL
  if ((flags & ~kExclusive) != 0) return Err(Errno::kINVAL);
  const Found f = TRY(lookup(task, id, true, kKeyLink));
  const Found from = TRY(lookup_ring(task, from_id, false, kKeyWrite));
  const Found to = TRY(lookup_ring(task, to_id, true, kKeyWrite));
  if (from.key == to.key) return 0;
  if (flags != 0 && to.key->find(f.key->type, f.key->description)) return Err(Errno::kEXIST);
  const auto& have = from.key->links();
  if (std::find(have.begin(), have.end(), f.key) == have.end()) return Err(Errno::kNOENT);
  TRY(to.key->link(f.key));
  TRY(from.key->unlink(*f.key));
  return 0;
}

// Links what was found to `ring_id`, if that is not 0.
Result<int64_t> deliver(Task& task, const Ref<Key>& key, bool possessed, const Found& ring) {
  if (ring.key) {
    if (!may_use_key(*key, possessed, task.cred(), kKeyLink)) return Err(Errno::kACCES);
    TRY(ring.key->link(key));
  }
  return key->serial;
}

Result<int64_t> search(Task& task, int32_t ring_id, UserStr user_type, UserStr user_description,
                       int32_t to_id) {
  const std::string type = TRY(fetch_type(task, user_type));
  const std::string description = TRY(fetch_description(task, user_description));
  const Found ring = TRY(lookup_ring(task, ring_id, false, kKeySearch));
  Found to{nullptr, false};
  if (to_id != 0) to = TRY(lookup_ring(task, to_id, true, kKeyWrite));
  const Result<KeyType> kind = type_of(type);
  if (!kind) return Err(Errno::kNOKEY);
  KeySearch s{task.cred(), now_s(task), *kind, description};
  Ref<Key> found = search_keyring(ring.key, ring.possessed, s);
  if (!found) return Err(s.error);
  return deliver(task, found, ring.possessed, to);
}

Result<int64_t> read(Task& task, int32_t id, uint64_t at, uint64_t room) {
  const Found f = TRY(lookup(task, id, false, 0));
  TRY(f.key->check_alive(now_s(task)));
  // Who may find it by searching his own keyrings may read it.
  const bool readable = may_use_key(*f.key, f.possessed, task.cred(), kKeyRead) ||
                        (f.possessed && may_use_key(*f.key, true, task.cred(), kKeySearch));
  if (!readable) return Err(Errno::kACCES);
  if (f.key->type == KeyType::kLogon) return Err(Errno::kOPNOTSUPP);
  if (f.key->type == KeyType::kUser) {
    const std::string copy = f.key->payload();
    return put(task, at, room, copy);
  }
  std::string serials;
  for (const Ref<Key>& k : f.key->links())
    serials.append(reinterpret_cast<const char*>(&k->serial), sizeof k->serial);
  // A list is cut where the room ends.
  if (at != 0 && room < serials.size())
    TRY(put(task, at, room, std::string_view(serials).substr(0, room / 4 * 4)));
  return put(task, at, room, serials);
}

Result<int64_t> set_timeout(Task& task, int32_t id, uint32_t seconds) {
  const Found f = TRY(lookup(task, id, true, kKeySetattr));
  f.key->expires_s = seconds != 0 ? now_s(task) + seconds : 0;
  return 0;
}

}  // namespace

Result<int64_t> sys_add_key(Task& task, UserStr user_type, UserStr user_description,
                            UserAddr payload, size_t size, int ring_id) {
  if (size > kMaxPayload) return Err(Errno::kINVAL);
  const std::string name = TRY(fetch_type(task, user_type));
  std::string description;
  if (user_description) description = TRY(fetch_description(task, user_description));
  if (!description.empty() && description.front() == '.' && name == "keyring")
    return Err(Errno::kPERM);
  std::string content = TRY(fetch_payload(task, payload, size));
  const Found ring = TRY(lookup(task, ring_id, true, kKeyWrite));
  const KeyType type = TRY(type_of(name));
  if (ring.key->type != KeyType::kKeyring) return Err(Errno::kNOTDIR);
  TRY(check_content(type, description, content.size()));
  if (type != KeyType::kKeyring) {
    if (Ref<Key> old = ring.key->find(type, description)) {
      if (!may_use_key(*old, ring.possessed, task.cred(), kKeyWrite)) return Err(Errno::kACCES);
      TRY(old->set_payload(std::move(content)));
      old->expires_s = 0;
      return old->serial;
    }
  }
  constexpr uint32_t kNoRead = 0x3d010000, kFull = 0x3f010000;
  const Cred& c = task.cred();
  Ref<Key> key = TRY(table(task).create(type, description, c.fsuid, c.fsgid,
                                        type == KeyType::kLogon ? kNoRead : kFull));
  TRY(key->set_payload(std::move(content)));
  TRY(ring.key->link(key));
  return key->serial;
}

Result<int64_t> sys_request_key(Task& task, UserStr user_type, UserStr user_description,
                                UserStr user_callout, int ring_id) {
  const std::string type = TRY(fetch_type(task, user_type));
  const std::string description = TRY(fetch_description(task, user_description));
  if (user_callout) TRY(fetch_description(task, user_callout));
  Found to{nullptr, false};
  if (ring_id != 0) to = TRY(lookup(task, ring_id, true, kKeyWrite));
  const Result<KeyType> kind = type_of(type);
  if (!kind) return Err(Errno::kNOKEY);
  if (to.key && to.key->type != KeyType::kKeyring) return Err(Errno::kNOTDIR);
  KeySearch s{task.cred(), now_s(task), *kind, description};
  Ref<Key> found = search_own(task, s);
  if (!found) return Err(s.error);
  return deliver(task, found, true, to);
}

Result<int64_t> sys_keyctl(Task& task, int operation, uint64_t a, uint64_t b, uint64_t c,
                           uint64_t d) {
  const auto id = static_cast<int32_t>(a);
  switch (operation) {
    case KEYCTL_GET_KEYRING_ID: {
      Found f = TRY(lookup(task, id, b != 0, kKeySearch));
      return f.key->serial;
    }
    case KEYCTL_JOIN_SESSION_KEYRING:
      return join_session(task, UserStr{{a}});
    case KEYCTL_UPDATE:
      return update(task, id, {b}, c);
    case KEYCTL_REVOKE:
      return revoke(task, id);
    case KEYCTL_CHOWN:
      return chown(task, id, static_cast<uint32_t>(b), static_cast<uint32_t>(c));
    case KEYCTL_SETPERM:
      return set_perm(task, id, static_cast<uint32_t>(b));
    case KEYCTL_DESCRIBE:
      return describe(task, id, b, c);
    case KEYCTL_CLEAR: {
      Found f = TRY(lookup_ring(task, id, true, kKeyWrite));
      f.key->clear();
      return 0;
    }
    case KEYCTL_LINK:
      return link(task, id, static_cast<int32_t>(b));
    case KEYCTL_UNLINK:
      return unlink(task, id, static_cast<int32_t>(b));
    case KEYCTL_SEARCH:
      return search(task, id, UserStr{{b}}, UserStr{{c}}, static_cast<int32_t>(d));
    case KEYCTL_READ:
      return read(task, id, b, c);
    case KEYCTL_SET_TIMEOUT:
      return set_timeout(task, id, static_cast<uint32_t>(b));
    case KEYCTL_INVALIDATE:
      return invalidate(task, id);
    case KEYCTL_MOVE:
      return move(task, id, static_cast<int32_t>(b), static_cast<int32_t>(c),
                  static_cast<uint32_t>(d));
    case KEYCTL_INSTANTIATE:
    case KEYCTL_INSTANTIATE_IOV:
    case KEYCTL_NEGATE:
    case KEYCTL_REJECT:
      return Err(Errno::kPERM);  // nobody was given the authority
    default:
      // DEVIATION: the rarer operations; see docs/CAVEATS.md.
      return Err(Errno::kOPNOTSUPP);
  }
}

}  // namespace uk
