// The vfs core over a tmpfs: walks, opens, creation, removal, renames, permissions, mounts.
#include <sys/inotify.h>

#include "ukernel/vfs/anon_inode.h"
#include "ukernel/vfs/file_locks.h"
#include "ukernel/vfs/inotify.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

class Core : public VfsTest {};

TEST_F(Core, WalksDotsSlashesAndLinks) {
  run([&](Park&) {
    EXPECT_OK(mkdir("/a"));
    EXPECT_OK(mkdir("/a/b"));
    EXPECT_OK(write_file("/a/b/f", "x"));
    EXPECT_OK(symlink("a/b", "/l"));
    EXPECT_OK(symlink("/l/../b/f", "/lf"));
    EXPECT_OK(symlink("loop", "/loop"));
    EXPECT_EQ(name_of(*walk("//a///b/./../b/f")), "/a/b/f");
    EXPECT_EQ(name_of(*walk("/lf")), "/a/b/f");
    EXPECT_EQ(name_of(*walk("/lf", 0)), "/lf");
    EXPECT_EQ(name_of(*walk("/../../l/")), "/a/b");
    EXPECT_EQ(name_of(*walk("/l/", 0)), "/a/b") << "a trailing slash follows";
    EXPECT_ERR(kLOOP, walk("/loop"));
    EXPECT_ERR(kNOTDIR, walk("/a/b/f/"));
    EXPECT_ERR(kNOTDIR, walk("/a/b/f/x"));
    EXPECT_ERR(kNOTDIR, walk("/a/b/f/."));
    EXPECT_ERR(kNOENT, walk("/a/none/x"));
    EXPECT_ERR(kNOENT, walk(""));
    EXPECT_ERR(kNAMETOOLONG, walk("/" + std::string(256, 'n')));
    EXPECT_ERR(kNAMETOOLONG, walk(std::string(4096, '/')));
    cwd = *walk("/a");
    EXPECT_EQ(name_of(*walk("b")), "/a/b");
    EXPECT_EQ(name_of(*walk("..")), "/");
  });
}

TEST_F(Core, FollowsAtMostFortyLinks) {
  run([&](Park&) {
    EXPECT_OK(write_file("/l0", "end"));
    for (int i = 1; i <= 41; ++i) {
      EXPECT_OK(symlink("l" + std::to_string(i - 1), "/l" + std::to_string(i)));
    }
    EXPECT_OK(walk("/l40"));
    EXPECT_ERR(kLOOP, walk("/l41"));
  });
}

TEST_F(Core, ScopedWalksStayInside) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/j"));
    EXPECT_OK(mkdir("/j/d"));
    EXPECT_OK(write_file("/out", "x"));
    EXPECT_OK(symlink("/out", "/j/abs"));
    EXPECT_OK(symlink("../out", "/j/up"));
    Path base = *walk("/j");
    WalkFrom from{&base};
    auto at = [&](std::string_view path, uint32_t flags) {
      return vfs.walk(p, ctx(), from, path, flags | kWalkFollow);
    };
    EXPECT_ERR(kXDEV, at("abs", kWalkBeneath));
    EXPECT_ERR(kXDEV, at("up", kWalkBeneath));
    EXPECT_ERR(kXDEV, at("/d", kWalkBeneath));
    EXPECT_ERR(kXDEV, at("..", kWalkBeneath));
    EXPECT_OK(at("d/..", kWalkBeneath));
    EXPECT_ERR(kNOENT, at("abs", kWalkInRoot));
    EXPECT_EQ(name_of(*at("/../../d", kWalkInRoot)), "/j/d");
    EXPECT_ERR(kLOOP, at("up", kWalkNoSymlinks));
  });
}

