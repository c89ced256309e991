#include "ukernel/arch/x86_64/insn_length.h"

#include <algorithm>

namespace uk::arch {
namespace {

using Kind = InsnLength::Kind;

constexpr size_t kLongest = 15;  // bytes of an instruction

// What follows an opcode.
enum What : uint8_t {
  kBare,      // nothing
  kModrm,     // a ModRM byte and what it asks for
  kByte,      // an immediate or displacement of one byte
  kWord,      // ... of two
  kFull,      // ... of four, or two with prefix 66
  kRelative,  // a displacement of four
  kModrmByte,
  kModrmFull,
  kSpecial,  // see special()
  kNone,     // no instruction
  kUnknown,
};

class Decoder {
 public:
  explicit Decoder(std::span<const uint8_t> code)
      : code_(code.first(std::min(code.size(), kLongest))) {}

  InsnLength run() {
    const What what = prefixes_and_opcode();
    if (what == kNone) return {Kind::kNone, 0};
    const Kind kind = what == kUnknown ? Kind::kUnknown : operands(what);
    if (kind == Kind::kUnknown || cut_) return {Kind::kUnknown, 0};
    return {kind, kind == Kind::kKnown ? at_ : 0};
  }

 private:
  uint8_t next() {
    if (at_ >= code_.size()) {
      cut_ = true;
      return 0;
    }
    return code_[at_++];
  }
  void skip(size_t n) {
    if (n > code_.size() - at_) {
      cut_ = true;
    } else {
      at_ += n;
    }
  }

  What prefixes_and_opcode() {
    for (;;) {
      op_ = next();
      if (cut_) return kUnknown;
      if ((op_ & 0xf0) == 0x40) {
        rex_ = op_;
        has_rex_ = true;
        continue;
      }
      const bool legacy = op_ == 0x66 || op_ == 0x67 || op_ == 0xf0 || op_ == 0xf2 || op_ == 0xf3 ||
                          op_ == 0x2e || op_ == 0x36 || op_ == 0x3e || op_ == 0x26 || op_ == 0x64 ||
                          op_ == 0x65;
      if (!legacy) break;
      half_ |= op_ == 0x66;
      short_address_ |= op_ == 0x67;
      repeat_ |= op_ == 0xf2 || op_ == 0xf3;
      lock_ |= op_ == 0xf0;
      rex_ = 0;  // one that is not right before the opcode means nothing
      has_rex_ = false;
    }
    if (op_ == 0x0f) return two_bytes();
    if (op_ == 0xc4 || op_ == 0xc5 || op_ == 0x62) return vector_prefix();
    return one_byte();
  }

  What one_byte() const {
    if (op_ < 0x40) {  // add, or, adc, sbb, and, sub, xor, cmp
      const int form = op_ & 7;
      return form < 4 ? kModrm : form == 4 ? kByte : form == 5 ? kFull : kNone;
    }
    switch (op_) {
      case 0x60 ... 0x61:
      case 0x82:
      case 0x9a:
      case 0xce:
      case 0xd4:
      case 0xd6:
      case 0xea:
        return kNone;
      case 0xd5:  // REX2 on some processors
        return kUnknown;
      case 0x63:
      case 0x84 ... 0x8e:
      case 0xd0 ... 0xd3:
      case 0xd8 ... 0xdf:
        return kModrm;
      case 0x6a:
      case 0x70 ... 0x7f:
      case 0xa8:
      case 0xb0 ... 0xb7:
      case 0xcd:
      case 0xe0 ... 0xe7:
      case 0xeb:
        return kByte;
      case 0x68:
      case 0xa9:
        return kFull;
      case 0x69:
      case 0x81:
      case 0xc7:
        return kModrmFull;
      case 0x6b:
      case 0x80:
      case 0x83:
      case 0xc0 ... 0xc1:
      case 0xc6:
        return kModrmByte;
      case 0xc2:
      case 0xca:
        return kWord;
      case 0xe8 ... 0xe9:
        return half_ ? kUnknown : kRelative;  // processors differ with prefix 66
      case 0x8f:
      case 0xa0 ... 0xa3:
      case 0xb8 ... 0xbf:
      case 0xc8:
      case 0xf6 ... 0xf7:
      case 0xfe ... 0xff:
        return kSpecial;
      default:
        return kBare;
    }
  }

  What two_bytes() {
    op_ = next();
    if (cut_) return kUnknown;
    if (op_ == 0x38 || op_ == 0x3a) {
      const What what = op_ == 0x38 ? kModrm : kModrmByte;
      next();
      return what;
    }
    switch (op_) {
      case 0x04:
      case 0x0a:
      case 0x0c:
      case 0x24 ... 0x27:
      case 0x36:
      case 0x39:
      case 0x3b ... 0x3f:
      case 0x7a ... 0x7b:
        return kNone;
      case 0x20 ... 0x23:
      case 0x78 ... 0x79:
      case 0xa6 ... 0xa7:
      case 0xff:
        return kUnknown;
      case 0x05 ... 0x09:
      case 0x0b:
      case 0x0e:
      case 0x30 ... 0x35:
      case 0x37:
      case 0x77:
      case 0xa0 ... 0xa2:
      case 0xa8 ... 0xaa:
      case 0xc8 ... 0xcf:
        return kBare;
      case 0x80 ... 0x8f:
        return half_ ? kUnknown : kRelative;
      case 0x0f:
        return kModrmByte;
      default:
        return has_byte() ? kModrmByte : kModrm;
    }
  }

