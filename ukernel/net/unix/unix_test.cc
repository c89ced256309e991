// AF_UNIX endpoints: streams, packets, names, descriptors in flight and their cycles.
#include <sys/socket.h>
#include <sys/un.h>

#include "ukernel/net/unix/unix_socket.h"
#include "ukernel/vfs/testing/test_kit.h"

namespace uk {
namespace {

class UnixTest : public VfsTest {
 protected:
  UnixTest() : table(std::make_shared<UnixSockets>()) {}

  // What SocketCaller borrows.
  struct Who {
    FsContext fs;
    SocketCaller caller;
    Who(Vfs& vfs, FsContext c, int pid, uint64_t limit)
        : fs(c), caller{vfs, fs, {pid, c.cred->uid, c.cred->gid}, limit} {}
  };
  Who who(int pid = 10, uint64_t limit = 1024) { return Who(vfs, ctx(), pid, limit); }

  Ref<Socket> make(int type, int flags = 0) {
    return CHECK_OK(make_unix_socket(table, type, 0, flags, *cred, vfs.now()));
  }
  UnixPair pair(int type, int flags = 0) {
    return CHECK_OK(make_unix_pair(table, type, 0, flags, *cred, {10, 0, 0}, vfs.now()));
  }
  static std::string address(std::string_view path) {
    const sa_family_t family = AF_UNIX;
    return std::string(reinterpret_cast<const char*>(&family), sizeof family) + std::string(path);
  }
  Result<size_t> send(Park& p, Socket& s, std::string_view text, std::vector<Ref<File>> files = {},
                      std::string_view to = {}, int flags = 0) {
    BufferSource from(std::as_bytes(std::span(text.data(), text.size())));
    SendMessage m{.data = from, .to = to, .flags = flags, .nonblock = s.nonblock()};
    m.creds = {10, cred->uid, cred->gid};
    m.files = std::move(files);
    Who w = who(10, limit);
    return s.send(p, w.caller, m);
  }
  struct Got {
    std::string text, from;
    int flags;
    std::vector<Ref<File>> files;
  };
  static Result<Got> receive(Park& p, Socket& s, size_t n, int flags = 0) {
    std::string text(n, '\0');
    BufferSink to(std::as_writable_bytes(std::span(text)));
    ReceiveMessage m{.data = to, .flags = flags, .nonblock = s.nonblock(), .want_control = true};
    size_t got = TRY(s.receive(p, m));
    text.resize(std::min(n, got));
    return Got{std::move(text), m.from, m.out_flags, std::move(m.files)};
  }

