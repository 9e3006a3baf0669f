#include "data/loader.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/random.h"

namespace moat::data {

using engine::require;
using engine::text;

namespace {
constexpr size_t kPrefetched = 2;

int64_t batch_count(const ImageSet& set, const LoaderOptions& options) {
  const int64_t whole = set.size() / options.batch;
  const bool rest = set.size() % options.batch != 0;
  return whole + (rest && options.last == LastBatch::keep ? 1 : 0);
}

std::vector<int32_t> row_order(const ImageSet& set, const LoaderOptions& options, uint32_t epoch) {
  if (options.order == Order::shuffled)
    return engine::random_permutation(
        set.size(),
        {.seed = options.seed, .purpose = engine::Purpose::shuffle, .iteration = epoch});
  std::vector<int32_t> rows(static_cast<size_t>(set.size()));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}
}  // namespace

Epoch::Epoch(const ImageSet& set, const LoaderOptions& options, uint32_t epoch, int64_t first_batch)
    : thread_([this, &set, options, epoch, first_batch](const std::stop_token& stop) {
        produce(stop, set, options, epoch, first_batch);
      }) {}

void Epoch::produce(const std::stop_token& stop, const ImageSet& set, LoaderOptions options,
                    uint32_t epoch, int64_t first_batch) {
  std::exception_ptr error;
  try {
    const std::vector<int32_t> rows = row_order(set, options, epoch);
    const int64_t batches = batch_count(set, options);
    for (int64_t b = first_batch; b < batches && !stop.stop_requested(); ++b) {
      const int64_t from = b * options.batch, to = std::min(from + options.batch, set.size());
      Batch batch =
          augmented(batch_of(set, std::span(rows).subspan(static_cast<size_t>(from),
                                                          static_cast<size_t>(to - from))),
                    options.augmentation, options.seed, epoch);
      std::unique_lock lock(mutex_);
      if (!changed_.wait(lock, stop, [&] { return ready_.size() < kPrefetched; })) return;
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
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || finished_; });
  if (!ready_.empty()) {
    Batch batch = std::move(ready_.front());
    ready_.pop_front();
    changed_.notify_all();
    return batch;
  }
  if (error_) std::rethrow_exception(error_);
  return std::nullopt;
}

Loader::Loader(const ImageSet& set, const LoaderOptions& options) : set_(set), options_(options) {
  require(options.batch > 0,
          [&] { return text("loader: batch must be positive, got ", options.batch); });
  require(options.augmentation.crop_padding >= 0, [&] {
    return text("loader: crop_padding must not be negative, got ",
                options.augmentation.crop_padding);
  });
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
