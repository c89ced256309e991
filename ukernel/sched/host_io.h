// Host I/O for fibers: submit to the reactor's ring and suspend until the completion. Buffers
// belong to the caller and must stay put: the functions do not return before the host is done with
// them (an interrupted wait cancels first). Not interruptible unless the name says so. Errors are
// the host call's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "ukernel/sched/fiber.h"

namespace uk {

// pread/pwrite at `offset`; offset -1 uses the file position (pipes, terminals). First tries
// without waiting (RWF_NOWAIT) where that is cheaper.
Result<size_t> host_read(Park& park, int fd, std::span<std::byte> buf, int64_t offset);
Result<size_t> host_write(Park& park, int fd, std::span<const std::byte> buf, int64_t offset);
Result<> host_fsync(Park& park, int fd, bool data_only);
// Waits for poll(2) `events`; interruptible: kRestartSys; kTIMEDOUT. Returns the events that are
// true.
Result<uint32_t> host_poll(Park& park, int fd, uint32_t events, Deadline deadline = kNever);

}  // namespace uk
