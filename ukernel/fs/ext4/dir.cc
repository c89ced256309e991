// ext4: directories: names come, go and move.
#include <stdio.h>

#include <algorithm>
#include <cstring>

#include "ukernel/fs/ext4/ext4_inode.h"
#include "ukernel/vfs/dir_file.h"

namespace uk::ext4 {
namespace {

constexpr uint32_t kRenameExchange = 2, kRenameWhiteout = 4;

class Ext4DirFile final : public SnapshotDirFile {
 public:
  using SnapshotDirFile::SnapshotDirFile;
  Result<> fsync(Park& park, bool) override {
    Ref<Inode> keep(inode());
    return dir().super().commit(park);
  }

 protected:
  Result<std::vector<Entry>> load(Park& park) override {
    Ref<Inode> keep(inode());
    Ext4Super& sb = dir().super();
    if (!sb.read_only && sb.vfs.wants_atime(path(), flags, dir().attr()))
      dir().set_atime(sb.vfs.now());
    std::vector<Entry> all;
    bool too_many = false;
    TRY(sb.look(park, [&] {
      return dir().entries().list(park, [&](const Directory::Entry& e) {
        constexpr uint8_t kTypes[] = {DT_UNKNOWN, DT_REG,  DT_DIR,  DT_CHR,
                                      DT_BLK,     DT_FIFO, DT_SOCK, DT_LNK};
        all.push_back({std::string(e.name), e.ino, e.type < 8 ? kTypes[e.type] : uint8_t{0}});
        too_many = all.size() >= kMaxEntries;
        return !too_many;
      });
    }));
    if (too_many) return Err(Errno::kFBIG);
    return all;
  }

