#include "mkimage/tar_reader.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "hostio/sys/file.h"
#include "mkimage/tar_sparse.h"
#include "mkimage/text.h"

namespace uk::mkimage {
namespace {

constexpr uint64_t kBlock = 512;
// Names, or records of extended attributes: many of 64 KiB each.
constexpr uint64_t kMaxExtension = 16 << 20;
constexpr size_t kMaxPath = 65535;

uint64_t padded(uint64_t bytes) { return (bytes + kBlock - 1) & ~(kBlock - 1); }

std::string_view text_of(std::string_view field) { return field.substr(0, field.find('\0')); }

// What a type is on Linux; 0: nothing of a file system.
uint32_t mode_of(char type, std::string_view name) {
  switch (type) {
    case '\0':  // v7: directories have a slash at the end
      return name.ends_with('/') ? S_IFDIR : S_IFREG;
    case '0':
    case '7':
    case 'S':
      return S_IFREG;
    case '2':
      return S_IFLNK;
    case '3':
      return S_IFCHR;
    case '4':
      return S_IFBLK;
    case '5':
    case 'D':
      return S_IFDIR;
    case '6':
      return S_IFIFO;
    default:
      return 0;
  }
}

const std::string* last(const PaxRecords& records, std::string_view key) {
  const auto it = std::find_if(records.rbegin(), records.rend(),
                               [&](const auto& record) { return record.first == key; });
  return it == records.rend() ? nullptr : &it->second;
}

}  // namespace

std::unexpected<Errno> TarReader::fail(std::string& why, std::string_view what) const {
  why = cat(what, " (at byte ", at_, ")");
  return Err(Errno::kINVAL);
}

Result<> TarReader::read(uint64_t at, std::span<std::byte> to, std::string& why) const {
  if (at > bytes_ || to.size() > bytes_ - at) return fail(why, "it is cut short");
  while (!to.empty()) {
    const Result<size_t> n = sys::pread(fd_, to, at);
    if (!n && n.error() == Errno::kINTR) continue;
    if (!n) {
      why = errno_text(n.error());
      return Err(n.error());
    }
    if (*n == 0) return fail(why, "it is cut short");
    to = to.subspan(*n);
    at += *n;
  }
  return {};
}

Result<TarReader::Header> TarReader::read_header(std::string& why) {
  Header h;
  TRY(read(at_, std::as_writable_bytes(std::span(h.raw)), why));
  h.end_mark = std::all_of(h.raw.begin(), h.raw.end(), [](char c) { return c == 0; });
  if (h.end_mark) return h;
  // The sum is made with its own field blank; some old programs took signed bytes.
  int64_t sum = 8 * ' ', signed_sum = 8 * ' ';
  for (size_t i = 0; i < h.raw.size(); ++i) {
    if (i >= 148 && i < 156) continue;
    sum += static_cast<uint8_t>(h.raw[i]);
    signed_sum += static_cast<int8_t>(h.raw[i]);
  }
  const Result<int64_t> wanted = tar_number(h.field(148, 8));
  if (!wanted || (*wanted != sum && *wanted != signed_sum))
    return fail(why, at_ == 0 ? "it is no tar archive" : "the checksum of a header is wrong");
  return h;
}

Result<std::string> TarReader::read_extension(uint64_t size, std::string& why) {
  if (size > kMaxExtension) return fail(why, "an extended header of more than 16 MiB");
  if (size > bytes_ - at_) return fail(why, "it is cut short");
  std::string text(size, 0);
  TRY(read(at_, std::as_writable_bytes(std::span(text)), why));
  at_ += padded(size);
  return text;
}

// What is everybody's is copied for each member: a small archive must not become a large tree.
Result<> TarReader::add_global(const PaxRecords& records, size_t bytes, std::string& why) {
  constexpr size_t kMost = 64 << 10;
  if (bytes > kMost - global_bytes_) return fail(why, "global pax records of more than 64 KiB");
  global_bytes_ += bytes;
  for (const auto& record : records) {
    if (record.first.find(".xattr.") != std::string::npos)
      return fail(why, "extended attributes in a global pax header");
    global_.push_back(record);
  }
  return {};
}

Result<std::optional<TarMember>> TarReader::next(std::string& why) {
  TarMember extended;  // GNU's long names
  PaxRecords records = global_;
  for (bool any = false;; any = true) {
    const Header h = TRY(read_header(why));
    if (h.end_mark && any) return fail(why, "it ends after an extended header");
    if (h.end_mark) return std::nullopt;
    const char type = h.raw[156];
    if (!std::strchr("xXgLKV", type) || type == 0) {
      Result<TarMember> m = member(h, records, std::move(extended), why);
      if (!m) return Err(m.error());
      return std::optional(std::move(*m));
    }
    const Result<int64_t> size = tar_number(h.field(124, 12));
    if (!size || *size < 0) return fail(why, "a header without a size");
    at_ += kBlock;
    const std::string text = TRY(read_extension(static_cast<uint64_t>(*size), why));
    if (type == 'L') {
      extended.name = text_of(text);
    } else if (type == 'K') {
      extended.hard_link = text_of(text);
    } else if (type != 'V') {
      PaxRecords fresh;
      if (!parse_pax(text, fresh)) return fail(why, "a pax header cannot be understood");
      if (type == 'g') TRY(add_global(fresh, text.size(), why));
      records.insert(records.end(), fresh.begin(), fresh.end());
    }
  }
}

Result<TarMember> TarReader::member(const Header& h, const PaxRecords& records, TarMember m,
                                    std::string& why) {
  const bool ustar = h.field(257, 6) == std::string_view("ustar\0", 6);
  const char type = h.raw[156];
  std::string link = std::move(m.hard_link);
  m.hard_link.clear();
  if (link.empty()) link = text_of(h.field(157, 100));
  if (m.name.empty()) {
    m.name = text_of(h.field(0, 100));
    if (const auto prefix = text_of(h.field(345, 155)); ustar && !prefix.empty())
      m.name = cat(prefix, "/", m.name);
  }
  if (const std::string* s = last(records, "path")) m.name = *s;
  if (const std::string* s = last(records, "linkpath")) link = *s;
  Sparse sparse;
  if (!sparse.from_pax(records)) return fail(why, "a sparse file's map cannot be understood");
  if (!sparse.name.empty()) m.name = sparse.name;
  if (m.name.empty() || m.name.size() > kMaxPath || m.name.find('\0') != std::string::npos)
    return fail(why, "a member without a proper name");

  Attributes& a = m.attributes;
  const bool hard_link = type == '1';
  a.mode = hard_link ? S_IFREG : mode_of(type, m.name);
  const std::string member = cat("member ", shown(m.name), ": ");
  if (a.mode == 0) return fail(why, cat(member, "its type '", shown({&type, 1}), "' is not known"));
  const Result<int64_t> mode = tar_number(h.field(100, 8)), uid = tar_number(h.field(108, 8)),
                        gid = tar_number(h.field(116, 8)), mtime = tar_number(h.field(136, 12));
  Result<int64_t> size = tar_number(h.field(124, 12));
  if (const std::string* s = last(records, "size")) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(s->data(), s->data() + s->size(), value);
    size = error == std::errc() && end == s->data() + s->size() ? Result<int64_t>(value)
                                                                : Err(Errno::kINVAL);
  }
  if (!mode || !mtime || !size || *size < 0)
    return fail(why, cat(member, "its mode, time or size is no number"));
  const auto is_id = [](const Result<int64_t>& id) { return id && *id >= 0 && *id < UINT32_MAX; };
  // A pax header may stand in for owners that do not fit.
  if ((!is_id(uid) && last(records, "uid") == nullptr) ||
      (!is_id(gid) && last(records, "gid") == nullptr))
    return fail(why, cat(member, "its owner is no number of 32 bits"));
  a.mode |= static_cast<uint32_t>(*mode) & 07777;
  if (is_id(uid)) a.uid = static_cast<uint32_t>(*uid);
  if (is_id(gid)) a.gid = static_cast<uint32_t>(*gid);
  a.mtime.seconds = *mtime;
  a.atime.nanoseconds = a.ctime.nanoseconds = UINT32_MAX;  // not said
  if (!apply_pax(records, a, why)) return fail(why, member + why);
  if (a.atime.nanoseconds == UINT32_MAX) a.atime = a.mtime;
  if (a.ctime.nanoseconds == UINT32_MAX) a.ctime = a.mtime;

