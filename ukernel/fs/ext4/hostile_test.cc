// ext4 on images that are broken on purpose: an error, never a crash or an endless loop, and what
// cannot be read makes the filesystem read-only.
#include "ukernel/fs/ext4/hostile_kit.h"

namespace uk {
namespace {

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

// Sizes up to what block numbers of 32 bits reach are read, larger ones refused; neither for ever.
TEST_F(Ext4Hostile, SizesWithoutEnd) {
  constexpr uint64_t kMost = 0xffffffffull * 1024;
  for (uint64_t size : {kMost, kMost + 1, uint64_t{1} << 61}) {
    SCOPED_TRACE(size);
    std::string image = make_image("2M", "-b 1024 -O ^metadata_csum,^has_journal");
    with_mounted(image, [&](Park&) { EXPECT_OK(write_file("/mnt/f", "text")); });
    const std::string file = temp("sizes.img");
    std::ofstream(file, std::ios::binary) << image;
    int status = 0;
    shell("debugfs -w -R 'set_inode_field /f size " + std::to_string(size) + "' " + file, &status);
    std::stringstream changed;
    changed << std::ifstream(file, std::ios::binary).rdbuf();
    image = changed.str();
    with_mounted(image, [&](Park& p) {
      const auto f = open("/mnt/f", O_RDONLY);
      EXPECT_EQ(f.has_value(), size == kMost);
      if (!f) return;
      EXPECT_EQ((*f)->getattr(p)->size, size);
      std::string end(6000, 'x');
      BufferSink to(std::as_writable_bytes(std::span(end)));
      const auto n = (*f)->read(p, to, size - 5000);
      ASSERT_TRUE(n.has_value());
      EXPECT_EQ(end.substr(0, *n), std::string(5000, '\0'));
    });
  }
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
