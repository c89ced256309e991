#include "ukernel/platform/seccomp/spin_policy.h"

#include "gtest/gtest.h"

namespace uk::seccomp {
namespace {

using P = SpinPolicy;

// One stay in the guest, of that length.
void stay(P& p, uint64_t ns) {
  static uint64_t now = 1'000'000;
  p.resumed(now);
  now += ns;
  p.reported(now);
}

void quick(P& p, int n) {
  for (int i = 0; i < n; ++i) stay(p, P::kQuickNs);
}

TEST(SpinPolicy, BeginsAfterAQuickRun) {
  P p(2);
  quick(p, P::kFirstRun - 1);
  EXPECT_FALSE(p.on());
  stay(p, P::kQuickNs + 1);  // a slow one in between
  quick(p, P::kFirstRun - 1);
  EXPECT_FALSE(p.on());
  quick(p, 1);
  EXPECT_TRUE(p.on());
}

TEST(SpinPolicy, NotWithOneCpu) {
  P p(1);
  quick(p, 10 * P::kFirstRun);
  EXPECT_FALSE(p.on());
  EXPECT_EQ(p.spin_ns(1), 0u);
}

TEST(SpinPolicy, WhileGuestsRun) {
  P p(2);
  quick(p, P::kFirstRun);
  ASSERT_TRUE(p.on());
  EXPECT_EQ(p.spin_ns(0), 0u) << "nobody to wait for";
  EXPECT_EQ(p.spin_ns(1), P::kSpinNs);
  EXPECT_EQ(p.spin_ns(2), P::kSpinNs);
}

TEST(SpinPolicy, OnceAStay) {
  P p(2);
  quick(p, P::kFirstRun);
  ASSERT_NE(p.spin_ns(1), 0u);
  p.spun(false);
  ASSERT_TRUE(p.on());
  EXPECT_EQ(p.spin_ns(1), 0u) << "it computes";
  p.resumed(0);
  EXPECT_NE(p.spin_ns(1), 0u);
}

TEST(SpinPolicy, EndsWhenInVainAndBeginsLater) {
  P p(2);
  quick(p, P::kFirstRun);
  int vain = 0;
  while (p.on()) {
    p.spun(false);
    ASSERT_LE(++vain, P::kCredit);
  }
  quick(p, 2 * P::kFirstRun - 1);
  EXPECT_FALSE(p.on()) << "it must prove itself longer now";
  quick(p, 1);
  EXPECT_TRUE(p.on());
  // Half in vain is too many as well.
  for (int i = 0; i < 4 * P::kCredit && p.on(); ++i) {
    p.spun(true);
    p.spun(false);
  }
  EXPECT_FALSE(p.on());
}

TEST(SpinPolicy, TheHurdleIsBoundedAndForgotten) {
  P p(2);
  for (int i = 0; i < 40; ++i) {
    quick(p, P::kLongestRun);
    ASSERT_TRUE(p.on()) << i;
    while (p.on()) p.spun(false);
  }
  quick(p, P::kLongestRun);
  for (uint64_t i = 0; i < P::kWorthwhile; ++i) p.spun(true);
  while (p.on()) p.spun(false);
  quick(p, P::kFirstRun);
  EXPECT_TRUE(p.on()) << "it paid for long";
}

}  // namespace
}  // namespace uk::seccomp
