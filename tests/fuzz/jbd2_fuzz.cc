// Replay of a journal. The input says what blocks the log has; their headers are as a log's would
// be, mostly, and without checksums, so that what follows them is believed.
#include "tests/fuzz/input.h"
#include "ukernel/dev/jbd2/replay.h"
#include "ukernel/dev/jbd2/test_kit.h"

namespace uk::jbd2 {
namespace {

constexpr uint32_t kBlock = 1024, kLogAt = 8, kLogBlocks = 24, kBlocks = 64;

class Replayer : public Fuzzed<JournalTest> {
 public:
  void go(FuzzInput& in) {
    std::vector<std::byte> image(kBlocks * kBlock);
    for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<std::byte>(i / kBlock);
    auto super = empty_super(kBlock, kLogBlocks);
    put_be<uint32_t>(super, 0x1c, 1);  // there is something to replay
    put_be<uint32_t>(super, 0x28, in.take<uint8_t>() & (kFeatureRevoke | kFeature64Bit));
    for (auto changes = in.take<uint8_t>() % 4; changes != 0; --changes)
      super[in.take<uint16_t>() % super.size()] = in.take<std::byte>();
    put_blocks(image, kLogAt * kBlock, super);
    uint32_t sequence = 1;
    for (uint32_t i = 1; i < kLogBlocks && !in.empty(); ++i) {
      std::vector<std::byte> block(kBlock);
      const auto kind = in.take<uint8_t>();
      in.fill(std::span(block).subspan(kHeaderBytes, kind / 16 * 12));
      if (kind % 8 < 6)
        write_header(block, static_cast<BlockType>(kind % 8), sequence + (kind % 16 == 15));
      if (kind % 8 == kCommit) ++sequence;
      put_blocks(image, uint64_t{kLogAt + i} * kBlock, block);
    }
    const LogPlace place(kBlock, {{kLogAt, kLogBlocks}});
    run_disks([&](Park& p) {
      PowerCutStorage storage(image);
      disk = make_test_disk(*devices, storage, false);
      const auto parsed = Super::parse(super, kBlock, kLogBlocks);
      if (parsed) {
        const auto replayed = replay_log(p, disk->whole(), place, *parsed);
        // The log is as it was; and so is all if it was not good.
        const auto log = [](const auto& v) {
          return std::span(v).subspan(kLogAt * kBlock, kLogBlocks * kBlock);
        };
        if (!std::ranges::equal(log(storage.seen), log(image))) std::abort();
        if (!replayed && storage.seen != image) std::abort();
        if (replayed && replayed->transactions > kLogBlocks) std::abort();
      }
      disk->remove();
      disk.reset();
    });
  }
};

}  // namespace
}  // namespace uk::jbd2

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uk::FuzzInput in(data, size);
  uk::jbd2::Replayer().go(in);
  return 0;
}
