#include "cli/session.h"

#include <nlohmann/json.hpp>

#include "engine/hardware.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "engine/io/mapped_file.h"
#include "engine/io/sha256.h"
#include "train/images.h"
#include "train/run_folder.h"
#include "train/token_room.h"
#include "train/trained_classes.h"

namespace moat::cli {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

ProgressStyle progress_style(const Globals& globals) {
  return globals.json || globals.quiet ? ProgressStyle::off : progress_style_of_stderr();
}

namespace {

// The folder above checkpoints/ when it is a run's.
fs::path run_of(const fs::path& checkpoint) {
  const fs::path root = fs::absolute(checkpoint).parent_path().parent_path();
  return fs::exists(train::RunFolder(root).config()) ? root : fs::path{};
}

train::Config config_of(const fs::path& run) {
  if (run.empty()) return {};
  const fs::path file = train::RunFolder(run).config();
  return train::overlay({}, engine::parse_json(engine::read_file(file), file.string()),
                        file.string());
}

}  // namespace

void add_subject_options(CLI::App& command, SubjectOptions& o) {
  command.add_option("run", o.given, "run folder or checkpoint")->required();
  command.add_option("settings", o.settings,
                     "model.capacity, model.group or model.priority=value of a v-moe, in place of "
                     "those it was trained with");
}

Subject open_subject(const SubjectOptions& options, const Globals& globals) {
  const fs::path file = train::checkpoint_of(options.given);
  const fs::path run = run_of(file);
  const std::string device = globals.device.value_or("auto");
  Subject subject{file, run, engine::sha256(engine::MappedFile(file).bytes()),
                  models::load_model(file, engine::parse_device(device),
                                     [&](models::ClassifierSettings& s) {
                                       s = train::with_room(s, options.settings);
                                     }),
                  config_of(run)};
  subject.config.run.device = device;
  subject.config.run.precision = globals.precision.value_or("fp32");
  subject.loaded.model.set_activations(
      engine::activation_dtype(engine::parse_precision(subject.config.run.precision)));
  return subject;
}

void require_own_radius(const Subject& subject, const std::string& norm, const char* option) {
  if (subject.run.empty())
    throw engine::UsageError(text("'", subject.file.string(), "' is in no run folder, which would ",
                                  "say within which radius it was trained: give ", option));
  const std::string& own = subject.config.train.norm;
  if (norm != own)
    throw engine::UsageError(text("'", subject.run.string(), "' was trained within a radius in ",
                                  own, ", which says nothing in ", norm, ": give ", option));
}

data::ImageSet load_for(const models::LoadedModel& loaded, const train::Config& config,
                        const std::string& split, int64_t limit) {
  data::ImageSet set = train::load_images(config.data, data::parse_split(split), limit);
  const models::ClassifierSettings& s = loaded.model.settings();
  require(set.height == s.height && set.width == s.width && set.channels == s.channels &&
              set.classes() == s.classes,
          [&] {
            return text("the model takes ", s.height, "x", s.width, "x", s.channels, " images of ",
                        s.classes, " classes, data set '", set.name, "' has ", set.height, "x",
                        set.width, "x", set.channels, " of ", set.classes(),
                        "; choose data.name, or its size by data.resize and data.crop");
          });
  warn(set.warning);
  warn(train::compare_trained_classes(loaded.metadata, set));
  return set;
}

}  // namespace moat::cli
