// The library in thirty lines: a small convolutional net learns the bundled digits from its own
// adversarial examples, and PGD-50 then tries to fool it.
#include <algorithm>
#include <iostream>

#include "attacks/pgd.h"
#include "data/digits.h"
#include "engine/nn/init.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/linalg.h"
#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/ops/vision.h"
#include "engine/optim/flat.h"

int main() {
  using namespace moat;
  using namespace moat::engine;

  InitStream init{.seed = 1};
  Tensor filter = init_normal({16, 3, 3, 1}, 0.3, init);  // [c_out, height, width, c_in]
  Tensor weight = init_normal({10, 256}, 0.05, init), bias = Tensor::zeros({10});
  FlatParameters parameters({{"filter", &filter, Role::parameter},
                             {"weight", &weight, Role::parameter},
                             {"bias", &bias, Role::parameter}});

  const auto logits = [&](const Tensor& images) {  // [n, 8, 8, 1] -> [n, 10]
    const Tensor maps = relu(conv2d(images, filter, {.padding = 1}));
    return linear(reshape(max_pool2d(maps, 2, 2, 0), {-1, 256}), weight, bias);
  };
  const attacks::Model model{[&](const Tensor& x, attacks::Gate) -> attacks::Outputs {
    return {logits(x), {}};
  }};

  attacks::Pgd attack{.threat = {Norm::linf, 0.1}, .steps = 3, .step = 0.05};
  attack.keep = attacks::Keep::last;  // training takes the last iterate, evaluation the worst
  const data::Batch train = data::batch_of(data::digits(data::Split::train));
  for (int step = 0; step < 60; ++step) {
    const Tensor x = pgd(model, {train.images, train.labels, train.ids, {}}, attack).adversarial;
    Tape tape;
    parameters.watch(tape);
    parameters.collect(tape.gradients(mean(cross_entropy(logits(x), train.labels))));
    parameters.step({.lr = 0.3, .momentum = 0.9});
  }

  attack = {.threat = attack.threat, .steps = 50, .step = 0.025};
  const data::Batch test = data::batch_of(data::digits(data::Split::test));
  const auto fooled = pgd(model, {test.images, test.labels, test.ids, {}}, attack).fooled_at;
  const auto robust = std::count(fooled.begin(), fooled.end(), -1);
  std::cout << robust << " of " << test.size() << " test images resist PGD-50 at eps 0.1\n";
  return robust > test.size() / 2 ? 0 : 1;
}
