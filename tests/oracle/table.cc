#include <signal.h>

#include "tests/oracle/call.h"
#include "tests/oracle/words.h"

namespace oracle {

const Words kSizes =
    numbers({0, 1, 2, 7, 8, 100, 511, 512, 4095, 4096, 4097, 8192, 12289, 65536, 65537, 131072});
const Words kOffsets =
    numbers({0, 0, 0, 1, 10, 100, 4095, 4096, 4097, 8192, 65536, 100000, 1048575, 1048576, -1});
const Words kModes{{{"", 0644},
                    {"", 0600},
                    {"", 0755},
                    {"", 0777},
                    {"", 0444},
                    {"", 0},
                    {"", 0222},
                    {"", 0111},
                    {"", 01777},
                    {"", 02755},
                    {"", 04711},
                    {"", 07777},
                    {"", 0175000}},
                   {}};
const Words kSignalNumbers{
    {{"", SIGUSR1, 30}, {"", SIGUSR2, 20}, {"", SIGCHLD, 20}, {"", SIGTERM, 10},
     {"", SIGPIPE, 10}, {"", SIGCONT, 10}, {"", SIGSTOP, 5},  {"", SIGTSTP, 4},
     {"", SIGTTIN, 2},  {"", SIGURG, 4},   {"", SIGWINCH, 4}, {"", SIGXFSZ, 4},
     {"", SIGHUP, 4},   {"", SIGKILL, 3},  {"", 34, 10},      {"", 40, 20},
     {"", 63, 10},      {"", 0, 4},        {"", 65, 2},       {"", static_cast<uint64_t>(-1), 1}},
    {}};
const Words kZeroOne = numbers({0, 1});
const Words kIds = numbers({0, 0, 1, 1000, 65534, -1, -1});

const std::vector<Desc>& table() {
  static const auto* table = [] {
    auto* t = new std::vector<Desc>;
    add_file_calls(t);
    add_copy_calls(t);
    add_tree_calls(t);
    add_attribute_calls(t);
    add_memory_calls(t);
    add_process_calls(t);
    add_signal_calls(t);
    add_event_calls(t);
    add_socket_calls(t);
    return t;
  }();
  return *table;
}

}  // namespace oracle
