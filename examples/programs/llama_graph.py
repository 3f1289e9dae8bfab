"""A decoder with a static cache whose step is one CUDA graph, as fast inference engines have it."""

import time

import torch
from torch import nn
from torch.nn import functional as f

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
WIDTH, HEADS, LAYERS, CONTEXT, VOCAB, ANSWER = 1024, 16, 12, 1024, 32_000, 256 if DEVICE == "cuda" else 8


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before, self.after = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.SiLU(), nn.Linear(4 * WIDTH, WIDTH))
        self.register_buffer("cache", torch.zeros(2, 1, HEADS, CONTEXT, WIDTH // HEADS))

    def forward(self, x: torch.Tensor, at: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, *kv = self.qkv(self.before(x)).view(1, 1, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        self.cache.index_copy_(3, at, torch.stack(kv))
        seen = f.scaled_dot_product_attention(q, self.cache[0], self.cache[1], attn_mask=mask)
        x = x + self.out(seen.reshape(1, 1, WIDTH))
        return x + self.mlp(self.after(x))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(VOCAB, WIDTH), nn.Linear(WIDTH, VOCAB, bias=False)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.register_buffer("token", torch.zeros(1, 1, dtype=torch.long))
        self.register_buffer("at", torch.zeros(1, dtype=torch.long))

    @torch.inference_mode()
    def step(self) -> None:
        x, mask = self.embed(self.token), torch.arange(CONTEXT, device=DEVICE)[None] <= self.at
        for layer in self.layers:
            x = layer(x, self.at, mask)
        self.token.copy_(self.head(x).argmax(-1))
        self.at.copy_((self.at + 1) % CONTEXT)


model = Decoder().to(DEVICE, DTYPE)
step = model.step
for _ in range(3):  # what is built on first use must not be captured
    step()
if DEVICE == "cuda":
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    step = graph.replay
while True:
    began = time.perf_counter()
    text = [step() or model.token.item() for _ in range(ANSWER)]
    print(f"{len(text)} tokens, {1e3 * (time.perf_counter() - began) / len(text):.2f} ms each", flush=True)
