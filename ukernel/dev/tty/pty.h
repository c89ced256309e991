// Pseudo terminals (pty(7), pts(4)): /dev/ptmx makes a pair; the master's file is the keyboard and
// the screen of the terminal /dev/pts/N.
//
// Ownership: the master's file and open slaves hold the Pty; PtyTable knows the living ones without
// owning them. The table is held by the registered device openers and by devpts.
#pragma once

#include <map>

#include "ukernel/dev/tty/tty.h"

namespace uk {

class PtyTable;

class Pty final : public Tty {
 public:
  Pty(Kernel& kernel, Ref<PtyTable> table, int index, const Cred& owner);
  ~Pty() override;

  int index() const { return index_; }
  Result<> check_open(const Cred& cred) const override;
  bool master_gone() const { return other_closed_; }

  FileAttr attr;  // of the slave's inode, /dev/pts/N

  // ---- the master's side
  Result<size_t> master_read(Park& park, IoSink& to, bool nonblock);
  Result<size_t> master_write(Park& park, IoSource& from, bool nonblock);
  Result<int64_t> master_ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg);
  uint32_t master_ready() const;
  void master_closed();
  WaitQueue& master_queue() { return master_queue_; }

 protected:
  void output_added() override;
  void input_taken() override;
  void last_file_closed() override;
  void packet_event(uint8_t event) override;
  void adjust_termios(UserTermios& t) const override;
  // Nothing is hung up: others who have the slave open may go on, as on Linux.
  void leader_gone() override { leave_session(false); }
  // What is written is at the master at once.
  bool drained() const override { return true; }

 private:
  Result<int64_t> open_peer(Park& park, Task& task, int flags);
  bool slave_closed() const { return files() == 0 && was_opened_; }
  friend class PtyTable;

  Ref<PtyTable> table_;
  const int index_;
  WaitQueue master_queue_;
  bool locked_ = true;  // until TIOCSPTLCK
  bool was_opened_ = false;
  bool packet_ = false;  // TIOCPKT
  uint8_t packet_events_ = 0;
};

class PtyTable final : public RefCounted {
 public:
  static constexpr int kMax = 4096;  // /proc/sys/kernel/pty/max
  // kNOSPC when there are too many.
  Result<Ref<Pty>> make(Kernel& kernel, const Cred& owner);
  // A living pty whose master is open, or null.
  Ref<Pty> find(int index) const;
  const std::map<int, Pty*>& all() const { return ptys_; }
  // Of new slaves: devpts' mount options.
  uint32_t new_mode = 0620, new_gid = 5;

 private:
  friend class Pty;
  std::map<int, Pty*> ptys_;
};

// Registers /dev/ptmx (5:2) and the slaves (major 136). The table goes to devpts as well.
Ref<PtyTable> register_ptys(Kernel& kernel);

}  // namespace uk
