"""An eager BERT, random weights: a KTS_APP line for each batch of texts, tokens from the host, labels back to it."""

import time

import torch
from transformers import BertConfig, BertForSequenceClassification

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH, LENGTH = (8, 128) if DEVICE == "cuda" else (1, 16)


def main() -> None:
    """Classifies for ever."""
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(num_labels=5)).to(DEVICE).eval()
    if DEVICE == "cuda":
        model = model.half()
    tokens, i = torch.randint(model.config.vocab_size, (BATCH, LENGTH)), 0
    while True:
        start_ns = time.time_ns()
        model(tokens.to(DEVICE)).logits.argmax(-1).cpu()
        print(f"KTS_APP,v1,BERT,{i},{start_ns},{time.time_ns()},nan,", flush=True)
        i += 1


if __name__ == "__main__":
    main()
