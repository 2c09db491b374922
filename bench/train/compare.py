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
    """The most memory that the GPU had in use while the block ran, above what it had before; in MB."""

    def __enter__(self):
        self.before, self.peak, self.running = self.used(), 0, True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.running = False
        self.thread.join()

    def watch(self):
        while self.running:
            self.peak = max(self.peak, self.used() - self.before)

    @staticmethod
    def used():
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
        return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def alone(command, env, steps):
    """The peak of a worker that has the GPU for itself."""
    with GpuMemory() as memory:
        worker = Worker(command, env)
        for _ in range(steps):
            worker.step()
        worker.close()
    return memory.peak


def compare(name, args):
    pairs, query, passage, vocab, dropout, ragged = map(str, SETTINGS[name])
    pairs = args.pairs or pairs
    env = os.environ | {"RAYON_NUM_THREADS": args.threads, "OMP_NUM_THREADS": args.threads}
    shape = [args.model, pairs, query, passage, vocab, dropout, ragged]
    on = [args.device, args.precision]
    here = Path(__file__).parent
    commands = ([args.worker, *shape, args.chunk, *on],
                [args.python, here / "worker.py", *shape, args.threads, *on])
    ours, theirs = (Worker(command, env) for command in commands)
    for _ in range(args.steps + 1):
        ours.step()
        theirs.step()
    a, b = (statistics.median(w.seconds[1:]) * 1000 for w in (ours, theirs))
    apart = max(abs(x - y) for x, y in zip(ours.losses, theirs.losses))
    peaks = ours.close(), theirs.close()
    if args.device != "cpu":
        peaks = tuple(alone(command, env, args.steps) for command in commands)
    print(f"| {name} | {a:.0f} | {b:.0f} | {a / b:.2f} | {peaks[0]} | {peaks[1]} | {apart:.1e} |", flush=True)


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
    parser.add_argument("--only", choices=SETTINGS)
    args = parser.parse_args()
    print("| setting | ours, ms | PyTorch, ms | ours / PyTorch | our peak, MB | PyTorch's, MB | losses apart |")
    print("|---|---|---|---|---|---|---|")
    for name in [args.only] if args.only else SETTINGS:
        compare(name, args)


if __name__ == "__main__":
    main()
