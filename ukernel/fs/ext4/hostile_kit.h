// For tests with broken images: an image with some of everything in it, and everything that can be
// done with what is mounted of it.
#pragma once

#include <linux/falloc.h>

#include <random>

#include "ukernel/fs/ext4/test_kit.h"

namespace uk {

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

}  // namespace uk
