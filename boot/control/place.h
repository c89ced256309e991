// Where instances can be reached: each listens at a name of unix(7)'s abstract space, of the user
// and the instance. Nothing of it lies in a file system, so a killed instance leaves nothing. That
// space belongs to a network namespace, and any user may take any name in it: who is at the other
// end is known by its credentials alone.
//
// Nothing is kept here. Calls may block for a moment: not on a reactor that runs. Errors are
// "WHAT: WHY; WHAT TO DO" in `why`.
#pragma once

#include <string>
#include <vector>

#include "hostio/sys/fd.h"

namespace uk::boot {

// A socket that listens for `name`; empty: a name is made up. kADDRINUSE: it is taken.
Result<sys::Fd> listen_as(std::string& name, std::string& why);
// Connected to the instance `name`, run by this user. kNOENT: there is none; kPERM: another user
// has the name.
Result<sys::Fd> connect_to(const std::string& name, std::string& why);
// Of all that listen as an instance of this user would, in order.
std::vector<std::string> instance_names();

}  // namespace uk::boot
