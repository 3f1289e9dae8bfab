"""A recogniser of speech that comes in pieces: a recurrent network reads each piece, and the letters go to the host."""

import time

import torch
from torch import nn

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BANDS, WIDTH, LETTERS = 80, 640 if DEVICE == "cuda" else 64, 32
PIECE, SPEAKERS = 48, 8  # frames of 10 ms, calls at the same time


class Recogniser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Conv1d(BANDS, WIDTH, 5, stride=2, padding=2), nn.GELU())
        self.read = nn.LSTM(WIDTH, WIDTH, num_layers=5, batch_first=True)
        self.after = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, LETTERS))

    def forward(self, sound: torch.Tensor, memory: tuple[torch.Tensor, torch.Tensor] | None):
        heard, memory = self.read(self.before(sound).transpose(1, 2), memory)
        return self.after(heard).log_softmax(-1), memory


def letters(best: list[int]) -> str:
    """Without blanks and repetitions, as CTC has it."""
    return "".join(chr(96 + one) for one, last in zip(best, [0, *best], strict=False) if one and one != last)


@torch.inference_mode()
def main() -> None:
    torch.manual_seed(0)
    model = Recogniser().to(DEVICE).eval()
    sounds, memory = [torch.randn(SPEAKERS, BANDS, PIECE) for _ in range(16)], None
    took_ms: list[float] = []
    for number in range(10**9):
        began = time.perf_counter()
        odds, memory = model(sounds[number % len(sounds)].to(DEVICE), memory)
        sure, best = odds.max(-1)
        texts = [letters(one) for one in best.tolist()]
        if (sure.mean(-1) < -20).any():
            memory = None  # nobody speaks
        took_ms.append(1e3 * (time.perf_counter() - began))
        if len(took_ms) == 100:
            print(f"piece {number}: {sum(took_ms) / 100:.2f} ms, the first says {texts[0][:8]!r}", flush=True)
            took_ms.clear()


if __name__ == "__main__":
    main()
