// execve(2): finds the program (through #! scripts), builds its image beside the old one, and only
// then changes the task, so that every error before leaves the caller as it was.
#include "ukernel/task/exec.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/resource.h>

#include <algorithm>

#include "base/check.h"
#include "ukernel/kernel.h"
#include "ukernel/task/exit.h"
#include "ukernel/task/keys.h"
#include "ukernel/task/nsfs.h"
#include "ukernel/task/process_events.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/task/time_ns.h"
#include "ukernel/task/timers.h"
#include "ukernel/vfs/landlock.h"

namespace uk {
namespace {

constexpr size_t kScriptLine = 256;  // BINPRM_BUF_SIZE
// Personality bits that setuid programs lose (PER_CLEAR_ON_SETID).
constexpr uint32_t kClearOnSetid =
    READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT | MMAP_PAGE_ZERO;

// Opens a file to execute it.
Result<Ref<File>> open_exec(Task& task, WalkFrom from, const std::string& path, int at_flags) {
  uint32_t walk = (at_flags & AT_SYMLINK_NOFOLLOW) != 0 ? 0 : uint32_t{kWalkFollow};
  if ((at_flags & AT_EMPTY_PATH) != 0) walk |= kWalkEmptyOk;
  return task.kernel.vfs.open_exec(task.park(), task.fs_context(), from, path, walk);
}

// The first line of a script: interpreter and at most one argument (execve(2)). False: no script.
struct ScriptLine {
  std::string interp, arg;
  bool has_arg = false;
};
Result<std::optional<ScriptLine>> parse_script(std::string_view head, bool whole_file) {
  if (head.substr(0, 2) != "#!") return std::optional<ScriptLine>();
  head.remove_prefix(2);
  size_t end = head.find('\n');
  auto blank = [](char c) { return c == ' ' || c == '\t'; };
  bool complete = end != std::string_view::npos || whole_file;
  head = head.substr(0, end);
  if (size_t nul = head.find('\0'); nul != std::string_view::npos) {
    head = head.substr(0, nul);
    complete = true;
  }
  while (!head.empty() && blank(head.front())) head.remove_prefix(1);
  if (complete)
    while (!head.empty() && blank(head.back())) head.remove_suffix(1);
  if (head.empty()) return Err(Errno::kNOEXEC);
  size_t n = std::find_if(head.begin(), head.end(), blank) - head.begin();
  if (n == head.size() && !complete) return Err(Errno::kNOEXEC);  // the name may be cut off
  ScriptLine line{std::string(head.substr(0, n)), {}, false};
  head.remove_prefix(n);
  while (!head.empty() && blank(head.front())) head.remove_prefix(1);
  line.has_arg = !head.empty();
  line.arg = std::string(head);
  return std::optional<ScriptLine>(std::move(line));
}

Result<std::optional<ScriptLine>> read_script_line(Park& park, File& file) {
  std::string head(kScriptLine, '\0');
  size_t n = 0;
  while (n < head.size()) {
    BufferSink sink(std::as_writable_bytes(std::span(head)).subspan(n));
    size_t got = TRY(file.read(park, sink, n));
    if (got == 0) break;
    n += got;
  }
  return parse_script(std::string_view(head).substr(0, n), n < kScriptLine);
}

// The name of an executable given by a descriptor, for scripts and AT_EXECFN.
std::string name_for_fd(int fd, const std::string& path) {
  std::string name = "/dev/fd/" + std::to_string(fd);
  return path.empty() ? name : name + "/" + path;
}

// Finds the ELF file: through interpreters of scripts, which change argv.
Result<Program> find_program(Task& task, const ExecRequest& request) {
  Park& park = task.park();
  Program p;
  p.argv = request.argv;
  p.envp = request.envp;
  p.path = request.path;
  bool by_fd = request.from_fd >= 0 && (request.path.empty() || request.path[0] != '/');
  if (by_fd) p.path = name_for_fd(request.from_fd, request.path);
  Ref<File> file = TRY(open_exec(task, request.from, request.path, request.flags));
  std::string name = p.path;
  for (int depth = 0;; ++depth) {
    std::optional<ScriptLine> line = TRY(read_script_line(park, *file));
    if (!line) break;
    if (depth == kMaxScriptDepth) return Err(Errno::kLOOP);
    if (by_fd && request.fd_cloexec)
      return Err(Errno::kNOENT);  // the interpreter could not open it
    if (!p.argv.empty()) p.argv.erase(p.argv.begin());
    p.argv.insert(p.argv.begin(), name);
    if (line->has_arg) p.argv.insert(p.argv.begin(), line->arg);
    p.argv.insert(p.argv.begin(), line->interp);
    name = line->interp;
    file = TRY(open_exec(task, WalkFrom{}, line->interp, 0));
  }
  if (p.argv.empty()) p.argv.push_back("");
  p.elf = TRY(read_elf(park, *file));
  Path root = task.fs().root;
  p.name = task.kernel.vfs.path_name(file->path(), root);
  p.file = std::move(file);
  if (!p.elf.interp.empty()) {
    p.interp = TRY(open_exec(task, WalkFrom{}, p.elf.interp, 0));
    Result<ElfFile> elf = read_elf(park, *p.interp);
    if (!elf) return Err(elf.error() == Errno::kNOEXEC ? Errno::kLIBBAD : elf.error());
    p.interp_elf = std::move(*elf);
    p.interp_name = task.kernel.vfs.path_name(p.interp->path(), root);
  }
  if (argument_bytes(p.argv, p.envp) > argument_limit(task.rlimit(RLIMIT_STACK).cur))
    return Err(Errno::k2BIG);
  return p;
}

// Capabilities that come with the file (capabilities(7)). kPERM: it cannot run without all of them.
Result<std::optional<FileCaps>> file_caps_of(Park& park, File& file, bool nosuid,
                                             const Cred& cred) {
  if (nosuid) return std::nullopt;
  Result<std::string> bytes = Ref<Inode>(file.inode())->getxattr(park, kFileCaps);
  if (!bytes) return std::nullopt;
  const FileCaps caps = TRY(FileCaps::parse(*bytes));
  if (!caps.ours()) return std::nullopt;
  if (caps.effective && (caps.permitted & kAllCaps & ~caps.granted(cred)) != 0)
    return Err(Errno::kPERM);
  return caps;
}

std::string base_name(const std::string& path) {
  size_t slash = path.rfind('/');
  return slash == std::string::npos ? path : path.substr(slash + 1);
}

// Descriptors and actions are the task's own from now on.
void unshare_for_exec(Task& task) {
  Park& park = task.park();
  if (task.fds_->users > 1) {
    Ref<FdTable> own = task.fds_->copy();
    drop_files(park, std::exchange(task.fds_, own));
  }
  task.fds().close_on_exec(park);
  ThreadGroup& group = *task.group;
  if (group.handlers->ref_count() > 1) group.handlers = group.handlers->copy();
  group.handlers->reset_for_exec();
}

void reset_task(Task& task, const Program& p) {
  task.set_comm(base_name(p.path));
  task.exe = p.file->path();
  task.exe_name = p.name;
  task.altstack = {};
  task.restart_block = nullptr;
  task.saved_blocked.reset();
  task.robust_list = task.robust_list_len = 0;
  task.clear_child_tid = 0;
  task.rseq_addr = 0;
  task.rseq_len = task.rseq_sig = 0;
  task.fault_trapno = task.fault_error = task.fault_addr = 0;
  task.keep_caps = false;
  task.group->timers->clear();
  task.group->did_exec = true;
}

}  // namespace

Result<> do_execve(Task& task, const ExecRequest& request) {
  Park& park = task.park();
  Program p = TRY(find_program(task, request));
  FileAttr attr = TRY(p.file->getattr(park));
  const Mount* mount = p.file->path().mount.get();
  // Nor does a filesystem of a user namespace give its users' rights to anybody outside.
  const bool nosuid =
      mount != nullptr && ((mount->flags & kMntNosuid) != 0 ||
                           !user_ns_within(task.cred().user_ns.get(), mount->sb->user_ns.get()));
  bool secure = false;
  const UserNamespace* ns = task.cred().user_ns.get();
  // Capabilities of files count only where the initial namespace's root is root.
  const bool no_caps = nosuid || kernel_uid(ns, 0) != 0u;
  const std::optional<FileCaps> caps = TRY(file_caps_of(park, *p.file, no_caps, task.cred()));
  Ref<Cred> cred = exec_cred(task.cred(), attr, nosuid, &secure, caps);
  ImageIds ids{shown_uid(ns, cred->uid), shown_uid(ns, cred->euid), shown_gid(ns, cred->gid),
               shown_gid(ns, cred->egid), secure};
  NewImage image = TRY(build_image(task, p, ids));
  std::unique_ptr<GuestContext> context =
      TRY(image.mm->guest().new_context(park, image.regs, arch::FpState{}));
  TRY(become_only_thread(task));

  // The point of no return.
  leave_user_space(task);
  if (task.mm_) {
    task.usage.max_rss_pages = std::max(task.usage.max_rss_pages, task.mm().stats().peak_rss_pages);
    leave_stub(task);
  }
  // Its host thread wakes up while the one that calls still occupies its CPU.
  context->call_up();
  task.context.reset();
  // The old memory is given back when the new program runs already, unless somebody may be short of
  // it, or looks on.
  task.left_mm = std::exchange(task.mm_, std::move(image.mm));
  PhysMemory& mem = *task.kernel.mem;
  const bool shared = task.left_mm && task.left_mm->ref_count() > 1;
  if (shared || task.trace || mem.free_pages() < mem.total_pages() / 16) task.left_mm.reset();
  task.context = std::move(context);
  enter_time_for_children(task);
  if (task.trace) task.trace->debug = {};
  finish_vfork(task);
  task.exe_file = make_ref<ExeFile>(Ref<Inode>(p.file->inode()));
  unshare_for_exec(task);
  bool plain = cred->euid == task.cred().uid && cred->egid == task.cred().gid;
  if (secure) {
    task.parent_death_signal = 0;
    task.personality &= ~kClearOnSetid;
  }
  // A program that one may run but not read shows nothing of itself either.
  task.mm().dumpable =
      plain && task.kernel.vfs.check_permission(park, *p.file->inode(), task.cred(), kMayRead);
  keys_for_exec(*cred);
  task.set_cred(std::move(cred));
  reset_task(task, p);
  tell_watchers({ProcessEvent::Kind::kExec, task});
  task.regs_replaced = true;
  return {};
}

Ref<Cred> exec_cred(const Cred& old, const FileAttr& attr, bool nosuid, bool* secure,
                    const std::optional<FileCaps>& caps) {
  constexpr uint32_t kNoRoot = 1, kKeepCaps = 0x10;
  Ref<Cred> c = old.copy();
  bool may = !nosuid && !old.no_new_privs;
  bool setid = false;
  // An owner without a mapping is nobody here.
  const UserNamespace* ns = old.user_ns.get();
  may = may && uid_inside(ns, attr.uid) != kNoId && gid_inside(ns, attr.gid) != kNoId;
  if (may && (attr.mode & S_ISUID) != 0) {
    setid = setid || c->euid != attr.uid;
    c->euid = attr.uid;
  }
  if (may && (attr.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) {
    setid = setid || c->egid != attr.gid;
    c->egid = attr.gid;
  }
  c->suid = c->fsuid = c->euid;
  c->sgid = c->fsgid = c->egid;

  // P'(permitted) and friends: from the file, or what root's programs are taken to have. A program
  // that is setuid root and has capabilities gets only these.
  const std::optional<uint32_t> zero = kernel_uid(ns, 0);
  uint64_t permitted = caps ? caps->granted(old) : 0;
  bool effective = caps && caps->effective;
  const bool root = (old.securebits & kNoRoot) == 0 && (c->euid == zero || c->uid == zero);
  if (root && !(caps && c->uid != zero && c->euid == zero)) {
    permitted = old.cap_bounding | old.cap_inheritable;
    effective = effective || c->euid == zero;
  }
  if (old.no_new_privs && (permitted & ~old.cap_permitted) != 0) permitted &= old.cap_permitted;
  if (setid || caps) c->cap_ambient = 0;
  c->cap_permitted = permitted | c->cap_ambient;
  c->cap_effective = effective ? c->cap_permitted : c->cap_ambient;
  c->securebits &= ~kKeepCaps;
  const bool grew = (c->cap_permitted & ~c->cap_ambient) != 0;
  *secure =
      setid || c->euid != c->uid || c->egid != c->gid || (c->uid != zero && (effective || grew));
  return c;
}

}  // namespace uk
