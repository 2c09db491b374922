"""Training steps of ours and of PyTorch, one after the other in turn; medians, losses and peak memory.

usage: compare.py --model DIR --worker PROGRAM [--python PYTHON] [--steps N] [--threads N] [--only SETTING]
                  [--device cuda] [--precision bf16] [--pairs N]
"""

import argparse
import os
import statistics
import subprocess
import sys
import threading
from pathlib import Path

# name: pairs, query tokens, passage tokens, vocabulary, dropout, ragged
SETTINGS = {
    "full, no dropout": (32, 32, 128, 250037, 0.0, 0),
    "full, dropout 0.1": (32, 32, 128, 250037, 0.1, 0),
    "full, dropout 0.1, texts of all lengths": (32, 32, 128, 250037, 0.1, 1),
    "pruned, no dropout": (32, 32, 128, 30000, 0.0, 0),
    "pruned, dropout 0.1": (32, 32, 128, 30000, 0.1, 0),
}


class Worker:
    """A program that makes one step for each line."""

    def __init__(self, command, env):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
                                        stderr=subprocess.DEVNULL)
        self.seconds, self.losses = [], []

    def step(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        seconds, loss = map(float, self.process.stdout.readline().split())
        self.seconds.append(seconds)
        self.losses.append(loss)

    def close(self):
        """Ends the program; its peak memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024
        self.process.stdin.close()
        self.process.wait()
        return peak


class GpuMemory:
    """The most memory that the GPU had in use while the block ran, in MB."""

    def __enter__(self):
        self.peak, self.running = self.used(), True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join()

    def watch(self):
        while self.running:
            self.peak = max(self.peak, self.used())

    @staticmethod
    def used():
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def alone(worker, steps, before):
    """The peak of a worker that has the GPU for itself, above what was in use before it started."""
    with GpuMemory() as memory:
        for _ in range(steps):
            worker.step()
    return memory.peak - before


def in_turn(ours, theirs, steps):
    """Medians of the steps after the first, in ms."""
    before = [len(worker.seconds) + 1 for worker in (ours, theirs)]
    for _ in range(steps + 1):
        ours.step()
        theirs.step()
    return [statistics.median(w.seconds[n:]) * 1000 for w, n in zip((ours, theirs), before)]


def compare(name, args):
    pairs, query, passage, vocab, dropout, ragged = map(str, SETTINGS[name])
    pairs = args.pairs or pairs
    env = os.environ | {"RAYON_NUM_THREADS": args.threads, "OMP_NUM_THREADS": args.threads}
    shape = [args.model, pairs, query, passage, vocab, dropout, ragged]
    on, here = [args.device, args.precision], Path(__file__).parent
    on_gpu = args.device != "cpu"
    before = GpuMemory.used() if on_gpu else 0
    ours = Worker([args.worker, *shape, args.chunk, *on], env)
    peaks = [alone(ours, args.steps, before)] if on_gpu else []
    theirs = Worker([args.python, here / "worker.py", *shape, args.threads, *on], env)
    times = in_turn(ours, theirs, args.steps)
    apart = max(abs(x - y) for x, y in zip(ours.losses, theirs.losses))
    in_memory = [ours.close()]
    if on_gpu:
        peaks.append(alone(theirs, 3, before))
    in_memory.append(theirs.close())
    cells = [name, *(f"{ms:.{1 if on_gpu else 0}f}" for ms in times), f"{times[0] / times[1]:.2f}"]
    if on_gpu:
        tokens = int(pairs) * (int(query) + int(passage))
        cells += [f"{tokens / ms:.0f}" for ms in times]
    print("| " + " | ".join([*cells, *map(str, peaks or in_memory), f"{apart:.1e}"]) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--chunk", default="1000000")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--pairs", help="queries of a step, instead of the settings' 32")
    parser.add_argument("--only", choices=SETTINGS, action="append", help="may be given several times")
    args = parser.parse_args()
    columns = ["setting", "ours, ms", "PyTorch, ms", "ours / PyTorch"]
    if args.device != "cpu":
        columns += ["our tokens/ms", "PyTorch's"]
    columns += ["our peak, MB", "PyTorch's, MB", "losses apart"]
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for name in args.only or SETTINGS:
        compare(name, args)


if __name__ == "__main__":
    main()
