#include "engine/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ostream>
#include <streambuf>
#include <utility>

#include "engine/error.h"

namespace moat::engine {

namespace {

// An open file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() { close(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }
  bool close() { return fd_ < 0 || ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

// A stream buffer over a descriptor that remembers why a write failed.
class DescriptorBuffer : public std::streambuf {
 public:
  explicit DescriptorBuffer(int fd) : fd_(fd) { setp(room_.data(), room_.data() + room_.size()); }
  int error() const { return error_; }

 protected:
  int_type overflow(int_type c) override {
    if (!flush()) return traits_type::eof();
    if (!traits_type::eq_int_type(c, traits_type::eof())) sputc(traits_type::to_char_type(c));
    return traits_type::not_eof(c);
  }
  std::streamsize xsputn(const char* from, std::streamsize count) override {
    if (count <= epptr() - pptr()) {
      std::memcpy(pptr(), from, static_cast<size_t>(count));
      pbump(static_cast<int>(count));
      return count;
    }
    return flush() && put(from, static_cast<size_t>(count)) ? count : 0;
  }
  int sync() override { return flush() ? 0 : -1; }

 private:
  bool flush() {
    const bool ok = put(pbase(), static_cast<size_t>(pptr() - pbase()));
    setp(room_.data(), room_.data() + room_.size());
    return ok;
  }
  bool put(const char* from, size_t count) {
    while (count > 0 && error_ == 0) {
      const ssize_t written = ::write(fd_, from, count);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) {
        error_ = errno;
        break;
      }
      from += written;
      count -= static_cast<size_t>(written);
    }
    return error_ == 0;
  }

  int fd_, error_ = 0;
  std::array<char, 65536> room_;
};

// Removes the temporary file unless it was renamed.
struct Temporary {
  std::filesystem::path path;
  bool is_kept = false;
  ~Temporary() {
    if (!is_kept) ::unlink(path.c_str());
  }
};

[[noreturn]] void fail(const char* what, const std::filesystem::path& path, int reason) {
  throw Error(text(what, " ", path, ": ", std::strerror(reason)));
}

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : ".";
}

// Where the bytes of `given` belong: what its symbolic links lead to, there or not.
std::filesystem::path target_of(const std::filesystem::path& given) {
  constexpr int kMostLinks = 40;
  std::error_code reason;
  const std::filesystem::file_status found = std::filesystem::status(given, reason);
  require(!std::filesystem::exists(found) || std::filesystem::is_regular_file(found), [&] {
    return text("cannot write ", given, ": it must be a regular file, it is a ",
                std::filesystem::is_directory(found) ? "directory" : "device, pipe or socket",
                "; choose another name");
  });
  std::filesystem::path path = given;
  for (int links = 0; std::filesystem::is_symlink(std::filesystem::symlink_status(path, reason));
       ++links) {
    if (links == kMostLinks) fail("cannot write", given, ELOOP);
    path = folder_of(path) / std::filesystem::read_symlink(path, reason);
  }
  return path;
}

}  // namespace

void write_file(const std::filesystem::path& given,
                const std::function<void(std::ostream&)>& write) {
  const std::filesystem::path path = target_of(given);
  std::filesystem::path name;
  int fd = -1;
  for (int attempt = 0; fd < 0; ++attempt) {
    name = text(path.string(), ".partial-", ::getpid(), "-", attempt);
    fd = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST) fail("cannot write", path, errno);
  }
  Descriptor file(fd);
  Temporary temporary{name};
  DescriptorBuffer buffer(fd);
  std::ostream out(&buffer);
  write(out);
  out.flush();
  if (buffer.error() != 0) fail("cannot write", path, buffer.error());
  require(out.good(),
          [&] { return text("cannot write ", path, ": its content failed to format"); });
  if (::fsync(fd) != 0) fail("cannot write", path, errno);
  if (!file.close()) fail("cannot write", path, errno);
  if (::rename(name.c_str(), path.c_str()) != 0) fail("cannot write", path, errno);
  temporary.is_kept = true;
  // The rename itself reaches the disk with the folder; file systems that cannot do it say so.
  const Descriptor folder(::open(folder_of(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.is_open()) ::fsync(folder.get());
}

void make_folder(const std::filesystem::path& folder) {
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  require(!failed, [&] {
    return text("cannot make the folder '", folder.string(), "': ", failed.message());
  });
}

std::string read_file(const std::filesystem::path& path, int64_t limit_bytes) {
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.is_open()) fail("cannot read", path, errno);
  struct stat info;
  if (::fstat(file.get(), &info) != 0) fail("cannot read", path, errno);
  require(S_ISREG(info.st_mode),
          [&] { return text("cannot read ", path, ": not a regular file"); });
  require(info.st_size <= limit_bytes, [&] {
    return text("cannot read ", path, ": it must have at most ", limit_bytes, " bytes, it has ",
                info.st_size);
  });
  std::string bytes(static_cast<size_t>(info.st_size), '\0');
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read", path, errno);
    require(got > 0, [&] { return text("cannot read ", path, ": it shrank while being read"); });
    done += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace moat::engine
