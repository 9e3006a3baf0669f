#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/progress.h"
#include "data/image_set.h"
#include "models/checkpoint.h"

namespace moat::cli {

// off with --json or --quiet, else what standard error can show.
ProgressStyle progress_style(const Globals& globals);

// A checkpoint, or the last one of a run folder, with what its run says about it.
struct Subject {
  std::filesystem::path file;
  std::filesystem::path run;  // empty: a checkpoint outside a run folder
  std::string sha256;
  models::LoadedModel loaded;
  train::Config config;  // of the run; the defaults outside one
};

// What a person says it is.
struct SubjectOptions {
  std::string given;                       // run folder or checkpoint
  std::vector<std::string> settings = {};  // model.capacity=1.5 … (train/token_room.h)
};
void add_subject_options(CLI::App& command, SubjectOptions& options);

// Computes on the --device and in the --precision given; on a GPU where there is one and in fp32
// unless given, whatever the run was trained on and in. Throws UsageError for a setting that the
// model does not take.
Subject open_subject(const SubjectOptions& options, const Globals& globals);

// Throws UsageError unless the subject's run was trained within a ball of this norm, whose radius
// may then stand for one that was not given by `option`.
void require_own_radius(const Subject& subject, const std::string& norm, const char* option);

// The images a model is attacked on; throws one line when they are not of the model's size, or, of
// a file that names the classes it was trained on, have them by other numbers.
data::ImageSet load_for(const models::LoadedModel& loaded, const train::Config& config,
                        const std::string& split, int64_t limit);

}  // namespace moat::cli
