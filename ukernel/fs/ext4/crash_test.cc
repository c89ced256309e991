// Power cuts under ext4: random work, cut at a random write, with a random part of what was not
// flushed on the disk. By e2fsck's replay of the journal, and by ours, the image is whole, and what
// fsync(2) confirmed is there.
#include <map>
#include <random>

#include "ukernel/dev/block/testing/power_cut_disk.h"
#include "ukernel/fs/ext4/test_kit.h"

namespace uk {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr uint32_t kRuns = 12;
#else
constexpr uint32_t kRuns = 40;
#endif

class Ext4Crash : public Ext4Test {
 protected:
  using Files = std::map<std::string, std::string>;

  Ref<Disk> attach(Park& p, PowerCutStorage& storage) {
    auto added = disks.add(p, "vdx", std::make_unique<PowerCutDisk>(storage, /*yields=*/true),
                           /*read_only=*/false);
    EXPECT_OK(added);
    EXPECT_OK(vfs.mknod(p, ctx(), {}, "/vdx", S_IFBLK | 0600, (*added)->whole().rdev()));
    return *added;
  }
  void detach(Park& p, Ref<Disk> gone) {
    EXPECT_OK(unlink("/vdx"));
    disks.remove(p, *gone);
  }
  Result<> mount_it(Park& p) {
    TRY(vfs.mount(p, ctx(), *walk("/mnt"), "ext4", "/vdx", "", kMntRelatime));
    return {};
  }

  static std::string content(std::mt19937& random) {
    const size_t n = random() % 3 == 0 ? random() % 60'000 : random() % 3000;
    std::string s(n, '\0');
    for (char& c : s) c = static_cast<char>('a' + random() % 26);
    return s;
  }

  // Until the power fails or enough is done. Files with confirmed contents are not changed again,
  // but some are removed.
  void work(Park& p, std::mt19937& random, const PowerCutStorage& storage, Files& confirmed) {
    for (int step = 0; step < 120 && !storage.off; ++step) {
      const std::string dir = "/mnt/d" + std::to_string(random() % 4);
      const std::string path = dir + "/f" + std::to_string(step);
      (void)mkdir(dir);
      const uint32_t what = random() % 10;
      if (what < 6) {
        const std::string text = content(random);
        if (!write_file(path, text)) continue;
        if (random() % 2 == 0) continue;
        Result<Ref<File>> f = open(path, O_RDONLY);
        if (f && (*f)->fsync(p, false)) confirmed[path] = text;
      } else if (what < 8 && !confirmed.empty()) {
        auto victim =
            std::next(confirmed.begin(), static_cast<ptrdiff_t>(random() % confirmed.size()));
        const std::string name = victim->first;
        confirmed.erase(victim);
        (void)unlink(name);
      } else if (what == 8) {
        (void)mkdir(path);
        for (int i = 0; i < 40; ++i)
          (void)write_file(path + "/" + std::string(60, 'n') + std::to_string(i), "x");
        for (int i = 0; i < 40; ++i)
          (void)unlink(path + "/" + std::string(60, 'n') + std::to_string(i));
        (void)rmdir(path);
      } else {
        (void)disks.sync(p);
      }
    }
  }

  void one(Park& p, uint32_t seed, const std::string& fresh) {
    std::mt19937 random(seed);
    const auto bytes = std::as_bytes(std::span(fresh));
    PowerCutStorage storage(std::vector<std::byte>(bytes.begin(), bytes.end()));
    // The superblock may be torn, too: then e2fsck finds no journal, as there is no other
    // superblock in images as small as these. We do.
    const bool torn = seed % 4 == 0;
    storage.whole = torn ? 512 : 4096;
    Files confirmed;
    {
      Ref<Disk> with = attach(p, storage);
      ASSERT_TRUE(mount_it(p).has_value()) << "seed " << seed;
      storage.until_cut = random() % 500;
      work(p, random, storage, confirmed);
      cut_ += storage.off ? 1 : 0;
      storage.off = true;
      unmount(p);
      detach(p, with);
    }
    const std::vector<std::byte> left = storage.after_cut(random);

    if (!torn) {
      const std::string file = temp("crash.img");
      std::ofstream(file, std::ios::binary)
          .write(reinterpret_cast<const char*>(left.data()),
                 static_cast<std::streamsize>(left.size()));
      int status = 0;
      const std::string out =
          shell("e2fsck -E journal_only -y " + file + "; e2fsck -fn " + file, &status);
      ASSERT_EQ(0, status) << "seed " << seed << "\n" << out;
    }

    PowerCutStorage again(left);
    Ref<Disk> with = attach(p, again);
    Result<> mounted = mount_it(p);
    ASSERT_TRUE(mounted.has_value())
        << "seed " << seed << " " << mounted.error() << " " << log.lines().back().text;
    for (const auto& [path, text] : confirmed) {
      Result<std::string> got = read_file(path);
      ASSERT_TRUE(got.has_value()) << "seed " << seed << " " << path;
      ASSERT_TRUE(*got == text) << "seed " << seed << " " << path;
    }
    files_ += confirmed.size();
    unmount(p);
    detach(p, with);
    const std::string whole = complaints(
        std::string(reinterpret_cast<const char*>(again.seen.data()), again.seen.size()));
    ASSERT_EQ("", whole) << "seed " << seed;
  }

  int cut_ = 0;
  size_t files_ = 0;
};

TEST_F(Ext4Crash, PowerCuts) {
  const char* wanted = std::getenv("CRASH_RUNS");
  const uint32_t runs = wanted != nullptr ? static_cast<uint32_t>(std::atoi(wanted)) : kRuns;
  const std::string images[] = {make_image("16M", "-b 4096"), make_image("12M", "-b 1024"),
                                make_image("16M", "-b 4096 -O ^metadata_csum,^64bit")};
  run([&](Park& p) {
    EXPECT_OK(mkdir("/mnt"));
    for (uint32_t seed = 0; seed < runs && !HasFatalFailure(); ++seed)
      one(p, seed, images[seed % 3]);
  });
  EXPECT_GT(cut_, static_cast<int>(runs) / 3);
  EXPECT_GT(files_, runs);
}

}  // namespace
}  // namespace uk
