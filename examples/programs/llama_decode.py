"""A chat model that answers one prompt after the other, a token at a time, with a cache that grows."""

import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
PROMPT, ANSWER = 64, 256 if DEVICE == "cuda" else 8  # tokens
CONFIG = LlamaConfig(
    hidden_size=1024,
    intermediate_size=2816,
    num_hidden_layers=16,
    num_attention_heads=16,
    num_key_value_heads=8,
    vocab_size=32_000,
)


@torch.inference_mode()
def answer(model: LlamaForCausalLM, tokens: torch.Tensor) -> list[int]:
    cache, text = None, []
    while len(text) < ANSWER:
        out = model(tokens, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        tokens = out.logits[:, -1:].argmax(-1)
        text.append(tokens.item())
    return text


def main() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(CONFIG).to(DEVICE, DTYPE).eval()
    while True:
        prompt = torch.randint(CONFIG.vocab_size, (1, PROMPT), device=DEVICE)
        began = time.perf_counter()
        text = answer(model, prompt)
        print(f"{len(text)} tokens, {1e3 * (time.perf_counter() - began) / len(text):.2f} ms each", flush=True)


if __name__ == "__main__":
    main()
