#include "boot/options.h"

#include <functional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "boot/control/protocol.h"

namespace uk::boot {
namespace {

constexpr uint64_t kMinMem = 16ull << 20;
constexpr int kMaxCpus = 64;

// Fills the options from an option's value; returns "" or why the value is refused ("WHY; WHAT TO
// DO").
using Apply = std::string (*)(RunOptions&, const std::string& value);

struct Option {
  const char* name;      // without --
  const char* argument;  // in the help; null: the option takes no value
  bool optional_value;   // --strace or --strace=FILE
  const char* help;      // with default and example
  Apply apply;           // null: known to the design, not built yet
};

std::string apply_root(RunOptions& o, const std::string& v) {
  if (v == "builtin") {
    o.root = {};
    return "";
  }
  if (v.starts_with("dir:")) {
    std::string path = v.substr(4);
    bool rw = path.ends_with(":rw");
    if (rw) path.resize(path.size() - 3);
    if (path.empty()) return "no directory given; write --root=dir:/";
    o.root = {RootSpec::Kind::kDir, path, rw};
    return "";
  }
  if (v.starts_with("image:")) {
    std::string path = v.substr(6);
    const bool ro = path.ends_with(":ro");
    if (ro) path.resize(path.size() - 3);
    if (path.empty()) return "no image given; write --root=image:disk.img";
    o.root = {RootSpec::Kind::kImage, path, !ro};
    return "";
  }
  return "not builtin, dir:PATH[:rw] or image:FILE[:ro]; write for example --root=dir:/";
}

std::string apply_overlay(RunOptions& o, const std::string& v) {
  if (v == "memory") {
    o.overlay = RunOptions::Overlay::kMemory;
  } else if (v == "none") {
    o.overlay = RunOptions::Overlay::kNone;
  } else if (v.starts_with("file:")) {
    return "overlays in a file are not built yet; use --overlay=memory";
  } else {
    return "not memory or none; write for example --overlay=memory";
  }
  return "";
}

std::string apply_platform(RunOptions& o, const std::string& v) {
  if (v != "auto" && v != "ptrace" && v != "notify" && v != "direct") {
    return "no such platform; use auto, direct, notify or ptrace";
  }
  o.platform = v;
  return "";
}

std::string apply_patch(RunOptions& o, const std::string& v) {
  if (v != "on" && v != "off") return "not on or off";
  o.patch = v == "on";
  return "";
}

std::string apply_mem(RunOptions& o, const std::string& v) {
  std::optional<uint64_t> bytes = parse_size(v);
  if (!bytes) return "not a size; write for example --mem=512M";
  if (*bytes < kMinMem) return "too little memory to boot; give at least 16M";
  o.mem_bytes = *bytes;
  return "";
}

std::string apply_cpus(RunOptions& o, const std::string& v) {
  int n = 0;
  if (!absl::SimpleAtoi(v, &n) || n < 1 || n > kMaxCpus)
    return "not a number from 1 to 64; write for example --cpus=2";
  o.cpus = n;
  return "";
}

std::string apply_hostname(RunOptions& o, const std::string& v) {
  if (v.empty() || v.size() > 64)
    return "a host name has 1 to 64 bytes; write for example --hostname=lab";
  o.hostname = v;
  return "";
}

std::string apply_user(RunOptions& o, const std::string& v) {
  size_t colon = v.find(':');
  uint32_t uid = 0, gid = 0;
  if (!absl::SimpleAtoi(v.substr(0, colon), &uid))
    return "not UID[:GID] in numbers; write for example --user=1000:1000";
  if (colon != std::string::npos) {
    if (!absl::SimpleAtoi(v.substr(colon + 1), &gid))
      return "not UID[:GID] in numbers; write for example --user=1000:1000";
    o.gid = gid;
  }
  o.uid = uid;
  return "";
}

std::string apply_cwd(RunOptions& o, const std::string& v) {
  if (v.empty() || v[0] != '/') return "not an absolute path; write for example --cwd=/tmp";
  o.cwd = v;
  return "";
}

std::string apply_env(RunOptions& o, const std::string& v) {
  if (v.find('=') == std::string::npos || v[0] == '=')
    return "not NAME=VALUE; write for example --env=LANG=C";
  o.env.push_back(v);
  return "";
}

std::string apply_clear_env(RunOptions& o, const std::string&) {
  o.clear_env = true;
  return "";
}

std::string apply_mount(RunOptions& o, const std::string& v) {
  MountSpec m;
  std::string rest = v;
  if (rest.ends_with(":ro")) {
    m.read_only = true;
    rest.resize(rest.size() - 3);
  } else if (rest.ends_with(":rw")) {
    rest.resize(rest.size() - 3);
  }
  size_t colon = rest.rfind(':');
  if (colon == std::string::npos || colon == 0 || colon + 1 >= rest.size() ||
      rest[colon + 1] != '/') {
    return "not HOST:GUEST[:ro] with an absolute guest path; write for example --mount=.:/work:ro";
  }
  m.host = rest.substr(0, colon);
  m.guest = rest.substr(colon + 1);
  o.mounts.push_back(std::move(m));
  return "";
}

std::string apply_disk(RunOptions& o, const std::string& v) {
  DiskSpec d;
  if (std::string why = parse_disk_spec(v, d); !why.empty()) return why;
  for (const DiskSpec& other : o.disks) {
    if (other.name == d.name) return "there is a disk of that name already; give another NAME";
  }
  o.disks.push_back(std::move(d));
  return "";
}

std::string apply_name(RunOptions& o, const std::string& v) {
  if (!valid_instance_name(v))
    return "a name has 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first; write "
           "for example --name=lab";
  o.name = v;
  return "";
}

std::string apply_strace(RunOptions& o, const std::string& v) {
  o.strace = true;
  o.strace_file = v;
  return "";
}

std::string apply_dmesg(RunOptions& o, const std::string&) {
  o.dmesg = true;
  return "";
}

constexpr Option kOptions[] = {
    {"root", "SPEC", false,
     "root filesystem: builtin (busybox), dir:PATH[:rw] for a host directory, read-only\nunless "
     ":rw, or image:FILE[:ro] for an ext4 image, writable unless :ro. Default builtin.\nExample: "
     "--root=dir:/",
     apply_root},
    {"overlay", "WHERE", false,
     "where writes to a read-only root go: memory, or none to refuse them. Default "
     "memory.\nExample: --overlay=none",
     apply_overlay},
    {"platform", "NAME", false,
     "how guest code runs: auto, direct, notify or ptrace. Default auto. Example: "
     "--platform=ptrace",
     apply_platform},
    {"patch", "WHEN", false,
     "patch guests' hot system call sites, which then cost a tenth (direct only): on or "
     "off.\nDefault "
     "on. Example: --patch=off",
     apply_patch},
    {"mem", "SIZE", false,
     "guest memory, a hard limit. Default half of the host's, at most 4G. Example: --mem=512M",
     apply_mem},
    {"cpus", "N", false, "virtual CPUs. Default as many as the host has. Example: --cpus=2",
     apply_cpus},
    {"hostname", "NAME", false, "the guest's host name. Default ukernel. Example: --hostname=lab",
     apply_hostname},
    {"user", "UID[:GID]", false,
     "who the first process runs as. Default 0:0. Example: --user=1000:1000", apply_user},
    {"cwd", "PATH", false,
     "its working directory. Default: the caller's where the guest has it, else /.\nExample: "
     "--cwd=/tmp",
     apply_cwd},
    {"env", "NAME=VALUE", false, "adds to its environment; repeatable. Example: --env=LANG=C",
     apply_env},
    {"clear-env", nullptr, false,
     "does not pass the caller's environment on. Default: it is passed.\nExample: --clear-env",
     apply_clear_env},
    {"mount", "HOST:GUEST[:ro]", false,
     "a host directory inside the guest; repeatable. Default none. Example: --mount=.:/work:ro",
     apply_mount},
    {"disk", "NAME=FILE[,cow=FILE][,ro][,sync][,direct]", false,
     "a block device /dev/NAME on a host file or host block device, which is locked while it is "
     "used;\nFILE may be ram:SIZE, for an empty disk in guest memory; cow: writes go to that file, "
     "which is made if it is not there, and FILE stays as it "
     "is "
     "(ukernel\nimage --help); ro: read-only, sync: writes are on stable storage when they are "
     "done,\ndirect: past "
     "the host's cache; repeatable. Default none. Example: --disk=vdb=data.img,cow=try.cow",
     apply_disk},
    {"name", "NAME", false,
     "what ukernel ctl and ps call the instance. Default: one is made up. Example: --name=lab",
     apply_name},
    {"strace", "FILE", true,
     "prints every system call of the guest to stderr or FILE. Default off.\nExample: "
     "--strace=/tmp/calls",
     apply_strace},
    {"dmesg", nullptr, false,
     "prints the kernel's log on stderr as it is written. Default off. Example: --dmesg",
     apply_dmesg},
    {"net", "SPEC", false, "network devices", nullptr},
    {"driver", "FILE", false, "loadable drivers", nullptr},
    {"trace", "FILE", false, "event traces", nullptr},
    {"gdb", "ADDR", false, "the gdb stub", nullptr},
    {"gdb-wait", nullptr, false, "the gdb stub", nullptr},
};

const Option* find_option(const std::string& name) {
  for (const Option& o : kOptions) {
    if (name == o.name) return &o;
  }
  return nullptr;
}

}  // namespace

std::optional<uint64_t> parse_size(const std::string& text) {
  if (text.empty()) return std::nullopt;
  uint64_t unit = 1;
  std::string digits = text;
  switch (text.back()) {
    case 'k':
    case 'K':
      unit = 1ull << 10;
      break;
    case 'm':
    case 'M':
      unit = 1ull << 20;
      break;
    case 'g':
    case 'G':
      unit = 1ull << 30;
      break;
    case 't':
    case 'T':
      unit = 1ull << 40;
      break;
    default:
      break;
  }
  if (unit != 1) digits.pop_back();
  uint64_t n = 0;
  if (digits.empty() || digits.find_first_not_of("0123456789") != std::string::npos ||
      !absl::SimpleAtoi(digits, &n))
    return std::nullopt;
  if (n > (1ull << 50) / unit) return std::nullopt;
  return n * unit;
}

std::string parse_disk_spec(const std::string& v, DiskSpec& disk) {
  const char* const form =
      "not NAME=FILE[,cow=FILE][,ro][,sync][,direct]; write for example --disk=vdb=data.img,ro";
  const size_t eq = v.find('=');
  if (eq == std::string::npos || eq == 0) return form;
  DiskSpec d;
  d.name = v.substr(0, eq);
  std::string rest = v.substr(eq + 1);
  // Words at the end, so that a file's name may have commas.
  for (size_t comma; (comma = rest.rfind(',')) != std::string::npos; rest.resize(comma)) {
    const std::string word = rest.substr(comma + 1);
    if (word == "ro") {
      d.read_only = true;
    } else if (word == "sync") {
      d.sync = true;
    } else if (word == "direct") {
      d.direct = true;
    } else if (word.starts_with("cow=")) {
      if (!d.cow.empty() || word.size() == 4) return form;
      d.cow = word.substr(4);
    } else {
      break;
    }
  }
  if (rest.empty()) return form;
  d.file = rest;
  if (rest.starts_with("ram:")) {
    const std::optional<uint64_t> bytes = parse_size(rest.substr(4));
    if (!bytes || *bytes == 0 || *bytes % 512 != 0)
      return "not a size in whole sectors; write for example --disk=vdb=ram:64M";
    if (d.sync || d.direct || !d.cow.empty())
      return "a disk in memory has no sync, direct or cow; leave them out";
    d.ram_bytes = *bytes;
  }
  disk = std::move(d);
  return "";
}

ParseResult parse_run_options(const std::vector<std::string>& args) {
  RunOptions options;
  size_t i = 0;
  for (; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") {
      ++i;
      break;
    }
    if (arg.size() < 2 || arg[0] != '-') break;
    if (arg == "--help" || arg == "-h") return {std::nullopt, "", true};
    size_t eq = arg.find('=');
    std::string name =
        arg.starts_with("--") ? arg.substr(2, eq == std::string::npos ? eq : eq - 2) : arg;
    const Option* option = find_option(name);
    if (option == nullptr)
      return {std::nullopt, absl::StrCat(arg, ": unknown option; see ukernel run --help"), false};
    if (option->apply == nullptr) {
      return {
          std::nullopt,
          absl::StrCat("--", name, ": ", option->help, " are not built yet; leave the option out"),
          false};
    }
    bool has_value = eq != std::string::npos;
    std::string value = has_value ? arg.substr(eq + 1) : "";
    if (option->argument == nullptr && has_value)
      return {std::nullopt, absl::StrCat("--", name, ": takes no value; write --", name), false};
    if (option->argument != nullptr && !has_value && !option->optional_value) {
      return {std::nullopt,
              absl::StrCat("--", name, ": needs a value; write --", name, "=", option->argument),
              false};
    }
    std::string why = option->apply(options, value);
    if (!why.empty()) return {std::nullopt, absl::StrCat(arg, ": ", why), false};
  }
  options.command.assign(args.begin() + static_cast<ptrdiff_t>(i), args.end());
  return {std::move(options), "", false};
}

