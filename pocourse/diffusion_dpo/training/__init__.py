"""The training cells of chapter 5, and its real route: a Stable Diffusion pipeline from a folder.

============  ==========================================================================================
``digits``    denoisers of 8x8 digits learn to prefer ink; a perceptron with 8 seeds, a UNet with one
``shapes``    captioned pictures: pre-training, comparisons and Diffusion-DPO of a conditional UNet
``pairs``     a folder of preference pairs, read and cached
``pipeline``  a Stable Diffusion pipeline from a folder, fine-tuned with LoRA
============  ==========================================================================================
"""

from collections.abc import Mapping
from pathlib import Path

from pocourse.diffusion_dpo.training import digits, shapes
from pocourse.lesson import profiles
from pocourse.lesson.records import PreferenceRecord, SavedRecord

COMPARISONS = digits.COMPARISONS | {shapes.NAME: shapes.SIZES}
RECORDED_ONLY = digits.RECORDED_ONLY


def train(
    name: str,
    chosen: Mapping[str, digits.Variant] | None = None,
    *,
    profile: str = "auto",
    folder: Path | None = None,
    made_by: str = "notebooks/05_diffusion_dpo.ipynb",
    quiet: bool = False,
) -> PreferenceRecord:
    """Run a comparison, watch it, and return its record: "digits", "unet", "shapes" or "digits-grid".

    ``chosen`` are variants of your own, for digits. The record is saved in ``folder``, by default the reader's own.
    Interrupting it keeps what was finished.
    Raises: ValueError for names that do not exist, variants where there is no choice, the profile gpu where torch
    finds no card, shipped weights that are missing or damaged.
    """
    _judge(name)
    if name != shapes.NAME:
        return digits.train(name, chosen, profile=profile, folder=folder, made_by=made_by, quiet=quiet)
    if chosen is not None:
        raise ValueError("expected no variants for shapes, whose betas are settings; got some. Change shapes.SIZES.")
    return shapes.train(profile=profile, folder=folder, made_by=made_by, quiet=quiet)


def configuration(name: str, profile: str) -> dict:
    """Every number a comparison is run with, as it goes into its record.

    Raises: ValueError for a comparison or a profile that does not exist.
    """
    _judge(name)
    return shapes.configuration(profile) if name == shapes.NAME else digits.configuration(name, profile)


def recorded(name: str, profile: str = "cpu") -> SavedRecord | None:
    """The run that ships with the course, or None where nobody has recorded it yet."""
    return shapes.recorded(profile) if name == shapes.NAME else digits.recorded(name, profile)


def table(record: PreferenceRecord | SavedRecord) -> str:
    """The outcome as a Markdown table."""
    known = record.json if isinstance(record, SavedRecord) else record.to_json()
    return (shapes if known["name"].startswith(shapes.NAME) else digits).table(record)


def cost_card(profile: str = "auto") -> str:
    """What the training cells cost, in Markdown: what they run on this machine, and what the recorded runs measured."""
    profile = profiles.profile(profile)
    return (
        f"**What it costs** (profile `{profile}`)\n\n"
        "| comparison | methods | seeds | steps | measured | memory | on |\n|---|---|---|---|---|---|---|\n"
        + "".join(digits.cost_rows(profile))
        + "\nOther sizes: set `POCOURSE_PROFILE` to `ci` (seconds), `cpu` or `gpu` (longer, more pairs and samples) "
        "before starting the kernel.\n"
    )


def _judge(name):
    known = [*COMPARISONS, *RECORDED_ONLY]
    if name not in known:
        raise ValueError(f"expected a comparison among {', '.join(known)}; got {name!r}. Choose one of them.")
