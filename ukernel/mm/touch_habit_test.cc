#include "ukernel/mm/touch_habit.h"

#include <gtest/gtest.h>

namespace uk {
namespace {

constexpr uint64_t kAt = 0x10000, kEnd = 0x20000;

int eager_of(TouchHabit& habit, int mappings, bool used) {
  int eager = 0;
  for (int i = 0; i < mappings; ++i) {
    if (habit.mapped(kAt, kEnd)) {
      ++eager;
    } else if (used) {
      habit.touched(kAt + 0x1000);
    }
    habit.changed();
  }
  return eager;
}

TEST(TouchHabit, ANewImagesFirstMappingsAreUsedAtOnce) {
  TouchHabit habit;
  EXPECT_EQ(eager_of(habit, 4, false), 3);
  EXPECT_EQ(eager_of(habit, 100, false), 0) << "the fourth was looked at";
}

TEST(TouchHabit, ItIsLearntAndForgotten) {
  TouchHabit habit;
  eager_of(habit, 50, false);
  EXPECT_FALSE(habit.mapped(kAt, kEnd));
  habit.touched(kAt);
  EXPECT_FALSE(habit.mapped(kAt, kEnd));
  habit.touched(kEnd - 1);
  EXPECT_TRUE(habit.mapped(kAt, kEnd));
  EXPECT_GT(eager_of(habit, 1000, true), 900);
  EXPECT_LE(eager_of(habit, 1000, false), 16);
}

TEST(TouchHabit, OtherMemoryDoesNotCount) {
  TouchHabit habit;
  eager_of(habit, 50, false);
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(habit.mapped(kAt, kEnd));
    habit.touched(kEnd);
    habit.touched(kAt - 1);
  }
}

}  // namespace
}  // namespace uk
