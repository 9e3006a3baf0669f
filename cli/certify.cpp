#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "attacks/protocol.h"
#include "cli/image_options.h"
#include "cli/interrupt.h"
#include "cli/report/certificate.h"
#include "cli/report/svg.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "engine/names.h"
#include "train/certify/attacked.h"
#include "train/certify/certificate_files.h"
#include "train/machine.h"
#include "train/numbers.h"
#include "train/objective.h"
#include "train/run_folder.h"
#include "train/run_log.h"
#include "train/statistics.h"

namespace moat::cli {

using engine::require;
using engine::text;
namespace fs = std::filesystem;

namespace {

struct CertifyOptions {
  std::string subject, eps, protocol = "pgd-10@1", out;
  ImageOptions images{.data = {}, .root = {}, .batch = 32};
};

// As given, else halvings of the run's own eps.
std::vector<double> eps_of(const std::string& given, const Subject& subject) {
  std::vector<double> eps;
  if (!given.empty()) {
    eps = train::parse_numbers(given, "--eps");
  } else {
    require_own_radius(subject, "linf", "--eps");
    for (int halvings = 5; halvings >= 0; --halvings)
      eps.push_back(std::ldexp(subject.config.train.eps, -halvings));
  }
  for (double e : eps) train::require_eps(e, "--eps");
  return eps;
}

std::vector<double> radii_of_right(const train::Certification& proven, const data::ImageSet& set) {
  std::vector<double> radii;
  for (size_t i = 0; i < proven.images.size(); ++i)
    if (proven.images[i].prediction == set.labels[i]) radii.push_back(proven.images[i].radius);
  return radii;
}

// Where the rows that nobody asked for prove nothing, a first one at the median radius.
std::vector<double> with_median(std::vector<double> eps, const CertifyOptions& options,
                                const train::Certification& proven, const data::ImageSet& set) {
  if (!options.eps.empty() || proven.certified(set, eps.front()) > 0) return eps;
  const double median = train::median(radii_of_right(proven, set));
  if (median > 0) eps.insert(eps.begin(), median);
  return eps;
}

fs::path certificate_folder(const CertifyOptions& options, const Subject& subject) {
  require(!options.out.empty() || !subject.run.empty(), [&] {
    return text("'", subject.file.string(), "' is not in a run folder: say where the certificate ",
                "goes with --out FOLDER");
  });
  return options.out.empty() ? train::RunFolder(subject.run).certificate() : fs::path(options.out);
}

// Everything that decides the numbers. Proofs are those of one program.
std::map<std::string, std::string> identity_of(const Subject& subject, const data::ImageSet& set,
                                               const CertifyOptions& options,
                                               const std::vector<double>& eps, uint64_t seed) {
  const nlohmann::ordered_json tool = train::tool_json();
  std::string radii, attack = train::kNoAttack;
  for (double e : eps) radii += (radii.empty() ? "" : ",") + train::number_text(e);
  if (options.protocol != attack)
    attack = attacks::constants_of(
                 attacks::find_protocol(options.protocol, {engine::Norm::linf, eps.back()}, seed,
                                        train::attack_model(subject.loaded.model)))
                 .dump();
  return {{"model", subject.sha256},
          {"data set", data::content_hash(set)},
          {"--eps", radii},
          {"--protocol or --seed", attack},
          {"kind of device", subject.loaded.model.device().is_cpu() ? "cpu" : "cuda"},
          {"build of moat",
           text(tool.at("version").get<std::string>(), " ", tool.at("git").get<std::string>())}};
}

// The bar appears with the first word of how far it is: what a state brought along is not of this
// run.
train::Certification certified(const models::Classifier& model, const data::ImageSet& set,
                               int batch, double eps, train::SavedState& state,
                               const Globals& globals) {
  std::unique_ptr<Progress> progress;
  return train::certify(model, set,
                        {.batch = batch,
                         .eps = eps,
                         .progress =
                             [&](int64_t done) {
                               if (!progress)
                                 progress = std::make_unique<Progress>(progress_style(globals),
                                                                       set.size(), done);
                               progress->update(done, "certify");
                             },
                         .stop_requested = is_interrupted,
                         .state = &state});
}

void attacked(models::Classifier& model, const data::ImageSet& set, train::RadiiUnderAttack radii,
              train::SavedState& state, train::Certification& proven, const Globals& globals) {
  Progress progress(progress_style(globals), std::ssize(radii.eps), std::ssize(proven.resisted),
                    {nullptr, {}, {}, "radii"});
  radii.progress = [&](int64_t done, const train::EvaluationStanding& at) {
    progress.update(done, radii.protocol,
                    text(at.stage, " ", at.images_done, "/", at.images, " images"));
  };
  radii.stop_requested = is_interrupted;
  train::attack_radii(model, set, radii, state, proven);
}

std::string certificate_text(const report::Certificate& c, const fs::path& folder) {
  return text(report::certified_table(c).str(), report::radii_note(c), "\n\n",
              report::proofs_table(c).str(), "\n", report::constants_table(c).str(),
              report::constants_note(c), "\ncertificate: ", folder.string(), "\n");
}

void certify_command(const CertifyOptions& options, const Globals& globals) {
  require_fp32(globals, "a certificate is always of a model");
  Subject subject = open_subject({options.subject}, globals);
  const train::Config config = set_up(subject, options.images, globals);
  models::Classifier& model = subject.loaded.model;
  std::vector<double> eps = eps_of(options.eps, subject);
  if (options.protocol != train::kNoAttack)
    attacks::find_protocol(options.protocol, {}, 0, train::attack_model(model));
  const fs::path folder = certificate_folder(options, subject);
  const data::ImageSet set = load_for(subject.loaded, config, options.images);
  const train::FolderLock lock(folder);
  require(!fs::exists(folder / "certificate.json"), [&] {
    return text("'", folder.string(), "' holds a certificate, which is never overwritten; choose ",
                "another --out");
  });
  require_own_folder(folder, folder / "state.safetensors");
  catch_interrupts();
  train::SavedState state(folder / "state.safetensors",
                          identity_of(subject, set, options, eps, config.run.seed));
  train::Certification proven =
      certified(model, set, options.images.batch, eps.back(), state, globals);
  eps = with_median(eps, options, proven, set);
  if (options.protocol != train::kNoAttack)
    attacked(model, set, {options.protocol, eps, config.run.seed, folder}, state, proven, globals);
  const train::CertifiedSubject on{
      model, subject.file.string(), subject.sha256, set, options.protocol, eps, state.seconds()};
  const report::Certificate certificate{folder / "certificate.json",
                                        train::certificate_json(proven, on),
                                        radii_of_right(proven, set)};
  train::write_radii(folder / "radii.csv", proven, set);
  if (const std::string chart = report::certified_chart(certificate); !chart.empty())
    engine::write_file(folder / "curve.svg",
                       [&](std::ostream& out) { out << report::standalone(chart); });
  // Last: a folder with a certificate is complete.
  engine::write_json(certificate.file, certificate.document);
  state.remove();
  print(globals, certificate.document, certificate_text(certificate, folder));
}

}  // namespace

void add_certify(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<CertifyOptions>();
  CLI::App& command = add_command(
      app, globals,
      {"certify",
       "proven radii, Lipschitz constants and the certified-accuracy curve; one that was "
       "stopped goes on by the same command",
       "moat certify runs/digits-at-moe-1 --limit 100 --eps 0.001,0.01,0.1"},
      [o, &globals] { certify_command(*o, globals); });
  command.add_option("run", o->subject, "run folder or checkpoint")->required();
  command.add_option("--eps", o->eps,
                     "radii of the table, L∞: a list or from:to:step; the run's own eps, halved "
                     "up to five times, unless given");
  command.add_option(
      "--protocol", o->protocol,
      "attack at the same radii: none, " + engine::listed(attacks::protocol_names()));
  add_image_options(command, o->images);
  command.add_option("--out", o->out, "folder; certificate/ in the run folder unless given");
}

}  // namespace moat::cli
