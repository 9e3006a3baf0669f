// A program of its own: a mixture of experts from the zoo learns the digits, and PGD attacks it.
#include <algorithm>
#include <iostream>

#include "data/digits.h"
#include "models/zoo.h"
#include "train/methods.h"
#include "train/objective.h"

int main() {
  using namespace moat;
  models::ClassifierSettings model = models::find_model("digits-moe-resnet").settings;
  model.height = model.width = 8;
  model.channels = 1;
  train::Learner learner(model, /*seed=*/1);

  const data::ImageSet images = data::first_rows(data::digits(data::Split::train), 128);
  const data::Batch batch = data::batch_of(images);
  const train::TrainSettings settings;
  for (int step = 0; step < 40; ++step)
    train::natural_step(learner, batch,
                        {.train = settings, .iteration = step, .learning_rate = 0.1});

  const attacks::Pgd attack{.threat = {engine::Norm::linf, 0.1}, .steps = 10, .step = 0.025};
  const auto fooled = attacks::pgd(train::attack_model(learner.model),
                                   {batch.images, batch.labels, batch.ids, {}}, attack)
                          .fooled_at;
  const auto correct = batch.size() - std::count(fooled.begin(), fooled.end(), 0);
  const auto robust = std::count(fooled.begin(), fooled.end(), -1);
  std::cout << correct << " of " << batch.size() << " images are right at the start of PGD-10, "
            << robust << " at its end\n";
  return correct > batch.size() / 2 && robust < correct ? 0 : 1;
}
