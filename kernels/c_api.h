#pragma once

/* The kernels for other languages and engines: plain C99 over DLPack tensors, on a CPU and on CUDA.
 *
 *   moat_context* context;
 *   moat_context_create(&context);
 *   moat_target on = {.device = {kDLCPU, 0}, .context = context};
 *   moat_moe_layer_args args = {.x = &x, .logits = &logits, ...};
 *   moat_moe_layer_workspace(&on, &args, &on.workspace_bytes);
 *   on.workspace = aligned_alloc(...);
 *   if (moat_moe_layer(&on, &args) != MOAT_OK) puts(moat_last_error());
 *
 * Every function takes where to run and a struct of tensors; x_workspace(), where a kernel has one,
 * takes the same and says how much scratch memory x() wants: from the shapes alone, on a CPU also
 * from the number of OpenMP threads, on CUDA from which tensors start at multiples of 16 bytes. It
 * takes tensors whose data is NULL yet, and assumes that of them. Tensors and scratch memory are
 * the caller's; nothing of them is kept. On CUDA the work is enqueued on the target's stream (the
 * tensors' device must be current), and a captured graph may hold it. Two equal calls give the same
 * bits.
 *
 * Tensors are row-major without gaps (strides NULL, or those), on the target's device, aligned to
 * their elements, and their shapes are the ones beside them here: an extent of one name is the same
 * in all tensors of a call. Results must not overlap anything else unless the struct says so. "or
 * NULL" marks what may be absent. `real` is float32, bfloat16 or float64, one of them per call;
 * `wide` is the same but for bfloat16, where it is float32.
 *
 * A call outside its contract returns a status, moat_last_error() says in one line what must hold
 * and what was given, and nothing is launched or written. On a CPU that goes for indices in
 * tensors too, save that no two rows in slot_of are alike, which is not checked; what lies in
 * device memory is not looked at.
 */

#include <dlpack/dlpack.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum moat_status {
  MOAT_OK = 0,
  MOAT_BAD_ARGS = 1,        /* an argument is outside the contract */
  MOAT_UNSUPPORTED = 2,     /* legal, but this build, device or machine cannot do it */
  MOAT_SMALL_WORKSPACE = 3, /* less scratch memory than x_workspace() says */
  MOAT_LIBRARY_FAILED = 4,  /* oneDNN or a CUDA library returned an error */
  MOAT_LAUNCH_FAILED = 5    /* the CUDA launch itself failed */
} moat_status;

/* Why the last call of this thread failed, "" when it did not. Valid until the thread's next call.
 */
const char* moat_last_error(void);

/* Library handles and caches. One context serves one thread at a time. */
typedef struct moat_context moat_context;
moat_status moat_context_create(moat_context** context);
void moat_context_destroy(moat_context* context); /* NULL is fine */

/* Where to run. */
typedef struct moat_target {
  DLDevice device;       /* kDLCPU, or kDLCUDA with its index */
  moat_context* context; /* NULL will do where no library is called: for all kernels of today */
  void* stream;          /* cudaStream_t, NULL is the default stream; NULL on a CPU */
  void* workspace;       /* on the device, aligned to 64 bytes on a CPU and to 256 on CUDA */
  size_t workspace_bytes;
} moat_target;

/* Choosing experts. */

typedef enum moat_gate_form {
  MOAT_SOFTMAX_TOPK = 0,        /* softmax over all experts, the k largest probabilities */
  MOAT_SOFTMAX_TOPK_RENORM = 1, /* the same, divided by their sum */
  MOAT_TOPK_SOFTMAX = 2,        /* the k largest logits, softmax over those */
  MOAT_SIGMOID_TOPK = 3         /* sigmoid scores; selection adds the bias, weights do not */
} moat_gate_form;

/* Noisy gating: logits + deviation * z, with normal draws z that depend on these numbers alone. */
typedef struct moat_gate_noise {
  double deviation;        /* 0: no noise, and nothing below is read */
  const DLTensor* samples; /* int32 [tokens] or NULL: a token's number */
  uint64_t seed;
  uint32_t iteration, purpose, stream; /* purpose < 2^8, stream < 2^24 */
} moat_gate_noise;

/* Group-limited selection: only experts of the `kept` best of `count` equal groups are chosen. A
 * group's score is the sum of its two largest, or its largest. */
