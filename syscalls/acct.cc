// acct(2); what is recorded is in task/acct.h.
#include "ukernel/task/acct.h"

#include <sys/stat.h>

#include "syscalls/fs_common.h"
#include "syscalls/process.h"

namespace uk {

Result<int64_t> sys_acct(Task& task, UserStr user) {
  if (!task.cred().has(Cap::kSysPacct)) return Err(Errno::kPERM);
  if (user.addr == 0) {
    accounting_of(task.kernel)->file.reset();
    return 0;
  }
  const std::string path = TRY(fetch_path(task, user));
  OpenRequest request;
  request.flags = O_WRONLY | O_APPEND | O_LARGEFILE;
  FsContext ctx = task.fs_context();
  Ref<File> file = TRY(task.kernel.vfs.open(task.park(), ctx, {}, path, request));
  if (file->inode() == nullptr || !is_type(file->inode()->type(), S_IFREG))
    return Err(Errno::kACCES);
  // Files that are made up as they are read (proc) keep nothing.
  if (!file->inode()->sb().keeps_names()) return Err(Errno::kINVAL);
  accounting_of(task.kernel)->file = std::make_shared<AccountFile>(std::move(file));
  return 0;
}

}  // namespace uk
