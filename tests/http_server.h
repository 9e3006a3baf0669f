#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace moat::tests {

// What the server does with a request for its one file.
enum class Answer {
  whole,          // from the first byte that is asked for
  half,           // breaks off in the middle of what is asked for
  silent,         // sends a byte and then nothing more
  without_range,  // all of it, whatever part is asked for
  redirect,       // to the same file
  unavailable,    // 503
  missing,        // 404
};

// An HTTP server of one file on a port of the loopback that is free. Requests are given the answers
// in turn, the last one again and again.
class HttpServer {
 public:
  HttpServer(std::vector<uint8_t> file, std::vector<Answer> answers);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  std::string url() const;                // of the file
  std::vector<int64_t> requests() const;  // the first byte that each one asked for, so far

 private:
  void serve(const std::stop_token& stop);
  void answer(int connection, const std::stop_token& stop);

  const std::vector<uint8_t> file_;
  const std::vector<Answer> answers_;
  int listener_, port_;
  mutable std::mutex mutex_;
  std::vector<int64_t> requests_;
  std::jthread thread_;  // last: joined before the members it uses are gone
};

}  // namespace moat::tests