TEST_F(Core, OpenFlags) {
  run([&](Park&) {
    EXPECT_OK(mkdir("/d"));
    EXPECT_OK(write_file("/f", "hello"));
    EXPECT_OK(symlink("f", "/l"));
    EXPECT_OK(symlink("made", "/dangling"));
    EXPECT_ERR(kNOENT, open("/none", O_RDONLY));
    EXPECT_ERR(kEXIST, open("/f", O_RDWR | O_CREAT | O_EXCL));
    EXPECT_ERR(kEXIST, open("/dangling", O_RDWR | O_CREAT | O_EXCL));
    EXPECT_ERR(kISDIR, open("/d", O_WRONLY));
    EXPECT_ERR(kISDIR, open("/d", O_RDONLY | O_CREAT));
    EXPECT_ERR(kISDIR, open("/new/", O_WRONLY | O_CREAT));
    EXPECT_ERR(kNOTDIR, open("/f", O_RDONLY | O_DIRECTORY));
    EXPECT_ERR(kNOTDIR, open("/f/", O_RDONLY));
    EXPECT_ERR(kLOOP, open("/l", O_RDONLY | O_NOFOLLOW));
    EXPECT_OK(open("/l", O_PATH | O_NOFOLLOW));
    EXPECT_ERR(kINVAL, open("/d", O_TMPFILE | O_RDONLY));
    EXPECT_OK(open("/dangling", O_WRONLY | O_CREAT));
    EXPECT_OK(stat("/made"));
    Ref<File> f = *open("/f", O_RDWR | O_TRUNC | O_CLOEXEC);
    EXPECT_EQ(stat("/f")->size, 0u);
    EXPECT_EQ(f->flags, O_RDWR);
  });
}

TEST_F(Core, ExecutedFilesAreNotWritten) {
  run([&](Park&) {
    EXPECT_OK(write_file("/prog", "x", 0755));
    Inode* inode = walk("/prog")->inode();
    ++inode->deny_write;
    EXPECT_ERR(kTXTBSY, open("/prog", O_WRONLY));
    EXPECT_ERR(kTXTBSY, open("/prog", O_RDONLY | O_TRUNC));
    --inode->deny_write;
    Ref<File> w = *open("/prog", O_WRONLY);
    EXPECT_EQ(inode->writers, 1);
    EXPECT_ERR(kTXTBSY, vfs.open_exec(*park, ctx(), {}, "/prog", kWalkFollow));
    w.reset();
    EXPECT_EQ(inode->writers, 0);
    EXPECT_OK(vfs.open_exec(*park, ctx(), {}, "/prog", kWalkFollow));
  });
}

TEST_F(Core, Permissions) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/secret", 0700));
    EXPECT_OK(write_file("/secret/f", "x"));
    EXPECT_OK(write_file("/mine", "x", 0600));
    EXPECT_OK(vfs.chown(p, ctx(), *walk("/mine"), 1000, 1000));
    EXPECT_OK(write_file("/group", "x", 0640));
    EXPECT_OK(mkdir("/open"));
    EXPECT_OK(vfs.chmod(p, ctx(), *walk("/open"), 0777));
    EXPECT_OK(vfs.chown(p, ctx(), *walk("/group"), 0, 5));
    cred = user_cred.get();
    EXPECT_ERR(kACCES, open("/secret/f", O_RDONLY));
    EXPECT_ERR(kACCES, open("/new", O_WRONLY | O_CREAT));
    EXPECT_OK(open("/mine", O_RDWR));
    EXPECT_ERR(kACCES, open("/group", O_RDONLY));
    user_cred->groups = {5};
    EXPECT_OK(open("/group", O_RDONLY));
    EXPECT_ERR(kACCES, open("/group", O_WRONLY));
    EXPECT_ERR(kPERM, vfs.chmod(p, ctx(), *walk("/group"), 0777));
    EXPECT_ERR(kPERM, vfs.chown(p, ctx(), *walk("/mine"), 0, ~0u));
    EXPECT_OK(vfs.chown(p, ctx(), *walk("/mine"), ~0u, 5));
    EXPECT_ERR(kPERM, vfs.mknod(p, ctx(), {}, "/open/dev", S_IFCHR | 0600, make_dev(1, 3)));
    EXPECT_ERR(kPERM, open("/group", O_RDONLY | O_NOATIME));
  });
}

