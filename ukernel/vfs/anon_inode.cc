#include "ukernel/vfs/anon_inode.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <string>

#include "absl/strings/str_format.h"
#include "ukernel/vfs/file.h"
#include "ukernel/vfs/vfs.h"

namespace uk {
namespace {

class AnonSuperBlock final : public SuperBlock {
 public:
  AnonSuperBlock() { dev = make_dev(0, 15); }
  std::string_view fs_type() const override { return "anon_inodefs"; }
  Result<FsStat> statfs(Park&) override {
    FsStat s;
    s.type = 0x09041934;  // ANON_INODE_FS_MAGIC
    return s;
  }
};

class AnonInode final : public Inode {
 public:
  explicit AnonInode(uint32_t mode) : Inode(make_ref<AnonSuperBlock>()), mode_(mode) {}
  uint32_t type() const override { return 0; }
  Result<FileAttr> getattr(Park&) override {
    FileAttr a;
    a.ino = 1;
    a.dev = sb().dev;
    a.mode = mode_;  // no type bits, as on Linux
    return a;
  }
  Result<> setattr(Park&, const AttrChange&) override { return Err(Errno::kOPNOTSUPP); }

 private:
  uint32_t mode_;
};

}  // namespace

Path make_anon_path(std::string_view kind) {
  return Path(nullptr, make_ref<Dentry>(nullptr, absl::StrFormat("anon_inode:[%s]", kind),
                                        make_ref<AnonInode>(kind == "pidfd" ? 0700 : 0600)));
}

bool is_anonymous(const File& file) { return file.inode() != nullptr && file.inode()->type() == 0; }

int shown_flags(const File& file) {
  constexpr int kLargeFile = 0100000;
  const bool named = file.path().mount != nullptr ||
                     (file.inode() != nullptr && is_type(file.inode()->type(), S_IFREG));
  return file.flags | (named && (file.flags & O_PATH) == 0 ? kLargeFile : 0);
}

}  // namespace uk
