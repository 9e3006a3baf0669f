#include "tests/image_bytes.h"

#include <cstdlib>

#include "data/png.h"

namespace moat::tests {

data::Image ramp(int height, int width, int channels, int offset) {
  data::Image image{height, width, channels, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c)
        image.pixels.push_back(static_cast<uint8_t>((offset + 3 * y + 2 * x + 40 * c) % 256));
  return image;
}

Bytes jpeg_of(const data::Image& image, J_COLOR_SPACE space, JpegForm form) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &buffer, &size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = image.channels;
  info.in_color_space = space;
  jpeg_set_defaults(&info);
  if (form.stored != JCS_UNKNOWN) jpeg_set_colorspace(&info, form.stored);
  if (!form.adobe_marker) info.write_Adobe_marker = FALSE;
  jpeg_set_quality(&info, 95, TRUE);
  if (form.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  Bytes pixels = image.pixels;
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = pixels.data() + info.next_scanline * static_cast<size_t>(image.width) *
                                       static_cast<size_t>(image.channels);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  Bytes out(buffer, buffer + size);
  std::free(buffer);
  return out;
}

Bytes png_of(const PngForm& form, Bytes raw) {
  Bytes out;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep from, size_t n) {
        auto* to = static_cast<Bytes*>(png_get_io_ptr(p));
        to->insert(to->end(), from, from + n);
      },
      nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(form.width),
               static_cast<png_uint_32>(form.height), form.depth, form.colour, form.interlace,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!form.palette.empty())
    png_set_PLTE(png, info, form.palette.data(), static_cast<int>(form.palette.size()));
  const png_byte alpha_of_palette[] = {0};
  const png_color_16 colour{};
  if (form.has_transparent_colour) png_set_tRNS(png, info, alpha_of_palette, 1, &colour);
  std::vector<png_bytep> rows;
  const size_t stride = raw.size() / static_cast<size_t>(form.height);
  for (int y = 0; y < form.height; ++y)
    rows.push_back(raw.data() + static_cast<size_t>(y) * stride);
  png_set_rows(png, info, rows.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

Bytes png_of(const data::Image& image) {
  return data::encode_png(image.width, image.height, image.channels, image.pixels);
}

}  // namespace moat::tests
