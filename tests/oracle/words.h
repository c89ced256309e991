// Values that arguments of several families of calls take. Internal to the table.
#pragma once

#include <initializer_list>

#include "tests/oracle/call.h"

namespace oracle {

#define ORACLE_WORD(name) \
  Word { #name, static_cast < uint64_t>(name) }

inline ArgSpec fd(uint32_t sorts = 0) { return {Kind::kFd, nullptr, sorts}; }
inline ArgSpec at() { return {Kind::kFd, nullptr, kDir | kCwdToo}; }
inline ArgSpec path() { return {Kind::kPath}; }
inline ArgSpec addr() { return {Kind::kAddr}; }
inline ArgSpec len() { return {Kind::kLen}; }
inline ArgSpec buffer() { return {Kind::kBuffer}; }
inline ArgSpec process() { return {Kind::kProc}; }
inline ArgSpec words(const Words& w) { return {Kind::kWords, &w}; }
inline ArgSpec mode(const Words& w) { return {Kind::kOctal, &w}; }
inline ArgSpec number(const Words& w) { return {Kind::kInt, &w}; }

// A choice among numbers, all as likely.
inline Words numbers(std::initializer_list<long> values) {
  Words out;
  for (long v : values) out.choice.push_back(Word{"", static_cast<uint64_t>(v)});
  return out;
}

extern const Words kSizes;    // of data
extern const Words kOffsets;  // in files
extern const Words kModes;    // permissions
extern const Words kSignalNumbers;
extern const Words kZeroOne;
extern const Words kIds;

void add_file_calls(std::vector<Desc>* out);
void add_copy_calls(std::vector<Desc>* out);
void add_tree_calls(std::vector<Desc>* out);
void add_attribute_calls(std::vector<Desc>* out);
void add_memory_calls(std::vector<Desc>* out);
void add_process_calls(std::vector<Desc>* out);
void add_signal_calls(std::vector<Desc>* out);
void add_event_calls(std::vector<Desc>* out);
void add_socket_calls(std::vector<Desc>* out);

}  // namespace oracle