typedef enum moat_group_score { MOAT_TWO_LARGEST = 0, MOAT_LARGEST = 1 } moat_group_score;
typedef struct moat_expert_groups {
  int count, kept; /* both 0: no groups */
  moat_group_score score;
} moat_expert_groups;

/* The k best experts of each token and their weights, the best first; ties go to the lowest index,
 * NaN counts as -inf. log_sum_exp is of all logits. The selection stays what it is while every
 * score moves by less than half of the margin. CUDA takes up to 4096 experts. See
 * kernels/gate/topk_gate.h. */
typedef struct moat_topk_gate_args {
  const DLTensor* logits; /* real [tokens, experts] */
  const DLTensor* bias;   /* wide [experts] or NULL; MOAT_SIGMOID_TOPK only */
  DLTensor* weights;      /* wide [tokens, k] */
  DLTensor* experts;      /* int32 [tokens, k] */
  DLTensor* log_sum_exp;  /* wide [tokens] */
  DLTensor* margin;       /* wide [tokens] */
  DLTensor* noisy_logits; /* wide [tokens, experts] or NULL */
  moat_gate_form form;
  moat_gate_noise noise;
  moat_expert_groups groups;
} moat_topk_gate_args;
moat_status moat_topk_gate_workspace(const moat_target*, const moat_topk_gate_args*, size_t* bytes);
moat_status moat_topk_gate(const moat_target*, const moat_topk_gate_args*);

/* Through the weights, the selection held fixed. */
typedef struct moat_topk_gate_grad_args {
  const DLTensor* logits;       /* real [tokens, experts] */
  const DLTensor* noisy_logits; /* wide [tokens, experts] where there was noise, else NULL */
  const DLTensor* experts;      /* int32 [tokens, k], as moat_topk_gate wrote them */
  const DLTensor* weights;      /* wide [tokens, k], as moat_topk_gate wrote them */
  const DLTensor* d_weights;    /* wide [tokens, k] */
  DLTensor* d_logits;           /* real [tokens, experts] */
  moat_gate_form form;
} moat_topk_gate_grad_args;
moat_status moat_topk_gate_grad(const moat_target*, const moat_topk_gate_grad_args*);

/* The auxiliary losses of a gate, in this order: importance, load (0 without noise), balance, z;
 * see kernels/gate/gate_losses.h for the formulas and the papers. CUDA takes up to 4096 experts. */
typedef struct moat_gate_losses_args {
  const DLTensor* logits;       /* real [tokens, experts] */
  const DLTensor* noisy_logits; /* wide [tokens, experts] where there was noise, else NULL */
  const DLTensor* experts;      /* int32 [tokens, k], as moat_topk_gate wrote them */
  DLTensor* losses;             /* wide [4] */
  DLTensor* sums;               /* float64 [4, experts], for the gradient */
  double deviation;             /* of the noise; above 0 where noisy_logits is given */
} moat_gate_losses_args;
moat_status moat_gate_losses_workspace(const moat_target*, const moat_gate_losses_args*,
                                       size_t* bytes);
moat_status moat_gate_losses(const moat_target*, const moat_gate_losses_args*);

/* The gradient of the sum over l of d_losses[l] * losses[l]. */
typedef struct moat_gate_losses_grad_args {
  const DLTensor* logits; /* as for moat_gate_losses, down to experts */
  const DLTensor* noisy_logits;
  const DLTensor* experts;
  const DLTensor* sums;     /* float64 [4, experts], as moat_gate_losses wrote them */
  const DLTensor* d_losses; /* wide [4] */
  DLTensor* d_logits;       /* real [tokens, experts] */
  double deviation;         /* as for moat_gate_losses */
} moat_gate_losses_grad_args;
moat_status moat_gate_losses_grad_workspace(const moat_target*, const moat_gate_losses_grad_args*,
                                            size_t* bytes);
moat_status moat_gate_losses_grad(const moat_target*, const moat_gate_losses_grad_args*);

/* Rows by expert, and back. */

/* Sorts the (token, choice) pairs by expert, stably: rows offsets[e] .. offsets[e + 1] are expert
 * e's. With a capacity an expert keeps at most that many pairs: first choices before second ones,
 * tokens in order or by falling priority. CUDA takes up to 11264 experts. */
