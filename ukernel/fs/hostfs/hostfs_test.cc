// hostfs over a real directory: what is seen, what cannot be reached, changes, few descriptors.
#include "ukernel/fs/hostfs/hostfs.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "hostio/ring.h"
#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "ukernel/sched/host_clock.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

namespace fs = std::filesystem;

// As VfsTest, but on the host's ring: host_read() needs real descriptors.
class HostFsTest : public VfsTest {
 protected:
  HostFsTest() : ring_(hostio::make_ring()), reactor_(*ring_, clock_) {
    const char* base = getenv("TEST_TMPDIR");
    std::string name = std::string(base != nullptr ? base : "/tmp") + "/hostfs.XXXXXX";
    CHECK(mkdtemp(name.data()) != nullptr);
    dir = name;
    fs::create_directory(dir / "tree");
    std::ofstream(dir / "outside") << "secret";
  }
  ~HostFsTest() override {
    cwd = Path();
    ns.reset();
    fs::remove_all(dir);
  }
  void put(const std::string& name, std::string_view text) {
    std::ofstream(dir / "tree" / name) << text;
  }
  void run_on_host(const HostFsOptions& o, std::function<void(Park&)> body) {
    bool ended = false;
    reactor_.spawn("test", [&](Park& p) {
      park = &p;
      ns = make_ref<MountNamespace>();
      Ref<Inode> root;
      auto sb = make_hostfs(vfs, (dir / "tree").string(), o, &root);
      EXPECT_OK(sb);
      EXPECT_OK(vfs.new_root(p, *ns, *sb, root, "host", 0));
      body(p);
      ended = true;
      reactor_.stop();
    });
    reactor_.run();
    EXPECT_TRUE(ended);
  }

  fs::path dir;

 private:
  HostClock clock_;
  std::unique_ptr<hostio::Ring> ring_;
  Reactor reactor_;
};

HostFsOptions writable() {
  HostFsOptions o;
  o.writable = true;
  o.stable = false;
  return o;
}

TEST_F(HostFsTest, ReadsWhatIsThere) {
  put("f", "contents");
  put("big", std::string(300000, 'b'));
  fs::create_directory(dir / "tree/d");
  fs::create_symlink("f", dir / "tree/l");
  run_on_host({}, [&](Park&) {
    EXPECT_EQ(*read_file("/l"), "contents");
    EXPECT_EQ(read_file("/big")->size(), 300000u);
    EXPECT_EQ(stat("/f")->size, 8u);
    EXPECT_EQ(stat("/f")->dev, stat("/d")->dev);
    EXPECT_ERR(kROFS, open("/f", O_WRONLY));
    EXPECT_ERR(kROFS, mkdir("/new"));
    EXPECT_ERR(kNOENT, stat("/none"));
    auto names = *list("/");
    EXPECT_EQ(names.size(), 4u);
    EXPECT_EQ(names["d"], DT_DIR);
    EXPECT_EQ(names["l"], DT_LNK);
  });
}

TEST_F(HostFsTest, NothingOutsideIsReachable) {
  fs::create_symlink(dir / "outside", dir / "tree/abs");
  fs::create_symlink("../outside", dir / "tree/up");
  fs::create_directory(dir / "tree/d");
  fs::create_directory_symlink("..", dir / "tree/dotdot");
  run_on_host({}, [&](Park&) {
    EXPECT_ERR(kNOENT, open("/abs", O_RDONLY));
    EXPECT_ERR(kNOENT, open("/up", O_RDONLY));
    EXPECT_ERR(kNOENT, open("/d/../../outside", O_RDONLY));
    EXPECT_ERR(kNOENT, open("/dotdot/outside", O_RDONLY));
    // A directory replaced by a link on the host is not followed either.
    EXPECT_OK(walk("/d"));
    fs::remove(dir / "tree/d");
    fs::create_directory_symlink(dir, dir / "tree/d");
    EXPECT_FALSE(open("/d/outside", O_RDONLY).has_value());
  });
}

TEST_F(HostFsTest, SpecialFilesOfTheHostAreNotOpened) {
  CHECK(mkfifo((dir / "tree/fifo").c_str(), 0666) == 0);
  run_on_host({}, [&](Park&) {
    EXPECT_EQ(stat("/fifo")->mode & S_IFMT, static_cast<uint32_t>(S_IFIFO));
    EXPECT_ERR(kNXIO, open("/fifo", O_RDONLY | O_NONBLOCK));
  });
  if (sys::geteuid() != 0) return;
  ns.reset();
  if (mknod((dir / "tree/null").c_str(), S_IFCHR | 0666, make_dev(1, 3)) != 0) return;
  run_on_host({}, [&](Park&) {
    EXPECT_EQ(stat("/null")->rdev, make_dev(1, 3));
    EXPECT_ERR(kNXIO, open("/null", O_RDONLY));
    bool opened = false;
    vfs.register_device(false, 1, 3, 1, "mem",
                        {[&](Park&, const Path&, int, const Cred&, uint64_t) -> Result<Ref<File>> {
                          opened = true;
                          return Err(Errno::kBUSY);
                        }});
    EXPECT_ERR(kBUSY, open("/null", O_RDONLY));
    EXPECT_TRUE(opened);
  });
}

