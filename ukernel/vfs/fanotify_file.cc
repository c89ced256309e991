// Reading the events of fanotify(7).
#include <sys/ioctl.h>

#include <cstring>

#include "absl/strings/str_format.h"
#include "ukernel/vfs/event_read.h"
#include "ukernel/vfs/fanotify.h"
#include "ukernel/vfs/vfs_impl.h"

namespace uk {
namespace {

// As name_to_handle_at(2) gives it.
struct Handle {
  uint32_t bytes = 12;
  int32_t type = 1;
  uint32_t generation = 0, low = 0, high = 0;
};
struct InfoHead {
  uint8_t type, pad;
  uint16_t len;
  uint32_t fsid[2];
  Handle handle;
};
static_assert(sizeof(InfoHead) == 32);

}  // namespace

size_t FanotifyFile::Id::bytes() const {
  constexpr size_t kAlign = 4;
  const size_t n = sizeof(InfoHead) + (name.empty() ? 0 : name.size() + 1);
  return (n + kAlign - 1) / kAlign * kAlign;
}

size_t FanotifyFile::Event::bytes() const {
  size_t n = FAN_EVENT_METADATA_LEN;
  for (const Id& id : ids) n += id.bytes();
  return n;
}

Result<std::vector<std::byte>> FanotifyFile::encode(Park& park, const Event& e) {
  std::vector<std::byte> raw(e.bytes());
  fanotify_event_metadata head = {};
  head.event_len = static_cast<uint32_t>(raw.size());
  head.vers = FANOTIFY_METADATA_VERSION;
  head.metadata_len = FAN_EVENT_METADATA_LEN;
  head.mask = e.mask;
  head.fd = FAN_NOFD;
  // Who has no privilege learns of itself only.
  const int reader = all_->current ? all_->current().process : 0;
  head.pid = privileged_ || e.who == reader ? e.who : 0;
  size_t at = FAN_EVENT_METADATA_LEN;
  for (const Id& id : e.ids) {
    Ref<SuperBlock> sb(&id.inode->sb());
    const FsStat stat = TRY(sb->statfs(park));
    const uint64_t fsid = stat.fsid != 0 ? stat.fsid : sb->dev;
    const uint64_t ino = TRY(id.inode->getattr(park)).ino;
    if (id.dentry && !id.dentry->unlinked() && sb->keeps_names() && sb->mounts > 0)
      vfs_.impl().handles.remember({sb.get(), ino}, id.dentry);
    InfoHead info = {id.type,
                     0,
                     static_cast<uint16_t>(id.bytes()),
                     {static_cast<uint32_t>(fsid), static_cast<uint32_t>(fsid >> 32)},
                     {}};
    info.handle.low = static_cast<uint32_t>(ino);
    info.handle.high = static_cast<uint32_t>(ino >> 32);
    std::memcpy(raw.data() + at, &info, sizeof info);
    std::memcpy(raw.data() + at + sizeof info, id.name.data(), id.name.size());
    at += id.bytes();
  }
  if (e.path && all_->open_fd) head.fd = TRY(all_->open_fd(park, e.path, event_flags_));
  std::memcpy(raw.data(), &head, sizeof head);
  return raw;
}

Result<size_t> FanotifyFile::read(Park& park, IoSink& to, uint64_t) {
  return read_events(park, to, queue_, readable_, nonblock(), "fanotify_read", [&] {
    const Event e = std::move(queue_.front());
    queue_.pop_front();
    --all_->queued_;
    return encode(park, e);
  });
}

// Answers to permission events, of which there are none.
Result<size_t> FanotifyFile::write(Park&, IoSource&, uint64_t&) { return Err(Errno::kINVAL); }

Result<int64_t> FanotifyFile::ioctl(Park& park, IoctlUser& user, uint32_t cmd, uint64_t arg) {
  if (cmd != FIONREAD) return Err(Errno::kNOTTY);
  const int bytes = static_cast<int>(queue_.size() * FAN_EVENT_METADATA_LEN);
  TRY(user.copy_out(park, arg, std::as_bytes(std::span(&bytes, 1))));
  return 0;
}

std::string FanotifyFile::fdinfo() const {
  std::string out = absl::StrFormat("fanotify flags:%x event-flags:%x\n", init_, event_flags_);
  for (const auto& [key, m] : marks_) {
    const uint32_t flags = (m.survives_modify ? FAN_MARK_IGNORED_SURV_MODIFY : 0u) |
                           (m.ignored_has_flags ? FAN_MARK_IGNORE : 0u) |
                           (m.evictable ? FAN_MARK_EVICTABLE : 0u);
    if (key.first == On::kInode) {
      absl::StrAppendFormat(&out, "fanotify ino:%x sdev:%x", m.number, m.sb->dev);
    } else if (key.first == On::kMount) {
      absl::StrAppendFormat(&out, "fanotify mnt_id:%x", m.number);
    } else {
      absl::StrAppendFormat(&out, "fanotify sdev:%x", m.sb->dev);
    }
    absl::StrAppendFormat(&out, " mflags:%x mask:%x ignored_mask:%x\n", flags, m.mask, m.ignored);
  }
  return out;
}

}  // namespace uk
