// /proc/PID/mounts and mountinfo (proc_pid_mountinfo(5)).
#include "absl/strings/str_format.h"
#include "ukernel/fs/procfs/pid_files.h"

namespace uk::procfs {
namespace {

constexpr std::string_view kEscaped = " \t\n\\#";
constexpr size_t kMaxText = 32 << 20;  // of a table; Linux gives up where its memory ends
constexpr int kBetweenYields = 16;     // names may be as long as a hundred thousand mounts

// The mounted directory inside its file system: "/" but for bind mounts of a part.
std::string root_inside(const Mount& m) {
  if (m.sb->fs_type() == "nsfs") return m.root->name();
  std::string out;
  for (const Dentry* d = m.root.get(); d != nullptr && d->parent() != nullptr; d = d->parent())
    out = "/" + d->name() + out;
  if (m.root->unlinked()) out += "//deleted";
  return out.empty() ? "/" : out;
}

// Calls f(mount, place) for each mount that can be reached from the task's root.
template <class F>
Result<> each_mount(Ctx& c, const std::string& out, F&& f) {
  Ref<Task> t(c.task);
  if (!t->fs_ || !t->mounts_) return {};
  const Ref<MountNamespace> ns = t->mounts_;
  const Path root = t->fs_->root;
  int n = 0;
  for (auto at = ns->mounts.begin(); at != ns->mounts.end();) {
    const Ref<Mount> m = at->second;
    std::string place = c.kernel.vfs.path_name(Path(m, m->root), root, true);
    if (!place.starts_with("(unreachable)") && place.size() < kPathMax) {
      f(*m, escape(place, kEscaped));
      if (out.size() > kMaxText) return Err(Errno::kNOMEM);
    }
    if (++n % kBetweenYields == 0) c.park.yield();  // which may change the table
    at = ns->mounts.upper_bound(m->id);
  }
  return {};
}

// The nearest group above `m` that the reader can see.
int dominating_group(const Mount& m, const MountNamespace& ns) {
  Ref<PeerGroup> g = m.master;
  while (g) {
    Ref<PeerGroup> up;
    for (const Mount& peer : g->members) {
      if (peer.ns == &ns) return g->id;
      up = peer.master;
    }
    g = up;
  }
  return 0;
}

std::string propagation(const Mount& m) {
  std::string out;
  if (m.shared) absl::StrAppendFormat(&out, "shared:%d ", m.shared->id);
  if (m.master) {
    absl::StrAppendFormat(&out, "master:%d ", m.master->id);
    const int from = m.ns != nullptr ? dominating_group(m, *m.ns) : 0;
    if (from != 0 && from != m.master->id) absl::StrAppendFormat(&out, "propagate_from:%d ", from);
  }
  if (m.unbindable) out += "unbindable ";
  return out;
}

}  // namespace

Result<std::string> show_mounts(Ctx& c) {
  std::string out;
  TRY(each_mount(c, out, [&](const Mount& m, const std::string& place) {
    std::string options = mount_options(m);
    if (m.sb->read_only && options.starts_with("rw")) options.replace(0, 2, "ro");
    if (std::string more = m.sb->options(); !more.empty()) options += "," + more;
    absl::StrAppendFormat(&out, "%s %s %s %s 0 0\n",
                          m.source.empty() ? "none" : escape(m.source, kEscaped), place,
                          m.sb->fs_type(), options);
  }));
  return out;
}

Result<std::string> show_mountinfo(Ctx& c) {
  std::string out;
  TRY(each_mount(c, out, [&](const Mount& m, const std::string& place) {
    absl::StrAppendFormat(
        &out, "%d %d %d:%d %s %s %s %s- %s %s %s\n", m.id, m.parent ? m.parent->id : m.id,
        dev_major(m.sb->dev), dev_minor(m.sb->dev), escape(root_inside(m), kEscaped), place,
        mount_options(m), propagation(m), m.sb->fs_type(),
        m.source.empty() ? "none" : escape(m.source, kEscaped), super_options(*m.sb));
  }));
  return out;
}

}  // namespace uk::procfs
