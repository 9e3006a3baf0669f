"""Runs moat and its peers in turn and prints how many times faster moat is, with the target of each.

moat is a process per turn, so that peak memory is that of one case; a peer stays, warm. A round
gives every side of a case one turn, so that whatever else the machine does meets all of them alike.
The ratio is that of the median times; beside it stand the smallest and the largest ratio of a round.
On a GPU PyTorch runs in several forms, of which the one with the smallest median is the peer. Those
that compile do so together, before anything is measured. Exit status 1 where a target is not met or
a program failed.
"""

import argparse
import dataclasses
import itertools
import math
import os
import pathlib
import signal
import sys

from machine import cpu_flags, gpu_name, machine, results_path, short_name, write_results
from ratios import HEADER, bound, line, ratio
from sides import ProcessPerTurn, StandingProcess

HERE = pathlib.Path(__file__).resolve().parent
MASKED = "moat, all experts masked"  # the peer that is not PyTorch


@dataclasses.dataclass(frozen=True)
class Comparison:
    device: str
    case: str
    precision: str
    batch: int
    peer: str
    target: float | None  # times as fast, at least
    memory_target: float | None = None  # share of the peer's, at most


COMPARISONS = [
    Comparison("cpu", "digits-at-epoch", "fp32", 128, "PyTorch", 3.0),
    Comparison("cpu", "resnet18-at-step", "fp32", 128, "PyTorch", 1.1, 0.8),
    Comparison("cpu", "resnet18-at-step", "bf16", 128, "PyTorch", 1.2, 0.8),
    Comparison("cpu", "advmoe-iteration", "fp32", 128, "PyTorch, all experts masked", 2.5),
    Comparison("cpu", "advmoe-iteration", "fp32", 128, MASKED, 1.5),
    Comparison("cuda", "resnet18-at-step", "bf16", 512, "PyTorch", 1.5),
    Comparison("cuda", "moe-resnet18-at-step", "bf16", 512, "PyTorch, all experts masked", None),
    Comparison("cuda", "vit-small-at-step", "bf16", 512, "PyTorch", 1.2),
    Comparison("cuda", "v-moe-small-at-step", "bf16", 512, "PyTorch", 1.2),
    Comparison("cuda", "advmoe-iteration", "bf16", 512, "PyTorch, all experts masked", 3.0),
    Comparison("cuda", "advmoe-iteration", "bf16", 512, MASKED, None),
    # No peer: what is derived from it stands below.
    Comparison("cuda", "resnet18-gradients", "bf16", 512, "", None),
]
# Cases of moat that take turns as one: the gradients of an attack step.
PARTS = {"resnet18-gradients":
         ["resnet18-forward", "resnet18-pixel-gradient", "resnet18-forward-of-training",
          "resnet18-full-gradient"]}
FORMS = {"cpu": ["eager"], "cuda": ["eager", "graph", "compile", "compile-graph"]}
EPOCH_IMAGES, EPOCH_SECONDS = 50_000, 8.0
INPUT_BACKWARD_SHARE = 0.67


def cannot_run(device, precision):
    if device == "cpu" and precision == "bf16" and "avx512_bf16" not in cpu_flags():
        return "this CPU has no AVX-512 bfloat16"
    return None


