"""Runs moat's attacks and the reference implementations on one model and the same images.

    scripts/compare-pytorch attacks RUN --autoattack CHECKOUT --eps E [--limit N] [--seeds N] [--threads N]

CHECKOUT is a checkout of github.com/fra31/auto-attack; torchattacks comes from PyPI. Both sides attack
every image that is right clean, alone with each attack, for some seeds, and take turns. Printed: the
robust accuracies, how many passes each made, and how many times as fast moat was: by the clock, and by
the processor's time, which other programs disturb less (with --threads 1 the two are the same work).
"""

import argparse
import dataclasses
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from machine import machine, results_path, write_results

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "examples" / "pytorch"))
from moat_models import load, read_safetensors  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Attack:
    name: str  # of `moat attack`
    peer: str  # of AutoAttack; "PGD" is torchattacks'
    allowed: float  # points that ours may leave more images robust
    options: tuple = ()


ATTACKS = [
    Attack("apgd-ce", "apgd-ce", 0.4),
    Attack("apgd-dlr", "apgd-dlr", 0.4),
    Attack("apgd-t", "apgd-t", 0.4),
    Attack("fab-t", "fab-t", 0.4),
    Attack("square", "square", 1.0),
    Attack("pgd", "PGD", 0.4, ("--steps", "50")),
]


class Counted(torch.nn.Module):
    """Logits of a moat model, and how many images went through it in each direction."""

    def __init__(self, network):
        super().__init__()
        self.network, self.forwards, self.backwards = network, 0, 0

    def forward(self, images):
        logits = self.network(images)[0]
        self.forwards += len(images)
        if logits.requires_grad:
            logits.register_hook(self.count)
        return logits

    def count(self, gradient):
        self.backwards += len(gradient)


def logits_of(output):
    return output[0] if isinstance(output, tuple) else output


def attack_with_peer(attack, network, images, labels, eps, norm, seed, batch):
    model = Counted(network).eval()
    with torch.no_grad():
        right = torch.cat([model(x).argmax(1) for x in images.split(batch)]) == labels
    model.forwards = 0
    start, cpu_start = time.perf_counter(), time.process_time()
    if attack.peer == "PGD":
        import torchattacks
        torch.manual_seed(seed)
        if norm == "linf":
            pgd = torchattacks.PGD(model, eps=eps, alpha=eps / 4, steps=50)
        else:
            pgd = torchattacks.PGDL2(model, eps=eps, alpha=eps / 4, steps=50)
        points = torch.cat([pgd(x, y) for x, y in zip(images[right].split(batch), labels[right].split(batch))])
    else:
        from autoattack import AutoAttack
        auto = AutoAttack(model, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, version="standard",
                          seed=seed, verbose=False, device="cpu")
        auto.attacks_to_run = [attack.peer]  # "custom" would have other restarts
        points = auto.run_standard_evaluation(images[right], labels[right], bs=batch)
    with torch.no_grad():  # AutoAttack has judged them itself, and counted that
        judge = model if attack.peer == "PGD" else network
        robust = sum(int((logits_of(judge(x)).argmax(1) == y).sum())
                     for x, y in zip(points.split(batch), labels[right].split(batch)))
    return {"robust": robust / len(images), "forward": model.forwards, "backward": model.backwards,
            "seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu_start}


def moat_command(args, attack, seed, folder):
    return [args.moat, "attack", args.run, "--attack", attack.name, "--seed", seed, "--norm", args.norm,
            "--eps", args.eps, "--limit", args.limit, "--batch", args.batch, "--threads", args.threads,
            "--device", "cpu", "--json", "--out", folder, *attack.options]


def children_seconds():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def attack_with_moat(args, attack, seed, folder):
    before = children_seconds()
    done = subprocess.run([str(word) for word in moat_command(args, attack, seed, folder)],
                          capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"compare_attacks: {done.stderr.strip()}")
    report = json.loads(done.stdout)
    forms = report["cost"]["attacks"].values()  # through gates and blocked, of a model that has some
    cost = {key: sum(form[key] for form in forms) for key in ("forward", "backward", "seconds")}
    return {"robust": report["results"]["robust"], "clean": report["results"]["clean"], **cost,
            "cpu_seconds": children_seconds() - before}


def mean(runs, key):
    return statistics.mean(run[key] for run in runs)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("run", help="run folder of moat")
    parser.add_argument("--moat", required=True)
    parser.add_argument("--autoattack", required=True, help="checkout of github.com/fra31/auto-attack")
    parser.add_argument("--norm", choices=["linf", "l2"], default="linf")
    parser.add_argument("--eps", required=True)
    parser.add_argument("--limit", type=int, default=500)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--attack", action="append", choices=[a.name for a in ATTACKS])
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    sys.path.insert(0, args.autoattack)
    torch.set_num_threads(args.threads)
    checkpoint = pathlib.Path(args.run)
    if checkpoint.is_dir():
        checkpoint = checkpoint / "checkpoints" / "last.safetensors"
    numerator, _, denominator = args.eps.partition("/")
    eps = float(numerator) / float(denominator or 1)

    rows, kept = [], True
    print(f"{'attack':10} {'robust, ours':>13} {'theirs':>8} {'passes, ours':>13} {'theirs':>10} "
          f"{'times as fast':>14} {'by processor time':>18}")
    for attack in ATTACKS:
        if args.attack and attack.name not in args.attack:
            continue
        ours, theirs = [], []
        for seed in range(args.seeds):
            with tempfile.TemporaryDirectory() as scratch:
                folder = pathlib.Path(scratch) / "attacked"
                ours.append(attack_with_moat(args, attack, seed, folder))
                stored, _ = read_safetensors(folder / "adversarial.safetensors")
            network = load(checkpoint)
            theirs.append(attack_with_peer(attack, network, stored["images"], stored["labels"].flatten(),
                                           eps, args.norm, seed, args.batch))
        passes = [mean(side, "forward") + mean(side, "backward") for side in (ours, theirs)]
        points = 100 * (mean(ours, "robust") - mean(theirs, "robust"))
        faster, cheaper = (mean(theirs, clock) / mean(ours, clock) for clock in ("seconds", "cpu_seconds"))
        kept &= points <= attack.allowed
        rows.append({"attack": attack.name, "peer": attack.peer, "ours": ours, "theirs": theirs,
                     "points": points, "allowed_points": attack.allowed, "times_as_fast": faster,
                     "times_as_fast_by_processor_time": cheaper})
        print(f"{attack.name:10} {100 * mean(ours, 'robust'):11.2f} % {100 * mean(theirs, 'robust'):6.2f} % "
              f"{passes[0]:13,.0f} {passes[1]:10,.0f} {faster:14.2f} {cheaper:18.2f}"
              f"{'' if points <= attack.allowed else '  weaker than allowed'}", flush=True)
    path = args.out or results_path("cpu-attacks")
    write_results(path, {"machine": machine(), "norm": args.norm, "eps": args.eps,
                         "images": args.limit, "threads": args.threads, "batch": args.batch, "rows": rows})
    print(f"written: {path}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
