// The guest ABI of io_uring(7) that Debian 12's <linux/io_uring.h> (Linux 6.1) does not have yet,
// and the layout of the shared rings, which io_uring_setup(2) tells the guest.
#pragma once

#include <linux/io_uring.h>

#include <cstdint>

namespace uk::uring {

using Sqe = io_uring_sqe;
using Cqe = io_uring_cqe;
static_assert(sizeof(Sqe) == 64 && sizeof(Cqe) == 16);

constexpr uint32_t kSetupNoSqArray = 1u << 16;
constexpr uint32_t kEnterAbsTimer = 1u << 5;
constexpr uint32_t kTimeoutMultishot = 1u << 6;
constexpr uint32_t kCancelUserData = 1u << 4, kCancelOp = 1u << 5;
constexpr uint32_t kAcceptDontWait = 1u << 1, kAcceptPollFirst = 1u << 2;
constexpr uint8_t kOpReadMultishot = 49, kOpInstallFd = 54, kOpTruncate = 55, kOpBind = 56,
                  kOpListen = 57;
constexpr int kOps = 58;

// The rings: words of both sides on lines of their own, then the completions, then the submissions'
// index array.
constexpr uint32_t kSqHeadAt = 0, kSqTailAt = 64, kCqHeadAt = 128, kCqTailAt = 192, kSqMaskAt = 256,
                   kCqMaskAt = 260, kSqEntriesAt = 264, kCqEntriesAt = 268, kSqDroppedAt = 272,
                   kSqFlagsAt = 276, kCqFlagsAt = 280, kCqOverflowAt = 284, kCqesAt = 320;

constexpr uint64_t kOffPbufRing = 0x80000000;
constexpr int kOffPbufShift = 16;

constexpr uint32_t kMaxEntries = 32768, kMaxCqEntries = 2 * kMaxEntries;

}  // namespace uk::uring
