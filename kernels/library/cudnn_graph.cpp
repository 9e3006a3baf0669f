#include "kernels/library/cudnn_graph.h"

#include <algorithm>
#include <string>

#include "kernels/library/libraries.h"

namespace moat::kernels::cudnn {

namespace {

bool succeeded(cudnnStatus_t status) { return status == CUDNN_STATUS_SUCCESS; }

int64_t number(const Descriptor& of, cudnnBackendAttributeName_t name) {
  int64_t value = 0, count = 0;
  return succeeded(cudnnBackendGetAttribute(of.get(), name, CUDNN_TYPE_INT64, 1, &count, &value)) &&
                 count == 1
             ? value
             : -1;
}

// The attribute's descriptors of a type, at most `most`, filled by cuDNN.
std::vector<Descriptor> parts(const Descriptor& of, cudnnBackendAttributeName_t name,
                              cudnnBackendDescriptorType_t type, int64_t most) {
  std::vector<Descriptor> out;
  std::vector<cudnnBackendDescriptor_t> handles;
  for (int64_t i = 0; i < most; ++i) {
    out.emplace_back(type);
    if (!out.back().ok()) return {};
    handles.push_back(out.back().get());
  }
  int64_t count = 0;
  if (most == 0 ||
      !succeeded(cudnnBackendGetAttribute(of.get(), name, CUDNN_TYPE_BACKEND_DESCRIPTOR, most,
                                          &count, handles.data())))
    return {};
  out.erase(out.begin() + std::min(count, most), out.end());
  return out;
}

// The configurations that a heuristic found, the best first.
std::vector<Descriptor> configurations(const Descriptor& heuristic) {
  int64_t count = 0;
  if (!succeeded(cudnnBackendGetAttribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                          CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr)))
    return {};
  return parts(heuristic, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, count);
}

Descriptor engine_of(const Descriptor& config) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  cudnnBackendDescriptor_t handle = engine.get();
  int64_t count = 0;
  engine.require(
      succeeded(cudnnBackendGetAttribute(config.get(), CUDNN_ATTR_ENGINECFG_ENGINE,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count, &handle)));
  return engine;
}

bool keeps_to(const Descriptor& engine, Arithmetic arithmetic) {
  std::array<cudnnBackendNumericalNote_t, CUDNN_NUMERICAL_NOTE_TYPE_COUNT> notes{};
  int64_t count = 0;
  if (!succeeded(cudnnBackendGetAttribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                          CUDNN_TYPE_NUMERICAL_NOTE, std::ssize(notes), &count,
                                          notes.data())))
    return false;
  return std::none_of(notes.begin(), notes.begin() + count, [&](cudnnBackendNumericalNote_t note) {
    switch (note) {
      case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
      case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        return arithmetic == Arithmetic::exact;
      case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP:
        return false;
      default:  // nondeterministic, reduced sums, Fourier, Winograd
        return true;
    }
  });
}

std::optional<EngineChoice> read_choice(const Descriptor& config, const Descriptor& engine) {
  EngineChoice choice{.engine = number(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX), .knobs = {}};
  if (choice.engine < 0) return std::nullopt;
  // cuDNN counts heuristics' results when asked for none, but says 0 of knobs.
  for (const Descriptor& knob :
       parts(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR,
             CUDNN_KNOB_TYPE_COUNTS)) {
    cudnnBackendKnobType_t type{};
    int64_t count = 0;
    if (!succeeded(cudnnBackendGetAttribute(knob.get(), CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE,
                                            CUDNN_TYPE_KNOB_TYPE, 1, &count, &type)))
      return std::nullopt;
    choice.knobs.emplace_back(type, number(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE));
  }
  return choice;
}

}  // namespace

