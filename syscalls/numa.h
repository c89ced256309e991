// Memory policies and places of pages: mbind(2), set_mempolicy(2), get_mempolicy(2),
// migrate_pages(2), move_pages(2), set_mempolicy_home_node(2). There is one node, number 0.
// Arguments are guest input; handlers run on the calling task's fiber.
#pragma once

#include "syscalls/decode.h"

namespace uk {

Result<int64_t> sys_set_mempolicy(Task& task, int mode, UserAddr nodes, uint64_t max_node);
Result<int64_t> sys_get_mempolicy(Task& task, UserOut<int32_t> policy, UserAddr nodes,
                                  uint64_t max_node, UserAddr addr, Hex flags);
Result<int64_t> sys_mbind(Task& task, UserAddr addr, size_t len, uint64_t mode, UserAddr nodes,
                          uint64_t max_node, Hex flags);
Result<int64_t> sys_set_mempolicy_home_node(Task& task, UserAddr addr, size_t len,
                                            uint64_t home_node, Hex flags);
Result<int64_t> sys_migrate_pages(Task& task, int pid, uint64_t max_node, UserAddr from,
                                  UserAddr to);
Result<int64_t> sys_move_pages(Task& task, int pid, uint64_t count, UserAddr pages, UserAddr nodes,
                               UserAddr status, Hex flags);

}  // namespace uk
