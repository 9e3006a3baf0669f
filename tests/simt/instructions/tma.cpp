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
  if (p.at[0] * box.element_bytes % 16)
    fail("misaligned: %s%s: column %d of %d-byte elements is no multiple of 16 bytes", instruction,
         at(where).c_str(), p.at[0], box.element_bytes);
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
  for_each_element(box, place, shared, [&](uint32_t address, int element, char* global) {
    const uint32_t offset = address - shared;
    const bool goes_on =
        bytes > 0 && offset == start + bytes && (global ? from && global == from + bytes : !from);
    if (!goes_on) {
      if (bytes > 0) visit(start, bytes, from);
      start = offset, bytes = 0, from = global;
    }
    bytes += static_cast<uint32_t>(element);
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
             current->block->index.x, current->block->index.y, current->block->index.z, loads);
  }
};

// A load into one block, under way from here on. `fill` writes the bytes when they land.
void start_load(char* to, uint32_t bytes, const BarrierTarget& target, const Origin& origin,
                std::function<void(char*)> fill) {
  ++extension<BulkTraffic>(*target.block).loads;
  run_later([=, fill = std::move(fill)] {
    --extension<BulkTraffic>(*target.block).loads;
    as_of(origin, [&] { land(*origin.by, to, bytes, Access::async_write, origin.code); });
    fill(to);
    complete(target, 0, bytes, origin.knows);
  });
}

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
  bool is_read = false, is_written = false;
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
  if (store.is_written) return;
  read_source(store);
  store.is_written = true;
  for (const Store::Run& run : store.runs) {
    as_of(store.origin, [&] {
      land(*store.origin.by, run.to, run.bytes, Access::async_write, store.origin.code);
    });
    std::memcpy(run.to, store.source.data() + run.offset, run.bytes);
  }
}

struct Stores : Extension {  // of a thread
  StoreGroup open;
  std::deque<StoreGroup> groups;  // that bulk_wait has not waited for
  size_t read = 0;                // how many of them bulk_wait_read has
  void at_exit() override {
    const Store* first = open.empty() ? nullptr : open.front().get();
    for (size_t i = read; i < groups.size(); ++i)
      if (!first && !groups[i].empty()) first = groups[i].front().get();
    if (first)
      report(nullptr, 0,
             "in flight: %s exits while its TMA store%s may still read shared memory; bulk_commit "
             "and bulk_wait_read come first",
             thread_name(*current).c_str(), at(first->where).c_str());
  }
};

}  // namespace

namespace {

void keep(moat::kernels::TensorMap* map, const TensorBox& box) {
  std::memset(map, 0, sizeof(*map));
  std::memcpy(map, static_cast<const void*>(&box), sizeof(box));
}

}  // namespace

void encode_tensor_map(moat::kernels::TensorMap* map, const moat::kernels::TiledTensor& t) {
  TensorBox box;
  box.base = static_cast<char*>(const_cast<void*>(t.base));
  box.rank = static_cast<int8_t>(t.rank);
  box.element_bytes = static_cast<int8_t>(size_of(t.dtype));
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

void tensor_load(void* shared, const TensorPlace& place, uint64_t* barrier, uint32_t blocks,
                 Where where) {
  maybe_preempt();
  const auto code = return_address(__builtin_return_address(0));
  const char* name = blocks ? "TMA multicast load" : "TMA load";
  const TensorBox box = box_at(place, name, where);
  const uint32_t address = shared_address(shared);
  check_alignment(address, box, name, where);
  require_fixed_place(shared, name, where);
  if (blocks >> cluster->blocks.size())
    fail("%s%s: mask 0x%x for a cluster of %zu blocks", name, at(where).c_str(), blocks,
         cluster->blocks.size());
  for_each_run(box, place.place, address, [&](uint32_t, uint32_t bytes, char* global) {
    if (global) observe_async_read(*current, global, bytes, Unwritten::carried, code);
  });
  struct Destination {
    char* to;
    BarrierTarget target;
  };
  std::vector<Destination> destinations;
  const auto add = [&](void* to, uint64_t* its_barrier, Block& block) {
    destinations.push_back(
        {static_cast<char*>(to), async_target(its_barrier, block, name, where, code)});
    take_off(*current, to, box.bytes(), code);
  };
  if (blocks == 0) add(shared, barrier, *current->block);
  for (int rank = 0; blocks >> rank; ++rank)
    if (blocks >> rank & 1) {
      if (cluster->blocks[static_cast<size_t>(rank)].live == 0)
        fail("%s%s: block %d of the cluster has exited", name, at(where).c_str(), rank);
      add(shared_pointer_at_rank(shared, rank),
          static_cast<uint64_t*>(shared_pointer_at_rank(barrier, rank)),
          cluster->blocks[static_cast<size_t>(rank)]);
    }
  const Origin origin = origin_here(code);
  for (const Destination& d : destinations)
    start_load(d.to, box.bytes(), d.target, origin, [box, place = place.place, address](char* to) {
      for_each_run(box, place, address, [&](uint32_t offset, uint32_t bytes, char* global) {
        if (global)
          std::memcpy(to + offset, global, bytes);
        else
          std::memset(to + offset, 0, bytes);
      });
    });
}

void tensor_store(const TensorPlace& place, const void* shared, Where where) {
  maybe_preempt();
  const auto code = return_address(__builtin_return_address(0));
  const TensorBox box = box_at(place, "TMA store", where);
  const uint32_t address = shared_address(shared);
  check_alignment(address, box, "TMA store", where);
  require_fixed_place(shared, "TMA store", where);
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

void bulk_store_wait(int pending, bool read_only, Where) {
  Stores& stores = extension<Stores>(*current);
  const size_t wanted =
      stores.groups.size() - std::min(stores.groups.size(), static_cast<size_t>(pending));
  for (size_t i = 0; i < wanted; ++i)
    for (const std::shared_ptr<Store>& store : stores.groups[i]) {
      // Reading ends here: what overwrites the bytes must come after this moment.
      if (i >= stores.read)
        observe_async_read(*current, store->from, store->source.size(), Unwritten::carried,
                           store->origin.code);
      read_only ? read_source(*store) : write_global(*store);
    }
  stores.read = std::max(stores.read, wanted);
  if (read_only) return;
  stores.groups.erase(stores.groups.begin(),
                      stores.groups.begin() + static_cast<ptrdiff_t>(wanted));
  stores.read -= wanted;
}

}  // namespace simt

namespace moat::kernels::ptx {

using namespace simt;

void bulk_load(void* shared, const void* global, uint32_t bytes, uint64_t* barrier, Where where) {
  maybe_preempt();
  const auto code = return_address(__builtin_return_address(0));
  simt::shared_address(shared);
  require_fixed_place(shared, "bulk_load", where);
  if ((reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(global) | bytes) % 16)
    fail("misaligned: bulk_load of %u bytes%s: addresses and size are multiples of 16", bytes,
         at(where).c_str());
  observe_async_read(*current, global, bytes, Unwritten::carried, code);
  const BarrierTarget target = async_target(barrier, *current->block, "bulk_load", where, code);
  take_off(*current, shared, bytes, code);
  start_load(static_cast<char*>(shared), bytes, target, origin_here(code),
             [=](char* to) { std::memcpy(to, global, bytes); });
}

void bulk_commit() {
  Stores& stores = extension<Stores>(*current);
  stores.groups.push_back(std::move(stores.open));
  stores.open.clear();
}

}  // namespace moat::kernels::ptx
