// Netlink messages as bytes (netlink(7); attributes as in rtnetlink(7)): requests of tasks taken
// apart, answers put together. What is parsed is guest data; spans point into it. Nothing suspends.
#pragma once

#include <linux/netlink.h>

#include <cstring>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace uk {

using Bytes = std::vector<std::byte>;

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

struct NetlinkRequest {
  nlmsghdr header;
  std::span<const std::byte> whole;  // with the header, without padding
  std::span<const std::byte> body() const { return whole.subspan(NLMSG_HDRLEN); }
  bool is_dump() const { return (header.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP; }
};

// The first message in `bytes`, which is cut off there; false: there is no (further) sound one.
bool take_request(std::span<const std::byte>& bytes, NetlinkRequest& request);

// By type, the last of each; sizes are whatever the sender said.
using NetlinkAttributes = std::map<uint16_t, std::span<const std::byte>>;
NetlinkAttributes parse_attributes(std::span<const std::byte> bytes);
// The number in an attribute that must have room for one: kRANGE.
Result<uint32_t> attribute_u32(std::span<const std::byte> value);
// Text up to its NUL, if there is one.
std::string_view attribute_text(std::span<const std::byte> value);

// One message under construction.
class NetlinkMessage {
 public:
  NetlinkMessage(uint16_t type, uint16_t flags, uint32_t seq, uint32_t port);
  void raw(std::span<const std::byte> bytes);
  void attribute(uint16_t type, std::span<const std::byte> value);
  void u32(uint16_t type, uint32_t value) { attribute(type, bytes_of(value)); }
  void text(uint16_t type, std::string_view value);  // with a NUL
  // What `fill` adds becomes the value of one attribute.
  template <class F>
  void nest(uint16_t type, F fill) {
    const size_t at = bytes_.size();
    attribute(type, {});
    fill();
    set_length(at, bytes_.size() - at);
  }
  Bytes finish() &&;

 private:
  void set_length(size_t attribute_at, size_t length);
  void pad();
  Bytes bytes_;
};

// NLMSG_ERROR: what came of a request, 0 or -errno. With an error the whole request goes back,
// unless the socket asked for its header only (`cap`).
Bytes netlink_ack(const NetlinkRequest& request, int error, uint32_t port, bool cap);
// NLMSG_DONE, the end of a dump.
Bytes netlink_done(const NetlinkRequest& request, uint32_t port);

}  // namespace uk
