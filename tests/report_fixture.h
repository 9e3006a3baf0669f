#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/io/safetensors.h"
#include "tests/text_file.h"

namespace moat::tests {

// Small run folders as `moat train` and `moat eval` write them: five images of 2x2 pixels, three
// classes, two experts.

inline nlohmann::ordered_json report_document() {
  return nlohmann::ordered_json::parse(R"json({
    "schema": 1, "tool": {"version": "0.1.0", "git": "abc123", "build": "Release"},
    "machine": {"cpu": "a CPU", "threads": 2},
    "model": {"file": "best.safetensors", "sha256": "00ff", "arch": "moe", "parameters": 1234,
              "macs": {"executed": 5000}, "moe": {"experts": 2, "gate": "softmax"}},
    "data": {"name": "digits", "split": "test", "n": 5, "sha256": "11ee"},
    "threat": {"norm": "linf", "eps": 0.1, "eps_255": 25.5, "domain": [0, 1]},
    "protocol": {"name": "pgd-50@1", "attacks": [
      {"name": "pgd-50 through", "steps": 50, "step": 0.025, "restarts": 1, "seed": 0},
      {"name": "pgd-50 blocked", "steps": 50, "step": 0.025, "restarts": 1, "seed": 0}]},
    "results": {"clean": 0.8, "robust": 0.4, "ci95": {"clean": [0.37, 0.96], "robust": [0.11, 0.77]},
      "alone": {"pgd-50 through": 0.6, "pgd-50 blocked": 0.4},
      "per_class": [{"class": "zero", "n": 2, "clean": 1, "robust": 0.5},
                    {"class": "one", "n": 2, "clean": 0.5, "robust": 0.5},
                    {"class": "two", "n": 1, "clean": 1, "robust": 0}]},
    "moe": {"experts": 2, "usage_clean": [3, 2], "usage_adversarial": [1, 4],
      "class_by_expert_clean": [[2, 0], [1, 1], [0, 1]],
      "class_by_expert_adversarial": [[0, 2], [1, 1], [0, 1]],
      "route_flip_rate": 0.4, "usage_entropy": 0.97},
    "cost": {"forward": 510, "backward": 500, "seconds": 1.5},
    "verify": {"largest_linf": 0.1, "changed_in_other_batches": 0, "model_untouched": true}
  })json");
}

inline std::string metrics_text() {
  return "epoch,lr,train_loss,train_clean,share_0,share_1,entropy,val_clean,val_robust,seconds\n"
         "0,0.1,2.5,0.3,0.7,0.3,0.88,0.35,0.2,3\n"
         "1,0.05,1.5,0.7,0.6,0.4,0.97,,,2.5\n"
         "2,0.01,1.1,0.8,0.55,0.45,0.99,0.75,0.5,2.5\n";
}

inline std::string samples_text() {
  return "index,label,clean_pred,adv_pred,fooled_by,iteration,margin,linf,l2,route_clean,route_"
         "adv\n"
         "4,0,0,0,,0,0.4,0.1,0.2,0,0\n9,0,0,2,pgd-50 blocked,3,-0.1,0.1,0.2,0,1\n"
         "14,1,1,1,,0,0.2,0.1,0.2,0,0\n19,1,2,2,clean,0,-0.3,0,0,1,1\n"
         "24,2,2,1,pgd-50 through,1,-0.2,0.1,0.2,1,1\n";
}

inline void write_config(const std::filesystem::path& folder) {
  write_text(folder / "config.json",
             R"({"preset":"demo","tool":{"version":"0.1.0","git":"abc123","build":"Release"},)"
             R"("model":{"name":"moe-digits-resnet","experts":2},"data":{"name":"digits"},)"
             R"("train":{"method":"advmoe","epochs":3,"eps":0.1},"run":{"seed":7},)"
             R"("parameters":1234,"macs":{"executed":5000,"path":4500,"router":500}})");
}

inline void write_evaluation_folder(const std::filesystem::path& folder,
                                    const nlohmann::ordered_json& report = report_document()) {
  using engine::Tensor;
  write_text(folder / "report.json", report.dump(2));
  write_text(folder / "per_sample.csv", samples_text());
  engine::write_safetensors(folder / "adversarial.safetensors",
                            {.tensors = {{"images", Tensor::full({5, 1, 2, 2}, 0.5)},
                                         {"adversarial", Tensor::full({5, 1, 2, 2}, 0.6)},
                                         {"labels", Tensor::from<int64_t>({0, 0, 1, 1, 2}, {5})}},
                             .metadata = {}});
}

inline void write_certificate(const std::filesystem::path& folder) {
  write_text(folder / "certificate.json", R"json({
    "schema": 1, "tool": {"version": "0.1.0"}, "model": {"file": "best.safetensors", "sha256": "00ff"},
    "data": {"name": "digits", "n": 4}, "protocol": "pgd-10@1",
    "results": {"clean": 0.75, "radius_of_right": {"median": 0.002, "largest": 0.02},
      "curve": [{"eps": 0.001, "certified": 0.5, "ci95": [0.15, 0.85], "by_interval": 0.25,
                 "by_affine": 0.5, "by_lipschitz": 0, "attacked": 0.75, "route_kept": null},
                {"eps": 0.01, "certified": 0.25, "ci95": [0.04, 0.7], "by_interval": 0,
                 "by_affine": 0.25, "by_lipschitz": 0, "attacked": 0.5, "route_kept": null}]},
    "methods": [{"name": "interval bounds", "applies": true, "says": "by bisection"},
                {"name": "dual radius", "applies": false, "says": "not a dual model"}],
    "constants": [{"name": "logits", "bounds": "|z|", "upper_bound": null,
                   "upper_bound_in_balls": 120.5, "sampled_lower_bound": 3}],
    "ball_of_local_constants": 0.01, "sampled_images": 4})json");
  write_text(folder / "radii.csv",
             "index,label,prediction,route,radius,interval,affine,lipschitz,route_radius\n"
             "0,1,1,,0.02,0,0.02,0,\n1,1,1,,0.002,0.002,0.001,0,\n2,1,1,,0.0001,0,0.0001,0,\n"
             "3,1,2,,0.5,0.5,0,0,\n");
}

inline void write_run(const std::filesystem::path& folder) {
  write_config(folder);
  write_text(folder / "metrics.csv", metrics_text());
  write_text(folder / "events.jsonl",
             "{\"event\":\"start\",\"seed\":7}\n"
             "{\"event\":\"expert_unused\",\"what\":\"expert 1 served 1 %\"}\n"
             "{\"event\":\"expert_unused\",\"what\":\"expert 1 served 2 %\"}\n{\"event\":\"exp");
  write_evaluation_folder(folder / "eval" / "pgd-50@1");
}

}  // namespace moat::tests
