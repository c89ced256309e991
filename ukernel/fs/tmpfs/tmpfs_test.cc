// tmpfs contents: sparse files, holes, limits, seals, attributes, directories being read while they
// change.
#include <linux/falloc.h>
#include <unistd.h>

#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

class Tmpfs : public VfsTest {
 protected:
  Result<size_t> put(File& f, std::string_view text, uint64_t at) {
    BufferSource from(std::as_bytes(std::span(text.data(), text.size())));
    return f.write(*park, from, at);
  }
};

TEST_F(Tmpfs, SparseFiles) {
  run([&](Park& p) {
    Ref<File> f = *open("/f", O_RDWR | O_CREAT);
    EXPECT_EQ(*put(*f, "end", 1 << 20), 3u);
    EXPECT_EQ(f->getattr(p)->size, (1u << 20) + 3);
    EXPECT_EQ(f->getattr(p)->blocks, 8u);
    EXPECT_EQ(*f->seek(p, 0, SEEK_DATA), 1u << 20);
    EXPECT_EQ(*f->seek(p, 0, SEEK_HOLE), 0u);
    EXPECT_EQ(*f->seek(p, 1 << 20, SEEK_HOLE), (1u << 20) + 3);
    EXPECT_ERR(kNXIO, f->seek(p, 2 << 20, SEEK_DATA));
    EXPECT_OK(f->fallocate(p, 0, 0, 8192));
    EXPECT_EQ(f->getattr(p)->blocks, 24u);
    EXPECT_OK(f->fallocate(p, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    EXPECT_EQ(*f->seek(p, 0, SEEK_DATA), 1u << 20);  // the page that is left is room only
    EXPECT_OK(f->truncate(p, 5));
    EXPECT_EQ(*read_file(*f), std::string(5, '\0'));
    EXPECT_EQ(*f->seek(p, -2, SEEK_END), 3u);
    EXPECT_ERR(kINVAL, f->seek(p, -6, SEEK_END));
    EXPECT_ERR(kFBIG, put(*f, "x", INT64_MAX - 1));
  });
}

TEST_F(Tmpfs, AppendsAndDropsPrivilege) {
  run([&](Park& p) {
    EXPECT_OK(write_file("/f", "one"));
    EXPECT_OK(vfs.chown(p, ctx(), *walk("/f"), 1000, 1000));
    EXPECT_OK(vfs.chmod(p, ctx(), *walk("/f"), 04755));
    cred = user_cred.get();
    Ref<File> f = *open("/f", O_WRONLY | O_APPEND);
    EXPECT_EQ(*put(*f, "two", 0), 3u);
    EXPECT_EQ(*read_file("/f"), "onetwo");
    EXPECT_EQ(stat("/f")->mode & 07777u, 0755u);
  });
}

TEST_F(Tmpfs, ReaddirPositionsSurviveChanges) {
  run([&](Park& p) {
    for (int i = 0; i < 10; ++i) EXPECT_OK(write_file("/f" + std::to_string(i), "x"));
    Ref<File> d = *open("/", O_RDONLY | O_DIRECTORY);
    std::vector<std::string> seen;
    size_t budget = 6;  // with the dots
    auto visit = [&](const DirEntry& e) {
      if (seen.size() == budget) return false;
      seen.emplace_back(e.name);
      return true;
    };
    EXPECT_OK(d->readdir(p, visit));
    EXPECT_EQ(seen.size(), 6u);
    EXPECT_OK(unlink("/f0"));
    EXPECT_OK(unlink("/f9"));
    budget = 100;
    EXPECT_OK(d->readdir(p, visit));
    EXPECT_EQ(seen, (std::vector<std::string>{".", "..", "f0", "f1", "f2", "f3", "f4", "f5", "f6",
                                              "f7", "f8"}));
    EXPECT_OK(d->seek(p, 0, SEEK_SET));
    seen.clear();
    EXPECT_OK(d->readdir(p, visit));
    EXPECT_EQ(seen.size(), 10u);
  });
}

TEST_F(Tmpfs, Limits) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/m"));
    EXPECT_OK(vfs.mount(p, ctx(), *walk("/m"), "tmpfs", "t", "size=8k,nr_inodes=3,mode=700", 0));
    EXPECT_EQ(stat("/m")->mode & 07777u, 0700u);
    Ref<File> f = *open("/m/f", O_RDWR | O_CREAT);
    EXPECT_EQ(*put(*f, std::string(10000, 'x'), 0), 8192u);
    EXPECT_ERR(kNOSPC, put(*f, "x", 8192));
    EXPECT_OK(mkdir("/m/d"));
    EXPECT_ERR(kNOSPC, mkdir("/m/e"));
    FsStat st = *walk("/m")->mount->sb->statfs(p);
    EXPECT_EQ(st.blocks, 2u);
    EXPECT_EQ(st.blocks_free, 0u);
    EXPECT_EQ(st.files_free, 0u);
    EXPECT_EQ(walk("/m")->mount->sb->options(), "size=8k,nr_inodes=3,mode=700");
  });
}

