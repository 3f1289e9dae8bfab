"""Training of a network on a graph: each step samples vertices, gathers their neighbours and adds up what these say."""

import time

import torch
from torch import nn
from torch.nn import functional as f

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
VERTICES, DEGREE = (200_000, 12) if DEVICE == "cuda" else (5_000, 4)
FEATURES, WIDTH, KINDS, BATCH = 128, 256, 40, 1024


class Layer(nn.Module):
    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.own, self.others = nn.Linear(width, out), nn.Linear(width, out)

    def forward(self, own: torch.Tensor, others: torch.Tensor, of: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(own).index_add(0, of, others)
        return self.own(own) + self.others(total / DEGREE)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Layer(FEATURES, WIDTH), Layer(WIDTH, KINDS)

    def forward(self, features: torch.Tensor, neighbours: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        near = neighbours[batch].flatten()
        around = torch.cat([batch, near])
        far = neighbours[around].flatten()
        of = torch.arange(len(around), device=around.device).repeat_interleave(DEGREE)
        hidden = self.first(features[around], features[far], of).relu()
        of = torch.arange(len(batch), device=batch.device).repeat_interleave(DEGREE)
        return self.second(hidden[: len(batch)], hidden[len(batch) :], of)


def main() -> None:
    torch.manual_seed(0)
    features = torch.randn(VERTICES, FEATURES, device=DEVICE)
    neighbours = torch.randint(VERTICES, (VERTICES, DEGREE), device=DEVICE)
    kinds = torch.randint(KINDS, (VERTICES,), device=DEVICE)
    model, began = Net().to(DEVICE), time.perf_counter()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for number in range(10**9):
        batch = torch.randperm(VERTICES)[:BATCH].to(DEVICE)
        loss = f.cross_entropy(model(features, neighbours, batch), kinds[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        shown = loss.item()
        if number % 20 == 0:
            print(f"step {number}: loss {shown:.3f}, {time.perf_counter() - began:.2f} s since the last", flush=True)
            began = time.perf_counter()


if __name__ == "__main__":
    main()
