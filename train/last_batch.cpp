#include "train/last_batch.h"

#include "engine/error.h"
#include "models/classifier.h"

namespace moat::train {

using namespace engine;

namespace {

bool trains_on_one_image(const models::ClassifierSettings& settings, const std::string& update) {
  models::Classifier model(settings, 0);
  if (update == "experts") model.freeze(models::Part::router);
  if (update == "router") model.freeze(models::Part::experts);
  try {
    model.forward(Tensor::zeros({1, settings.height, settings.width, settings.channels}),
                  Mode::train);
  } catch (const Error&) {
    return false;
  }
  return true;
}

}  // namespace

void require_batch_statistics(const TrainSettings& train, const models::ClassifierSettings& model,
                              int64_t images) {
  const bool is_single = images % train.batch == 1 || train.batch == 1;
  if (!is_single || train.batch_norm == "running" || trains_on_one_image(model, train.update))
    return;
  throw UsageError(text("train.batch = ", train.batch, " leaves a batch of a single image of ",
                        images, ", of which a batch norm of ", model.name,
                        " has no statistics; choose another train.batch or data.limit"));
}

}  // namespace moat::train
