// A cached file of the program's own, and making and removing files, under $TMPDIR (else /tmp).
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "bench/guest/rows.h"

namespace uk::bench {
namespace {

constexpr size_t kChunk = 64 << 10;
constexpr int64_t kFileSize = 16 << 20;

// A directory of our own, which is the working directory meanwhile, with nothing but "file" in it
// at the end.
class Directory {
 public:
  Directory() {
    const char* parent = getenv("TMPDIR");
    path_ = std::string(parent && *parent ? parent : "/tmp") + "/guest_bench.XXXXXX";
    Need(mkdtemp(path_.data()) != nullptr, path_.c_str());
    Need(chdir(path_.c_str()) == 0, "chdir");
  }
  Directory(const Directory&) = delete;
  ~Directory() {
    unlink("file");
    Need(chdir("/") == 0 && rmdir(path_.c_str()) == 0, path_.c_str());
  }

 private:
  std::string path_;
};

// A descriptor of the file, all written once. Errors leave the directory behind; its parent is the
// caller's to clean.
int MakeFile() {
  int fd = open("file", O_RDWR | O_CREAT | O_EXCL, 0600);
  Need(fd >= 0, "creating a file");
  std::vector<char> chunk(kChunk, 'x');
  for (int64_t at = 0; at < kFileSize; at += kChunk) {
    Need(write(fd, chunk.data(), kChunk) == static_cast<ssize_t>(kChunk), "write");
  }
  return fd;
}

template <typename F>
void Chunks(Meter& meter, F transfer) {
  Directory directory;
  int fd = MakeFile();
  std::vector<char> chunk(kChunk, 'y');
  int64_t at = kFileSize;
  meter.Each([&] {
    if (at == kFileSize) at = lseek(fd, 0, SEEK_SET);
    Need(transfer(fd, chunk.data()) == static_cast<ssize_t>(kChunk), "transfer");
    at += kChunk;
  });
  close(fd);
}

void Write(Meter& meter) {
  Chunks(meter, [](int fd, const char* data) { return write(fd, data, kChunk); });
}

void Read(Meter& meter) {
  Chunks(meter, [](int fd, char* data) { return read(fd, data, kChunk); });
}

void RandomRead(Meter& meter) {
  Directory directory;
  int fd = MakeFile();
  char page[4096];
  uint64_t x = 88172645463325252ull;
  meter.Each([&] {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    Need(pread(fd, page, sizeof page, x % (kFileSize / 4096) * 4096) == sizeof page, "pread");
  });
  close(fd);
}

void CreateUnlink(Meter& meter) {
  constexpr int kFiles = 100;
  Directory directory;
  char name[] = "f00";
  auto name_it = [&](int i) {
    name[1] = static_cast<char>('0' + i / 10);
    name[2] = static_cast<char>('0' + i % 10);
  };
  meter.Groups(kFiles, [&](int64_t batches) {
    int64_t start = Now();
    for (int64_t b = 0; b < batches; b++) {
      for (int i = 0; i < kFiles; i++) {
        name_it(i);
        int fd = open(name, O_WRONLY | O_CREAT | O_EXCL, 0600);
        Need(fd >= 0, "creating a file");
        close(fd);
      }
      for (int i = 0; i < kFiles; i++) {
        name_it(i);
        Need(unlink(name) == 0, "unlink");
      }
    }
    return Now() - start;
  });
}

}  // namespace

std::vector<Row> FileRows() {
  return {
      {"write", "GB/s", "write of a cached file in 64 KiB chunks", Write, kChunk},
      {"read", "GB/s", "read of a cached file in 64 KiB chunks", Read, kChunk},
      {"pread", "us", "random 4 KiB read of a cached file", RandomRead},
      {"create", "us", "create and unlink of a file", CreateUnlink},
  };
}

}  // namespace uk::bench
