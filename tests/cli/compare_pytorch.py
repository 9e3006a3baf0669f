"""compare_pytorch.py PEERS FOLDER: the comparison with PyTorch, both sides stand-ins. Who takes turns,
which form is the peer, what a form that fails or is late leaves, ratios, bounds, exit status."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

MOAT = """#!/bin/bash
[[ $1 != info ]] || exit 0
echo "moat $4" >>"$TURNS"
case $4 in *-forward) s=1 ;; *-pixel-*) s=2 ;; *-of-training) s=1.5 ;; *-full-*) s=4 ;; *-masked) s=0.3 ;; *) s=$MOAT_SECONDS ;; esac
echo "{\\"seconds\\": $s, \\"images\\": 512, \\"peak_rss_bytes\\": 1000, \\"peak_gpu_bytes\\": $GPU_BYTES}"
"""
PYTORCH = """
import json, os, sys, time
form, case = (sys.argv[sys.argv.index(option) + 1] for option in ("--form", "--case"))
with open(os.environ["TURNS"], "a") as turns:
    print("start", case, form, file=turns)
if form == "compile":
    sys.exit("this form\\nwas refused")
if form == "compile-graph":
    time.sleep(600)
print("compiled", flush=True)
sys.stdin.readline()
print("a warning\\nready", flush=True)
for _ in sys.stdin:
    with open(os.environ["TURNS"], "a") as turns:
        print(form, file=turns)
    print(json.dumps({"seconds": {"eager": 0.5, "graph": 0.4}[form], "images": 512,
                      "peak_rss_bytes": 2000, "peak_gpu_bytes": 2 * int(os.environ["GPU_BYTES"])}), flush=True)
