// A run that is resumed: the first byte says which file of its folder holds the rest.
#include "tests/fuzz/reader.h"
#include "tests/fuzz/tiny_mixture.h"
#include "train/run_folder.h"
#include "train/run_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  if (size == 0) return 0;
  static train::Learner learner(fuzz::tiny_mixture(), 1);
  static const std::string valid = R"({"model":{"name":"resnet20"},"train":{"epochs":3}})";
  const train::RunFolder run(fuzz::folder());
  std::filesystem::remove_all(run.state());
  fuzz::put(run.config(), valid);
  const std::string rest = fuzz::file_of(bytes + 1, size - 1);
  const auto open = [&] {
    train::Config config;
    config.run.dir = run.root();
    train::open_run(config, valid, train::Resume::automatic);
  };
  switch (bytes[0] % 4) {
    case 0:
      fuzz::put(run.state(), rest);
      fuzz::may_refuse(open);
      return fuzz::may_refuse([&] { train::load_state(run.state(), learner); });
    case 1:
      fuzz::put(run.config(), rest);
      return fuzz::may_refuse(open);
    case 2:
      fuzz::put(run.metrics(), rest);
      return fuzz::may_refuse([&] { train::MetricsLog(run.metrics(), 1); });
    default:
      fuzz::put(run.events(), rest);
      return fuzz::may_refuse([&] { train::EventLog log(run.events()); });
  }
}
