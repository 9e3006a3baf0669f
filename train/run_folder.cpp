#include "train/run_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>

#include "engine/error.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "train/validation.h"

namespace moat::train {

using engine::Error;
using engine::text;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

fs::path chosen_root(const Config& config) {
  if (!config.run.dir.empty()) return config.run.dir;
  const std::string stem = config.preset.empty() ? "run" : config.preset;
  for (int n = 1;; ++n) {
    const fs::path root = fs::path("runs") / text(stem, "-", n);
    if (!fs::exists(root)) return root;
  }
}

// The settings that decide what is computed: not where it is kept, nor how long it runs on.
ordered_json deciding(const std::string& json, const fs::path& origin) {
  ordered_json j = to_json(Config{});  // settings that are younger than the run
  j.merge_patch(engine::parse_json<ordered_json>(json, origin.string()));
  for (const char* key : {"tool", "machine", "preset"}) j.erase(key);
  // In older runs their defaults were other values with the same meaning; `architecture` tells.
  if (j["model"].is_object())
    for (const char* key : {"gate", "score_norm"}) j["model"].erase(key);
  const auto path_at = [&](const char* pointer) -> fs::path {
    const ordered_json::json_pointer at(pointer);
    return j.contains(at) && j[at].is_string() ? j[at].get<std::string>() : "";
  };
  // A start beside the run is the same one where both were moved.
  const fs::path start = path_at("/train/start"), dir = path_at("/run/dir");
  if (const fs::path beside = start.lexically_relative(dir); !start.empty() && !beside.empty())
    j["train"]["start"] = beside.string();
  if (j.contains("run") && j["run"].is_object())
    for (const char* key : {"dir", "threads", "checkpoint_every"}) j["run"].erase(key);
  return j;
}

void require_same(const std::string& before, const std::string& now, const fs::path& origin) {
  const ordered_json a = deciding(before, origin).flatten(), b = deciding(now, origin).flatten();
  for (const auto& field : b.items())
    engine::require(a.contains(field.key()) && a[field.key()] == field.value(), [&] {
      std::string setting = field.key().substr(1);  // of a JSON pointer
      std::ranges::replace(setting, '/', '.');
      return text(origin.string(), ": the run was started with ", setting, " = ",
                  a.contains(field.key()) ? a[field.key()].dump() : "nothing", ", now it is ",
                  field.value().dump(), "; resume with the same settings, or choose another ",
                  "run.dir, where train.start=RUN begins with this one's weights");
    });
}

}  // namespace

FolderLock::FolderLock(const fs::path& folder) {
  engine::make_folder(folder);
  descriptor_ = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool can_write = descriptor_ >= 0 && faccessat(descriptor_, ".", W_OK | X_OK, 0) == 0;
  if (can_write && flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  if (descriptor_ >= 0) close(descriptor_);
  throw Error(text("'", folder.string(), "' ",
                   can_write ? "is in use by another process; wait for it or choose another folder"
                             : "must be a folder that can be read and written"));
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) close(descriptor_);
}

bool is_over(const Config& config, const RunState& state) {
  const int patience = config.train.patience;
  return state.epoch >= config.train.epochs ||
         (patience > 0 && state.epoch > 0 && is_validated_after(config, state.epoch) &&
          state.epoch - state.best_epoch >= patience);
}

std::string unfinished_text(const RunFolder& folder, const Config& config) {
  const auto state = peek_state(folder.state());
  if (!state || is_over(config, *state)) return "";
  return text("unfinished: ", state->epoch, " of ", config.train.epochs, " epochs");
}

OpenedRun open_run(const Config& config, const std::string& config_json, Resume resume) {
  const RunFolder folder(chosen_root(config));
  const std::string root = folder.root().string();
  engine::require(!fs::exists(folder.root()) || fs::is_directory(folder.root()),
                  [&] { return text("run.dir must be a folder, '", root, "' is a file"); });
  const bool begun = fs::exists(folder.config());
  if (begun && resume == Resume::automatic)
    require_same(engine::read_file(folder.config()), config_json, folder.config());
  const auto state = peek_state(folder.state());
  if (state && is_over(config, *state)) {
    if (resume == Resume::automatic) return {folder, *state, true};
    throw Error(text("'", root, "' holds a finished run (", state->epoch,
                     " epochs), which is never overwritten; choose another run.dir"));
  }
  if (begun && resume == Resume::never)
    throw Error(text("'", root, "' holds an unfinished run (", state ? state->epoch : 0, " of ",
                     config.train.epochs,
                     " epochs); continue it with --resume auto or choose another run.dir"));
  engine::require(begun || !fs::exists(folder.root()) || fs::is_empty(folder.root()), [&] {
    return text("run.dir must be a new or empty folder, '", root, "' holds other files");
  });
  engine::require(state || !fs::exists(folder.checkpoint("last")), [&] {
    return text("'", root, "' has a checkpoint and no checkpoints/last.state.safetensors, from ",
                "which it would go on; choose another run.dir, where train.start=", root,
                " begins with its weights");
  });
  FolderLock lock(folder.root());
  fs::create_directories(folder.root() / "checkpoints");
  if (!begun) engine::write_file(folder.config(), [&](std::ostream& out) { out << config_json; });
  return {folder, state.value_or(RunState{}), false, std::move(lock)};
}

fs::path checkpoint_of(const fs::path& given) {
  engine::require(fs::exists(given), [&] {
    return text("a run folder or checkpoint must exist, there is no '", given.string(), "'");
  });
  if (!fs::is_directory(given)) return given;
  const fs::path last = RunFolder(given).checkpoint("last");
  engine::require(fs::exists(last), [&] {
    return text("'", given.string(), "' must be a run folder with a checkpoint; it has no ",
                "checkpoints/last.safetensors");
  });
  return last;
}

}  // namespace moat::train
