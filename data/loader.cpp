#include "data/loader.h"

#include <algorithm>
#include <limits>

#include "engine/random.h"

namespace moat::data {

using engine::require;
using engine::text;

namespace {
constexpr size_t kPrefetched = 2;
static_assert(DeviceFeed::kSlots == kPrefetched + 1);  // and the one that is in use

int64_t batch_count(const ImageSet& set, const LoaderOptions& options) {
  return (set.size() + options.batch - 1) / options.batch;
}

std::vector<int32_t> row_order(const ImageSet& set, const LoaderOptions& options, uint32_t epoch) {
  return engine::random_permutation(
      set.size(), {.seed = options.seed, .purpose = engine::Purpose::shuffle, .iteration = epoch});
}
}  // namespace

Epoch::Epoch(const ImageSet& set, const LoaderOptions& options, uint32_t epoch, int64_t first_batch)
    : set_(set), options_(options), epoch_(epoch) {
  if (!options_.device.is_cpu())
    feed_ =
        std::make_unique<DeviceFeed>(set_, std::min(options_.batch, set_.size()), options_.device);
  thread_ = std::jthread(
      [this, first_batch](const std::stop_token& stop) { produce(stop, first_batch); });
}

Batch Epoch::pixels_of(const Batch& bytes) const {
  return mixed(augmented(bytes, set_.max_value, options_.augmentation, options_.seed, epoch_),
               options_.mixing, options_.seed, epoch_);
}

void Epoch::produce(const std::stop_token& stop, int64_t first_batch) {
  std::exception_ptr error;
  try {
    const std::vector<int32_t> order = row_order(set_, options_, epoch_);
    const int64_t batches = batch_count(set_, options_);
    for (int64_t b = first_batch; b < batches && !stop.stop_requested(); ++b) {
      {
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop, [&] { return ready_.size() < kPrefetched; })) return;
      }
      const int64_t from = b * options_.batch, to = std::min(from + options_.batch, set_.size());
      const auto rows =
          std::span(order).subspan(static_cast<size_t>(from), static_cast<size_t>(to - from));
      Batch batch = feed_ ? feed_->bring(set_, rows) : pixels_of(bytes_of(set_, rows));
      const std::lock_guard lock(mutex_);
      ready_.push_back(std::move(batch));
      changed_.notify_all();
    }
  } catch (...) {
    error = std::current_exception();
  }
  const std::lock_guard lock(mutex_);
  error_ = error;
  finished_ = true;
  changed_.notify_all();
}

std::optional<Batch> Epoch::next() {
  // Taking a batch gives the slot of the one before back to the thread.
  if constexpr (engine::kCudaBuilt)
    if (feed_) engine::cuda::synchronize(options_.device.index);
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || finished_; });
  if (ready_.empty()) {
    if (error_) std::rethrow_exception(error_);
    return std::nullopt;
  }
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  lock.unlock();
  if (!feed_) return batch;
  Batch pixels = pixels_of(batch);
  pixels.labels = pixels.labels.clone();
  pixels.ids = pixels.ids.clone();
  return pixels;
}

Loader::Loader(const ImageSet& set, const LoaderOptions& options) : set_(set), options_(options) {
  require(options.batch > 0,
          [&] { return text("loader: batch must be positive, got ", options.batch); });
  Augmentation& augmentation = options_.augmentation;
  require(augmentation.crop_padding >= 0 && augmentation.cutout >= 0, [&] {
    return text("loader: crop_padding and cutout must not be negative, got ",
                augmentation.crop_padding, " and ", augmentation.cutout);
  });
  augmentation.height = set.height, augmentation.width = set.width;
  if (augmentation.cutout_fill.defined())
    augmentation.cutout_fill = augmentation.cutout_fill.to(options.device);
}

int64_t Loader::batches() const { return batch_count(set_, options_); }

Epoch Loader::epoch(int64_t number, int64_t first_batch) const {
  require(number >= 0 && number <= std::numeric_limits<uint32_t>::max(),
          [&] { return text("loader: epoch must be 0 to 2^32 - 1, got ", number); });
  require(first_batch >= 0 && first_batch <= batches(), [&] {
    return text("loader: first_batch must be 0 to ", batches(), ", got ", first_batch);
  });
  return Epoch(set_, options_, static_cast<uint32_t>(number), first_batch);
}

}  // namespace moat::data
