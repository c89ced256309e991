// ext4 images: good ones of mke2fs(8) with some of everything in them, changed as the input says,
// mounted and used. Without checksums, so that what is changed is believed.
#include "tests/fuzz/input.h"
#include "ukernel/fs/ext4/hostile_kit.h"

namespace uk {
namespace {

class Ext4Fuzzed : public Fuzzed<Ext4Hostile> {
 public:
  struct Base {
    std::string image;
    std::vector<uint32_t> pieces;
  };
  static const std::vector<Base>& bases() {
    static const std::vector<Base> all = [] {
      std::vector<Base> made;
      for (const char* options : {"-b 1024 -O ^metadata_csum,^has_journal",
                                  "-b 1024 -O ^metadata_csum,^has_journal,^extents,^64bit"}) {
        const bool extents = std::string(options).find("^extents") == std::string::npos;
        Base& b = made.emplace_back();
        b.image = extents ? Ext4Fuzzed().interesting(options) : make_image("2M", options);
        b.pieces = used_pieces(b.image);
      }
      return made;
    }();
    return all;
  }
  void go(FuzzInput& in) {
    const Base& base = bases()[in.take<uint8_t>() % bases().size()];
    const auto seed = in.take<uint8_t>();
    std::string image = base.image;
    change(in, base.pieces, image);
    survive(std::move(image), seed);
  }
};

}  // namespace
}  // namespace uk

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uk::FuzzInput in(data, size);
  uk::Ext4Fuzzed().go(in);
  return 0;
}
