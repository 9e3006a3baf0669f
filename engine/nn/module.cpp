#include "engine/nn/module.h"

namespace moat::engine {

void Visitor::child(const std::string& name, Module& module) {
  const std::string outer = prefix_;
  prefix_ += name + ".";
  module.visit(*this);
  prefix_ = outer;
}

std::vector<NamedTensor> state_of(Module& module) {
  std::vector<NamedTensor> out;
  Visitor visitor([&](const std::string& name, Tensor& value, Role role) {
    out.push_back({name, &value, role});
  });
  module.visit(visitor);
  return out;
}

std::vector<NamedTensor> parameters_of(Module& module) {
  std::vector<NamedTensor> out;
  for (const NamedTensor& t : state_of(module))
    if (t.role == Role::parameter) out.push_back(t);
  return out;
}

int64_t count_parameters(Module& module) {
  int64_t n = 0;
  for (const NamedTensor& t : parameters_of(module)) n += t.value->size();
  return n;
}

void move_to(Module& module, Device device) {
  for (const NamedTensor& t : state_of(module)) *t.value = t.value->to(device);
}

uint64_t fingerprint(Module& module) {
  uint64_t hash = 1469598103934665603u;  // FNV-1a
  for (const NamedTensor& t : state_of(module)) {
    const Tensor host = t.value->to(Device{}).contiguous();
    const auto* bytes = static_cast<const unsigned char*>(host.data());
    for (size_t i = 0; i < host.nbytes(); ++i) hash = (hash ^ bytes[i]) * 1099511628211u;
  }
  return hash;
}

}  // namespace moat::engine