  // Of the opcodes behind 0f, with and without VEX or EVEX: those with an immediate.
  bool has_byte() const {
    return (op_ >= 0x70 && op_ <= 0x73) || op_ == 0xa4 || op_ == 0xac || op_ == 0xba ||
           op_ == 0xc2 || (op_ >= 0xc4 && op_ <= 0xc6);
  }

  What vector_prefix() {
    if (half_ || repeat_ || lock_ || has_rex_) return kNone;
    const bool evex = op_ == 0x62;
    unsigned map = 1;
    if (op_ != 0xc5) map = next() & (evex ? 7 : 0x1f);
    next();
    if (evex) next();
    op_ = next();
    if (cut_) return kUnknown;
    switch (map) {
      case 1:
        if (op_ == 0x77) return kBare;  // vzeroupper
        return op_ >= 0x80 && op_ < 0xa0 && op_ != 0x90 && op_ != 0x91 && op_ != 0x92 &&
                       op_ != 0x93 && op_ != 0x98 && op_ != 0x99
                   ? kUnknown
               : has_byte() ? kModrmByte
                            : kModrm;
      case 2:
      case 5:
      case 6:
        return kModrm;
      case 3:
        return kModrmByte;
      default:
        return kUnknown;
    }
  }

  // The ModRM byte, with scale, index, base and displacement.
  uint8_t modrm() {
    const uint8_t m = next();
    const int mod = m >> 6;
    if (mod == 3) return m;
    bool wide = mod == 2 || (mod == 0 && (m & 7) == 5);
    if ((m & 7) == 4) wide |= (next() & 7) == 5 && mod == 0;
    skip(wide ? 4 : mod == 1 ? 1 : 0);
    return m;
  }

  size_t full() const { return half_ && (rex_ & 8) == 0 ? 2 : 4; }

  Kind operands(What what) {
    switch (what) {
      case kModrm:
        modrm();
        break;
      case kByte:
        skip(1);
        break;
      case kWord:
        skip(2);
        break;
      case kFull:
        skip(full());
        break;
      case kRelative:
        skip(4);
        break;
      case kModrmByte:
        modrm();
        skip(1);
        break;
      case kModrmFull:
        modrm();
        skip(full());
        break;
      case kSpecial:
        return special();
      default:
        break;
    }
    return Kind::kKnown;
  }

  Kind special() {
    if (op_ >= 0xa0 && op_ <= 0xa3) {  // mov of an absolute address
      skip(short_address_ ? 4 : 8);
    } else if (op_ >= 0xb8 && op_ <= 0xbf) {  // mov $imm, %reg
      skip((rex_ & 8) != 0 ? 8 : full());
    } else if (op_ == 0xc8) {  // enter
      skip(3);
    } else {
      const int reg = (modrm() >> 3) & 7;
      if (op_ == 0x8f) return reg == 0 ? Kind::kKnown : Kind::kUnknown;  // XOP on some processors
      if (op_ == 0xfe) return reg < 2 ? Kind::kKnown : Kind::kNone;
      if (op_ == 0xff) return reg < 7 ? Kind::kKnown : Kind::kNone;
      if (reg < 2) skip(op_ == 0xf6 ? 1 : full());  // test
    }
    return Kind::kKnown;
  }

  const std::span<const uint8_t> code_;
  size_t at_ = 0;
  uint8_t op_ = 0, rex_ = 0;
  bool has_rex_ = false, half_ = false, short_address_ = false, repeat_ = false, lock_ = false;
  bool cut_ = false;
};

}  // namespace

InsnLength insn_length(std::span<const uint8_t> code) { return Decoder(code).run(); }

bool begins_insn(std::span<const uint8_t> code, size_t at) {
  // Far enough for readings that begin within an instruction to fall in with the right one.
  constexpr size_t kRun = 64;
  if (at > code.size() || at < kRun + kLongest) return false;
  bool any = false;
  for (size_t start = at - kRun - kLongest; start < at - kRun; ++start) {
    size_t pos = start;
    bool none = false;
    while (pos < at && !none) {
      const InsnLength n = insn_length(code.subspan(pos));
      if (n.kind == Kind::kUnknown) return false;
      none = n.kind == Kind::kNone;
      pos += n.bytes;
    }
    if (none) continue;  // nothing begins at `start`
    if (pos != at) return false;
    any = true;
  }
  return any;
}

}  // namespace uk::arch
