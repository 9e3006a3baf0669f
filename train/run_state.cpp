#include "train/run_state.h"

#include <charconv>
#include <type_traits>
#include <utility>
#include <vector>

#include "models/checkpoint.h"
#include "train/run_log.h"

namespace moat::train {

using namespace engine;

namespace {

constexpr const char* kModel = "model.";

// The learner's own tensors beside its model, by their names in the file.
std::vector<std::pair<std::string, Tensor>> memory_of(Learner& learner) {
  std::vector<std::pair<std::string, Tensor>> out;
  const auto groups = learner.groups();
  const auto names = learner.group_names();
  for (size_t g = 0; g < groups.size(); ++g) {
    const std::string name = "." + names[g];
    out.emplace_back("velocity" + name, groups[g]->velocity());
    if (!groups[g]->second_moment().defined()) continue;
    out.emplace_back("second_moment" + name, groups[g]->second_moment());
    out.emplace_back("powers" + name, groups[g]->powers());
  }
  if (learner.average)
    for (const WeightAverage::Part& part : learner.average->parts())
      out.emplace_back("average." + part.name, part.average);
  return out;
}

// At least `lowest`, and what a T holds.
template <class T>
T number(const SafeTensors& from, const char* key, T lowest, const std::string& origin) {
  const auto it = from.metadata.find(key);
  T value{};
  const std::string given = it == from.metadata.end() ? "" : it->second;
  const auto end = std::from_chars(given.data(), given.data() + given.size(), value);
  require(end.ec == std::errc{} && end.ptr == given.data() + given.size() && value >= lowest, [&] {
    return text(origin, ": a run state needs ",
                std::is_integral_v<T> ? "a whole number" : "a number", " '", key, "' from ", lowest,
                ", got '", given, "'");
  });
  return value;
}

RunState counters(const SafeTensors& file, const std::string& origin) {
  return {
      .epoch = number(file, "epoch", 0, origin),
      .iteration = number(file, "iteration", int64_t{0}, origin),
      .best = number(file, "best", -1.0, origin),
      .best_epoch = number(file, "best_epoch", 0, origin),
      .threads = number(file, "threads", 0, origin),
      .rollbacks = file.metadata.contains("rollbacks") ? number(file, "rollbacks", 0, origin) : 0};
}

}  // namespace

void save_state(const std::filesystem::path& path, Learner& learner, const RunState& state) {
  SafeTensors file;
  file.metadata = {
      {"epoch", std::to_string(state.epoch)},     {"iteration", std::to_string(state.iteration)},
      {"best", number_text(state.best)},          {"best_epoch", std::to_string(state.best_epoch)},
      {"threads", std::to_string(state.threads)}, {"rollbacks", std::to_string(state.rollbacks)}};
  models::store(learner.model, kModel, file);
  for (const auto& [name, tensor] : memory_of(learner)) file.tensors[name] = tensor.to(Device{});
  write_safetensors(path, file);
}

RunState load_state(const std::filesystem::path& path, Learner& learner) {
  const SafeTensors file = read_safetensors(path);
  const RunState state = counters(file, path.string());
  for (const auto& named : memory_of(learner)) {
    const Tensor& tensor = named.second;
    const auto it = file.tensors.find(named.first);
    require(it != file.tensors.end() && it->second.shape() == tensor.shape() &&
                it->second.dtype() == tensor.dtype(),
            [&] {
              return text(path.string(), ": ", named.first, " must be ", name_of(tensor.dtype()),
                          " ", tensor.shape().str());
            });
    tensor.copy_from(it->second);
  }
  models::restore(learner.model, kModel, file, path.string());
  return state;
}

std::optional<RunState> peek_state(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return std::nullopt;
  return counters(read_safetensors(path), path.string());
}

}  // namespace moat::train
