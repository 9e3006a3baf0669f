#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/tensor.h"

namespace moat::engine {

enum class Role { parameter, buffer };  // trained | kept (running statistics, normaliser)

class Module;

// Walks a module's tensors with their dotted names, as PyTorch would name them.
class Visitor {
 public:
  using OnTensor = std::function<void(const std::string& name, Tensor& value, Role role)>;
  explicit Visitor(OnTensor on_tensor) : on_tensor_(std::move(on_tensor)) {}

  void parameter(const std::string& name, Tensor& value) { visit(name, value, Role::parameter); }
  void buffer(const std::string& name, Tensor& value) { visit(name, value, Role::buffer); }
  void child(const std::string& name, Module& module);

 private:
  void visit(const std::string& name, Tensor& value, Role role) {
    if (value.defined()) on_tensor_(prefix_ + name, value, role);
  }
  OnTensor on_tensor_;
  std::string prefix_;
};

// A plain struct that lists its members once, in visit(); parameters, save, load and count derive
// from it. Move-only: a copy would share weights.
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(Module&&) = default;
  Module& operator=(Module&&) = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  virtual void visit(Visitor& visitor) = 0;
};

struct NamedTensor {
  std::string name;
  Tensor* value;
  Role role;
};
std::vector<NamedTensor> state_of(Module& module);  // everything a file holds, in visit() order
std::vector<NamedTensor> parameters_of(Module& module);  // what an optimizer trains
int64_t count_parameters(Module& module);
void move_to(Module& module, Device device);  // all of its tensors

// A hash of every parameter and buffer: equal before and after an attack, or the attack is broken.
uint64_t fingerprint(Module& module);

}  // namespace moat::engine
