#pragma once

#include <map>
#include <string>
#include <vector>

#include "attacks/protocol.h"

namespace moat::attacks {

struct SampleResult {
  int clean_prediction = -1, adversarial_prediction = -1;
  int fooled_by = -1;       // index into Protocol::attacks, -1: robust, or misclassified clean
  int iteration = -1;       // iterate that fooled it first
  float margin = 0;         // max_{i≠y} z_i - z_y at the adversarial point
  double linf = 0, l2 = 0;  // its distance
  int clean_route = -1, adversarial_route = -1;
  std::vector<bool> resisted;  // per attack; false for one that was not run on the image
  bool is_correct(int label) const { return clean_prediction == label; }
  bool is_robust(int label) const { return is_correct(label) && fooled_by < 0; }
};

// By one attack of a protocol.
struct Spent {
  int64_t forwards = 0, backwards = 0;  // images
  double seconds = 0;
};

struct ProtocolResult {
  std::vector<SampleResult> samples;
  std::vector<Spent> spent;    // per attack
  engine::Tensor adversarial;  // the worst point of each image; the image itself if wrong clean
  int64_t forwards = 0, backwards = 0;  // images
};

// A protocol on a set of images, in steps of a batch: first the clean predictions, then attack
// after attack on the images it is for, packed into full batches, at last the verdict on the worst
// points. The result of an image does not depend on the batch it is in, nor on where a run was
// interrupted.
class ProtocolRun {
 public:
  // The set lies on the CPU; batches are moved to `device`.
  ProtocolRun(Model model, Victims set, Protocol protocol, int64_t batch,
              engine::Device device = {});

  bool is_done() const { return stage_ > verdict_stage(); }
  bool is_attacking() const { return stage_ < verdict_stage(); }  // or before
  // Nothing is judged yet, so that state() holds all that was found.
  bool is_before_verdict() const { return is_attacking() || (!is_done() && done_ == 0); }
  void run_batch();

  const Protocol& protocol() const { return protocol_; }
  const Victims& victims() const { return set_; }
  const ProtocolResult& result() const { return result_; }
  // -1: clean predictions; then an index into the protocol's attacks; then the verdict.
  int stage() const { return stage_; }
  int64_t images_of_stage() const { return static_cast<int64_t>(rows_.size()); }
  int64_t images_done() const { return done_; }  // of the stage
  int64_t passes_done() const { return result_.forwards + result_.backwards; }
  // An estimate: images that resist so far resist to the end, and each costs what the images of the
  // stage cost so far, or the most where none is known.
  int64_t passes_left() const;
  int64_t count_correct() const;
  int64_t count_robust() const;  // so far

  // What is known before the verdict, and where the run stands: all that another run of the same
  // model, set and protocol needs to go on from here, with batches of any size.
  std::map<std::string, engine::Tensor> state() const;
  // Throws when it is not of as many images and attacks.
  void restore(const std::map<std::string, engine::Tensor>& state);

 private:
  int verdict_stage() const { return static_cast<int>(protocol_.attacks.size()); }
  std::vector<int32_t> rows_of_stage() const;
  void predict_clean(const Victims& some, const std::vector<int32_t>& rows);
  void attack(const Victims& some, const std::vector<int32_t>& rows,
              const std::vector<int32_t>& with_company);
  void judge(const Victims& some, const std::vector<int32_t>& rows);
  void keep_point(int32_t row, const engine::Tensor& points, int64_t from);

  Model model_;
  Victims set_;
  Protocol protocol_;
  int64_t batch_;
  engine::Device device_;
  ProtocolResult result_;
  std::vector<int32_t> labels_;
  int stage_ = -1;
  std::vector<int32_t> rows_;  // the images of the stage, fixed when it begins
  int64_t done_ = 0;           // of them
  // Since the stage began, or since the run was continued within it.
  int64_t images_seen_ = 0, passes_before_ = 0;
};

// All of it, in one batch, where the victims are.
ProtocolResult run_protocol(const Model& model, const Victims& victims, const Protocol& protocol);

}  // namespace moat::attacks
