#include "cli/curve_file.h"

#include "cli/commands.h"
#include "engine/error.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "train/statistics.h"

namespace moat::cli {

using engine::require;
using engine::text;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

// What has to be the same for a curve to go on.
ordered_json deciding(ordered_json document) {
  for (const char* key : {"tool", "machine", "finished", "curve"}) document.erase(key);
  return document;
}

}  // namespace

CurveFile::CurveFile(fs::path file, ordered_json about)
    : file_(std::move(file)), document_(std::move(about)) {
  document_["finished"] = false;
  document_["curve"] = ordered_json::array();
  require_own_folder(file_.parent_path(), file_);
  if (!fs::exists(file_)) {
    write();
    return;
  }
  auto before = engine::parse_json<ordered_json>(engine::read_file(file_), file_.string());
  require(before.value("finished", true) == false && before["curve"].is_array(), [&] {
    return text("'", file_.string(),
                "' holds a finished curve, which is never overwritten; choose another --out");
  });
  require(deciding(before) == deciding(document_), [&] {
    return text("'", file_.string(),
                "' is a curve of other models or settings; choose another --out");
  });
  document_["curve"] = before["curve"];
}

fs::path CurveFile::state() const { return file_.parent_path() / "state.safetensors"; }

void CurveFile::add(ordered_json point) {
  document_["curve"].push_back(std::move(point));
  write();
}

void CurveFile::finish() {
  document_["finished"] = true;
  write();
}

void CurveFile::write() const { engine::write_json(file_, document_); }

ordered_json accuracies_json(int64_t clean, int64_t robust, int64_t n) {
  const auto interval = [&](int64_t part) {
    const train::Interval i = train::wilson_interval(part, n);
    return ordered_json{i.low, i.high};
  };
  return {{"clean_correct", clean},
          {"robust_correct", robust},
          {"clean", train::fraction(clean, n)},
          {"robust", train::fraction(robust, n)},
          {"ci95", {{"clean", interval(clean)}, {"robust", interval(robust)}}}};
}

}  // namespace moat::cli