 private:
  Ext4Dir& dir() const { return static_cast<Ext4Dir&>(*inode()); }
};

}  // namespace

Result<Ref<Inode>> Ext4Dir::lookup(Park& park, std::string_view name) {
  return super().look(park, [&]() -> Result<Ref<Inode>> {
    const uint32_t number = TRY(entries().find(park, name));
    // A directory cannot be in itself; deeper loops the vfs would walk for ever.
    if (number == ino || number == EXT2_ROOT_INO) return Err(Errno::kUCLEAN);
    Ref<Ext4Inode> found = TRY(super().inode_locked(park, number));
    return Ref<Inode>(std::move(found));
  });
}

Result<Ref<File>> Ext4Dir::open(Park&, const Path& path, int flags, const Cred&) {
  return Ref<File>(make_ref<Ext4DirFile>(path, flags));
}

// A new inode without a name.
Result<Ref<Ext4Inode>> Ext4Dir::make(Park& park, const MakeNode& node) {
  const bool dir = (node.mode & S_IFMT) == S_IFDIR;
  const uint32_t number = TRY(volume().allocator().new_inode(park, ino, dir));
  if (super().inodes.contains(number)) return Err(Errno::kUCLEAN);  // in use, whatever its bit says
  const uint32_t size = volume().inode_size();
  auto bytes = std::make_unique<std::byte[]>(std::max<size_t>(size, sizeof(ext2_inode_large)));
  auto& raw = *reinterpret_cast<ext2_inode_large*>(bytes.get());
  raw.i_mode = static_cast<uint16_t>(node.mode);
  if (size > EXT2_GOOD_OLD_INODE_SIZE) {
    const uint32_t most = size - EXT2_GOOD_OLD_INODE_SIZE;
    raw.i_extra_isize = static_cast<uint16_t>(
        std::min<uint32_t>(most, sizeof(ext2_inode_large) - EXT2_GOOD_OLD_INODE_SIZE));
  }
  const FileTime now = super().vfs.now();
  raw.i_generation = (number * 2654435761u) ^ now.nsec ^ static_cast<uint32_t>(now.sec << 8);
  // Flags that new files have from their directory.
  raw.i_flags = this->raw().i_flags & (EXT2_NODUMP_FL | EXT2_NOATIME_FL | EXT2_SYNC_FL);
  const uint32_t type = node.mode & S_IFMT;
  const bool fast_link = type == S_IFLNK && node.symlink_target.size() < sizeof raw.i_block;
  if (type == S_IFREG || dir || (type == S_IFLNK && !fast_link)) ExtentTree::make_empty(raw);
  if (fast_link) std::memcpy(raw.i_block, node.symlink_target.data(), node.symlink_target.size());
  if (type == S_IFCHR || type == S_IFBLK) {
    const uint32_t major = dev_major(node.rdev), minor = dev_minor(node.rdev);
    if (major < 256 && minor < 256) {
      raw.i_block[0] = major << 8 | minor;
    } else {
      raw.i_block[1] = (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
    }
  }
  raw.i_links_count = dir ? 2 : 1;
  Ref<Ext4Inode> inode = new_ext4_inode(Ref<Ext4Super>(&super()), number, std::move(bytes));
  inode->set_owner(node.uid, node.gid);
  inode->set_born(now);
  inode->changed();
  Result<> r;
  if (dir) {
    Ext4Dir& d = static_cast<Ext4Dir&>(*inode);
    if (Result<uint32_t> block = d.append_block(park); !block) {
      r = Err(block.error());
    } else {
      r = d.entries().make(park, number, ino);
    }
  } else if (type == S_IFLNK) {
    if (!fast_link && node.symlink_target.size() >= volume().block_size()) {
      r = Err(Errno::kNAMETOOLONG);
    } else if (!fast_link) {
      Result<uint64_t> block = inode->append_metadata_block(park, 0);
      if (block) {
        Ref<MetaBlock> b = volume().cache().fresh(*block);
        std::memcpy(b->bytes().data(), node.symlink_target.data(), node.symlink_target.size());
      } else {
        r = Err(block.error());
      }
    }
    if (r) inode->set_size(node.symlink_target.size());
  }
  if (!r) {
    TRY(inode->drop_link(park, /*all=*/true));
    return Err(r.error());
  }
  return inode;
}

Result<Ref<Inode>> Ext4Dir::create(Park& park, std::string_view name, const MakeNode& node) {
  return super().change(park, [&]() -> Result<Ref<Inode>> {
    const bool dir = (node.mode & S_IFMT) == S_IFDIR;
    if (dir && nlink() >= 65000 && !ext2fs_has_feature_dir_nlink(&volume().super()))
      return Err(Errno::kMLINK);
    Ref<Ext4Inode> inode = TRY(make(park, node));
    if (Result<> r = entries().add(park, name, inode->ino, entry_type(node.mode)); !r) {
      TRY(inode->drop_link(park, /*all=*/true));
      return Err(r.error());
    }
    if (dir) add_links(1);
    touch(true, true);
    return Ref<Inode>(std::move(inode));
  });
}

Result<Ref<Inode>> Ext4Dir::tmpfile(Park& park, const MakeNode& node) {
  return super().change(park, [&]() -> Result<Ref<Inode>> {
    Ref<Ext4Inode> inode = TRY(make(park, node));
    TRY(inode->drop_link(park, /*all=*/true));
    return Ref<Inode>(std::move(inode));
  });
}

Result<> Ext4Dir::link(Park& park, std::string_view name, Inode& target) {
  auto& inode = static_cast<Ext4Inode&>(target);
  return super().change(park, [&]() -> Result<> {
    TRY(entries().add(park, name, inode.ino, entry_type(inode.raw().i_mode)));
    TRY(inode.revive(park));
    inode.add_links(1);
    inode.touch(false, true);
    touch(true, true);
    return {};
  });
}

Result<> Ext4Dir::unlink(Park& park, std::string_view name, Inode& victim) {
  auto& inode = static_cast<Ext4Inode&>(victim);
  return super().change(park, [&]() -> Result<> {
    if (TRY(entries().find(park, name)) != inode.ino) return Err(Errno::kUCLEAN);
    TRY(entries().remove(park, name));
    touch(true, true);
    return inode.drop_link(park);
  });
}

Result<> Ext4Dir::rmdir(Park& park, std::string_view name, Inode& victim) {
  auto& dir = static_cast<Ext4Dir&>(victim);
  return super().change(park, [&]() -> Result<> {
    if (!TRY(dir.entries().empty(park))) return Err(Errno::kNOTEMPTY);
    if (TRY(entries().find(park, name)) != dir.ino) return Err(Errno::kUCLEAN);
    TRY(entries().remove(park, name));
    add_links(-1);
    touch(true, true);
    return dir.drop_link(park, /*all=*/true);
  });
}

Result<> Ext4Dir::rename(Park& park, std::string_view old_name, Inode& moved, Inode& new_dir,
                         std::string_view new_name, Inode* replaced, uint32_t flags) {
  auto& to = static_cast<Ext4Dir&>(new_dir);
  auto& inode = static_cast<Ext4Inode&>(moved);
  auto* other = static_cast<Ext4Inode*>(replaced);
  return super().change(park, [&]() -> Result<> {
    if ((flags & kRenameExchange) != 0)
      return exchange(park, old_name, inode, to, new_name, *other);
    return rename_locked(park, old_name, inode, to, new_name, other, flags);
  });
}

// The new name first: what can fail for want of space comes before the old one goes.
Result<> Ext4Dir::rename_locked(Park& park, std::string_view old_name, Ext4Inode& moved,
                                Ext4Dir& to, std::string_view new_name, Ext4Inode* replaced,
                                uint32_t flags) {
  const bool dir = moved.type() == S_IFDIR;
  if (TRY(entries().find(park, old_name)) != moved.ino) return Err(Errno::kUCLEAN);
  if (replaced != nullptr && replaced->type() == S_IFDIR &&
      !TRY(static_cast<Ext4Dir*>(replaced)->entries().empty(park)))
    return Err(Errno::kNOTEMPTY);
  Ref<Ext4Inode> whiteout;
  if ((flags & kRenameWhiteout) != 0) {
    MakeNode node;
    node.mode = S_IFCHR;
    whiteout = TRY(make(park, node));
  }
  const uint8_t type = entry_type(moved.raw().i_mode);
  Result<> r = replaced != nullptr ? to.entries().replace(park, new_name, moved.ino, type)
                                   : to.entries().add(park, new_name, moved.ino, type);
  if (!r) {
    if (whiteout != nullptr) TRY(whiteout->drop_link(park, /*all=*/true));
    return r;
  }
  if (whiteout != nullptr) {
    TRY(entries().replace(park, old_name, whiteout->ino, entry_type(S_IFCHR)));
  } else {
    TRY(entries().remove(park, old_name));
  }
  if (dir && &to != this) {
    TRY(static_cast<Ext4Dir&>(moved).entries().set_parent(park, to.ino));
    add_links(-1);
    if (replaced == nullptr) to.add_links(1);
  } else if (dir && replaced != nullptr) {
    add_links(-1);
  }
  touch(true, true);
  if (&to != this) to.touch(true, true);
  moved.touch(false, true);
  return replaced == nullptr ? Result<>() : replaced->drop_link(park, replaced->type() == S_IFDIR);
}

Result<> Ext4Dir::exchange(Park& park, std::string_view old_name, Ext4Inode& moved, Ext4Dir& to,
                           std::string_view new_name, Ext4Inode& other) {
  if (TRY(entries().find(park, old_name)) != moved.ino ||
      TRY(to.entries().find(park, new_name)) != other.ino)
    return Err(Errno::kUCLEAN);
  TRY(entries().replace(park, old_name, other.ino, entry_type(other.raw().i_mode)));
  TRY(to.entries().replace(park, new_name, moved.ino, entry_type(moved.raw().i_mode)));
  if (&to != this) {
    if (moved.type() == S_IFDIR) {
      TRY(static_cast<Ext4Dir&>(moved).entries().set_parent(park, to.ino));
      add_links(-1);
      to.add_links(1);
    }
    if (other.type() == S_IFDIR) {
      TRY(static_cast<Ext4Dir&>(other).entries().set_parent(park, ino));
      to.add_links(-1);
      add_links(1);
    }
    to.touch(true, true);
  }
  touch(true, true);
  moved.touch(false, true);
  other.touch(false, true);
  return {};
}

}  // namespace uk::ext4
