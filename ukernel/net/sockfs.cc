#include "ukernel/net/sockfs.h"

#include <sys/stat.h>

#include <cstring>
#include <string>
#include <vector>

#include "ukernel/vfs/vfs.h"

namespace uk {
namespace {

class SocketInode final : public Inode {
 public:
  SocketInode(Ref<SuperBlock> sb, uint64_t ino, const Cred& cred, FileTime now,
              const char* protocol)
      : Inode(std::move(sb)), protocol_(protocol) {
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

  Result<std::string> getxattr(Park&, std::string_view name) override {
    if (name != kProtocolName) return Err(Errno::kOPNOTSUPP);
    return std::string(protocol_, strlen(protocol_) + 1);
  }
  Result<std::vector<std::string>> listxattr(Park&) override {
    return std::vector<std::string>{kProtocolName};
  }

 private:
  static constexpr const char* kProtocolName = "system.sockprotoname";
  const char* protocol_;
  FileAttr attr_;
};

}  // namespace

Path make_socket_path(Ref<SuperBlock> sockfs, uint64_t ino, const Cred& cred, FileTime now,
                      const char* protocol) {
  auto inode = make_ref<SocketInode>(std::move(sockfs), ino, cred, now, protocol);
  return Path(nullptr, make_ref<Dentry>(nullptr, "socket:[" + std::to_string(ino) + "]", inode));
}

}  // namespace uk
