// The `ukernel` command: chooses what to do by its first word.
#include <cstdio>
#include <string>
#include <vector>

#include "boot/control/client.h"
#include "boot/image.h"
#include "boot/options.h"
#include "boot/run.h"
#include "syscalls/table.h"

namespace uk::boot {
namespace {

constexpr int kOwnError = 125;
constexpr const char* kVersion = "0.1.0";

int fail(const std::string& sentence) {
  std::fprintf(stderr, "ukernel: %s\n", sentence.c_str());
  return kOwnError;
}

int print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  return std::fflush(stdout) == 0 ? 0 : kOwnError;
}

int run_command(const std::vector<std::string>& args) {
  ParseResult parsed = parse_run_options(args);
  if (parsed.help) return print(run_help());
  if (!parsed.options) return fail(parsed.error);
  return run_instance(*parsed.options);
}

int main_command(const std::vector<std::string>& args) {
  if (args.empty()) {
    std::fputs(main_help().c_str(), stderr);
    return kOwnError;
  }
  const std::string& what = args[0];
  const std::vector<std::string> rest(args.begin() + 1, args.end());
  if (what == "run") return run_command(rest);
  if (what == "image") return image_command(rest);
  if (what == "ctl") return ctl_command(rest);
  if (what == "ps") return ps_command(rest);
  if (what == "syscalls") {
    if (rest.empty()) return print(compat_text());
    if (rest == std::vector<std::string>{"--markdown"}) return print(compat_markdown());
    return fail("syscalls " + rest[0] + ": unknown option; the only one is --markdown");
  }
  if (what == "version" || what == "--version")
    return print(std::string("ukernel ") + kVersion + "\n");
  if (what == "--help" || what == "-h" || what == "help") return print(main_help());
  for (const char* later : {"exec", "top", "logs", "kill"}) {
    if (what == later) return fail(what + ": not built yet; see ukernel --help for what is");
  }
  return fail(what + ": unknown command; see ukernel --help");
}

}  // namespace
}  // namespace uk::boot

int main(int argc, char** argv) { return uk::boot::main_command({argv + 1, argv + argc}); }
