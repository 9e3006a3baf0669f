#pragma once

#include <initializer_list>

#include "attacks/objective.h"
#include "engine/ops/keep_worst.h"

namespace moat::attacks {

// What every evaluation attack returns.
struct AttackResult {
  engine::Tensor
      adversarial;  // [n, h, w, c]: the first misclassified point, else that of most loss
  std::vector<int> fooled_at;  // number of the point that was misclassified first, counted through
                               // all the attack looked at from 0; -1 when none was
  int64_t forwards = 0, backwards = 0;  // images
};

// Asks the model about points of an attack that asked nobody: who is misclassified there was fooled
// at this number.
void judge(const Model& model, const Victims& victims, int number, AttackResult& points);

// The images of a batch that an attack has not fooled yet. On a GPU some fooled ones stay as
// company
// (`rounded_up`), and what is found for them is ignored.
class Survivors {
 public:
  // Begins with those that `worst` of all the images calls not fooled.
  Survivors(const Victims& all, const engine::WorstPoints& worst);

  const Victims& victims() const { return victims_; }
  const engine::Tensor& rows() const { return rows_; }  // int32 [n], of all the images
  int64_t size() const { return victims_.size(); }

  // Looks at a point of each victim and remembers the worst. Fooled images leave when they are a
  // sixteenth, or have cost as much as two looks at all (a smaller batch is another shape, which
  // oneDNN has to prepare for), and their rows leave the attack's `state` (tensors [n, …];
  // undefined ones are passed by).
  void look(const engine::Tensor& points, const Probe& probe, int number,
            std::initializer_list<engine::Tensor*> state);

 private:
  engine::WorstPoints worst_;
  engine::Tensor labels_;  // of all the images
  Victims victims_;
  engine::Tensor rows_;
  int64_t idle_ = 0;  // looks at fooled images since some left
};

}  // namespace moat::attacks
