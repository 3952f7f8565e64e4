"""How long small and large products take on two threads, alone and beside a busy process, by OpenMP spin count.

    python benchmarks/spin.py

Each row is a fresh process, since GNU OpenMP reads GOMP_SPINCOUNT when it is loaded. Seconds, lower is better.
"""

from __future__ import annotations

import os
import subprocess
import sys

WORK = """
import time, torch
torch.set_num_threads(2)
few, many, weight = torch.randn(64, 576), torch.randn(1000, 576), torch.randn(1536, 576)
def seconds(x, times):
    start = time.perf_counter()
    for _ in range(times):
        torch.nn.functional.silu(x @ weight.T)
    return time.perf_counter() - start
seconds(few, 50)
print(f"{seconds(few, 600):8.2f} {seconds(many, 40):8.2f}")
"""


def measure(spin: str) -> str:
    environment = dict(os.environ)
    environment.pop("GOMP_SPINCOUNT", None)
    if spin != "default":
        environment["GOMP_SPINCOUNT"] = spin
    return subprocess.run(
        [sys.executable, "-c", WORK], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()


def main() -> None:
    print("spin count   alone: 64 rows  1000 rows   beside busy processes: 64 rows  1000 rows")
    for spin in ("default", "0", "10000"):
        alone = measure(spin)
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
        try:
            beside = measure(spin)
        finally:
            for process in busy:
                process.kill()
                process.wait()
        print(f"{spin:>10}   {alone}   {beside}")


if __name__ == "__main__":
    main()
