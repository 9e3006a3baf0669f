#pragma once

// The arithmetic of one row of dlr, in float64, the same on all targets.

namespace moat::kernels {

inline constexpr int kLeaders = 4;

// The value of a row is numerator / denominator.
struct DlrRow {
  int label, other;       // the numerator is z[other] - z[label]
  int leaders[kLeaders];  // the classes with the largest logits; the fourth counts with targets
  double third_share;     // of the third leader in the denominator: 1, or 1/2 beside the fourth
  double numerator, denominator;

  constexpr double value() const { return numerator / denominator; }

  // dvalue / dz_i.
  constexpr double slope(int i) const {
    const double per_numerator = 1 / denominator,
                 per_denominator = -numerator * per_numerator * per_numerator;
    const double d_numerator = (i == other) - (i == label);
    double d_denominator = i == leaders[0];
    if (i == leaders[2]) d_denominator -= third_share;
    if (i == leaders[3]) d_denominator -= 1 - third_share;
    if (d_numerator == 0 && d_denominator == 0) return 0;  // whatever the others are
    return d_numerator * per_numerator + d_denominator * per_denominator;
  }
};

// `target`: nullptr without; z(i): the logit of class i.
template <class Logit>
constexpr DlrRow dlr_row(const int (&leaders)[kLeaders], int label, const int* target, Logit z) {
  const int other = target ? *target : leaders[0] == label ? leaders[1] : leaders[0];
  const double lower = target ? (z(leaders[2]) + z(leaders[3])) / 2 : z(leaders[2]);
  return {.label = label,
          .other = other,
          .leaders = {leaders[0], leaders[1], leaders[2], leaders[3]},
          .third_share = target ? 0.5 : 1.0,
          .numerator = z(other) - z(label),
          .denominator = z(leaders[0]) - lower + 1e-12};
}

}  // namespace moat::kernels
