// User namespaces (user_namespaces(7)): making one, and writing its id mappings. Reactor-owned;
// nothing suspends. What is written is guest input.
#pragma once

#include <string>
#include <string_view>

#include "ukernel/task/task.h"

namespace uk {

// Credentials like the task's, with all capabilities in a new user namespace below its own. kNOSPC:
// too deep, or too many; kPERM: the task is in a chroot(2), or its ids have no mapping.
Result<Ref<Cred>> new_user_namespace(const Task& task);
// Credentials like the task's in `ns`, with all capabilities there (setns(2)).
Ref<Cred> cred_in(const Cred& old, Ref<UserNamespace> ns);

// /proc/PID/uid_map (`users`) and gid_map of `ns`, as whoever opened the file sees them.
std::string show_id_map(const UserNamespace* ns, const Cred& opener, bool users);
// Writes it, which can be done once: kINVAL, kPERM. What needs a capability in the parent needs it
// of both who opened the file and who writes.
Result<> store_id_map(UserNamespace* ns, const Cred& opener, const Cred& writer, bool users,
                      std::string_view text);
// /proc/PID/setgroups: "allow" or "deny".
Result<> store_setgroups(UserNamespace* ns, const Cred& opener, std::string_view text);

}  // namespace uk