TEST_F(Core, StickyDirectories) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/tmp", 0777));
    EXPECT_OK(vfs.chmod(p, ctx(), *walk("/tmp"), 01777));
    EXPECT_OK(write_file("/tmp/roots", "x"));
    cred = user_cred.get();
    EXPECT_OK(write_file("/tmp/mine", "x"));
    EXPECT_ERR(kPERM, unlink("/tmp/roots"));
    EXPECT_ERR(kPERM, rename("/tmp/roots", "/tmp/x"));
    EXPECT_ERR(kPERM, rename("/tmp/mine", "/tmp/roots"));
    EXPECT_ERR(kPERM, link("/tmp/roots", "/tmp/hard"));  // protected_hardlinks
    EXPECT_OK(unlink("/tmp/mine"));
  });
}

TEST_F(Core, SetgidDirectories) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/g"));
    EXPECT_OK(vfs.chown(p, ctx(), *walk("/g"), 0, 7));
    EXPECT_OK(vfs.chmod(p, ctx(), *walk("/g"), 02777));
    EXPECT_OK(mkdir("/g/sub"));
    EXPECT_OK(write_file("/g/f", "x"));
    EXPECT_EQ(stat("/g/sub")->gid, 7u);
    EXPECT_EQ(stat("/g/sub")->mode & 07000u, static_cast<uint32_t>(S_ISGID));
    EXPECT_EQ(stat("/g/f")->gid, 7u);
  });
}

TEST_F(Core, LinksAndRemoval) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/d"));
    EXPECT_OK(write_file("/f", "text"));
    EXPECT_OK(link("/f", "/d/g"));
    EXPECT_EQ(stat("/d/g")->nlink, 2u);
    EXPECT_EQ(stat("/d/g")->ino, stat("/f")->ino);
    EXPECT_ERR(kPERM, link("/d", "/e"));
    EXPECT_ERR(kEXIST, link("/f", "/d/g"));
    EXPECT_ERR(kISDIR, unlink("/d"));
    EXPECT_ERR(kNOTDIR, rmdir("/f"));
    EXPECT_ERR(kNOTEMPTY, rmdir("/d"));
    EXPECT_ERR(kINVAL, rmdir("/d/."));
    EXPECT_ERR(kNOTEMPTY, rmdir("/d/.."));
    EXPECT_ERR(kBUSY, rmdir("/"));
    EXPECT_ERR(kNOTDIR, unlink("/f/"));
    Ref<File> f = *open("/f", O_RDONLY);
    EXPECT_OK(unlink("/f"));
    EXPECT_OK(unlink("/d/g"));
    EXPECT_EQ(*read_file(*f), "text");
    EXPECT_EQ(f->getattr(p)->nlink, 0u);
    EXPECT_EQ(name_of(f->path()), "/f (deleted)");
    cwd = *walk("/d");
    EXPECT_OK(rmdir("/d"));
    EXPECT_ERR(kNOENT, write_file("x", "in a removed directory"));
    EXPECT_ERR(kEXIST, mkdir("/"));
    EXPECT_ERR(kNOENT, vfs.mknod(p, ctx(), {}, "/n/", S_IFREG, 0));
    EXPECT_EQ(mem->shmem_pages, 1u);
    f.reset();
    EXPECT_EQ(mem->shmem_pages, 0u) << "the last reference frees the contents";
  });
}

TEST_F(Core, Renames) {
  run([&](Park&) {
    EXPECT_OK(mkdir("/a"));
    EXPECT_OK(mkdir("/a/in"));
    EXPECT_OK(mkdir("/b"));
    EXPECT_OK(write_file("/a/f", "f"));
    EXPECT_OK(write_file("/g", "g"));
    EXPECT_ERR(kINVAL, rename("/a", "/a/in/x"));
    EXPECT_ERR(kNOTEMPTY, rename("/a/in", "/a"));
    EXPECT_ERR(kNOTEMPTY, rename("/b", "/a"));
    EXPECT_ERR(kNOTDIR, rename("/a", "/g"));
    EXPECT_ERR(kISDIR, rename("/g", "/a"));
    EXPECT_ERR(kBUSY, rename("/a/.", "/c"));
    EXPECT_ERR(kNOTDIR, rename("/g", "/h/"));
    EXPECT_ERR(kEXIST, rename("/g", "/a/f", 1));
    EXPECT_ERR(kNOENT, rename("/none", "/x"));
    EXPECT_ERR(kINVAL, rename("/g", "/x", 1 | 2));
    Path in = *walk("/a/in");
    EXPECT_OK(rename("/a", "/b/a2"));
    EXPECT_EQ(name_of(in), "/b/a2/in");
    EXPECT_ERR(kNOENT, walk("/a"));
    EXPECT_OK(rename("/g", "/b/a2/f"));
    EXPECT_EQ(*read_file("/b/a2/f"), "g");
    EXPECT_EQ(stat("/b")->nlink, 3u);
    EXPECT_EQ(stat("/")->nlink, 3u);
    EXPECT_OK(write_file("/file", "file"));
    EXPECT_OK(rename("/file", "/b", 2));
    EXPECT_EQ(*read_file("/b"), "file");
    EXPECT_EQ(name_of(in), "/file/a2/in");
    EXPECT_OK(write_file("/one", "1"));
    EXPECT_OK(link("/one", "/two"));
    EXPECT_OK(rename("/one", "/two"));  // the same file: nothing happens
    EXPECT_OK(stat("/one"));
  });
}

