#include "mkimage/make_image.h"

#include <fcntl.h>
#include <unistd.h>

#include <memory>

#include "hostio/sys/file.h"
#include "mkimage/dir_source.h"
#include "mkimage/ext4_size.h"
#include "mkimage/ext4_writer.h"
#include "mkimage/output_file.h"
#include "mkimage/tar_source.h"
#include "mkimage/text.h"
#include "mkimage/unpack.h"

namespace uk::mkimage {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kSpareBlocks = 128 * kMiB / kBlockBytes;

std::unexpected<Errno> fail(Errno error, std::string& why, const std::string& name,
                            std::string_view what, std::string_view what_to_do) {
  why = cat(name, ": ", what, "; ", what_to_do);
  return Err(error);
}

std::unexpected<Errno> image_failed(Errno error, std::string& why, const std::string& file) {
  return fail(error, why, file, errno_text(error),
              "give a place you can write to, with room for it");
}

Result<std::unique_ptr<Source>> open_source(const ImageOrder& order, const Progress& unpacking,
                                            std::string& why) {
  const bool standard_input = order.from == "-";
  const std::string name = standard_input ? "standard input" : order.from;
  Result<sys::Fd> fd =
      standard_input ? sys::dup(STDIN_FILENO) : sys::open(order.from.c_str(), O_RDONLY | O_NOCTTY);
  if (!fd && order.from.starts_with("debootstrap"))
    return fail(fd.error(), why, order.from, "ukernel fetches no packages",
                "run for example mmdebstrap bookworm debian.tar, and give --from=debian.tar");
  Result<struct stat> st = fd ? sys::fstat(fd->get()) : Err(fd.error());
  if (!st)
    return fail(st.error(), why, name, errno_text(st.error()),
                "give --from=DIRECTORY or --from=ARCHIVE.tar");
  if (S_ISDIR(st->st_mode)) return std::make_unique<DirSource>(std::move(*fd), name);
  sys::Fd plain =
      TRY(plain_archive(std::move(*fd), name, directory_of(order.file), unpacking, why));
  if (st = sys::fstat(plain.get()); !st)
    return fail(st.error(), why, name, errno_text(st.error()), "give another archive");
  return std::make_unique<TarSource>(std::move(plain), static_cast<uint64_t>(st->st_size), name);
}

// The size that was asked for, if it is enough, or one that is.
Result<uint64_t> choose_size(const ImageOrder& order, int fd, const Demand& demand,
                             std::string& why) {
  const uint64_t spare = order.bytes != 0 ? 0 : demand.blocks / 4 + kSpareBlocks;
  const Result<uint64_t> least = image_bytes_for(fd, demand, spare);
  if (!least && least.error() == Errno::kFBIG)
    return fail(least.error(), why, order.from, "what is in it does not fit an image of 16 TiB",
                "give less");
  if (!least) return image_failed(least.error(), why, order.file);
  if (order.bytes == 0) return *least;
  if (order.bytes > kMaxImage)
    return fail(Errno::kFBIG, why, order.file, "an ext4 image has at most 16 TiB",
                "give a smaller --size");
  const Result<uint64_t> free =
      free_blocks_of(fd, order.bytes, inodes_for(order.bytes, demand.files));
  if (order.bytes < *least && (!free || *free < demand.blocks))
    return fail(Errno::kNOSPC, why, order.file,
                cat("what is in ", order.from, " needs an image of ", *least / kMiB, "M"),
                cat("give --size=", *least / kMiB, "M or more, or leave it out"));
  return order.bytes;
}

// Whether the name can be had, before the work is done.
Result<> check_target(const ImageOrder& order, std::string& why) {
  const Result<struct stat> st = sys::fstatat(AT_FDCWD, order.file.c_str(), AT_SYMLINK_NOFOLLOW);
  if (!st && st.error() == Errno::kNOENT) return {};
  if (!st) return image_failed(st.error(), why, order.file);
  if (!order.replace)
    return fail(Errno::kEXIST, why, order.file, "there is such a file",
                "give another name, or --force to replace it");
  if (!S_ISREG(st->st_mode))
    return fail(Errno::kEXIST, why, order.file,
                "is no regular file, and --force replaces only those", "give another name");
  return {};
}

}  // namespace

Result<ImageMade> make_image(const ImageOrder& order, const Progress& unpacking,
                             const Progress& writing, std::string& why) {
  TRY(check_target(order, why));
  OutputFile out(order.file);
  if (const Result<> r = out.create(); !r) return image_failed(r.error(), why, order.file);
  const std::unique_ptr<Source> source = TRY(open_source(order, unpacking, why));
  Tree tree;
  ImageMade made;
  TRY(source->scan(tree, made.notes, why));
  for (NodeId id = 0; order.owner && id < tree.size(); ++id)
    std::tie(tree.node(id).uid, tree.node(id).gid) = *order.owner;

  const Result<Demand> demand = demand_of(tree);
  if (!demand)
    return fail(demand.error(), why, order.from, "what is in it does not fit an image of 16 TiB",
                "give less");
  made.bytes = TRY(choose_size(order, out.fd(), *demand, why));
  made.files = demand->files;
  const auto failed = [&](Errno e) { return image_failed(e, why, order.file); };
  if (const Result<> r = sys::ftruncate(out.fd(), made.bytes); !r) return failed(r.error());
  const Result<Filesystem> fs =
      format_ext4(out.fd(), made.bytes, inodes_for(made.bytes, demand->files));
  if (!fs) return failed(fs.error());
  Ext4Writer writer(fs->get(), out.fd(), tree, *source);
  TRY(writer.write(demand->bytes, writing, made.notes, why));
  if (const Result<> r = flush(fs->get()); !r) return failed(r.error());
  if (const Result<> r = sys::fdatasync(out.fd()); !r) return failed(r.error());
  made.free = ext2fs_free_blocks_count((*fs)->super) * kBlockBytes;
  if (const Result<> r = out.publish(order.replace); !r) return failed(r.error());
  return made;
}

}  // namespace uk::mkimage
