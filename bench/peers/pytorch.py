"""The work of `moat bench train`, in plain PyTorch: what scripts/compare-pytorch measures us against.

    python pytorch.py --case resnet18-at-step --threads 2 --repeats 3
    python pytorch.py --case resnet18-at-step --device cuda --precision bf16 --batch 512 --form compile-graph

prints one JSON line. With --turns it takes turns with other programs on a warm machine: it says
"compiled" once it has run, "ready" after a line of standard input, and measures once for every line
after that; it ends with its standard input. Both sides run the same networks on the same shapes; here with the settings a
careful PyTorch user chooses: channels_last, autocast, parameters frozen during an attack, gradients
by torch.autograd.grad with respect to the pixels alone; on a GPU cuDNN's own search for algorithms,
and the whole step compiled, recorded as a CUDA graph, or both. Images are random: time does not
depend on them.
"""

import argparse
import json
import resource
import statistics
import sys
import time

import torch
import torch.nn.functional as F

from networks import MoeResNet, ResNet
from transformers import VisionTransformer, grouped, looped


def set_trainable(parameters, trainable):
    for parameter in parameters:
        parameter.requires_grad_(trainable)


def ball_step(x, gradient, center, eps, step):
    x = x + step * gradient.sign()
    return torch.min(torch.max(x, center - eps), center + eps).clamp(0, 1)


def pgd(model, images, labels, eps, step, steps):
    """Madry et al. 2018: uniform start, sign steps up the cross-entropy, norms in evaluation mode."""
    set_trainable(model.parameters(), False)
    model.eval()
    x = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(steps):
        x.requires_grad_(True)
        loss = F.cross_entropy(model(x).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x)
        x = ball_step(x.detach(), gradient, images, eps, step)
    model.train()
    set_trainable(model.parameters(), True)
    return x.detach()


def kl(p_logits, q_logits):
    """KL(softmax p || softmax q) per image."""
    log_p, log_q = F.log_softmax(p_logits, 1), F.log_softmax(q_logits, 1)
    return (log_p.exp() * (log_p - log_q)).sum(1)


def trades_attack(model, images, eps, step, steps):
    """Zhang et al. 2019: sign steps up the divergence from the clean prediction."""
    set_trainable(model.parameters(), False)
    model.eval()
    with torch.no_grad():
        clean = model(images).float()
    x = (images + 0.001 * torch.randn_like(images)).clamp(0, 1)
    for _ in range(steps):
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(kl(clean, model(x).float()).sum(), x)
        x = ball_step(x.detach(), gradient, images, eps, step)
    model.train()
    return x.detach()


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.01, momentum=0.9, weight_decay=5e-4)


def random_batch(count, channels, side, device, classes=10):
    images = torch.rand(count, channels, side, side, device=device)
    return (images.to(memory_format=torch.channels_last),
            torch.randint(classes, (count,), device=device))


def prepared(model, args):
    """-> (the module, what is called in its place)"""
    model = model.to(args.device, memory_format=torch.channels_last)
    return model, torch.compile(model) if "compile" in args.form else model


class AdversarialTraining:
    """Batches of PGD-10 plus a training step; `count` images make one repeat."""

    def __init__(self, model, count, channels, side, eps, step, args):
        self.module, self.model = prepared(model, args)
        self.optimizer = sgd(self.module.parameters())
        self.images, self.labels = random_batch(count, channels, side, args.device)
        self.eps, self.step, self.attack_steps = eps, step, args.attack_steps
        self.batch = args.batch

    def run(self):
        for first in range(0, len(self.images), self.batch):
            images = self.images[first : first + self.batch]
            labels = self.labels[first : first + self.batch]
            attacked = pgd(self.model, images, labels, self.eps, self.step, self.attack_steps)
            loss = F.cross_entropy(self.model(attacked).float(), labels)
            loss = loss + getattr(self.module, "auxiliary", 0.0)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()


class AdvMoe:
    """One AdvMoE iteration (Zhang et al. 2023) as its authors run it: every expert of every
    convolution is computed and masked. TRADES at both levels: attack, expert step, attack, router step."""

    def __init__(self, model, count, args):
        module, self.model = prepared(model, args)
        self.router = list(module.router.parameters())
        self.experts = [p for n, p in module.named_parameters() if not n.startswith("router.")]
        self.levels = [(self.experts, sgd(self.experts)), (self.router, sgd(self.router))]
        self.images, self.labels = random_batch(count, 3, 32, args.device)
        self.eps, self.step, self.attack_steps = 8 / 255, 2 / 255, args.attack_steps
        self.beta = 6.0

    def run(self):
        for parameters, optimizer in self.levels:
            attacked = trades_attack(self.model, self.images, self.eps, self.step, self.attack_steps)
            set_trainable(parameters, True)
            clean = self.model(self.images)
            loss = F.cross_entropy(clean, self.labels)
            loss = loss + self.beta * kl(clean, self.model(attacked)).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()


