#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "data/augment.h"
#include "data/device_feed.h"
#include "data/image_set.h"

namespace moat::data {

struct LoaderOptions {
  int64_t batch = 128;
  uint64_t seed = 0;               // of the order, the augmentation and the mixing
  Augmentation augmentation = {};  // to the size that a model sees, whatever its own says
  Mixing mixing = {};              // of neighbours in the batch, after the augmentation
  engine::Device device = {};      // where the batches are wanted: the same bits everywhere
};

// The batches of one epoch, made ahead by a thread that is at most two batches in front. For a GPU
// the thread brings bytes, and next() augments them in the order of the engine's work there.
// for (const Batch& batch : loader.epoch(e)) …
class Epoch {
 public:
  Epoch(const ImageSet& set, const LoaderOptions& options, uint32_t epoch, int64_t first_batch);
  Epoch(const Epoch&) = delete;
  Epoch& operator=(const Epoch&) = delete;

  // The batch after the last one given; nothing at the end. Throws what the thread threw. On a GPU
  // it waits for all work that was given before.
  std::optional<Batch> next();

  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Batch;
    using difference_type = std::ptrdiff_t;
    using pointer = const Batch*;
    using reference = const Batch&;
    explicit Iterator(Epoch* epoch) : epoch_(epoch), batch_(epoch->next()) {}
    const Batch& operator*() const { return *batch_; }
    const Batch* operator->() const { return &*batch_; }
    Iterator& operator++() {
      batch_ = epoch_->next();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const Iterator& it, std::default_sentinel_t) { return !it.batch_; }

   private:
    Epoch* epoch_;
    std::optional<Batch> batch_;
  };
  Iterator begin() { return Iterator(this); }
  std::default_sentinel_t end() { return {}; }

 private:
  void produce(const std::stop_token& stop, int64_t first_batch);
  Batch pixels_of(const Batch& bytes) const;

  const ImageSet& set_;
  const LoaderOptions options_;
  const uint32_t epoch_;
  std::unique_ptr<DeviceFeed> feed_;  // for a GPU
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Batch> ready_;  // with a feed: bytes in its slots
  bool finished_ = false;
  std::exception_ptr error_;
  std::jthread thread_;  // last: joined before the members it uses are gone
};

// Batches whose order depends on (seed, epoch) alone. Keeps a reference to the set.
class Loader {
 public:
  Loader(const ImageSet& set, const LoaderOptions& options);
  Loader(ImageSet&&, const LoaderOptions&) = delete;

  int64_t batches() const;  // of one epoch

  // first_batch > 0 resumes within the epoch.
  Epoch epoch(int64_t number, int64_t first_batch = 0) const;

 private:
  const ImageSet& set_;
  LoaderOptions options_;
};

}  // namespace moat::data
