#include "attacks/checks/checks.h"

#include <algorithm>

#include "attacks/checks/subject.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

// "G2" before "G10", and those before "M1".
bool comes_before(const Check& a, const Check& b) {
  return std::pair(a.id[0], std::stoi(a.id.substr(1))) <
         std::pair(b.id[0], std::stoi(b.id.substr(1)));
}

// The same model, that says for how many images it was asked: twice where a gradient will follow.
Model counting(const Model& model, const std::function<void(int64_t passes)>& count) {
  Model counted = model;
  const auto look = [count](const Tensor& images) {
    count(images.dim(0) * (is_differentiated(images) ? 2 : 1));
  };
  counted.forward = [=](const Tensor& images, Gate gate) {
    look(images);
    return model.forward(images, gate);
  };
  if (model.randomised)
    counted.randomised = [=](const Tensor& images, Gate gate, const Tensor& ids,
                             const RandomKey& key) {
      look(images);
      return model.randomised(images, gate, ids, key);
    };
  if (model.along)
    counted.along = [=](const Tensor& images, const Tensor& experts) {
      look(images);
      return model.along(images, experts);
    };
  return counted;
}

struct Family {
  const char* name;
  std::vector<Check> (*checks)(const Subject&);
  int64_t most_passes;  // about, where no attack fools an image
};

std::vector<Family> families(const Subject& s) {
  const int64_t all = s.all.size(), right = s.right.size(), gates = std::ssize(s.gates()),
                routed = s.model.routed ? 1 : 0;
  std::vector<Family> out{{"forward passes", check_forward, all * 17}};
  if (right > 0)
    out.insert(out.end(),
               {{"gradients", check_gradients, right * 45},
                {"attacks", check_attacks, right * (1100 + 470 * gates)},
                {"larger balls", check_balls, right * 350 * gates},
                {"routing", check_routing, right * 60 * routed},
                {"experts", check_experts, all * 42 * (gates + s.model.routes) * routed}});
  return out;
}

}  // namespace

std::vector<Check> run_checks(const Model& model, const Victims& victims, const ThreatModel& threat,
                              uint64_t seed, const ChecksProgress& progress) {
  require(victims.size() > 0, "the checks need at least one image, got none");
  require(threat.eps > 0, [&] { return text("the checks need an eps above 0, got ", threat.eps); });
  const std::vector<int32_t> labels = victims.labels.to_vector<int32_t>(),
                             predicted = ask(model, victims.images).predicted;
  std::vector<int32_t> right;
  for (size_t i = 0; i < labels.size(); ++i)
    if (predicted[i] == labels[i]) right.push_back(static_cast<int32_t>(i));
  ChecksStanding at;
  int64_t later = 0;  // passes of the families to come
  const Model counted = counting(model, [&](int64_t passes) {
    at.passes_done += passes;
    at.passes_left = std::max(later, at.passes_left - passes);
    if (progress) progress(at);
  });
  const Subject subject{.model = counted,
                        .all = victims,
                        .right = victims.rows(right),
                        .threat = threat,
                        .seed = seed};

  const std::vector<Family> all = families(subject);
  for (const Family& family : all) later += family.most_passes;
  std::vector<Check> checks;
  for (const Family& family : all) {
    at.family = family.name;
    at.passes_left = later;
    later -= family.most_passes;
    const std::vector<Check> found = family.checks(subject);
    checks.insert(checks.end(), found.begin(), found.end());
  }
  if (right.empty())
    for (const char* id : {"G7", "G9", "G10", "G11", "G12", "G13", "G14", "G15", "G16", "G17",
                           "G18", "G19", "G20", "M1", "M2", "M3", "M12", "M13", "M16"})
      checks.push_back(skipped(id, "no image is classified correctly"));
  std::sort(checks.begin(), checks.end(), comes_before);
  return checks;
}

}  // namespace moat::attacks