def digits_net():
    return ResNet(blocks=[2, 2, 2], widths=[16, 32, 64], stem_width=16, in_channels=1, classes=10)


def resnet18():
    return ResNet([2, 2, 2, 2], [64, 128, 256, 512], stem_width=64, in_channels=3, classes=10)


def moe_resnet18():
    return MoeResNet([2, 2, 2, 2], [64, 128, 256, 512], stem_width=64, in_channels=3, classes=10,
                     experts=2, ratio=0.5)


def vit_small(product=None):
    return VisionTransformer(side=32, patch=4, width=384, heads=6, depth=12, classes=10, product=product)


def v_moe_small(args):
    """A grouped product needs bfloat16, and a loop over experts cannot be recorded."""
    return vit_small(grouped if args.precision == "bf16" and hasattr(torch, "_grouped_mm") else looped)


DIGITS_TRAIN_IMAGES = 1079  # the rows i of 1,797 with i mod 5 < 3
CASES = {
    "digits-at-epoch": lambda args: AdversarialTraining(
        digits_net(), DIGITS_TRAIN_IMAGES, 1, 8, 0.1, 0.025, args),
    "resnet18-at-step": lambda args: AdversarialTraining(
        resnet18(), args.batch, 3, 32, 8 / 255, 2 / 255, args),
    "moe-resnet18-at-step": lambda args: AdversarialTraining(
        moe_resnet18(), args.batch, 3, 32, 8 / 255, 2 / 255, args),
    "vit-small-at-step": lambda args: AdversarialTraining(
        vit_small(), args.batch, 3, 32, 8 / 255, 2 / 255, args),
    "v-moe-small-at-step": lambda args: AdversarialTraining(
        v_moe_small(args), args.batch, 3, 32, 8 / 255, 2 / 255, args),
    "advmoe-iteration": lambda args: AdvMoe(moe_resnet18(), args.batch, args),
}
FORMS = ["eager", "compile", "graph", "compile-graph"]


def in_precision(work, args):
    """-> one step. Weights are cast anew in each: autocast keeps its copies until it ends."""
    def run():
        with torch.autocast(args.device, torch.bfloat16, enabled=args.precision == "bf16"):
            work.run()
    return run


def settled(run, args):
    """-> the same on a GPU: cuDNN has searched its algorithms, and a CUDA graph is recorded if the
    form says so, after runs on a side stream as PyTorch asks for. Peak memory is that of a run."""
    torch.backends.cudnn.benchmark = True
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    if args.form.endswith("graph"):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        run = graph.replay
    run()
    return run


def timed(run, synchronize):
    synchronize()
    began = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--case", required=True, choices=CASES)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16"])
    parser.add_argument("--form", default="eager", choices=FORMS)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0, help="0: what PyTorch chooses")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--attack-steps", type=int, default=10)
    parser.add_argument("--turns", action="store_true",
                        help="be told by lines of standard input when to go on")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    on_gpu = args.device == "cuda"
    synchronize = torch.cuda.synchronize if on_gpu else lambda: None
    if on_gpu:
        torch.backends.cudnn.allow_tf32 = args.precision == "tf32"
        torch.backends.cuda.matmul.allow_tf32 = args.precision == "tf32"

    work = CASES[args.case](args)
    run = in_precision(work, args)
    run()  # torch.compile compiles
    synchronize()
    if args.turns:
        if on_gpu:
            torch.cuda.empty_cache()
        print("compiled", flush=True)
        if not sys.stdin.readline():
            return
    if on_gpu:
        # Programs that search at the same time would mislead each other.
        run = settled(run, args)
        synchronize()
    if args.turns:
        print("ready", flush=True)
    for _ in sys.stdin if args.turns else [None]:
        if on_gpu:
            run()
        seconds = [timed(run, synchronize) for _ in range(args.repeats)]
        print(json.dumps({
            "name": args.case,
            "form": args.form,
            "device": args.device,
            "seconds": statistics.median(seconds),
            "seconds_all": seconds,
            "images": len(work.images),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_gpu_bytes": torch.cuda.max_memory_allocated() if on_gpu else 0,
            "threads": torch.get_num_threads(),
            "precision": args.precision,
            "attack_steps": args.attack_steps,
            "torch": torch.__version__,
        }), flush=True)


if __name__ == "__main__":
    main()
