// Identifiers, permissions and the all-or-nothing rule of semaphores, without tasks.
#include <gtest/gtest.h>

#include "ukernel/ipc/ids.h"

namespace uk {
namespace {

struct Thing final : IpcHeader, RefCounted {
  static Ref<Thing> with_key(int32_t key) {
    auto t = make_ref<Thing>();
    t->key = key;
    return t;
  }
};

TEST(IpcIds, KeysAndIndicesAreFoundUntilRemoved) {
  IpcIds<Thing> ids;
  const int a = ids.add(Thing::with_key(7), 10).value();
  const int b = ids.add(Thing::with_key(IPC_PRIVATE), 10).value();
  EXPECT_NE(a, b);
  EXPECT_EQ(ids.by_key(7), ids.find(a));
  EXPECT_EQ(ids.by_key(IPC_PRIVATE), nullptr);
  EXPECT_EQ(ids.find(-1), nullptr);
  Ref<Thing> gone(ids.find(a));
  ids.remove(*gone);
  EXPECT_TRUE(gone->removed);
  EXPECT_EQ(ids.find(a), nullptr);
  EXPECT_EQ(ids.by_key(7), nullptr);
  EXPECT_EQ(ids.size(), 1);
}

TEST(IpcIds, AnIndexComesAgainWithAnotherSequence) {
  IpcIds<Thing> ids;
  const int first = ids.add(Thing::with_key(0), 100).value();
  ids.remove(*ids.find(first));
  int again = -1;
  for (int i = 0; i < IpcIds<Thing>::kMinCycle; ++i) {
    again = ids.add(Thing::with_key(0), 100).value();
    ids.remove(*ids.find(again));
  }
  EXPECT_EQ(again & IpcIds<Thing>::kIndexMask, first & IpcIds<Thing>::kIndexMask);
  EXPECT_NE(again, first);
  EXPECT_EQ(ids.find(first), nullptr);
}

TEST(IpcIds, LimitAndChosenId) {
  IpcIds<Thing> ids;
  ids.next_id = 5;
  EXPECT_EQ(ids.add(Thing::with_key(0), 2).value(), 5);
  EXPECT_EQ(ids.next_id, -1);
  EXPECT_TRUE(ids.add(Thing::with_key(0), 2).has_value());
  EXPECT_EQ(ids.add(Thing::with_key(0), 2).error(), Errno::kNOSPC);
}

TEST(IpcHeader, PermissionsByOwnerGroupAndOthers) {
  IpcHeader h;
  Cred owner;
  owner.cap_effective = 0;
  owner.euid = 10;
  owner.egid = 20;
  h.own(owner, 1, 0640);
  EXPECT_TRUE(h.permits(owner, 0666));
  EXPECT_TRUE(h.owned_by(owner));
  Cred friendly;
  friendly.cap_effective = 0;
  friendly.euid = 11;
  friendly.egid = 20;
  EXPECT_TRUE(h.permits(friendly, 0444));
  EXPECT_FALSE(h.permits(friendly, 0222));
  EXPECT_FALSE(h.owned_by(friendly));
  friendly.egid = 21;
  EXPECT_FALSE(h.permits(friendly, 0444));
  friendly.cap_effective = 1ull << static_cast<int>(Cap::kIpcOwner);
  EXPECT_TRUE(h.permits(friendly, 0666));
}

}  // namespace
}  // namespace uk
