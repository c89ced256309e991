// keyrings(7): keys of the types every kernel has, without their library.
#include <linux/keyctl.h>
#include <pthread.h>

#include "tests/syscalls/testing.h"

namespace uk::test {
namespace {

constexpr int kThread = KEY_SPEC_THREAD_KEYRING, kProcess = KEY_SPEC_PROCESS_KEYRING,
              kSession = KEY_SPEC_SESSION_KEYRING, kUser = KEY_SPEC_USER_KEYRING;

long Add(const char* type, const char* description, const std::string& content, long ring) {
  return syscall(SYS_add_key, type, description, content.data(), content.size(), ring);
}
long Ctl(int op, long a = 0, long b = 0, long c = 0, long d = 0) {
  return syscall(SYS_keyctl, op, a, b, c, d);
}
long P(const void* p) { return reinterpret_cast<long>(p); }

std::string Read(long key) {
  char text[256];
  long n = Ctl(KEYCTL_READ, key, P(text), sizeof text);
  return n < 0 ? strerrorname_np(errno) : std::string(text, static_cast<size_t>(n));
}
std::string Describe(long key) {
  char text[256];
  long n = Ctl(KEYCTL_DESCRIBE, key, P(text), sizeof text);
  return n < 0 ? strerrorname_np(errno) : std::string(text);
}
template <class F>
bool Fails(int error, F call) {
  errno = 0;
  return call() == -1 && errno == error;
}

// Each test in a process of its own with a session keyring of its own.
template <class F>
void InSession(F body) {
  IN_CHILD([&] {
    CHILD_CHECK(Ctl(KEYCTL_JOIN_SESSION_KEYRING, 0) > 0);
    body();
  });
}

TEST(add_key, ReadUpdateDescribe) {
  COVERS(keyctl);
  InSession([] {
    long key = Add("user", "ukt:a", "secret", kSession);
    CHILD_CHECK(key > 0);
    CHILD_CHECK(Read(key) == "secret");
    char small[2] = {'.', '.'};
    CHILD_CHECK(Ctl(KEYCTL_READ, key, P(small), 2) == 6 && small[0] == '.');
    CHILD_CHECK(Ctl(KEYCTL_READ, key, 0, 0) == 6);
    const std::string who = std::to_string(geteuid()) + ";" + std::to_string(getegid());
    CHILD_CHECK(Describe(key) == "user;" + who + ";3f010000;ukt:a");
    CHILD_CHECK(Add("user", "ukt:a", "other", kSession) == key);
    CHILD_CHECK(Read(key) == "other");
    CHILD_CHECK(Ctl(KEYCTL_UPDATE, key, P("third"), 5) == 0 && Read(key) == "third");
    long logon = Add("logon", "ukt:b", "secret", kSession);
    CHILD_CHECK(logon > 0 && Read(logon) == "EOPNOTSUPP");
    CHILD_CHECK(Describe(logon) == "logon;" + who + ";3d010000;ukt:b");
  });
}

TEST(add_key, Errors) {
  InSession([] {
    CHILD_CHECK(Fails(ENODEV, [] { return Add("nothing", "x", "y", kSession); }));
    CHILD_CHECK(Fails(EPERM, [] { return Add(".user", "x", "y", kSession); }));
    CHILD_CHECK(Fails(EINVAL, [] { return Add("", "x", "y", kSession); }));
    CHILD_CHECK(Fails(EINVAL, [] { return Add("user", "x", "", kSession); }));
    CHILD_CHECK(Fails(EINVAL, [] { return Add("user", "x", std::string(32768, 'x'), kSession); }));
    CHILD_CHECK(Fails(EINVAL, [] { return Add("user", nullptr, "x", kSession); }));
    CHILD_CHECK(Fails(EINVAL, [] { return Add("logon", "no-colon", "x", kSession); }));
    CHILD_CHECK(Fails(EINVAL, [] { return Add("keyring", "x", "x", kSession); }));
    CHILD_CHECK(Fails(EPERM, [] { return Add("keyring", ".x", "", kSession); }));
    CHILD_CHECK(Fails(EINVAL, [] { return Add("user", "x", "y", 0); }));
    CHILD_CHECK(Fails(EINVAL, [] { return Add("user", "x", "y", -99); }));
    CHILD_CHECK(Fails(ENOKEY, [] { return Add("user", "x", "y", 0x7ffffff0); }));
    CHILD_CHECK(
        Fails(EFAULT, [] { return syscall(SYS_add_key, "user", "x", BadPointer(), 3, kSession); }));
    CHILD_CHECK(Fails(EFAULT, [] { return syscall(SYS_add_key, Bad<char>(), "x", "y", 1, -3); }));
    long key = Add("user", "x", "y", kSession);
    CHILD_CHECK(Fails(ENOTDIR, [&] { return Add("user", "z", "y", key); }));
    CHILD_CHECK(Fails(EOPNOTSUPP, [] { return Ctl(4242); }));
  });
}

TEST(keyctl, LinkSearchUnlink) {
  COVERS(request_key);
  InSession([] {
    long ring = Add("keyring", "ukt-ring", "", kSession);
    long key = Add("user", "ukt:a", "secret", ring);
    CHILD_CHECK(ring > 0 && key > 0);
    CHILD_CHECK(Ctl(KEYCTL_SEARCH, kSession, P("user"), P("ukt:a"), 0) == key);
    CHILD_CHECK(
        Fails(ENOKEY, [] { return Ctl(KEYCTL_SEARCH, kSession, P("user"), P("ukt:none"), 0); }));
    CHILD_CHECK(syscall(SYS_request_key, "user", "ukt:a", nullptr, 0) == key);
    CHILD_CHECK(
        Fails(ENOKEY, [] { return syscall(SYS_request_key, "user", "ukt:none", nullptr, 0); }));
    CHILD_CHECK(Ctl(KEYCTL_LINK, key, kSession) == 0);
    int32_t serials[8];
    CHILD_CHECK(Ctl(KEYCTL_READ, kSession, P(serials), sizeof serials) == 8);
    CHILD_CHECK(Ctl(KEYCTL_UNLINK, key, ring) == 0);
    CHILD_CHECK(Fails(ENOENT, [&] { return Ctl(KEYCTL_UNLINK, key, ring); }));
    CHILD_CHECK(Fails(EDEADLK, [&] { return Ctl(KEYCTL_LINK, kSession, ring); }));
    CHILD_CHECK(Fails(EDEADLK, [&] { return Ctl(KEYCTL_LINK, ring, ring); }));
    CHILD_CHECK(Ctl(KEYCTL_CLEAR, kSession) == 0);
    CHILD_CHECK(Ctl(KEYCTL_READ, kSession, P(serials), sizeof serials) == 0);
    CHILD_CHECK(Fails(ENOTDIR, [] {
      long k = Add("user", "ukt:z", "y", kSession);
      return Ctl(KEYCTL_CLEAR, k);
    }));
  });
}

TEST(keyctl, MoveBetweenKeyrings) {
  InSession([] {
    long a = Add("keyring", "a", "", kSession), b = Add("keyring", "b", "", kSession);
    long key = Add("user", "ukt:a", "1", a);
    CHILD_CHECK(Ctl(KEYCTL_MOVE, key, a, b, 0) == 0);
    CHILD_CHECK(Fails(ENOENT, [&] { return Ctl(KEYCTL_MOVE, key, a, b, 0); }));
    long twin = Add("user", "ukt:a", "2", a);
    CHILD_CHECK(Fails(EEXIST, [&] { return Ctl(KEYCTL_MOVE, twin, a, b, 1); }));
    CHILD_CHECK(Ctl(KEYCTL_MOVE, twin, a, b, 0) == 0);
    CHILD_CHECK(Ctl(KEYCTL_SEARCH, b, P("user"), P("ukt:a"), 0) == twin);
    CHILD_CHECK(Fails(EINVAL, [&] { return Ctl(KEYCTL_MOVE, twin, b, a, 2); }));
  });
}

TEST(keyctl, RevokeTimeoutInvalidate) {
  InSession([] {
    long key = Add("user", "ukt:a", "secret", kSession);
    CHILD_CHECK(Ctl(KEYCTL_REVOKE, key) == 0);
    CHILD_CHECK(Read(key) == "EKEYREVOKED");
    CHILD_CHECK(
        Fails(EKEYREVOKED, [] { return Ctl(KEYCTL_SEARCH, kSession, P("user"), P("ukt:a"), 0); }));
    long next = Add("user", "ukt:a", "secret", kSession);
    CHILD_CHECK(next > 0 && next != key);
    CHILD_CHECK(Ctl(KEYCTL_SET_TIMEOUT, next, 1000) == 0 && Read(next) == "secret");
    CHILD_CHECK(Ctl(KEYCTL_INVALIDATE, next) == 0);
    CHILD_CHECK(Read(next) == "ENOKEY" || Read(next) == "EACCES");
  });
}

TEST(keyctl, Permissions) {
  InSession([] {
    long key = Add("user", "ukt:a", "secret", kSession);
    CHILD_CHECK(Fails(EINVAL, [&] { return Ctl(KEYCTL_SETPERM, key, 0x40000000); }));
    CHILD_CHECK(Ctl(KEYCTL_SETPERM, key, 0x38000000) == 0);  // search, link, setattr
    CHILD_CHECK(Describe(key) == "EACCES");
    CHILD_CHECK(Read(key) == "secret");
    CHILD_CHECK(Fails(EACCES, [&] { return Ctl(KEYCTL_UPDATE, key, P("x"), 1); }));
    CHILD_CHECK(Ctl(KEYCTL_SETPERM, key, 0x20000000) == 0);
    CHILD_CHECK(Read(key) == "EACCES");
    // Not possessed any more: the owner's rights count.
    CHILD_CHECK(Fails(EACCES, [&] { return Ctl(KEYCTL_SETPERM, key, 0x3f010000); }));
    key = Add("user", "ukt:b", "secret", kSession);
    CHILD_CHECK(Ctl(KEYCTL_LINK, key, kUser) == 0);
    CHILD_CHECK(RunChild([&] {
                  CHILD_CHECK(Ctl(KEYCTL_JOIN_SESSION_KEYRING, 0) > 0);
                  CHILD_CHECK(Describe(key).find("ukt:b") != std::string::npos);
                  CHILD_CHECK(Read(key) == "EACCES");
                }) == 0);
    CHILD_CHECK(Ctl(KEYCTL_UNLINK, key, kUser) == 0);
  });
}

TEST(keyctl, WhoseKeyrings) {
  COVERS(clone, execve);
  InSession([] {
    CHILD_CHECK(Fails(ENOKEY, [] { return Ctl(KEYCTL_GET_KEYRING_ID, kThread, 0); }));
    CHILD_CHECK(Fails(ENOKEY, [] { return Ctl(KEYCTL_GET_KEYRING_ID, kProcess, 0); }));
    const long session = Ctl(KEYCTL_GET_KEYRING_ID, kSession, 0);
    const long process = Ctl(KEYCTL_GET_KEYRING_ID, kProcess, 1);
    static long thread;
    thread = Ctl(KEYCTL_GET_KEYRING_ID, kThread, 1);
    CHILD_CHECK(session > 0 && process > 0 && thread > 0);
    CHILD_CHECK(Describe(session).find("_ses") != std::string::npos);
    CHILD_CHECK(Describe(process).find("_pid") != std::string::npos);
    CHILD_CHECK(Describe(thread).find("_tid") != std::string::npos);
    CHILD_CHECK(RunChild([&] {
                  CHILD_CHECK(Ctl(KEYCTL_GET_KEYRING_ID, kSession, 0) == session);
                  CHILD_CHECK(
                      Fails(ENOKEY, [] { return Ctl(KEYCTL_GET_KEYRING_ID, kProcess, 0); }));
                  CHILD_CHECK(Fails(ENOKEY, [] { return Ctl(KEYCTL_GET_KEYRING_ID, kThread, 0); }));
                }) == 0);
    static long seen_process, seen_thread;
    pthread_t t;
    pthread_create(
        &t, nullptr,
        [](void*) -> void* {
          seen_process = Ctl(KEYCTL_GET_KEYRING_ID, kProcess, 0);
          seen_thread = Ctl(KEYCTL_GET_KEYRING_ID, kThread, 1);
          return nullptr;
        },
        nullptr);
    pthread_join(t, nullptr);
    CHILD_CHECK(seen_process == process && seen_thread > 0 && seen_thread != thread);
    const long user = Ctl(KEYCTL_GET_KEYRING_ID, kUser, 0);
    CHILD_CHECK(Describe(user).find("_uid." + std::to_string(getuid())) != std::string::npos);
    CHILD_CHECK(Ctl(KEYCTL_GET_KEYRING_ID, kUser, 0) == user);
  });
}

TEST(add_key, Quota) {
  if (IsRoot()) GTEST_SKIP() << "root's is large";
  InSession([] {
    int error = 0;
    for (int i = 0; i < 300 && error == 0; ++i) {
      std::string name = "ukt:" + std::to_string(i);
      if (Add("user", name.c_str(), std::string(1000, 'x'), kSession) < 0) error = errno;
    }
    CHILD_CHECK(error == EDQUOT);
    CHILD_CHECK(Ctl(KEYCTL_CLEAR, kSession) == 0);
  });
}

}  // namespace
}  // namespace uk::test
