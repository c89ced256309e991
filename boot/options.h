// The command line of `ukernel run` (and the text of --help). Parsing only: nothing is opened here.
// Input is the user's: every error is one sentence that names the option.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace uk::boot {

struct RootSpec {
  enum class Kind : uint8_t { kBuiltin, kDir, kImage } kind = Kind::kBuiltin;
  std::string path;
  bool writable = false;  // dir:PATH:rw; images are writable unless :ro
};

struct MountSpec {
  std::string host, guest;
  bool read_only = false;
};

struct DiskSpec {
  std::string name;  // of the device in /dev
  std::string file;
  std::string cow;         // the copy-on-write file for its writes; empty: there is none
  uint64_t ram_bytes = 0;  // a disk of so many bytes in guest memory instead
  bool read_only = false, sync = false, direct = false;
};

struct RunOptions {
  RootSpec root;
  enum class Overlay : uint8_t { kMemory, kNone } overlay = Overlay::kMemory;
  std::string platform = "auto";
  bool patch = true;       // hot call sites
  uint64_t mem_bytes = 0;  // 0: the default, half of the host's memory, at most 4 GiB
  int cpus = 0;            // 0: the host's
  std::string hostname = "ukernel";
  std::string name;  // of the instance, for ukernel ctl; empty: one is made up
  std::optional<uint32_t> uid, gid;
  std::string cwd;  // empty: "/" for a builtin root, else the caller's directory when it exists in
                    // the guest
  std::vector<std::string> env;
  bool clear_env = false;
  std::vector<MountSpec> mounts;
  std::vector<DiskSpec> disks;
  bool strace = false;
  std::string strace_file;  // empty: stderr
  bool dmesg = false;
  std::vector<std::string> command;
};

// NAME=FILE[,cow=FILE][,ro][,sync][,direct] into `disk`; returns "" or "WHY; WHAT TO DO".
std::string parse_disk_spec(const std::string& text, DiskSpec& disk);

// Parsing ends at "--" or the first word that is no option. On failure `error` holds "WHAT: WHY;
// WHAT TO DO". `help` is set when --help was given.
struct ParseResult {
  std::optional<RunOptions> options;
  std::string error;
  bool help = false;
};
ParseResult parse_run_options(const std::vector<std::string>& args);

// "512M", "2G", "65536K", plain bytes. nullopt: not a size, or over 2^50.
std::optional<uint64_t> parse_size(const std::string& text);

std::string run_help();
std::string main_help();

}  // namespace uk::boot
