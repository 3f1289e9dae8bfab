"""A text classifier that answers requests of any length: tokens from the host, labels back to it."""

import random
import time

import torch
from transformers import BertConfig, BertForSequenceClassification

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = 8 if DEVICE == "cuda" else 1


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=5)).to(DEVICE).eval()
    if DEVICE == "cuda":
        model = model.half()
    done, began = 0, time.perf_counter()
    while True:
        length = random.randrange(32, 257, 8)
        tokens = torch.randint(model.config.vocab_size, (BATCH, length))
        mask = torch.ones_like(tokens)
        mask[BATCH // 2 :, length // 2 :] = 0  # half of the texts are shorter
        scores = model(tokens.to(DEVICE), attention_mask=mask.to(DEVICE)).logits.softmax(-1)
        labels = scores.argmax(-1).cpu()
        done += len(labels)
        if done % (20 * BATCH) == 0:
            print(f"{done / (time.perf_counter() - began):.1f} texts/s", flush=True)


if __name__ == "__main__":
    main()
