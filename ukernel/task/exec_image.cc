// Builds the address space of a new program: where things go (address space layout randomization as
// Linux has it), segments, interpreter, vDSO, and the stack with argv, envp and the auxiliary
// vector (System V psABI x86-64, 3.4.1).
#include <cpuid.h>
#include <elf.h>
#include <sys/personality.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "ukernel/arch/x86_64/sigframe.h"
#include "ukernel/kernel.h"
#include "ukernel/task/exec.h"
#include "ukernel/task/namespaces.h"
#include "ukernel/task/ptrace.h"
#include "ukernel/vdso/vdso.h"

namespace uk {
namespace {

constexpr uint64_t kStackRandomPages = 0x3fffff;
constexpr uint64_t kMmapRandomBits = 28;
constexpr uint64_t kBrkRandomPages = 0x2000;
constexpr uint64_t kStackGuard = 256 * kPageSize;
constexpr uint64_t kStackFirst = 128 * 1024;  // mapped at first; it grows
constexpr uint64_t kMinGap = 128ull << 20;
// Pages above what is mapped first, to be found by short jumps (mm/call_sites.h): 1.25 GiB.
constexpr uint64_t kThunkRoom = (5ull << 28) / kPageSize;
constexpr uint64_t kMaxArgTotal = 6ull << 20;
constexpr int kAtMinsigstksz = 51;

class Layout {
 public:
  Layout(Task& task, uint64_t limit)
      : kernel_(task.kernel), limit_(limit), random_((task.personality & ADDR_NO_RANDOMIZE) == 0) {}
  // A random number of pages below `pages`, in bytes.
  uint64_t random_pages(uint64_t pages) {
    if (!random_) return 0;
    uint64_t r;
    kernel_.random(std::as_writable_bytes(std::span(&r, 1)));
    return (r % pages) * kPageSize;
  }
  uint64_t stack_top() {
    return limit_ - random_pages(std::min(kStackRandomPages, limit_ / kPageSize / 64)) - kPageSize;
  }
  // Below the stack and the room it may grow into.
  uint64_t mmap_base(uint64_t stack_rlimit) {
    uint64_t pad = kStackGuard + (random_ ? kStackRandomPages * kPageSize : 0);
    uint64_t gap = stack_rlimit > limit_ ? limit_ : stack_rlimit + pad;
    gap = std::clamp(gap, kMinGap, limit_ / 6 * 5);
    const uint64_t pages = std::min<uint64_t>(1ull << kMmapRandomBits, limit_ / kPageSize / 64);
    // Of the places that Linux may choose, one with room above.
    const uint64_t room = random_ && pages > 2 * kThunkRoom ? kThunkRoom : 0;
    return page_floor(limit_ - gap - room * kPageSize - random_pages(pages - room));
  }
  uint64_t pie_base() {
    return page_floor(limit_ / 3 * 2 + random_pages(std::min<uint64_t>(1ull << kMmapRandomBits,
                                                                       limit_ / kPageSize / 64)));
  }
  uint64_t brk_gap() { return random_pages(kBrkRandomPages); }

 private:
  Kernel& kernel_;
  uint64_t limit_;
  bool random_;
};

// A bias that puts the whole of `elf` at or above `base`, aligned as it wants.
uint64_t bias_for(const ElfFile& elf, uint64_t base) {
  uint64_t align = elf.max_align();
  return ((base + align - 1) & ~(align - 1)) - elf.low();
}

// Place for a shared object by the kernel's choice, as mmap would.
Result<uint64_t> bias_in_gap(const AddressSpace& mm, const ElfFile& elf) {
  uint64_t align = elf.max_align();
  uint64_t len = elf.high() - elf.low();
  std::optional<uint64_t> gap = mm.find_gap(len + (align - kPageSize));
  if (!gap) return Err(Errno::kNOMEM);
  return bias_for(elf, *gap);
}

Result<Ref<MemoryObject>> object_of(File& file) {
  Ref<MemoryObject> object = file.memory_object();
  if (!object) return Err(Errno::kNOEXEC);
  return object;
}

// The bytes at the top of the stack, built downwards in a buffer whose end is `top`.
class StackBuilder {
 public:
  StackBuilder(uint64_t top, size_t room) : top_(top), bytes_(room), used_(0) {}
  uint64_t sp() const { return top_ - used_; }
  uint64_t push(const void* data, size_t n) {
    CHECK(used_ + n <= bytes_.size());
    used_ += n;
    if (n != 0) std::memcpy(bytes_.data() + bytes_.size() - used_, data, n);
    return sp();
  }
  uint64_t push_string(const std::string& s) { return push(s.c_str(), s.size() + 1); }
  void align(size_t to) {
    size_t pad = sp() % to;
    CHECK(used_ + pad <= bytes_.size());
    used_ += pad;
  }
  std::span<const std::byte> bytes() const {
    return std::span(bytes_).subspan(bytes_.size() - used_);
  }

