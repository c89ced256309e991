// Registers a guest may have, whatever it asked for. Pure.
#pragma once

#include "ukernel/arch/x86_64/regs.h"

namespace uk::stub {

// Code and stack segments become user ones (a 32-bit code segment stays: it traps as compat), data
// segments flat or null, bases canonical, flags the guest's own.
arch::UserRegs safe_regs(const arch::UserRegs& regs);

}  // namespace uk::stub
