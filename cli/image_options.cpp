#include "cli/image_options.h"

#include "data/catalog.h"
#include "train/numbers.h"

namespace moat::cli {

using engine::text;
using engine::UsageError;

void add_image_options(CLI::App& command, ImageOptions& o) {
  command.add_option("--data", o.data, "data set; the run's own unless given");
  command.add_option("--root", o.root, "folder of its files");
  command.add_option("--split", o.split, "train, validation or test");
  command.add_option("--limit", o.limit, "first n images; 0: all");
  command.add_option("--batch", o.batch, "images at a time");
}

void check_root(const std::string& set, const std::string& given, const std::string& in_use) {
  for (const data::CatalogEntry& entry : data::catalog()) {
    if (entry.name != set) continue;
    if (!entry.path && !given.empty())
      throw UsageError(
          text("--root must be left out for ", set, ", which has no files, got '", given, "'"));
    if (entry.path && in_use.empty())
      throw UsageError(text(set, ": --root must name ", entry.path));
  }
}

train::Config set_up(const Subject& subject, const ImageOptions& o, const Globals& globals) {
  if (o.batch < 1) throw UsageError(text("--batch must be at least 1, got ", o.batch));
  if (o.limit < 0) throw UsageError(text("--limit must be at least 0, got ", o.limit));
  train::Config config = subject.config;
  if (!o.data.empty()) config.data.name = o.data;
  if (!o.root.empty()) config.data.path = o.root;
  check_root(config.data.name, o.root, config.data.path);
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
