#include "attacks/protocol_run.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

#include "engine/ops/loss.h"
#include "engine/ops/reduce.h"
#include "engine/ops/shape.h"
#include "engine/tape.h"

namespace moat::attacks {

using namespace engine;

namespace {

std::vector<int32_t> routes(const Outputs& out) {
  return out.experts.defined() ? out.experts.to_vector<int32_t>() : std::vector<int32_t>{};
}
int route_at(const std::vector<int32_t>& routes, size_t i) {
  return routes.empty() ? -1 : routes[i];
}

int64_t pixels_of(const Tensor& images) {
  return images.dim(0) ? images.size() / images.dim(0) : 0;
}

void measure_distance(const Victims& set, const Tensor& adversarial, int32_t row,
                      SampleResult& to) {
  const int64_t pixels = pixels_of(set.images);
  const float* x = set.images.data_as<float>() + row * pixels;
  const float* y = adversarial.data_as<float>() + row * pixels;
  double largest = 0, squares = 0;
  for (int64_t j = 0; j < pixels; ++j) {
    const double d = std::abs(double(y[j]) - double(x[j]));
    largest = std::max(largest, d);
    squares += d * d;
  }
  to.linf = largest;
  to.l2 = std::sqrt(squares);
}

Victims on(const Victims& v, Device device) {
  const auto moved = [&](const Tensor& t) { return t.defined() ? t.to(device) : t; };
  return {moved(v.images),    moved(v.labels),       moved(v.ids),
          moved(v.reference), moved(v.other_labels), moved(v.weight)};
}

}  // namespace

ProtocolRun::ProtocolRun(Model model, Victims set, Protocol protocol, int64_t batch, Device device)
    : model_(std::move(model)),
      set_(std::move(set)),
      protocol_(std::move(protocol)),
      batch_(batch),
      device_(device) {
  require(batch >= 1, [&] { return text("a batch has at least 1 image, got ", batch); });
  labels_ = set_.labels.to_vector<int32_t>();
  result_.samples.resize(labels_.size());
  for (SampleResult& sample : result_.samples)
    sample.resisted.assign(protocol_.attacks.size(), false);
  result_.spent.resize(protocol_.attacks.size());
  result_.adversarial = set_.images.clone();
  rows_ = rows_of_stage();
}

int64_t ProtocolRun::count_correct() const {
  int64_t count = 0;
  for (size_t i = 0; i < labels_.size(); ++i) count += result_.samples[i].is_correct(labels_[i]);
  return count;
}

int64_t ProtocolRun::count_robust() const {
  int64_t count = 0;
  for (size_t i = 0; i < labels_.size(); ++i) count += result_.samples[i].is_robust(labels_[i]);
  return count;
}

int64_t ProtocolRun::passes_left() const {
  const auto all = static_cast<int64_t>(labels_.size());
  const int64_t correct = stage_ < 0 ? all : count_correct(),
                robust = stage_ < 0 ? all : count_robust();
  // The clean predictions and the verdict.
  double left = stage_ < 0 ? double(2 * all - done_) : double(is_attacking() ? all : all - done_);
  if (is_done()) left = 0;
  for (int a = std::max(stage_, 0); a < verdict_stage(); ++a) {
    const NamedAttack& attack = protocol_.attacks[size_t(a)];
    double images = double(attack.against == Against::correct ? correct : robust);
    auto each = double(most_passes(attack.attack, model_.routes));
    if (a == stage_) {
      images = double(images_of_stage() - done_);
      if (images_seen_ > 0) each = double(passes_done() - passes_before_) / double(images_seen_);
    }
    left += images * each;
  }
  return std::llround(left);
}

std::vector<int32_t> ProtocolRun::rows_of_stage() const {
  const bool is_attack = stage_ >= 0 && stage_ < verdict_stage();
  std::vector<int32_t> rows;
  for (size_t i = 0; i < labels_.size(); ++i) {
    const SampleResult& sample = result_.samples[i];
    if (is_attack && !sample.is_correct(labels_[i])) continue;
    if (is_attack && protocol_.attacks[size_t(stage_)].against == Against::survivors &&
        sample.fooled_by >= 0 && sample.fooled_by < stage_)
      continue;
    rows.push_back(static_cast<int32_t>(i));
  }
  return rows;
}

void ProtocolRun::run_batch() {
  require(!is_done(), "this protocol has been run to its end");
  const auto first = rows_.begin() + done_;
  const std::vector<int32_t> rows(first, first + std::min<int64_t>(batch_, rows_.end() - first));
  if (!rows.empty()) {
    const std::vector<int32_t> with_company = rounded_up(rows, set_.size(), device_);
    const Victims some = on(set_.rows(with_company), device_);
    if (stage_ < 0)
      predict_clean(some, with_company);
    else if (stage_ < verdict_stage())
      attack(some, rows, with_company);
    else
      judge(some, with_company);
  }
  done_ += std::ssize(rows);
  images_seen_ += std::ssize(rows);
  while (done_ == images_of_stage() && !is_done()) {
    ++stage_;
    done_ = images_seen_ = 0;
    passes_before_ = passes_done();
    rows_ = is_done() ? std::vector<int32_t>{} : rows_of_stage();
    if (!rows_.empty()) break;
  }
}

void ProtocolRun::predict_clean(const Victims& some, const std::vector<int32_t>& rows) {
  const NoTapeScope not_recorded;
  const Outputs out = model_.forward(some.images, Gate::blocked);
  result_.forwards += some.size();
  const auto predicted = argmax(out.logits, 1).to_vector<int32_t>(), taken = routes(out);
  for (size_t i = 0; i < rows.size(); ++i) {
    SampleResult& sample = result_.samples[static_cast<size_t>(rows[i])];
    sample.clean_prediction = predicted[i];
    sample.clean_route = route_at(taken, i);
  }
}

void ProtocolRun::keep_point(int32_t row, const Tensor& points, int64_t from) {
  const int64_t pixels = pixels_of(set_.images);
  std::copy_n(points.data_as<float>() + from * pixels, pixels,
              result_.adversarial.data_as<float>() + row * pixels);
}

// Keeps the attack's point where it is the first to succeed, or where nothing has been kept yet.
void ProtocolRun::attack(const Victims& some, const std::vector<int32_t>& rows,
                         const std::vector<int32_t>& with_company) {
  const auto number = static_cast<size_t>(stage_);
  const auto start = std::chrono::steady_clock::now();
  const AttackResult found = run(model_, some, protocol_.attacks[number].attack);
  const Tensor points = found.adversarial.to(Device{});
  result_.forwards += found.forwards;
  result_.backwards += found.backwards;
  Spent& spent = result_.spent[number];
  spent.forwards += found.forwards;
  spent.backwards += found.backwards;
  spent.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (size_t i = 0; i < with_company.size(); ++i) {
    const int32_t row = with_company[i];
    if (!std::binary_search(rows.begin(), rows.end(), row)) continue;
    SampleResult& sample = result_.samples[static_cast<size_t>(row)];
    const int at = found.fooled_at[i];
    sample.resisted[number] = at < 0;
    const bool first_success = at >= 0 && sample.fooled_by < 0;
    if (first_success) {
      sample.fooled_by = stage_;
      sample.iteration = at;
    }
    if (first_success || (number == 0 && at < 0)) keep_point(row, points, static_cast<int64_t>(i));
  }
}

void ProtocolRun::judge(const Victims& some, const std::vector<int32_t>& rows) {
  const NoTapeScope not_recorded;
  const Tensor at = index_of(rows);
  const Outputs out =
      model_.forward(gather_rows(result_.adversarial, at).to(device_), Gate::blocked);
  result_.forwards += some.size();
  const auto predicted = argmax(out.logits, 1).to_vector<int32_t>(), taken = routes(out);
  const auto margins = margin(out.logits, some.labels).to_vector<float>();
  for (size_t i = 0; i < rows.size(); ++i) {
    SampleResult& sample = result_.samples[static_cast<size_t>(rows[i])];
    sample.adversarial_prediction = predicted[i];
    sample.adversarial_route = route_at(taken, i);
    sample.margin = margins[i];
    measure_distance(set_, result_.adversarial, rows[i], sample);
  }
}

ProtocolResult run_protocol(const Model& model, const Victims& victims, const Protocol& protocol) {
  const Device device = victims.images.device();
  ProtocolRun run(model, on(victims, Device{}), protocol, std::max<int64_t>(1, victims.size()),
                  device);
  while (!run.is_done()) run.run_batch();
  return run.result();
}

}  // namespace moat::attacks
