#include "tests/http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace moat::tests {

namespace {
// True once there is something to read; false when the test is over.
bool readable(int socket, const std::stop_token& stop) {
  pollfd waiting{socket, POLLIN, 0};
  while (!stop.stop_requested())
    if (::poll(&waiting, 1, 20) > 0) return true;
  return false;
}

void send_all(int socket, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return;  // the client has left
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
}

// "Range: bytes=100-" -> 100; 0 where there is none.
size_t first_byte(const std::string& request) {
  constexpr std::string_view kRange = "Range: bytes=";
  const size_t at = request.find(kRange);
  size_t first = 0;
  if (at != std::string::npos)
    std::from_chars(request.data() + at + kRange.size(), request.data() + request.size(), first);
  return first;
}
}  // namespace

HttpServer::HttpServer(std::vector<uint8_t> file, std::vector<Answer> answers)
    : file_(std::move(file)),
      answers_(std::move(answers)),
      listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener_, any, size) != 0 || ::listen(listener_, 8) != 0 ||
      ::getsockname(listener_, any, &size) != 0)
    throw std::runtime_error("the test's server needs a port of the loopback");
  port_ = ntohs(address.sin_port);
  thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
}

HttpServer::~HttpServer() {
  thread_.request_stop();
  thread_.join();
  ::close(listener_);
}

std::string HttpServer::url() const {
  return "http://127.0.0.1:" + std::to_string(port_) + "/file";
}

std::vector<int64_t> HttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void HttpServer::serve(const std::stop_token& stop) {
  while (readable(listener_, stop)) {
    const int connection = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) continue;
    answer(connection, stop);
    ::close(connection);
  }
}

void HttpServer::answer(int connection, const std::stop_token& stop) {
  std::string request;
  char piece[4096];
  while (request.find("\r\n\r\n") == std::string::npos && readable(connection, stop)) {
    const ssize_t got = ::recv(connection, piece, sizeof piece, 0);
    if (got <= 0) return;
    request.append(piece, static_cast<size_t>(got));
  }
  const size_t asked = first_byte(request);
  Answer with;
  {
    const std::lock_guard lock(mutex_);
    with = answers_[std::min(requests_.size(), answers_.size() - 1)];
    requests_.push_back(static_cast<int64_t>(asked));
  }
  const std::string close = "Connection: close\r\n\r\n", none = "Content-Length: 0\r\n" + close;
  if (with == Answer::missing) return send_all(connection, "HTTP/1.1 404 Not Found\r\n" + none);
  if (with == Answer::unavailable)
    return send_all(connection, "HTTP/1.1 503 Service Unavailable\r\n" + none);
  if (with == Answer::redirect)
    return send_all(connection, "HTTP/1.1 302 Found\r\nLocation: " + url() + "\r\n" + none);
  const std::string_view all(reinterpret_cast<const char*>(file_.data()), file_.size());
  if (asked >= all.size() && asked > 0 && with != Answer::without_range)
    return send_all(connection, "HTTP/1.1 416 Range Not Satisfiable\r\n" + none);
  const bool is_part = asked > 0 && with != Answer::without_range;
  const std::string_view part = is_part ? all.substr(asked) : all;
  std::string head = is_part ? "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " +
                                   std::to_string(asked) + "-" + std::to_string(all.size() - 1) +
                                   "/" + std::to_string(all.size()) + "\r\n"
                             : "HTTP/1.1 200 OK\r\n";
  head += "Content-Length: " + std::to_string(part.size()) + "\r\n" + close;
  send_all(connection, head);
  if (with == Answer::half) return send_all(connection, part.substr(0, part.size() / 2));
  if (with != Answer::silent) return send_all(connection, part);
  send_all(connection, part.substr(0, 1));
  readable(connection, stop);  // until the client has had enough
}

}  // namespace moat::tests
