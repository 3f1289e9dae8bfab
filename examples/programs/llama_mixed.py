"""A chat server in miniature: new prompts of any length are read between the tokens of running answers."""

import random
import time
from collections import deque

import torch
from transformers import LlamaConfig, LlamaForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
RUNNING, TURN, ANSWER = 4, 8, 48  # answers at a time, tokens in a row of each, tokens of each
PROMPTS = (128, 256, 512, 1024) if DEVICE == "cuda" else (16, 32)
CONFIG = LlamaConfig(
    hidden_size=1024,
    intermediate_size=2816,
    num_hidden_layers=16,
    num_attention_heads=16,
    num_key_value_heads=8,
    vocab_size=32_000,
)


class Answer:
    """A prompt that is read at once, and then a token at a time."""

    def __init__(self, model: LlamaForCausalLM) -> None:
        self.model, self.cache, self.left = model, None, ANSWER
        length = random.choice(PROMPTS)
        self.tokens = torch.randint(CONFIG.vocab_size, (1, length), device=DEVICE)

    def step(self) -> int:
        out = self.model(self.tokens, past_key_values=self.cache, use_cache=True)
        self.cache = out.past_key_values
        self.tokens = out.logits[:, -1:].argmax(-1)
        self.left -= 1
        return self.tokens.item()


@torch.inference_mode()
def main() -> None:
    torch.backends.cuda.enable_cudnn_sdp(False)  # it plans anew for each length, which takes longer than the token
    model = LlamaForCausalLM(CONFIG).to(DEVICE, DTYPE).eval()
    running: deque[Answer] = deque()
    tokens, began = 0, time.perf_counter()
    while True:
        if len(running) < RUNNING:
            running.append(Answer(model))
        now = running.pop() if running[-1].cache is None else running.popleft()
        tokens += len([now.step() for _ in range(min(TURN, now.left))])
        if now.left:
            running.append(now)
        elif tokens > ANSWER:
            print(f"{tokens / (time.perf_counter() - began):.1f} tokens/s", flush=True)


if __name__ == "__main__":
    main()
