// /proc/cpuinfo: the host's processor as CPUID tells it (guests execute CPUID themselves), once for
// each virtual CPU.
#include <cpuid.h>

#include <array>
#include <cstring>

#include "absl/strings/str_format.h"
#include "ukernel/fs/procfs/proc_node.h"

namespace uk::procfs {
namespace {

struct Leaf {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Leaf cpuid(uint32_t leaf, uint32_t sub = 0) {
  Leaf l;
  if (leaf > __get_cpuid_max(leaf & 0x80000000, nullptr)) return l;
  __cpuid_count(leaf, sub, l.eax, l.ebx, l.ecx, l.edx);
  return l;
}

// Names by bit; null for bits without one (or that Linux does not show).
constexpr std::array<const char*, 32> kLeaf1Edx = {
    "fpu",  "vme",  "de",   "pse", "tsc",  "msr", "pae",   "mce", "cx8",     "apic",  nullptr,
    "sep",  "mtrr", "pge",  "mca", "cmov", "pat", "pse36", "pn",  "clflush", nullptr, "dts",
    "acpi", "mmx",  "fxsr", "sse", "sse2", "ss",  "ht",    "tm",  "ia64",    "pbe"};
constexpr std::array<const char*, 32> kLeaf1Ecx = {
    "pni",    "pclmulqdq", "dtes64", "monitor", "ds_cpl",
    "vmx",    "smx",       "est",    "tm2",     "ssse3",
    "cid",    "sdbg",      "fma",    "cx16",    "xtpr",
    "pdcm",   nullptr,     "pcid",   "dca",     "sse4_1",
    "sse4_2", "x2apic",    "movbe",  "popcnt",  "tsc_deadline_timer",
    "aes",    "xsave",     nullptr,  "avx",     "f16c",
    "rdrand", "hypervisor"};
constexpr std::array<const char*, 32> kExt1Edx = {
    nullptr, nullptr,    nullptr,   nullptr,   nullptr, nullptr, nullptr,    nullptr,
    nullptr, nullptr,    nullptr,   "syscall", nullptr, nullptr, nullptr,    nullptr,
    nullptr, nullptr,    nullptr,   "mp",      "nx",    nullptr, "mmxext",   nullptr,
    nullptr, "fxsr_opt", "pdpe1gb", "rdtscp",  nullptr, "lm",    "3dnowext", "3dnow"};
constexpr std::array<const char*, 32> kExt1Ecx = {
    "lahf_lm",    "cmp_legacy",  "svm",           "extapic", "cr8_legacy",  "abm",
    "sse4a",      "misalignsse", "3dnowprefetch", "osvw",    "ibs",         "xop",
    "skinit",     "wdt",         nullptr,         "lwp",     "fma4",        "tce",
    nullptr,      "nodeid_msr",  nullptr,         "tbm",     "topoext",     "perfctr_core",
    "perfctr_nb", nullptr,       "bpext",         "ptsc",    "perfctr_llc", "mwaitx",
    nullptr,      nullptr};
constexpr std::array<const char*, 32> kLeaf7Ebx = {
    "fsgsbase",   "tsc_adjust", "sgx",        "bmi1",     "hle",      "avx2",     nullptr,
    "smep",       "bmi2",       "erms",       "invpcid",  "rtm",      "cqm",      nullptr,
    "mpx",        "rdt_a",      "avx512f",    "avx512dq", "rdseed",   "adx",      "smap",
    "avx512ifma", nullptr,      "clflushopt", "clwb",     "intel_pt", "avx512pf", "avx512er",
    "avx512cd",   "sha_ni",     "avx512bw",   "avx512vl"};
constexpr std::array<const char*, 32> kLeaf7Ecx = {
    nullptr,      "avx512vbmi",   "umip",          "pku",       "ospke",
    "waitpkg",    "avx512_vbmi2", nullptr,         "gfni",      "vaes",
    "vpclmulqdq", "avx512_vnni",  "avx512_bitalg", "tme",       "avx512_vpopcntdq",
    nullptr,      "la57",         nullptr,         nullptr,     nullptr,
    nullptr,      nullptr,        "rdpid",         nullptr,     "bus_lock_detect",
    "cldemote",   nullptr,        "movdiri",       "movdir64b", "enqcmd",
    nullptr,      nullptr};

void add_names(std::string& out, uint32_t bits, const std::array<const char*, 32>& names) {
  for (size_t i = 0; i < 32; ++i) {
    if (((bits >> i) & 1) == 0 || names[i] == nullptr) continue;
    out += ' ';
    out += names[i];
  }
}

std::string flags() {
  const Leaf one = cpuid(1), seven = cpuid(7), ext = cpuid(0x80000001);
  std::string out;
  add_names(out, one.edx, kLeaf1Edx);
  add_names(out, ext.edx, kExt1Edx);
  out += " constant_tsc rep_good nopl";
  add_names(out, one.ecx, kLeaf1Ecx);
  add_names(out, ext.ecx, kExt1Ecx);
  add_names(out, seven.ebx, kLeaf7Ebx);
  add_names(out, seven.ecx, kLeaf7Ecx);
  return out.substr(1);
}

std::string vendor() {
  const Leaf l = cpuid(0);
  char text[13] = {};
  std::memcpy(text, &l.ebx, 4);
  std::memcpy(text + 4, &l.edx, 4);
  std::memcpy(text + 8, &l.ecx, 4);
  return text;
}

std::string model_name() {
  char text[49] = {};
  for (uint32_t i = 0; i < 3; ++i) {
    const Leaf l = cpuid(0x80000002 + i);
    std::memcpy(text + 16 * i, &l, 16);
  }
  std::string name(text);
  while (name.starts_with(' ')) name.erase(0, 1);
  return name.empty() ? "unknown" : name;
}

// The nominal speed: CPUID leaf 0x16, else what the name says ("... @ 2.50GHz").
double mhz(const std::string& name) {
  if (const Leaf l = cpuid(0x16); l.eax != 0) return l.eax & 0xffff;
  if (size_t at = name.find("@ "); at != std::string::npos) {
    const double ghz = std::strtod(name.c_str() + at + 2, nullptr);
    if (ghz > 0) return ghz * 1000;
  }
  return 2000;
}

}  // namespace

Result<std::string> show_cpuinfo(Ctx& c) {
  const Leaf one = cpuid(1), sizes = cpuid(0x80000008);
  const uint32_t base_family = (one.eax >> 8) & 15, base_model = (one.eax >> 4) & 15;
  const uint32_t family = base_family == 15 ? 15 + ((one.eax >> 20) & 255) : base_family;
  const uint32_t model = base_family >= 6 ? base_model | ((one.eax >> 12) & 0xf0) : base_model;
  const std::string name = model_name(), all_flags = flags(), who = vendor();
  const double speed = mhz(name);
  const int cpus = c.kernel.vcpus.count();
  std::string out;
  for (int i = 0; i < cpus; ++i) {
    absl::StrAppendFormat(
        &out,
        "processor\t: %d\nvendor_id\t: %s\ncpu family\t: %d\nmodel\t\t: %d\n"
        "model name\t: %s\nstepping\t: %d\nmicrocode\t: 0x1\ncpu MHz\t\t: %.3f\n"
        "cache size\t: 4096 KB\nphysical id\t: 0\nsiblings\t: %d\ncore id\t\t: %d\n"
        "cpu cores\t: %d\napicid\t\t: %d\ninitial apicid\t: %d\nfpu\t\t: yes\n"
        "fpu_exception\t: yes\ncpuid level\t: %d\nwp\t\t: yes\nflags\t\t: %s\n"
        "bugs\t\t:\nbogomips\t: %.2f\nclflush size\t: %d\ncache_alignment\t: 64\n"
        "address sizes\t: %d bits physical, %d bits virtual\n"
        "power management:\n\n",
        i, who, family, model, name, one.eax & 15, speed, cpus, i, cpus, i, i, cpuid(0).eax,
        all_flags, 2 * speed, ((one.ebx >> 8) & 255) * 8, sizes.eax & 255, (sizes.eax >> 8) & 255);
  }
  return out;
}

}  // namespace uk::procfs
