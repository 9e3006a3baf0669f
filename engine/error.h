#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "kernels/target.h"

namespace moat::engine {

// The caller's file and line, taken by a default argument.
struct Where {
  const char* file;
  int line;
  static Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {file, line};
  }
};

// Something that must hold did not. what() is one line: what must hold, what was given, what to do.
class Error : public std::runtime_error {
 public:
  Error(const std::string& what, Where where = Where::here())
      : std::runtime_error(what), where_(where) {}
  Where where() const { return where_; }

 private:
  Where where_;
};

// The caller asked for something the program does not offer: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// A number that had to be finite is not.
class NotFinite : public Error {
 public:
  using Error::Error;
};

// text("eps ", 0.1, " is ...") concatenates anything that streams.
template <class... Parts>
std::string text(Parts&&... parts) {
  std::ostringstream out;
  (out << ... << std::forward<Parts>(parts));
  return out.str();
}

inline void require(bool ok, std::string_view what, Where where = Where::here()) {
  if (!ok) throw Error(std::string(what), where);
}

// As above, with a message that is built only when it is needed.
template <class Message>
requires requires(Message&& m) { std::string(m()); }
void require(bool ok, Message&& message, Where where = Where::here()) {
  if (!ok) throw Error(message(), where);
}

// Throws when a kernel did not return Status::ok.
void check(kernels::Status status, Where where = Where::here());

// int64_t extent -> the int of an args struct; throws beyond 2^31 - 1.
int to_int(int64_t extent, Where where = Where::here());

}  // namespace moat::engine