TEST_F(Core, UnnamedFiles) {
  run([&](Park& p) {
    Ref<File> t = *open("/", O_TMPFILE | O_RDWR, 0600);
    EXPECT_EQ(t->getattr(p)->nlink, 0u);
    EXPECT_OK(vfs.link(p, ctx(), t->path(), {}, "/named"));
    EXPECT_EQ(stat("/named")->nlink, 1u);
    Ref<File> x = *open("/", O_TMPFILE | O_RDWR | O_EXCL, 0600);
    EXPECT_ERR(kNOENT, vfs.link(p, ctx(), x->path(), {}, "/never"));
    Ref<File> m = *vfs.memory_file(p, *cred, "/memfd:m", 0777);
    EXPECT_EQ(name_of(m->path()), "/memfd:m (deleted)");
  });
}

TEST_F(Core, DeepTreesComeDownWithoutRecursion) {
  run([&](Park&) {
    constexpr int kDepth = 20000;
    cwd = *walk("/");
    for (int i = 0; i < kDepth; ++i) {
      ASSERT_TRUE(mkdir("d"));
      cwd = *walk("d");
    }
    EXPECT_EQ(name_of(cwd).size(), 2u * kDepth);
    cwd = Path();
    EXPECT_OK(rename("/d", "/e"));
  });
  ns.reset();
  vfs.shrink_names(true);
}

TEST_F(Core, Mounts) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/m"));
    EXPECT_OK(write_file("/m/under", "x"));
    EXPECT_ERR(kNODEV, vfs.mount(p, ctx(), *walk("/m"), "nofs", "none", "", 0));
    EXPECT_ERR(kINVAL, vfs.mount(p, ctx(), *walk("/m"), "tmpfs", "none", "bad=1", 0));
    EXPECT_OK(vfs.mount(p, ctx(), *walk("/m"), "tmpfs", "none", "size=64k", 0));
    EXPECT_ERR(kNOENT, walk("/m/under"));
    EXPECT_NE(stat("/m")->dev, stat("/")->dev);
    EXPECT_EQ(name_of(*walk("/m/..")), "/");
    EXPECT_ERR(kBUSY, rmdir("/m"));
    EXPECT_ERR(kBUSY, rename("/m", "/n"));
    EXPECT_OK(write_file("/f", "f"));
    EXPECT_ERR(kXDEV, rename("/f", "/m/f"));
    EXPECT_ERR(kXDEV, link("/f", "/m/f"));
    EXPECT_ERR(kIO, write_file("/m/big", std::string(65537, 'x')));  // a short write
    EXPECT_EQ(stat("/m/big")->size, 65536u);
    EXPECT_OK(unlink("/m/big"));
    Ref<File> busy = *open("/m", O_RDONLY);
    EXPECT_ERR(kBUSY, vfs.umount(p, ctx(), *walk("/m"), 0));
    busy.reset();
    EXPECT_ERR(kINVAL, vfs.umount(p, ctx(), *walk("/f"), 0));
    EXPECT_OK(vfs.umount(p, ctx(), *walk("/m"), 0));
    EXPECT_OK(walk("/m/under"));
    // A bind mount shows the same files, read-only here.
    EXPECT_OK(mkdir("/bind"));
    Ref<Mount> b = *vfs.bind(ctx(), *walk("/m"), *walk("/bind"), true);
    EXPECT_EQ(*read_file("/bind/under"), "x");
    b->flags |= kMntRdonly;
    EXPECT_ERR(kROFS, write_file("/bind/under", "y"));
    EXPECT_ERR(kROFS, unlink("/bind/under"));
    EXPECT_ERR(kROFS, vfs.access(p, *walk("/bind/under"), *cred, kMayWrite));
    EXPECT_OK(write_file("/m/under", "y"));
  });
}

