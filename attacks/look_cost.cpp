#include "attacks/look_cost.h"

#include "attacks/terms.h"

namespace moat::attacks {

namespace {

// Of pass_of.
LookCost cost_of_pass(const Objective& o, int routes, Verdict verdict) {
  LookCost cost;
  const auto add = [&](int64_t forwards, int64_t backwards) {
    cost.forwards += forwards;
    cost.backwards += backwards;
  };
  if (o.climbed != Climbed::loss) add(1, 1);
  if (o.climbed == Climbed::router) return cost;
  if (o.auxiliary != 0) add(1, 1);
  if (o.path == Path::own) {
    add(1, 1);
  } else if (o.path == Path::given) {
    const bool is_verdict_missing = verdict == Verdict::wanted && o.climbed == Climbed::loss;
    add(is_verdict_missing ? 2 : 1, 1);
  } else {
    add(1, o.gate == Gate::open ? 1 : 0);
    add(routes, o.path == Path::soft_router ? 0 : routes);
  }
  return cost;
}

}  // namespace

LookCost cost_with_gradient(const Objective& o, int routes) {
  const LookCost pass = cost_of_pass(o, routes, Verdict::wanted);
  if (o.samples == 0) return {o.passes * pass.forwards, o.passes * pass.backwards};
  const LookCost sample = cost_of_pass(o, routes, Verdict::unwanted);
  return {o.passes * (pass.forwards + 2 * int64_t{o.samples} * sample.forwards), 0};
}

LookCost cost_without_gradient(const Objective& o, int routes) {
  return {o.passes * cost_of_pass(o, routes, Verdict::wanted).forwards, 0};
}

}  // namespace moat::attacks
