#include "data/device_feed.h"

#include <algorithm>

namespace moat::data {

using engine::Dtype;
using engine::kCudaBuilt;
using engine::Tensor;

namespace {

template <class T>
std::shared_ptr<T> page_locked(int64_t count) {
  if constexpr (kCudaBuilt)
    return {static_cast<T*>(engine::cuda::allocate_page_locked(
                static_cast<size_t>(std::max<int64_t>(count, 1)) * sizeof(T))),
            engine::cuda::release_page_locked};
  return nullptr;
}

}  // namespace

DeviceFeed::DeviceFeed(const ImageSet& set, int64_t batch, engine::Device gpu) {
  for (Batch& slot : slots_)
    slot = {Tensor::empty({batch, set.stored_height(), set.stored_width(), set.channels}, Dtype::u8,
                          gpu),
            Tensor::empty({batch}, Dtype::i32, gpu), Tensor::empty({batch}, Dtype::i32, gpu)};
  pixels_ = page_locked<uint8_t>(batch * set.image_bytes());
  labels_ = page_locked<int32_t>(batch);
  ids_ = page_locked<int32_t>(batch);
  if constexpr (kCudaBuilt) {
    stream_ = std::make_shared<engine::cuda::CopyStream>(gpu.index);
    engine::cuda::synchronize(gpu.index);  // work of the blocks' last owners may be to come
  }
}

Batch DeviceFeed::bring(const ImageSet& set, std::span<const int32_t> rows) {
  const Batch& slot = slots_[next_];
  next_ = (next_ + 1) % kSlots;
  const int64_t n = static_cast<int64_t>(rows.size());
  Batch out{slot.images.sliced(0, 0, n), slot.labels.sliced(0, 0, n), slot.ids.sliced(0, 0, n)};
  copy_rows(set, rows, pixels_.get(), labels_.get(), ids_.get());
  if constexpr (kCudaBuilt) {
    stream_->copy(out.images.data(), pixels_.get(), out.images.nbytes());
    stream_->copy(out.labels.data(), labels_.get(), out.labels.nbytes());
    stream_->copy(out.ids.data(), ids_.get(), out.ids.nbytes());
    stream_->synchronize();
  }
  return out;
}

}  // namespace moat::data
