#include "train/evaluation_report.h"

#include "attacks/threat_model.h"
#include "engine/io/json.h"
#include "train/evaluation_checks.h"
#include "train/evaluation_exchange.h"
#include "train/evaluation_files.h"
#include "train/images.h"
#include "train/machine.h"
#include "train/statistics.h"
#include "train/token_room.h"
#include "train/verification.h"

namespace moat::train {

using namespace engine;
using nlohmann::ordered_json;

namespace {

ordered_json interval(int64_t part, int64_t whole) {
  const Interval i = wilson_interval(part, whole);
  return {i.low, i.high};
}

ordered_json results_json(const Evaluation& e, const data::ImageSet& set) {
  const int64_t n = set.size(), clean = e.clean_correct(set), robust = e.robust_correct(set);
  // By itself where it was run on every image, and after all up to it; in images fooled first by
  // it.
  ordered_json alone = ordered_json::object(), after = alone, marginal = alone;
  for (size_t a = 0; a < e.protocol.attacks.size(); ++a) {
    const attacks::NamedAttack& attack = e.protocol.attacks[a];
    int64_t resisted = 0;
    for (const attacks::SampleResult& s : e.samples) resisted += s.resisted[a];
    if (attack.against == attacks::Against::correct) alone[attack.name] = fraction(resisted, n);
    const int64_t left = e.robust_after(a, set), before = a ? e.robust_after(a - 1, set) : clean;
    after[attack.name] = fraction(left, n);
    marginal[attack.name] = before - left;
  }
  ordered_json per_class = ordered_json::array();
  for (size_t c = 0; c < set.class_names.size(); ++c) {
    int64_t count = 0, right = 0, resisting = 0;
    for (size_t i = 0; i < e.samples.size(); ++i) {
      if (set.labels[i] != static_cast<int32_t>(c)) continue;
      ++count;
      right += e.samples[i].is_correct(set.labels[i]);
      resisting += e.samples[i].is_robust(set.labels[i]);
    }
    per_class.push_back(
        {{"class", set.class_names[c]},
         {"n", count},
         {"clean", count ? ordered_json(fraction(right, count)) : ordered_json()},
         {"robust", count ? ordered_json(fraction(resisting, count)) : ordered_json()}});
  }
  return {{"clean", fraction(clean, n)},
          {"robust", fraction(robust, n)},
          {"ci95", {{"clean", interval(clean, n)}, {"robust", interval(robust, n)}}},
          {"alone", alone},
          {"after", after},
          {"fooled_first_by", marginal},
          {"per_class", per_class}};
}

ordered_json routes_json(const Evaluation& e, const EvaluationSubject& on) {
  const auto experts = static_cast<size_t>(on.model.routes());
  if (experts < 2) return nullptr;
  const size_t classes = on.set.class_names.size();
  using Counts = std::vector<int64_t>;
  Counts clean(experts), adversarial(experts);
  std::vector<Counts> clean_by_class(classes, Counts(experts)),
      adversarial_by_class = clean_by_class;
  int64_t flips = 0;
  for (size_t i = 0; i < e.samples.size(); ++i) {
    const auto from = static_cast<size_t>(e.samples[i].clean_route),
               to = static_cast<size_t>(e.samples[i].adversarial_route),
               label = static_cast<size_t>(on.set.labels[i]);
    ++clean[from];
    ++adversarial[to];
    ++clean_by_class[label][from];
    ++adversarial_by_class[label][to];
    flips += from != to;
  }
  return {{"experts", experts},
          {"usage_clean", clean},
          {"usage_adversarial", adversarial},
          {"class_by_expert_clean", clean_by_class},
          {"class_by_expert_adversarial", adversarial_by_class},
          {"route_flip_rate", fraction(flips, static_cast<int64_t>(e.samples.size()))},
          {"usage_entropy", normalized_entropy(clean)}};
}

ordered_json cost_json(const Evaluation& e) {
  ordered_json attacks = ordered_json::object();
  for (size_t a = 0; a < e.spent.size(); ++a)
    attacks[e.protocol.attacks[a].name] = {{"forward", e.spent[a].forwards},
                                           {"backward", e.spent[a].backwards},
                                           {"seconds", e.spent[a].seconds}};
  return {{"forward", e.forwards},
          {"backward", e.backwards},
          {"seconds", e.seconds},
          {"attacks", attacks}};
}

ordered_json verify_json(const Evaluation& e, const Verification& v) {
  return {{"largest_linf", v.largest_linf},
          {"largest_l2", v.largest_l2},
          {"outside_ball", v.outside_ball},
          {"outside_box", v.outside_box},
          {"changed_in_other_batches", v.changed},
          {"contradicted", v.contradicted},
          {"robust_as_bytes", v.robust_as_bytes},
          {"model_untouched", e.fingerprint_before == e.fingerprint_after}};
}

ordered_json model_json(const EvaluationSubject& on) {
  const models::ClassifierSettings& s = on.model.settings();
  const auto cost = on.model.cost();
  return {{"file", on.file},
          {"sha256", on.sha256},
          {"selected_on", on.selected_on},
          {"arch", s.name},
          {"parameters", count_parameters(on.model)},
          {"macs",
           {{"executed", cost.executed()},
            {"path", cost.path},
            {"router", cost.router},
            {"all_experts", cost.all_experts}}},
          {"moe", moe_json(s)}};
}

ordered_json report_of(const Evaluation& e, const EvaluationSubject& on,
                       const Verification& verified, const attacks::ChecksProgress& progress) {
  const double eps = on.threat.eps;
  return {{"schema", 1},
          {"tool", tool_json()},
          {"machine", machine_json(on.model.device())},
          {"model", model_json(on)},
          {"data", images_json(on.set)},
          {"threat",
           {{"norm", attacks::name_of(on.threat.norm)},
            {"eps", eps},
            {"eps_255", eps * 255},
            {"domain", {0, 1}}}},
          {"protocol", attacks::constants_of(e.protocol)},
          {"results", results_json(e, on.set)},
          {"moe", routes_json(e, on)},
          {"cost", cost_json(e)},
          {"verify", verify_json(e, verified)},
          {"checks", checks_json(evaluation_checks(e, on, verified, progress))}};
}

}  // namespace

ordered_json write_evaluation(const Evaluation& e, const EvaluationSubject& on,
                              const std::filesystem::path& folder,
                              const attacks::ChecksProgress& progress) {
  std::filesystem::create_directories(folder);
  write_samples(folder / "per_sample.csv", e, on.set);
  write_pictures(folder, e, on.set);
  const ordered_json report = report_of(
      e, on, verify(on.model, e, on.set, on.threat, on.batch, folder / "adversarial.safetensors"),
      progress);
  if (e.protocol.name.starts_with("aa-")) {
    write_autoattack_log(folder / "autoattack.log", e, on);
    write_robustbench_card(folder / "robustbench.json", e, on);
  }
  // Last: a folder with a report is complete.
  engine::write_json(folder / "report.json", report);
  return report;
}

}  // namespace moat::train
