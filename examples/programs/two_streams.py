"""Two models in one process, each in a thread with a stream of its own: one sees frames, the other reads texts."""

import contextlib
import threading
import time
from collections import Counter

import torch
from torch import nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
done: Counter[str] = Counter()


def detector() -> nn.Module:
    layers: list[nn.Module] = []
    for channels, wider in ((3, 32), (32, 64), (64, 128), (128, 256)):
        layers += [nn.Conv2d(channels, wider, 3, stride=2, padding=1), nn.BatchNorm2d(wider), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(256, 85, 1))


def embedder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(384, 6, 1536, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)


@torch.inference_mode()
def serve(name: str, model: nn.Module, shape: tuple[int, ...]) -> None:
    model = model.to(DEVICE).eval()
    stream = torch.cuda.Stream() if DEVICE == "cuda" else None
    data = torch.randn(shape)
    if stream is not None:
        data = data.pin_memory()
    with torch.cuda.stream(stream) if stream is not None else contextlib.nullcontext():
        while True:
            result = model(data.to(DEVICE, non_blocking=True)).amax()
            if stream is not None:
                stream.synchronize()
            assert torch.isfinite(result)
            done[name] += 1


def main() -> None:
    models = {"frames": (detector(), (1, 3, 384, 384)), "texts": (embedder(), (16, 64, 384))}
    for name, (model, shape) in models.items():
        threading.Thread(target=serve, args=(name, model, shape), daemon=True).start()
    began = time.perf_counter()
    while True:
        time.sleep(2)
        passed_s = time.perf_counter() - began
        print(", ".join(f"{n / passed_s:.1f} {name}/s" for name, n in sorted(done.items())), flush=True)


if __name__ == "__main__":
    main()
