"""Make docs/figures/02_softmax_batch.png, the picture in the README: PPO drifts with depth, SPO stays.

Run by `make data`; about 10 s. Seed 0 for the batch, seeds 0 to 7 for the networks.
"""

from pathlib import Path

import torch

from pocourse.lesson.figures import png
from pocourse.ratio_clipping import figures

TARGET = Path(__file__).resolve().parents[2] / "docs" / "figures" / "02_softmax_batch.png"


def main() -> None:
    """Draw and write."""
    torch.set_num_threads(2)
    figure, _ = figures.draw_ratio_scatter({depth: figures.softmax_batch(depth) for depth in (0, 1, 3)})
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_bytes(png(figure))


if __name__ == "__main__":
    main()
