#include "ukernel/net/netlink/generic.h"

#include <algorithm>

namespace uk {
namespace {

constexpr uint16_t kFirstFree = 0x13;  // GENL_START_ALLOC: after the numbers that are reserved
constexpr uint8_t kControllerVersion = 2;
constexpr size_t kMaxName = GENL_NAMSIZ;

Result<std::string_view> name_of(std::span<const std::byte> value) {
  const std::string_view name = attribute_text(value);
  if (name.size() == value.size()) return Err(Errno::kINVAL);  // no NUL
  if (value.size() > kMaxName) return Err(Errno::kRANGE);
  return name;
}

class Controller final : public GenericFamily {
 public:
  explicit Controller(const GenericNetlink& all)
      : GenericFamily(
            "nlctrl", kControllerVersion,
            {{CTRL_CMD_GETFAMILY, GENL_CMD_CAP_DO | GENL_CMD_CAP_DUMP | GENL_CMD_CAP_HASPOL}},
            {{GENL_ID_CTRL, "notify"}}),
        all_(all) {}

  Result<> handle(const GenericRequest& r) override {
    if (r.message.is_dump()) return dump(r);
    (void)r.from.deliver(describe(r, *TRY(wanted(r)), 0));
    return {};
  }

 private:
  Result<const GenericFamily*> wanted(const GenericRequest& r) const {
    const auto by_id = r.attributes.find(CTRL_ATTR_FAMILY_ID);
    const auto by_name = r.attributes.find(CTRL_ATTR_FAMILY_NAME);
    const GenericFamily* found = nullptr;
    if (by_id != r.attributes.end()) {
      uint16_t id = 0;
      if (by_id->second.size() < sizeof id) return Err(Errno::kRANGE);
      std::memcpy(&id, by_id->second.data(), sizeof id);
      for (const auto& f : all_.families())
        if (f->id == id) found = f.get();
    }
    if (by_name != r.attributes.end()) {
      const std::string_view name = TRY(name_of(by_name->second));
      found = nullptr;
      for (const auto& f : all_.families())
        if (f->name == name) found = f.get();
    }
    if (found != nullptr) return found;
    const bool asked = by_id != r.attributes.end() || by_name != r.attributes.end();
    return Err(asked ? Errno::kNOENT : Errno::kINVAL);
  }

  Result<> dump(const GenericRequest& r) const {
    Bytes out;
    auto add = [&](const Bytes& more) { out.insert(out.end(), more.begin(), more.end()); };
    for (const auto& f : all_.families()) add(describe(r, *f, NLM_F_MULTI));
    add(netlink_done(r.message, r.from.port()));
    (void)r.from.deliver(std::move(out));
    return {};
  }

  Bytes describe(const GenericRequest& r, const GenericFamily& f, uint16_t flags) const {
    NetlinkMessage m(id, flags, r.message.header.nlmsg_seq, r.from.port());
    m.raw(bytes_of(genlmsghdr{CTRL_CMD_NEWFAMILY, kControllerVersion, 0}));
    m.text(CTRL_ATTR_FAMILY_NAME, f.name);
    m.attribute(CTRL_ATTR_FAMILY_ID, bytes_of(f.id));
    m.u32(CTRL_ATTR_VERSION, f.version);
    m.u32(CTRL_ATTR_HDRSIZE, 0);
    m.u32(CTRL_ATTR_MAXATTR, 0);  // each operation has its own
    uint16_t i = 0;
    m.nest(CTRL_ATTR_OPS, [&] {
      for (const GenericOperation& op : f.operations) {
        m.nest(++i, [&] {
          m.u32(CTRL_ATTR_OP_ID, op.command);
          m.u32(CTRL_ATTR_OP_FLAGS, op.flags);
        });
      }
    });
    if (f.groups.empty()) return std::move(m).finish();
    i = 0;
    m.nest(CTRL_ATTR_MCAST_GROUPS, [&] {
      for (const GenericGroup& g : f.groups) {
        m.nest(++i, [&] {
          m.u32(CTRL_ATTR_MCAST_GRP_ID, static_cast<uint32_t>(g.number));
          m.text(CTRL_ATTR_MCAST_GRP_NAME, g.name);
        });
      }
    });
    return std::move(m).finish();
  }

  const GenericNetlink& all_;
};

}  // namespace

NetlinkMessage GenericRequest::answer(uint16_t type, uint8_t with, uint8_t version) const {
  NetlinkMessage m(type, 0, message.header.nlmsg_seq, from.port());
  m.raw(bytes_of(genlmsghdr{with, version, 0}));
  return m;
}

GenericNetlink::GenericNetlink() {
  add(std::make_unique<Controller>(*this));
  families_.back()->id = GENL_ID_CTRL;
}

void GenericNetlink::add(std::unique_ptr<GenericFamily> family) {
  family->id = static_cast<uint16_t>(kFirstFree + families_.size() - 1);
  families_.push_back(std::move(family));
}

void GenericNetlink::receive(NetlinkSocket& from, const SocketCaller& who,
                             std::span<const std::byte> datagram) {
  each_request(from, datagram, [&](const NetlinkRequest& r) { return request(from, who, r); });
}

void GenericNetlink::closed(NetlinkSocket& socket) {
  for (const auto& f : families_) f->closed(socket);
}

Result<> GenericNetlink::request(NetlinkSocket& from, const SocketCaller& who,
                                 const NetlinkRequest& r) {
  auto family = std::ranges::find(families_, r.header.nlmsg_type, [](auto& f) { return f->id; });
  if (family == families_.end()) return Err(Errno::kNOENT);
  genlmsghdr h;
  if (r.body().size() < sizeof h) return Err(Errno::kINVAL);
  std::memcpy(&h, r.body().data(), sizeof h);
  const uint32_t way = r.is_dump() ? GENL_CMD_CAP_DUMP : GENL_CMD_CAP_DO;
  const auto& operations = (*family)->operations;
  auto op = std::ranges::find(operations, h.cmd, &GenericOperation::command);
  if (op == operations.end() || (op->flags & way) == 0) return Err(Errno::kOPNOTSUPP);
  if ((op->flags & GENL_ADMIN_PERM) != 0 && !from.capable(who, Cap::kNetAdmin))
    return Err(Errno::kPERM);
  return (*family)->handle({from, who, r, h.cmd, parse_attributes(r.body().subspan(sizeof h))});
}

}  // namespace uk
