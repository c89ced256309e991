#include "boot/image.h"

#include <cstdio>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "boot/options.h"
#include "boot/progress.h"
#include "hostio/sys/file.h"
#include "mkimage/make_image.h"
#include "ukernel/dev/cow/image_ops.h"

namespace uk::boot {
namespace {

constexpr int kOwnError = 125;
constexpr int kProblems = 1;

constexpr const char* kHelp =
    "usage: ukernel image create FILE --size=SIZE\n"
    "       ukernel image create FILE --from=DIRECTORY|ARCHIVE [--size=SIZE] [--owner=UID:GID] "
    "[--force]\n"
    "       ukernel image create FILE --backing=IMAGE [--size=SIZE] [--format=ukcow|uml]\n"
    "       ukernel image info FILE\n"
    "       ukernel image check FILE\n"
    "       ukernel image commit FILE [--force]\n"
    "       ukernel image rebase FILE --backing=IMAGE [--as-is]\n"
    "\n"
    "An image is a file with the contents of a disk, byte for byte. A copy-on-write file keeps "
    "what\n"
    "was changed of a disk whose other contents are in an image, its backing file, which is only\n"
    "read. So one image serves many guests, and what they did to it can be kept or thrown away:\n"
    "\n"
    "  ukernel image create base.img --size=8G            an empty disk, which takes no room yet\n"
    "  ukernel run --disk=vdb=base.img,cow=try.cow        the guest's writes go to try.cow, which\n"
    "                                                     is made if it is not there\n"
    "  ukernel image info try.cow                         what it is, and how much is in it\n"
    "  ukernel image commit try.cow                       keep: base.img gets what was written\n"
    "  rm try.cow                                         or throw it away\n"
    "\n"
    "An image with a file system, ext4, can be made of a directory or a tar archive; that takes "
    "no\n"
    "root and boots no guest. It can be the root of guests, or a disk for them to mount:\n"
    "\n"
    "  mmdebstrap bookworm debian.tar                     for example; or docker export, or any "
    "tar\n"
    "  ukernel image create debian.ext4 --from=debian.tar --size=4G\n"
    "  ukernel run --root=image:debian.ext4\n"
    "  ukernel image create data.ext4 --from=./files --owner=0:0\n"
    "  ukernel run --disk=vdb=data.ext4\n"
    "\n"
    "A backing file must not change while copy-on-write files refer to it; its size and time of\n"
    "modification are checked. Commands that were interrupted can be given again.\n"
    "\n"
    "  create   makes a file that was not there. SIZE is bytes, or has K, M, G or T behind it. "
    "With\n"
    "           --backing, a copy-on-write file, of ukernel's format (docs/COW.md) or User Mode\n"
    "           Linux's; SIZE is then that of the disk. Defaults: the image's size; "
    "--format=ukcow.\n"
    "           With --from, an ext4 image with the files of DIRECTORY, or of an ARCHIVE of tar, "
    "plain\n"
    "           or packed by gzip, xz, zstd or bzip2 (which must be there then); - is one on "
    "standard\n"
    "           input. Owners, modes, times, links, devices and extended attributes are as there;\n"
    "           --owner makes all files somebody's. SIZE is that of the image; default: what the\n"
    "           files need, a quarter more, and 128 MiB. Holes take no room. --force: replaces "
    "FILE.\n"
    "  info     says format, sizes and backing file.\n"
    "  check    reads all of it. Exit status 1 if something is wrong.\n"
    "  commit   writes what was changed into the backing file and empties FILE. --force: even if "
    "the\n"
    "           backing file is not as it was.\n"
    "  rebase   makes another IMAGE the backing file; the disk keeps its contents: where IMAGE "
    "has\n"
    "           others, FILE gets a copy first. --as-is: without looking; for an image that was "
    "moved\n"
    "           or only touched.\n";

int fail(const std::string& sentence) {
  std::fprintf(stderr, "ukernel: %s\n", sentence.c_str());
  return kOwnError;
}

// The words of a command, taken apart.
struct Words {
  std::string file;
  std::optional<std::string> backing, size, format, from, owner;
  bool force = false, as_is = false;
};

// "" or what is wrong. `allowed`: the options that this command has.
std::string parse(const std::string& command, const std::vector<std::string>& args,
                  std::initializer_list<std::string_view> allowed, Words& words) {
  const std::string see = "; see ukernel image --help";
  for (const std::string& arg : args) {
    if (!arg.starts_with("--")) {
      if (!words.file.empty())
        return absl::StrCat("image ", command, ": more than one file: ", arg, see);
      words.file = arg;
      continue;
    }
    const size_t eq = arg.find('=');
    const std::string name = arg.substr(2, eq == std::string::npos ? eq : eq - 2);
    if (std::find(allowed.begin(), allowed.end(), name) == allowed.end())
      return absl::StrCat("image ", command, ": ", arg, ": no such option", see);
    const bool flag = name == "force" || name == "as-is";
    if (flag != (eq == std::string::npos))
      return absl::StrCat("image ", command, ": ", arg,
                          flag ? ": takes no value" : ": needs a value", see);
    if (name == "force") {
      words.force = true;
    } else if (name == "as-is") {
      words.as_is = true;
    } else if (name == "backing") {
      words.backing = arg.substr(eq + 1);
    } else if (name == "size") {
      words.size = arg.substr(eq + 1);
    } else if (name == "from") {
      words.from = arg.substr(eq + 1);
    } else if (name == "owner") {
      words.owner = arg.substr(eq + 1);
    } else {
      words.format = arg.substr(eq + 1);
    }
  }
  return words.file.empty() ? absl::StrCat("image ", command, ": no file is named", see) : "";
}

// "1000:1000".
std::optional<std::pair<uint32_t, uint32_t>> parse_owner(const std::string& text) {
  uint32_t uid = 0, gid = 0;
  const size_t colon = text.find(':');
  if (colon == std::string::npos || !absl::SimpleAtoi(text.substr(0, colon), &uid) ||
      !absl::SimpleAtoi(text.substr(colon + 1), &gid) || uid == UINT32_MAX || gid == UINT32_MAX)
    return std::nullopt;
  return std::pair(uid, gid);
}

int create_from(const Words& w, uint64_t bytes) {
  if (w.backing || w.format)
    return fail("image create: --from makes a raw image; leave out --backing and --format");
  mkimage::ImageOrder order = {w.file, *w.from, bytes, std::nullopt, w.force};
  if (w.owner && !(order.owner = parse_owner(*w.owner)))
    return fail("image create: --owner=" + *w.owner +
                ": not two numbers; write for example --owner=0:0");
  std::string why;
  Result<mkimage::ImageMade> made;
  {
    Progress unpack("unpack " + *w.from), write("create " + w.file);
    made = mkimage::make_image(
        order, [&](uint64_t done, uint64_t total) { unpack.update(done, total); },
        [&](uint64_t done, uint64_t total) { write.update(done, total); }, why);
  }
  if (!made) return fail(why);
  for (const std::string& note : made->notes) std::printf("note: %s\n", note.c_str());
  std::printf("%s: ext4, %s, %u files, %s free\n", w.file.c_str(), size_text(made->bytes).c_str(),
              static_cast<unsigned>(made->files), size_text(made->free).c_str());
  return 0;
}

int create(const Words& w) {
  std::optional<uint64_t> bytes = 0;
  if (w.size) bytes = parse_size(*w.size);
  if (!bytes || (w.size && (*bytes == 0 || *bytes % 512 != 0)))
    return fail("image create: --size=" + *w.size +
                ": not a size in whole sectors of 512 bytes; write for example --size=2G");
  if (w.from) return create_from(w, *bytes);
  if (w.owner || w.force)
    return fail("image create: --owner and --force are for images made of files; give --from");
  std::string why;
  if (!w.backing) {
    if (!w.size)
      return fail(
          "image create: no size, no backing file and no files; give --size=SIZE, "
          "--backing=IMAGE or --from=DIRECTORY");
    if (w.format) return fail("image create: --format is for copy-on-write files; give --backing");
    return cow::create_raw(w.file, *bytes, why) ? 0 : fail(why);
  }
  if (w.format && *w.format != "ukcow" && *w.format != "uml")
    return fail("image create: --format=" + *w.format + ": no such format; use ukcow or uml");
  const cow::Kind kind = w.format == "uml" ? cow::Kind::kUml : cow::Kind::kOwn;
  return cow::create_cow(w.file, kind, *w.backing, *bytes, why) ? 0 : fail(why);
}

int info_raw(const std::string& path) {
  Result<sys::Fd> fd = sys::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  Result<cow::BackingState> state = fd ? cow::backing_state(fd->get()) : Err(fd.error());
  if (!state)
    return fail(
        absl::StrFormat("%s: %s; give a file you can read", path, errno_text(state.error())));
  Result<struct stat> st = sys::fstat(fd->get());
  std::printf("format: raw\ndisk: %s\non the host: %s\n", size_text(state->bytes).c_str(),
              size_text(st ? static_cast<uint64_t>(st->st_blocks) * 512 : 0).c_str());
  return 0;
}

int info(const Words& w) {
  std::string why;
  Result<cow::Info> i = cow::image_info(w.file, why);
  if (!i && i.error() == Errno::kINVAL) return info_raw(w.file);
  if (!i) return fail(why);
  const cow::Header& h = i->header;
  constexpr const char* kStates[] = {"as it was", "has changed", "cannot be read"};
  std::printf(
      "format: %s\ndisk: %s\nwritten: %s in %u of %u clusters of %u bytes\non the host: %s\n"
      "backing file: %s (%s, %s)\n",
      h.kind == cow::Kind::kUml ? "User Mode Linux, version 3" : "ukcow, version 1",
      size_text(h.disk_bytes).c_str(), size_text(i->present * h.cluster).c_str(),
      static_cast<unsigned>(i->present), static_cast<unsigned>(h.clusters()), h.cluster,
      size_text(i->allocated).c_str(), h.backing.c_str(), size_text(h.backing_bytes).c_str(),
      kStates[static_cast<size_t>(i->backing)]);
  if (h.committing) std::printf("state: a commit was interrupted; give ukernel image commit\n");
  return 0;
}

int check(const Words& w) {
  std::string why;
  Progress bar("check " + w.file);
  Result<cow::CheckReport> report = cow::image_check(
      w.file, [&](uint64_t done, uint64_t total) { bar.update(done, total); }, why);
  if (!report) return fail(why);
  for (const std::string& note : report->notes) std::printf("note: %s\n", note.c_str());
  for (const std::string& problem : report->problems) std::printf("wrong: %s\n", problem.c_str());
  std::printf("%s: %s\n", w.file.c_str(), report->problems.empty() ? "good" : "not good");
  return report->problems.empty() ? 0 : kProblems;
}

int commit(const Words& w) {
  std::string why;
  Result<uint64_t> bytes;
  {
    Progress bar("commit " + w.file);
    bytes = cow::image_commit(
        w.file, w.force, [&](uint64_t done, uint64_t total) { bar.update(done, total); }, why);
  }
  if (!bytes) return fail(why);
  std::printf("%s: %s committed\n", w.file.c_str(), size_text(*bytes).c_str());
  return 0;
}

int rebase(const Words& w) {
  if (!w.backing) return fail("image rebase: no backing file; give --backing=IMAGE");
  std::string why;
  Result<uint64_t> bytes;
  {
    Progress bar("rebase " + w.file);
    bytes = cow::image_rebase(
        w.file, *w.backing, w.as_is,
        [&](uint64_t done, uint64_t total) { bar.update(done, total); }, why);
  }
  if (!bytes) return fail(why);
  std::printf("%s: %s copied from the old backing file\n", w.file.c_str(),
              size_text(*bytes).c_str());
  return 0;
}

struct Command {
  const char* name;
  std::initializer_list<std::string_view> options;
  int (*run)(const Words&);
};

}  // namespace

int image_command(const std::vector<std::string>& args) {
  const Command commands[] = {
      {"create", {"size", "backing", "format", "from", "owner", "force"}, create},
      {"info", {}, info},
      {"check", {}, check},
      {"commit", {"force"}, commit},
      {"rebase", {"backing", "as-is"}, rebase}};
  if (args.empty()) {
    std::fputs(kHelp, stderr);
    return kOwnError;
  }
  for (const std::string& arg : args) {
    if (arg != "--help" && arg != "-h") continue;
    std::fputs(kHelp, stdout);
    return std::fflush(stdout) == 0 ? 0 : kOwnError;
  }
  for (const Command& c : commands) {
    if (args[0] != c.name) continue;
    Words words;
    const std::string wrong = parse(c.name, {args.begin() + 1, args.end()}, c.options, words);
    return wrong.empty() ? c.run(words) : fail(wrong);
  }
  return fail("image " + args[0] + ": no such command; see ukernel image --help");
}

}  // namespace uk::boot
