#include "ukernel/task/coredump.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/procfs.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "ukernel/kernel.h"
#include "ukernel/mm/marks.h"
#include "ukernel/task/pid_ns.h"

namespace uk {
namespace {

constexpr uint64_t kChunk = 64 * 1024;

// The file being written: pages of zeros become holes, and the limit is kept.
class CoreFile {
 public:
  CoreFile(Park& park, Ref<File> file, uint64_t limit)
      : park_(park), file_(std::move(file)), limit_(limit) {}
  // kFBIG: the limit is reached, and all up to it is written.
  Result<> put(std::span<const std::byte> bytes) {
    const uint64_t room = limit_ - std::min(limit_, at_);
    if (bytes.size() <= room) return put_all(bytes);
    TRY(put_all(bytes.first(room)));
    return Err(Errno::kFBIG);
  }
  template <class T>
  Result<> put_value(const T& value) {
    return put(std::as_bytes(std::span(&value, 1)));
  }
  Result<> pad_to(uint64_t offset) {
    at_ = std::max(at_, offset);
    return {};
  }
  Result<> finish() { return file_->truncate(park_, at_); }

 private:
  Result<> put_all(std::span<const std::byte> bytes) {
    bool zero =
        std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
    if (!zero) {
      BufferSource source(bytes);
      uint64_t offset = at_;
      if (TRY(file_->write(park_, source, offset)) != bytes.size()) return Err(Errno::kNOSPC);
    }
    at_ += bytes.size();
    return {};
  }

