#include "boot/control/disk_words.h"

#include <algorithm>

namespace uk::boot {
namespace {

using Kind = DiskCommand::Kind;

DiskCommandResult wrong(const std::string& what, const std::string& why) {
  return {{}, what + ": " + why};
}

DiskCommandResult parse_config(const Words& args) {
  if (args.empty()) return {};
  if (args.size() > 1) return wrong("config", "takes one disk; write for example config vdc=a.img");
  DiskCommandResult r;
  r.command.kind = Kind::kAdd;
  if (std::string why = parse_disk_spec(args[0], r.command.disk); !why.empty())
    return wrong("config " + args[0], why);
  return r;
}

DiskCommandResult parse_remove(const Words& args) {
  DiskCommandResult r;
  r.command.kind = Kind::kRemove;
  for (const std::string& arg : args) {
    if (arg == "--force") {
      r.command.force = true;
    } else if (arg.starts_with("-") || arg.empty() || !r.command.disk.name.empty()) {
      return wrong("remove " + arg, "takes one disk and --force; write for example remove vdc");
    } else {
      r.command.disk.name = arg;
    }
  }
  if (r.command.disk.name.empty())
    return wrong("remove", "names no disk; write for example remove vdc");
  return r;
}

DiskCommandResult parse_mirror(const Words& args) {
  const char* const form =
      "not NAME=FILE[,sync][,direct] or NAME --cancel; write for example mirror vdb=new.img";
  const auto cancel = std::ranges::count(args, "--cancel");
  DiskCommandResult r;
  if (cancel == 1 && args.size() == 2) {
    r.command.kind = Kind::kCancelMirror;
    r.command.disk.name = args[args[0] == "--cancel" ? 1 : 0];
    if (r.command.disk.name.empty()) return wrong("mirror", form);
    return r;
  }
  if (args.size() != 1) return wrong("mirror", form);
  r.command.kind = Kind::kMirror;
  DiskSpec& disk = r.command.disk;
  if (!parse_disk_spec(args[0], disk).empty()) return wrong("mirror " + args[0], form);
  if (disk.read_only || !disk.cow.empty() || disk.ram_bytes != 0)
    return wrong("mirror " + args[0],
                 "a mirror goes to a plain file, with sync and direct as its only options; leave "
                 "the others out");
  return r;
}

std::string absolute(const std::string& path, const std::string& directory) {
  return path.starts_with("/") ? path : directory + "/" + path;
}

std::string spec_of(const DiskSpec& disk, const std::string& directory) {
  std::string spec = disk.name + "=";
  spec += disk.ram_bytes != 0 ? disk.file : absolute(disk.file, directory);
  if (!disk.cow.empty()) spec += ",cow=" + absolute(disk.cow, directory);
  if (disk.read_only) spec += ",ro";
  if (disk.sync) spec += ",sync";
  if (disk.direct) spec += ",direct";
  return spec;
}

}  // namespace

bool is_disk_command(const std::string& word) {
  return word == "config" || word == "remove" || word == "mirror";
}

DiskCommandResult parse_disk_command(const Words& words) {
  const std::string verb = words.empty() ? "" : words[0];
  const Words args(words.begin() + (words.empty() ? 0 : 1), words.end());
  if (verb == "config") return parse_config(args);
  if (verb == "remove") return parse_remove(args);
  if (verb == "mirror") return parse_mirror(args);
  return wrong(verb, "unknown command; see ukernel ctl --help");
}

Words words_of(const DiskCommand& command, const std::string& directory) {
  switch (command.kind) {
    case Kind::kList:
      return {"config"};
    case Kind::kAdd:
      return {"config", spec_of(command.disk, directory)};
    case Kind::kRemove:
      if (command.force) return {"remove", "--force", command.disk.name};
      return {"remove", command.disk.name};
    case Kind::kMirror:
      return {"mirror", spec_of(command.disk, directory)};
    case Kind::kCancelMirror:
      return {"mirror", command.disk.name, "--cancel"};
  }
  return {};
}

}  // namespace uk::boot
