#include "cli/image_options.h"

#include "train/numbers.h"

namespace moat::cli {

void add_image_options(CLI::App& command, ImageOptions& o) {
  command.add_option("--data", o.data, "data set; the run's own unless given");
  command.add_option("--root", o.root, "folder of its files");
  command.add_option("--split", o.split, "train, validation or test");
  command.add_option("--limit", o.limit, "first n images; 0: all");
  command.add_option("--batch", o.batch, "images at a time");
}

train::Config set_up(const Subject& subject, const ImageOptions& o, const Globals& globals) {
  if (o.batch < 1 || o.limit < 0)
    throw engine::UsageError("--batch must be at least 1 and --limit at least 0");
  train::Config config = subject.config;
  if (!o.data.empty()) config.data.name = o.data;
  if (!o.root.empty()) config.data.path = o.root;
  config.run = with_globals(config.run, globals);
  set_up(config.run);
  return config;
}

data::ImageSet load_for(const models::LoadedModel& loaded, const train::Config& config,
                        const ImageOptions& o) {
  return load_for(loaded, config, o.split, o.limit);
}

void add_ball_options(CLI::App& command, BallOptions& o) {
  command.add_option("--norm", o.norm, "linf or l2; that of the training unless given");
  command.add_option(
      "--eps", o.eps,
      "radius in pixels of [0, 1], 8/255 or 0.031; that of the training unless given");
}

attacks::ThreatModel threat_of(const BallOptions& o, const Subject& subject) {
  const train::TrainSettings& own = subject.config.train;
  const std::string norm = o.norm.empty() ? own.norm : o.norm;
  const attacks::ThreatModel threat{attacks::norm_named(norm, "--norm"), own.eps};
  if (!o.eps.empty()) return {threat.norm, train::parse_eps(o.eps, "--eps", norm)};
  require_own_radius(subject, norm, "--eps");
  train::require_eps(own.eps, "the run's train.eps", norm);
  return threat;
}

}  // namespace moat::cli
