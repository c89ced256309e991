#include <gtest/gtest.h>

#include <memory>

#include "base/errno.h"
#include "base/list.h"
#include "base/log.h"
#include "base/ref.h"
#include "base/result.h"

namespace uk {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return Err(Errno::kINVAL);
  return n / 2;
}
Result<> nothing(bool ok) {
  if (!ok) return Err(Errno::kIO);
  return {};
}
Result<int> quarter(int n) {
  TRY(nothing(n != 0));
  int h = TRY(half(n));
  return TRY(half(h));
}

TEST(Result, TryPropagates) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_EQ(quarter(6).error(), Errno::kINVAL);
  EXPECT_EQ(quarter(0).error(), Errno::kIO);
}

TEST(Errno, NamesAreLinux) {
  EXPECT_EQ(errno_name(Errno::kNOENT), "ENOENT");
  EXPECT_EQ(static_cast<int>(Errno::kNOSYS), 38);
  EXPECT_EQ(errno_name(Errno::kRestartSys), "ERESTARTSYS");
}

struct Counted : RefCounted {
  explicit Counted(int* n) : n_(n) { ++*n_; }
  ~Counted() override { --*n_; }
  int* n_;
};

TEST(Ref, LastOneDestroys) {
  int alive = 0;
  {
    Ref<Counted> a = make_ref<Counted>(&alive);
    Ref<RefCounted> b = a;
    a.reset();
    EXPECT_EQ(alive, 1);
    b = nullptr;
    EXPECT_EQ(alive, 0);
  }
}

struct Item : ListNode<> {
  explicit Item(int v) : value(v) {}
  int value;
};

TEST(List, NodesLeaveOnDestruction) {
  List<Item> list;
  Item a(1);
  {
    Item b(2);
    list.push_back(a);
    list.push_front(b);
    EXPECT_EQ(list.front().value, 2);
  }
  EXPECT_EQ(list.front().value, 1);
  list.pop_front();
  EXPECT_TRUE(list.empty());
  EXPECT_FALSE(a.linked());
}

TEST(Log, KeepsTheNewestLines) {
  Log log(2);
  log.info("one");
  log.info("two");
  log.warn("three");
  ASSERT_EQ(log.lines().size(), 2u);
  EXPECT_EQ(log.lines().front().text, "two");
  EXPECT_EQ(log.lines().back().seq, 2u);
}

}  // namespace
}  // namespace uk
