"""moat's mixture-of-experts layer as a torch.autograd.Function, through DLPack and the C API.

    python moe_layer.py build/cpu/kernels/libmoat_kernels.so [cuda]

compares it with plain PyTorch operations, values and gradients, and exits with 1 when they differ. A
backward pass computes the gradients that somebody asked for: an attack, which moves the images and
leaves the weights alone, pays for two products instead of four.

The layer runs where its tensors are. moat's tests run this on a CPU; on CUDA, which needs a library
built for it and the tensors' device current, nobody has run it yet.
"""

import ctypes
import sys
import threading

import torch
import torch.nn.functional as F
from torch.utils.dlpack import to_dlpack

FORMS = {"softmax_topk": 0, "softmax_topk_renorm": 1, "topk_softmax": 2, "sigmoid_topk": 3}
ACTIVATIONS = {"none": 0, "relu": 1, "gelu": 2, "gelu_tanh": 3, "swiglu": 4}


class Target(ctypes.Structure):
    """moat_target of kernels/c_api.h, and so on below."""

    _fields_ = [("device_type", ctypes.c_int), ("device_id", ctypes.c_int), ("context", ctypes.c_void_p),
                ("stream", ctypes.c_void_p), ("workspace", ctypes.c_void_p),
                ("workspace_bytes", ctypes.c_size_t)]


class Noise(ctypes.Structure):
    _fields_ = [("deviation", ctypes.c_double), ("samples", ctypes.c_void_p), ("seed", ctypes.c_uint64),
                ("iteration", ctypes.c_uint32), ("purpose", ctypes.c_uint32), ("stream", ctypes.c_uint32)]


class Groups(ctypes.Structure):
    _fields_ = [("count", ctypes.c_int), ("kept", ctypes.c_int), ("score", ctypes.c_int)]


def tensors(names):
    return [(name, ctypes.c_void_p) for name in names.split()]


def options(names):
    return [(name, ctypes.c_int) for name in names.split()]


class Forward(ctypes.Structure):
    _fields_ = (tensors("x logits gate_bias priority w_in b_in w_out b_out y weights experts log_sum_exp "
                        "margin noisy_logits offsets row_token slot_of pre rows")
                + options("capacity form") + [("noise", Noise), ("groups", Groups)]
                + options("activation precision"))


class Backward(ctypes.Structure):
    _fields_ = (tensors("d_y x logits noisy_logits w_in w_out weights experts offsets row_token slot_of pre "
                        "rows d_x d_logits d_w_in d_b_in d_w_out d_b_out")
                + options("form activation precision"))


class Kernels(threading.local):
    """The library; its context serves one thread at a time, so every thread has its own."""

    def __init__(self, path):
        self.api = ctypes.CDLL(path)
        self.api.moat_last_error.restype = ctypes.c_char_p
        self.context = ctypes.c_void_p()
        self.check(self.api.moat_context_create(ctypes.byref(self.context)))

    def check(self, status):
        if status != 0:
            raise RuntimeError(self.api.moat_last_error().decode())

    def run(self, name, args, **tensors_of_call):
        """Calls moat_<name> on the tensors, those that are not None, with scratch memory as it asks."""
        get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
        get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        capsules = []  # each keeps its DLTensor alive until the call is over
        for field, tensor in tensors_of_call.items():
            if tensor is not None:
                capsules.append(to_dlpack(tensor.detach()))
                setattr(args, field, get_pointer(capsules[-1], b"dltensor"))
        first = next(iter(tensors_of_call.values()))  # all are on its device
        on = Target(*first.__dlpack_device__(), context=self.context)
        if first.is_cuda:
            on.stream = torch.cuda.current_stream(first.device).cuda_stream
        size = ctypes.c_size_t()
        self.check(getattr(self.api, f"moat_{name}_workspace")(
            ctypes.byref(on), ctypes.byref(args), ctypes.byref(size)))
        # PyTorch aligns to 64 bytes, on CUDA to 512, and hands it out again in the order of the stream.
        workspace = torch.empty(size.value, dtype=torch.uint8, device=first.device)
        on.workspace, on.workspace_bytes = workspace.data_ptr(), size.value
        self.check(getattr(self.api, f"moat_{name}")(ctypes.byref(on), ctypes.byref(args)))


def wide(dtype):
    """What weights of the gate, biases and gradients of filters are in."""
    return torch.float32 if dtype == torch.bfloat16 else dtype


