#pragma once

#include <cstdint>
#include <string>

#include "attacks/threat_model.h"
#include "cli/session.h"

namespace moat::cli {

// What a person may say about the images a command looks at.
struct ImageOptions {
  std::string data, root, split = "test";  // empty: the run's own
  int64_t limit = 0;
  int batch = 256;
};
void add_image_options(CLI::App& command, ImageOptions& options);

// Throws UsageError where a --root was given for a data set without files, or none is in use for
// one that has some.
void check_root(const std::string& set, const std::string& given, const std::string& in_use);

// The configuration of the subject's run with that and the global options laid over it, set up.
// Throws UsageError for a batch or a limit out of range.
train::Config set_up(const Subject& subject, const ImageOptions& options, const Globals& globals);
data::ImageSet load_for(const models::LoadedModel& loaded, const train::Config& config,
                        const ImageOptions& options);

// And about the ball around each.
struct BallOptions {
  std::string norm, eps;  // empty: that of the run's training
};
void add_ball_options(CLI::App& command, BallOptions& options);
// Throws UsageError for a norm or radius out of range, and without --eps where the subject has no
// run, or one that was trained in another norm.
attacks::ThreatModel threat_of(const BallOptions& options, const Subject& subject);

}  // namespace moat::cli
