// The line discipline: editing, echo, ends of lines, raw input, output mapping.
#include "ukernel/dev/tty/line.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <vector>

namespace uk {
namespace {

class LineTest : public ::testing::Test, public LineEvents {
 protected:
  LineTest() : line(*this) {}
  void key_signal(int signo) override { signals.push_back(signo); }
  void echo(std::string_view s) override { shown += s; }
  void flow(bool stop) override { flows.push_back(stop); }

  void type(std::string_view s) { line.receive(s); }
  std::string read() { return line.take(4096); }
  void change(uint32_t clear_l, uint32_t set_l = 0, uint32_t clear_i = 0, uint32_t set_i = 0) {
    UserTermios t = line.termios();
    t.lflag = (t.lflag & ~clear_l) | set_l;
    t.iflag = (t.iflag & ~clear_i) | set_i;
    line.set_termios(t);
  }

  Line line;
  std::vector<int> signals;
  std::vector<bool> flows;
  std::string shown;
};

TEST_F(LineTest, ALineIsReadableAtItsEndOnly) {
  type("abc");
  EXPECT_FALSE(line.readable());
  EXPECT_EQ(read(), "");
  type("\r");
  EXPECT_TRUE(line.readable());
  EXPECT_EQ(line.available(), 4u);
  EXPECT_EQ(read(), "abc\n") << "ICRNL";
  EXPECT_EQ(shown, "abc\r\n");
}

TEST_F(LineTest, ReadsStopAtEndsOfLines) {
  type("one\ntwo\n");
  EXPECT_EQ(line.take(2), "on");
  EXPECT_EQ(read(), "e\n");
  EXPECT_EQ(read(), "two\n");
  EXPECT_FALSE(line.readable());
}

TEST_F(LineTest, EndOfFile) {
  type("ab\4");
  EXPECT_EQ(read(), "ab") << "^D pushes what there is";
  EXPECT_FALSE(line.readable());
  type("\4");
  EXPECT_TRUE(line.readable());
  EXPECT_EQ(read(), "") << "and alone it is the end";
  type("xyz\4");
  EXPECT_EQ(line.take(3), "xyz");
  EXPECT_FALSE(line.readable()) << "a read of just its length takes the mark too";
}

TEST_F(LineTest, EraseWordKill) {
  type("abc\x7f");
  EXPECT_EQ(shown, "abc\b \b");
  type("\n");
  EXPECT_EQ(read(), "ab\n");
  type("hello big world\x17\x17x\n");
  EXPECT_EQ(read(), "hello x\n");
  type("junk\x15ok\n");
  EXPECT_EQ(read(), "ok\n");
  type("\x7f\x7fq\n");
  EXPECT_EQ(read(), "q\n") << "nothing to erase";
}

TEST_F(LineTest, ErasesUtf8AsOneCharacter) {
  change(0, 0, 0, IUTF8);
  type("a\xc3\xa4");
  shown.clear();
  type("\x7f");
  EXPECT_EQ(shown, "\b \b");
  type("\n");
  EXPECT_EQ(read(), "a\n");
}

TEST_F(LineTest, ErasesTabsAndControlsByTheirWidth) {
  type("ab\t");
  shown.clear();
  type("\x7f");
  EXPECT_EQ(shown, std::string(6, '\b'));
  type("\x16\x01");  // a literal ^A shows as two columns
  shown.clear();
  type("\x7f");
  EXPECT_EQ(shown, "\b \b\b \b");
}

TEST_F(LineTest, SignalsFlushInputAndAreEchoed) {
  type("half\3");
  EXPECT_EQ(signals, std::vector<int>{SIGINT});
  EXPECT_TRUE(shown.ends_with("^C"));
  type("x\n");
  EXPECT_EQ(read(), "x\n");
  type("\x1c\x1a");
  EXPECT_EQ(signals, (std::vector<int>{SIGINT, SIGQUIT, SIGTSTP}));
  change(ISIG);
  type("\3\n");
  EXPECT_EQ(read(), "\3\n");
}

TEST_F(LineTest, FlowControl) {
  type("\x13");
  EXPECT_TRUE(line.stopped());
  type("\x11");
  EXPECT_FALSE(line.stopped());
  EXPECT_EQ(flows, (std::vector<bool>{true, false}));
  change(0, 0, IXON);
  type("\x13\n");
  EXPECT_EQ(read(), "\x13\n");
}

TEST_F(LineTest, RawInputComesAtOnce) {
  change(ICANON | ECHO | ISIG, 0, ICRNL | IXON);
  type("a\r\3\4");
  EXPECT_TRUE(line.readable(4));
  EXPECT_FALSE(line.readable(5));
  EXPECT_EQ(read(), "a\r\3\4");
  EXPECT_EQ(shown, "");
}

TEST_F(LineTest, ModeChangesKeepWhatWasTyped) {
  type("part");
  change(ICANON);
  EXPECT_EQ(read(), "part");
  type("raw");
  change(0, ICANON);
  EXPECT_TRUE(line.readable());
  EXPECT_EQ(read(), "raw");
  EXPECT_FALSE(line.readable());
}

TEST_F(LineTest, ALongLineIsCutButCanEnd) {
  type(std::string(5000, 'y') + "\n");
  const std::string got = line.take(10000);
  EXPECT_EQ(got.size(), Line::kBufferBytes);
  EXPECT_EQ(got.back(), '\n');
}

TEST_F(LineTest, RoomRunsOutInRawMode) {
  change(ICANON | ECHO);
  size_t offered = 0;
  while (line.room() > 0 && offered < 10000) {
    type("z");
    ++offered;
  }
  EXPECT_EQ(offered, Line::kBufferBytes - 1);
  EXPECT_EQ(line.take(100).size(), 100u);
  EXPECT_EQ(line.room(), 100u);
}

TEST_F(LineTest, NoEchoButNewline) {
  change(ECHO, ECHONL);
  type("secret\n");
  EXPECT_EQ(shown, "\r\n");
  EXPECT_EQ(read(), "secret\n");
}

TEST_F(LineTest, OutputMapping) {
  EXPECT_EQ(line.process_output("a\nb"), "a\r\nb");
  UserTermios t = line.termios();
  t.oflag |= TAB3;
  line.set_termios(t);
  EXPECT_EQ(line.process_output("\tc"), std::string(7, ' ') + "c")
      << "the cursor stands in column 1";
  t.oflag = 0;
  line.set_termios(t);
  EXPECT_EQ(line.process_output("a\n\t"), "a\n\t");
}

}  // namespace
}  // namespace uk