"""
NVIDIA_SMI = "#!/bin/sh\necho 'NVIDIA Stand-in 80GB'\n"


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def compare(folder, *options, seconds=0.05, gpu_bytes=300):
    """-> (exit status, what it prints, who took turns)"""
    turns = folder / "turns"
    turns.write_text("")
    environment = os.environ | {
        "PATH": f"{folder / 'tools'}{os.pathsep}{os.environ['PATH']}", "TURNS": str(turns),
        "MOAT_SECONDS": str(seconds), "GPU_BYTES": str(gpu_bytes)}
    done = subprocess.run(
        [sys.executable, folder / "bench/peers/compare.py", "--moat", folder / "moat", *options],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.returncode, done.stdout, turns.read_text().splitlines()


def expect(said, *patterns):
    for pattern in patterns:
        assert re.search(pattern, said, re.MULTILINE), f"no line is like '{pattern}' in\n{said}"


def on_a_gpu(folder):
    status, said, turns = compare(folder, "--device", "cuda", "--rounds", "2", "--ready-seconds", "3")
    assert status == 0, said
    expect(said,
           r"^resnet18-at-step +bf16 PyTorch +0.0500 +0.4000 +8.00 +8.00-8.00 +1.5 +0.50"
           r"  target met, without compile and compile-graph$",
           r"^moe-resnet18-at-step .* 0.50  without compile and compile-graph$",
           r"^advmoe-iteration +bf16 PyTorch, all experts masked .* 3.0 +0.50  target met, without compile",
           r"^advmoe-iteration +bf16 moat, all experts masked +0.0500 +0.3000 +6.00 +6.00-6.00 +1.00$",
           r"^  PyTorch graph: 0.4000 s$",
           r"^  PyTorch compile: not run: was refused$",
           r"^  PyTorch compile-graph: not run: no answer in 3 s$",
           r"^epoch of 50,000 images, s +4.900 \(<= 8.0\)  target met$",
           r"^input-only backward, share of the full one +0.400 \(<= 0.67\)  target met$")
    assert all("compile" in line for line in turns[:10]), turns  # of five cases, before all others
    first = turns.index("moat resnet18-at-step")
    assert turns[first:first + 6] == ["moat resnet18-at-step", "eager", "graph"] * 2, turns
    assert "start moe-resnet18-at-step eager" in turns[first + 6:], turns
    (path,) = (folder / "bench/results").glob("*-stand-in-80gb-pytorch.json")
    document = json.loads(path.read_text())
    assert document["comparisons"][0]["form"] == "graph", document
    assert document["failures"]["PyTorch resnet18-at-step bf16 compile"] == "was refused", document
    assert len(document["runs"]["moat resnet18-at-step bf16"]) == 2, document

    status, said, _ = compare(folder, "--device", "cuda", "--case", "resnet18-at-step", "--form", "graph",
                              "--out", folder / "slow.json", seconds=0.3)
    assert status == 1, said
    expect(said, "target not met: speed$", r"29.400 \(<= 8.0\)  target not met")
    assert (folder / "slow.json").exists()


def on_a_cpu(folder):
    status, said, turns = compare(folder, "--case", "advmoe-iteration", "--rounds", "1", "--batch", "4",
                                  gpu_bytes=0)
    assert status == 0, said
    expect(said, r"^advmoe-iteration +fp32 PyTorch, all experts masked .* 0.50  target met$")
    assert turns == ["start advmoe-iteration eager", "moat advmoe-iteration",
                     "moat advmoe-iteration-masked", "eager"], turns
    if "avx512_bf16" not in pathlib.Path("/proc/cpuinfo").read_text():
        status, said, turns = compare(folder, "--precision", "bf16", "--rounds", "1")
        assert status == 0 and not turns, said
        expect(said, "not run: .* this CPU has no AVX-512 bfloat16$")


def broken(folder):
    options = ["--device", "cuda", "--case", "resnet18-at-step"]
    status, said, _ = compare(folder, *options, "--form", "compile")
    assert status == 1, said
    expect(said, "not run: PyTorch resnet18-at-step bf16 compile: was refused$", "^epoch .* target met$")
    status, said, _ = compare(folder, "--device", "cuda", "--case", "digits-at-epoch")
    assert status == 1, said
    expect(said, "^compare: no comparison on 'cuda' has this case and precision")
    program(folder / "moat", "#!/bin/sh\n[ $1 = info ] && exit\necho 'moat: no such case' >&2\nexit 2\n")
    options += ["--form", "graph"]
    status, said, _ = compare(folder, *options)
    assert status == 1, said
    expect(said, "not run: moat resnet18-at-step bf16: moat: no such case$", "^epoch .* not run: moat")
    program(folder / "moat", "#!/bin/sh\necho 'no JSON'\n")
    status, said, _ = compare(folder, *options)
    assert status == 1, said
    expect(said, "its output could not be read")
    program(folder / "moat", "#!/bin/sh\necho 'moat: built without CUDA' >&2\nexit 1\n")
    status, said, turns = compare(folder, *options)
    assert status == 1 and not turns, said
    assert said == f"compare: '{folder / 'moat'} info --device cuda' must work: moat: built without CUDA\n", said


def ends_with_its_input(peers):
    """The real peer, where there is a PyTorch: nobody is left to take turns with."""
    python = os.environ.get("MOAT_PYTHON", sys.executable)
    if subprocess.run([python, "-c", "import torch"], stderr=subprocess.DEVNULL).returncode == 0:
        done = subprocess.run([python, peers / "pytorch.py", "--case", "digits-at-epoch", "--attack-steps", "1",
                               "--turns"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=120)
        assert done.returncode == 0 and done.stdout == "compiled\n", done


def main():
    peers, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    if sys.version_info < (3, 10):
        print("skipped: Python 3.10 is needed")
        sys.exit(77)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("compare", "machine", "ratios", "sides"):
        program(folder / "bench/peers" / f"{name}.py", (peers / f"{name}.py").read_text())
    program(folder / "bench/peers/pytorch.py", PYTORCH)
    program(folder / "tools/nvidia-smi", NVIDIA_SMI)
    program(folder / "moat", MOAT)
    on_a_gpu(folder)
    on_a_cpu(folder)
    broken(folder)
    ends_with_its_input(peers)
    print("compare_pytorch: all as expected")


if __name__ == "__main__":
    main()
