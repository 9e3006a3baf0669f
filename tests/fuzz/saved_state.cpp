// What an evaluation (first byte even) or a certification (odd) goes on from.
#include "train/saved_state.h"

#include "tests/fuzz/halves.h"
#include "tests/fuzz/reader.h"
#include "train/certify/certification_state.h"
#include "train/evaluation_report.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  if (size == 0) return 0;
  static fuzz::Scene scene;
  const auto file = fuzz::folder() / "state";
  fuzz::put(file, fuzz::file_of(bytes + 1, size - 1));
  train::SavedState state(file, {});
  return fuzz::may_refuse([&] {
    if (bytes[0] % 2) {
      train::certify(scene.model, scene.set, {.sampled_images = 1, .state = &state});
      return;
    }
    attacks::ProtocolRun run = scene.run();
    state.restore([&](const train::SavedState::Tensors& found) { run.restore(found); });
    while (!run.is_done()) run.run_batch();
    const attacks::ProtocolResult& found = run.result();
    const train::Evaluation e{.protocol = run.protocol(),
                              .samples = found.samples,
                              .spent = found.spent,
                              .adversarial = found.adversarial,
                              .forwards = found.forwards,
                              .backwards = found.backwards,
                              .seconds = state.seconds()};
    train::write_evaluation(e,
                            {.model = scene.model,
                             .file = "",
                             .sha256 = "",
                             .selected_on = "none",
                             .set = scene.set,
                             .threat = {.eps = 0.1},
                             .batch = 2,
                             .checks = 0,
                             .seed = 1},
                            fuzz::folder());
  });
}
