#include "syscalls/landlock.h"

#include <algorithm>

#include "syscalls/extensible.h"
#include "syscalls/fs_common.h"
#include "ukernel/vfs/anon_inode.h"
#include "ukernel/vfs/landlock.h"

namespace uk {
namespace {

// The version whose rules are here, all of them: files with REFER, TRUNCATE and IOCTL_DEV, ports
// (there are none), scopes. Later ones add flags for audit logs.
constexpr int kAbi = 6;
constexpr uint32_t kAskVersion = 1;  // LANDLOCK_CREATE_RULESET_VERSION
constexpr int kPathBeneath = 1, kNetPort = 2;

struct RulesetAttr {  // struct landlock_ruleset_attr
  uint64_t fs, net, scoped;
};

struct [[gnu::packed]] PathBeneathAttr {
  uint64_t allowed;
  int32_t parent_fd;
};

struct NetPortAttr {
  uint64_t allowed, port;
};

class RulesetFile final : public File {
 public:
  explicit RulesetFile(LandlockRules r)
      : File(make_anon_path("[landlock-ruleset]"), O_RDWR), rules(std::move(r)) {}
  LandlockRules rules;
};

struct Ruleset {
  Ref<File> file;
  LandlockRules* rules;
};

Result<Ruleset> ruleset_of(Task& task, Fd fd) {
  Ruleset r{TRY(task.fds().get_io(fd)), nullptr};
  auto* file = dynamic_cast<RulesetFile*>(r.file.get());
  if (file == nullptr) return Err(Errno::kBADFD);
  r.rules = &file->rules;
  return r;
}

Result<int64_t> add_path(Task& task, LandlockRules& rules, UserAddr at) {
  const auto a = TRY(UserIn<PathBeneathAttr>{at}.get(task.park(), task.mm()));
  const uint64_t allowed = a.allowed;
  if (allowed == 0) return Err(Errno::kNOMSG);
  if ((allowed & ~rules.fs) != 0) return Err(Errno::kINVAL);
  Ref<File> file = TRY(task.fds().get(a.parent_fd));
  const Path& path = file->path();
  if (!path.mount || path.inode() == nullptr) return Err(Errno::kBADFD);
  if (path.inode()->type() != S_IFDIR && (allowed & ~landlock::kForFiles) != 0)
    return Err(Errno::kINVAL);
  return zero(rules.add(path.dentry, allowed));
}

Result<int64_t> add_port(Task& task, const LandlockRules& rules, UserAddr at) {
  const auto a = TRY(UserIn<NetPortAttr>{at}.get(task.park(), task.mm()));
  if (a.allowed == 0) return Err(Errno::kNOMSG);
  if ((a.allowed & ~rules.net) != 0 || a.port > UINT16_MAX) return Err(Errno::kINVAL);
  return Err(Errno::kAFNOSUPPORT);  // as Linux without AF_INET
}

}  // namespace

Result<int64_t> sys_landlock_create_ruleset(Task& task, UserAddr attr, size_t size, Hex flags) {
  if (static_cast<uint32_t>(flags) != 0) {
    if (static_cast<uint32_t>(flags) != kAskVersion || attr || size != 0) return Err(Errno::kINVAL);
    return kAbi;
  }
  if (!attr) return Err(Errno::kFAULT);
  const auto a = TRY(fetch_extensible<RulesetAttr>(task, attr, size, sizeof(uint64_t)));
  if ((a.fs & ~landlock::kAllFs) != 0 || (a.net & ~landlock::kAllNet) != 0 ||
      (a.scoped & ~landlock::kAllScopes) != 0)
    return Err(Errno::kINVAL);
  if (a.fs == 0 && a.net == 0 && a.scoped == 0) return Err(Errno::kNOMSG);
  LandlockRules rules;
  rules.fs = a.fs;
  rules.net = a.net;
  rules.scoped = a.scoped;
  return install_fd(task, make_ref<RulesetFile>(std::move(rules)), true);
}

Result<int64_t> sys_landlock_add_rule(Task& task, Fd fd, int type, UserAddr attr, Hex flags) {
  if (static_cast<uint32_t>(flags) != 0) return Err(Errno::kINVAL);
  const Ruleset r = TRY(ruleset_of(task, fd));
  if (type == kPathBeneath) return add_path(task, *r.rules, attr);
  if (type == kNetPort) return add_port(task, *r.rules, attr);
  return Err(Errno::kINVAL);
}

Result<int64_t> sys_landlock_restrict_self(Task& task, Fd fd, Hex flags) {
  if (!task.cred().no_new_privs && !task.cred().raised(Cap::kSysAdmin)) return Err(Errno::kPERM);
  if (static_cast<uint32_t>(flags) != 0) return Err(Errno::kINVAL);
  const Ruleset r = TRY(ruleset_of(task, fd));
  Ref<const LandlockDomain> below(landlock_domain(task.cred()));
  if (below && below->layers() >= LandlockDomain::kMaxLayers) return Err(Errno::k2BIG);
  Ref<Cred> c = task.cred().copy();
  c->landlock = make_ref<LandlockDomain>(std::move(below), *r.rules);
  task.set_cred(std::move(c));
  return 0;
}

}  // namespace uk
