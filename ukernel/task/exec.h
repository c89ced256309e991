// The parts of execve(2) that build a new address space: layout, loading, the first stack. The flow
// (what is opened, what changes in the task) is exec.cc. All of it suspends; the file and its
// headers are untrusted, argument sizes have been bounded by the caller.
#pragma once

#include <string>
#include <vector>

#include "ukernel/task/elf.h"
#include "ukernel/task/task.h"
#include "ukernel/vfs/file_caps.h"

namespace uk {

constexpr int kMaxScriptDepth = 5;
constexpr size_t kMaxArgBytes = 131072;  // one string, MAX_ARG_STRLEN

// A program found, opened and understood.
struct Program {
  Ref<File> file;
  std::string path;  // AT_EXECFN: as execve was given it, also for scripts
  std::string name;  // of `file`, as the guest sees it
  ElfFile elf;
  Ref<File> interp;  // may be null
  std::string interp_name;
  ElfFile interp_elf;
  std::vector<std::string> argv, envp;
};

struct NewImage {
  Ref<AddressSpace> mm;
  arch::UserRegs regs;
};

// Ids for the auxiliary vector.
struct ImageIds {
  uint32_t uid, euid, gid, egid;
  bool secure;
};

// Bytes of argv and envp with their pointers; what the E2BIG limit counts.
size_t argument_bytes(const std::vector<std::string>& argv, const std::vector<std::string>& envp);
// The limit: a quarter of RLIMIT_STACK, at least 128 KiB, at most 6 MiB.
size_t argument_limit(uint64_t stack_rlimit);

Result<NewImage> build_image(Task& task, const Program& program, const ImageIds& ids);

// The new credentials of setuid and setgid programs and of root (execve(2), capabilities(7)).
// `secure`: AT_SECURE.
Ref<Cred> exec_cred(const Cred& old, const FileAttr& attr, bool nosuid, bool* secure,
                    const std::optional<FileCaps>& caps = std::nullopt);

}  // namespace uk
