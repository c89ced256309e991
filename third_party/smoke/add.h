// An assembly function, so that the build of .S files is tested. No state, no suspension.
#ifndef THIRD_PARTY_SMOKE_ADD_H_
#define THIRD_PARTY_SMOKE_ADD_H_

extern "C" int smoke_add(int a, int b);

#endif  // THIRD_PARTY_SMOKE_ADD_H_
