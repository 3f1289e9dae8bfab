"""An image classifier: each batch comes from the host as bytes, and its scores go back there."""

import time

import torch
from torchvision.models import resnet50

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BATCH = 16 if DEVICE == "cuda" else 2
MEAN = torch.tensor([0.485, 0.456, 0.406], device=DEVICE).view(1, 3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225], device=DEVICE).view(1, 3, 1, 1)


def camera() -> torch.Tensor:
    """A batch of pictures in pageable memory, as decoders leave them."""
    return torch.randint(256, (BATCH, 3, 224, 224), dtype=torch.uint8)


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    model = resnet50(weights=None).to(DEVICE, memory_format=torch.channels_last).eval()
    frames = [camera() for _ in range(8)]
    for number in range(10**9):
        began = time.perf_counter()
        images = (frames[number % len(frames)].to(DEVICE).float() / 255 - MEAN) / STD
        with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
            scores = model(images.contiguous(memory_format=torch.channels_last))
        best = scores.float().softmax(-1).topk(5)
        names, shares = best.indices.cpu(), best.values.cpu()
        if number % 20 == 0:
            took_ms = 1e3 * (time.perf_counter() - began)
            print(f"batch {number}: {took_ms:.2f} ms, first {names[0, 0]} at {shares[0, 0]:.3f}", flush=True)


if __name__ == "__main__":
    main()
