// ext4 under several fibers at once: whatever they do, the image is whole between any two commits.
#include <linux/falloc.h>

#include <random>

#include "ukernel/fs/ext4/test_kit.h"

namespace uk {
namespace {

class Ext4Concurrent : public Ext4Test, public ::testing::WithParamInterface<const char*> {
 protected:
  // Changes of all kinds, in directories that others use, too.
  void work(Park& p, uint32_t seed, int steps) {
    std::mt19937 random(seed);
    auto pick = [&](uint32_t most) { return static_cast<uint32_t>(random() % most); };
    auto file = [&] {
      return "/mnt/d" + std::to_string(pick(3)) + "/f" + std::to_string(pick(12));
    };
    std::vector<Ref<File>> open_files;
    for (int step = 0; step < steps; ++step) {
      const std::string a = file(), b = file();
      switch (pick(12)) {
        case 0:
        case 1:
        case 2: {
          auto f = vfs.open(p, ctx(), {}, a, OpenRequest{O_RDWR | O_CREAT, 0644, 0});
          if (!f) break;
          const std::string text(1 + pick(20'000), static_cast<char>('a' + pick(26)));
          BufferSource from(std::as_bytes(std::span(text.data(), text.size())));
          uint64_t at = pick(60'000);
          (void)(*f)->write(p, from, at);
          if (pick(3) == 0) open_files.push_back(*f);
          break;
        }
        case 3:
          (void)vfs.unlink(p, ctx(), {}, a);
          break;
        case 4:
          (void)vfs.rename(p, ctx(), {}, a, {}, b, pick(4) == 0 ? 2 : 0);
          break;
        case 5:
          if (auto at = vfs.walk(p, ctx(), {}, a, 0)) (void)vfs.link(p, ctx(), *at, {}, b);
          break;
        case 6:
          (void)vfs.symlink(p, ctx(), std::string(1 + pick(200), 's'), {}, a);
          break;
        case 7:
          (void)vfs.mkdir(p, ctx(), {}, a, 0755);
          (void)vfs.rmdir(p, ctx(), {}, b);
          break;
        case 8:
          if (auto at = vfs.walk(p, ctx(), {}, a, 0)) {
            if (at->inode() != nullptr && is_type(at->inode()->type(), S_IFREG))
              (void)vfs.truncate(p, ctx(), *at, pick(50'000));
          }
          break;
        case 9:
          if (!open_files.empty()) {
            Ref<File> f = open_files.back();
            (void)f->fallocate(p, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pick(40'000), 9000);
            (void)f->fallocate(p, 0, pick(60'000), 9000);
            (void)f->fsync(p, false);
            if (pick(2) == 0) open_files.pop_back();
          }
          break;
        case 10:
          if (auto at = vfs.walk(p, ctx(), {}, a, kWalkFollow))
            (void)vfs.setxattr(p, ctx(), *at, "user.k" + std::to_string(pick(3)),
                               std::string(pick(300), 'v'), 0);
          break;
        default:
          if (pick(4) == 0) (void)vfs.walk(p, ctx(), {}, "/mnt", 0)->mount->sb->sync(p);
          p.yield();
      }
    }
  }
};

TEST_P(Ext4Concurrent, WholeAtEveryCommit) {
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    SCOPED_TRACE(seed);
    std::string image = make_image("12M", GetParam());
    std::vector<std::string> snapshots;
    int flushes = 0;
    with_mounted(image, [&](Park& p) {
      for (int i = 0; i < 3; ++i) EXPECT_OK(mkdir("/mnt/d" + std::to_string(i)));
      disk->on_flush = [&](const std::string& now) {
        if (++flushes % 16 == 0 && snapshots.size() < 12) snapshots.push_back(now);
      };
      constexpr int kFibers = 5;
      int running = kFibers;
      for (int i = 0; i < kFibers; ++i)
        spawn([&, i](Park& q) {
          work(q, seed * 100 + static_cast<uint32_t>(i), 300);
          --running;
        });
      while (running != 0) p.yield();
      park = &p;
      disk->on_flush = nullptr;
    });
    EXPECT_EQ(complaints(image), "");
    EXPECT_GT(snapshots.size(), 3u);
    for (const std::string& s : snapshots) EXPECT_EQ(complaints(s), "");
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Sizes, Ext4Concurrent,
                         ::testing::Values("-b 1024", "-b 4096 -O ^has_journal"));

}  // namespace
}  // namespace uk
