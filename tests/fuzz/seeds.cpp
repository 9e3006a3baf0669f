// fuzz_seeds FOLDER: for each reader valid files, as small as they can be, in FOLDER/<reader>.
#include <nlohmann/json.hpp>

#include "data/converted.h"
#include "data/png.h"
#include "data/synthetic.h"
#include "engine/io/file.h"
#include "models/checkpoint.h"
#include "tests/fuzz/halves.h"
#include "tests/fuzz/reader.h"
#include "tests/fuzz/tiny_mixture.h"
#include "tests/image_bytes.h"
#include "tests/report_fixture.h"
#include "train/certify/certification_state.h"
#include "train/run_state.h"

namespace {

using namespace moat;
namespace fs = std::filesystem;

std::string safetensors_bytes(const engine::SafeTensors& content) {
  const fs::path file = fuzz::folder() / "x";
  engine::write_safetensors(file, content);
  return engine::read_file(file);
}

void write_models(const fs::path& root) {
  train::Learner learner(fuzz::tiny_mixture(), 1);
  models::ClassifierSettings dense = fuzz::tiny_mixture();
  dense.experts = 1;
  dense.ratio = 1;
  models::Classifier plain(dense, 1);
  fuzz::put(root / "checkpoint/dense", safetensors_bytes(models::to_file(plain, {})));
  const std::string mixture = safetensors_bytes(models::to_file(learner.model, {}));
  fuzz::put(root / "checkpoint/mixture", mixture);
  fuzz::put(root / "names/mixture", mixture);
  fuzz::put(root / "architecture/dense", models::architecture_json(dense));
  models::ClassifierSettings transformer = dense;
  transformer.family = models::Family::vit;
  transformer.transformer.moe.blocks = {0};
  fuzz::put(root / "architecture/transformer", models::architecture_json(transformer));
  fuzz::put(root / "architecture/dual",
            models::architecture_json(
                models::dual_of("dual", {.standard = dense, .robust = fuzz::tiny_mixture()})));
  fuzz::put(root / "architecture/mixture", models::architecture_json(fuzz::tiny_mixture()));
  train::save_state(fuzz::folder() / "state", learner, {.epoch = 1, .iteration = 7, .threads = 2});
  fuzz::put(root / "resume/state", '\0' + engine::read_file(fuzz::folder() / "state"));
  fuzz::put(root / "resume/config",
            "\1{\"model\":{\"name\":\"resnet20\"},\"train\":{\"epochs\":3},\"tool\":{\"x\":[1]}}");
  fuzz::put(root / "resume/metrics", '\2' + tests::metrics_text());
  fuzz::put(root / "resume/events", "\3{\"event\":\"start\"}\n{\"eve");
}

// Halves of an evaluation and of a certification.
void write_halves(const fs::path& root) {
  const fuzz::Scene scene;
  attacks::ProtocolRun run = scene.run();
  for (int batch = 0; batch < 3; ++batch) run.run_batch();
  fuzz::put(root / "saved_state/evaluation",
            '\0' + safetensors_bytes({.tensors = run.state(), .metadata = {}}));
  train::Certification half = train::certify(scene.model, scene.set, {.sampled_images = 1});
  half.resisted = {1};
  fuzz::put(root / "saved_state/certification",
            '\1' + safetensors_bytes({.tensors = train::tensors_of(half), .metadata = {}}));
}

void write_tensors(const fs::path& root) {
  engine::SafeTensors all;
  all.metadata["a"] = "b";
  for (const auto dtype : {engine::Dtype::f64, engine::Dtype::f32, engine::Dtype::bf16,
                           engine::Dtype::i64, engine::Dtype::i32, engine::Dtype::u8})
    all.tensors[engine::name_of(dtype)] = engine::Tensor::zeros({1, 2}, dtype);
  fuzz::put(root / "safetensors/all", safetensors_bytes(all));
}

// Sixteen pixels a side.
std::string jpeg_of(J_COLOR_SPACE space, tests::JpegForm form = {}) {
  const auto bytes =
      tests::jpeg_of(tests::ramp(16, 16, space == JCS_GRAYSCALE ? 1 : 3), space, form);
  return fuzz::file_of(bytes.data(), bytes.size());
}

void write_pictures(const fs::path& root) {
  const std::vector<uint8_t> pixels{0, 1, 2, 3, 250, 251, 252, 253, 9, 99, 199, 255};
  for (int channels = 1; channels <= 4; ++channels) {
    const int width = 3 / channels + (channels == 4), height = 12 / channels / width;
    const auto png = data::encode_png(width, height, channels, pixels);
    fuzz::put(root / "png" / std::to_string(channels), fuzz::file_of(png.data(), png.size()));
  }
  fuzz::put(root / "jpeg/gray", jpeg_of(JCS_GRAYSCALE));
  fuzz::put(root / "jpeg/colour", jpeg_of(JCS_RGB));
  fuzz::put(root / "jpeg/progressive", jpeg_of(JCS_RGB, {.progressive = true}));
  fuzz::put(root / "cifar/record", '\4' + std::string("cat\n\3") + std::string(3072, '\7'));
}

void write_sets(const fs::path& root) {
  const fs::path file = fuzz::folder() / "set.moatset";
  std::vector<data::Source> splits;
  for (const data::Split split : {data::Split::train, data::Split::validation, data::Split::test})
    splits.push_back({data::synthetic({.rows = 1, .height = 1, .width = 2}, split)});
  data::write_converted(file, splits, [](int64_t, int64_t) {});
  fuzz::put(root / "converted/three", engine::read_file(file));
  fuzz::put(root / "tiny_imagenet/one", "\3\6n1\nn1\tox\nval_0.JPEG\tn1\t0\t0\t1\t1\n");
}

void write_run(const fs::path& root) {
  const fs::path run = fuzz::folder() / "run", evaluation = run / "eval/pgd-50@1";
  tests::write_run(run);
  tests::write_certificate(run / "certificate");
  int number = 0;  // as the target numbers them
  for (const fs::path& file :
       {run / "config.json", run / "metrics.csv", run / "events.jsonl", evaluation / "report.json",
        evaluation / "per_sample.csv", evaluation / "adversarial.safetensors",
        run / "certificate" / "certificate.json", run / "certificate" / "radii.csv"})
    fuzz::put(root / "report" / file.filename(),
              static_cast<char>(number++) + tests::text_of(file));
  fuzz::put(root / "config/demo", train::to_json(train::preset("demo-moe")).dump());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  write_models(argv[1]);
  write_halves(argv[1]);
  write_tensors(argv[1]);
  write_pictures(argv[1]);
  write_sets(argv[1]);
  write_run(argv[1]);
}
