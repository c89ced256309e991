#include "ukernel/net/sockfs.h"

#include <sys/stat.h>

#include <string>

#include "ukernel/vfs/vfs.h"

namespace uk {
namespace {

class SocketInode final : public Inode {
 public:
  SocketInode(Ref<SuperBlock> sb, uint64_t ino, const Cred& cred, FileTime now)
      : Inode(std::move(sb)) {
    attr_.ino = ino;
    attr_.mode = S_IFSOCK | 0777;
    attr_.uid = cred.fsuid;
    attr_.gid = cred.fsgid;
    attr_.atime = attr_.mtime = attr_.ctime = now;
  }
  uint32_t type() const override { return S_IFSOCK; }
  Result<FileAttr> getattr(Park&) override {
    attr_.dev = sb().dev;
    return attr_;
  }
  Result<> setattr(Park&, const AttrChange& c) override {
    if (c.mode) attr_.mode = S_IFSOCK | *c.mode;
    if (c.uid) attr_.uid = *c.uid;
    if (c.gid) attr_.gid = *c.gid;
    return {};
  }

 private:
  FileAttr attr_;
};

}  // namespace

Path make_socket_path(Ref<SuperBlock> sockfs, uint64_t ino, const Cred& cred, FileTime now) {
  auto inode = make_ref<SocketInode>(std::move(sockfs), ino, cred, now);
  return Path(nullptr, make_ref<Dentry>(nullptr, "socket:[" + std::to_string(ino) + "]", inode));
}

}  // namespace uk
