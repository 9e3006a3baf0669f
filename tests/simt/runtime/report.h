#pragma once

#include <cstdint>
#include <string>

#include "tests/simt/device/where.h"

namespace simt {

struct Thread;

// A report for the launch, which goes on; the launch throws them all in the end. Reports with the
// same non-zero key are made once. `by` is the thread to name (null: none).
void report(const Thread* by, uint64_t key, const char* format, ...)
    __attribute__((format(printf, 3, 4)));
// A report after which the current thread cannot go on: ends the launch.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

std::string at(Where where);     // " at file:line"
std::string at(uintptr_t code);  // the same for a return address, looked up when a report is shown

std::string look_up_places(const std::string& text);  // the places of `at`, now

std::string thread_name(const Thread& thread);
// The collected reports with every place looked up, and forgets them; empty if there are none.
std::string take_reports();

}  // namespace simt
