#include "bench/conv_shapes.h"

#include "engine/error.h"

namespace moat::bench {

namespace {

ConvShape shape_of(const std::string& net, int experts, int side, int c_in, int c_out, int taps,
                   int stride) {
  std::string name = engine::text(net, "-", c_in, "-", c_out, "@", side);
  if (taps == 1) name += "-1x1";
  return {.name = name,
          .images = 512,
          .experts = experts,
          .geometry = {side, side, c_in, c_out, taps, taps, stride, taps / 2, kernels::Dtype::f32}};
}

void add_net(std::vector<ConvShape>& shapes, const std::string& net, int experts, int width) {
  shapes.push_back(shape_of(net, experts, 32, 3, width, 3, 1));
  shapes.push_back(shape_of(net, experts, 32, width, width, 3, 1));
  for (int side = 32; side > 4; side /= 2, width *= 2) {
    shapes.push_back(shape_of(net, experts, side, width, 2 * width, 3, 2));
    shapes.push_back(shape_of(net, experts, side, width, 2 * width, 1, 2));
    shapes.push_back(shape_of(net, experts, side / 2, 2 * width, 2 * width, 3, 1));
  }
}

}  // namespace

double ConvShape::flops() const {
  const kernels::Conv2dGeometry& g = geometry;
  return 2.0 * images * static_cast<double>(g.y_size()) * g.r * g.s * g.c_in;
}

std::string ConvShape::scale() const {
  return divisor == 1 ? "full" : engine::text("1/", divisor, " images");
}

std::vector<ConvShape> conv_shapes() {
  std::vector<ConvShape> shapes;
  add_net(shapes, "resnet18", 1, 64);
  add_net(shapes, "moe-resnet18", 2, 32);
  return shapes;
}

ConvShape within(ConvShape shape, double most_flops) {
  while (shape.images > shape.experts && shape.flops() > most_flops) {
    shape.images /= 2;
    shape.divisor *= 2;
  }
  return shape;
}

}  // namespace moat::bench