TEST_F(Tmpfs, Seals) {
  run([&](Park& p) {
    Ref<File> f = *vfs.memory_file(p, *cred, "/memfd:x", 0777);
    EXPECT_ERR(kPERM, f->inode()->add_seals(2));
    f->inode()->allow_sealing();
    EXPECT_EQ(*put(*f, "abc", 0), 3u);
    EXPECT_OK(f->inode()->add_seals(2 | 4));
    EXPECT_ERR(kPERM, f->truncate(p, 1));
    EXPECT_ERR(kPERM, f->truncate(p, 10));
    EXPECT_ERR(kPERM, put(*f, "long", 1));
    EXPECT_EQ(*put(*f, "z", 1), 1u);
    EXPECT_OK(f->inode()->add_seals(8 | 1));
    EXPECT_ERR(kPERM, put(*f, "z", 1));
    EXPECT_ERR(kPERM, f->inode()->add_seals(2));
    EXPECT_EQ(*f->inode()->seals(), 15u);
  });
}

TEST_F(Tmpfs, ExtendedAttributes) {
  run([&](Park& p) {
    EXPECT_OK(write_file("/f", "x"));
    Path f = *walk("/f");
    EXPECT_ERR(kNODATA, vfs.getxattr(p, ctx(), f, "user.a"));
    EXPECT_OK(vfs.setxattr(p, ctx(), f, "user.a", "1", 0));
    EXPECT_ERR(kEXIST, vfs.setxattr(p, ctx(), f, "user.a", "1", 1));
    EXPECT_ERR(kNODATA, vfs.setxattr(p, ctx(), f, "user.b", "1", 2));
    EXPECT_ERR(kOPNOTSUPP, vfs.setxattr(p, ctx(), f, "odd.b", "1", 0));
    EXPECT_OK(vfs.setxattr(p, ctx(), f, "trusted.t", "2", 0));
    EXPECT_EQ(*vfs.getxattr(p, ctx(), f, "trusted.t"), "2");
    cred = user_cred.get();
    EXPECT_ERR(kNODATA, vfs.getxattr(p, ctx(), f, "trusted.t"));
    EXPECT_ERR(kPERM, vfs.setxattr(p, ctx(), f, "trusted.t", "2", 0));
    EXPECT_ERR(kACCES, vfs.setxattr(p, ctx(), f, "user.a", "2", 0));
    EXPECT_EQ(vfs.listxattr(p, ctx(), f)->size(), 1u);
    cred = root_cred.get();
    EXPECT_OK(vfs.removexattr(p, ctx(), f, "user.a"));
    EXPECT_ERR(kNOSPC, vfs.setxattr(p, ctx(), f, "user.big", std::string(64 << 20, 'x'), 0));
  });
}

TEST_F(Tmpfs, RelativeAccessTime) {
  run([&](Park&) {
    EXPECT_OK(write_file("/f", "x"));
    sim.clock.advance(kNsPerSec);
    FileTime born = stat("/f")->atime;
    EXPECT_OK(read_file("/f"));
    FileTime first = stat("/f")->atime;
    EXPECT_NE(first, born);
    sim.clock.advance(kNsPerSec);
    EXPECT_OK(read_file("/f"));
    EXPECT_EQ(stat("/f")->atime, first) << "newer than mtime: not again before a day";
  });
}

}  // namespace
}  // namespace uk
