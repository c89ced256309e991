// keyrings(7): keys of the types "user", "logon" and "keyring", who may use them, and how much room
// they may take.
//
// Ownership: keyrings hold the keys that are linked to them, credentials their thread, process and
// session keyrings, the KeyTable (the Kernel's) each user's two. A key that nobody holds is gone.
// Links make no circles. Reactor-owned; nothing here suspends. Contents are guest data, bounded by
// quotas.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/vfs/cred.h"

namespace uk {

enum class KeyType : uint8_t { kUser, kLogon, kKeyring };

// KEY_NEED_*, as in the four bytes of a key's permissions: possessor, user, group, others.
enum KeyNeed : uint32_t {
  kKeyView = 1,
  kKeyRead = 2,
  kKeyWrite = 4,
  kKeySearch = 8,
  kKeyLink = 16,
  kKeySetattr = 32,
};

class Key;

// All keys by number, and what users have.
struct KeyAccounts {
  std::map<int32_t, Key*> by_serial;  // not owned
  struct User {
    int64_t keys = 0, bytes = 0;
  };
  std::map<uint32_t, User> users;
  User all;
  int32_t next_serial = 0;
  // kDQUOT (keys(7), "maxkeys", "maxbytes").
  Result<> charge(uint32_t uid, int64_t keys, int64_t bytes);
  void uncharge(uint32_t uid, int64_t keys, int64_t bytes);
};

class Key final : public RefCounted {
 public:
  ~Key() override;

  const KeyType type;
  const std::string description;
  const int32_t serial;
  uint32_t uid, gid, perm;
  uint64_t expires_s = 0;  // on the wall clock; 0 never
  bool revoked = false, invalidated = false;

  // kKEYREVOKED, kKEYEXPIRED, kNOKEY (invalidated).
  Result<> check_alive(uint64_t now_s) const;
  const std::string& payload() const { return payload_; }
  Result<> set_payload(std::string payload);
  const std::vector<Ref<Key>>& links() const { return links_; }
  // A key of the same type and description makes room. kDEADLK, kLOOP, kDQUOT.
  Result<> link(Ref<Key> key);
  Result<> unlink(const Key& key);  // kNOENT
  void clear();
  Result<> change_owner(uint32_t new_uid);
  Ref<Key> find(KeyType type, std::string_view description) const;

 private:
  friend class KeyTable;
  Key(std::shared_ptr<KeyAccounts> accounts, KeyType type, std::string description, int32_t serial,
      uint32_t uid, uint32_t gid, uint32_t perm);
  int64_t bytes() const;
  Result<> may_be_linked(const Key& into) const;

  std::shared_ptr<KeyAccounts> accounts_;
  std::string payload_;
  std::vector<Ref<Key>> links_;
};

class KeyTable {
 public:
  static constexpr int kMaxDepth = 6;  // KEYRING_SEARCH_MAX_DEPTH
  KeyTable() : accounts_(std::make_shared<KeyAccounts>()) {}

  // kDQUOT.
  Result<Ref<Key>> create(KeyType type, std::string description, uint32_t uid, uint32_t gid,
                          uint32_t perm);
  Ref<Key> find(int32_t serial) const;
  // _uid.N and, linked to it, _uid_ses.N.
  Result<Ref<Key>> user_keyring(uint32_t uid);
  Result<Ref<Key>> user_session(uint32_t uid);

 private:
  struct OfUser {
    Ref<Key> user, session;
  };
  Result<OfUser*> of_user(uint32_t uid);
  std::shared_ptr<KeyAccounts> accounts_;
  std::map<uint32_t, OfUser> users_;
};

// Does `cred` have all of `need` on the key?
bool may_use_key(const Key& key, bool possessed, const Cred& cred, uint32_t need);

struct KeySearch {
  const Cred& cred;
  uint64_t now_s;
  KeyType type;
  std::string_view description;
  const Key* exactly = nullptr;  // only this one
  Errno error = Errno::kNOKEY;   // the most telling reason for not finding
};
// Breadth comes before depth: below `ring`, which may be searched, as far as `search` may go.
Ref<Key> search_keyring(const Ref<Key>& ring, bool possessed, KeySearch& search);

// What cred says of keys when a task makes another (fork, clone) or executes a program.
Ref<Cred> keys_for_child(Ref<Cred> cred, bool thread);
void keys_for_exec(Cred& cred);

}  // namespace uk
