// nsfs: the files of namespaces, which /proc/PID/ns leads to (namespaces(7), ioctl_ns(2)). They can
// be opened, compared, given to setns(2) and bound to a name. Also the numbers and the count of
// namespaces.
//
// Ownership: the Kernel owns the NsFs; an inode holds its namespace. Reactor-owned; only ioctls
// that copy to the guest may suspend.
#pragma once

#include "ukernel/task/task.h"
#include "ukernel/vfs/namespace.h"

namespace uk {

const char* ns_name(NsKind kind);     // as in /proc/PID/ns
uint64_t ns_clone_flag(NsKind kind);  // CLONE_NEW*

class NsFs final : public SuperBlock {
 public:
  static constexpr int kMaxOfKind = 16384;

  explicit NsFs(Kernel& kernel);
  ~NsFs() override;
  std::string_view fs_type() const override { return "nsfs"; }
  Result<FsStat> statfs(Park& park) override;
  bool keeps_names() const override { return false; }

  // Counts a new namespace and gives it its number. kNOSPC: there are too many.
  Result<> admit(Namespace& ns);
  // The one that tasks without a namespace of their own have.
  Ref<Namespace> initial(NsKind kind) const;
  // Of a user namespace as credentials hold it (null is the initial one).
  Ref<Namespace> user(const Ref<UserNamespace>& ns) const;
  // The path of its file; lives as long as somebody holds it.
  Path path_of(Ref<Namespace> ns);

  // Lets go of a namespace whose file has ended. One after the other: mount namespaces may hold
  // each other's files, a thousand deep.
  void bury(Ref<Namespace> ns);
  // The instance ends: lets go of what holds this.
  void close();

  Kernel& kernel;

 private:
  std::shared_ptr<NsCounts> counts_ = std::make_shared<NsCounts>();
  std::array<Ref<Namespace>, kNsKinds> initial_;
  std::vector<Ref<Namespace>> graves_;
  bool burying_ = false;
  Ref<Mount> mount_;  // made when first used
};

// The namespace whose file this is; null for others.
Ref<Namespace> namespace_of(const File& file);
// A descriptor for it in the task's table.
Result<int> install_ns_fd(Task& task, Ref<Namespace> ns);
// May `cred` look at `ns`, which its own user namespace must own, or an ancestor of that?
bool user_ns_within(const UserNamespace* ns, const UserNamespace* top);

}  // namespace uk
