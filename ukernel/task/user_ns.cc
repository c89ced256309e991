#include "ukernel/task/user_ns.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/str_format.h"
#include "ukernel/kernel.h"
#include "ukernel/task/nsfs.h"

namespace uk {
namespace {

// One line as it was written: [inside, inside + count) are the parent's [outside, outside + count).
struct Line {
  uint32_t inside, outside, count;
};

bool take_number(std::string_view& text, uint32_t* out) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  if (error != std::errc{}) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return text.empty() || text.front() == ' ' || text.front() == '\t';
}

bool overlap(uint32_t a, uint32_t a_count, uint32_t b, uint32_t b_count) {
  return a < uint64_t{b} + b_count && b < uint64_t{a} + a_count;
}

Result<std::vector<Line>> parse(std::string_view text) {
  std::vector<Line> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    Line l;
    if (!take_number(line, &l.inside) || !take_number(line, &l.outside) ||
        !take_number(line, &l.count)) {
      return Err(Errno::kINVAL);
    }
    if (line.find_first_not_of(" \t") != std::string_view::npos) return Err(Errno::kINVAL);
    if (l.inside == kNoId || l.outside == kNoId || l.count == 0) return Err(Errno::kINVAL);
    if (uint64_t{l.inside} + l.count > kNoId || uint64_t{l.outside} + l.count > kNoId)
      return Err(Errno::kINVAL);
    for (const Line& o : lines) {
      if (overlap(o.inside, o.count, l.inside, l.count) ||
          overlap(o.outside, o.count, l.outside, l.count)) {
        return Err(Errno::kINVAL);
      }
    }
    if (lines.size() == UserNamespace::kMaxExtents) return Err(Errno::kINVAL);
    lines.push_back(l);
  }
  if (lines.empty()) return Err(Errno::kINVAL);
  return lines;
}

// A range of the parent's ids as the kernel's; it must lie in one part of the parent's mapping.
std::optional<uint32_t> range_to_kernel(const UserNamespace* parent, bool users, const Line& l) {
  if (parent == nullptr) return l.outside;
  for (const IdExtent& e : users ? parent->uids : parent->gids) {
    if (l.outside >= e.inside && uint64_t{l.outside} + l.count <= uint64_t{e.inside} + e.count)
      return e.kernel + (l.outside - e.inside);
  }
  return std::nullopt;
}

// user_namespaces(7), "Defining user and group ID mappings".
bool permitted(const UserNamespace& ns, const Cred& opener, const Cred& writer, bool users,
               const std::vector<Line>& lines) {
  const UserNamespace* parent = ns.parent.get();
  // Who maps the parent's root could otherwise make files with capabilities that count there.
  const bool maps_root = users && std::any_of(lines.begin(), lines.end(),
                                              [](const Line& l) { return l.outside == 0; });
  if (maps_root) {
    const bool inside = opener.user_ns.get() == &ns;
    if (inside ? !ns.parent_could_setfcap : !opener.has_in(parent, Cap::kSetfcap)) return false;
  }
  if (lines.size() == 1 && lines[0].count == 1 && ns.owner_uid == opener.euid) {
    const auto id = range_to_kernel(parent, users, lines[0]);
    if (users && id == opener.euid) return true;
    if (!users && !ns.setgroups_allowed && id == opener.egid) return true;
  }
  const Cap needed = users ? Cap::kSetuid : Cap::kSetgid;
  return opener.has_in(parent, needed) && writer.has_in(parent, needed);
}

}  // namespace

Ref<Cred> cred_in(const Cred& old, Ref<UserNamespace> ns) {
  Ref<Cred> c = old.copy();
  c->user_ns = std::move(ns);
  c->securebits = 0;
  c->cap_inheritable = c->cap_ambient = 0;
  c->cap_permitted = c->cap_effective = c->cap_bounding = kAllCaps;
  return c;
}

Result<Ref<Cred>> new_user_namespace(const Task& task) {
  const Cred& old = task.cred();
  const UserNamespace* parent = old.user_ns.get();
  if (level_of(parent) > UserNamespace::kMaxLevel) return Err(Errno::kNOSPC);
  const Ref<Mount>& top = task.mounts().root;
  if (!(task.kernel.vfs.follow_mounts(Path(top, top->root)) == task.fs().root))
    return Err(Errno::kPERM);
  if (uid_inside(parent, old.euid) == kNoId || gid_inside(parent, old.egid) == kNoId)
    return Err(Errno::kPERM);
  auto ns = make_ref<UserNamespace>();
  ns->parent = old.user_ns;
  ns->level = level_of(parent) + 1;
  ns->owner_uid = old.euid;
  ns->owner_gid = old.egid;
  ns->parent_could_setfcap = old.raised(Cap::kSetfcap);
  ns->setgroups_allowed = parent == nullptr || parent->setgroups_allowed;
  TRY(task.kernel.nsfs->admit(*ns));
  return cred_in(old, std::move(ns));
}

std::string show_id_map(const UserNamespace* ns, const Cred& opener, bool users) {
  if (ns == nullptr) return "         0          0 4294967295\n";
  const UserNamespace* seen_from = opener.user_ns.get();
  if (seen_from == ns) seen_from = ns->parent.get();
  std::string out;
  for (const IdExtent& e : users ? ns->uids : ns->gids) {
    const uint32_t outside =
        users ? uid_inside(seen_from, e.kernel) : gid_inside(seen_from, e.kernel);
    absl::StrAppendFormat(&out, "%10u %10u %10u\n", e.inside, outside, e.count);
  }
  return out;
}

Result<> store_id_map(UserNamespace* ns, const Cred& opener, const Cred& writer, bool users,
                      std::string_view text) {
  if (ns == nullptr) return Err(Errno::kPERM);
  if (opener.user_ns.get() != ns && opener.user_ns != ns->parent) return Err(Errno::kPERM);
  if (text.size() >= kPageSize) return Err(Errno::kINVAL);
  std::vector<IdExtent>& map = users ? ns->uids : ns->gids;
  if (!map.empty()) return Err(Errno::kPERM);
  if (!opener.has_in(ns, Cap::kSysAdmin)) return Err(Errno::kPERM);
  const std::vector<Line> lines = TRY(parse(text));
  if (!permitted(*ns, opener, writer, users, lines)) return Err(Errno::kPERM);
  std::vector<IdExtent> made;
  for (const Line& l : lines) {
    const auto kernel = range_to_kernel(ns->parent.get(), users, l);
    if (!kernel) return Err(Errno::kPERM);
    made.push_back({l.inside, *kernel, l.count});
  }
  map = std::move(made);
  return {};
}

Result<> store_setgroups(UserNamespace* ns, const Cred& opener, std::string_view text) {
  if (!opener.has_in(ns, Cap::kSysAdmin)) return Err(Errno::kACCES);
  const size_t end = text.find_last_not_of(" \t\n");
  text = end == std::string_view::npos ? std::string_view() : text.substr(0, end + 1);
  if (text != "allow" && text != "deny") return Err(Errno::kINVAL);
  const bool allowed = ns == nullptr || ns->setgroups_allowed;
  if (text == "allow") return allowed ? Result<>() : Err(Errno::kPERM);
  if (ns == nullptr || !ns->gids.empty()) return Err(Errno::kPERM);
  ns->setgroups_allowed = false;
  return {};
}

}  // namespace uk