TEST_F(HostFsTest, FewDescriptorsServeManyFiles) {
  for (int i = 0; i < 100; ++i) {
    fs::create_directories(dir / "tree" / std::to_string(i) / "sub");
    put(std::to_string(i) + "/sub/f", std::to_string(i));
  }
  HostFsOptions o;
  o.max_fds = 16;
  run_on_host(o, [&](Park&) {
    std::vector<Ref<File>> files;
    for (int i = 0; i < 100; ++i) {
      files.push_back(*open("/" + std::to_string(i) + "/sub/f", O_RDONLY));
    }
    for (int i = 0; i < 100; ++i) EXPECT_EQ(*read_file(*files[i]), std::to_string(i));
    size_t open_fds = 0;
    for ([[maybe_unused]] auto& e : fs::directory_iterator("/proc/self/fd")) ++open_fds;
    EXPECT_LT(open_fds, 60u);
    // Objects that are mapped keep theirs; then there are no more to be had.
    std::vector<Ref<MemoryObject>> mapped;
    for (int i = 0; i < 100; ++i) {
      if (auto m = files[i]->memory_object()) mapped.push_back(std::move(m));
    }
    EXPECT_GT(mapped.size(), 10u);
    EXPECT_LE(mapped.size(), 16u);
  });
}

TEST_F(HostFsTest, MemoryObjectsAreTheHostsPages) {
  put("lib", std::string(5000, 'l'));
  run_on_host({}, [&](Park& p) {
    Ref<File> f = *open("/lib", O_RDONLY);
    Ref<MemoryObject> m = f->memory_object();
    ASSERT_NE(m, nullptr);
    EXPECT_EQ(m->size(), 5000u);
    EXPECT_FALSE(m->writable());
    EXPECT_EQ(m->host_range(1)->offset, 4096u);
    std::byte tail[4096];
    EXPECT_EQ(*m->read(p, 4096, tail), 904u);
    EXPECT_EQ(m, open("/lib", O_RDONLY).value()->memory_object()) << "one object a file";
  });
}

TEST_F(HostFsTest, Changes) {
  put("f", "old");
  run_on_host(writable(), [&](Park& p) {
    EXPECT_OK(write_file("/f", "new text"));
    EXPECT_EQ(stat("/f")->size, 8u);
    EXPECT_OK(mkdir("/d", 0750));
    EXPECT_EQ(stat("/d")->mode & 07777u, 0750u & ~022u);
    EXPECT_OK(rename("/f", "/d/g"));
    EXPECT_EQ(*read_file("/d/g"), "new text");
    EXPECT_OK(link("/d/g", "/h"));
    EXPECT_EQ(stat("/h")->ino, stat("/d/g")->ino);
    EXPECT_EQ(stat("/h")->nlink, 2u);
    EXPECT_OK(symlink("h", "/s"));
    EXPECT_EQ(*read_file("/s"), "new text");
    EXPECT_ERR(kNOTEMPTY, rmdir("/d"));
    Ref<File> open_file = *open("/h", O_RDWR);
    EXPECT_OK(unlink("/h"));
    EXPECT_OK(unlink("/d/g"));
    EXPECT_EQ(*read_file(*open_file), "new text");
    EXPECT_EQ(open_file->getattr(p)->nlink, 0u);
    EXPECT_OK(rmdir("/d"));
    Ref<File> t = *open("/", O_TMPFILE | O_RDWR, 0640);
    uint64_t at = 0;
    BufferSource from(std::as_bytes(std::span("tmp", 3)));
    EXPECT_EQ(*t->write(p, from, at), 3u);
    EXPECT_OK(vfs.link(p, ctx(), t->path(), {}, "/named"));
    EXPECT_EQ(*read_file("/named"), "tmp");
    EXPECT_OK(vfs.truncate(p, ctx(), *walk("/named"), 1));
    EXPECT_EQ(*read_file("/named"), "t");
    Vfs::SetTimes times;
    times.mtime = FileTime{1234, 5000};
    EXPECT_OK(vfs.utimens(p, ctx(), *walk("/named"), times));
    EXPECT_EQ(stat("/named")->mtime.sec, 1234);
    EXPECT_ERR(kPERM, vfs.mknod(p, ctx(), {}, "/dev", S_IFCHR | 0600, make_dev(1, 3)));
  });
  EXPECT_TRUE(fs::exists(dir / "tree/named"));
  EXPECT_FALSE(fs::exists(dir / "tree/f"));
}

TEST_F(HostFsTest, SeesChangesOfTheHost) {
  run_on_host(writable(), [&](Park& p) {
    EXPECT_ERR(kNOENT, stat("/later"));
    put("later", "now");
    EXPECT_EQ(*read_file("/later"), "now");
    fs::remove(dir / "tree/later");
    EXPECT_ERR(kNOENT, open("/later", O_RDONLY));
    (void)p;
  });
}

}  // namespace
}  // namespace uk
