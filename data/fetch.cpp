#include "data/fetch.h"

#include <curl/curl.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <fstream>
#include <memory>
#include <thread>

#include "engine/error.h"

namespace moat::data {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {
constexpr long kConnectSeconds = 30, kRedirects = 5;
constexpr int kServerError = 500;  // and above: it may work the next time

using Handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;

Handle new_handle() {
  // Once in a process, before there can be two handles.
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  Handle handle(started == CURLE_OK ? curl_easy_init() : nullptr, curl_easy_cleanup);
  require(handle != nullptr, "libcurl could not start");
  return handle;
}

int64_t size_of(const fs::path& file) {
  std::error_code none;
  const auto size = fs::file_size(file, none);
  return none ? 0 : static_cast<int64_t>(size);
}

enum class Outcome { done, broken_off, cannot_resume };

// One request for the bytes from the end of the file on.
class Attempt {
 public:
  Attempt(const std::string& url, const fs::path& file, int64_t bytes,
          const std::function<void(int64_t)>& watcher)
      : url_(url),
        file_(file),
        bytes_(bytes),
        start_(size_of(file)),
        at_(start_),
        watcher_(watcher),
        handle_(new_handle()) {}

  Outcome run(const Patience& patience) {
    out_.open(file_, std::ios::binary | std::ios::app);
    require(out_.good(), [&] { return text("cannot write ", file_); });
    set(CURLOPT_URL, url_.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 1L);
    set(CURLOPT_MAXREDIRS, kRedirects);
    set(CURLOPT_FAILONERROR, 1L);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_USERAGENT, "moat");
    set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
    set(CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(patience.silent_seconds));
    set(CURLOPT_RESUME_FROM_LARGE, static_cast<curl_off_t>(at_));
    set(CURLOPT_ERRORBUFFER, reason_);
    set(CURLOPT_WRITEFUNCTION, &Attempt::take);
    set(CURLOPT_WRITEDATA, this);
    const CURLcode code = curl_easy_perform(handle_.get());
    out_.close();
    if (error_) std::rethrow_exception(error_);
    require(out_.good(), [&] { return text("cannot write ", file_, ": is the disk full?"); });
    return judged(code);
  }

  std::string reason() const { return *reason_ ? reason_ : "the connection ended"; }

 private:
  template <class Value>
  void set(CURLoption option, Value value) {
    require(curl_easy_setopt(handle_.get(), option, value) == CURLE_OK,
            "libcurl refuses an option; is the URL too long?");
  }

  static size_t take(const char* from, size_t, size_t count, void* self) {
    auto& attempt = *static_cast<Attempt*>(self);
    try {
      attempt.write(from, static_cast<int64_t>(count));
      return count;
    } catch (...) {  // must not cross libcurl's frames
      attempt.error_ = std::current_exception();
      return 0;
    }
  }

  void write(const char* from, int64_t count) {
    curl_off_t length = -1;  // of the answer; -1 where the server does not say
    curl_easy_getinfo(handle_.get(), CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    const int64_t offered = length < 0 ? bytes_ : start_ + length;
    require(offered == bytes_ && at_ + count <= bytes_, [&] {
      return text(url_, ": must give ", bytes_, " bytes, the server has ",
                  std::max(offered, at_ + count), ": is it another file?");
    });
    out_.write(from, count);
    require(out_.good(), [&] { return text("cannot write ", file_, ": is the disk full?"); });
    at_ += count;
    watcher_(at_);
  }

  Outcome judged(CURLcode code) const {
    if (code == CURLE_OK) return at_ == bytes_ ? Outcome::done : Outcome::broken_off;
    long status = 0;
    curl_easy_getinfo(handle_.get(), CURLINFO_RESPONSE_CODE, &status);
    constexpr long not_satisfiable = 416;
    if (code == CURLE_RANGE_ERROR || status == not_satisfiable) return Outcome::cannot_resume;
    if (code == CURLE_HTTP_RETURNED_ERROR && status < kServerError)
      throw engine::Error(text(url_, ": the server answered ", status));
    switch (code) {
      case CURLE_URL_MALFORMAT:
      case CURLE_UNSUPPORTED_PROTOCOL:
      case CURLE_COULDNT_RESOLVE_HOST:
      case CURLE_COULDNT_RESOLVE_PROXY:
      case CURLE_PEER_FAILED_VERIFICATION:
      case CURLE_TOO_MANY_REDIRECTS:
        throw engine::Error(text(url_, ": ", reason()));
      default:
        return Outcome::broken_off;
    }
  }

  std::string url_;
  fs::path file_;
  int64_t bytes_, start_, at_;  // of the whole file; in it before and now
  const std::function<void(int64_t)>& watcher_;
  Handle handle_;
  std::ofstream out_;
  std::exception_ptr error_;
  char reason_[CURL_ERROR_SIZE] = {};
};
}  // namespace

void fetch(const std::string& url, const fs::path& file, int64_t bytes, const Patience& patience,
           const std::function<void(int64_t)>& watcher) {
  if (size_of(file) > bytes) fs::remove(file);  // not the beginning of what is asked for
  std::string reason;
  for (int attempt = 0; attempt < patience.attempts && size_of(file) < bytes; ++attempt) {
    if (attempt > 0) std::this_thread::sleep_for(std::chrono::seconds(patience.pause_seconds));
    Attempt request(url, file, bytes, watcher);
    if (request.run(patience) == Outcome::cannot_resume) fs::remove(file);
    reason = request.reason();
  }
  require(size_of(file) == bytes, [&] {
    return text(url, ": broken off ", patience.attempts, " times, last after ", size_of(file),
                " of ", bytes, " bytes (", reason, "); the same command goes on from there");
  });
}

}  // namespace moat::data
