#pragma once

#include "attacks/survivors.h"
#include "attacks/threat_model.h"

namespace moat::attacks {

// What a search for the smallest perturbation finds. An image is robust at every radius below its
// distance as far as the search can tell, so accuracy over eps comes from the distances.
struct Nearest {
  engine::Tensor points;  // [n, h, w, c], in the box: the nearest misclassified point that was
                          // looked at; the image itself where there was none
  std::vector<double> distance;         // of the stored points, in float64; infinity: none
  std::vector<int> found_at;            // number of the look, counted through the search; -1: none
  int64_t forwards = 0, backwards = 0;  // images
};

enum class Goal {
  fool,      // an image leaves when a misclassified point within eps has been found
  minimise,  // all steps go into a smaller distance
};
const char* name_of(Goal goal);

// The search's memory of all images, and the batch of those that are still searched for.
class NearestSearch {
 public:
  // An image has been dealt with when a misclassified point is at most `enough` away.
  NearestSearch(const Victims& all, engine::Norm norm, double enough);

  // Of those in the batch, as those below.
  const Victims& victims() const { return victims_; }
  const std::vector<int32_t>& labels() const { return labels_; }
  const std::vector<int32_t>& rows() const { return rows_; }  // ascending, of all images
  int64_t size() const { return victims_.size(); }

  // All images that have not been dealt with, for another start.
  void begin();
  // Looks at a point of each image and returns the positions of the misclassified ones. Those that
  // stay as company (`rounded_up`) are not looked at.
  std::vector<int32_t> look(const engine::Tensor& points, const std::vector<int32_t>& predicted,
                            int number);
  // Those that have been dealt with, or that `is_over` names, leave the batch. Returns the
  // positions of the others, all of them when nobody leaves.
  std::vector<int32_t> leave(const std::vector<bool>& is_over = {});

  Nearest result() const;

 private:
  bool is_done(int32_t row) const;

  Victims all_, victims_;
  engine::Norm norm_;
  double enough_;
  std::vector<int32_t> all_labels_, labels_, rows_;
  std::vector<bool> is_company_;  // of those in the batch
  engine::WorstPoints nearest_;   // best_loss: -distance
  std::vector<float> distance_;   // of all images, as the search sees it
  std::vector<int> found_at_;
};

// Halves the way between each image and the point found, `times` times, and keeps the nearest
// misclassified point; images whose distance is at most `enough` are passed by. Looks are numbered
// from `first`.
Nearest bisected(const Model& model, const Victims& victims, engine::Norm norm, double enough,
                 int times, int first, const Nearest& found);

// The points in the ball, as an attack returns them: each nearest point is projected on it and
// looked at once more, and what the model says then is the verdict. An image without one comes
// back as it is.
AttackResult within_ball(const Model& model, const Victims& victims, const ThreatModel& threat,
                         const Nearest& found);

}  // namespace moat::attacks
