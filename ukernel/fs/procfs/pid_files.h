// The show and store functions of /proc/PID that pid_dir.cc's table names. Each tells about Ctx's
// task; those that read guest memory may suspend.
#pragma once

#include "ukernel/fs/procfs/proc_node.h"

namespace uk::procfs {

// pid_text.cc
Result<std::string> show_auxv(Ctx& c);
Result<std::string> show_autogroup(Ctx& c);
Result<> store_autogroup(Ctx& c, std::string_view text);
Result<std::string> show_cgroup(Ctx& c);
Result<std::string> show_cmdline(Ctx& c);
Result<std::string> show_children(Ctx& c);
Result<std::string> show_comm(Ctx& c);
Result<> store_comm(Ctx& c, std::string_view text);
Result<std::string> show_coredump_filter(Ctx& c);
Result<std::string> show_environ(Ctx& c);
Result<std::string> show_uid_map(Ctx& c);
Result<std::string> show_gid_map(Ctx& c);
Result<> store_uid_map(Ctx& c, std::string_view text);
Result<> store_gid_map(Ctx& c, std::string_view text);
Result<> store_setgroups(Ctx& c, std::string_view text);
Result<std::string> show_io(Ctx& c);
Result<std::string> show_limits(Ctx& c);
Result<std::string> show_loginuid(Ctx& c);
Result<std::string> show_oom_adj(Ctx& c);
Result<> store_oom_adj(Ctx& c, std::string_view text);
Result<std::string> show_oom_score(Ctx& c);
Result<std::string> show_oom_score_adj(Ctx& c);
Result<> store_oom_score_adj(Ctx& c, std::string_view text);
Result<std::string> show_personality(Ctx& c);
Result<std::string> show_schedstat(Ctx& c);
Result<std::string> show_sessionid(Ctx& c);
Result<std::string> show_setgroups(Ctx& c);
Result<std::string> show_syscall(Ctx& c);
Result<std::string> show_timens_offsets(Ctx& c);
Result<> store_timens_offsets(Ctx& c, std::string_view text);
Result<std::string> show_timerslack(Ctx& c);
Result<std::string> show_wchan(Ctx& c);
// pid_status.cc
char state_letter(const Task& t);
Result<std::string> show_stat(Ctx& c);
Result<std::string> show_statm(Ctx& c);
Result<std::string> show_status(Ctx& c);
// pid_maps.cc
// The bytes of `which` as octal escapes, so that fields stay fields.
std::string escape(std::string_view s, std::string_view which);
Result<std::string> show_maps(Ctx& c);
Result<std::string> show_smaps(Ctx& c);
Result<std::string> show_smaps_rollup(Ctx& c);
// pid_memory.cc
Ref<Node> make_maps(const Node& dir, const Entry& entry, uint64_t ino);
Ref<Node> make_mem(const Node& dir, const Entry& entry, uint64_t ino);
Ref<Node> make_pagemap(const Node& dir, const Entry& entry, uint64_t ino);
// pid_mounts.cc
Result<std::string> show_mounts(Ctx& c);
Result<std::string> show_mountinfo(Ctx& c);

}  // namespace uk::procfs
