"""A server whose two worker processes have a model each; requests come at random."""

import random
import time
from multiprocessing import get_context
from queue import Empty

import torch
from torch import nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WORKERS, RATE = 2, 100 if DEVICE == "cuda" else 5  # requests a second, of all workers
WIDTH = 1024


def model() -> nn.Module:
    layers = [nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)) for _ in range(8)]
    return nn.Sequential(*layers, nn.Linear(WIDTH, 1000)).to(DEVICE).eval()


@torch.inference_mode()
def work(requests, answers) -> None:
    torch.set_num_threads(1)
    net = model()
    while True:
        number, asked, rows = requests.get()
        scores = net(torch.randn(rows, WIDTH).to(DEVICE))
        answers.put((number, time.monotonic() - asked, scores.argmax(-1).tolist()))


def main() -> None:
    context = get_context("spawn")
    requests, answers = context.Queue(maxsize=100), context.Queue()
    for _ in range(WORKERS):
        context.Process(target=work, args=(requests, answers), daemon=True).start()
    waits: list[float] = []
    for number in range(10**9):
        requests.put((number, time.monotonic(), random.choice((1, 8, 32))))
        time.sleep(random.expovariate(RATE))
        try:
            while True:
                waits.append(answers.get_nowait()[1])
        except Empty:
            pass
        if len(waits) >= 100:
            waits.sort()
            print(f"answers after {1e3 * waits[50]:.2f} ms (p50), {1e3 * waits[98]:.2f} ms (p99)", flush=True)
            waits.clear()


if __name__ == "__main__":
    main()
