#include "mkimage/unpack.h"

#include <fcntl.h>
#include <spawn.h>
#include <unistd.h>

#include <array>
#include <optional>
#include <string_view>

#include "hostio/sys/file.h"
#include "hostio/sys/process.h"
#include "mkimage/output_file.h"
#include "mkimage/text.h"

namespace uk::mkimage {
namespace {

struct Format {
  std::string_view magic;
  const char* program;
};
constexpr Format kFormats[] = {{"\x1f\x8b", "gzip"},
                               {{"\xfd"
                                 "7zXZ\0",
                                 6},
                                "xz"},
                               {"\x28\xb5\x2f\xfd", "zstd"},
                               {"BZh", "bzip2"}};

std::unexpected<Errno> fail(Errno error, std::string& why, const std::string& name,
                            std::string_view what, std::string_view what_to_do) {
  why = cat(name, ": ", what, "; ", what_to_do);
  return Err(error);
}

std::unexpected<Errno> host_failed(Errno error, std::string& why, const std::string& name) {
  return fail(error, why, name, errno_text(error),
              "give an archive that can be read, and a place with room for what is in it");
}

// Copies to the end. Progress is where `whole`, which the writer of `from` reads, has come to.
Result<> copy(int from, int to, int whole, const Progress& progress) {
  const Result<struct stat> st = sys::fstat(whole);
  std::vector<std::byte> buffer(256 << 10);
  for (;;) {
    const Result<size_t> n = sys::read(from, buffer);
    if (!n && n.error() == Errno::kINTR) continue;
    if (!n) return Err(n.error());
    if (*n == 0) return {};
    TRY(sys::write_all(to, sys::ConstByteSpan(buffer).first(*n)));
    const Result<uint64_t> at = sys::lseek(whole, 0, SEEK_CUR);
    if (st && at && S_ISREG(st->st_mode))
      progress(std::min<uint64_t>(*at, static_cast<uint64_t>(st->st_size)),
               static_cast<uint64_t>(st->st_size));
  }
}

Result<const Format*> format_of(int fd) {
  std::array<char, 6> head = {};
  const size_t n = TRY(sys::pread(fd, std::as_writable_bytes(std::span(head)), 0));
  for (const Format& f : kFormats) {
    if (std::string_view(head.data(), n).starts_with(f.magic)) return &f;
  }
  return nullptr;
}

// Runs `program -dc` from one descriptor into another; its words are not ours and are dropped.
Result<pid_t> start(const char* program, int in, int out) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  std::string name = program, option = "-dc";
  char* const argv[] = {name.data(), option.data(), nullptr};
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, program, &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return Err(static_cast<Errno>(error));
  return pid;
}

Result<> decompress(const Format& format, int from, int to, const std::string& name,
                    const Progress& progress, std::string& why) {
  Result<sys::PipePair> pipe = sys::pipe2();
  if (!pipe) return host_failed(pipe.error(), why, name);
  (void)sys::lseek(from, 0, SEEK_SET);
  const Result<pid_t> pid = start(format.program, from, pipe->write_end.get());
  if (!pid)
    return fail(pid.error(), why, name,
                cat("to unpack it takes ", format.program,
                    ", which cannot be run: ", errno_text(pid.error())),
                cat("install ", format.program, ", or give the archive unpacked"));
  pipe->write_end.reset();
  const Result<> copied = copy(pipe->read_end.get(), to, from, progress);
  pipe->read_end.reset();  // ends the program if there is more
  int status = 0;
  Result<pid_t> waited = sys::waitpid(*pid, &status, 0);
  while (!waited && waited.error() == Errno::kINTR) waited = sys::waitpid(*pid, &status, 0);
  if (!copied) return host_failed(copied.error(), why, name);
  if (!waited || status != 0)
    return fail(Errno::kIO, why, name, cat(format.program, " cannot unpack it"),
                "it is damaged or cut short: get or make it anew");
  return {};
}

}  // namespace

Result<sys::Fd> plain_archive(sys::Fd archive, const std::string& name,
                              const std::string& directory, const Progress& progress,
                              std::string& why) {
  const Result<struct stat> st = sys::fstat(archive.get());
  if (!st) return host_failed(st.error(), why, name);
  const auto spool = [&]() -> Result<sys::Fd> {
    Result<sys::Fd> fd = nameless_file(directory);
    if (!fd) return host_failed(fd.error(), why, directory);
    return fd;
  };
  if (!S_ISREG(st->st_mode)) {
    sys::Fd whole = TRY(spool());
    const Result<> r = copy(archive.get(), whole.get(), archive.get(), progress);
    if (!r) return host_failed(r.error(), why, name);
    archive = std::move(whole);
  }
  const Result<const Format*> format = format_of(archive.get());
  if (!format) return host_failed(format.error(), why, name);
  if (*format == nullptr) return archive;
  sys::Fd plain = TRY(spool());
  TRY(decompress(**format, archive.get(), plain.get(), name, progress, why));
  return plain;
}

}  // namespace uk::mkimage
