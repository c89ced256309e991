// ext4 on images that others left behind: with features we do not have, block maps, a journal that
// needs recovery, orphans.
#include "ukernel/fs/ext4/test_kit.h"

namespace uk {
namespace {

class Ext4Images : public Ext4Test {
 protected:
  // Lets a program change an image in a file; `$f` is its name.
  static void tool(std::string& image, const std::string& command) {
    const std::string file = temp("tool.img");
    std::ofstream(file, std::ios::binary) << image;
    int status = 0;
    const std::string out = shell("f=" + file + "; " + command, &status);
    EXPECT_EQ(status, 0) << out;
    std::ifstream in(file, std::ios::binary);
    std::stringstream bytes;
    bytes << in.rdbuf();
    image = bytes.str();
  }
  Errno mount_error(std::string& image, uint32_t flags, const std::string& options = "") {
    Errno e = Errno::kOk;
    run([&](Park& p) {
      add_disk(p, image);
      if (!walk("/mnt")) EXPECT_OK(mkdir("/mnt"));
      Result<> r = mount(p, flags, options);
      if (!r) e = r.error();
      if (r) unmount(p);
      for (int i = 0; i < 10; ++i) p.yield();
    });
    return e;
  }
};

TEST_F(Ext4Images, Features) {
  std::string image = make_image("8M");
  EXPECT_EQ(mount_error(image, 0), Errno::kOk);
  auto with = [&](const std::string& commands) {
    std::string changed = image;
    tool(changed, "debugfs -w -f /dev/stdin $f <<'X'\n" + commands + "\nX\n");
    return changed;
  };
  // A journal that Linux did not get to empty: it is replayed, or passed over if that is asked for.
  std::string dirty = with("feature needs_recovery");
  EXPECT_EQ(mount_error(dirty, kMntRdonly, "noload"), Errno::kOk);
  EXPECT_EQ(mount_error(dirty, 0, "noload"), Errno::kINVAL);
  EXPECT_EQ(mount_error(dirty, 0), Errno::kOk);
  EXPECT_EQ(complaints(dirty), "");
  // Only to be read: unknown, and known.
  std::string unknown = with("feature FEATURE_R30");
  EXPECT_EQ(mount_error(unknown, 0), Errno::kROFS);
  EXPECT_EQ(mount_error(unknown, kMntRdonly), Errno::kOk);
  std::string quota = with("feature quota");
  EXPECT_EQ(mount_error(quota, 0), Errno::kROFS);
  // Not at all.
  std::string strange = with("feature FEATURE_I30");
  EXPECT_EQ(mount_error(strange, kMntRdonly), Errno::kINVAL);
  std::string inline_data = make_image("8M", "-O inline_data");
  EXPECT_EQ(mount_error(inline_data, kMntRdonly), Errno::kINVAL);
  // Cut off.
  std::string cut = image.substr(0, image.size() / 2);
  EXPECT_EQ(mount_error(cut, kMntRdonly), Errno::kINVAL);
}

TEST_F(Ext4Images, BlockMaps) {
  const std::string dir = temp("mapped");
  int status = 0;
  std::string big;
  for (int i = 0; i < 40'000; ++i) big += std::to_string(i) + "\n";
  shell("rm -rf " + dir + " && mkdir -p " + dir, &status);
  for (const char* name : {"/read", "/written", "/removed", "/cut"})
    std::ofstream(dir + name, std::ios::binary) << big;
  shell("truncate -s 90M " + dir + "/read", &status);
  std::ofstream(dir + "/read", std::ios::in | std::ios::out | std::ios::ate) << "the end";
  std::string image = make_image("16M", "-b 1024 -O ^extents,^64bit -d " + dir);
  EXPECT_EQ(mount_error(image, 0), Errno::kROFS) << "a whole file system without extents";
  EXPECT_EQ(mount_error(image, kMntRdonly), Errno::kOk);
  tool(image, "tune2fs -O extents $f");
  with_mounted(image, [&](Park& p) {
    Ref<File> f = *open("/mnt/read", O_RDONLY);
    EXPECT_EQ(f->getattr(p)->size, (90u << 20) + 7);
    std::string got(big.size(), '?');
    BufferSink to(std::as_writable_bytes(std::span(got.data(), got.size())));
    EXPECT_EQ(*f->read(p, to, 0), big.size());
    EXPECT_TRUE(got == big);
    std::string end(20, '?');
    BufferSink to_end(std::as_writable_bytes(std::span(end.data(), end.size())));
    EXPECT_EQ(*f->read(p, to_end, (90u << 20) - 3), 10u);
    EXPECT_EQ(end.substr(0, 10), std::string(3, '\0') + "the end");
    f = *open("/mnt/written", O_RDWR);
    EXPECT_EQ(*put(*f, "changed", 100'000), 7u);
    EXPECT_EQ(*put(*f, "appended", big.size()), 8u);
    f.reset();
    EXPECT_OK(unlink("/mnt/removed"));
    EXPECT_OK(vfs.truncate(p, ctx(), *walk("/mnt/cut"), 30'000));
    // The root's block has no extent either.
    for (int i = 0; i < 200; ++i) EXPECT_OK(write_file("/mnt/new" + std::to_string(i), "x"));
  });
  EXPECT_EQ(complaints(image), "");
  with_mounted(image, [&](Park&) {
    std::string want = big;
    want.replace(100'000, 7, "changed");
    EXPECT_TRUE(*read_file("/mnt/written") == want + "appended");
    EXPECT_TRUE(*read_file("/mnt/cut") == big.substr(0, 30'000));
  });
}

TEST_F(Ext4Images, OrphansOfOthers) {
  std::string image = make_image("8M");
  with_mounted(image, [&](Park&) {
    for (const char* name : {"/mnt/gone", "/mnt/cut", "/mnt/stays"})
      EXPECT_OK(write_file(name, std::string(100'000, 'x')));
  });
  // As after a crash of Linux: one without a name, one that was being cut to 10000 bytes.
  tool(image,
       "gone=$(debugfs -R 'stat gone' $f 2>/dev/null | sed -n 's/^Inode: \\([0-9]*\\).*/\\1/p')\n"
       "cut=$(debugfs -R 'stat cut' $f 2>/dev/null | sed -n 's/^Inode: \\([0-9]*\\).*/\\1/p')\n"
       "debugfs -w -f /dev/stdin $f <<X\n"
       "sif <$gone> links_count 0\nsif <$gone> dtime @$cut\nunlink gone\n"
       "sif <$cut> size 10000\nsif <$cut> dtime 0\n"
       "ssv last_orphan $gone\nX\n");
  EXPECT_NE(complaints(image), "");
  with_mounted(image, [&](Park& p) {
    EXPECT_ERR(kNOENT, walk("/mnt/gone"));
    EXPECT_EQ(stat("/mnt/cut")->size, 10'000u);
    EXPECT_LT(stat("/mnt/cut")->blocks, 40u);
    EXPECT_TRUE(*read_file("/mnt/stays") == std::string(100'000, 'x'));
    (void)p;
  });
  EXPECT_EQ(complaints(image), "");
}

}  // namespace
}  // namespace uk
