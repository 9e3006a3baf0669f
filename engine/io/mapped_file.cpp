#include "engine/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "engine/error.h"

namespace moat::engine {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info {};
  const bool is_open = fd >= 0 && ::fstat(fd, &info) == 0;
  const auto size = static_cast<size_t>(info.st_size);
  void* at = nullptr;
  if (is_open && S_ISREG(info.st_mode) && size > 0)
    at = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
  const int reason = errno;
  if (fd >= 0) ::close(fd);
  require(is_open && at != MAP_FAILED,
          [&] { return text("cannot read ", path, ": ", std::strerror(reason)); });
  require(S_ISREG(info.st_mode),
          [&] { return text("cannot read ", path, ": not a regular file"); });
  bytes_ = {static_cast<const uint8_t*>(at), size};
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size());
}

}  // namespace moat::engine
