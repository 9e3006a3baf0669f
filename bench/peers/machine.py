"""What a result says about the machine it was measured on, and where it is kept."""

import datetime
import json
import os
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def output_of(command):
    """-> what it prints, "" where it cannot run"""
    try:
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def cpu_facts(field):
    try:
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(field):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return ""


def cpu_flags():
    return set(cpu_facts("flags").split())


def gpu_name():
    return (output_of(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]).splitlines() or [""])[0]


def short_name(gpu):
    """"NVIDIA H100 80GB HBM3" -> "h100-80gb-hbm3", as scripts/gpu-acceptance names it"""
    return re.sub(r"[^a-z0-9]+", "-", re.sub(r"nvidia *", "", gpu.lower(), count=1)) or "gpu"


def machine():
    features = sorted(f for f in cpu_flags() if f.startswith(("avx", "amx", "fma")))
    gpu = gpu_name()
    return {"cpu": cpu_facts("model name") or platform.processor(), "cores": os.cpu_count(),
            "features": features, "system": platform.platform(),
            "load_at_end": os.getloadavg()[0]} | ({"gpu": gpu} if gpu else {})


def results_path(name):
    return ROOT / "bench" / "results" / f"{datetime.date.today().isoformat()}-{name}.json"


def write_results(path, document):
    """The document, after the date and the revision."""
    facts = {"date": datetime.date.today().isoformat(),
             "revision": output_of(["git", "-C", str(ROOT), "describe", "--always", "--dirty"])}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(facts | document, indent=1) + "\n")
    return path
