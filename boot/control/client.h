// `ukernel ctl NAME COMMAND ...` and `ukernel ps`: ask running instances (protocol.h). What they
// answer is not trusted further than to be printed. Blocks until the answer is there. Errors are
// one line on stderr, with exit status 125.
#pragma once

#include <string>
#include <vector>

namespace uk::boot {

int ctl_command(const std::vector<std::string>& args);
int ps_command(const std::vector<std::string>& args);

}  // namespace uk::boot
