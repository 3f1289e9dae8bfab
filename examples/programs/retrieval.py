"""Search by meaning: the query's nearest documents in two steps, coarse over all and exact over the best."""

import time

import torch
from torch import nn
from torch.nn import functional as f

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DOCUMENTS, QUERIES = (1_000_000, 256) if DEVICE == "cuda" else (20_000, 16)
WIDTH, COARSE, KEPT, BEST = 512, 64, 1000, 10


class Index:
    def __init__(self) -> None:
        self.exact = f.normalize(torch.randn(DOCUMENTS, WIDTH, device=DEVICE), dim=1)
        self.coarse = self.exact[:, :COARSE].contiguous()
        self.encoder = nn.Sequential(nn.Linear(WIDTH, 2048), nn.GELU(), nn.Linear(2048, WIDTH)).to(DEVICE)

    @torch.inference_mode()
    def search(self, text: torch.Tensor) -> list[int]:
        query = f.normalize(self.encoder(text.to(DEVICE)), dim=0)
        near = (self.coarse @ query[:COARSE]).topk(KEPT).indices
        allowed = [number for number in near.tolist() if number % 7]  # the host knows who may read what
        chosen = torch.tensor(allowed, device=DEVICE)
        best = (self.exact[chosen] @ query).topk(BEST).indices
        return chosen[best].tolist()


def main() -> None:
    torch.manual_seed(0)
    index = Index()
    queries = torch.randn(QUERIES, WIDTH)
    while True:
        began = time.perf_counter()
        for query in queries:
            found = index.search(query)
        took_ms = 1e3 * (time.perf_counter() - began) / len(queries)
        print(f"{took_ms:.2f} ms a query, the last one's best is {found[0]}", flush=True)


if __name__ == "__main__":
    main()