typedef struct moat_routing_index_args {
  const DLTensor* experts;  /* int32 [tokens, k], in [0, num_experts) */
  const DLTensor* priority; /* real [tokens] or NULL */
  DLTensor* offsets;        /* int32 [num_experts + 1] */
  DLTensor* row_token;      /* int32 [tokens * k]: token of a row, -1 beyond the last offset */
  DLTensor* slot_of;        /* int32 [tokens, k]: row of a pair, -1 when dropped */
  int capacity;             /* pairs per expert; 0: unlimited */
} moat_routing_index_args;
moat_status moat_routing_index_workspace(const moat_target*, const moat_routing_index_args*,
                                         size_t* bytes);
moat_status moat_routing_index(const moat_target*, const moat_routing_index_args*);

/* y[r, :] = x[row_token[r], :], zeros where row_token[r] = -1. */
typedef struct moat_dispatch_rows_args {
  const DLTensor* x;         /* real [tokens, width] */
  const DLTensor* row_token; /* int32 [rows], in [-1, tokens) */
  DLTensor* y;               /* real [rows, width] */
} moat_dispatch_rows_args;
moat_status moat_dispatch_rows(const moat_target*, const moat_dispatch_rows_args*);

/* y[t, :] = sum over j of weights[t, j] * rows[slot_of[t, j], :], in the order of j; a dropped
 * choice (-1) adds nothing. Without weights this is the gradient of moat_dispatch_rows. */
typedef struct moat_combine_rows_args {
  const DLTensor* rows;    /* real [rows, width] */
  const DLTensor* weights; /* wide [tokens, k] or NULL: 1 */
  const DLTensor* slot_of; /* int32 [tokens, k], in [-1, rows) */
  DLTensor* y;             /* real [tokens, width] */
} moat_combine_rows_args;
moat_status moat_combine_rows(const moat_target*, const moat_combine_rows_args*);

/* A result that is NULL is not computed; rows is read for d_weights alone, and may then be NULL. */
typedef struct moat_combine_rows_grad_args {
  const DLTensor* d_y;     /* real [tokens, width] */
  const DLTensor* rows;    /* real [rows, width] */
  const DLTensor* weights; /* wide [tokens, k] or NULL: 1 */
  const DLTensor* slot_of; /* int32 [tokens, k], in [-1, rows), no two alike */
  DLTensor* d_rows;        /* real [rows, width] or NULL */
  DLTensor* d_weights;     /* wide [tokens, k] or NULL */
} moat_combine_rows_grad_args;
moat_status moat_combine_rows_grad(const moat_target*, const moat_combine_rows_grad_args*);

/* Experts. */

typedef enum moat_activation {
  MOAT_NO_ACTIVATION = 0,
  MOAT_RELU = 1,
  MOAT_GELU = 2,      /* exact, by erf */
  MOAT_GELU_TANH = 3, /* its usual approximation */
  MOAT_SWIGLU = 4     /* silu of the first half of the columns times the second half */
} moat_activation;

typedef enum moat_transpose { MOAT_AS_IS = 0, MOAT_TRANSPOSED = 1 } moat_transpose;

/* How CUDA multiplies float32 values: with float32's accuracy, or rounded to TF32. */
typedef enum moat_precision { MOAT_FLOAT32 = 0, MOAT_TF32 = 1 } moat_precision;

/* A product per expert: for rows r of expert e, offsets[e] <= r < offsets[e + 1],
 *   pre[r, :] = x[row_token ? row_token[r] : r, :] * op(w[e]) + bias[e, :],  y = activation(pre);
 * rows from the last offset on are zeros. MOAT_TRANSPOSED takes w [experts, n, k], as PyTorch's
 * linear layers keep it; its input gradient is the same call on d_y with MOAT_AS_IS. */
typedef struct moat_grouped_gemm_args {
  const DLTensor* x;         /* real [x_rows, k]; [rows, k] without row_token */
  const DLTensor* row_token; /* int32 [rows] or NULL; in [0, x_rows) for an expert's rows */
  const DLTensor* w;         /* real [experts, k, n], or [experts, n, k] when transposed */
  const DLTensor* bias;      /* wide [experts, n] or NULL */
  const DLTensor* offsets;   /* int32 [experts + 1], ascending from 0 to at most rows */
  DLTensor* y;               /* real [rows, n], [rows, n / 2] for MOAT_SWIGLU */
  DLTensor* pre;             /* real [rows, n] or NULL */
  moat_transpose transpose_w;
  moat_activation activation;
  moat_precision precision;
} moat_grouped_gemm_args;
moat_status moat_grouped_gemm_workspace(const moat_target*, const moat_grouped_gemm_args*,
                                        size_t* bytes);
