// Bulk copies of the tensor memory accelerator. A load's bytes land, and reach its barrier, when
// the scheduler says, in any order; a store's are read and written as late as its waits allow.

#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/instructions/async_proxy.h"
#include "tests/simt/instructions/mbarrier.h"
#include "tests/simt/instructions/tensor_box.h"
#include "tests/simt/ptx.h"

namespace simt {

namespace {

TensorBox box_at(const TensorPlace& place, const char* instruction, Where where) {
  const TensorBox box = box_of(*place.map);
  if (!box.is_valid())
    fail("%s%s: the tensor map was not made by make_tensor_map", instruction, at(where).c_str());
  if (box.is_walked() != place.walked)
    fail("%s%s: a tensor map of %s", instruction, at(where).c_str(),
         box.is_walked() ? "walked images, for a box" : "boxes, for pixels");
  if (box.rank != place.rank)
    fail("%s%s: %d coordinates for a tensor map of rank %d", instruction, at(where).c_str(),
         place.rank, box.rank);
  const BoxPlace& p = place.place;
  if (p.at[0] * TensorBox::kElement % 16)
    fail("misaligned: %s%s: column %d is no multiple of 16 bytes", instruction, at(where).c_str(),
         p.at[0]);
  if (place.walked && (walked(p.at[1], box.first_x, box.columns, box.stride) < 0 ||
                       walked(p.at[2], box.first_y, box.rows, box.stride) < 0))
    fail("%s%s: pixel (%d, %d) is none of the walk's", instruction, at(where).c_str(), p.at[1],
         p.at[2]);
  if (p.right < 0 || p.right > 255 || p.down < 0 || p.down > 255)
    fail("%s%s: pixels moved by (%d, %d), which is more than 255", instruction, at(where).c_str(),
         p.right, p.down);
  return box;
}

// 128 bytes for any box, and the repeat of its pattern for a swizzled one.
void check_alignment(uint32_t shared, const TensorBox& box, const char* instruction, Where where) {
  using moat::kernels::Swizzle;
  const uint32_t width = swizzle_width(box.swizzle);
  const uint32_t repeat = box.swizzle == Swizzle::none ? 128 : 8 * width;
  if (shared % repeat)
    fail("misaligned: %s%s: shared address 0x%x is not aligned to %u bytes", instruction,
         at(where).c_str(), shared, repeat);
}

// Calls visit(offset within the box, bytes, global address or nullptr) for runs of contiguous
// bytes.
template <class Visit>
void for_each_run(const TensorBox& box, const BoxPlace& place, uint32_t shared, Visit visit) {
  uint32_t start = 0, bytes = 0;
  char* from = nullptr;
  for_each_element(box, place, shared, [&](uint32_t address, char* global) {
    const uint32_t offset = address - shared;
    const bool goes_on =
        bytes > 0 && offset == start + bytes && (global ? from && global == from + bytes : !from);
    if (!goes_on) {
      if (bytes > 0) visit(start, bytes, from);
      start = offset, bytes = 0, from = global;
    }
    bytes += TensorBox::kElement;
  });
  if (bytes > 0) visit(start, bytes, from);
}

struct BulkTraffic : Extension {  // of a block
  int loads = 0;                  // under way into its shared memory
  void at_exit() override {
    if (loads > 0)
      report(nullptr, 0,
             "in flight: block (%u,%u,%u) exits while %d bulk loads into its shared memory are "
             "under way",
             block->index.x, block->index.y, block->index.z, loads);
  }
};

struct Store {
  struct Run {
    uint32_t offset, bytes;
    char* to;
  };
  const char* from;
  std::vector<char> source;  // at the start: it must not change before it is read
  std::vector<Run> runs;
  Origin origin;
  Where where;
  bool is_read = false;
};
using StoreGroup = std::vector<std::shared_ptr<Store>>;

void read_source(Store& store) {
  if (store.is_read) return;
  store.is_read = true;
  if (std::memcmp(store.from, store.source.data(), store.source.size()) != 0)
    report(nullptr, 0,
           "overwritten: the shared memory of the TMA store%s changed before it was "
           "read; bulk_wait_read comes first",
           at(store.where).c_str());
  std::memcpy(store.source.data(), store.from, store.source.size());
}
void write_global(Store& store) {
  read_source(store);
  for (const Store::Run& run : store.runs) {
    as_of(store.origin, [&] {
      land(*store.origin.by, run.to, run.bytes, Access::async_write, store.origin.code);
    });
    std::memcpy(run.to, store.source.data() + run.offset, run.bytes);
  }
}

struct Stores : Extension {  // of a thread
  StoreGroup open;
  std::deque<StoreGroup> groups;  // that bulk_wait_read has not waited for
  void at_exit() override {
    const Store* first = open.empty() ? nullptr : open.front().get();
    for (const StoreGroup& group : groups)
      if (!first && !group.empty()) first = group.front().get();
    if (first)
      report(nullptr, 0,
             "in flight: %s exits while its TMA store%s may still read shared memory; bulk_commit "
             "and bulk_wait_read come first",
             thread_name(*current).c_str(), at(first->where).c_str());
  }
};

void keep(moat::kernels::TensorMap* map, const TensorBox& box) {
  std::memset(map, 0, sizeof(*map));
  std::memcpy(map, static_cast<const void*>(&box), sizeof(box));
}

}  // namespace

void encode_tensor_map(moat::kernels::TensorMap* map, const moat::kernels::TiledTensor& t) {
  TensorBox box;
  box.base = static_cast<char*>(const_cast<void*>(t.base));
  box.rank = static_cast<int8_t>(t.rank);
  box.swizzle = t.swizzle;
  for (int axis = 0; axis < t.rank; ++axis) {
    box.extents[axis] = t.extents[axis];
    box.strides[axis] = axis > 0 ? t.strides[axis] : 0;
    box.box[axis] = static_cast<int16_t>(t.box[axis]);
  }
  keep(map, box);
}

void encode_tensor_map(moat::kernels::TensorMap* map, const moat::kernels::WalkedImages& t) {
  TensorBox box;
  box.base = static_cast<char*>(const_cast<void*>(t.base));
  box.rank = 4;
  box.swizzle = t.swizzle;
  const int64_t extents[] = {t.channels, t.width, t.height, t.n};
  for (int axis = 0; axis < 4; ++axis) {
    box.extents[axis] = extents[axis];
    box.strides[axis] = axis == 0   ? 0
                        : axis == 1 ? int64_t{t.channels} * 2
                                    : box.strides[axis - 1] * extents[axis - 1];
  }
  box.box[0] = static_cast<int16_t>(t.box_channels);
  box.box[1] = static_cast<int16_t>(t.box_pixels);
  box.first_x = static_cast<int16_t>(t.first_x);
  box.first_y = static_cast<int16_t>(t.first_y);
  box.columns = t.columns;
  box.rows = t.rows;
  box.stride = static_cast<int8_t>(t.stride);
  keep(map, box);
}

void tensor_load(void* shared, const TensorPlace& place, uint64_t* barrier, Where where) {
  maybe_preempt();
  const auto code = return_address(__builtin_return_address(0));
  const TensorBox box = box_at(place, "TMA load", where);
  const uint32_t address = shared_address(shared);
  check_alignment(address, box, "TMA load", where);
  for_each_run(box, place.place, address, [&](uint32_t, uint32_t bytes, char* global) {
    if (global) observe_async_read(*current, global, bytes, Unwritten::carried, code);
  });
  require_ready(barrier, "TMA load", where, code);
  take_off(*current, shared, box.bytes(), code);
  ++extension<BulkTraffic>(*block).loads;
  char* to = static_cast<char*>(shared);
  run_later([=, place = place.place, origin = origin_here(code)] {
    --extension<BulkTraffic>(*block).loads;
    as_of(origin, [&] { land(*origin.by, to, box.bytes(), Access::async_write, origin.code); });
    for_each_run(box, place, address, [&](uint32_t offset, uint32_t bytes, char* global) {
      if (global)
        std::memcpy(to + offset, global, bytes);
      else
        std::memset(to + offset, 0, bytes);
    });
    complete(barrier, box.bytes(), origin.knows);
  });
}

void tensor_store(const TensorPlace& place, const void* shared, Where where) {
  maybe_preempt();
  const auto code = return_address(__builtin_return_address(0));
  const TensorBox box = box_at(place, "TMA store", where);
  const uint32_t address = shared_address(shared);
  check_alignment(address, box, "TMA store", where);
  const char* from = static_cast<const char*>(shared);
  auto store = std::make_shared<Store>(Store{from, {from, from + box.bytes()}, {}, {}, where});
  for_each_run(box, place.place, address, [&](uint32_t offset, uint32_t bytes, char* global) {
    if (!global) return;
    observe_async_read(*current, from + offset, bytes, Unwritten::reported, code);
    take_off(*current, global, bytes, code);
    store->runs.push_back({offset, bytes, global});
  });
  store->origin = origin_here(code);
  extension<Stores>(*current).open.push_back(store);
  run_later([store] { write_global(*store); });
}

void bulk_store_wait_read(int pending) {
  std::deque<StoreGroup>& groups = extension<Stores>(*current).groups;
  for (; static_cast<int>(groups.size()) > pending; groups.pop_front())
    for (const std::shared_ptr<Store>& store : groups.front()) {
      // Reading ends here: what overwrites the bytes must come after this moment.
      observe_async_read(*current, store->from, store->source.size(), Unwritten::carried,
                         store->origin.code);
      read_source(*store);
    }
}

}  // namespace simt

namespace moat::kernels::ptx {

using namespace simt;

void bulk_commit() {
  Stores& stores = extension<Stores>(*current);
  stores.groups.push_back(std::move(stores.open));
  stores.open.clear();
}

}  // namespace moat::kernels::ptx
