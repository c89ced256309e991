// ext4 on images of mke2fs: what is written is there after the next mount, and e2fsck finds nothing
// to complain about.
#include <linux/falloc.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <map>
#include <random>

#include "ukernel/fs/ext4/test_kit.h"
#include "ukernel/vfs/acl.h"

namespace uk {
namespace {

class Ext4 : public Ext4Test {};

std::string text_of(size_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::string s(n, '\0');
  for (char& c : s) c = static_cast<char>('a' + random() % 26);
  return s;
}

// Long texts; a difference is shown by its place.
void expect_same(const std::string& got, const std::string& want) {
  if (got == want) return;
  const size_t at = static_cast<size_t>(
      std::mismatch(got.begin(),
                    got.begin() + static_cast<ptrdiff_t>(std::min(got.size(), want.size())),
                    want.begin())
          .first -
      got.begin());
  ADD_FAILURE() << "lengths " << got.size() << " and " << want.size() << ", different at " << at
                << ": <" << got.substr(at, 20) << ">, <" << want.substr(at, 20) << ">";
}

TEST_F(Ext4, ReadsWhatMke2fsMade) {
  const std::string dir = temp("tree");
  int status = 0;
  const std::string big = text_of(300'000, 1);
  shell("rm -rf " + dir + " && mkdir -p " + dir + "/d/e && echo hello >" + dir +
            "/f && ln -s d/e " + dir + "/short && ln -s $(head -c 200 /dev/zero | tr '\\0' x) " +
            dir + "/long",
        &status);
  std::ofstream(dir + "/d/big", std::ios::binary) << big;
  for (int i = 0; i < 300; ++i) std::ofstream(dir + "/d/e/name" + std::to_string(i)) << i;
  for (const char* options : {"-b 4096", "-b 1024", "-b 2048 -O ^metadata_csum"}) {
    std::string image = make_image("16M", std::string(options) + " -d " + dir);
    const std::string before = image;
    with_mounted(
        image,
        [&](Park&) {
          EXPECT_EQ(*read_file("/mnt/f"), "hello\n");
          expect_same(*read_file("/mnt/d/big"), big);
          EXPECT_EQ(list("/mnt/d/e")->size(), 300u);
          EXPECT_EQ(*read_file("/mnt/short/name299"), "299");
          EXPECT_EQ(*vfs.readlink(*park, *walk("/mnt/long", 0)), std::string(200, 'x'));
          EXPECT_ERR(kNOENT, walk("/mnt/none"));
          EXPECT_ERR(kROFS, write_file("/mnt/new", "x"));
          EXPECT_EQ(stat("/mnt/d")->nlink, 3u);
        },
        kMntRdonly);
    EXPECT_TRUE(image == before) << "a read-only mount wrote";
  }
}

TEST_F(Ext4, ChangesStay) {
  for (const char* options : {"-b 4096", "-b 1024", "-b 4096 -O ^metadata_csum,^64bit -I 128"}) {
    SCOPED_TRACE(options);
    std::string image = make_image("16M", options);
    const std::string text = text_of(1'000'000, 2);
    with_mounted(image, [&](Park& p) {
      EXPECT_OK(mkdir("/mnt/dir", 0750));
      EXPECT_OK(write_file("/mnt/dir/file", text, 0640));
      EXPECT_OK(write_file("/mnt/dir/small", "x"));
      EXPECT_OK(link("/mnt/dir/small", "/mnt/linked"));
      EXPECT_EQ(stat("/mnt/linked")->nlink, 2u);
      EXPECT_OK(symlink("target", "/mnt/symlink"));
      EXPECT_OK(symlink(std::string(100, 'y'), "/mnt/long"));
      EXPECT_OK(vfs.mknod(p, ctx(), {}, "/mnt/dev", S_IFCHR | 0600, make_dev(1, 3)));
      EXPECT_OK(vfs.mknod(p, ctx(), {}, "/mnt/dev2", S_IFBLK | 0600, make_dev(300, 70000)));
      EXPECT_OK(vfs.mknod(p, ctx(), {}, "/mnt/fifo", S_IFIFO | 0600, 0));
      EXPECT_OK(vfs.chown(p, ctx(), *walk("/mnt/linked"), 70000, 70001));
      EXPECT_OK(vfs.chmod(p, ctx(), *walk("/mnt/linked"), 04711));
      Vfs::SetTimes times;
      times.mtime = FileTime{5'000'000'000, 123};
      EXPECT_OK(vfs.utimens(p, ctx(), *walk("/mnt/dir/file"), times));
      EXPECT_OK(write_file("/mnt/gone", "abc"));
      EXPECT_OK(unlink("/mnt/gone"));
      EXPECT_OK(mkdir("/mnt/gone"));
      EXPECT_OK(rmdir("/mnt/gone"));
      EXPECT_ERR(kNOTEMPTY, rmdir("/mnt/dir"));
      EXPECT_OK(rename("/mnt/symlink", "/mnt/dir/moved"));
    });
    EXPECT_EQ(complaints(image), "");
    with_mounted(image, [&](Park& p) {
      expect_same(*read_file("/mnt/dir/file"), text);
      EXPECT_EQ(stat("/mnt/dir")->mode, S_IFDIR | 0750u);
      EXPECT_EQ(stat("/mnt/dir/file")->mode, S_IFREG | 0640u);
      const bool narrow = std::string(options).find("128") != std::string::npos;
      EXPECT_EQ(stat("/mnt/dir/file")->mtime.sec, narrow ? INT32_MAX : 5'000'000'000);
      EXPECT_EQ(stat("/mnt/dir/file")->mtime.nsec, narrow ? 0u : 123u);
      EXPECT_EQ(stat("/mnt/linked")->ino, stat("/mnt/dir/small")->ino);
      EXPECT_EQ(stat("/mnt/linked")->uid, 70000u);
      EXPECT_EQ(stat("/mnt/linked")->gid, 70001u);
      EXPECT_EQ(stat("/mnt/linked")->mode, S_IFREG | 04711u);
      EXPECT_EQ(stat("/mnt/dev")->rdev, make_dev(1, 3));
      EXPECT_EQ(stat("/mnt/dev2")->rdev, make_dev(300, 70000));
      EXPECT_EQ(*vfs.readlink(p, *walk("/mnt/dir/moved", 0)), "target");
      EXPECT_EQ(*vfs.readlink(p, *walk("/mnt/long", 0)), std::string(100, 'y'));
      EXPECT_EQ(list("/mnt")->size(), 7u);  // with lost+found
    });
  }
}

TEST_F(Ext4, DirectoriesGrowIntoTrees) {
  for (const char* options : {"-b 1024 -N 20000", "-b 4096 -N 20000 -O ^metadata_csum"}) {
    SCOPED_TRACE(options);
    std::string image = make_image("64M", options);
    constexpr int kNames = 9000;
    auto name_of = [](int i) { return "/mnt/d/some-longer-name-" + std::to_string(i); };
    with_mounted(image, [&](Park& p) {
      EXPECT_OK(mkdir("/mnt/d"));
      for (int i = 0; i < kNames; ++i)
        EXPECT_OK(vfs.mknod(p, ctx(), {}, name_of(i), S_IFREG | 0644, 0));
      EXPECT_EQ(list("/mnt/d")->size(), size_t{kNames});
      for (int i = 0; i < kNames; i += 3) EXPECT_OK(unlink(name_of(i)));
    });
    EXPECT_EQ(complaints(image), "");
    with_mounted(image, [&](Park& p) {
      for (int i = 0; i < kNames; ++i) EXPECT_EQ(walk(name_of(i)).has_value(), i % 3 != 0) << i;
      for (int i = 0; i < kNames; i += 3)
        EXPECT_OK(vfs.mknod(p, ctx(), {}, name_of(i), S_IFREG | 0644, 0));
      EXPECT_EQ(list("/mnt/d")->size(), size_t{kNames});
      for (int i = 0; i < kNames; ++i) EXPECT_OK(unlink(name_of(i)));
      EXPECT_OK(rmdir("/mnt/d"));
    });
    EXPECT_EQ(complaints(image), "");
  }
}

TEST_F(Ext4, Renames) {
  std::string image = make_image("8M");
  with_mounted(image, [&](Park&) {
    EXPECT_OK(mkdir("/mnt/a"));
    EXPECT_OK(mkdir("/mnt/b"));
    EXPECT_OK(mkdir("/mnt/a/d"));
    EXPECT_OK(write_file("/mnt/a/f", "f"));
    EXPECT_OK(write_file("/mnt/b/g", "g"));
    EXPECT_OK(rename("/mnt/a/d", "/mnt/b/d"));
    EXPECT_EQ(stat("/mnt/a")->nlink, 2u);
    EXPECT_EQ(stat("/mnt/b")->nlink, 3u);
    EXPECT_OK(rename("/mnt/a/f", "/mnt/b/g"));
    EXPECT_EQ(*read_file("/mnt/b/g"), "f");
    EXPECT_OK(mkdir("/mnt/a/x"));
    EXPECT_OK(rename("/mnt/a/x", "/mnt/b/d"));  // over an empty one
    EXPECT_EQ(stat("/mnt/b")->nlink, 3u);
    EXPECT_OK(write_file("/mnt/a/h", "h"));
    EXPECT_OK(rename("/mnt/a/h", "/mnt/b/d", 2));  // exchange
    EXPECT_EQ(*read_file("/mnt/b/d"), "h");
    EXPECT_EQ(stat("/mnt/a")->nlink, 3u);
    EXPECT_EQ(stat("/mnt/b")->nlink, 2u);
    EXPECT_OK(rename("/mnt/b/d", "/mnt/b/e", 4));  // whiteout
    EXPECT_EQ(stat("/mnt/b/d")->mode & S_IFMT, uint32_t{S_IFCHR});
  });
  EXPECT_EQ(complaints(image), "");
}

TEST_F(Ext4, OrphansAndFilesWithoutNames) {
  std::string image = make_image("8M");
  with_mounted(image, [&](Park& p) {
    const FsStat before = *walk("/mnt")->mount->sb->statfs(p);
    Ref<File> f = *open("/mnt/f", O_RDWR | O_CREAT);
    EXPECT_EQ(*put(*f, text_of(100'000, 3), 0), 100'000u);
    EXPECT_OK(f->fsync(p, false));
    EXPECT_OK(unlink("/mnt/f"));
    EXPECT_OK(walk("/mnt")->mount->sb->sync(p));
    EXPECT_EQ(complaints(image), "") << "open, without a name";
    EXPECT_EQ(*put(*f, text_of(100'000, 4), 100'000), 100'000u);
    EXPECT_OK(f->fsync(p, false));
    expect_same(*read_file(*f), text_of(100'000, 3) + text_of(100'000, 4));
    EXPECT_OK(f->truncate(p, 50'000));
    EXPECT_EQ(complaints(image), "");
    f.reset();
    EXPECT_OK(walk("/mnt")->mount->sb->sync(p));
    const FsStat after = *walk("/mnt")->mount->sb->statfs(p);
    EXPECT_EQ(after.blocks_free, before.blocks_free);
    EXPECT_EQ(after.files_free, before.files_free);

    Ref<File> t = *vfs.open(p, ctx(), {}, "/mnt", OpenRequest{O_TMPFILE | O_RDWR, 0600, 0});
    EXPECT_EQ(*put(*t, text_of(200'000, 5), 0), 200'000u);
    EXPECT_OK(t->fsync(p, false));
    EXPECT_EQ(complaints(image), "");
    EXPECT_OK(vfs.link(p, ctx(), t->path(), {}, "/mnt/named"));
    EXPECT_OK(t->fsync(p, false));
  });
  EXPECT_EQ(complaints(image), "");
  with_mounted(image, [&](Park&) { expect_same(*read_file("/mnt/named"), text_of(200'000, 5)); });
}

TEST_F(Ext4, ExtendedAttributes) {
  for (const char* options : {"", "-I 128"}) {
    std::string image = make_image("8M", options);
    std::string big = text_of(700, 6);
    auto set = [&](std::string_view file, std::string_view key, std::string_view value) {
      return vfs.setxattr(*park, ctx(), *walk(file), key, value, 0);
    };
    auto get = [&](std::string_view file, std::string_view key) {
      return vfs.getxattr(*park, ctx(), *walk(file), key);
    };
    PosixAcl::Entry entries[] = {
        {1, 6, ~0u}, {2, 4, 1000}, {4, 4, ~0u}, {16, 4, ~0u}, {32, 0, ~0u}};
    std::string acl("\x02\0\0\0", 4);
    for (const auto& e : entries) {
      acl.append(reinterpret_cast<const char*>(&e.tag), 2);
      acl.append(reinterpret_cast<const char*>(&e.perm), 2);
      acl.append(reinterpret_cast<const char*>(&e.id), 4);
    }
    with_mounted(image, [&](Park& p) {
      EXPECT_OK(write_file("/mnt/f", "x"));
      EXPECT_OK(set("/mnt/f", "user.small", "1"));
      EXPECT_OK(set("/mnt/f", "user.empty", ""));
      EXPECT_OK(set("/mnt/f", "trusted.big", big));
      EXPECT_OK(set("/mnt/f", "security.x", "label"));
      EXPECT_OK(set("/mnt/f", "user.small", "22222"));
      EXPECT_ERR(kNOSPC, set("/mnt/f", "user.huge", std::string(10'000, 'x')));
      EXPECT_ERR(kNODATA, get("/mnt/f", "user.none"));
      EXPECT_OK(set("/mnt/f", "user.gone", "x"));
      EXPECT_OK(vfs.removexattr(p, ctx(), *walk("/mnt/f"), "user.gone"));
      EXPECT_OK(set("/mnt/f", kAclAccess, acl));
      EXPECT_OK(write_file("/mnt/all", "x"));
      EXPECT_OK(set("/mnt/all", "user.big", big));
      EXPECT_OK(vfs.removexattr(p, ctx(), *walk("/mnt/all"), "user.big"));
      EXPECT_OK(write_file("/mnt/unlinked", "x"));
      EXPECT_OK(set("/mnt/unlinked", "user.big", big));
      EXPECT_OK(unlink("/mnt/unlinked"));
    });
    EXPECT_EQ(complaints(image), "");
    with_mounted(image, [&](Park& p) {
      EXPECT_EQ(*get("/mnt/f", "user.small"), "22222");
      EXPECT_EQ(*get("/mnt/f", "user.empty"), "");
      EXPECT_EQ(*get("/mnt/f", "trusted.big"), big);
      EXPECT_EQ(*get("/mnt/f", "security.x"), "label");
      EXPECT_EQ(*get("/mnt/f", kAclAccess), acl);
      EXPECT_EQ(vfs.listxattr(p, ctx(), *walk("/mnt/f"))->size(), 5u);
      EXPECT_EQ(vfs.listxattr(p, ctx(), *walk("/mnt/all"))->size(), 0u);
    });
  }
}

TEST_F(Ext4, FullVolumes) {
  std::string image = make_image("4M", "-b 1024");
  with_mounted(image, [&](Park& p) {
    const FsStat before = *walk("/mnt")->mount->sb->statfs(p);
    for (int round = 0; round < 3; ++round) {
      Ref<File> f = *open("/mnt/f", O_RDWR | O_CREAT);
      const std::string text = text_of(1 << 20, 7);
      uint64_t at = 0;
      for (;;) {
        Result<size_t> n = put(*f, text, at);
        if (!n) {
          EXPECT_EQ(n.error(), Errno::kNOSPC);
          break;
        }
        at += *n;
        ASSERT_LT(at, 8u << 20);
      }
      EXPECT_GT(at, 2u << 20);
      EXPECT_OK(f->fsync(p, false));
      EXPECT_EQ(f->getattr(p)->size, at);
      EXPECT_EQ(complaints(image), "");
      f.reset();
      EXPECT_OK(unlink("/mnt/f"));
    }
    EXPECT_OK(walk("/mnt")->mount->sb->sync(p));
    EXPECT_EQ(walk("/mnt")->mount->sb->statfs(p)->blocks_free, before.blocks_free);
    int made = 0;
    while (vfs.mknod(p, ctx(), {}, "/mnt/n" + std::to_string(made), S_IFREG | 0644, 0)) ++made;
    EXPECT_GT(made, 500);
    EXPECT_ERR(kNOSPC, mkdir("/mnt/dir"));
  });
  EXPECT_EQ(complaints(image), "");
}

// Random changes of a file against a model of it.
class Ext4Contents : public Ext4Test, public ::testing::WithParamInterface<const char*> {};

TEST_P(Ext4Contents, AsAModelHasThem) {
  std::string image = make_image("24M", GetParam());
  constexpr uint64_t kMost = 2'000'000;
  std::string model;
  std::mt19937 random(11);
  auto pick = [&](uint64_t most) { return random() % most; };
  auto reset = [&](uint64_t from, uint64_t to) {
    for (uint64_t i = from; i < to && i < model.size(); ++i) model[i] = '\0';
  };
  for (int session = 0; session < 3; ++session) {
    with_mounted(image, [&](Park& p) {
      Ref<File> f = *open("/mnt/f", O_RDWR | O_CREAT);
      for (int step = 0; step < 400; ++step) {
        const uint64_t at = pick(kMost), len = 1 + pick(pick(4) == 0 ? 300'000 : 9'000);
        switch (pick(9)) {
          case 0:
          case 1:
          case 2: {
            const std::string text = text_of(len, static_cast<uint32_t>(step + 1000 * session));
            EXPECT_EQ(*put(*f, text, at), len);
            if (model.size() < at + len) model.resize(at + len);
            model.replace(at, len, text);
            break;
          }
          case 3:
            EXPECT_OK(f->truncate(p, at));
            model.resize(at);
            break;
          case 4:
            EXPECT_OK(f->fallocate(p, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, len));
            reset(at, at + len);
            break;
          case 5:
            EXPECT_OK(f->fallocate(p, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, at, len));
            reset(at, at + len);
            break;
          case 6:
            EXPECT_OK(f->fallocate(p, 0, at, len));
            if (model.size() < at + len) model.resize(at + len);
            break;
          case 7:
            EXPECT_OK(f->fsync(p, false));
            static_cast<PageCacheObject&>(*f->memory_object()).forget(p, 0, UINT64_MAX);
            break;
          default: {
            std::string got(len, '?');
            BufferSink to(std::as_writable_bytes(std::span(got.data(), got.size())));
            const size_t n = *f->read(p, to, at);
            got.resize(n);
            expect_same(got, at < model.size() ? model.substr(at, len) : "");
            if (HasFailure()) return void(ADD_FAILURE() << "step " << step);
          }
        }
        ASSERT_EQ(f->getattr(p)->size, model.size()) << step;
      }
      expect_same(*read_file(*f), model);
    });
    ASSERT_EQ(complaints(image), "");
    with_mounted(image, [&](Park&) { expect_same(*read_file("/mnt/f"), model); });
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, Ext4Contents,
                         ::testing::Values("-b 4096", "-b 1024", "-b 2048 -O ^metadata_csum",
                                           "-b 4096 -O ^has_journal,^flex_bg"));

// Many small extents: the tree gets deeper than the inode, and shallow again.
TEST_F(Ext4, FragmentedFiles) {
  std::string image = make_image("32M", "-b 1024");
  constexpr uint64_t kPieces = 2500, kStride = 8192;
  with_mounted(image, [&](Park& p) {
    Ref<File> f = *open("/mnt/f", O_RDWR | O_CREAT);
    for (uint64_t i = 0; i < kPieces; ++i) {
      const uint64_t at = (i * 7919 % kPieces) * kStride;
      EXPECT_EQ(*put(*f, std::to_string(at), at), std::to_string(at).size());
      if (i % 50 == 0) EXPECT_OK(f->fsync(p, false));
    }
    EXPECT_OK(f->fsync(p, false));
  });
  EXPECT_EQ(complaints(image), "");
  with_mounted(image, [&](Park& p) {
    Ref<File> f = *open("/mnt/f", O_RDWR);
    for (uint64_t i = 0; i < kPieces; i += 17) {
      std::string got(std::to_string(i * kStride).size(), '?');
      BufferSink to(std::as_writable_bytes(std::span(got.data(), got.size())));
      EXPECT_OK(f->read(p, to, i * kStride));
      EXPECT_EQ(got, std::to_string(i * kStride));
    }
    EXPECT_EQ(*f->seek(p, 4096, SEEK_DATA), uint64_t{kStride});
    EXPECT_EQ(*f->seek(p, 0, SEEK_HOLE), 4096u);
    for (uint64_t i = 0; i < kPieces; i += 2)
      EXPECT_OK(f->fallocate(p, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * kStride, 4096));
    EXPECT_OK(f->fsync(p, false));
    EXPECT_EQ(complaints(image), "");
    EXPECT_OK(f->truncate(p, 3 * kStride));
    EXPECT_OK(f->fsync(p, false));
    EXPECT_EQ(complaints(image), "");
    EXPECT_OK(unlink("/mnt/f"));
  });
  EXPECT_EQ(complaints(image), "");
}

TEST_F(Ext4, RefusesAndRemounts) {
  std::string image = make_image("8M");
  with_mounted(image, [&](Park& p) {
    Path at = *walk("/mnt");
    EXPECT_ERR(kBUSY, vfs.mount(p, ctx(), *walk("/mnt"), "ext4", "/" + name, "", kMntRdonly));
    EXPECT_ERR(kNOTBLK, vfs.mount(p, ctx(), *walk("/"), "ext4", "/mnt", "", 0));
    EXPECT_ERR(kNOENT, vfs.mount(p, ctx(), *walk("/"), "ext4", "/none", "", 0));
    EXPECT_ERR(kINVAL, vfs.mount(p, ctx(), *walk("/"), "ext4", "/" + name, "odd=1", 0));
    EXPECT_OK(write_file("/mnt/f", "1"));
    EXPECT_OK(vfs.remount(p, ctx(), at, kMntRdonly, false, ""));
    EXPECT_ERR(kROFS, write_file("/mnt/f", "2"));
    EXPECT_EQ(complaints(image), "");
    EXPECT_OK(vfs.remount(p, ctx(), at, 0, false, ""));
    at = Path();
    EXPECT_OK(write_file("/mnt/f", "3"));
  });
  EXPECT_EQ(complaints(image), "");
  std::string none(1 << 20, 'x');
  run([&](Park& p) {
    add_disk(p, none);
    EXPECT_ERR(kINVAL, mount(p));
  });
}

// A search in a directory of many blocks lets others run; who is killed meanwhile still ends what
// has begun.
TEST_F(Ext4, AKilledTaskEndsItsRename) {
  // Killed at the n-th look.
  struct Killed final : Interruptor {
    bool should_interrupt(WaitMode mode) const override {
      return mode != WaitMode::kUninterruptible && looks-- <= 0;
    }
    mutable int looks = 0;
  };
  constexpr int kFiles = 600;
  std::string image = make_image("8M", "-b 1024 -N 1024 -O ^dir_index");
  with_mounted(image, [&](Park& p) {
    EXPECT_OK(mkdir("/mnt/d"));
    const std::string dir = "/mnt/d/" + std::string(240, 'n');
    for (int i = 0; i < kFiles; ++i)
      EXPECT_OK(vfs.mknod(p, ctx(), {}, dir + std::to_string(i), S_IFREG | 0600, 0));
    int renamed = 0;
    for (int looks = 0; looks < 8; ++looks) {
      SCOPED_TRACE(looks);
      const std::string from = dir + std::to_string(kFiles - 1 - looks);
      const std::string to = "/mnt/renamed" + std::to_string(looks);
      Killed killed;
      killed.looks = looks;
      p.fiber().set_interruptor(&killed);
      const bool done = rename(from, to).has_value();
      p.fiber().set_interruptor(nullptr);
      renamed += done;
      EXPECT_EQ(stat(from).has_value(), !done);
      EXPECT_EQ(stat(to).has_value(), done);
    }
    EXPECT_GT(renamed, 0);
  });
  EXPECT_EQ(complaints(image), "");
}

}  // namespace
}  // namespace uk
