"""Training of a small transformer with AdamW, mixed precision and clipped gradients."""

import contextlib
import time

import torch
from torch import nn
from torch.nn import functional as f

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WIDTH, LAYERS, LENGTH, VOCAB = 512, 3, 128, 8192
BATCH = 16 if DEVICE == "cuda" else 2


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCAB, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 8, 4 * WIDTH, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1], device=tokens.device)
        return self.head(self.body(self.embed(tokens), mask=mask, is_causal=True))


def named(text: str):
    return torch.cuda.nvtx.range(text) if DEVICE == "cuda" else contextlib.nullcontext()


def main() -> None:
    torch.manual_seed(0)
    model = Model().to(DEVICE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.1)
    text = torch.randint(VOCAB, (1_000_000,))
    began = time.perf_counter()
    for number in range(10**9):
        with named("step"):
            starts = torch.randint(len(text) - LENGTH - 1, (BATCH,)).tolist()
            batch = torch.stack([text[at : at + LENGTH + 1] for at in starts]).to(DEVICE)
            with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
                loss = f.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            shown = loss.item()
        if number % 10 == 0:
            print(f"step {number}: loss {shown:.3f}, {time.perf_counter() - began:.2f} s since the last", flush=True)
            began = time.perf_counter()


if __name__ == "__main__":
    main()
