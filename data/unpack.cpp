#include "data/unpack.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <memory>

#include "engine/error.h"

namespace moat::data {

using engine::text;
namespace fs = std::filesystem;

namespace {
constexpr size_t kReadAtOnce = size_t{1} << 20;

class Unpacker {
 public:
  Unpacker(const fs::path& archive, const fs::path& folder, int64_t limit_bytes)
      : path_(archive), folder_(folder), limit_(limit_bytes) {}

  void run() {
    archive_read_support_filter_gzip(in_.get());
    archive_read_support_format_tar(in_.get());
    archive_read_support_format_zip(in_.get());
    // What is written lies below a folder of ours that holds no links, and gets no links.
    archive_write_disk_set_options(out_.get(),
                                   ARCHIVE_EXTRACT_SECURE_NODOTDOT | ARCHIVE_EXTRACT_NO_OVERWRITE);
    check(archive_read_open_filename(in_.get(), path_.c_str(), kReadAtOnce), in_.get());
    for (archive_entry* entry = nullptr;;) {
      const int code = archive_read_next_header(in_.get(), &entry);
      if (code == ARCHIVE_EOF) break;
      check(code, in_.get());
      unpack(entry);
    }
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw engine::Error(text("cannot unpack ", path_.string(), ": ", what));
  }
  void check(int code, archive* of) const {
    if (code >= ARCHIVE_WARN) return;
    const char* reason = archive_error_string(of);
    fail(reason ? reason : "it is damaged");
  }

  void unpack(archive_entry* entry) {
    const char* given = archive_entry_pathname(entry);
    const fs::path name = given ? given : "";
    if (name.empty() || name.is_absolute() || std::ranges::find(name, "..") != name.end())
      fail(text("the name ", name, " leads out of the folder"));
    const auto kind = archive_entry_filetype(entry);
    if ((kind != AE_IFREG && kind != AE_IFDIR) || archive_entry_hardlink(entry))
      fail(text(name, " is neither a file nor a folder"));
    archive_entry_set_pathname(entry, (folder_ / name).c_str());
    archive_entry_set_perm(entry, kind == AE_IFDIR ? 0755 : 0644);
    check(archive_write_header(out_.get(), entry), out_.get());
    copy_content(name);
    check(archive_write_finish_entry(out_.get()), out_.get());
  }

  void copy_content(const fs::path& name) {
    const void* block = nullptr;
    size_t count = 0;
    la_int64_t at = 0;
    for (;;) {
      const int code = archive_read_data_block(in_.get(), &block, &count, &at);
      if (code == ARCHIVE_EOF) return;
      check(code, in_.get());
      written_ += static_cast<int64_t>(count);
      if (written_ > limit_ || at > limit_)
        fail(text("more than ", limit_, " bytes come out of it, at ", name));
      check(static_cast<int>(archive_write_data_block(out_.get(), block, count, at)), out_.get());
    }
  }

  fs::path path_, folder_;
  int64_t limit_, written_ = 0;
  std::unique_ptr<archive, decltype(&archive_read_free)> in_{archive_read_new(), archive_read_free};
  std::unique_ptr<archive, decltype(&archive_write_free)> out_{archive_write_disk_new(),
                                                               archive_write_free};
};
}  // namespace

void unpack(const fs::path& archive, const fs::path& folder, int64_t limit_bytes) {
  fs::create_directory(folder);
  try {
    Unpacker(archive, folder, limit_bytes).run();
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
    throw;
  }
}

}  // namespace moat::data
