#include "ukernel/fs/sysfs/sysfs.h"

#include <cpuid.h>

#include <array>
#include <cstdio>
#include <vector>

#include "ukernel/fs/sysfs/block_nodes.h"
#include "ukernel/fs/sysfs/sys_node.h"

namespace uk {
namespace {

using sysfs::Builder;

std::string hex_mask(int first, int count) {
  std::string out;
  for (int word = (first + count - 1) / 32; word >= 0; --word) {
    uint32_t bits = 0;
    for (int i = std::max(first, word * 32); i < std::min(first + count, word * 32 + 32); ++i)
      bits |= 1u << (i % 32);
    char text[16];
    std::snprintf(text, sizeof text, out.empty() ? "%x" : "%08x", bits);
    out += (out.empty() ? "" : ",") + std::string(text);
  }
  return out;
}

// The caches of this machine's processors, as they describe them (CPUID leaf 4; AMD: 0x8000001d, of
// the same shape).
std::vector<std::array<uint32_t, 3>> caches() {
  uint32_t a = 0, b = 0, c = 0, d = 0;
  __cpuid(0, a, b, c, d);
  constexpr uint32_t kHygon = 0x6f677948;  // "Hygo"
  const bool amd = b == signature_AMD_ebx || b == kHygon;
  const uint32_t leaf = amd ? 0x8000001d : 4;
  std::vector<std::array<uint32_t, 3>> out;
  for (uint32_t i = 0; i < 8 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) != 0; ++i) {
    if ((a & 31) == 0) break;
    out.push_back({a, b, c});
  }
  return out;
}

void add_caches(Builder& builder, const std::string& base, int cpu, int cpus,
                const std::vector<std::array<uint32_t, 3>>& caches) {
  static constexpr const char* kTypes[] = {"", "Data", "Instruction", "Unified"};
  for (size_t i = 0; i < caches.size(); ++i) {
    const auto& [a, b, c] = caches[i];
    const uint32_t type = a & 31, level = a >> 5 & 7;
    const uint64_t line = (b & 0xfff) + 1, partitions = (b >> 12 & 0x3ff) + 1, ways = (b >> 22) + 1,
                   sets = uint64_t{c} + 1;
    // The last level is shared by all, the others by none: a guest's processors are cores.
    const int first = level > 2 ? 0 : cpu, count = level > 2 ? cpus : 1;
    const std::string at = base + "index" + std::to_string(i) + "/";
    builder.text(at + "level", std::to_string(level));
    builder.text(at + "type", kTypes[std::min(type, 3u)]);
    builder.text(at + "coherency_line_size", std::to_string(line));
    builder.text(at + "physical_line_partition", std::to_string(partitions));
    builder.text(at + "ways_of_associativity", std::to_string(ways));
    builder.text(at + "number_of_sets", std::to_string(sets));
    builder.text(at + "size", std::to_string(line * partitions * ways * sets / 1024) + "K");
    builder.text(at + "id", std::to_string(first));
    builder.text(at + "shared_cpu_map", hex_mask(first, count));
    builder.text(at + "shared_cpu_list",
                 count == 1 ? std::to_string(first) : "0-" + std::to_string(count - 1));
  }
}

void add_cpus(Builder& b, int cpus) {
  const auto cpu_caches = caches();
  const std::string all = cpus == 1 ? "0" : "0-" + std::to_string(cpus - 1);
  const std::string base = "devices/system/cpu/";
  for (const char* name : {"online", "possible", "present"}) b.text(base + name, all);
  b.text(base + "offline", "");
  b.text(base + "isolated", "");
  b.text(base + "kernel_max", std::to_string(cpus - 1));
  b.text(base + "smt/active", "0");
  for (int i = 0; i < cpus; ++i) {
    const std::string n = std::to_string(i), cpu = base + "cpu" + n + "/";
    b.text(cpu + "online", "1");
    const std::string topology = cpu + "topology/";
    b.text(topology + "core_id", n);
    b.text(topology + "physical_package_id", "0");
    b.text(topology + "core_cpus_list", n);
    b.text(topology + "thread_siblings_list", n);
    b.text(topology + "core_siblings_list", all);
    b.text(topology + "package_cpus_list", all);
    add_caches(b, cpu + "cache/", i, cpus, cpu_caches);
  }
  const std::string node = "devices/system/node/";
  for (const char* name : {"online", "possible", "has_cpu", "has_memory"}) b.text(node + name, "0");
  b.text(node + "node0/cpulist", all);
  b.text(node + "node0/cpumap", hex_mask(0, cpus));
}

}  // namespace

void register_sysfs(Vfs& vfs, int cpus, BlockDevices& disks) {
  vfs.register_fs(
      {"sysfs", false,
       [cpus, &disks](Park&, Vfs& v, const std::string&, const std::string&,
                      Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
         auto sb = make_ref<sysfs::Super>();
         sb->made = v.now();
         Builder b(sb);
         add_cpus(b, cpus);
         b.text("kernel/mm/transparent_hugepage/enabled", "always madvise [never]");
         b.text("kernel/mm/transparent_hugepage/defrag", "always defer madvise [never]");
         b.text("kernel/mm/transparent_hugepage/hpage_pmd_size", "2097152");
         for (const char* dir :
              {"bus", "class/net", "class/tty", "dev/char", "devices/virtual", "firmware",
               "fs/cgroup", "kernel/debug", "kernel/mm/hugepages", "module", "power"}) {
           b.dir(dir);
         }
         sysfs::follow_block_devices(*sb, disks);
         *root = b.root;
         return Ref<SuperBlock>(sb);
       }});
}

}  // namespace uk
