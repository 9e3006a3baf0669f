#include <cmath>

#include "kernels/c_api/call.h"
#include "kernels/loss/softmax.h"
#include "kernels/update/ball_step.h"

using namespace moat::kernels;
using namespace moat::kernels::c_api;

namespace {

static_assert(MOAT_LOG_SOFTMAX == static_cast<int>(SoftmaxForm::log_softmax));
static_assert(MOAT_L2 == static_cast<int>(Norm::l2));

Softmax read(Call& call, const moat_softmax_args& a) {
  Softmax args{};
  args.dtype = call.real("x", a.x);
  args.form = option<SoftmaxForm>("form", a.form, 2);
  int rows = kUnknown, columns = kUnknown;
  args.x = call.in("x", a.x, args.dtype, {{"rows", rows}, {"columns", columns}});
  args.y = call.out("y", a.y, args.dtype, {{"rows", rows}, {"columns", columns}});
  args.rows = rows;
  args.columns = columns;
  return args;
}

SoftmaxGrad read(Call& call, const moat_softmax_grad_args& a) {
  SoftmaxGrad args{};
  args.dtype = call.real("y", a.y);
  args.form = option<SoftmaxForm>("form", a.form, 2);
  int rows = kUnknown, columns = kUnknown;
  args.y = call.in("y", a.y, args.dtype, {{"rows", rows}, {"columns", columns}});
  args.d_y = call.in("d_y", a.d_y, args.dtype, {{"rows", rows}, {"columns", columns}});
  args.d_x = call.out("d_x", a.d_x, args.dtype, {{"rows", rows}, {"columns", columns}});
  args.rows = rows;
  args.columns = columns;
  return args;
}

void require_finite(const char* name, double value, double lowest) {
  if (!(std::isfinite(value) && value >= lowest))
    refuse(std::string(name) + " must be finite" + (lowest == 0 ? " and at least 0" : "") +
           ", got " + std::to_string(value));
}

BallStep read(Call& call, const moat_ball_step_args& a) {
  BallStep args{};
  args.dtype = call.real("x", a.x);
  if (args.dtype == Dtype::bf16) refuse("x must be float32 or float64, got bfloat16");
  args.norm = option<Norm>("norm", a.norm, 2);
  int images = kUnknown, pixels = kUnknown;
  const auto in = [&](const char* name, const DLTensor* tensor, Absent absent) {
    return call.in(name, tensor, args.dtype, {{"images", images}, {"pixels", pixels}}, absent);
  };
  const auto out = [&](const char* name, DLTensor* tensor, Absent absent) {
    return call.out(name, tensor, args.dtype, {{"images", images}, {"pixels", pixels}}, absent);
  };
  args.x = in("x", a.x, Absent::refused);
  args.gradient = in("gradient", a.gradient, Absent::allowed);
  args.center = in("center", a.center, Absent::refused);
  args.velocity = out("velocity", a.velocity, Absent::allowed);
  args.y = out("y", a.y, Absent::refused);
  call.may_be("y", "x");
  if (a.velocity && !a.gradient) refuse("velocity must be NULL where gradient is");
  constexpr double kAny = -INFINITY;
  require_finite("eps", a.eps, 0);
  require_finite("step", a.step, kAny);
  require_finite("momentum", a.momentum, kAny);
  args.images = images;
  args.pixels = pixels;
  args.eps = a.eps;
  args.step = a.step;
  args.momentum = a.momentum;
  return args;
}

}  // namespace

moat_status moat_softmax(const moat_target* on, const moat_softmax_args* a) {
  return answer("moat_softmax", [&] {
    Call call(on);
    const Softmax args = read(call, given(a));
    call.run([&](auto target) { return softmax(target, args); });
  });
}

moat_status moat_softmax_grad(const moat_target* on, const moat_softmax_grad_args* a) {
  return answer("moat_softmax_grad", [&] {
    Call call(on);
    const SoftmaxGrad args = read(call, given(a));
    call.run([&](auto target) { return softmax_grad(target, args); });
  });
}

moat_status moat_ball_step(const moat_target* on, const moat_ball_step_args* a) {
  return answer("moat_ball_step", [&] {
    Call call(on);
    const BallStep args = read(call, given(a));
    call.run([&](auto target) { return ball_step(target, args); });
  });
}
