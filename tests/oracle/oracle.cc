// The program of the differential oracle: makes random sequences of system calls, runs them, and
// says what came of them. The driver (run_oracle) runs it natively and in guests and compares.
//
//   oracle run DIRECTORY SEED FROM COUNT LENGTH [OPTION...]
//       a line `NUMBER HASH` for each sequence
//   oracle show SEED NUMBER LENGTH [OPTION...]
//       the sequence as text
//   oracle play DIRECTORY FILE [OPTION...]
//       runs the sequences of a file, divided by lines `%`, and prints all that came of each
//
// Options: uid=N, mount (a fresh tmpfs over DIRECTORY), isolate (namespaces of its own), chroot,
// domains=BITS.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iostream>
#include <string>

#include "tests/oracle/generate.h"
#include "tests/oracle/run.h"
#include "tests/oracle/supervise.h"

namespace oracle {
namespace {

[[noreturn]] void usage(const std::string& what) {
  fprintf(stderr, "oracle: %s; see the head of tests/oracle/oracle.cc\n", what.c_str());
  exit(2);
}

[[noreturn]] void failed(const char* what) {
  fprintf(stderr, "oracle: %s: %s\n", what, strerror(errno));
  exit(2);
}

struct Options {
  Settings settings;
  bool mount = false, isolate = false, text = false;
  uint32_t domains = 0;
};

Options options(int argc, char** argv, int from) {
  Options out;
  out.settings.uid = static_cast<int>(geteuid());
  for (int i = from; i < argc; ++i) {
    std::string o = argv[i];
    if (o.rfind("uid=", 0) == 0) {
      out.settings.uid = atoi(o.c_str() + 4);
    } else if (o.rfind("domains=", 0) == 0) {
      out.domains = static_cast<uint32_t>(strtoul(o.c_str() + 8, nullptr, 0));
    } else if (o == "mount") {
      out.mount = true;
    } else if (o == "text") {
      out.text = true;
    } else if (o == "isolate") {
      out.isolate = true;
    } else if (o == "chroot") {
      out.settings.chroot = true;
    } else {
      usage("no option " + o);
    }
  }
  return out;
}

// Namespaces of our own: when the first process of them dies, all do.
void isolate() {
  if (unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC) != 0) failed("unshare");
  if (mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) failed("mount");
  pid_t child = fork();
  if (child < 0) failed("fork");
  if (child != 0) {
    int status;
    while (waitpid(child, &status, 0) < 0) {
    }
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 3);
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (mount("proc", "/proc", "proc", 0, nullptr) != 0) failed("/proc");
}

void prepare(const char* directory, Options* o) {
  o->settings.scratch = directory;
  int null = open("/dev/null", O_RDWR);
  if (null < 0) failed("/dev/null");
  dup2(null, 0);
  close(null);
  if (o->isolate) isolate();
  if (o->mount && mount("oracle", directory, "tmpfs", 0, "mode=755,size=256m") != 0)
    failed(directory);
}

void run(const char* directory, char** argv, Options o) {
  uint64_t seed = strtoull(argv[0], nullptr, 0), from = strtoull(argv[1], nullptr, 0),
           count = strtoull(argv[2], nullptr, 0);
  int length = atoi(argv[3]);
  prepare(directory, &o);
  Supervisor supervisor(o.settings);
  std::string out;
  for (uint64_t n = from; n < from + count; ++n) {
    std::string text = supervisor.run(generate(seed, n, length, o.domains));
    char line[64];
    snprintf(line, sizeof line, "%llu %016llx\n", static_cast<unsigned long long>(n),
             static_cast<unsigned long long>(hash(text.data(), text.size())));
    out += o.text ? "#" + std::to_string(n) + "\n" + text : line;
    if (n % 16 == 0 || n + 1 == from + count) {
      fputs(out.c_str(), stdout);
      fflush(stdout);
      out.clear();
    }
  }
}

void play(const char* directory, const char* file, Options o) {
  std::ifstream in(file);
  if (!in) usage(std::string(file) + ": cannot be read");
  std::vector<std::vector<Call>> all(1);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line == "%") {
      all.emplace_back();
    } else if (!line.empty() && line[0] != '#') {
      std::string why;
      auto call = parse(line, &why);
      if (!call) usage(std::string(file) + ":" + std::to_string(number) + ": " + why);
      all.back().push_back(*call);
    }
  }
  prepare(directory, &o);
  Supervisor supervisor(o.settings);
  for (const auto& calls : all) {
    std::string text = supervisor.run(calls);
    fputs((text + "%\n").c_str(), stdout);
    fflush(stdout);
  }
}

// As a guest's first process has them. Who runs us natively may ignore or block some (nohup(1)).
void reset_signals() {
  for (int sig = 1; sig < NSIG; ++sig) signal(sig, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

int main(int argc, char** argv) {
  reset_signals();
  std::string what = argc > 1 ? argv[1] : "";
  if (what == "run" && argc >= 7) {
    run(argv[2], argv + 3, options(argc, argv, 7));
  } else if (what == "show" && argc >= 5) {
    Options o = options(argc, argv, 5);
    for (const Call& c : generate(strtoull(argv[2], nullptr, 0), strtoull(argv[3], nullptr, 0),
                                  atoi(argv[4]), o.domains)) {
      puts(format(c).c_str());
    }
  } else if (what == "play" && argc >= 4) {
    play(argv[2], argv[3], options(argc, argv, 4));
  } else {
    usage("run, show or play");
  }
  return 0;
}

}  // namespace
}  // namespace oracle

int main(int argc, char** argv) { return oracle::main(argc, argv); }
