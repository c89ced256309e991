// Tar archives. The input says what blocks there are; headers have the sum they should have, and
// the contents of a pax header lengths that are right, or they would be of no interest.
#include <unistd.h>

#include "hostio/sys/file.h"
#include "mkimage/tar_source.h"
#include "tests/fuzz/input.h"

namespace uk {
namespace {

constexpr size_t kBlock = 512;

void sign(std::span<char> header) {
  std::memset(&header[148], ' ', 8);
  unsigned sum = 0;
  for (const char c : header) sum += static_cast<uint8_t>(c);
  snprintf(&header[148], 8, "%06o", sum);
}

// "LENGTH KEY=VALUE\n".
std::string record(const std::string& text) {
  size_t length = text.size() + 3;
  while (std::to_string(length).size() + text.size() + 2 != length)
    length = std::to_string(length).size() + text.size() + 2;
  return std::to_string(length) + " " + text + "\n";
}

std::string bytes_of(FuzzInput& in, size_t most) {
  std::string text(in.take<uint8_t>() % (most + 1), '\0');
  in.fill(std::as_writable_bytes(std::span(text)));
  return text;
}

void append(FuzzInput& in, std::string& archive) {
  constexpr std::string_view kTypes("0123457SxxgLKVD\0", 16);
  constexpr const char* kKeys[] = {"path",
                                   "linkpath",
                                   "size",
                                   "mtime",
                                   "uid",
                                   "GNU.sparse.map",
                                   "GNU.sparse.major",
                                   "GNU.sparse.realsize",
                                   "GNU.sparse.offset",
                                   "GNU.sparse.numbytes",
                                   "GNU.sparse.name",
                                   "SCHILY.xattr.user.a",
                                   "LIBARCHIVE.xattr.user.b",
                                   "GNU.sparse.size"};
  std::string header(kBlock, '\0'), contents;
  const char type = kTypes[in.take<uint8_t>() % kTypes.size()];
  const std::string name = bytes_of(in, 40), link = bytes_of(in, 40);
  std::memcpy(&header[0], name.data(), name.size());
  std::memcpy(&header[157], link.data(), link.size());
  if (type == 'x' || type == 'g') {
    for (auto n = in.take<uint8_t>() % 4; n != 0; --n)
      contents += record(kKeys[in.take<uint8_t>() % std::size(kKeys)] + ("=" + bytes_of(in, 60)));
  } else {
    contents = bytes_of(in, 200);
  }
  snprintf(&header[124], 12, "%011zo", contents.size());
  std::memcpy(&header[257],
              "ustar\0"
              "00",
              8);
  for (auto changes = in.take<uint8_t>() % 8; changes != 0; --changes)
    header[in.take<uint16_t>() % kBlock] = in.take<char>();
  sign(header);
  archive += header + contents;
  archive.resize((archive.size() + kBlock - 1) / kBlock * kBlock);
}

}  // namespace
}  // namespace uk

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace uk;
  FuzzInput in(data, size);
  std::string archive;
  const auto cut = in.take<uint16_t>();
  while (!in.empty() && archive.size() < 64 * kBlock) append(in, archive);
  archive.resize(archive.size() + 2 * kBlock);
  if (cut % 4 == 0) archive.resize(cut % archive.size());
  sys::Fd fd = *sys::memfd_create("tar");
  if (pwrite(fd.get(), archive.data(), archive.size(), 0) != static_cast<ssize_t>(archive.size()))
    std::abort();
  mkimage::TarSource source(std::move(fd), archive.size(), "fuzz.tar");
  mkimage::Tree tree;
  std::vector<std::string> notes;
  std::string why;
  if (!source.scan(tree, notes, why)) {
    if (why.empty() || why.find('\n') != std::string::npos) std::abort();
    return 0;
  }
  for (const mkimage::NodeId id : tree.reachable()) {
    const mkimage::Node& node = tree.node(id);
    uint64_t behind = 0;
    for (const mkimage::Segment& s : node.segments) {
      if (s.at < behind || s.length == 0 || s.at + s.length > node.size ||
          s.from + s.length > archive.size())
        std::abort();
      behind = s.at + s.length;
    }
    for (const auto& [name, child] : node.children)
      if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos)
        std::abort();
  }
  return 0;
}