moat_status moat_grouped_gemm(const moat_target*, const moat_grouped_gemm_args*);

/* d_w[e] = sum over rows r of e of d_y[r, :]^T x[token(r), :], d_bias[e] = sum of d_y[r, :]. */
typedef struct moat_grouped_gemm_weight_grad_args {
  const DLTensor* x;         /* real [x_rows, k]; [rows, k] without row_token */
  const DLTensor* row_token; /* int32 [rows] or NULL; in [0, x_rows) for an expert's rows */
  const DLTensor* d_y;       /* real [rows, n] */
  const DLTensor* offsets;   /* int32 [experts + 1], ascending from 0 to at most rows */
  DLTensor* d_w;             /* wide [experts, n, k] */
  DLTensor* d_bias;          /* wide [experts, n] or NULL */
  moat_precision precision;
} moat_grouped_gemm_weight_grad_args;
moat_status moat_grouped_gemm_weight_grad_workspace(const moat_target*,
                                                    const moat_grouped_gemm_weight_grad_args*,
                                                    size_t* bytes);
moat_status moat_grouped_gemm_weight_grad(const moat_target*,
                                          const moat_grouped_gemm_weight_grad_args*);

typedef struct moat_expert_activation_args {
  const DLTensor* pre; /* real [rows, width] */
  DLTensor* y;         /* real [rows, width], [rows, width / 2] for MOAT_SWIGLU */
  moat_activation activation;
} moat_expert_activation_args;
moat_status moat_expert_activation(const moat_target*, const moat_expert_activation_args*);

typedef struct moat_expert_activation_grad_args {
  const DLTensor* d_y; /* real [rows, width], [rows, width / 2] for MOAT_SWIGLU */
  const DLTensor* pre; /* real [rows, width] */
  DLTensor* d_pre;     /* real [rows, width] */
  moat_activation activation;
} moat_expert_activation_grad_args;
moat_status moat_expert_activation_grad(const moat_target*,
                                        const moat_expert_activation_grad_args*);

/* The whole layer. */

/* weights, experts = moat_topk_gate(logits), rows sorted by expert, R = tokens * k of them,
 *   rows[r] = activation(x[row_token[r]] * w_in[e]^T + b_in[e]) * w_out[e]^T + b_out[e],
 *   y[t]    = sum over j of weights[t, j] * rows[slot_of[t, j]].
 * `gate` is real or float32: a float32 router may serve bfloat16 experts. hidden is inner, or half
 * of it for MOAT_SWIGLU. What the backward pass reads is the caller's to keep; pre and rows may be
 * NULL where there will be none. CUDA takes up to 4096 experts. */
typedef struct moat_moe_layer_args {
  const DLTensor* x;         /* real [tokens, width] */
  const DLTensor* logits;    /* gate [tokens, experts] */
  const DLTensor* gate_bias; /* wide [experts] or NULL; MOAT_SIGMOID_TOPK only */
  const DLTensor* priority;  /* gate [tokens] or NULL: who is dropped last */
  const DLTensor* w_in;      /* real [experts, inner, width] */
  const DLTensor* b_in;      /* wide [experts, inner] or NULL */
  const DLTensor* w_out;     /* real [experts, out_width, hidden] */
  const DLTensor* b_out;     /* wide [experts, out_width] or NULL */
  DLTensor* y;               /* real [tokens, out_width] */
  DLTensor* weights;         /* wide [tokens, k] */
  DLTensor* experts;         /* int32 [tokens, k] */
  DLTensor* log_sum_exp;     /* wide [tokens] */
  DLTensor* margin;          /* wide [tokens] */
  DLTensor* noisy_logits;    /* wide [tokens, experts] or NULL; noise only */
  DLTensor* offsets;         /* int32 [experts + 1] */
  DLTensor* row_token;       /* int32 [R] */
  DLTensor* slot_of;         /* int32 [tokens, k] */
  DLTensor* pre;             /* real [R, inner] or NULL */
  DLTensor* rows;            /* real [R, out_width] or NULL */
  int capacity;              /* choices per expert; 0: unlimited */
  moat_gate_form form;
  moat_gate_noise noise;
  moat_expert_groups groups;
  moat_activation activation;
  moat_precision precision;
} moat_moe_layer_args;
moat_status moat_moe_layer_workspace(const moat_target*, const moat_moe_layer_args*, size_t* bytes);
moat_status moat_moe_layer(const moat_target*, const moat_moe_layer_args*);

