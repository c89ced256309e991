// poll(2), select(2), epoll(7), eventfd(2).
#pragma once

#include "syscalls/decode.h"
#include "ukernel/abi/time.h"
#include "ukernel/fs/anonfs/epoll.h"

namespace uk {

struct UserPollFd {
  int32_t fd;
  int16_t events;
  int16_t revents;
};

Result<int64_t> sys_poll(Task& task, UserInOut<UserPollFd> fds, uint32_t count, int timeout_ms);
Result<int64_t> sys_ppoll(Task& task, UserInOut<UserPollFd> fds, uint32_t count,
                          UserInOut<UserTimespec> timeout, UserIn<uint64_t> mask, size_t mask_size);
Result<int64_t> sys_select(Task& task, int n, UserAddr in, UserAddr out, UserAddr ex,
                           UserInOut<UserTimeval> timeout);
Result<int64_t> sys_pselect6(Task& task, int n, UserAddr in, UserAddr out, UserAddr ex,
                             UserInOut<UserTimespec> timeout, UserAddr mask_arg);
Result<int64_t> sys_epoll_create(Task& task, int size);
Result<int64_t> sys_epoll_create1(Task& task, int flags);
Result<int64_t> sys_epoll_ctl(Task& task, Fd epfd, int op, Fd fd, UserIn<EpollEvent> event);
// epoll_ctl(2) with the event at hand.
Result<int64_t> epoll_control(Task& task, Fd epfd, int op, Fd fd, const EpollEvent& event);
Result<int64_t> sys_epoll_wait(Task& task, Fd epfd, UserOut<EpollEvent> events, int max,
                               int timeout_ms);
Result<int64_t> sys_epoll_pwait(Task& task, Fd epfd, UserOut<EpollEvent> events, int max,
                                int timeout_ms, UserIn<uint64_t> mask, size_t mask_size);
Result<int64_t> sys_epoll_pwait2(Task& task, Fd epfd, UserOut<EpollEvent> events, int max,
                                 UserIn<UserTimespec> timeout, UserIn<uint64_t> mask,
                                 size_t mask_size);
Result<int64_t> sys_eventfd(Task& task, uint32_t initial);
Result<int64_t> sys_eventfd2(Task& task, uint32_t initial, int flags);

}  // namespace uk
