"""What the side-by-side comparisons share: engines that stay loaded and take turns, and how the ratio
of two engines is told."""
import statistics
import subprocess
import sys


class Engine:
    """A process that answers a line with a line. The first line, once it is loaded, is kept as `said`."""

    def __init__(self, name, command):
        self.name = name
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([str(word) for word in command], stdin=pipe, stdout=pipe, text=True)
        self.said = self.answer()

    def answer(self):
        """The next line that the process says."""
        line = self.process.stdout.readline().strip()
        if not line:
            sys.exit(f"{self.name} ended early")
        return line

    def ask(self, line):
        """Sends a line, returns the answer."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def spread(above, below):
    """Ratio of two engines' rounds: median, least, greatest."""
    ratios = [a / b for a, b in zip(above, below)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
