#include "ukernel/net/netlink/netlink_message.h"

#include <algorithm>

namespace uk {

bool take_request(std::span<const std::byte>& bytes, NetlinkRequest& request) {
  if (bytes.size() < sizeof(nlmsghdr)) return false;
  std::memcpy(&request.header, bytes.data(), sizeof(nlmsghdr));
  const size_t length = request.header.nlmsg_len;
  if (length < sizeof(nlmsghdr) || length > bytes.size()) return false;
  request.whole = bytes.first(length);
  bytes = bytes.subspan(std::min<size_t>(NLMSG_ALIGN(length), bytes.size()));
  return true;
}

NetlinkAttributes parse_attributes(std::span<const std::byte> bytes) {
  NetlinkAttributes out;
  while (bytes.size() >= sizeof(nlattr)) {
    nlattr a;
    std::memcpy(&a, bytes.data(), sizeof a);
    if (a.nla_len < sizeof a || a.nla_len > bytes.size()) break;
    out[a.nla_type & NLA_TYPE_MASK] = bytes.subspan(sizeof a, a.nla_len - sizeof a);
    bytes = bytes.subspan(std::min<size_t>(NLA_ALIGN(a.nla_len), bytes.size()));
  }
  return out;
}

Result<uint32_t> attribute_u32(std::span<const std::byte> value) {
  uint32_t number = 0;
  if (value.size() < sizeof number) return Err(Errno::kRANGE);
  std::memcpy(&number, value.data(), sizeof number);
  return number;
}

std::string_view attribute_text(std::span<const std::byte> value) {
  const std::string_view all(reinterpret_cast<const char*>(value.data()), value.size());
  return all.substr(0, all.find('\0'));
}

NetlinkMessage::NetlinkMessage(uint16_t type, uint16_t flags, uint32_t seq, uint32_t port) {
  raw(bytes_of(nlmsghdr{0, type, flags, seq, port}));
}

void NetlinkMessage::raw(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void NetlinkMessage::attribute(uint16_t type, std::span<const std::byte> value) {
  raw(bytes_of(nlattr{static_cast<uint16_t>(sizeof(nlattr) + value.size()), type}));
  raw(value);
  pad();
}

void NetlinkMessage::text(uint16_t type, std::string_view value) {
  nest(type, [&] {
    raw(std::as_bytes(std::span(value)));
    bytes_.push_back(std::byte{0});
  });
  pad();
}

void NetlinkMessage::set_length(size_t attribute_at, size_t length) {
  const auto n = static_cast<uint16_t>(length);
  std::memcpy(bytes_.data() + attribute_at, &n, sizeof n);
}

void NetlinkMessage::pad() { bytes_.resize(NLMSG_ALIGN(bytes_.size())); }

Bytes NetlinkMessage::finish() && {
  const auto n = static_cast<uint32_t>(bytes_.size());
  std::memcpy(bytes_.data(), &n, sizeof n);
  return std::move(bytes_);
}

Bytes netlink_ack(const NetlinkRequest& request, int error, uint32_t port, bool cap) {
  const bool whole = error != 0 && !cap;
  NetlinkMessage m(NLMSG_ERROR, whole ? 0 : NLM_F_CAPPED, request.header.nlmsg_seq, port);
  m.raw(bytes_of(error));
  m.raw(whole ? request.whole : request.whole.first(sizeof(nlmsghdr)));
  return std::move(m).finish();
}

Bytes netlink_done(const NetlinkRequest& request, uint32_t port) {
  NetlinkMessage m(NLMSG_DONE, NLM_F_MULTI, request.header.nlmsg_seq, port);
  m.raw(bytes_of(int{0}));
  return std::move(m).finish();
}

}  // namespace uk
