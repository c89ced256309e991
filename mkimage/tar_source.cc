#include "mkimage/tar_source.h"

#include "mkimage/tar_reader.h"
#include "mkimage/text.h"

namespace uk::mkimage {

Result<> TarSource::scan(Tree& tree, std::vector<std::string>&, std::string& why) {
  TarReader reader(archive_.get(), bytes_);
  for (;;) {
    Result<std::optional<TarMember>> m = reader.next(why);
    if (!m) {
      why = cat(name_, ": ", why, "; get or make the archive anew");
      return Err(m.error());
    }
    if (!*m) return {};
    TarMember& member = **m;
    const Result<> r = member.hard_link.empty()
                           ? tree.put(member.name, std::move(member.attributes), why)
                           : tree.put_link(member.name, member.hard_link, why);
    if (!r) {
      why = cat(name_, ": member ", why, "; make an archive without it");
      return r;
    }
  }
}

std::string TarSource::named(const Tree& tree, NodeId id) const {
  return cat(name_, ": ", tree.path(id));
}

}  // namespace uk::mkimage
