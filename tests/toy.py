"""What stages of tests train where no language model is needed."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from burnish import files


class Toy:
    """A "model" whose weights are a chaotic function of every step it took."""

    def __init__(self) -> None:
        self.weights = torch.linspace(0.1, 0.9, 64, dtype=torch.float64)

    def train(self) -> float:
        self.weights = 3.9 * self.weights * (1 - self.weights)
        return float(self.weights.mean())

    def checkpoint(self, directory: Path) -> None:
        files.write_safetensors(directory / "weights.safetensors", {"w": self.weights})
        files.write_json(directory / "note.json", {"dtype": "float64"})

    def restore(self, directory: Path) -> None:
        self.weights = load_file(directory / "weights.safetensors")["w"]

    def export(self, directory: Path) -> None:
        self.checkpoint(directory)