std::string run_help() {
  std::string out =
      "usage: ukernel run [OPTIONS] [--] [CMD [ARG...]]\n\n"
      "Boots an instance and runs CMD in it as its first process; without CMD, the root's shell.\n"
      "Exit status: CMD's own; 128+N when signal N ended it; 125 for an error of ukernel's own,\n"
      "126 when CMD cannot be executed, 127 when it is not there.\n\n";
  for (const Option& o : kOptions) {
    if (o.apply == nullptr) continue;
    std::string left = absl::StrCat("  --", o.name);
    if (o.argument != nullptr)
      absl::StrAppend(&left, o.optional_value ? "[=" : "=", o.argument,
                      o.optional_value ? "]" : "");
    out += left;
    out += "\n";
    std::string help = o.help;
    for (size_t at = 0; at < help.size();) {
      size_t end = help.find('\n', at);
      if (end == std::string::npos) end = help.size();
      absl::StrAppend(&out, "        ", help.substr(at, end - at), "\n");
      at = end + 1;
    }
  }
  return out;
}

std::string main_help() {
  return "ukernel: an operating system kernel in an ordinary process\n\n"
         "  ukernel run [OPTIONS] [--] [CMD [ARG...]]   boot an instance (ukernel run --help)\n"
         "  ukernel image COMMAND ...                   makes and changes disk images (ukernel "
         "image "
         "--help)\n"
         "  ukernel ctl NAME COMMAND ...                changes a running instance: plugs disks "
         "(ukernel ctl --help)\n"
         "  ukernel ps                                  lists running instances\n"
         "  ukernel syscalls [--markdown]               which system calls it implements, from its "
         "own table\n"
         "  ukernel version\n\n"
         "Examples:\n"
         "  ukernel run                                 a busybox shell from the built-in root\n"
         "  ukernel run --root=dir:/ -- python3 -c 'print(1)'\n"
         "                                              this machine's own programs; writes stay "
         "in memory\n"
         "  ukernel run --strace -- /bin/echo hi        with every system call printed\n";
}

}  // namespace uk::boot
