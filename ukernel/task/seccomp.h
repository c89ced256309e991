// seccomp(2) filters of tasks.
#pragma once

#include "base/ref.h"

namespace uk {

class SeccompFilter final : public RefCounted {};

}  // namespace uk
