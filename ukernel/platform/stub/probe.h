// Whether the host allows what a platform needs, by trying it in a child process. About a
// millisecond.
#pragma once

#include <functional>

#include "base/result.h"

namespace uk::stub {

// Forks; the child waits until `in_parent` returned, then runs `in_child`. The first error of the
// two. `in_child` runs in a copy of a possibly threaded process: system calls only.
Result<> try_in_child(const std::function<Result<>(int pid)>& in_parent,
                      const std::function<Result<>()>& in_child);

}  // namespace uk::stub
