// Each third-party library is used once: if a package or a link option is missing, this says so
// before anything bigger does.
#include <cerrno>
#include <expected>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "boost/context/fiber.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "liburing.h"
#include "seccomp.h"
#include "third_party/smoke/add.h"

namespace {

TEST(Smoke, LanguageIsCxx23) {
  std::expected<int, int> e = std::unexpected(7);
  EXPECT_FALSE(e.has_value());
  EXPECT_EQ(e.error(), 7);
}

TEST(Smoke, Assembly) { EXPECT_EQ(smoke_add(40, 2), 42); }

TEST(Smoke, Abseil) {
  absl::flat_hash_map<std::string, int> map;
  for (int i = 0; i < 1000; ++i) map[absl::StrCat("k", i)] = i;
  EXPECT_EQ(map.size(), 1000u);
  EXPECT_EQ(map.at("k617"), 617);
  EXPECT_EQ(absl::StrFormat("%05d %s %x", 42, std::string_view("sv"), 255), "00042 sv ff");
}

TEST(Smoke, BoostContext) {
  int steps = 0;
  boost::context::fiber fiber([&](boost::context::fiber&& main) {
    ++steps;
    main = std::move(main).resume();
    ++steps;
    return std::move(main);
  });
  fiber = std::move(fiber).resume();
  EXPECT_EQ(steps, 1);
  fiber = std::move(fiber).resume();
  EXPECT_EQ(steps, 2);
  EXPECT_FALSE(fiber);
}

TEST(Smoke, Liburing) {
  io_uring ring;
  int error = io_uring_queue_init(4, &ring, 0);
  if (error == -EPERM || error == -ENOSYS) GTEST_SKIP() << "the host refuses io_uring";
  ASSERT_EQ(error, 0);
  io_uring_sqe* sqe = io_uring_get_sqe(&ring);
  io_uring_prep_nop(sqe);
  io_uring_sqe_set_data64(sqe, 99);
  ASSERT_EQ(io_uring_submit_and_wait(&ring, 1), 1);
  io_uring_cqe* cqe = nullptr;
  ASSERT_EQ(io_uring_peek_cqe(&ring, &cqe), 0);
  EXPECT_EQ(cqe->user_data, 99u);
  io_uring_cqe_seen(&ring, cqe);
  io_uring_queue_exit(&ring);
}

TEST(Smoke, Seccomp) {
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
  ASSERT_NE(filter, nullptr);
  EXPECT_EQ(seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(reboot), 0), 0);
  seccomp_release(filter);
}

TEST(Smoke, Gmock) { EXPECT_THAT(std::string("a matcher works"), testing::HasSubstr("matcher")); }

}  // namespace
