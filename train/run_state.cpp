#include "train/run_state.h"

#include <charconv>

#include "models/checkpoint.h"
#include "train/run_log.h"

namespace moat::train {

using namespace engine;

namespace {

constexpr const char* kModel = "model.";

std::string velocity_name(size_t group) {
  return group == 0 ? "velocity.experts" : "velocity.router";
}

double number(const SafeTensors& from, const char* key, const std::string& origin) {
  const auto it = from.metadata.find(key);
  double value = 0;
  const std::string given = it == from.metadata.end() ? "" : it->second;
  const auto end = std::from_chars(given.data(), given.data() + given.size(), value);
  require(!given.empty() && end.ec == std::errc{} && end.ptr == given.data() + given.size(), [&] {
    return text(origin, ": a run state needs a number '", key, "', got '", given, "'");
  });
  return value;
}

RunState counters(const SafeTensors& file, const std::string& origin) {
  return {.epoch = static_cast<int>(number(file, "epoch", origin)),
          .iteration = static_cast<int64_t>(number(file, "iteration", origin)),
          .best = number(file, "best", origin),
          .best_epoch = static_cast<int>(number(file, "best_epoch", origin)),
          .threads = static_cast<int>(number(file, "threads", origin))};
}

}  // namespace

void save_state(const std::filesystem::path& path, Learner& learner, const RunState& state) {
  SafeTensors file;
  file.metadata = {{"epoch", std::to_string(state.epoch)},
                   {"iteration", std::to_string(state.iteration)},
                   {"best", number_text(state.best)},
                   {"best_epoch", std::to_string(state.best_epoch)},
                   {"threads", std::to_string(state.threads)}};
  models::store(learner.model, kModel, file);
  const auto groups = learner.groups();
  for (size_t g = 0; g < groups.size(); ++g)
    file.tensors[velocity_name(g)] = groups[g]->velocity().to(Device{});
  write_safetensors(path, file);
}

RunState load_state(const std::filesystem::path& path, Learner& learner) {
  const SafeTensors file = read_safetensors(path);
  const RunState state = counters(file, path.string());
  const auto groups = learner.groups();
  for (size_t g = 0; g < groups.size(); ++g) {
    const auto it = file.tensors.find(velocity_name(g));
    require(it != file.tensors.end() && it->second.shape() == groups[g]->velocity().shape() &&
                it->second.dtype() == Dtype::f32,
            [&] {
              return text(path.string(), ": ", velocity_name(g), " must be float32 ",
                          groups[g]->velocity().shape().str());
            });
    groups[g]->velocity().copy_from(it->second);
  }
  models::restore(learner.model, kModel, file, path.string());
  return state;
}

std::optional<RunState> peek_state(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  return counters(read_safetensors(path), path.string());
}

}  // namespace moat::train
