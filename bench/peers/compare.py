"""Runs moat and its peers in turn and prints how many times faster moat is, with the target of each.

Every run is a process of its own, so that peak memory is that of one case; a round runs every side
of a case once, so that whatever else the machine does meets all of them alike. The ratio is that of
the median times; beside it stand the smallest and the largest ratio of a round.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# case, its peer (None: our own mask-everything form), times as fast at least, share of memory at most.
COMPARISONS = [
    ("digits-at-epoch", "PyTorch", 3.0, None),
    ("resnet18-at-step", "PyTorch", 1.1, 0.8),
    ("resnet18-at-step-bf16", "PyTorch", 1.2, 0.8),
    ("advmoe-iteration", "PyTorch, all experts masked", 2.5, None),
    ("advmoe-iteration", None, 1.5, None),
]
MASKED = {"advmoe-iteration": "advmoe-iteration-masked"}


def line_of_failure(done):
    return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]


def run(command):
    """-> (the JSON object that the command prints, None) or (None, why there is none)."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        return None, line_of_failure(done)
    try:
        measured = json.loads(done.stdout)
        return {key: measured[key] for key in ("seconds", "images", "peak_rss_bytes")} | measured, None
    except (json.JSONDecodeError, KeyError) as error:
        return None, f"its output could not be read: {error}"


def cpu_flags():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("flags"):
                return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()


def cpu_name():
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def cannot_run(case):
    if case.endswith(("bf16", "bfloat16")) and "avx512_bf16" not in cpu_flags():
        return "this CPU has no AVX-512 bfloat16"
    return None


class Side:
    def __init__(self, name, command):
        self.name, self.command = name, command
        self.runs, self.failure = [], None

    def take_turn(self):
        if self.failure is None:
            result, self.failure = run(self.command)
            if result:
                self.runs.append(result)

    def seconds_per_image(self):
        return [r["seconds"] / r["images"] for r in self.runs]

    def median_seconds(self):
        return statistics.median(r["seconds"] for r in self.runs)

    def peak_bytes(self):
        return max(r["peak_rss_bytes"] for r in self.runs)


def compare(ours, theirs, case, peer, target, memory_target):
    row = {"case": case, "peer": peer or "moat, all experts masked", "target": target}
    for side in (ours, theirs):
        if side.failure:
            return row | {"verdict": f"not run: {side.name}: {side.failure}"}
    a, b = ours.seconds_per_image(), theirs.seconds_per_image()
    ratio = statistics.median(b) / statistics.median(a)
    rounds = [y / x for x, y in zip(a, b)]
    memory = ours.peak_bytes() / theirs.peak_bytes()
    missed = []
    if ratio < target:
        missed.append("speed")
    if memory_target and memory > memory_target:
        missed.append("memory")
    return row | {
        "moat_seconds": ours.median_seconds(), "peer_seconds": theirs.median_seconds(),
        "ratio": ratio, "ratio_low": min(rounds), "ratio_high": max(rounds),
        "memory": memory, "memory_target": memory_target,
        "verdict": "target met" if not missed else "target not met: " + " and ".join(missed)}


def line(row):
    head = f"{row['case']:<22} {row['peer']:<28}"
    if "ratio" not in row:
        return f"{head} {row['verdict']}"
    memory = f"{row['memory']:.2f}" + (f" (<= {row['memory_target']})" if row["memory_target"] else "")
    spread = f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}"
    return (f"{head} {row['moat_seconds']:>8.3f} {row['peer_seconds']:>8.3f} {row['ratio']:>6.2f} "
            f"{spread:>12} {row['target']:>6} {memory:>15}  {row['verdict']}")


def machine():
    features = sorted(f for f in cpu_flags() if f.startswith(("avx", "amx", "fma")))
    return {"cpu": cpu_name(), "cores": os.cpu_count(), "features": features,
            "system": platform.platform(), "load_at_end": os.getloadavg()[0]}


def write_results(name, document):
    """bench/results/<date>-<name>.json with the date and the revision before the document."""
    revision = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"],
                              capture_output=True, text=True).stdout.strip()
    today = datetime.date.today().isoformat()
    path = ROOT / "bench" / "results" / f"{today}-{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"date": today, "revision": revision} | document, indent=1) + "\n")
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--moat", required=True, help="the program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--attack-steps", type=int, default=10)
    parser.add_argument("--case", action="append", choices=sorted({c[0] for c in COMPARISONS}))
    args = parser.parse_args()
    settings = ["--threads", str(args.threads), "--attack-steps", str(args.attack_steps),
                "--repeats", "1"]

    def moat(case):
        return Side(f"moat {case}", [args.moat, "bench", "train", "--case", case, "--json", *settings])

    def pytorch(case):
        return Side(f"PyTorch {case}",
                    [sys.executable, str(HERE / "pytorch.py"), "--case", case, *settings])

    header = ["case", "peer", "moat s", "peer s", "ratio", "of rounds", "target", "memory"]
    print("{:<22} {:<28} {:>8} {:>8} {:>6} {:>12} {:>6} {:>15}".format(*header), flush=True)
    rows, all_sides = [], []
    for case in dict.fromkeys(c[0] for c in COMPARISONS):
        if args.case and case not in args.case:
            continue
        sides = {"ours": moat(case), "PyTorch": pytorch(case)}
        if case in MASKED:
            sides["masked"] = moat(MASKED[case])
        reason = cannot_run(case)
        for side in sides.values():
            side.failure = reason
        for _ in range(args.rounds):
            for side in sides.values():
                side.take_turn()
        all_sides += sides.values()
        for name, peer, target, memory_target in COMPARISONS:
            if name == case:
                theirs = sides["PyTorch" if peer else "masked"]
                rows.append(compare(sides["ours"], theirs, case, peer, target, memory_target))
                print(line(rows[-1]), flush=True)
    path = write_results("cpu", {
        "machine": machine(), "threads": args.threads, "attack_steps": args.attack_steps,
        "rounds": args.rounds, "comparisons": rows,
        "runs": {side.name: side.runs for side in all_sides}})
    print(f"written: {path}")
    sys.exit(0 if all("not met" not in row["verdict"] for row in rows) else 1)


if __name__ == "__main__":
    main()
