// move_mount(2): a mount, or a tree of mounts without a place, goes elsewhere, on top of what is
// mounted there or beneath it. Does not suspend.
#pragma once

#include "ukernel/vfs/vfs.h"

namespace uk {

enum class MoveTo : uint8_t { kOnTop, kBeneath };
// `from` is the root of its mount. kINVAL, kLOOP, kNOENT, kNOSPC; nothing has changed then.
Result<> move_mount(Vfs& vfs, const FsContext& ctx, const Path& from, const Path& to, MoveTo where);

}  // namespace uk
