// A Vfs in invented time whose root is a tmpfs: run() executes a test's body on a fiber. For tests
// of the vfs, of filesystems, and of what lies above.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "base/log.h"
#include "ukernel/fs/tmpfs/tmpfs.h"
#include "ukernel/mm/io.h"
#include "ukernel/sched/test_kit.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

inline std::ostream& operator<<(std::ostream& out, Errno e) { return out << errno_name(e); }

// EXPECT_ERR(kNOENT, call);
#define EXPECT_ERR(name, ...)                                              \
  do {                                                                     \
    auto expect_err_result = (__VA_ARGS__);                                \
    if (expect_err_result.has_value()) {                                   \
      ADD_FAILURE() << "no error from " #__VA_ARGS__ ", " #name " wanted"; \
    } else {                                                               \
      EXPECT_EQ(expect_err_result.error(), ::uk::Errno::name);             \
    }                                                                      \
  } while (0)
#define EXPECT_OK(...)                                                         \
  do {                                                                         \
    auto expect_ok_result = (__VA_ARGS__);                                     \
    EXPECT_TRUE(expect_ok_result.has_value())                                  \
        << #__VA_ARGS__ << ": " << ::uk::errno_name(expect_ok_result.error()); \
  } while (0)

class VfsTest : public ::testing::Test {
 protected:
  VfsTest() : mem(CHECK_OK(PhysMemory::create(64 << 20))), vfs(*mem, sim.clock, log) {
    register_tmpfs(vfs);
    root_cred = make_ref<Cred>();
    user_cred = make_ref<Cred>();
    user_cred->uid = user_cred->euid = user_cred->suid = user_cred->fsuid = 1000;
    user_cred->gid = user_cred->egid = user_cred->sgid = user_cred->fsgid = 1000;
    user_cred->cap_permitted = user_cred->cap_effective = 0;
    cred = root_cred.get();
  }
  ~VfsTest() override {
    cwd = Path();
    ns.reset();
  }

  // Mounts a fresh tmpfs as the root, then runs `body` on a fiber; fails if it never ends.
  void run(std::function<void(Park&)> body) {
    bool ended = false;
    auto fiber = sim.reactor.spawn("test", [&](Park& p) {
      if (ns == nullptr) {
        ns = make_ref<MountNamespace>();
        Ref<Inode> root;
        Ref<SuperBlock> sb = make_root(p, &root);
        EXPECT_OK(vfs.new_root(p, *ns, sb, root, "root", 0));
      }
      park = &p;
      body(p);
      ended = true;
      sim.reactor.stop();
    });
    sim.run();
    EXPECT_TRUE(ended) << "the test waits for something that cannot happen";
  }
  // Another fiber beside the test's.
  Ref<Fiber> spawn(std::function<void(Park&)> body) {
    return sim.reactor.spawn("other", std::move(body));
  }

  virtual Ref<SuperBlock> make_root(Park&, Ref<Inode>* root) {
    TmpfsOptions o;
    o.mode = 0755;
    return make_tmpfs(vfs, o, root);
  }

  FsContext ctx() {
    FsContext c;
    c.root = Path(ns->root, ns->root->root);
    c.cwd = cwd ? cwd : c.root;
    c.cred = cred;
    c.ns = ns.get();
    return c;
  }
  Result<Ref<File>> open(std::string_view path, int flags, uint32_t mode = 0644) {
    return vfs.open(*park, ctx(), {}, path, OpenRequest{flags, mode, 0});
  }
  Result<Path> walk(std::string_view path, uint32_t flags = kWalkFollow) {
    return vfs.walk(*park, ctx(), {}, path, flags);
  }
  Result<FileAttr> stat(std::string_view path, bool follow = true) {
    return vfs.stat(*park, TRY(walk(path, follow ? kWalkFollow : 0u)));
  }
  Result<> mkdir(std::string_view path, uint32_t mode = 0755) {
    return vfs.mkdir(*park, ctx(), {}, path, mode);
  }
  Result<> symlink(std::string_view target, std::string_view path) {
    return vfs.symlink(*park, ctx(), target, {}, path);
  }
  Result<> unlink(std::string_view path) { return vfs.unlink(*park, ctx(), {}, path); }
  Result<> rmdir(std::string_view path) { return vfs.rmdir(*park, ctx(), {}, path); }
  Result<> link(std::string_view from, std::string_view to) {
    return vfs.link(*park, ctx(), TRY(walk(from, 0)), {}, to);
  }
  Result<> rename(std::string_view from, std::string_view to, uint32_t flags = 0) {
    return vfs.rename(*park, ctx(), {}, from, {}, to, flags);
  }
  Result<> write_file(std::string_view path, std::string_view text, uint32_t mode = 0644) {
    Ref<File> f = TRY(open(path, O_WRONLY | O_CREAT | O_TRUNC, mode));
    uint64_t at = 0;
    BufferSource from(std::as_bytes(std::span(text.data(), text.size())));
    size_t n = TRY(f->write(*park, from, at));
    return n == text.size() ? Result<>() : Err(Errno::kIO);
  }
  Result<std::string> read_file(File& f) {
    std::string out;
    for (;;) {
      std::string piece(4096, '\0');
      BufferSink to(std::as_writable_bytes(std::span(piece.data(), piece.size())));
      size_t n = TRY(f.read(*park, to, out.size()));
      if (n == 0) return out;
      out += piece.substr(0, n);
    }
  }
  Result<std::string> read_file(std::string_view path) {
    return read_file(*TRY(open(path, O_RDONLY)));
  }
  // Names (without the dots) and their types.
  Result<std::map<std::string, int>> list(std::string_view path) {
    Ref<File> f = TRY(open(path, O_RDONLY | O_DIRECTORY));
    std::map<std::string, int> out;
    TRY(f->readdir(*park, [&](const DirEntry& e) {
      if (e.name != "." && e.name != "..") out.emplace(e.name, e.type);
      return true;
    }));
    return out;
  }
  std::string name_of(const Path& p) { return vfs.path_name(p, ctx().root); }

  SimReactor sim;
  Log log;
  std::unique_ptr<PhysMemory> mem;
  Vfs vfs;
  Ref<MountNamespace> ns;
  Ref<Cred> root_cred, user_cred;
  Cred* cred;
  Path cwd;
  Park* park = nullptr;
};

}  // namespace uk
