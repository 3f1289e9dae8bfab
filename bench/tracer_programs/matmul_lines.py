"""A chain of eager products and one wait: a KTS_APP line for each. Arguments: how many, and rows of the matrices.

On an H200 about 1.5 ms with ``22 1152``, which the GPU is busy for, and 0.5 ms with ``100 64``, which the host is.
"""

import sys
import time

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Multiplies for ever."""
    launches, rows = (int(word) for word in sys.argv[1:3])
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    weights = torch.randn(rows, rows, device=DEVICE) / rows**0.5
    a, b, i = torch.randn(rows, rows, device=DEVICE), torch.empty(rows, rows, device=DEVICE), 0
    first = a.clone()
    while True:
        start_ns = time.time_ns()
        torch.mm(first, weights, out=a)
        for _ in range(launches - 1):
            torch.mm(a, weights, out=b)
            a, b = b, a
        a[0, 0].item()
        print(f"KTS_APP,v1,MATMUL,{i},{start_ns},{time.time_ns()},nan,", flush=True)
        i += 1


if __name__ == "__main__":
    main()
