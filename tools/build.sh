# Sourced by ./run, ./test and tools/dev, in the repository's root: building the kernel only when needed.

# Bazel's settings are .bazelrc's alone: no file of the user's changes what is built.
# It wants to know whose cache to use, and knows no account without a name.
export USER=${USER:-uid$(id -u)} HOME=${HOME:-/tmp}
bazel() { command bazel --nohome_rc "$@"; }

# quietly COMMAND...: on a terminal as it is; otherwise its output appears only when it fails.
quietly() {
  if [ -t 2 ]; then
    "$@" >&2
    return
  fi
  local log status=0
  log=$(mktemp)
  "$@" >"$log" 2>&1 </dev/null || status=$?
  [ $status = 0 ] || cat "$log" >&2
  rm -f "$log"
  return $status
}

# kernel_is_fresh: true if ./uk was built after the last change of any source or Debian package. Compares
# change times, which no copying or renaming turns back; a directory's own time tells of removals.
# The stamp is taken before a build starts, so an edit made during the build counts as later.
kernel_is_fresh() {
  [ -x uk ] && [ -f .build/stamp ] || return 1
  local newer
  newer=$(find . /var/lib/dpkg/status \
    \( -path ./.git -o -path ./.build -o -path ./uk -o -name __pycache__ \) -prune -o \
    -newercm .build/stamp -print -quit 2>&1) || return 1
  [ -z "$newer" ]
}

# build_kernel: builds //boot:ukernel and points ./uk at it.
build_kernel() {
  mkdir -p .build
  rm -f .build/stamp
  local bin
  bin=$(bazel info bazel-bin 2>.build/info.err) || { cat .build/info.err >&2; return 1; }
  # Before the stamp, as a new link changes the time of this directory.
  [ "$(readlink uk)" = "$bin/boot/ukernel" ] || ln -sfnT "$bin/boot/ukernel" uk || return 1
  local stamp=.build/stamp.$$
  touch "$stamp"
  if quietly bazel build //boot:ukernel && [ -x uk ]; then
    mv "$stamp" .build/stamp
  else
    rm -f "$stamp"
    return 1
  fi
}
