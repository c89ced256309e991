// procfs: the facts about tasks and the instance as files (proc(5)). Contents are made when a file
// is read from its beginning; later reads go on in what was made then.
//
// Ownership: the Kernel outlives its procfs mounts. Inodes of a task hold a Ref to it and answer
// kSRCH once it has been reaped. Reading may suspend (guest memory). What is written is guest
// input.
#pragma once

namespace uk {

class Kernel;

// Registers the file system type "proc".
void register_procfs(Kernel& kernel);

}  // namespace uk
