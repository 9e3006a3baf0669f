#include "attacks/protocol.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/names.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"

namespace moat::attacks {

using namespace engine;

namespace {

struct Row {
  const char* name;
  const char* attack;
  int steps;  // 0: FGSM
};
constexpr Row kProtocols[] = {{"pgd-50@1", "pgd-50", 50},
                              {"pgd-20@1", "pgd-20", 20},
                              {"pgd-10@1", "pgd-10", 10},
                              {"fgsm@1", "fgsm", 0}};

Pgd settings_of(const Row& row, const ThreatModel& threat, uint64_t seed) {
  Pgd a = fgsm(threat);
  if (row.steps > 0)
    a = {.threat = threat, .steps = row.steps, .step = threat.eps / 4, .start = Start::uniform};
  a.keep = Keep::worst;
  a.seed = seed;
  return a;
}

std::vector<int32_t> routes(const Outputs& out) {
  return out.experts.defined() ? out.experts.to_vector<int32_t>() : std::vector<int32_t>{};
}
int route_at(const std::vector<int32_t>& routes, int64_t i) {
  return routes.empty() ? -1 : routes[static_cast<size_t>(i)];
}

void measure_distance(const Victims& v, const Tensor& adversarial, std::vector<SampleResult>& to) {
  const int64_t n = v.size(), pixels = n ? v.images.size() / n : 0;
  const Tensor images = v.images.to(Device{}), points = adversarial.to(Device{});
  const float* x = images.data_as<float>();
  const float* y = points.data_as<float>();
  for (int64_t i = 0; i < n; ++i) {
    double largest = 0, squares = 0;
    for (int64_t j = i * pixels; j < (i + 1) * pixels; ++j) {
      const double d = std::abs(double(y[j]) - double(x[j]));
      largest = std::max(largest, d);
      squares += d * d;
    }
    to[static_cast<size_t>(i)].linf = largest;
    to[static_cast<size_t>(i)].l2 = std::sqrt(squares);
  }
}

// Runs one attack on the images that are right clean, and keeps its point where it is the first to
// succeed, or where nothing has been kept yet.
void run_attack(const Model& model, const Victims& v, const NamedAttack& attack, int number,
                const std::vector<int32_t>& rows, ProtocolResult& result) {
  const std::vector<int32_t> attacked = rounded_up(rows, v.size(), v.images.device());
  const AttackResult found = run(model, v.rows(attacked), attack.attack);
  result.forwards += found.forwards;
  result.backwards += found.backwards;
  // Rows of the points so far, followed by those found now.
  std::vector<int32_t> kept(static_cast<size_t>(v.size()));
  std::iota(kept.begin(), kept.end(), 0);
  for (size_t i = 0; i < attacked.size(); ++i) {
    if (!std::binary_search(rows.begin(), rows.end(), attacked[i])) continue;
    SampleResult& sample = result.samples[static_cast<size_t>(attacked[i])];
    const int at = found.fooled_at[i];
    sample.resisted[static_cast<size_t>(number)] = at < 0;
    const bool first_success = at >= 0 && sample.fooled_by < 0;
    if (first_success) {
      sample.fooled_by = number;
      sample.iteration = at;
    }
    if (first_success || (number == 0 && at < 0))
      kept[static_cast<size_t>(attacked[i])] =
          static_cast<int32_t>(v.size() + static_cast<int64_t>(i));
  }
  result.adversarial = gather_rows(concat({result.adversarial, found.adversarial}, 0),
                                   index_of(kept, v.images.device()));
}

}  // namespace

std::vector<std::string> protocol_names() {
  std::vector<std::string> names;
  for (const Row& row : kProtocols) names.emplace_back(row.name);
  return names;
}

Protocol find_protocol(const std::string& name, const ThreatModel& threat, uint64_t seed,
                       const Model& model) {
  const Row& row =
      find_named("the protocol", name, kProtocols, [](const Row& known) { return known.name; });
  Protocol protocol{name, {}};
  Pgd settings = settings_of(row, threat, seed);
  if (!model.routed) {
    protocol.attacks.push_back({row.attack, settings});
    return protocol;
  }
  for (Gate gate : {Gate::open, Gate::blocked}) {
    settings.objective.gate = gate;
    protocol.attacks.push_back({text(row.attack, " ", name_of(gate)), settings});
  }
  return protocol;
}

ProtocolResult run_protocol(const Model& model, const Victims& v, const Protocol& protocol) {
  ProtocolResult result;
  result.samples.resize(static_cast<size_t>(v.size()));
  result.adversarial = v.images.clone();
  const Outputs clean = model.forward(v.images, Gate::blocked);
  result.forwards += v.size();
  const auto predicted = argmax(clean.logits, 1).to_vector<int32_t>();
  const auto labels = v.labels.to_vector<int32_t>(), clean_routes = routes(clean);
  std::vector<int32_t> correct;
  for (int32_t i = 0; i < v.size(); ++i) {
    SampleResult& sample = result.samples[static_cast<size_t>(i)];
    sample.clean_prediction = predicted[static_cast<size_t>(i)];
    sample.clean_route = route_at(clean_routes, i);
    sample.resisted.assign(protocol.attacks.size(), false);
    if (sample.is_correct(labels[static_cast<size_t>(i)])) correct.push_back(i);
  }
  for (size_t a = 0; a < protocol.attacks.size(); ++a)
    run_attack(model, v, protocol.attacks[a], static_cast<int>(a), correct, result);

  const Outputs attacked = model.forward(result.adversarial, Gate::blocked);
  result.forwards += v.size();
  const auto after = argmax(attacked.logits, 1).to_vector<int32_t>();
  const auto margins = margin(attacked.logits, v.labels).to_vector<float>();
  const std::vector<int32_t> attacked_routes = routes(attacked);
  for (int64_t i = 0; i < v.size(); ++i) {
    SampleResult& sample = result.samples[static_cast<size_t>(i)];
    sample.adversarial_prediction = after[static_cast<size_t>(i)];
    sample.adversarial_route = route_at(attacked_routes, i);
    sample.margin = margins[static_cast<size_t>(i)];
  }
  measure_distance(v, result.adversarial, result.samples);
  return result;
}

}  // namespace moat::attacks
