#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/session.h"
#include "engine/io/safetensors.h"
#include "engine/ops/loss.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"
#include "train/token_room.h"

namespace moat::cli {

using namespace engine;
namespace fs = std::filesystem;

namespace {

struct PredictOptions {
  SubjectOptions subject;
  std::string input, output;
  bool gradients = false;
  int batch = 256;
};

struct Input {
  Tensor images;  // NHWC
  Tensor labels;  // int32; undefined without
};

Input read_input(const std::string& path, const models::ClassifierSettings& s, bool needs_labels) {
  const SafeTensors file = read_safetensors(path);
  const auto images = file.tensors.find("images"), labels = file.tensors.find("labels");
  require(images != file.tensors.end() && images->second.dtype() == Dtype::f32 &&
              images->second.rank() == 4 && images->second.dim(1) == s.channels &&
              images->second.dim(2) == s.height && images->second.dim(3) == s.width,
          [&] {
            return text(path, ": 'images' must be float32 [n, ", s.channels, ", ", s.height, ", ",
                        s.width, "], got ",
                        images == file.tensors.end() ? "none"
                                                     : text(name_of(images->second.dtype()), " ",
                                                            images->second.shape().str()));
          });
  const float* pixels = images->second.data_as<float>();
  require(
      std::all_of(pixels, pixels + images->second.size(), [](float p) { return p >= 0 && p <= 1; }),
      [&] { return path + ": pixels must lie in [0, 1]; the model normalises them itself"; });
  Input input{nhwc_from_nchw(images->second), {}};
  if (!needs_labels) return input;
  const int64_t n = images->second.dim(0);
  require(labels != file.tensors.end() && labels->second.dtype() == Dtype::i64 &&
              labels->second.shape() == Shape{n},
          [&] { return text(path, ": --gradients needs 'labels', int64 [", n, "]"); });
  const int64_t* y = labels->second.data_as<int64_t>();
  require(std::all_of(y, y + n, [&](int64_t label) { return label >= 0 && label < s.classes; }),
          [&] { return text(path, ": labels must be from 0 to ", s.classes - 1); });
  input.labels = labels->second.to(Dtype::i32);
  return input;
}

void predict_command(const PredictOptions& options, const Globals& globals) {
  if (options.batch < 1) throw UsageError(text("--batch must be at least 1, got ", options.batch));
  require_new_file(options.output);
  const Subject subject = open_subject(options.subject, globals);
  const models::Classifier& model = subject.loaded.model;
  if (!globals.quiet) warn(train::company_warning(model.settings()));
  const Input input = read_input(options.input, model.settings(), options.gradients);
  Tensors logits, routes, gradients;
  const int64_t n = input.images.dim(0);
  for (int64_t from = 0; from < n; from += options.batch) {
    const int64_t to = std::min<int64_t>(n, from + options.batch);
    Tape tape;
    const Tensor x = tape.watch(input.images.sliced(0, from, to).contiguous().to(model.device()));
    const models::Prediction p = model.forward(x, Mode::eval);
    logits.push_back(p.logits.detached().to(Device{}));
    if (p.experts.defined()) routes.push_back(p.experts.to(Device{}));
    if (!options.gradients) continue;
    const Tensor labels = input.labels.sliced(0, from, to).to(model.device());
    const Tensor loss = cross_entropy(p.logits, labels);
    const Tensor ones = Tensor::full(loss.shape(), 1, loss.dtype(), loss.device());
    gradients.push_back(tape.gradients(loss, ones).of(x).to(Device{}));
  }
  require(n > 0, [&] { return options.input + ": 'images' must hold at least one image"; });
  SafeTensors file;
  file.tensors["logits"] = concat(logits, 0);
  if (!routes.empty()) file.tensors["routes"] = concat(routes, 0);
  if (options.gradients) file.tensors["gradient"] = nchw_from_nhwc(concat(gradients, 0));
  write_safetensors(options.output, file);
  print(globals,
        {{"images", n}, {"moe", train::moe_json(model.settings())}, {"out", options.output}},
        text("predicted ", n, " images: ", options.output, "\n"));
}

}  // namespace

void add_predict(CLI::App& app, Globals& globals) {
  const auto o = std::make_shared<PredictOptions>();
  CLI::App& command = add_command(
      app, globals,
      {"predict", "logits, routes and pixel gradients of given images, for cross-checking",
       "moat predict runs/digits-at-1 --input X.safetensors --out Y.safetensors --gradients"},
      [o, &globals] { predict_command(*o, globals); });
  add_subject_options(command, o->subject);
  command
      .add_option("--input", o->input, "safetensors: images [n,c,h,w] in [0,1], labels int64 [n]")
      ->required();
  command.add_option("--out", o->output, "safetensors to write")->required();
  command.add_flag("--gradients", o->gradients,
                   "also the gradient of the summed cross-entropy, through the gate");
  command.add_option("--batch", o->batch, "images at a time");
}

}  // namespace moat::cli
