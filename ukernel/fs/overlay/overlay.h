// overlay: a writable upper tree (normally a tmpfs) over a lower one that is never changed
// (normally hostfs). A file is copied up when it is first changed; a removed lower name is hidden
// by a whiteout (character device 0:0) in the upper tree; a new directory over a removed one is
// opaque. The forms are those of Linux's overlayfs, so an upper tree could be handed to it.
//
// Ownership: an overlay inode holds its upper and lower inodes and its parent. Copying up may
// suspend. The upper tree's operations on names must not suspend; nobody else may change it.
#pragma once

#include "base/ref.h"
#include "base/result.h"
#include "ukernel/vfs/vfs.h"

namespace uk {

// Both roots are directories. Errors: kNOTDIR.
Result<Ref<SuperBlock>> make_overlay(Vfs& vfs, Ref<Inode> upper_root, Ref<Inode> lower_root,
                                     Ref<Inode>* root);

}  // namespace uk
