// Pipes and FIFOs: order, blocking, atomic writes, ends, packets, capacity.
#include "ukernel/fs/pipefs/pipe.h"

#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

class PipeTest : public VfsTest {
 protected:
  PipeTest() : pipefs(make_pipefs()) {}
  PipeEnds ends(int flags = 0) {
    return CHECK_OK(make_pipe(*park, *pipefs, flags, *cred, vfs.now()));
  }
  static Result<size_t> put(Park& p, File& f, std::string_view s) {
    uint64_t at = 0;
    BufferSource from(std::as_bytes(std::span(s.data(), s.size())));
    return f.write(p, from, at);
  }
  static Result<std::string> get(Park& p, File& f, size_t n) {
    std::string out(n, '\0');
    BufferSink to(std::as_writable_bytes(std::span(out)));
    out.resize(TRY(f.read(p, to, 0)));
    return out;
  }
  Ref<SuperBlock> pipefs;
};

TEST_F(PipeTest, BytesInOrder) {
  run([&](Park& p) {
    PipeEnds e = ends();
    EXPECT_EQ(*put(p, *e.write_end, "hello "), 6u);
    EXPECT_EQ(*put(p, *e.write_end, "world"), 5u);
    EXPECT_EQ(*get(p, *e.read_end, 4), "hell");
    EXPECT_EQ(*get(p, *e.read_end, 100), "o world");
    EXPECT_ERR(kINVAL, get(p, *e.write_end, 1));
  });
}

TEST_F(PipeTest, EndsAndErrors) {
  run([&](Park& p) {
    PipeEnds e = ends(O_NONBLOCK);
    EXPECT_ERR(kAGAIN, get(p, *e.read_end, 1));
    EXPECT_EQ(e.read_end->ready(), 0u);
    EXPECT_OK(put(p, *e.write_end, "x"));
    EXPECT_TRUE(e.read_end->ready() & POLLIN);
    e.write_end.reset();
    EXPECT_EQ(*get(p, *e.read_end, 9), "x");
    EXPECT_EQ(*get(p, *e.read_end, 9), "") << "end of file";
    EXPECT_TRUE(e.read_end->ready() & POLLHUP);
    PipeEnds f = ends();
    f.read_end.reset();
    EXPECT_ERR(kPIPE, put(p, *f.write_end, "x"));
    EXPECT_TRUE(f.write_end->ready() & POLLERR);
  });
}

TEST_F(PipeTest, AReaderWaitsForTheWriter) {
  run([&](Park& p) {
    PipeEnds e = ends();
    spawn([w = e.write_end](Park& q) {
      q.yield();
      EXPECT_OK(put(q, *w, "late"));
    });
    EXPECT_EQ(*get(p, *e.read_end, 10), "late");
  });
}

TEST_F(PipeTest, AFullPipeBlocksTheWriterUntilThereIsRoom) {
  run([&](Park& p) {
    PipeEnds e = ends();
    const std::string big(200000, 'b');
    bool written = false;
    spawn([&, w = e.write_end](Park& q) {
      EXPECT_EQ(*put(q, *w, big), big.size());
      written = true;
    });
    e.write_end.reset();
    std::string all;
    for (;;) {
      std::string piece = *get(p, *e.read_end, 7000);
      if (piece.empty()) break;
      all += piece;
    }
    EXPECT_TRUE(written);
    EXPECT_EQ(all, big);
  });
}

TEST_F(PipeTest, SmallWritesAreAllOrNothing) {
  run([&](Park& p) {
    PipeEnds e = ends(O_NONBLOCK);
    EXPECT_EQ(*put(p, *e.write_end, std::string(65536 - 10, 'a')), 65526u);
    EXPECT_ERR(kAGAIN, put(p, *e.write_end, std::string(11, 'b')));
    EXPECT_EQ(*put(p, *e.write_end, std::string(10, 'c')), 10u);
    EXPECT_FALSE(e.write_end->ready() & POLLOUT);
  });
}

TEST_F(PipeTest, Packets) {
  run([&](Park& p) {
    PipeEnds e = ends(O_DIRECT);
    EXPECT_OK(put(p, *e.write_end, "first"));
    EXPECT_OK(put(p, *e.write_end, "second"));
    EXPECT_EQ(*get(p, *e.read_end, 3), "fir") << "the rest of a packet is dropped";
    EXPECT_EQ(*get(p, *e.read_end, 100), "second");
  });
}

TEST_F(PipeTest, Capacity) {
  run([&](Park& p) {
    PipeEnds e = ends(O_NONBLOCK);
    Pipe& pipe = *pipe_of(*e.read_end);
    EXPECT_EQ(*pipe.set_capacity(5000), 8192u);
    EXPECT_EQ(*put(p, *e.write_end, std::string(10000, 'x')), 8192u);
    EXPECT_ERR(kBUSY, pipe.set_capacity(0));
    EXPECT_OK(get(p, *e.read_end, 8000));
    EXPECT_EQ(*pipe.set_capacity(0), 4096u) << "at least a page";
    EXPECT_ERR(kINVAL, pipe.set_capacity(uint64_t{1} << 40));
  });
}

TEST_F(PipeTest, FifosWaitForTheirOtherEnd) {
  run([&](Park& p) {
    vfs.set_fifo_opener([](Park& q, const Path& path, int flags, const Cred&) {
      return open_fifo(q, path, flags);
    });
    EXPECT_OK(vfs.mknod(p, ctx(), {}, "/f", S_IFIFO | 0644, 0));
    EXPECT_ERR(kNXIO, open("/f", O_WRONLY | O_NONBLOCK));
    Ref<File> early = *open("/f", O_RDONLY | O_NONBLOCK);
    EXPECT_EQ(*get(p, *early, 1), "");
    early.reset();
    FsContext c = ctx();
    spawn([&, c](Park& q) {
      Ref<File> w = *vfs.open(q, c, {}, "/f", OpenRequest{O_WRONLY, 0, 0});
      EXPECT_OK(put(q, *w, "through"));
    });
    Ref<File> r = *open("/f", O_RDONLY);
    EXPECT_EQ(*get(p, *r, 100), "through");
    EXPECT_EQ(*get(p, *r, 100), "");
    r.reset();
    EXPECT_EQ(walk("/f")->inode()->pipe_or_socket, nullptr) << "the last close forgets the pipe";
  });
}

}  // namespace
}  // namespace uk
