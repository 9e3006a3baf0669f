"""Runs the kernels of moat and their like in PyTorch in turn and prints how many times faster moat is.

A round measures every row on both sides, one program after the other. The ratio is that of the medians
over all rounds; beside it stand the smallest and the largest ratio of a round.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from machine import ROOT, machine, results_path, write_results
from sides import last_line

# A row, the way PyTorch does it, times as fast at least.
TARGETS = [
    ("layer_forward moe-layer balanced float32", "loop", 1.1),
    ("layer_backward moe-layer balanced float32", "loop", 1.1),
    ("layer_forward moe-layer balanced bfloat16", "loop", 1.1),
    ("layer_backward moe-layer balanced bfloat16", "loop", 1.1),
    ("route moe-layer balanced float32", "ops", 5.0),
    ("route_on_load moe-layer balanced float32", "ops", 5.0),
]
DEFAULT_ONLY = " moe-layer "


def run(command):
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"compare_kernels: {pathlib.Path(command[0]).name}: {last_line(done.stderr, f'exit {done.returncode}')}")
    return json.loads(done.stdout)


def one_round(args, only):
    """-> ({row: our microseconds}, {(row, way): PyTorch's}, both documents)"""
    threads, seconds = ["--threads", str(args.threads)], ["--seconds", str(args.seconds)]
    ours = run([args.moat, "bench", "kernels", "--only", only, "--json", *threads, *seconds])
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(ours, file)
        file.flush()
        theirs = run([sys.executable, str(ROOT / "bench" / "peers" / "kernels.py"), "--rows", file.name, *threads,
                      *seconds])
    a = {r["name"]: r["microseconds"]["median"] for r in ours["rows"] if "microseconds" in r}
    b = {(r["name"], way): result["microseconds"]["median"]
         for r in theirs["rows"] for way, result in r["ways"].items() if "microseconds" in result}
    return a, b, ours, theirs


def compare(name, way, rounds, target):
    pairs = [(a[name], b[name, way]) for a, b, _, _ in rounds]
    ours, theirs = (statistics.median(side) for side in zip(*pairs))
    ratios = [b / a for a, b in pairs]
    verdict = "" if target is None else "target met" if theirs / ours >= target else "target not met"
    return {"row": name, "peer": f"PyTorch, {way}", "moat_microseconds": ours,
            "peer_microseconds": theirs, "ratio": theirs / ours, "ratio_low": min(ratios),
            "ratio_high": max(ratios), "target": target, "verdict": verdict}


def line(c):
    if "ratio" not in c:
        return f"{c['row']:<52} {c['peer']:<20} {c['verdict']}"
    spread = f"{c['ratio_low']:.2f}-{c['ratio_high']:.2f}"
    return (f"{c['row']:<52} {c['peer']:<20} {c['moat_microseconds']:>10.1f} "
            f"{c['peer_microseconds']:>10.1f} {c['ratio']:>6.2f} {spread:>12} "
            f"{c['target'] or '':>6}  {c['verdict']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--moat", required=True, help="the program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=float, default=0.5, help="at most, for a row and round")
    parser.add_argument("--only", default=DEFAULT_ONLY,
                        help="rows whose name this regular expression finds (default: '%(default)s',"
                             " the shape that the targets are stated for)")
    args = parser.parse_args()
    rounds = [one_round(args, args.only) for _ in range(args.rounds)]

    print("{:<52} {:<20} {:>10} {:>10} {:>6} {:>12} {:>6}".format(
        "row", "peer", "moat µs", "peer µs", "ratio", "of rounds", "target"))
    targets = {(name, way): target for name, way, target in TARGETS}
    comparisons = [compare(name, way, rounds, targets.get((name, way)))
                   for name, way in rounds[0][1]
                   if all((name, way) in b for _, b, _, _ in rounds)]
    found = {(c["row"], c["peer"]) for c in comparisons}
    for name, way, target in TARGETS:
        if (name, f"PyTorch, {way}") not in found and re.search(args.only, name):
            comparisons.append({"row": name, "peer": f"PyTorch, {way}", "target": target,
                                "verdict": "not run: no such row"})
    for c in comparisons:
        print(line(c))
    path = write_results(results_path("cpu-kernels"), {
        "machine": machine(), "threads": args.threads, "rounds": args.rounds,
        "seconds_per_row": args.seconds, "torch": rounds[0][3]["torch"], "comparisons": comparisons,
        "runs": [{"moat": ours, "PyTorch": theirs} for _, _, ours, theirs in rounds]})
    print(f"written: {path}")
    sys.exit(1 if any("not met" in c["verdict"] or "not run" in c["verdict"] for c in comparisons) else 0)


if __name__ == "__main__":
    main()