class Group:
    """Everything that is measured of one case: `ours`, and the peers that the comparisons name."""

    def __init__(self, comparisons, args):
        first = comparisons[0]
        self.comparisons, self.case, self.precision = comparisons, first.case, first.precision
        self.device, self.batch = first.device, args.batch or first.batch
        settings = ["--device", self.device, "--precision", self.precision, "--batch", self.batch,
                    "--threads", args.threads, "--attack-steps", args.attack_steps, "--repeats",
                    args.repeats]

        def moat(bench, case):
            return ProcessPerTurn(f"moat {case} {self.precision}", [
                args.moat, "bench", bench, "--case", case, "--json", *settings], args.ready_seconds)

        def pytorch(form):
            return StandingProcess(f"PyTorch {self.case} {self.precision} {form}", [
                sys.executable, HERE / "pytorch.py", "--case", self.case, "--form", form, "--turns",
                *settings], args.ready_seconds)

        if self.case in PARTS:
            self.ours = [moat("attack", case) for case in PARTS[self.case]]
        else:
            self.ours = [moat("train", self.case)]
        peers = {c.peer for c in comparisons}
        self.masked = moat("train", self.case + "-masked") if MASKED in peers else None
        self.forms = {}
        if any(peer.startswith("PyTorch") for peer in peers):
            self.forms = {form: pytorch(form) for form in args.form}
        self.sides = [*self.ours, *([self.masked] if self.masked else []), *self.forms.values()]
        self.refusal = cannot_run(self.device, self.precision)
        for side in self.sides:
            side.failure = self.refusal

    def measure(self, rounds):
        for form in self.forms.values():
            form.settle()
        for _ in range(rounds):
            for side in self.sides:
                side.take_turn()
        self.close()

    def close(self):
        for side in self.sides:
            side.close()

    def peer_of(self, comparison):
        """-> (a side, its form if it has one)"""
        if comparison.peer == MASKED:
            return self.masked, None
        measured = {form: side for form, side in self.forms.items() if not side.failure}
        if not measured:
            return next(iter(self.forms.values())), None
        form = min(measured, key=lambda form: measured[form].median())
        return measured[form], form

    def rows(self):
        rows = []
        for c in self.comparisons:
            if c.peer:
                theirs, form = self.peer_of(c)
                failed = [f for f, side in self.forms.items() if side.failure] if form else []
                row = {"case": c.case, "device": c.device, "precision": c.precision,
                       "batch": self.batch, "peer": c.peer} | ({"form": form} if form else {})
                rows.append(ratio(row, self.ours[0], theirs, c.target, c.memory_target, failed))
        if self.device == "cuda" and self.case == "resnet18-at-step":
            steps = math.ceil(EPOCH_IMAGES / self.batch)
            rows.append(bound({"case": f"epoch of {EPOCH_IMAGES:,} images, s", "steps": steps},
                              self.ours, lambda step: steps * step, EPOCH_SECONDS))
        if self.case == "resnet18-gradients":
            rows.append(bound({"case": "input-only backward, share of the full one"}, self.ours,
                              lambda forward, pixels, training_forward, full:
                              (pixels - forward) / (full - training_forward),
                              INPUT_BACKWARD_SHARE))
        return rows

    def failed(self, rows):
        """Whether a target is not met, or a program failed that can run here."""
        return any("not met" in row["verdict"] or "not run" in row["verdict"] and not self.refusal
                   for row in rows)

    def lines(self, rows):
        yield from map(line, rows)
        if len(self.forms) > 1:
            for form, side in self.forms.items():
                told = f"not run: {side.failure}" if side.failure else f"{side.median():.4f} s"
                yield f"  PyTorch {form}: {told}"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--moat", required=True, help="the program")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", choices=["fp32", "bf16"], help="these comparisons only")
    parser.add_argument("--batch", type=int, help="instead of 128 on a CPU, 512 on a GPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, help="of a turn; 1 on a CPU, 5 on a GPU")
    parser.add_argument("--threads", type=int, help="of both sides; every core")
    parser.add_argument("--attack-steps", type=int, default=10)
    parser.add_argument("--case", action="append", choices=sorted({c.case for c in COMPARISONS}))
    parser.add_argument("--form", action="append", choices=FORMS["cuda"],
                        help="of PyTorch; eager on a CPU, all on a GPU")
    parser.add_argument("--ready-seconds", type=float, help="until a program is ready, and for a turn;"
                        " 1800 on a CPU, 240 on a GPU")
    parser.add_argument("--out", type=pathlib.Path, help="bench/results/<date>-<device>.json")
    args = parser.parse_args()
    on_gpu = args.device == "cuda"
    args.threads = args.threads or os.cpu_count()
    args.repeats = args.repeats or (5 if on_gpu else 1)
    args.form = args.form or FORMS[args.device]
    args.ready_seconds = args.ready_seconds or (240 if on_gpu else 1800)
    args.out = args.out or results_path(f"{short_name(gpu_name())}-pytorch" if on_gpu else "cpu")
    return args


def run_once(forms):
    for form in forms:
        form.start()
    for form in forms:
        form.wait_until_compiled()


def main():
    args = arguments()
    chosen = [c for c in COMPARISONS if c.device == args.device and
              (not args.case or c.case in args.case) and args.precision in (None, c.precision)]
    if not chosen:
        sys.exit(f"compare: no comparison on '{args.device}' has this case and precision; leave one of them out")
    first = ProcessPerTurn("moat", [args.moat, "info", "--device", args.device], args.ready_seconds)
    first.attempt(first.measure)
    if first.failure:
        sys.exit(f"compare: '{args.moat} info --device {args.device}' must work: {first.failure}")
    groups = [Group(list(of_case), args) for _, of_case in
              itertools.groupby(chosen, key=lambda c: (c.case, c.precision))]
    # Compiling takes minutes of one core: on a GPU all at once. What need not compile waits for its
    # case's turn, since a first run takes much memory. On a CPU a case has the machine.
    compiled = [side for group in groups for form, side in group.forms.items()
                if args.device == "cuda" and "compile" in form]
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS",
                          str(max(1, os.cpu_count() // max(1, len(compiled)))))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    rows, measured, failed = [], [], False
    print(HEADER, flush=True)
    try:
        run_once(compiled)
        for group in groups:
            run_once([form for form in group.forms.values() if form not in compiled])
            group.measure(args.rounds)
            measured += group.sides
            rows += (found := group.rows())
            failed |= group.failed(found)
            print("\n".join(group.lines(found)), flush=True)
            write_results(args.out, {
                "machine": machine(), "device": args.device, "threads": args.threads,
                "attack_steps": args.attack_steps, "rounds": args.rounds,
                "repeats": args.repeats, "comparisons": rows,
                "failures": {side.name: side.failure for side in measured if side.failure},
                "runs": {side.name: side.runs for side in measured}})
    finally:
        for group in groups:
            group.close()
    print(f"written: {args.out}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
