"""An image tagger with three threads, each with a stream of its own and the next picture of a queue."""

import contextlib
import threading
import time
from queue import Queue

import torch
from torchvision.models import VisionTransformer

THREADS = 3
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SIDE, LAYERS = (224, 12) if DEVICE == "cuda" else (64, 2)
pictures: Queue[torch.Tensor] = Queue(maxsize=16)
tagged: Queue[int] = Queue()


def camera() -> None:
    frames = [torch.randint(256, (1, 3, SIDE, SIDE), dtype=torch.uint8) for _ in range(32)]
    while True:
        for frame in frames:
            pictures.put(frame)


@torch.inference_mode()
def tag(model: VisionTransformer) -> None:
    stream = torch.cuda.Stream() if DEVICE == "cuda" else None
    with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
        while True:
            picture = pictures.get().to(DEVICE)
            with torch.autocast(DEVICE, torch.bfloat16, enabled=DEVICE == "cuda"):
                scores = model(picture.float() / 127.5 - 1)
            tagged.put(int(scores.argmax(-1)))


def main() -> None:
    torch.manual_seed(0)
    model = VisionTransformer(SIDE, 16, LAYERS, num_heads=6, hidden_dim=384, mlp_dim=1536).to(DEVICE).eval()
    threading.Thread(target=camera, daemon=True).start()
    for _ in range(THREADS):
        threading.Thread(target=tag, args=(model,), daemon=True).start()
    while True:
        began, count = time.perf_counter(), 0
        while time.perf_counter() < began + 2:
            tagged.get()
            count += 1
        print(f"{count / (time.perf_counter() - began):.1f} pictures/s", flush=True)


if __name__ == "__main__":
    main()
