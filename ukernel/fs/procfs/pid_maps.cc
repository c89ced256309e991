// /proc/PID/maps, smaps, smaps_rollup.
#include "absl/strings/str_format.h"
#include "ukernel/fs/procfs/pid_files.h"

namespace uk::procfs {

std::string escape(std::string_view s, std::string_view which) {
  std::string out;
  for (char ch : s) {
    if (which.find(ch) != std::string_view::npos) {
      absl::StrAppendFormat(&out, "\\%03o", static_cast<unsigned char>(ch));
    } else {
      out += ch;
    }
  }
  return out;
}

namespace {

constexpr uint64_t kKbPerPage = kPageSize / 1024;
constexpr size_t kNameColumn = 73;

void add_map_line(std::string& out, const VmaInfo& v) {
  const size_t begin = out.size();
  auto has = [&](Prot p) { return (v.prot & p) != Prot::kNone; };
  absl::StrAppendFormat(&out, "%08x-%08x %c%c%c%c %08x %02x:%02x %d ", v.start, v.end,
                        has(Prot::kRead) ? 'r' : '-', has(Prot::kWrite) ? 'w' : '-',
                        has(Prot::kExec) ? 'x' : '-', v.shared ? 's' : 'p', v.offset,
                        dev_major(v.dev), dev_minor(v.dev), v.ino);
  if (!v.name.empty()) {
    const size_t used = out.size() - begin;
    if (used < kNameColumn) out.append(kNameColumn - used, ' ');
    out += escape(v.name, "\n");
  }
  out += '\n';
}

struct Totals {
  uint64_t size = 0, rss = 0, pss = 0, shared_clean = 0, private_clean = 0, private_dirty = 0,
           anonymous = 0, locked = 0;
};

// DEVIATION: how many spaces share a page is not counted for each page; a shared page counts half
// in Pss. See docs/CAVEATS.md.
Totals totals_of(const VmaInfo& v) {
  Totals t;
  t.size = (v.end - v.start) / 1024;
  t.rss = v.rss_pages * kKbPerPage;
  t.private_dirty = std::min(v.private_dirty_pages, v.rss_pages) * kKbPerPage;
  t.shared_clean = std::min(v.shared_pages, v.rss_pages) * kKbPerPage;
  t.private_clean = t.rss - std::min(t.rss, t.private_dirty + t.shared_clean);
  t.pss = t.rss - t.shared_clean / 2;
  t.anonymous = v.ino == 0 ? t.rss : t.private_dirty;
  t.locked = v.locked ? t.pss : 0;
  return t;
}

void add_totals(std::string& out, const Totals& t, bool rollup) {
  const struct {
    const char* name;
    uint64_t kb;
    bool in_rollup;
  } rows[] = {
      {"Size", t.size, false},
      {"KernelPageSize", kKbPerPage, false},
      {"MMUPageSize", kKbPerPage, false},
      {"Rss", t.rss, true},
      {"Pss", t.pss, true},
      {"Pss_Dirty", t.private_dirty, true},
      {"Shared_Clean", t.shared_clean, true},
      {"Shared_Dirty", 0, true},
      {"Private_Clean", t.private_clean, true},
      {"Private_Dirty", t.private_dirty, true},
      {"Referenced", t.rss, true},
      {"Anonymous", t.anonymous, true},
      {"KSM", 0, true},
      {"LazyFree", 0, true},
      {"AnonHugePages", 0, true},
      {"ShmemPmdMapped", 0, true},
      {"FilePmdMapped", 0, true},
      {"Shared_Hugetlb", 0, true},
      {"Private_Hugetlb", 0, true},
      {"Swap", 0, true},
      {"SwapPss", 0, true},
      {"Locked", t.locked, true},
  };
  for (const auto& r : rows) {
    if (!rollup || r.in_rollup)
      absl::StrAppendFormat(&out, "%-15s %8d kB\n", std::string(r.name) + ":", r.kb);
  }
}

std::string vm_flags(const VmaInfo& v) {
  auto has = [&](Prot p) { return (v.prot & p) != Prot::kNone; };
  std::string out = "VmFlags:";
  if (has(Prot::kRead)) out += " rd";
  if (has(Prot::kWrite)) out += " wr";
  if (has(Prot::kExec)) out += " ex";
  if (v.shared) out += " sh";
  if (v.may_read) out += " mr";
  if (v.may_write) out += " mw";
  if (v.may_exec) out += " me";
  if (v.shared) out += " ms";
  if (v.grows_down) out += " gd";
  if (v.locked) out += " lo";
  return out + " \n";
}

}  // namespace

Result<std::string> show_maps(Ctx& c) {
  std::string out;
  if (Ref<AddressSpace> mm = c.task->mm_ref())
    mm->each_vma([&](const VmaInfo& v) { add_map_line(out, v); });
  return out;
}

Result<std::string> show_smaps(Ctx& c) {
  std::string out;
  if (Ref<AddressSpace> mm = c.task->mm_ref()) {
    mm->each_vma([&](const VmaInfo& v) {
      add_map_line(out, v);
      add_totals(out, totals_of(v), false);
      out += "THPeligible:           0\n" + vm_flags(v);
    });
  }
  return out;
}

Result<std::string> show_smaps_rollup(Ctx& c) {
  Ref<AddressSpace> mm = c.task->mm_ref();
  if (!mm) return std::string();
  Totals sum;
  uint64_t first = 0, last = 0;
  mm->each_vma([&](const VmaInfo& v) {
    const Totals t = totals_of(v);
    sum.rss += t.rss, sum.pss += t.pss, sum.shared_clean += t.shared_clean;
    sum.private_clean += t.private_clean, sum.private_dirty += t.private_dirty;
    sum.anonymous += t.anonymous, sum.locked += t.locked;
    if (last == 0) first = v.start;
    last = v.end;
  });
  std::string out = absl::StrFormat("%08x-%08x ---p 00000000 00:00 0 ", first, last);
  if (out.size() < kNameColumn) out.append(kNameColumn - out.size(), ' ');
  out += "[rollup]\n";
  add_totals(out, sum, true);
  return out;
}

}  // namespace uk::procfs