 private:
  uint64_t top_;
  std::vector<std::byte> bytes_;
  size_t used_;
};

// Asked for once: in a virtual machine the host emulates the instruction.
uint64_t cpu_features() {
  static const uint64_t features = [] {
    unsigned a, b, c, d = 0;
    __get_cpuid(1, &a, &b, &c, &d);
    return d;
  }();
  return features;
}

struct Loaded {
  ElfPlace program, interp;
  uint64_t entry;
  uint64_t vdso = 0;
};

std::vector<uint64_t> auxiliary_vector(const Program& p, const Loaded& at, const ImageIds& ids,
                                       uint64_t random, uint64_t platform, uint64_t execfn) {
  std::vector<uint64_t> v;
  auto add = [&](uint64_t type, uint64_t value) { v.insert(v.end(), {type, value}); };
  if (at.vdso != 0) add(AT_SYSINFO_EHDR, at.vdso);
  add(kAtMinsigstksz, arch::max_sigframe_bytes());
  add(AT_HWCAP, cpu_features());
  add(AT_PAGESZ, kPageSize);
  add(AT_CLKTCK, 100);
  add(AT_PHDR, p.elf.phdr_vaddr == 0 ? 0 : at.program.bias + p.elf.phdr_vaddr);
  add(AT_PHENT, sizeof(Elf64_Phdr));
  add(AT_PHNUM, p.elf.phnum);
  add(AT_BASE, p.interp ? at.interp.bias : 0);
  add(AT_FLAGS, 0);
  add(AT_ENTRY, at.program.bias + p.elf.entry);
  add(AT_UID, ids.uid);
  add(AT_EUID, ids.euid);
  add(AT_GID, ids.gid);
  add(AT_EGID, ids.egid);
  add(AT_SECURE, ids.secure);
  add(AT_RANDOM, random);
  add(AT_HWCAP2, 0);
  add(AT_EXECFN, execfn);
  add(AT_PLATFORM, platform);
  add(AT_NULL, 0);
  return v;
}

// Lays out and writes the first stack; returns the stack pointer.
Result<uint64_t> write_stack(Task& task, AddressSpace& mm, const Program& p, const Loaded& at,
                             const ImageIds& ids, uint64_t top) {
  size_t room = argument_bytes(p.argv, p.envp) + p.path.size() + 2 * kPageSize;
  StackBuilder stack(top, room);
  uint64_t zero = 0;
  stack.push(&zero, sizeof zero);
  uint64_t execfn = stack.push_string(p.path);
  auto push_all = [&](const std::vector<std::string>& strings) {
    std::vector<uint64_t> where(strings.size());
    for (size_t i = strings.size(); i-- > 0;) where[i] = stack.push_string(strings[i]);
    return where;
  };
  AddressSpace::Image& image = mm.image;
  image.env_end = execfn;
  std::vector<uint64_t> envp = push_all(p.envp);
  image.env_start = image.arg_end = stack.sp();
  std::vector<uint64_t> argv = push_all(p.argv);
  image.arg_start = stack.sp();
  uint64_t platform = stack.push_string("x86_64");
  std::array<std::byte, 16> seed;
  task.kernel.random(seed);
  uint64_t random = stack.push(seed.data(), seed.size());
  stack.align(16);

  std::vector<uint64_t> words{argv.size()};
  words.insert(words.end(), argv.begin(), argv.end());
  words.push_back(0);
  words.insert(words.end(), envp.begin(), envp.end());
  words.push_back(0);
  image.auxv = auxiliary_vector(p, at, ids, random, platform, execfn);
  words.insert(words.end(), image.auxv.begin(), image.auxv.end());
  if (words.size() % 2 != 0) stack.push(&zero, sizeof zero);
  uint64_t sp = stack.push(words.data(), words.size() * sizeof(uint64_t));
  CHECK(sp % 16 == 0);
  image.start_stack = sp;
  if (TRY(mm.copy_out(task.park(), sp, stack.bytes())) != stack.bytes().size())
    return Err(Errno::kFAULT);
  return sp;
}

Result<> map_stack(Task& task, AddressSpace& mm, const MmLimits& limits, const Program& p,
                   uint64_t top) {
  uint64_t want = argument_bytes(p.argv, p.envp) + p.path.size() + 2 * kPageSize;
  MmapRequest r;
  r.len = page_ceil(want + kStackFirst);
  r.addr = top - r.len;
  r.prot = Prot::kRead | Prot::kWrite;
  if (p.elf.exec_stack) r.prot |= Prot::kExec;
  r.fixed = true;
  r.grows_down = true;
  r.name = "[stack]";
  TRY(mm.mmap(task.park(), r, limits));
  return {};
}

Result<Loaded> load(Task& task, AddressSpace& mm, const MmLimits& limits, const Program& p,
                    Layout& layout) {
  Park& park = task.park();
  Loaded at;
  uint64_t bias = 0;
  if (!p.elf.fixed)
    bias = p.interp ? bias_for(p.elf, layout.pie_base()) : TRY(bias_in_gap(mm, p.elf));
  at.program = TRY(map_elf(park, mm, limits, p.elf, TRY(object_of(*p.file)), p.name, bias));
  at.entry = bias + p.elf.entry;
  if (p.interp) {
    uint64_t interp_bias = p.interp_elf.fixed ? 0 : TRY(bias_in_gap(mm, p.interp_elf));
    at.interp = TRY(map_elf(park, mm, limits, p.interp_elf, TRY(object_of(*p.interp)),
                            p.interp_name, interp_bias));
    at.entry = interp_bias + p.interp_elf.entry;
  }
  if (at.entry >= mm.user_limit()) return Err(Errno::kNOEXEC);
  if (task.kernel.vdso) {
    // The program begins with the clocks of the task's children (time_namespaces(7)).
    const bool ahead = task.more_ns && task.more_ns->time_for_children;
    at.vdso = TRY(
        task.kernel.vdso->map(park, mm, limits, ahead ? Vdso::Page::kCalls : Vdso::Page::kClock));
  }
  return at;
}

}  // namespace

size_t argument_bytes(const std::vector<std::string>& argv, const std::vector<std::string>& envp) {
  size_t n = 0;
  for (const auto* strings : {&argv, &envp})
    for (const std::string& s : *strings) n += s.size() + 1 + sizeof(uint64_t);
  return n + 4 * sizeof(uint64_t);
}

size_t argument_limit(uint64_t stack_rlimit) {
  return std::clamp<uint64_t>(stack_rlimit / 4, kMaxArgBytes, kMaxArgTotal);
}

Result<NewImage> build_image(Task& task, const Program& p, const ImageIds& ids) {
  Kernel& k = task.kernel;
  Park& park = task.park();
  if (task.context != nullptr) task.context->leave_cpu();
  Ref<AddressSpace> mm = TRY(AddressSpace::create(park, *k.mem, *k.platform));
  if (k.options.patch_calls && !is_traced(task)) mm->code_owner = ids.euid;
  MmLimits limits = task.mm_limits();
  Layout layout(task, mm->user_limit());
  uint64_t top = page_floor(layout.stack_top());
  mm->set_mmap_base(layout.mmap_base(limits.stack));
  // The arguments may take a quarter of the stack limit, but the stack is there in any case.
  MmLimits for_stack = limits;
  for_stack.stack = std::max<uint64_t>(limits.stack, kMaxArgTotal + kStackFirst);
  TRY(map_stack(task, *mm, for_stack, p, top));
  mm->set_stack_limit(limits.stack);
  Loaded at = TRY(load(task, *mm, limits, p, layout));
  mm->set_brk_start(page_ceil(at.program.end) + layout.brk_gap());

  AddressSpace::Image& image = mm->image;
  image.start_code = at.program.start_code;
  image.end_code = at.program.end_code;
  image.start_data = at.program.start_data;
  image.end_data = at.program.end_data;
  image.vdso = at.vdso;
  NewImage out;
  out.regs.rsp = TRY(write_stack(task, *mm, p, at, ids, top));
  out.regs.rip = at.entry;
  out.mm = std::move(mm);
  return out;
}

}  // namespace uk