class MoeLayer(torch.autograd.Function):
    """x [tokens, width], logits [tokens, experts], w_in [experts, inner, width], w_out [experts, width,
    hidden], biases [experts, inner] and [experts, width] or None -> y [tokens, width]."""

    @staticmethod
    def forward(ctx, x, logits, w_in, b_in, w_out, b_out, k, form, activation, kernels):
        x, logits, w_in, b_in, w_out, b_out = (
            t if t is None else t.contiguous() for t in (x, logits, w_in, b_in, w_out, b_out))
        (count, experts), rows = logits.shape, len(x) * k
        real, compute, index = ({"dtype": dtype, "device": x.device}
                                for dtype in (x.dtype, wide(x.dtype), torch.int32))
        y = torch.empty(count, w_out.shape[1], **real)
        saved = {"weights": torch.empty(count, k, **compute), "experts": torch.empty(count, k, **index),
                 "offsets": torch.empty(experts + 1, **index), "row_token": torch.empty(rows, **index),
                 "slot_of": torch.empty(count, k, **index)}
        if any(ctx.needs_input_grad):
            saved["pre"] = torch.empty(rows, w_in.shape[1], **real)
            saved["rows"] = torch.empty(rows, w_out.shape[1], **real)
        args = Forward(form=FORMS[form], activation=ACTIVATIONS[activation])
        kernels.run("moe_layer", args, x=x, logits=logits, w_in=w_in, b_in=b_in, w_out=w_out, b_out=b_out,
                    y=y, log_sum_exp=torch.empty(count, **compute), margin=torch.empty(count, **compute),
                    **saved)
        _, _, needs_w_in, needs_b_in, *_ = ctx.needs_input_grad
        ctx.names = ["x", "logits", "w_in", "w_out", *saved]
        ctx.save_for_backward(x if needs_w_in or needs_b_in else None, logits, w_in, w_out, *saved.values())
        ctx.options = {"form": FORMS[form], "activation": ACTIVATIONS[activation]}
        ctx.kernels = kernels
        return y

    @staticmethod
    def backward(ctx, d_y):
        saved = dict(zip(ctx.names, ctx.saved_tensors))
        logits, w_in, w_out = saved["logits"], saved["w_in"], saved["w_out"]
        needs = dict(zip(("x", "logits", "w_in", "b_in", "w_out", "b_out"), ctx.needs_input_grad))
        compute = wide(w_in.dtype)
        d = {name: None for name in needs}  # a gradient that stays None is not computed
        if needs["x"]:
            d["x"] = w_in.new_empty(len(d_y), w_in.shape[2])
        if needs["logits"]:
            d["logits"] = torch.empty_like(logits)
        if needs["w_in"] or needs["b_in"]:
            d["w_in"] = torch.empty_like(w_in, dtype=compute)
        if needs["b_in"]:
            d["b_in"] = w_in.new_empty(w_in.shape[:2], dtype=compute)
        if needs["w_out"] or needs["b_out"]:
            d["w_out"] = torch.empty_like(w_out, dtype=compute)
        if needs["b_out"]:
            d["b_out"] = w_out.new_empty(w_out.shape[:2], dtype=compute)
        ctx.kernels.run("moe_layer_grad", Backward(**ctx.options), d_y=d_y.contiguous(), **saved,
                        **{f"d_{name}": gradient for name, gradient in d.items()})
        d["w_in"] = d["w_in"].to(w_in.dtype) if needs["w_in"] else None
        d["w_out"] = d["w_out"].to(w_out.dtype) if needs["w_out"] else None
        return tuple(d.values()) + (None,) * 4


def plain_layer(x, logits, w_in, b_in, w_out, b_out, k, form, activation):
    """The same layer of PyTorch's own operations, expert by expert, in one number format."""
    scores = torch.sigmoid(logits) if form == "sigmoid_topk" else logits.softmax(-1)
    weights, experts = scores.topk(k)
    if form in ("softmax_topk_renorm", "topk_softmax"):
        weights = weights / weights.sum(-1, keepdim=True)
    y = x.new_zeros(len(x), w_out.shape[1])
    for e in range(len(w_in)):
        token, choice = (experts == e).nonzero(as_tuple=True)
        pre = F.linear(x[token], w_in[e], None if b_in is None else b_in[e])
        if activation == "swiglu":
            gate, value = pre.chunk(2, -1)
            hidden = F.silu(gate) * value
        elif activation == "gelu_tanh":
            hidden = F.gelu(pre, approximate="tanh")
        else:
            hidden = {"none": lambda t: t, "relu": F.relu, "gelu": F.gelu}[activation](pre)
        out = F.linear(hidden, w_out[e], None if b_out is None else b_out[e])
        y = y.index_add(0, token, out * weights[token, choice, None])
    return y