  Park& park_;
  Ref<File> file_;
  uint64_t limit_;
  uint64_t at_ = 0;
};

struct Segment {
  uint64_t start, end, bytes;  // bytes: how many of it are in the file
  uint32_t flags;
};

// coredump_filter's default: private and shared anonymous memory, changed private file pages, and
// the first page of ELF files. A private mapping with any changed page is written whole (as Linux
// does): debuggers look into the part that ld.so made read-only when it had relocated it.
std::vector<Segment> segments(AddressSpace& mm) {
  std::vector<Segment> out;
  mm.each_vma([&](const VmaInfo& v) {
    Segment s{v.start, v.end, 0, 0};
    if (any(v.prot & Prot::kRead)) s.flags |= PF_R;
    if (any(v.prot & Prot::kWrite)) s.flags |= PF_W;
    if (any(v.prot & Prot::kExec)) s.flags |= PF_X;
    bool anonymous = v.ino == 0;
    if (v.name == "[vvar]" || left_out_of_dumps(mm, v.start)) {
      s.bytes = 0;
    } else if (anonymous ||
               (!v.shared && (any(v.prot & Prot::kWrite) || v.private_dirty_pages != 0))) {
      s.bytes = v.end - v.start;
    } else if (v.offset == 0 && !v.shared) {
      s.bytes = kPageSize;
    }
    out.push_back(s);
  });
  if (out.size() > PN_XNUM - 2) out.resize(PN_XNUM - 2);
  return out;
}

void append_note(std::string& notes, uint32_t type, const void* data, size_t n) {
  Elf64_Nhdr h{.n_namesz = 5, .n_descsz = static_cast<uint32_t>(n), .n_type = type};
  notes.append(reinterpret_cast<const char*>(&h), sizeof h);
  notes.append("CORE\0\0\0\0", 8);
  notes.append(static_cast<const char*>(data), n);
  notes.append((4 - n % 4) % 4, '\0');
}

// As the task itself knows them.
template <class Note>
void put_numbers(Note& note, const Task& task) {
  const ThreadGroup& group = *task.group;
  note.pr_pid = shown_pid(task, task.tid);
  note.pr_ppid = group.parent != nullptr ? shown_pid(task, group.parent->tgid) : 0;
  note.pr_pgrp = shown_pid(task, group.group->pgid);
  note.pr_sid = shown_pid(task, group.group->session->sid);
}

elf_prstatus prstatus(Task& task, const SigInfo& info, const arch::UserRegs& regs) {
  elf_prstatus s{};
  s.pr_info.si_signo = s.pr_cursig = static_cast<short>(info.signo);
  s.pr_info.si_code = info.code;
  s.pr_sigpend = task.pending.pending().bits();
  s.pr_sighold = task.blocked.bits();
  put_numbers(s, task);
  s.pr_fpvalid = 1;
  static_assert(sizeof s.pr_reg == sizeof regs);
  std::memcpy(&s.pr_reg, &regs, sizeof regs);
  return s;
}

elf_prpsinfo prpsinfo(Task& task) {
  elf_prpsinfo p{};
  p.pr_sname = 'R';
  p.pr_nice = static_cast<char>(task.sched.nice);
  p.pr_uid = task.cred().uid;
  p.pr_gid = task.cred().gid;
  put_numbers(p, task);
  std::memcpy(p.pr_fname, task.comm.data(), std::min(task.comm.size(), sizeof p.pr_fname - 1));
  const AddressSpace::Image& image = task.mm().image;
  size_t n = std::min<uint64_t>(image.arg_end - image.arg_start, sizeof p.pr_psargs - 1);
  auto args = std::as_writable_bytes(std::span(p.pr_psargs)).first(n);
  (void)task.mm().copy_in(task.park(), args, image.arg_start);
  for (size_t i = 0; i + 1 < n; ++i)
    if (p.pr_psargs[i] == '\0') p.pr_psargs[i] = ' ';
  return p;
}

std::string file_note(const AddressSpace& mm) {
  std::vector<uint64_t> words;
  std::string names;
  mm.each_vma([&](const VmaInfo& v) {
    if (v.ino == 0 || v.name.empty()) return;
    words.insert(words.end(), {v.start, v.end, v.offset / kPageSize});
    names += v.name;
    names += '\0';
  });
  uint64_t head[2] = {words.size() / 3, kPageSize};
  std::string out(reinterpret_cast<const char*>(head), sizeof head);
  out.append(reinterpret_cast<const char*>(words.data()), words.size() * sizeof(uint64_t));
  return out + names;
}

Result<std::string> notes(Task& task, const SigInfo& info) {
  std::string out;
  arch::UserRegs regs = TRY(task.context->get_regs(task.park()));
  elf_prstatus status = prstatus(task, info, regs);
  append_note(out, NT_PRSTATUS, &status, sizeof status);
  elf_prpsinfo ps = prpsinfo(task);
  append_note(out, NT_PRPSINFO, &ps, sizeof ps);
  append_note(out, NT_SIGINFO, &info, sizeof info);
  const std::vector<uint64_t>& auxv = task.mm().image.auxv;
  append_note(out, NT_AUXV, auxv.data(), auxv.size() * sizeof(uint64_t));
  std::string files = file_note(task.mm());
  append_note(out, NT_FILE, files.data(), files.size());
  arch::FpState fp = TRY(task.context->get_fp(task.park()));
  if (fp.size() >= sizeof(elf_fpregset_t))
    append_note(out, NT_FPREGSET, fp.data(), sizeof(elf_fpregset_t));
  return out;
}

Elf64_Ehdr header(size_t phdrs) {
  Elf64_Ehdr h{};
  std::memcpy(h.e_ident, ELFMAG, SELFMAG);
  h.e_ident[EI_CLASS] = ELFCLASS64;
  h.e_ident[EI_DATA] = ELFDATA2LSB;
  h.e_ident[EI_VERSION] = EV_CURRENT;
  h.e_type = ET_CORE;
  h.e_machine = EM_X86_64;
  h.e_version = EV_CURRENT;
  h.e_phoff = sizeof h;
  h.e_ehsize = sizeof h;
  h.e_phentsize = sizeof(Elf64_Phdr);
  h.e_phnum = static_cast<uint16_t>(phdrs);
  return h;
}

Result<> write_core(Task& task, const SigInfo& info, CoreFile& core) {
  std::vector<Segment> parts = segments(task.mm());
  std::string note = TRY(notes(task, info));
  uint64_t at = sizeof(Elf64_Ehdr) + (parts.size() + 1) * sizeof(Elf64_Phdr);
  TRY(core.put_value(header(parts.size() + 1)));
  Elf64_Phdr p{};
  p.p_type = PT_NOTE;
  p.p_offset = at;
  p.p_filesz = note.size();
  TRY(core.put_value(p));
  uint64_t data = page_ceil(at + note.size());
  at = data;
  for (const Segment& s : parts) {
    TRY(core.put_value(Elf64_Phdr{.p_type = PT_LOAD,
                                  .p_flags = s.flags,
                                  .p_offset = at,
                                  .p_vaddr = s.start,
                                  .p_paddr = 0,
                                  .p_filesz = s.bytes,
                                  .p_memsz = s.end - s.start,
                                  .p_align = kPageSize}));
    at += s.bytes;
  }
  TRY(core.put(std::as_bytes(std::span(note))));
  TRY(core.pad_to(data));
  std::vector<std::byte> buffer(kChunk);
  for (const Segment& s : parts) {
    for (uint64_t done = 0; done < s.bytes;) {
      auto piece = std::span(buffer).first(std::min(kChunk, s.bytes - done));
      Result<size_t> n = task.mm().copy_in(task.park(), piece, s.start + done);
      // What cannot be read (beyond the end of a file) is zeros.
      std::fill(piece.begin() + static_cast<ptrdiff_t>(n.value_or(0)), piece.end(), std::byte{0});
      TRY(core.put(piece));
      done += piece.size();
      task.park().yield();
    }
  }
  return core.finish();
}

// The file's name after /proc/sys/kernel/core_pattern (core(5)).
std::string core_name(const Task& task, int signo) {
  const Kernel::Settings& settings = task.kernel.settings;
  const std::string& pattern = settings.core_pattern;
  std::string name;
  bool has_pid = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) {
      if (pattern[i] != '%') name += pattern[i];
      continue;
    }
    switch (pattern[++i]) {
      case '%':
        name += '%';
        break;
      case 'p':
        name += std::to_string(shown_pid(task, task.tgid()));
        has_pid = true;
        break;
      case 'P':
        name += std::to_string(task.tgid());
        has_pid = true;
        break;
      case 'i':
        name += std::to_string(shown_pid(task, task.tid));
        break;
      case 'I':
        name += std::to_string(task.tid);
        break;
      case 'u':
        name += std::to_string(task.cred().uid);
        break;
      case 'g':
        name += std::to_string(task.cred().gid);
        break;
      case 's':
        name += std::to_string(signo);
        break;
      case 't':
        name += std::to_string(task.kernel.clock.realtime_ns() / kNsPerSec);
        break;
      case 'h':
        name += task.uts().nodename;
        break;
      case 'e':
        name += task.comm;
        break;
      default:
        break;
    }
  }
  if (settings.core_uses_pid && !has_pid)
    name += "." + std::to_string(shown_pid(task, task.tgid()));
  return name;
}

Result<> dump(Task& task, const SigInfo& info) {
  uint64_t limit = task.rlimit(RLIMIT_CORE).cur;
  if (limit < kPageSize || !task.mm().dumpable) return Err(Errno::kPERM);
  Park& park = task.park();
  OpenRequest request{.flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK,
                      .mode = 0600};
  const std::string name = core_name(task, info.signo);
  Ref<File> file = TRY(task.kernel.vfs.open(park, task.fs_context(), {}, name, request));
  FileAttr attr = TRY(file->getattr(park));
  if (!is_type(attr.mode, S_IFREG) || attr.nlink > 1 || attr.uid != task.cred().fsuid)
    return Err(Errno::kPERM);
  CoreFile core(park, file, limit);
  Result<> r = write_core(task, info, core);
  if (!r && r.error() == Errno::kFBIG) r = core.finish();  // cut short, and still a core
  if (file->ref_count() == 1) file->release(park);
  return r;
}

}  // namespace

bool dump_core(Task& task, const SigInfo& info) { return dump(task, info).has_value(); }

}  // namespace uk