Descriptor::Descriptor(cudnnBackendDescriptorType_t type) {
  cudnnBackendDescriptor_t made = nullptr;
  ok_ = succeeded(cudnnBackendCreateDescriptor(type, &made));
  if (ok_) handle_ = {made, [](void* descriptor) { cudnnBackendDestroyDescriptor(descriptor); }};
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                            int64_t count, const void* values) {
  ok_ = ok_ && succeeded(cudnnBackendSetAttribute(get(), name, type, count, values));
  return *this;
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, const Descriptor& value) {
  return set(name, std::vector<Descriptor>{value});
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name,
                            const std::vector<Descriptor>& values) {
  std::vector<cudnnBackendDescriptor_t> handles;
  for (const Descriptor& value : values) {
    ok_ &= value.ok();
    handles.push_back(value.get());
  }
  return set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, std::ssize(handles), handles.data());
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, int64_t value) {
  return set(name, CUDNN_TYPE_INT64, 1, &value);
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, const std::vector<int64_t>& values) {
  return set(name, CUDNN_TYPE_INT64, std::ssize(values), values.data());
}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t name, cudnnDataType_t value) {
  return set(name, CUDNN_TYPE_DATA_TYPE, 1, &value);
}

Descriptor& Descriptor::finalize() {
  ok_ = ok_ && succeeded(cudnnBackendFinalize(get()));
  return *this;
}

void Descriptor::require(bool succeeded) { ok_ &= succeeded; }

Descriptor tensor(int64_t id, const std::array<int64_t, 4>& nchw, cudnnDataType_t type,
                  int64_t alignment, Memory memory) {
  const auto [n, c, h, w] = nchw;
  const bool is_virtual = memory == Memory::virtual_;
  const int64_t value_bytes = type == CUDNN_DATA_BFLOAT16 ? 2 : 4;
  Descriptor made(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  made.set(CUDNN_ATTR_TENSOR_DATA_TYPE, type)
      .set(CUDNN_ATTR_TENSOR_DIMENSIONS, {n, c, h, w})
      .set(CUDNN_ATTR_TENSOR_STRIDES, {h * w * c, 1, w * c, c})
      .set(CUDNN_ATTR_TENSOR_UNIQUE_ID, id)
      .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, std::max(alignment, value_bytes))
      .set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
  return made.finalize();
}

Descriptor graph(cudnnHandle_t handle, const std::vector<Descriptor>& operations) {
  Descriptor made(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
  made.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, operations)
      .set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
  return made.finalize();
}

std::optional<PlannedChoice> choose(cudnnHandle_t handle, const Descriptor& graph,
                                    Arithmetic arithmetic, int64_t most_workspace) {
  if (!graph.ok()) return std::nullopt;
  for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
    Descriptor heuristic(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph)
        .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode)
        .finalize();
    if (!heuristic.ok()) continue;
    for (const Descriptor& config : configurations(heuristic)) {
      const Descriptor engine = engine_of(config);
      if (!engine.ok() || !keeps_to(engine, arithmetic)) continue;
      const auto choice = read_choice(config, engine);
      if (!choice) continue;
      const auto plan = plan_of(handle, graph, *choice);
      if (plan && plan->workspace_bytes <= most_workspace) return PlannedChoice{*choice, *plan};
    }
  }
  return std::nullopt;
}

std::optional<Plan> plan_of(cudnnHandle_t handle, const Descriptor& graph,
                            const EngineChoice& choice) {
  Descriptor engine(CUDNN_BACKEND_ENGINE_DESCRIPTOR);
  engine.set(CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph)
      .set(CUDNN_ATTR_ENGINE_GLOBAL_INDEX, choice.engine)
      .finalize();
  std::vector<Descriptor> knobs;
  for (const auto& [type, value] : choice.knobs) {
    Descriptor knob(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    knob.set(CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type)
        .set(CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, value);
    knobs.push_back(knob.finalize());
  }
  Descriptor config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
  config.set(CUDNN_ATTR_ENGINECFG_ENGINE, engine);
  if (!knobs.empty()) config.set(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, knobs);
  config.finalize();
  Descriptor made(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  made.set(CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle)
      .set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config)
      .finalize();
  if (!made.ok()) return std::nullopt;
  const int64_t bytes = number(made, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
  if (bytes < 0) return std::nullopt;
  return Plan{made, bytes};
}

}  // namespace moat::kernels::cudnn

namespace moat::kernels {

std::string cudnn_version() {
  const size_t version = cudnnGetVersion();  // 91400 for 9.14.0
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace moat::kernels
