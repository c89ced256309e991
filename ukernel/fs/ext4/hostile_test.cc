// ext4 on images that are broken on purpose: an error, never a crash or an endless loop, and what
// cannot be read makes the filesystem read-only.
#include <linux/falloc.h>

#include <random>

#include "ukernel/fs/ext4/test_kit.h"

namespace uk {
namespace {

class Ext4Hostile : public Ext4Test {
 protected:
  // Everything that can be done with what is there, as far as it goes.
  void exercise(Park& p, std::mt19937& random) {
    size_t left = 120;
    visit(p, "/mnt", &left, 0);
    for (const char* made : {"/mnt/new", "/mnt/d/new", "/mnt/deep/a/new"}) {
      (void)write_file(made, std::string(20'000, 'n'));
      (void)rename(made, "/mnt/renamed");
      (void)link("/mnt/renamed", made);
      (void)mkdir(std::string(made) + "-dir");
      (void)unlink(made);
    }
    for (int i = 0; i < 40; ++i)
      (void)vfs.mknod(p, ctx(), {}, "/mnt/d/more" + std::to_string(random()), S_IFREG | 0600, 0);
    for (const char* old : {"/mnt/f", "/mnt/frag", "/mnt/d/n5", "/mnt/deep/a/b/c", "/mnt/link"}) {
      auto path = walk(old);
      if (!path || path->inode() == nullptr) continue;
      (void)vfs.setxattr(p, ctx(), *path, "user.x", std::string(100, 'x'), 0);
      (void)vfs.removexattr(p, ctx(), *path, "user.tag");
      (void)vfs.truncate(p, ctx(), *path, 5000);
      if (auto f = open(old, O_RDWR)) {
        (void)(*f)->fallocate(p, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 40'000);
        (void)(*f)->fallocate(p, 0, 8192, 40'000);
        (void)put(**f, "text", 100'000);
        (void)(*f)->fsync(p, false);
      }
      (void)unlink(old);
    }
    (void)walk("/mnt")->mount->sb->statfs(p);
    (void)walk("/mnt")->mount->sb->sync(p);
  }

  void visit(Park& p, const std::string& dir, size_t* left, int depth) {
    auto names = list(dir);
    if (!names || depth > 6) return;
    for (const auto& [entry, type] : *names) {
      if ((*left)-- == 0 || *left > 1000) return;
      const std::string path = dir + "/" + entry;
      auto attr = stat(path, false);
      if (!attr) continue;
      if (auto at = walk(path, 0)) {
        if (auto keys = vfs.listxattr(p, ctx(), *at)) {
          for (const std::string& key : *keys) (void)vfs.getxattr(p, ctx(), *at, key);
        }
        (void)vfs.readlink(p, *at);
      }
      if (is_type(attr->mode, S_IFDIR)) visit(p, path, left, depth + 1);
      if (!is_type(attr->mode, S_IFREG)) continue;
      auto f = open(path, O_RDONLY);
      if (!f) continue;
      for (uint64_t at : {uint64_t{0}, attr->size / 2, attr->size - 1}) {
        std::string piece(9000, '\0');
        BufferSink to(std::as_writable_bytes(std::span(piece.data(), piece.size())));
        (void)(*f)->read(p, to, at);
      }
      (void)(*f)->seek(p, 0, SEEK_HOLE);
    }
  }

  // An image with some of everything; without checksums, so that what is changed is believed.
  std::string interesting(const std::string& options) {
    const std::string dir = temp("hostile");
    int status = 0;
    shell("rm -rf " + dir + "; mkdir -p " + dir + "/d " + dir + "/deep/a/b && ln -s " +
              std::string(100, 'l') + " " + dir +
              "/link && head -c 70000 /dev/zero | tr '\\0' f >" + dir + "/f && echo c >" + dir +
              "/deep/a/b/c",
          &status);
    for (int i = 0; i < 60; ++i) std::ofstream(dir + "/d/n" + std::to_string(i)) << i;
    std::string image = make_image("2M", options + " -N 256 -d " + dir);
    with_mounted(image, [&](Park& p) {
      Ref<File> f = *open("/mnt/frag", O_RDWR | O_CREAT);
      for (int i = 0; i < 40; ++i) (void)put(*f, "x", static_cast<uint64_t>(i) * 9000);
      (void)vfs.setxattr(p, ctx(), *walk("/mnt/f"), "user.tag", std::string(300, 't'), 0);
      for (int i = 0; i < 100; ++i)
        (void)vfs.mknod(p, ctx(), {}, "/mnt/d/a-name-that-is-longer-" + std::to_string(i),
                        S_IFREG | 0600, 0);
    });
    EXPECT_EQ(complaints(image), "");
    return image;
  }

  // Mounts a broken image, if that is possible, and uses it.
  void survive(std::string image, uint32_t seed) {
    run([&](Park& p) {
      std::mt19937 random(seed);
      if (!walk("/mnt")) EXPECT_OK(mkdir("/mnt"));
      add_disk(p, image);
      Result<> mounted = mount(p);
      if (!mounted) mounted = mount(p, kMntRdonly);
      if (mounted) {
        exercise(p, random);
        unmount(p);
      }
    });
  }
};

TEST_F(Ext4Hostile, BytesChangedAtRandom) {
  const char* seeds_text = std::getenv("EXT4_HOSTILE_SEEDS");
  const uint32_t seeds = seeds_text != nullptr ? static_cast<uint32_t>(std::atoi(seeds_text)) : 150;
  for (const char* options : {"-b 1024 -O ^metadata_csum,^has_journal",
                              "-b 1024 -O ^metadata_csum,^has_journal,^extents,^64bit"}) {
    SCOPED_TRACE(options);
    const bool extents = std::string(options).find("^extents") == std::string::npos;
    const std::string whole = extents ? interesting(options) : make_image("2M", options);
    // What is in use, but for the contents of files.
    for (uint32_t seed = 0; seed < seeds; ++seed) {
      SCOPED_TRACE(seed);
      std::mt19937 random(seed);
      std::string image = whole;
      const uint32_t changes = 1 + random() % 12;
      for (uint32_t i = 0; i < changes; ++i) {
        // The beginning: superblock, descriptors, bitmaps, inodes; or anywhere.
        size_t at = 0;
        switch (random() % 4) {
          case 0:
            at = 1024 + random() % 1024;
            break;
          case 1:
            at = 2048 + random() % 4096;
            break;
          case 2:
            at = random() % (300 * 1024);
            break;
          default:
            at = random() % image.size();
        }
        for (int look = 0; look < 2000 && image[at] == 0; ++look) at = (at + 1) % image.size();
        const uint32_t kind = random() % 4;
        image[at] = static_cast<char>(kind == 0 ? 0xff : kind == 1 ? 0 : random());
      }
      survive(std::move(image), seed);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_F(Ext4Hostile, DeviceErrors) {
  std::string whole = make_image("4M");
  bool broken_any = false;
  for (uint64_t good = 0; good < 60; good += 3) {
    SCOPED_TRACE(good);
    std::string image = whole;
    run([&](Park& p) {
      if (!walk("/mnt")) EXPECT_OK(mkdir("/mnt"));
      disk = add_disk(p, image);
      if (!mount(p)) return;
      disk->writes_left = good;
      Ref<File> f = *open("/mnt/f", O_RDWR | O_CREAT);
      bool failed = false;
      for (int i = 0; i < 40 && !failed; ++i) {
        (void)put(*f, std::string(5000, 'x'), static_cast<uint64_t>(i) * 5000);
        (void)mkdir("/mnt/d" + std::to_string(i));
        failed = !f->fsync(p, false).has_value();
      }
      EXPECT_TRUE(failed);
      // What was lost was data, or a commit: then nothing can be changed any more.
      const bool broken = walk("/mnt")->mount->sb->read_only;
      broken_any |= broken;
      EXPECT_EQ(mkdir("/mnt/after").has_value(), !broken);
      EXPECT_TRUE(stat("/mnt/f").has_value());
      f.reset();
      unmount(p);
    });
  }
  EXPECT_TRUE(broken_any);
}

// A tree of hashes whose entries all have the hash that is looked for, and name the same leaf.
TEST_F(Ext4Hostile, LeavesWithoutEnd) {
  std::string image = make_image("4M", "-b 1024 -N 1024 -O ^metadata_csum,^has_journal");
  with_mounted(image, [&](Park& p) {
    EXPECT_OK(mkdir("/mnt/d"));
    for (int i = 0; i < 100; ++i)
      EXPECT_OK(vfs.mknod(p, ctx(), {}, "/mnt/d/a-name-that-is-longer-" + std::to_string(i),
                          S_IFREG | 0600, 0));
  });
  const std::string file = temp("tree.img");
  std::ofstream(file, std::ios::binary) << image;
  int status = 0;
  const size_t root =
      std::stoul(shell("debugfs -R 'bmap /d 0' " + file + " 2>/dev/null", &status)) * 1024;
  const std::string said = shell(
      "debugfs -R \"dx_hash -h half_md4 -s $(dumpe2fs -h " + file +
          " 2>/dev/null | sed -n 's/^Directory Hash Seed: *//p') nosuch\" " + file + " 2>/dev/null",
      &status);
  const auto hash =
      static_cast<uint32_t>(std::stoul(said.substr(said.find("0x")), nullptr, 16)) | 1;
  uint16_t limit = 0;
  std::memcpy(&limit, &image[root + 32], sizeof limit);
  ASSERT_EQ(limit, (1024 - 32) / 8) << "no tree";
  std::memcpy(&image[root + 34], &limit, sizeof limit);  // as many entries as there is room for
  const uint32_t entry[2] = {hash, 1};
  for (size_t at = root + 40; at < root + 1024; at += 8)
    std::memcpy(&image[at], entry, sizeof entry);
  with_mounted(image, [&](Park&) {
    const auto found = stat("/mnt/d/nosuch");
    ASSERT_FALSE(found.has_value());
    EXPECT_EQ(found.error(), Errno::kUCLEAN);
  });
}

}  // namespace
}  // namespace uk
