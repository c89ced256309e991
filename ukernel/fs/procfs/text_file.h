// The open file of a procfs text: made when it is read from its start, so that a reader sees one
// moment.
#pragma once

#include <string>

#include "ukernel/fs/procfs/proc_node.h"

namespace uk::procfs {

constexpr size_t kMaxStore = 4096;

class TextFile : public File {
 public:
  TextFile(Path path, int flags, Ref<Node> node, Ref<const Cred> opener)
      : File(std::move(path), flags), node_(std::move(node)), opener_(std::move(opener)) {}

  bool seekable() const override { return true; }
  Result<size_t> read(Park& park, IoSink& to, uint64_t offset) override {
    if (!made_ || offset == 0) {
      text_ = TRY(node_->make_text(park, *opener_));
      made_ = true;
    }
    if (offset >= text_.size()) return 0;
    std::string piece =
        text_.substr(offset, to.remaining());  // put() may suspend; text_ may change
    return to.put(park, std::as_bytes(std::span(piece)));
  }
  Result<size_t> write(Park& park, IoSource& from, uint64_t& offset) override {
    const size_t n = from.remaining();
    std::string text(std::min(n, kMaxStore), '\0');
    size_t got = TRY(from.get(park, std::as_writable_bytes(std::span(text))));
    text.resize(got);
    TRY(node_->store_text(park, *opener_, text));
    offset += got;
    return got;
  }
  Result<> truncate(Park&, uint64_t) override { return {}; }
  Result<uint64_t> seek(Park&, int64_t offset, int whence) override {
    if (whence != SEEK_SET && whence != SEEK_CUR) return Err(Errno::kINVAL);
    int64_t to = 0;
    if (__builtin_add_overflow(whence == SEEK_CUR ? static_cast<int64_t>(pos) : 0, offset, &to) ||
        to < 0) {
      return Err(Errno::kINVAL);
    }
    return pos = static_cast<uint64_t>(to);
  }

 private:
  Ref<Node> node_;
  Ref<const Cred> opener_;
  std::string text_;
  bool made_ = false;
};

}  // namespace uk::procfs