// A filesystem of what comes and goes: each look-up makes an inode.
class FleetingFs final : public SuperBlock {
 public:
  struct Node final : Inode {
    Node(Ref<SuperBlock> sb, uint32_t t, int* n) : Inode(std::move(sb)), kind(t), live(n) { ++*n; }
    ~Node() override { --*live; }
    uint32_t type() const override { return kind; }
    Result<FileAttr> getattr(Park&) override {
      FileAttr a;
      a.mode = kind | 0755;
      return a;
    }
    Result<Ref<Inode>> lookup(Park&, std::string_view) override {
      return Ref<Inode>(make_ref<Node>(Ref<SuperBlock>(&sb()), S_IFDIR, live));
    }
    uint32_t kind;
    int* live;
  };
  std::string_view fs_type() const override { return "fleeting"; }
  Result<FsStat> statfs(Park&) override { return FsStat{}; }
  bool volatile_names() const override { return true; }
  bool keeps_names() const override { return false; }
};

TEST_F(VfsTest, LimitOfMounts) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/m"));
    EXPECT_OK(mkdir("/b"));
    vfs.settings.mount_max = 4;
    auto tmpfs = [&](const char* at) {
      return vfs.mount(p, ctx(), *walk(at), "tmpfs", "t", "", 0);
    };
    EXPECT_OK(tmpfs("/m"));
    EXPECT_OK(vfs.set_propagation(ctx(), *walk("/m"), Propagation::kShared, false));
    EXPECT_OK(vfs.bind(ctx(), *walk("/m"), *walk("/b"), false));
    EXPECT_OK(mkdir("/m/x"));
    EXPECT_ERR(kNOSPC, tmpfs("/m/x"));
    EXPECT_EQ(ns->mounts.size(), 3u);
    EXPECT_EQ(walk("/m/x")->mount, walk("/m")->mount);
    EXPECT_OK(mkdir("/c"));
    EXPECT_OK(tmpfs("/c"));
    EXPECT_ERR(kNOSPC, tmpfs("/c"));
  });
}

TEST_F(Core, WhatHasEndedIsNotKeptByItsName) {
  int live = 0;
  vfs.register_fs({.name = "fleeting",
                   .mount = [&](Park&, Vfs&, const std::string&, const std::string&,
                                Ref<Inode>* root) -> Result<Ref<SuperBlock>> {
                     auto sb = make_ref<FleetingFs>();
                     *root = make_ref<FleetingFs::Node>(sb, S_IFDIR, &live);
                     return Ref<SuperBlock>(sb);
                   }});
  run([&](Park& p) {
    EXPECT_OK(mkdir("/m"));
    EXPECT_OK(vfs.mount(p, ctx(), *walk("/m"), "fleeting", "none", "", 0));
    EXPECT_EQ(live, 1);
    {
      Path in = *walk("/m/a/b");
      EXPECT_EQ(live, 3) << "as long as it is used";
      EXPECT_EQ(name_of(in), "/m/a/b");
    }
    EXPECT_EQ(live, 1);
    EXPECT_OK(vfs.umount(p, ctx(), *walk("/m"), 0));
  });
  EXPECT_EQ(live, 0);
}