NAMES = ("x", "logits", "w_in", "b_in", "w_out", "b_out")


def draw(dtype, activation, tokens=96, experts=5, width=24, hidden=40):
    """Inputs in the order of NAMES; a bfloat16 layer has a float32 router and biases. Each lies in memory
    with its last two axes exchanged, as any tensor may."""
    inner = 2 * hidden if activation == "swiglu" else hidden
    shapes = ((tokens, width), (tokens, experts), (experts, inner, width), (experts, inner),
              (experts, width, hidden), (experts, width))
    dtypes = (dtype, wide(dtype), dtype, wide(dtype), dtype, wide(dtype))
    inputs = [(torch.randn(shape) / shape[-1] ** 0.5).to(d) for shape, d in zip(shapes, dtypes)]
    return [t.transpose(-1, -2).contiguous().transpose(-1, -2) for t in inputs]


def gradients(layer, inputs, needed, d_y):
    """y, and the gradients of <d_y, y> with respect to the inputs that are needed, None for others."""
    leaves = [t.clone().requires_grad_(name in needed) for name, t in zip(NAMES, inputs)]
    y = layer(*leaves)
    y.backward(d_y)
    return [y.detach()] + [leaf.grad for leaf in leaves]


def agrees(dtype, form, activation, k, kernels):
    inputs = draw(dtype, activation)
    d_y = torch.randn(inputs[0].shape).to(dtype)
    ours = gradients(lambda *t: MoeLayer.apply(*t, k, form, activation, kernels), inputs, NAMES, d_y)
    theirs = gradients(lambda *t: plain_layer(*t, k, form, activation), [t.double() for t in inputs], NAMES,
                       d_y.double())
    error = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, theirs))
    print(f"{str(dtype)[6:]}, {form}, {activation}, k = {k}: largest relative difference {error:.1e}")
    return error < {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]


def skips_weights(kernels):
    """An attack's backward pass: the same bits for x and logits, and no gradient of a weight."""
    inputs = draw(torch.float32, "relu")
    d_y = torch.randn_like(inputs[0])
    wanted = []

    class Listening:
        def run(self, name, args, **given):
            wanted.append(sorted(key for key, t in given.items() if key.startswith("d_") and t is not None))
            kernels.run(name, args, **given)

    layer = lambda *t: MoeLayer.apply(*t, 2, "softmax_topk", "relu", Listening())
    full = gradients(layer, inputs, NAMES, d_y)
    attack = gradients(layer, inputs, ("x", "logits"), d_y)
    print("training asks for", ", ".join(wanted[1]))
    print("an attack asks for", ", ".join(wanted[3]))
    same = all(torch.equal(a, b) for a, b in zip(full[:3], attack[:3]))
    return same and attack[3:] == [None] * 4 and wanted[3] == ["d_logits", "d_x", "d_y"]


def refuses(kernels):
    """What does not fit is an exception with moat's own words."""
    inputs = draw(torch.float32, "relu")
    inputs[4] = inputs[4][:, :, :-1]
    try:
        MoeLayer.apply(*inputs, 2, "softmax_topk", "relu", kernels)
    except RuntimeError as error:
        print("refused:", error)
        return "w_out must be float32" in str(error)
    return False


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    if len(sys.argv) == 3:
        torch.set_default_device(sys.argv[2])
    kernels = Kernels(sys.argv[1])
    torch.manual_seed(1)
    agreed = [agrees(dtype, form, activation, k, kernels)
              for dtype in (torch.float32, torch.bfloat16, torch.float64)
              for form, activation, k in (("softmax_topk", "relu", 2), ("softmax_topk_renorm", "gelu", 2),
                                          ("topk_softmax", "swiglu", 5), ("sigmoid_topk", "gelu_tanh", 1))]
    sys.exit(0 if all(agreed + [skips_weights(kernels), refuses(kernels)]) else 1)


if __name__ == "__main__":
    main()