/* The mask of gradients is which results are there: one that is NULL is not computed, and inputs
 * that are only "for" such are not looked at. Without d_w_in and d_w_out this is the input-only
 * backward, two products in place of four. */
typedef struct moat_moe_layer_grad_args {
  const DLTensor* d_y;          /* real [tokens, out_width] */
  const DLTensor* x;            /* real [tokens, width], for d_w_in */
  const DLTensor* logits;       /* gate [tokens, experts], for d_logits */
  const DLTensor* noisy_logits; /* wide [tokens, experts] where there was noise, else NULL */
  const DLTensor* w_in;         /* real [experts, inner, width], for d_x */
  const DLTensor* w_out;        /* real [experts, out_width, hidden], for d_x and d_w_in */
  const DLTensor* weights;      /* wide [tokens, k], as moat_moe_layer wrote them, and so on */
  const DLTensor* experts;      /* int32 [tokens, k], for d_logits */
  const DLTensor* offsets;      /* int32 [experts + 1] */
  const DLTensor* row_token;    /* int32 [R], for d_w_in */
  const DLTensor* slot_of;      /* int32 [tokens, k] */
  const DLTensor* pre;          /* real [R, inner], for d_x, d_w_in and d_w_out */
  const DLTensor* rows;         /* real [R, out_width], for d_logits */
  DLTensor* d_x;                /* real [tokens, width] or NULL */
  DLTensor* d_logits;           /* gate [tokens, experts] or NULL */
  DLTensor* d_w_in;             /* wide [experts, inner, width] or NULL */
  DLTensor* d_b_in;             /* wide [experts, inner] or NULL; only with d_w_in */
  DLTensor* d_w_out;            /* wide [experts, out_width, hidden] or NULL */
  DLTensor* d_b_out;            /* wide [experts, out_width] or NULL; only with d_w_out */
  moat_gate_form form;
  moat_activation activation;
  moat_precision precision;
} moat_moe_layer_grad_args;
moat_status moat_moe_layer_grad_workspace(const moat_target*, const moat_moe_layer_grad_args*,
                                          size_t* bytes);
moat_status moat_moe_layer_grad(const moat_target*, const moat_moe_layer_grad_args*);

/* Beside the layer. */

typedef enum moat_softmax_form { MOAT_SOFTMAX = 0, MOAT_LOG_SOFTMAX = 1 } moat_softmax_form;

typedef struct moat_softmax_args {
  const DLTensor* x; /* real [rows, columns] */
  DLTensor* y;       /* real [rows, columns] */
  moat_softmax_form form;
} moat_softmax_args;
moat_status moat_softmax(const moat_target*, const moat_softmax_args*);

typedef struct moat_softmax_grad_args {
  const DLTensor* y;   /* real [rows, columns], as moat_softmax wrote it */
  const DLTensor* d_y; /* real [rows, columns] */
  DLTensor* d_x;       /* real [rows, columns] */
  moat_softmax_form form;
} moat_softmax_grad_args;
moat_status moat_softmax_grad(const moat_target*, const moat_softmax_grad_args*);

typedef enum moat_norm { MOAT_LINF = 0, MOAT_L2 = 1 } moat_norm;

/* One attack step per image, the projection on the ball of radius eps around center, and the clip
 * to [0, 1]: see kernels/update/ball_step.h. float32 or float64; y may be x itself. */
typedef struct moat_ball_step_args {
  const DLTensor* x;        /* [images, pixels] */
  const DLTensor* gradient; /* [images, pixels] or NULL: project only */
  const DLTensor* center;   /* [images, pixels], in [0, 1] */
  DLTensor* velocity;       /* [images, pixels] or NULL; updated in place */
  DLTensor* y;              /* [images, pixels] */
  moat_norm norm;
  double eps, step, momentum; /* pixel units */
} moat_ball_step_args;
moat_status moat_ball_step(const moat_target*, const moat_ball_step_args*);

#ifdef __cplusplus
}
#endif
