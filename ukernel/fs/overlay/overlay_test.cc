// overlay of two tmpfs: what is seen, copied up, hidden; and that the lower tree never changes.
#include "ukernel/fs/overlay/overlay.h"

#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

class Overlay : public VfsTest {
 protected:
  ~Overlay() override {
    lower_ns.reset();
    upper_root.reset();
  }

  Ref<SuperBlock> make_root(Park& p, Ref<Inode>* root) override {
    TmpfsOptions o;
    o.mode = 0755;
    Ref<Inode> lower_root;
    Ref<SuperBlock> lower = make_tmpfs(vfs, o, &lower_root);
    lower_ns = make_ref<MountNamespace>();
    CHECK_OK(vfs.new_root(p, *lower_ns, lower, lower_root, "lower", 0));
    // The lower tree is filled through a namespace of its own.
    park = &p;
    on_lower([&] {
      CHECK_OK(mkdir("/d"));
      CHECK_OK(mkdir("/d/sub"));
      CHECK_OK(write_file("/d/f", "lower f"));
      CHECK_OK(write_file("/d/sub/deep", "deep"));
      CHECK_OK(write_file("/top", "top", 0640));
      CHECK_OK(symlink("d/f", "/l"));
      CHECK_OK(write_file("/h1", "hard"));
      CHECK_OK(link("/h1", "/h2"));
    });
    make_tmpfs(vfs, o, &upper_root);
    return CHECK_OK(make_overlay(vfs, upper_root, lower_root, root));
  }

  template <class F>
  void on_lower(F&& f) {
    Ref<MountNamespace> saved = std::exchange(ns, lower_ns);
    Path saved_cwd = std::exchange(cwd, Path());
    f();
    ns = saved;
    cwd = saved_cwd;
  }

  Ref<MountNamespace> lower_ns;
  Ref<Inode> upper_root;
};

TEST_F(Overlay, ShowsTheLowerTree) {
  run([&](Park&) {
    EXPECT_EQ(*read_file("/l"), "lower f");
    EXPECT_EQ(list("/")->size(), 5u);
    EXPECT_EQ(stat("/top")->mode & 07777u, 0640u);
    EXPECT_EQ(stat("/d/f")->dev, stat("/")->dev);
    EXPECT_EQ(mem->shmem_pages, 4u) << "reading copies nothing";
  });
}

TEST_F(Overlay, WritesCopyUpAndNumbersStay) {
  run([&](Park&) {
    uint64_t ino = stat("/d/sub/deep")->ino;
    Ref<File> before = *open("/d/sub/deep", O_RDONLY);
    EXPECT_EQ(*read_file(*before), "deep");
    EXPECT_OK(write_file("/d/sub/deep", "changed"));
    EXPECT_EQ(*read_file("/d/sub/deep"), "changed");
    EXPECT_EQ(*read_file(*before), "changed") << "descriptors opened before see it";
    EXPECT_EQ(stat("/d/sub/deep")->ino, ino);
    before.reset();
    vfs.shrink_names(true);
    EXPECT_EQ(stat("/d/sub/deep")->ino, ino) << "also when all was forgotten";
    uint64_t listed = 0;
    Ref<File> dir = *open("/d/sub", O_RDONLY | O_DIRECTORY);
    EXPECT_OK(dir->readdir(*park, [&](const DirEntry& e) {
      if (e.name == "deep") listed = e.ino;
      return true;
    }));
    EXPECT_EQ(listed, ino);
    on_lower([&] { EXPECT_EQ(*read_file("/d/sub/deep"), "deep"); });
  });
}

TEST_F(Overlay, AttributesCopyUp) {
  run([&](Park& p) {
    FileTime mtime = stat("/top")->mtime;
    sim.clock.advance(kNsPerSec);
    EXPECT_OK(vfs.chmod(p, ctx(), *walk("/top"), 0755));
    EXPECT_OK(vfs.chown(p, ctx(), *walk("/d"), 5, 6));
    EXPECT_EQ(stat("/top")->mode & 07777u, 0755u);
    EXPECT_EQ(stat("/top")->mtime, mtime);
    EXPECT_EQ(*read_file("/top"), "top");
    EXPECT_EQ(stat("/d")->uid, 5u);
    EXPECT_EQ(list("/d")->size(), 2u);
    EXPECT_OK(vfs.truncate(p, ctx(), *walk("/d/f"), 3));
    EXPECT_EQ(*read_file("/d/f"), "low");
    EXPECT_OK(vfs.setxattr(p, ctx(), *walk("/d"), "user.x", "1", 0));
    EXPECT_ERR(kNODATA, vfs.getxattr(p, ctx(), *walk("/top"), "trusted.overlay.origin"));
    EXPECT_EQ(vfs.listxattr(p, ctx(), *walk("/top"))->size(), 0u);
    on_lower([&] {
      EXPECT_EQ(stat("/top")->mode & 07777u, 0640u);
      EXPECT_EQ(*read_file("/d/f"), "lower f");
    });
  });
}

