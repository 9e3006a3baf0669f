"""The rows of a comparison: ratios and bounds with their targets, and the lines that tell them."""

import statistics


def verdict(missed):
    return "target not met: " + " and ".join(missed) if missed else "target met"


def not_run(row, sides):
    """-> the row saying which side failed and why, None if none did"""
    failed = next((side for side in sides if side.failure), None)
    return row | {"verdict": f"not run: {failed.name}: {failed.failure}"} if failed else None


def ratio(row, ours, theirs, target, memory_target, failed):
    """The row with how many times faster ours is: at least `target`, memory at most so much of theirs.
    `failed` are forms of theirs that could have been faster."""
    row = row | {"target": target}
    if without := not_run(row, [ours, theirs]):
        return without
    a, b = ([run["seconds"] / run["images"] for run in side.runs] for side in (ours, theirs))
    rounds = [y / x for x, y in zip(a, b)]
    times = statistics.median(b) / statistics.median(a)
    memory = ours.peak_bytes() / theirs.peak_bytes()
    missed = []
    if target and times < target:
        missed.append("speed")
    if memory_target and memory > memory_target:
        missed.append("memory")
    told = [verdict(missed)] if target or memory_target else []
    if failed:
        told.append(f"without {' and '.join(failed)}")
    return row | {
        "moat_seconds": ours.median(), "peer_seconds": theirs.median(),
        "ratio": times, "ratio_low": min(rounds), "ratio_high": max(rounds),
        "memory": memory, "memory_target": memory_target,
        "verdict": ", ".join(told)}


def bound(row, sides, value_of, at_most):
    """The row with a value that is computed from the medians of sides."""
    row = row | {"at_most": at_most}
    if without := not_run(row, sides):
        return without
    value = value_of(*(side.median() for side in sides))
    return row | {"value": value, "verdict": verdict([] if value <= at_most else ["too much"])}


COLUMNS = "{:<22} {:<4} {:<28} {:>9} {:>9} {:>6} {:>12} {:>6} {:>15}  {}"
HEADER = COLUMNS.format("case", "", "peer", "moat s", "peer s", "ratio", "of rounds", "target",
                        "memory", "").rstrip()


def line(row):
    if "at_most" in row:
        value = f"{row['value']:.3f} (<= {row['at_most']})" if "value" in row else ""
        return f"{row['case']:<55} {value:>20}  {row['verdict']}"
    if "ratio" not in row:
        return f"{row['case']:<22} {row['precision']:<4} {row['peer']:<28} {row['verdict']}"
    memory = f"{row['memory']:.2f}" + (f" (<= {row['memory_target']})" if row["memory_target"] else "")
    return COLUMNS.format(
        row["case"], row["precision"], row["peer"], f"{row['moat_seconds']:.4f}",
        f"{row['peer_seconds']:.4f}", f"{row['ratio']:.2f}",
        f"{row['ratio_low']:.2f}-{row['ratio_high']:.2f}", row["target"] or "", memory,
        row["verdict"]).rstrip()
