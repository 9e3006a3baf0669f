/* A mixture-of-experts layer in plain C: six tokens choose two of three experts, a small perceptron
 * each. The same is then computed by plain loops, and the two are compared. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernels/c_api.h"

enum { TOKENS = 6, EXPERTS = 3, CHOICES = 2, WIDTH = 8, HIDDEN = 16, ROWS = TOKENS * CHOICES };

static float x[TOKENS][WIDTH], logits[TOKENS][EXPERTS];
static float w_in[EXPERTS][HIDDEN][WIDTH], w_out[EXPERTS][WIDTH][HIDDEN];

/* Describes an array to the library: where it is, of what type, of which shape. */
static DLTensor tensor(void* data, DLDataType type, int ndim, int64_t* shape) {
  DLTensor t = {data, {kDLCPU, 0}, ndim, type, shape, NULL, 0};
  return t;
}

static void fill(float* values, size_t count, uint32_t seed) {
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525u + 1013904223u;
    values[i] = (float)(seed >> 8) / (float)(1 << 23) - 1.0f;
  }
}

/* What the layer gives for one token: softmax over the experts, the two best, their outputs
 * weighted by their probabilities. */
static void by_plain_loops(int t, double y[WIDTH]) {
  double sum = 0;
  int chosen[EXPERTS] = {0};
  for (int e = 0; e < EXPERTS; ++e) sum += exp(logits[t][e]);
  for (int n = 0; n < WIDTH; ++n) y[n] = 0;
  for (int choice = 0; choice < CHOICES; ++choice) {
    int best = -1;
    for (int e = 0; e < EXPERTS; ++e)
      if (!chosen[e] && (best < 0 || logits[t][e] > logits[t][best])) best = e;
    chosen[best] = 1;
    for (int h = 0; h < HIDDEN; ++h) {
      double hidden = 0;
      for (int i = 0; i < WIDTH; ++i) hidden += (double)w_in[best][h][i] * x[t][i];
      if (hidden < 0) hidden = 0; /* relu */
      for (int n = 0; n < WIDTH; ++n)
        y[n] += exp(logits[t][best]) / sum * w_out[best][n][h] * hidden;
    }
  }
}

int main(void) {
  const DLDataType float32 = {kDLFloat, 32, 1}, int32 = {kDLInt, 32, 1};
  float y[TOKENS][WIDTH], weights[TOKENS][CHOICES], log_sum_exp[TOKENS], margin[TOKENS];
  int32_t experts[TOKENS][CHOICES], slot_of[TOKENS][CHOICES], offsets[EXPERTS + 1];
  int32_t row_token[ROWS];
  fill(&x[0][0], TOKENS * WIDTH, 1);
  fill(&logits[0][0], TOKENS * EXPERTS, 2);
  fill(&w_in[0][0][0], EXPERTS * HIDDEN * WIDTH, 3);
  fill(&w_out[0][0][0], EXPERTS * WIDTH * HIDDEN, 4);

  int64_t tokens_width[] = {TOKENS, WIDTH}, tokens_experts[] = {TOKENS, EXPERTS};
  int64_t tokens_choices[] = {TOKENS, CHOICES}, tokens[] = {TOKENS}, rows[] = {ROWS};
  int64_t in[] = {EXPERTS, HIDDEN, WIDTH}, out[] = {EXPERTS, WIDTH, HIDDEN}, ends[] = {EXPERTS + 1};
  DLTensor dl_x = tensor(x, float32, 2, tokens_width);
  DLTensor dl_logits = tensor(logits, float32, 2, tokens_experts);
  DLTensor dl_w_in = tensor(w_in, float32, 3, in), dl_w_out = tensor(w_out, float32, 3, out);
  DLTensor dl_y = tensor(y, float32, 2, tokens_width);
  DLTensor dl_weights = tensor(weights, float32, 2, tokens_choices);
  DLTensor dl_experts = tensor(experts, int32, 2, tokens_choices);
  DLTensor dl_log_sum_exp = tensor(log_sum_exp, float32, 1, tokens);
  DLTensor dl_margin = tensor(margin, float32, 1, tokens);
  DLTensor dl_offsets = tensor(offsets, int32, 1, ends);
  DLTensor dl_row_token = tensor(row_token, int32, 1, rows);
  DLTensor dl_slot_of = tensor(slot_of, int32, 2, tokens_choices);

  /* What is not named is NULL or 0: no biases, no capacity, nothing kept for a backward pass. */
  const moat_moe_layer_args layer = {.x = &dl_x,
                                     .logits = &dl_logits,
                                     .w_in = &dl_w_in,
                                     .w_out = &dl_w_out,
                                     .y = &dl_y,
                                     .weights = &dl_weights,
                                     .experts = &dl_experts,
                                     .log_sum_exp = &dl_log_sum_exp,
                                     .margin = &dl_margin,
                                     .offsets = &dl_offsets,
                                     .row_token = &dl_row_token,
                                     .slot_of = &dl_slot_of,
                                     .form = MOAT_SOFTMAX_TOPK,
                                     .activation = MOAT_RELU};
  moat_target on = {.device = {kDLCPU, 0}};
  if (moat_context_create(&on.context) != MOAT_OK ||
      moat_moe_layer_workspace(&on, &layer, &on.workspace_bytes) != MOAT_OK) {
    fprintf(stderr, "%s\n", moat_last_error());
    return 1;
  }
  void* memory = malloc(on.workspace_bytes + 63);
  if (!memory) return 1;
  on.workspace = (void*)(((uintptr_t)memory + 63) / 64 * 64);
  if (moat_moe_layer(&on, &layer) != MOAT_OK) {
    fprintf(stderr, "%s\n", moat_last_error());
    return 1;
  }

  double largest = 0;
  for (int t = 0; t < TOKENS; ++t) {
    double expected[WIDTH];
    by_plain_loops(t, expected);
    for (int n = 0; n < WIDTH; ++n) largest = fmax(largest, fabs(y[t][n] - expected[n]));
    printf("token %d: experts %d and %d, weights %.3f and %.3f, y = %+.3f %+.3f ...\n", t,
           (int)experts[t][0], (int)experts[t][1], weights[t][0], weights[t][1], y[t][0], y[t][1]);
  }
  printf("largest difference from plain loops: %.1e\n", largest);

  /* A call that cannot be says what is wrong, and writes nothing. */
  moat_moe_layer_args wrong = layer;
  wrong.w_out = &dl_w_in;
  const moat_status status = moat_moe_layer(&on, &wrong);
  printf("refused with status %d: %s\n", (int)status, moat_last_error());

  moat_context_destroy(on.context);
  free(memory);
  return largest < 1e-5 && status == MOAT_BAD_ARGS ? 0 : 1;
}