  at_ += kBlock;
  if (hard_link) {
    if (link.empty()) return fail(why, member + "a hard link to nothing");
    m.hard_link = link;
    return m;
  }
  if (a.is_symlink()) a.target = link;
  if (S_ISCHR(a.mode) || S_ISBLK(a.mode)) {
    const Result<int64_t> major = tar_number(h.field(329, 8)), minor = tar_number(h.field(337, 8));
    constexpr int64_t kMajors = 1 << 12, kMinors = 1 << 20;  // of Linux's dev_t
    if (!major || !minor || *major < 0 || *major >= kMajors || *minor < 0 || *minor >= kMinors)
      return fail(why, member + "there is no such device number");
    a.major = static_cast<uint32_t>(*major);
    a.minor = static_cast<uint32_t>(*minor);
  }
  if (!a.is_regular() && type != 'D') return m;  // no contents, whatever the size says
  if (type == 'S') TRY(read_sparse_blocks(h, sparse, why));
  const auto stored = static_cast<uint64_t>(*size);
  if (stored > bytes_ - at_ || padded(stored) > bytes_ - at_)
    return fail(why, member + "it is cut short in its contents");
  const uint64_t end = at_ + stored, next = at_ + padded(stored);
  if (a.is_regular()) {
    if (sparse.in_contents) TRY(read_sparse_text(stored, sparse, why));
    if (!sparse.is) {
      sparse.pieces = {{0, stored}};
      sparse.size = stored;
    }
    TRY(lay_segments(sparse, end, a, why));
  }
  at_ = next;
  return m;
}

}  // namespace uk::mkimage