TEST_F(Core, Inotify) {
  run([&](Park& p) {
    EXPECT_OK(mkdir("/w"));
    auto n = make_ref<InotifyFile>(make_anon_path("inotify"), O_NONBLOCK);
    int wd = *n->add_watch(walk("/w")->dentry->inode_ref(), IN_ALL_EVENTS);
    EXPECT_OK(write_file("/w/a", "x"));
    EXPECT_OK(rename("/w/a", "/w/b"));
    EXPECT_OK(unlink("/w/b"));
    EXPECT_OK(rmdir("/w"));
    std::string raw(4096, '\0');
    BufferSink to(std::as_writable_bytes(std::span(raw.data(), raw.size())));
    size_t got = *n->read(p, to, 0);
    std::vector<uint32_t> masks;
    for (size_t at = 0; at < got;) {
      inotify_event e;
      memcpy(&e, raw.data() + at, sizeof(e));
      EXPECT_EQ(e.wd, wd);
      masks.push_back(e.mask);
      at += sizeof(e) + e.len;
    }
    EXPECT_EQ(masks, (std::vector<uint32_t>{IN_CREATE, IN_OPEN, IN_CLOSE_WRITE, IN_MOVED_FROM,
                                            IN_MOVED_TO, IN_DELETE, IN_DELETE_SELF, IN_IGNORED}));
    EXPECT_ERR(kAGAIN, n->read(p, to, 0));
    EXPECT_ERR(kINVAL, n->remove_watch(wd));
  });
}

TEST(Locks, SplitJoinAndConflict) {
  SimReactor sim;
  auto fiber = sim.reactor.spawn("t", [&](Park& park) {
    FileLocks locks;
    LockGraph graph;
    int a = 0, b = 0;
    FileLock w{LockKind::kPosix, true, &a, 1, 0, 99};
    EXPECT_OK(locks.set(park, w, false, graph));
    locks.unlock(LockKind::kPosix, &a, 40, 49);
    EXPECT_EQ(locks.all().size(), 2u);
    FileLock hole{LockKind::kPosix, true, &b, 2, 40, 49};
    EXPECT_OK(locks.set(park, hole, false, graph));
    FileLock over{LockKind::kPosix, false, &b, 2, 39, 49};
    EXPECT_ERR(kAGAIN, locks.set(park, over, false, graph));
    EXPECT_EQ(locks.conflict(over)->end, 39u);
    locks.drop_owner(LockKind::kPosix, &b);
    FileLock again{LockKind::kPosix, true, &a, 1, 40, 49};
    EXPECT_OK(locks.set(park, again, false, graph));
    EXPECT_EQ(locks.all().size(), 1u) << "neighbours join";
    sim.reactor.stop();
  });
  sim.run();
  EXPECT_TRUE(fiber->done());
}

TEST(Locks, TheLowestIsFoundFirst) {
  SimReactor sim;
  sim.reactor.spawn("t", [&](Park& park) {
    FileLocks locks;
    LockGraph graph;
    int a = 0, b = 0;
    for (uint64_t start : {50, 10, 30}) {
      FileLock l{LockKind::kPosix, start == 10, &a, 1, start, start + 4};
      EXPECT_OK(locks.set(park, l, false, graph));
    }
    FileLock all{LockKind::kPosix, true, &b, 2, 0, UINT64_MAX};
    EXPECT_EQ(locks.conflict(all)->start, 10u);
    locks.unlock(LockKind::kPosix, &a, 0, 20);
    EXPECT_EQ(locks.conflict(all)->start, 30u);
    sim.reactor.stop();
  });
  sim.run();
}

TEST(Locks, WaitsAndSeesDeadlock) {
  SimReactor sim;
  FileLocks one, two;
  LockGraph graph;
  int a = 0, b = 0;
  bool got = false;
  auto lock = [](const void* owner) { return FileLock{LockKind::kPosix, true, owner, 1}; };
  auto first = sim.reactor.spawn("a", [&](Park& park) {
    EXPECT_OK(one.set(park, lock(&a), true, graph));
    park.yield();
    EXPECT_OK(two.set(park, lock(&a), true, graph));  // waits for b
    got = true;
  });
  auto second = sim.reactor.spawn("b", [&](Park& park) {
    EXPECT_OK(two.set(park, lock(&b), true, graph));
    park.yield();
    park.yield();
    EXPECT_ERR(kDEADLK, one.set(park, lock(&b), true, graph));
    EXPECT_FALSE(got);
    two.drop_owner(LockKind::kPosix, &b);
    park.yield();
    park.yield();
    EXPECT_TRUE(got);
    sim.reactor.stop();
  });
  sim.run();
  EXPECT_TRUE(first->done());
}

}  // namespace
}  // namespace uk
