#include <cstdint>

#include "tests/cuda/instructions/cases.h"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

namespace {

struct Box {
  int x, y, z;
};
constexpr Box kPlaces[] = {{8, 1, 1}, {-8, -2, -1}, {64, 7, 2}};
constexpr Box kStorePlaces[] = {{0, 1, 0}, {64, 1, 0}, {0, 9, 0}};

Words tensor() { return noise(size_t(kPitch) * kTensor[1] * kTensor[2] / 2, 41); }

bool is_inside(int x, int y, int z) {
  return x >= 0 && y >= 0 && z >= 0 && x < kTensor[0] && y < kTensor[1] && z < kTensor[2];
}
size_t index_of(int x, int y, int z) { return size_t((z * kTensor[1] + y) * kPitch + x); }

// Which 16-byte piece of a line of `width` bytes a piece of line `line` goes to: CUDA's picture of
// the 128-byte swizzle; other widths have none.
int swizzled_piece(int piece, int line, int width) {
  return width == 128 ? piece ^ line % 8 : piece;
}

// Place of element (x, y, z) of a box of `columns` elements a line, in elements.
size_t box_place(int x, int y, int z, int columns, int width) {
  const int line = z * kRows + y, piece = swizzled_piece(x / 8, line, width);
  return size_t(line * columns + piece * 8 + x % 8);
}

void append_box(Words& out, const Words& tensor, int rank, Box at, int columns, int width) {
  const int planes = rank - 1;
  Words box(size_t(columns * kRows * planes / 2));
  for (int z = 0; z < planes; ++z)
    for (int y = 0; y < kRows; ++y)
      for (int x = 0; x < columns; ++x) {
        const int plane = rank == 3 ? at.z + z : 0;
        if (is_inside(at.x + x, at.y + y, plane))
          set_half(box, box_place(x, y, z, columns, width),
                   half_at(tensor, index_of(at.x + x, at.y + y, plane)));
      }
  out.insert(out.end(), box.begin(), box.end());
}

Words loaded(const Words& tensor, int rank, int columns, int width) {
  Words out;
  for (const Box& at : kPlaces) append_box(out, tensor, rank, at, columns, width);
  return out;
}
// Pixel by pixel as PTX's manual has it for im2col: in the order of the walk, image after image.
Words pixels(const Words& images) {
  constexpr int kRowPixels = kWalkLength, kImagePixels = kWalkLength * kWalkLength;
  Words out;
  for (const PixelCopy& c : kPixelCopies) {
    Words copy(size_t(kImages[0] * kCopied / 2));
    for (int p = 0; p < kCopied; ++p) {
      const int column = (c.x - kWalk[0]) / kWalkStride, row = (c.y - kWalk[1]) / kWalkStride;
      const int number = c.n * kImagePixels + row * kRowPixels + column + p;
      const int x = kWalk[0] + number % kRowPixels * kWalkStride + c.right,
                y = kWalk[1] + number / kRowPixels % kRowPixels * kWalkStride + c.down,
                n = number / kImagePixels;
      if (x < 0 || y < 0 || x >= kImages[1] || y >= kImages[2] || n >= kImages[3]) continue;
      for (int channel = 0; channel + c.channel < kImages[0]; ++channel)
        set_half(copy, box_place(channel, p, 0, kImages[0], 128),
                 half_at(images, size_t(((n * kImages[2] + y) * kImages[1] + x) * kImages[0] +
                                        c.channel + channel)));
    }
    out.insert(out.end(), copy.begin(), copy.end());
  }
  return out;
}

// A tensor of poison with the boxes in it.
Words stored(const Words& boxes) {
  constexpr int kColumns = 64, kWidth = 128;
  Words out(tensor().size(), 0xffffffffu);
  for (int i = 0; i < 3; ++i)
    for (int y = 0; y < kRows; ++y)
      for (int x = 0; x < kColumns; ++x) {
        const Box at = kStorePlaces[i];
        if (is_inside(at.x + x, at.y + y, 0))
          set_half(
              out, index_of(at.x + x, at.y + y, 0),
              half_at(boxes, size_t(i * kColumns * kRows) + box_place(x, y, 0, kColumns, kWidth)));
      }
  return out;
}

}  // namespace

std::vector<InstructionCase> tma_cases() {
  const Words in = tensor(), boxes = noise(3 * 32 * kRows, 42);
  const Words images = noise(size_t(kImages[0]) * kImages[1] * kImages[2] * kImages[3] / 2, 44);
  return {
      {"tma_load_2d mbarrier_arrive_expect_tx", run_tma_load_plain, in, loaded(in, 2, 24, 0), 9},
      {"tma_load_2d", run_tma_load_2d, in, loaded(in, 2, 64, 128), 9},
      {"tma_load_3d", run_tma_load_3d, in, loaded(in, 3, 64, 128), 9},
      {"tma_load_4d", run_tma_load_4d, in, loaded(in, 3, 64, 128), 9},
      {"tma_load_pixels", run_tma_load_pixels, images, pixels(images), 9},
      {"tma_store_2d bulk_commit bulk_wait_read fence_proxy_async", run_tma_store, boxes,
       stored(boxes), 9},
  };
}

}  // namespace moat::tests
