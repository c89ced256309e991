#include "boot/control/client.h"

#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "boot/control/disk_words.h"
#include "boot/control/place.h"
#include "boot/control/protocol.h"
#include "boot/progress.h"
#include "hostio/sys/socket.h"

namespace uk::boot {
namespace {

constexpr int kOwnError = 125;
constexpr const char* kHelp =
    "usage: ukernel ctl NAME COMMAND ...\n\n"
    "Changes the running instance NAME: what --name gave it, or as ukernel ps shows.\n\n"
    "  config                                lists its disks\n"
    "  config vdc=FILE[,cow=FILE][,ro][,sync][,direct]\n"
    "                                        plugs a disk, as --disk of ukernel run does\n"
    "  remove [--force] vdc                  takes a disk away; refused while it is used.\n"
    "                                        --force: whoever uses it gets I/O errors\n"
    "  mirror vdb=NEWFILE[,sync][,direct]    copies the disk to NEWFILE while the guest goes on,\n"
    "                                        and then moves it there. NEWFILE is made, or has the\n"
    "                                        disk's size. Goes on if this command is ended\n"
    "  mirror vdb --cancel                   ends that; the disk stays where it is\n\n"
    "Examples:\n"
    "  ukernel run --name=lab --root=dir:/ &\n"
    "  ukernel ctl lab config vdc=data.img   /dev/vdc is there, in the guest\n"
    "  ukernel ctl lab mirror vdc=/mnt/fast/data.img\n"
    "  ukernel ctl lab remove vdc            once it is unmounted\n\n"
    "Instances of this user and network namespace are found.\n";

int fail(const std::string& sentence) {
  std::fprintf(stderr, "ukernel: %s\n", sentence.c_str());
  return kOwnError;
}

// Asks once. kPIPE: the instance has gone without an answer.
Result<> ask(int fd, const Words& request, const std::function<void(const Words&)>& each) {
  const std::string line = encode_line(request);
  TRY(sys::send(fd, std::as_bytes(std::span(line))));
  std::vector<std::byte> buffer(kMaxLine + 1);
  for (;;) {
    Result<size_t> n = sys::recv(fd, buffer);
    if (!n && n.error() == Errno::kINTR) continue;
    if (!n && n.error() == Errno::kCONNRESET) return Err(Errno::kPIPE);
    if (TRY(n) == 0) return Err(Errno::kPIPE);
    auto words = decode_line({reinterpret_cast<const char*>(buffer.data()), *n});
    if (!words) return Err(Errno::kPROTO);
    each(*words);
    if ((*words)[0] == "ok" || (*words)[0] == "error") return {};
  }
}

// Returns "", or "WHAT: WHY; WHAT TO DO". `patient`: however long the answer takes.
std::string request(const std::string& name, const Words& words, bool patient,
                    const std::function<void(const Words&)>& each) {
  std::string why, refused;
  bool answered = false;
  // Who was killed may seem to listen until the host has undone its ring, a little later.
  for (int tries = 0; tries < 40; ++tries) {
    auto fd = connect_to(name, why);
    if (!fd) return why.empty() ? name + ": " + std::string(errno_text(fd.error())) : why;
    constexpr struct timeval kPatience = {5, 0};  // with one that was stopped
    if (!patient)
      (void)sys::setsockopt(fd->get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof(kPatience));
    Result<> r = ask(fd->get(), words, [&](const Words& w) {
      answered = true;
      if (w[0] == "error") refused = w.size() > 1 ? w[1] : "refused";
      each(w);
    });
    if (r) return refused;
    if (r.error() != Errno::kPIPE || answered)
      return name + ": " +
             std::string(r.error() == Errno::kPIPE ? "it has ended" : errno_text(r.error())) +
             "; see ukernel ps";
    constexpr timespec kPause = {0, 50'000'000};
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &kPause, nullptr);
  }
  return name + ": it does not answer; see ukernel ps";
}

}  // namespace

int ctl_command(const std::vector<std::string>& args) {
  if (args.empty()) {
    std::fputs(kHelp, stderr);
    return kOwnError;
  }
  for (const std::string& arg : args) {
    if (arg != "--help" && arg != "-h") continue;
    std::fputs(kHelp, stdout);
    return std::fflush(stdout) == 0 ? 0 : kOwnError;
  }
  if (!valid_instance_name(args[0])) return fail(args[0] + ": not a name; see ukernel ps");
  if (args.size() == 1) return fail("ctl " + args[0] + ": no command; see ukernel ctl --help");
  const DiskCommandResult parsed = parse_disk_command({args.begin() + 1, args.end()});
  if (!parsed.error.empty()) return fail(parsed.error);
  std::error_code error;
  const std::string here = std::filesystem::current_path(error);
  const Words words = words_of(parsed.command, here);
  if (encode_line(words).size() > kMaxLine) return fail(args[1] + ": too long; give shorter names");

  std::unique_ptr<Progress> bar;
  const std::string why = request(args[0], words, /*patient=*/true, [&](const Words& w) {
    if (w[0] == "out" && w.size() == 2) {
      std::fwrite(w[1].data(), 1, w[1].size(), stdout);
    } else if (w[0] == "progress" && w.size() == 3) {
      uint64_t done = 0, total = 0;
      if (!absl::SimpleAtoi(w[1], &done) || !absl::SimpleAtoi(w[2], &total) || done > total) return;
      if (bar == nullptr) bar = std::make_unique<Progress>("mirror " + parsed.command.disk.name);
      bar->update(done, total);
    }
  });
  bar = nullptr;
  if (!why.empty()) return fail(why);
  return std::fflush(stdout) == 0 ? 0 : kOwnError;
}

int ps_command(const std::vector<std::string>& args) {
  const char* const help =
      "usage: ukernel ps\n\nLists the running instances of this user: NAME, host process, seconds "
      "since it began, command.\nExample: ukernel ps\n";
  if (!args.empty() && (args[0] == "--help" || args[0] == "-h")) {
    std::fputs(help, stdout);
    return std::fflush(stdout) == 0 ? 0 : kOwnError;
  }
  if (!args.empty()) return fail("ps " + args[0] + ": takes no arguments; see ukernel ps --help");
  std::printf("%-16s %8s %8s %s\n", "NAME", "PID", "SECONDS", "COMMAND");
  for (const std::string& name : instance_names()) {
    (void)request(name, {"ps"}, /*patient=*/false, [&](const Words& w) {
      if (w[0] == "out" && w.size() == 2) std::printf("%-16s %s", name.c_str(), w[1].c_str());
    });
  }
  return std::fflush(stdout) == 0 ? 0 : kOwnError;
}

}  // namespace uk::boot