TEST_F(Overlay, RemovalHides) {
  run([&](Park& p) {
    Ref<File> open_file = *open("/top", O_RDONLY);
    EXPECT_OK(unlink("/top"));
    EXPECT_ERR(kNOENT, stat("/top"));
    EXPECT_EQ(open_file->getattr(p)->nlink, 0u);
    EXPECT_EQ(*read_file(*open_file), "top");
    EXPECT_ERR(kNOTEMPTY, rmdir("/d/sub"));
    EXPECT_OK(unlink("/d/sub/deep"));
    EXPECT_EQ(list("/d/sub")->size(), 0u);
    EXPECT_OK(rmdir("/d/sub"));
    EXPECT_EQ(list("/d")->size(), 1u);
    // A new directory does not show the old one's contents.
    EXPECT_OK(mkdir("/d/sub"));
    EXPECT_EQ(list("/d/sub")->size(), 0u);
    vfs.shrink_names(true);
    EXPECT_EQ(list("/d/sub")->size(), 0u);
    EXPECT_OK(write_file("/top", "again"));
    EXPECT_EQ(*read_file("/top"), "again");
    EXPECT_OK(unlink("/top"));
    vfs.shrink_names(true);
    EXPECT_ERR(kNOENT, stat("/top"));
    EXPECT_ERR(kPERM, vfs.mknod(p, ctx(), {}, "/white", S_IFCHR, 0));
    on_lower([&] { EXPECT_EQ(*read_file("/top"), "top"); });
  });
}

TEST_F(Overlay, Renames) {
  run([&](Park&) {
    EXPECT_ERR(kXDEV, rename("/d", "/e"));
    EXPECT_OK(rename("/d/f", "/g"));
    EXPECT_ERR(kNOENT, stat("/d/f"));
    EXPECT_EQ(*read_file("/g"), "lower f");
    EXPECT_OK(rename("/g", "/top"));
    EXPECT_EQ(*read_file("/top"), "lower f");
    EXPECT_OK(mkdir("/own"));
    EXPECT_OK(write_file("/own/x", "x"));
    EXPECT_OK(rename("/own", "/mine"));
    EXPECT_EQ(*read_file("/mine/x"), "x");
    // Over a directory that exists below: nothing of it shows through.
    EXPECT_OK(unlink("/d/sub/deep"));
    EXPECT_OK(rename("/mine", "/d/sub"));
    vfs.shrink_names(true);
    EXPECT_EQ(list("/d/sub")->size(), 1u);
    EXPECT_OK(write_file("/a", "a"));
    EXPECT_OK(rename("/a", "/h1", 2));
    EXPECT_EQ(*read_file("/h1"), "a");
    EXPECT_EQ(*read_file("/a"), "hard");
    on_lower([&] { EXPECT_EQ(*read_file("/d/f"), "lower f"); });
  });
}

TEST_F(Overlay, HardLinksPartWhenCopiedUp) {
  run([&](Park&) {
    EXPECT_EQ(stat("/h1")->ino, stat("/h2")->ino);
    EXPECT_OK(write_file("/h1", "new"));
    EXPECT_EQ(*read_file("/h2"), "hard");
    EXPECT_OK(link("/d/f", "/f2"));
    EXPECT_OK(write_file("/f2", "both"));
    EXPECT_EQ(*read_file("/d/f"), "both");
    EXPECT_EQ(stat("/f2")->nlink, 2u);
  });
}

TEST_F(Overlay, UnnamedFiles) {
  run([&](Park& p) {
    Ref<File> t = *open("/d", O_TMPFILE | O_RDWR, 0600);
    EXPECT_EQ(t->getattr(p)->nlink, 0u);
    EXPECT_OK(vfs.link(p, ctx(), t->path(), {}, "/d/named"));
    EXPECT_EQ(stat("/d/named")->nlink, 1u);
    EXPECT_EQ(list("/d")->size(), 3u);
  });
}

}  // namespace
}  // namespace uk
