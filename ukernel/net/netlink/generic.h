// NETLINK_GENERIC: families of requests that have names, and the controller ("nlctrl"), which tells
// the number and the operations of each (<linux/genetlink.h>).
//
// Ownership: NetlinkSockets owns it, it owns its families. Nothing suspends; requests are guest
// data.
#pragma once

#include <linux/genetlink.h>

#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "ukernel/net/netlink/netlink_socket.h"

namespace uk {

struct GenericOperation {
  uint8_t command;
  uint32_t flags;  // GENL_*
};
struct GenericGroup {
  int number;
  std::string_view name;
};

// One request to a family, its headers taken off.
struct GenericRequest {
  NetlinkSocket& from;
  const SocketCaller& who;
  const NetlinkRequest& message;
  uint8_t command;
  NetlinkAttributes attributes;

  // The begin of an answer: a message of type `type` (the family's number) with `command`.
  NetlinkMessage answer(uint16_t type, uint8_t command, uint8_t version) const;
};

class GenericFamily {
 public:
  GenericFamily(std::string_view name, uint8_t version, std::vector<GenericOperation> operations,
                std::vector<GenericGroup> groups = {})
      : name(name),
        version(version),
        operations(std::move(operations)),
        groups(std::move(groups)) {}
  virtual ~GenericFamily() = default;
  // An operation of this family, by who may ask for it. Its answers go to `request.from`.
  virtual Result<> handle(const GenericRequest& request) = 0;
  virtual void closed(NetlinkSocket&) {}

  const std::string_view name;
  const uint8_t version;
  const std::vector<GenericOperation> operations;
  const std::vector<GenericGroup> groups;
  uint16_t id = 0;  // given by GenericNetlink::add()
};

class GenericNetlink final : public NetlinkProtocol {
 public:
  GenericNetlink();
  void add(std::unique_ptr<GenericFamily> family);
  std::span<const std::unique_ptr<GenericFamily>> families() const { return families_; }

  void receive(NetlinkSocket& from, const SocketCaller& who,
               std::span<const std::byte> datagram) override;
  void closed(NetlinkSocket& socket) override;

 private:
  Result<> request(NetlinkSocket& from, const SocketCaller& who, const NetlinkRequest& r);
  std::vector<std::unique_ptr<GenericFamily>> families_;
};

}  // namespace uk
