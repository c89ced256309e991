# Sourced by ./run, ./test and tools/dev: the Debian packages the project needs, and their installation.

# What building and running needs.
RUN_PACKAGES=(bazel-bootstrap bazel-platforms bazel-rules-java bazel-rules-proto bazel-skylib
  g++ python3 libabsl-dev libboost-context-dev libext2fs-dev liburing-dev libseccomp-dev busybox-static)
# What the tests and checks need besides.
TEST_PACKAGES=("${RUN_PACKAGES[@]}" binutils libgtest-dev libgmock-dev clang-format procps
  bc e2fsprogs expect fdisk less lsof rsync screen socat sqlite3 strace tcl tmux zip unzip zstd)
# What the same-as-native corpus runs besides (tests/corpus/; some 2 GB): `./test --all` installs it. A case whose
# tools are missing is named as skipped.
CORPUS_PACKAGES=(attr autoconf automake bison cargo ccache clang cmake cpio curl dash dbus dc default-jdk-headless
  ed file findutils fish flex gawk gdb ghostscript git gnupg golang-go groff imagemagick inotify-tools jq junit5 ksh
  libcap2-bin libmaven-compiler-plugin-java libmaven-resources-plugin-java libxml2-utils ltrace lua5.4 lz4 m4 man-db
  maven meson mksh nano nginx-light ninja-build nodejs openssh-client openssl
  p7zip-full parallel perl php-cli postgresql psmisc redis-server redis-tools ruby rustc systemd tree valgrind vim xxd
  zsh)
# What `tools/dev fuzz` needs besides.
FUZZ_PACKAGES=(clang-19 libclang-rt-19-dev e2fsprogs)

# missing_packages PACKAGE...: prints those that are not installed.
missing_packages() {
  local state
  state=$(dpkg-query -W -f '${Package}=${db:Status-Status}\n' "$@" 2>/dev/null || true)
  local package
  for package in "$@"; do
    [[ $'\n'$state$'\n' == *$'\n'"$package=installed"$'\n'* ]] || echo "$package"
  done
}

# install_packages PACKAGE...: installs what is missing, saying what; silent when nothing is.
install_packages() {
  if ! command -v dpkg-query >/dev/null; then
    echo "ukernel: packages cannot be installed: this is not Debian; see tools/packages.sh for the list" >&2
    return 1
  fi
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -gt 0 ] || return 0
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    as_root=(sudo)
    if ! command -v sudo >/dev/null; then
      echo "ukernel: ${missing[*]}: not installed; as root, run: apt-get install ${missing[*]}" >&2
      return 1
    fi
  fi
  echo "ukernel: installing ${missing[*]}" >&2
  local log status=0
  log=$(mktemp)
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600)
  # The package lists of a fresh machine are empty, those of an old one name versions that are gone.
  "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null >"$log" 2>&1 ||
    { "${apt[@]}" update </dev/null >>"$log" 2>&1 &&
      "${apt[@]}" install --no-install-recommends "${missing[@]}" </dev/null >>"$log" 2>&1; } ||
    status=$?
  if [ $status != 0 ]; then
    tail -n 30 "$log" >&2
    echo "ukernel: packages cannot be installed: apt-get failed; see above" >&2
  fi
  rm -f "$log"
  return $status
}