  std::shared_ptr<UnixSockets> table;
  uint64_t limit = 1024;
};

TEST_F(UnixTest, AStreamHasNoBoundaries) {
  run([&](Park& p) {
    UnixPair s = pair(SOCK_STREAM);
    EXPECT_OK(send(p, *s.a, "one"));
    EXPECT_OK(send(p, *s.a, "two"));
    EXPECT_EQ(receive(p, *s.b, 4, MSG_PEEK)->text, "onet");
    EXPECT_EQ(receive(p, *s.b, 5)->text, "onetw");
    s.a.reset();
    EXPECT_EQ(receive(p, *s.b, 5)->text, "o");
    EXPECT_EQ(receive(p, *s.b, 5)->text, "") << "end of file";
    EXPECT_ERR(kPIPE, send(p, *s.b, "x"));
  });
}

TEST_F(UnixTest, UnreadDataResetsTheConnection) {
  run([&](Park& p) {
    UnixPair s = pair(SOCK_STREAM);
    EXPECT_OK(send(p, *s.a, "never read"));
    s.b.reset();
    EXPECT_ERR(kCONNRESET, receive(p, *s.a, 5));
    EXPECT_EQ(receive(p, *s.a, 5)->text, "");
  });
}

TEST_F(UnixTest, ASenderWaitsForTheReader) {
  run([&](Park& p) {
    UnixPair s = pair(SOCK_STREAM);
    const std::string big(1 << 20, 'q');
    spawn([&, a = s.a](Park& q) { EXPECT_EQ(*send(q, *a, big), big.size()); });
    s.a.reset();
    std::string all;
    for (;;) {
      std::string piece = receive(p, *s.b, 50000)->text;
      if (piece.empty()) break;
      all += piece;
    }
    EXPECT_EQ(all, big);
  });
}

TEST_F(UnixTest, PacketsKeepTheirBoundaries) {
  run([&](Park& p) {
    for (int type : {SOCK_DGRAM, SOCK_SEQPACKET}) {
      UnixPair s = pair(type);
      EXPECT_OK(send(p, *s.a, "first"));
      EXPECT_OK(send(p, *s.a, ""));
      EXPECT_OK(send(p, *s.a, "third"));
      Got g = *receive(p, *s.b, 3);
      EXPECT_EQ(g.text, "fir");
      EXPECT_EQ(g.flags, MSG_TRUNC);
      EXPECT_EQ(receive(p, *s.b, 9)->text, "");
      EXPECT_EQ(receive(p, *s.b, 9)->text, "third");
      EXPECT_ERR(kMSGSIZE, send(p, *s.a, std::string(300000, 'x')));
    }
  });
}

TEST_F(UnixTest, ConnectAndAcceptByPathAndAbstractName) {
  run([&](Park& p) {
    Who w = who();
    for (std::string name : {std::string("/sock"), std::string("\0abstract", 9)}) {
      Ref<Socket> server = make(SOCK_STREAM), client = make(SOCK_STREAM);
      EXPECT_ERR(kINVAL, server->listen(w.caller, 1));
      EXPECT_OK(server->bind(p, w.caller, address(name)));
      EXPECT_ERR(kADDRINUSE, make(SOCK_STREAM)->bind(p, w.caller, address(name)));
      EXPECT_ERR(kCONNREFUSED, client->connect(p, w.caller, address(name)));
      EXPECT_OK(server->listen(w.caller, 0));
      EXPECT_ERR(kPROTOTYPE, make(SOCK_DGRAM)->connect(p, w.caller, address(name)));
      EXPECT_OK(client->connect(p, w.caller, address(name)));
      Ref<Socket> over = make(SOCK_STREAM, O_NONBLOCK);
      EXPECT_ERR(kAGAIN, over->connect(p, w.caller, address(name)));  // the backlog is full
      EXPECT_OK(send(p, *client, "hi"));
      Ref<Socket> peer = *server->accept(p, w.caller, 0);
      EXPECT_ERR(kISCONN, client->connect(p, w.caller, address(name)));
      EXPECT_EQ(receive(p, *peer, 9)->text, "hi");
      EXPECT_EQ(*peer->local_address(), address(name + (name[0] ? std::string(1, '\0') : "")));
    }
    EXPECT_ERR(kCONNREFUSED, make(SOCK_STREAM)->connect(p, w.caller, address("/sock")));
    EXPECT_ERR(kCONNREFUSED, make(SOCK_STREAM)->connect(p, w.caller, address({"\0abstract", 9})));
  });
}

TEST_F(UnixTest, ClosingAListenerResetsThoseThatWait) {
  run([&](Park& p) {
    Who w = who();
    Ref<Socket> server = make(SOCK_STREAM), client = make(SOCK_STREAM);
    EXPECT_OK(server->bind(p, w.caller, address("/s")));
    EXPECT_OK(server->listen(w.caller, 5));
    EXPECT_OK(client->connect(p, w.caller, address("/s")));
    server.reset();
    EXPECT_ERR(kCONNRESET, receive(p, *client, 1));
  });
}

TEST_F(UnixTest, DatagramsByName) {
  run([&](Park& p) {
    Who w = who();
    Ref<Socket> server = make(SOCK_DGRAM), client = make(SOCK_DGRAM);
    EXPECT_OK(server->bind(p, w.caller, address("/d")));
    EXPECT_OK(client->bind(p, w.caller, address("")));
    EXPECT_OK(send(p, *client, "question", {}, address("/d")));
    Got g = *receive(p, *server, 100);
    EXPECT_EQ(g.text, "question");
    EXPECT_EQ(g.from.size(), 2 + 6u) << "autobind: NUL and five digits";
    EXPECT_OK(send(p, *server, "answer", {}, g.from));
    EXPECT_EQ(receive(p, *client, 100)->text, "answer");
    EXPECT_ERR(kNOTCONN, send(p, *client, "to nobody"));
    EXPECT_OK(client->connect(p, w.caller, address("/d")));
    server.reset();
    EXPECT_ERR(kCONNREFUSED, send(p, *client, "x"));
  });
}

TEST_F(UnixTest, FilesTravelInMessages) {
  run([&](Park& p) {
    EXPECT_OK(write_file("/f", "passed"));
    UnixPair s = pair(SOCK_STREAM);
    EXPECT_OK(send(p, *s.a, "x", {*open("/f", O_RDONLY)}));
    EXPECT_OK(send(p, *s.a, "y"));
    EXPECT_EQ(table->in_flight(0), 1u);
    Got g = *receive(p, *s.b, 10);
    EXPECT_EQ(g.text, "x") << "a read stops behind a message with files";
    ASSERT_EQ(g.files.size(), 1u);
    EXPECT_EQ(*read_file(*g.files[0]), "passed");
    EXPECT_EQ(table->in_flight(0), 0u);
    EXPECT_EQ(receive(p, *s.b, 10)->text, "y");
  });
}

TEST_F(UnixTest, FilesInFlightAreBounded) {
  run([&](Park& p) {
    EXPECT_OK(write_file("/f", "x", 0644));
    cred = user_cred.get();
    limit = 3;
    UnixPair s = pair(SOCK_STREAM);
    Ref<File> f = *open("/f", O_RDONLY);
    EXPECT_OK(send(p, *s.a, "x", {f, f, f}));
    EXPECT_ERR(kTOOMANYREFS, send(p, *s.a, "x", {f}));
    EXPECT_OK(receive(p, *s.b, 1));
    EXPECT_OK(send(p, *s.a, "x", {f}));
  });
}

TEST_F(UnixTest, CyclesOfSocketsInFlightAreCollected) {
  run([&](Park& p) {
    EXPECT_OK(write_file("/f", "x"));
    Ref<File> witness = *open("/f", O_RDONLY);
    {
      UnixPair s = pair(SOCK_STREAM), t = pair(SOCK_STREAM);
      EXPECT_OK(send(p, *s.a, "self", {s.b, witness}));
      EXPECT_OK(send(p, *t.a, "other", {s.a, t.b}));
      EXPECT_OK(send(p, *s.a, "back", {t.a}));
      EXPECT_EQ(witness->ref_count(), 2u);
    }
    pair(SOCK_STREAM);  // its closing looks for garbage
    EXPECT_EQ(witness->ref_count(), 1u) << "nobody can receive it any more";
    EXPECT_EQ(table->in_flight(0), 0u);
  });
}

TEST_F(UnixTest, ASocketInFlightThatCanBeReceivedIsNotGarbage) {
  run([&](Park& p) {
    UnixPair outer = pair(SOCK_STREAM), inner = pair(SOCK_STREAM);
    EXPECT_OK(send(p, *inner.a, "kept", {}));
    EXPECT_OK(send(p, *outer.a, "x", {inner.b}));
    inner.b.reset();
    pair(SOCK_STREAM);  // its closing looks for garbage
    Got g = *receive(p, *outer.b, 1);
    ASSERT_EQ(g.files.size(), 1u);
    EXPECT_EQ(receive(p, *socket_of(*g.files[0]), 10)->text, "kept");
  });
}

TEST_F(UnixTest, ReadinessAndShutdown) {
  run([&](Park& p) {
    UnixPair s = pair(SOCK_STREAM);
    EXPECT_EQ(s.a->ready() & (POLLIN | POLLOUT | POLLHUP), static_cast<uint32_t>(POLLOUT));
    EXPECT_OK(s.b->shutdown(SHUT_WR));
    EXPECT_TRUE(s.a->ready() & POLLRDHUP);
    EXPECT_FALSE(s.a->ready() & POLLHUP);
    EXPECT_EQ(receive(p, *s.a, 1)->text, "");
    EXPECT_ERR(kPIPE, send(p, *s.b, "x"));
    EXPECT_OK(send(p, *s.a, "still open this way"));
    EXPECT_OK(s.a->shutdown(SHUT_WR));
    EXPECT_TRUE(s.a->ready() & POLLHUP);
    EXPECT_TRUE(make(SOCK_STREAM)->ready() & POLLHUP) << "not connected";
  });
}

TEST_F(UnixTest, ReceiveTimeout) {
  run([&](Park& p) {
    Who w = who();
    UnixPair s = pair(SOCK_STREAM);
    const int64_t time[2] = {0, 250000};
    EXPECT_OK(s.a->set_option(w.caller, SOL_SOCKET, SO_RCVTIMEO,
                              {reinterpret_cast<const char*>(time), sizeof time}));
    const uint64_t before = sim.clock.monotonic_ns();
    EXPECT_ERR(kAGAIN, receive(p, *s.a, 1));
    EXPECT_EQ(sim.clock.monotonic_ns() - before, 250'000'000u);
  });
}

}  // namespace
}  // namespace uk
