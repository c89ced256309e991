// Runs a fuzz target where there is no libFuzzer: on the files named (what a fuzzer found), or on
// inputs made at random: [--random=N] [--seed=S] [FILE...].
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <string>

#include "tests/fuzz/input.h"

int main(int argc, char** argv) {
  uint32_t count = 0, seed = 1;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg.starts_with("--random=")) {
      count = static_cast<uint32_t>(std::stoul(arg.substr(9)));
    } else if (arg.starts_with("--seed=")) {
      seed = static_cast<uint32_t>(std::stoul(arg.substr(7)));
    } else {
      std::ifstream file(arg, std::ios::binary);
      if (!file) {
        std::fprintf(stderr, "%s: cannot be read\n", arg.c_str());
        return 1;
      }
      const std::string bytes((std::istreambuf_iterator<char>(file)), {});
      LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    }
  }
  std::mt19937 random(seed);
  for (uint32_t i = 0; i < count; ++i) {
    std::vector<uint8_t> bytes(random() % (i % 8 == 0 ? 20'000 : 200));
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random() % 4 == 0 ? 0 : random());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  return 0;
}
