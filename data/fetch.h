#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace moat::data {

// How long a server is waited for.
struct Patience {
  int attempts = 5;         // that break off; each goes on where the one before ended
  int pause_seconds = 2;    // before the next attempt
  int silent_seconds = 60;  // without a byte, then the attempt has failed
};

// Brings what `url` (http or https) gives to `file`, which must become `bytes` long. Goes on where
// an earlier call was broken off, if the server can (Range of RFC 9110), or else begins again.
// watcher is told of the bytes that are there. Throws one line with the reason; what has come stays
// in `file` then.
void fetch(const std::string& url, const std::filesystem::path& file, int64_t bytes,
           const Patience& patience, const std::function<void(int64_t)>& watcher);

}  // namespace moat::data
