"""The command line: ``python -m pocourse.diffusion_dpo.training --pipeline FOLDER --pairs FOLDER --output FOLDER``.

On several cards: ``accelerate launch --multi_gpu -m pocourse.diffusion_dpo.training --pipeline ...``.
"""

import os
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from pocourse.diffusion_dpo.training.pipeline import LORA_FILE, Settings, finetune

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    pipeline: Annotated[Path, typer.Option(help="the folder of a saved Stable Diffusion pipeline")],
    pairs: Annotated[Path, typer.Option(help="the folder of pairs: pairs.jsonl and its images")],
    output: Annotated[Path, typer.Option(help="where metrics, checkpoints and the LoRA go; a run there goes on")],
    num_steps: Annotated[int, typer.Option(help="steps of the optimizer, those before a kill included")] = 2000,
    beta: Annotated[float, typer.Option(help="of the loss, for errors that are means")] = Settings.beta,
    learning_rate: Annotated[float, typer.Option(help="after the warm-up")] = Settings.learning_rate,
    warmup: Annotated[int, typer.Option(help="steps")] = Settings.warmup,
    weight_decay: Annotated[float, typer.Option(help="of AdamW")] = Settings.weight_decay,
    max_grad_norm: Annotated[float, typer.Option(help="to which gradients are clipped")] = Settings.max_grad_norm,
    rank: Annotated[int, typer.Option(help="of the LoRA")] = Settings.rank,
    batch_size: Annotated[int, typer.Option(help="pairs in a forward pass of a process")] = Settings.batch_size,
    accumulation: Annotated[int, typer.Option(help="forward passes in a step")] = Settings.accumulation,
    empty_prompts: Annotated[float, typer.Option(help="the share of pairs without prompt")] = Settings.empty_prompts,
    resolution: Annotated[int | None, typer.Option(help="pixels; by default the pipeline's own")] = None,
    mixed_precision: Annotated[
        str, typer.Option(envvar="ACCELERATE_MIXED_PRECISION", help="no, fp16 or bf16; a launcher's is taken over")
    ] = Settings.mixed_precision,
    seed: Annotated[int, typer.Option(help="of the LoRA, the order and the noise")] = Settings.seed,
    checkpoint_every: Annotated[int, typer.Option(help="steps")] = 100,
    keep: Annotated[int, typer.Option(help="checkpoints that stay")] = 2,
    cache: Annotated[Path | None, typer.Option(help="of latents; by default inside the output")] = None,
    gradient_checkpointing: Annotated[bool, typer.Option(help="less memory, more time")] = False,
    cpu: Annotated[bool, typer.Option("--cpu", help="leave an accelerator unused")] = False,
) -> None:
    """Fine-tune a Stable Diffusion pipeline on preference pairs with Diffusion-DPO. Nothing is downloaded.

    Killed, it goes on from its last checkpoint when it is started again with the same options.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main_process = os.environ.get("RANK", "0") == "0"
    try:
        settings = Settings(
            beta=beta,
            learning_rate=learning_rate,
            warmup=warmup,
            weight_decay=weight_decay,
            max_grad_norm=max_grad_norm,
            rank=rank,
            batch_size=batch_size,
            accumulation=accumulation,
            empty_prompts=empty_prompts,
            resolution=resolution,
            mixed_precision=mixed_precision,
            seed=seed,
        )
        steps = finetune(
            pipeline,
            pairs,
            output,
            settings,
            num_steps=num_steps,
            checkpoint_every=checkpoint_every,
            keep=keep,
            cache=cache,
            gradient_checkpointing=gradient_checkpointing,
            cpu=cpu,
        )
        with tqdm(total=num_steps, unit="step", disable=not main_process) as bar:
            for record in steps:
                bar.update(record["step"] - bar.n)
                bar.set_postfix({name: f"{record[name]:.4g}" for name in ("loss", "accuracy", "error_chosen")})
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    if main_process:
        typer.echo(f"The LoRA is in {output / LORA_FILE}.")


if __name__ == "__main__":
    app()
