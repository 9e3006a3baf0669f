#include <algorithm>
#include <cmath>

#include "attacks/protocol_run.h"

namespace moat::attacks {

using namespace engine;

namespace {

// The columns of a state that are int32 [images].
constexpr std::pair<const char*, int SampleResult::*> kColumns[] = {
    {"clean_prediction", &SampleResult::clean_prediction},
    {"clean_route", &SampleResult::clean_route},
    {"fooled_by", &SampleResult::fooled_by},
    {"iteration", &SampleResult::iteration},
};
enum Position { kStage, kDone, kForwards, kBackwards, kPositions };
constexpr double kMostCost = 1e15;  // passes or seconds; a sum of them is still an integer

const Tensor& entry(const std::map<std::string, Tensor>& state, const char* name, Dtype dtype,
                    const Shape& shape) {
  const auto it = state.find(name);
  require(it != state.end() && it->second.dtype() == dtype && it->second.shape() == shape, [&] {
    return text("the state of an evaluation needs '", name, "' ", shape.str(), " in ",
                engine::name_of(dtype),
                it == state.end() ? ": it has none" : ", got another shape or type");
  });
  return it->second;
}

}  // namespace

std::map<std::string, Tensor> ProtocolRun::state() const {
  require(is_before_verdict(), "the state of a protocol's run is kept before its verdict alone");
  const auto n = static_cast<int64_t>(labels_.size());
  std::map<std::string, Tensor> state{{"adversarial", result_.adversarial.clone()}};
  for (const auto& [name, member] : kColumns) {
    std::vector<int32_t> column;
    for (const SampleResult& sample : result_.samples) column.push_back(sample.*member);
    state[name] = Tensor::from(column, {n});
  }
  std::vector<uint8_t> resisted;
  for (const SampleResult& sample : result_.samples)
    resisted.insert(resisted.end(), sample.resisted.begin(), sample.resisted.end());
  state["resisted"] = Tensor::from(resisted, {n, std::ssize(protocol_.attacks)});
  std::vector<double> spent;
  for (const Spent& s : result_.spent)
    spent.insert(spent.end(), {double(s.forwards), double(s.backwards), s.seconds});
  state["spent"] = Tensor::from(spent, {std::ssize(result_.spent), 3});
  state["position"] = Tensor::from(
      std::vector<int64_t>{stage_, done_, result_.forwards, result_.backwards}, {kPositions});
  return state;
}

void ProtocolRun::restore(const std::map<std::string, Tensor>& state) {
  const auto n = static_cast<int64_t>(labels_.size()), attacks = std::ssize(protocol_.attacks);
  const auto position = entry(state, "position", Dtype::i64, {kPositions}).to_vector<int64_t>();
  const auto resisted = entry(state, "resisted", Dtype::u8, {n, attacks}).to_vector<uint8_t>();
  const Tensor& points = entry(state, "adversarial", Dtype::f32, set_.images.shape());
  std::vector<SampleResult> samples(labels_.size());
  for (const auto& [name, member] : kColumns) {
    const auto column = entry(state, name, Dtype::i32, {n}).to_vector<int32_t>();
    for (size_t i = 0; i < samples.size(); ++i) samples[i].*member = column[i];
  }
  for (size_t i = 0; i < samples.size(); ++i) {
    const auto first = resisted.begin() + static_cast<int64_t>(i) * attacks;
    samples[i].resisted.assign(first, first + attacks);
    require(samples[i].fooled_by < attacks, "the state of an evaluation names an unknown attack");
    // Routes are counted by expert.
    const bool is_predicted = position[kStage] >= 0 || static_cast<int64_t>(i) < position[kDone];
    const int routes = model_.routes > 1 ? model_.routes : 0, route = samples[i].clean_route;
    require((route == -1 && !(is_predicted && routes > 0)) || (route >= 0 && route < routes), [&] {
      return text("the state of an evaluation has route ", route, ", of a model with ", routes);
    });
  }
  require(position[kStage] >= -1 && position[kStage] <= attacks,
          [&] { return text("the state of an evaluation has no stage ", position[kStage]); });
  std::vector<Spent> spent;
  const auto cost = entry(state, "spent", Dtype::f64, {attacks, 3}).to_vector<double>();
  const auto is_cost = [](double c) { return c >= 0 && c <= kMostCost; };
  require(std::ranges::all_of(cost, is_cost) && is_cost(double(position[kForwards])) &&
              is_cost(double(position[kBackwards])),
          [&] { return text("the state of an evaluation has costs from 0 to ", kMostCost); });
  for (size_t a = 0; a < cost.size(); a += 3)
    spent.push_back({std::llround(cost[a]), std::llround(cost[a + 1]), cost[a + 2]});
  result_ = {samples, spent, points.clone(), position[kForwards], position[kBackwards]};
  stage_ = static_cast<int>(position[kStage]);
  rows_ = rows_of_stage();
  done_ = position[kDone];
  images_seen_ = 0;
  passes_before_ = passes_done();
  require(done_ >= 0 && done_ <= (is_attacking() ? images_of_stage() : 0), [&] {
    return text("the state of an evaluation has done ", done_, " images of ", images_of_stage());
  });
}

}  // namespace moat::attacks
