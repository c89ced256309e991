// The newc reader: a good archive, and every kind of bad one.
#include "ukernel/fs/initramfs/initramfs.h"

#include <cstdio>
#include <cstring>

#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

class Archive {
 public:
  Archive& add(std::string name, uint32_t mode, std::string_view data = "", uint32_t nlink = 1,
               uint32_t ino = 0) {
    char head[111];
    snprintf(head, sizeof(head), "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X",
             ino != 0 ? ino : next_++, mode, 3u, 4u, nlink, 1700000000u, data.size(), 0u, 0u, 0u,
             0u, name.size() + 1, 0u);
    text_ += head;
    text_ += name;
    text_ += '\0';
    pad();
    text_ += data;
    pad();
    return *this;
  }
  Archive& end() { return add("TRAILER!!!", 0); }
  std::string& text() { return text_; }
  std::span<const std::byte> bytes() const { return std::as_bytes(std::span(text_)); }

 private:
  void pad() {
    while (text_.size() % 4 != 0) text_ += '\0';
  }
  std::string text_;
  uint32_t next_ = 100;
};

class Initramfs : public VfsTest {
 protected:
  Result<> unpack(const Archive& a) {
    return unpack_initramfs(*park, vfs, ns->root->root->inode_ref(), a.bytes());
  }
};

TEST_F(Initramfs, Unpacks) {
  Archive a;
  a.add(".", S_IFDIR | 0711).add("bin", S_IFDIR | 0755);
  a.add("bin/prog", S_IFREG | 0755, std::string(5000, 'p'));
  a.add("bin/sh", S_IFLNK | 0777, "prog").add("hard1", S_IFREG | 0644, "", 2, 7);
  a.add("hard2", S_IFREG | 0644, "shared", 2, 7).end();
  run([&](Park&) {
    EXPECT_OK(unpack(a));
    EXPECT_EQ(stat("/")->mode & 07777u, 0711u);
    EXPECT_EQ(read_file("/bin/sh")->size(), 5000u);
    EXPECT_EQ(stat("/bin/prog")->uid, 3u);
    EXPECT_EQ(stat("/bin/prog")->mtime.sec, 1700000000);
    EXPECT_EQ(*read_file("/hard1"), "shared");
    EXPECT_EQ(stat("/hard1")->nlink, 2u);
    EXPECT_EQ(mem->shmem_pages, 0u) << "contents stay in the archive";
    // Written to, the file gets pages of its own; the archive stays as it is.
    Ref<File> f = *open("/bin/prog", O_RDWR);
    uint64_t at = 0;
    BufferSource from(std::as_bytes(std::span("Q", 1)));
    EXPECT_EQ(*f->write(*park, from, at), 1u);
    std::string want = std::string(5000, 'p');
    want[0] = 'Q';
    EXPECT_EQ(*read_file("/bin/prog"), want);
    EXPECT_NE(a.text().find("pppp"), std::string::npos);
    EXPECT_EQ(a.text().find('Q'), std::string::npos);
  });
}

TEST_F(Initramfs, RefusesBadArchives) {
  run([&](Park&) {
    EXPECT_ERR(kINVAL, unpack(Archive()));
    Archive no_end;
    no_end.add("f", S_IFREG | 0644, "x");
    EXPECT_ERR(kINVAL, unpack(no_end));
    EXPECT_ERR(kINVAL, unpack(Archive().add("../up", S_IFREG | 0644, "x").end()));
    EXPECT_ERR(kINVAL, unpack(Archive().add("odd", 0644, "x").end()));
    EXPECT_ERR(kNOENT, unpack(Archive().add("no/dir", S_IFREG | 0644, "x").end()));
    EXPECT_ERR(kINVAL, unpack(Archive().add("link", S_IFLNK | 0777, "").end()));
    Archive good;
    good.add("a", S_IFREG | 0644, "contents").end();
    for (size_t cut = 0; cut + 1 < good.text().size(); cut += 3) {
      Archive a;
      a.text() = good.text().substr(0, cut);
      EXPECT_ERR(kINVAL, unpack(a));
    }
    for (size_t at = 6; at < 110; at += 8) {
      Archive a = good;
      memcpy(a.text().data() + at, "FFFFFFFF", 8);
      (void)unpack(a);  // an error or not, but no crash
      memcpy(a.text().data() + at, "xyzzy   ", 8);
      if (at < 102) {
        EXPECT_ERR(kINVAL, unpack(a));
      }
    }
  });
}

}  // namespace
}  // namespace uk
