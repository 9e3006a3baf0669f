"""The rows of `moat bench kernels` in plain PyTorch, on the same shapes, loads and number formats.

    moat bench kernels --only 'moe-layer' --json > ours.json
    python kernels.py --rows ours.json --threads 2

prints one JSON document: for every row that PyTorch can do, microseconds by quartiles for each way of
doing it. `ops` are index operations: softmax and topk, a stable argsort, index_select, index_add. A
layer sorts its rows by expert once; `loop` then calls one linear per expert on its slice, `grouped_mm`
is torch._grouped_mm where this PyTorch has it.
"""

import argparse
import json
import pathlib
import statistics
import sys
import time

import torch
import torch.nn.functional as F

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def activate(h, name):
    if name == "swiglu":
        gate, value = h.chunk(2, 1)
        return F.silu(gate) * value
    return {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu,
            "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}[name](h)


def loop(x, w, bias, offsets):
    """One linear per expert; x is sorted by expert, offsets are on the host."""
    return torch.cat([F.linear(x[a:b], w[e], None if bias is None else bias[e])
                      for e, (a, b) in enumerate(zip(offsets, offsets[1:])) if b > a])


def grouped_mm(x, w, bias, offsets):
    y = torch._grouped_mm(x, w.transpose(1, 2), offs=torch.tensor(offsets[1:], dtype=torch.int32))
    if bias is None:
        return y
    counts = torch.tensor([b - a for a, b in zip(offsets, offsets[1:])])
    return y + torch.repeat_interleave(bias.to(y.dtype), counts, 0)


PRODUCTS = {"loop": loop}
if hasattr(torch, "_grouped_mm"):
    PRODUCTS["grouped_mm"] = grouped_mm


class Layer:
    """The tensors of one row and what is measured on them."""

    def __init__(self, row):
        torch.manual_seed(0)
        self.row = row
        tokens, width, hidden, experts = (row[n] for n in ("tokens", "width", "hidden", "experts"))
        dtype = DTYPES[row["dtype"]]
        self.k = row["k"]
        # k draws without replacement from the load's distribution, as the other side makes them.
        gumbel = -torch.log(-torch.log(torch.rand(tokens, experts).clamp_(1e-20, 1 - 1e-7)))
        if row["routing"] == "zipf":
            gumbel -= torch.log(torch.arange(1, experts + 1))
        self.logits = gumbel.to(dtype if row["width"] == 0 else torch.float32)
        self.weights, self.experts = self.gate()
        self.route_index()
        if width == 0:
            return
        self.x = torch.randn(tokens, width, dtype=dtype)
        self.sorted = torch.randn(tokens * self.k, width, dtype=dtype)
        if hidden == 0:
            return
        inner = hidden * (2 if row["activation"] == "swiglu" else 1)
        self.w_in = torch.randn(experts, inner, width, dtype=dtype)
        self.w_out = torch.randn(experts, width, hidden, dtype=dtype)
        self.b_in = torch.randn(experts, inner, dtype=dtype) if row["biases"] else None
        self.b_out = torch.randn(experts, width, dtype=dtype) if row["biases"] else None
        self.hidden_rows = torch.randn(tokens * self.k, hidden, dtype=dtype)
        self.d_pre = torch.randn(tokens * self.k, inner, dtype=dtype)
        self.d_y = torch.randn(tokens, width, dtype=dtype)

    def gate(self):
        return torch.softmax(self.logits, 1).topk(self.k, 1)

    def route_index(self):
        chosen = self.experts.flatten()
        self.order = torch.argsort(chosen, stable=True)
        self.row_token = self.order // self.k
        counts = torch.bincount(chosen, minlength=self.row["experts"])
        self.offsets = [0] + torch.cumsum(counts, 0).tolist()

    def dispatch(self):
        return self.x.index_select(0, self.row_token)

    def combine(self, rows, weights):
        weighted = rows * weights.flatten()[self.order].unsqueeze(1).to(rows.dtype)
        y = torch.zeros(self.row["tokens"], rows.shape[1], dtype=rows.dtype)
        return y.index_add(0, self.row_token, weighted)

    def route(self):
        self.weights, self.experts = self.gate()
        self.route_index()
        return self.combine(self.dispatch(), self.weights)

    def forward(self, product, x=None, logits=None, parameters=None):
        x = self.x if x is None else x
        logits = self.logits if logits is None else logits
        w_in, b_in, w_out, b_out = parameters or (self.w_in, self.b_in, self.w_out, self.b_out)
        weights, self.experts = torch.softmax(logits, 1).topk(self.k, 1)
        self.route_index()
        pre = product(x.index_select(0, self.row_token), w_in, b_in, self.offsets)
        rows = product(activate(pre, self.row["activation"]), w_out, b_out, self.offsets)
        return self.combine(rows, weights)

    def backward(self, product, with_weights):
        inputs = [t.clone().requires_grad_() for t in (self.x, self.logits)]
        parameters = [t if t is None else t.clone().requires_grad_(with_weights)
                      for t in (self.w_in, self.b_in, self.w_out, self.b_out)]
        y = self.forward(product, *inputs, parameters)
        wanted = inputs + [p for p in parameters if p is not None and with_weights]
        return lambda: torch.autograd.grad(y, wanted, self.d_y, retain_graph=True)

    def weight_grad(self):
        x = self.dispatch()
        return [self.d_pre[a:b].t() @ x[a:b] for a, b in zip(self.offsets, self.offsets[1:])]

    def ways(self):
        """-> {name of the way: function without arguments}, empty for what PyTorch has no name for."""
        kernel = self.row["kernel"]
        plain = {"topk_gate": self.gate, "routing_index": self.route_index,
                 "dispatch_rows": self.dispatch, "route": self.route, "route_on_load": self.route,
                 "combine_rows": lambda: self.combine(self.sorted, self.weights)}
        if kernel in plain:
            return {"ops": plain[kernel]}
        if kernel == "grouped_gemm_weight_grad":
            return {"loop": self.weight_grad}

        def products(product):
            return {
                "grouped_gemm_in": lambda: activate(
                    product(self.dispatch(), self.w_in, self.b_in, self.offsets),
                    self.row["activation"]),
                "grouped_gemm_out": lambda: product(
                    self.hidden_rows, self.w_out, self.b_out, self.offsets),
                "grouped_gemm_input_grad": lambda: product(
                    self.d_pre, self.w_in.transpose(1, 2), None, self.offsets),
                "layer_forward": lambda: self.forward(product),
            }.get(kernel)

        if kernel in ("layer_backward", "layer_input_backward"):
            return {name: self.backward(product, kernel == "layer_backward")
                    for name, product in PRODUCTS.items()}
        return {name: products(product) for name, product in PRODUCTS.items() if products(product)}


def measure(run, seconds, least=3, most=200):
    run()
    taken = []
    while len(taken) < least or (len(taken) < most and sum(taken) < seconds):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return taken


def quartiles(taken):
    low, middle, high = (statistics.quantiles(taken, n=4, method="inclusive")
                         if len(taken) > 1 else taken * 3)
    return {"low_quartile": 1e6 * low, "median": 1e6 * middle, "high_quartile": 1e6 * high}


def measured(row, seconds):
    out = {"name": row["name"], "ways": {}}
    for way, run in Layer(row).ways().items():
        try:
            with torch.set_grad_enabled(row["kernel"].endswith("backward")):
                taken = measure(run, seconds)
            out["ways"][way] = {"microseconds": quartiles(taken), "samples": len(taken)}
        except RuntimeError as error:
            out["ways"][way] = {"failure": str(error).splitlines()[0]}
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", required=True, help="what moat bench kernels --json printed")
    parser.add_argument("--threads", type=int, default=0, help="0: what PyTorch chooses")
    parser.add_argument("--seconds", type=float, default=0.3, help="at most this long for a row")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    document = json.loads(pathlib.Path(args.rows).read_text())
    rows = [measured(row, args.seconds) for row in document["rows"]
            if row["kernel"] != "op" and "failure" not in row]
    json.dump({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows},
              sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
