"""The folder of preference pairs: its reader, its images, and the cache of what a pipeline makes of them."""

import io
import json
import os

import pytest
import torch
from PIL import Image

from pocourse.diffusion_dpo.training import pairs as room
from pocourse.diffusion_dpo.training.pairs import cache_latents, identity, image_tensor, read_pairs, write_pairs
from pocourse.diffusion_dpo.training.pipeline import load_pipeline, tiny_pipeline


def patch(red, size=(40, 32)):
    return Image.new("RGB", size, (red, 90, 200))


def folder_of(path, *lines, images=("a.png", "b.png")):
    """A folder with these lines, and with images of different colours."""
    path.mkdir()
    for number, name in enumerate(images):
        (path / name).parent.mkdir(exist_ok=True)
        patch(20 * number).save(path / name)
    texts = [line if isinstance(line, (str, bytes)) else json.dumps(line) for line in lines]
    (path / "pairs.jsonl").write_bytes(b"\n".join(t if isinstance(t, bytes) else t.encode() for t in texts))
    return path


def pair(chosen="a.png", rejected="b.png", prompt="a circle"):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def refused(path):
    with pytest.raises(ValueError) as caught:
        read_pairs(path)
    return str(caught.value)


# ---------------------------------------------------------------- reading


def test_pairs_are_read_in_the_order_of_their_lines(tmp_path):
    first = b"\xef\xbb\xbf" + json.dumps(pair(), ensure_ascii=False).encode()  # as some editors begin a file
    path = folder_of(
        tmp_path / "pairs", first, "", pair("b.png", "c/d.jpg", "größer"), "", images=("a.png", "b.png", "c/d.jpg")
    )
    one, two = read_pairs(path)
    assert (one.prompt, two.prompt) == ("a circle", "größer")
    assert [p.path.relative_to(path).as_posix() for p in (one.chosen, one.rejected, two.rejected)] == [
        "a.png",
        "b.png",
        "c/d.jpg",
    ]
    assert one.rejected == two.chosen != one.chosen


def test_what_is_written_is_read(tmp_path):
    written = [("a circle", patch(1), patch(2)), ("ein Kreis, größer", patch(3), patch(1))]
    path = write_pairs(tmp_path / "deep" / "pairs", written)
    found = read_pairs(path)
    assert [pair.prompt for pair in found] == [prompt for prompt, _, _ in written]
    for pair_, (_, *images) in zip(found, written, strict=True):
        for picture, image in zip(pair_[1:], images, strict=True):
            assert room.opened(picture.path.read_bytes()).tobytes() == image.tobytes()
    assert found[0].chosen.sha256 == found[1].rejected.sha256  # the same colour
    with pytest.raises(ValueError, match="without pairs"):
        write_pairs(path, written)


def truncated():
    whole = io.BytesIO()
    Image.effect_noise((40, 40), 90).save(whole, "png")
    return whole.getvalue()[:-200]


def as_bytes(image):
    content = io.BytesIO()
    image.save(content, "png")
    return content.getvalue()


@pytest.mark.parametrize(
    ("line", "files", "said"),
    [
        (pair(chosen="gone.png"), {}, "pairs.jsonl:2: image 'gone.png' is missing"),
        (pair(chosen="c"), {"c/x.txt": b""}, "pairs.jsonl:2: image 'c' is missing"),
        (pair(chosen="c.png"), {"c.png": b"no image"}, "pairs.jsonl:2: image 'c.png' is unreadable: no format"),
        (pair(chosen="c.png"), {"c.png": b""}, "pairs.jsonl:2: image 'c.png' is unreadable"),
        (
            pair(chosen="c.png"),
            {"c.png": truncated()},
            "pairs.jsonl:2: image 'c.png' is unreadable: image file is trun",
        ),
        (pair(chosen="../out.png"), {"../out.png": as_bytes(patch(99))}, "image '../out.png' lies outside"),
        (pair(chosen="/out.png"), {}, "image '/out.png' lies outside"),
        (pair(chosen="a.png", rejected="a.png"), {}, "pairs.jsonl:2: image 'a.png' is both chosen and rejected"),
        (pair(chosen="c.png"), {"c.png": as_bytes(patch(20))}, "image 'c.png' (and 'b.png', byte for byte) is both"),
        (
            {"prompt": "x", "chosen": "a.png"},
            {},
            "pairs.jsonl:2: has no rejected image beside the chosen image 'a.png'",
        ),
        ({"prompt": "x", "rejected": "b.png"}, {}, "pairs.jsonl:2: has no chosen image beside the rejected image 'b.p"),
        (pair(rejected=["b.png"]), {}, "pairs.jsonl:2: has no rejected image beside"),
        (pair(prompt=" "), {}, "pairs.jsonl:2: has an empty prompt"),
        ({"chosen": "a.png", "rejected": "b.png"}, {}, "pairs.jsonl:2: has no text for a prompt"),
        (pair() | {"winner": 1}, {}, "pairs.jsonl:2: has the unknown field 'winner'"),
        ('{"prompt": ', {}, "pairs.jsonl:2: is no JSON"),
        (b'{"prompt": "\xff"}', {}, "pairs.jsonl:2: is no JSON"),
        ("[1, 2]", {}, "pairs.jsonl:2: is a JSON list"),
        (pair(), {"more/c.webp": b"whatever"}, "pairs.jsonl: image 'more/c.webp' is unpaired: no line names it"),
        (pair(chosen="c.png"), {"c.png": as_bytes(Image.new("I;16", (4, 4)))}, "expected eight bits a channel"),
        (pair(chosen="c.png"), {"c.png": as_bytes(Image.new("RGBA", (4, 4), (1, 2, 3, 4)))}, "no transparent pixels"),
    ],
)
def test_a_problem_is_named_by_line_and_file(tmp_path, line, files, said):
    path = folder_of(tmp_path / "pairs", pair(), line)
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)
    message = refused(path)
    assert said in message and "got 1 problem(s)" in message and "Mend or remove" in message


def test_all_problems_are_named_at_once(tmp_path):
    path = folder_of(
        tmp_path / "pairs",
        pair(chosen="gone.png"),
        pair(),
        "{",
        pair(rejected="too.png"),
        {"prompt": "x"},
        images=("a.png", "b.png", "e.png"),
    )
    message = refused(path)
    assert "got 6 problem(s)" in message
    assert "jsonl:5: has no chosen image\n" in message and "jsonl:5: has no rejected image\n" in message
    order = [
        message.index(word) for word in ("jsonl:1: image 'gone", "jsonl:3: is no", "jsonl:4: image 'too", "'e.png'")
    ]
    assert order == sorted(order)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs links")
def test_a_link_that_leads_out_is_refused(tmp_path):
    patch(99).save(tmp_path / "out.png")
    path = folder_of(tmp_path / "pairs", pair(chosen="link.png"), images=("b.png",))
    (path / "link.png").symlink_to(tmp_path / "out.png")
    assert "image 'link.png' lies outside of the folder" in refused(path)


def test_a_folder_without_pairs_is_refused(tmp_path):
    assert "with a file pairs.jsonl" in refused(tmp_path / "nowhere")
    assert "holds no pair" in refused(folder_of(tmp_path / "empty", "", images=()))


def test_opaque_alpha_and_hidden_files_are_no_problem(tmp_path):
    path = folder_of(tmp_path / "pairs", pair())
    patch(7).convert("RGBA").save(path / "a.png")
    (path / "._a.png").write_bytes(b"left by a file manager")
    (read,) = read_pairs(path)
    assert room.opened(read.chosen.path.read_bytes()).tobytes() == patch(7).tobytes()


# ---------------------------------------------------------------- images


def test_an_image_is_cut_around_its_centre():
    wide = Image.new("RGB", (8, 4))
    for x in range(8):
        for y in range(4):
            wide.putpixel((x, y), (255 * (x < 4), 0, 255))
    cut = image_tensor(as_bytes(wide), resolution=4)
    assert cut.shape == (3, 4, 4) and cut.dtype == torch.float32
    assert torch.equal(cut[0], torch.tensor([1.0, 1.0, -1.0, -1.0]).expand(4, 4))
    assert (cut[1] == -1).all() and (cut[2] == 1).all()
    assert image_tensor(as_bytes(wide), resolution=16).shape == (3, 16, 16)


def test_an_image_is_turned_as_its_camera_says():
    upright = Image.new("RGB", (2, 2))
    upright.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    content = io.BytesIO()
    upright.save(content, "png", exif=exif)
    assert image_tensor(content.getvalue(), resolution=2)[0].tolist() == [[-1.0, 1.0], [-1.0, -1.0]]


# ---------------------------------------------------------------- the cache


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return load_pipeline(tiny_pipeline(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def folder(tmp_path):
    pictures = [(patch(60 * n), patch(60 * n + 30)) for n in range(3)]
    return write_pairs(
        tmp_path / "pairs", [("a circle", *pictures[0]), ("a disc", *pictures[1]), ("a disc", *pictures[2])]
    )


def fill(folder, tiny, cache, **changed):
    return cache_latents(read_pairs(folder), tiny, cache, **{"resolution": 32} | changed)


def contents(cache):
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in cache.rglob("*") if path.is_file()}


def test_the_cache_holds_what_vae_and_text_encoder_say(tiny, folder, tmp_path):
    cached = fill(folder, tiny, tmp_path / "cache")
    assert cached.encoded == 9 and len(cached) == 3  # six images, two prompts and the empty one
    got = cached.batch([2, 0])
    assert got.chosen_mean.shape == got.rejected_std.shape == (2, 4, 8, 8) and got.embedding.shape == (2, 77, 32)
    for row, pair_ in enumerate([read_pairs(folder)[2], read_pairs(folder)[0]]):
        for side in ("chosen", "rejected"):
            image = image_tensor(getattr(pair_, side).path.read_bytes(), resolution=32)
            with torch.no_grad():
                posterior = tiny.vae.encode(image[None]).latent_dist
            assert torch.equal(getattr(got, f"{side}_mean")[row], posterior.mean[0])
            assert torch.equal(getattr(got, f"{side}_std")[row], posterior.std[0])
        tokens = tiny.tokenizer(pair_.prompt, padding="max_length", max_length=77, return_tensors="pt").input_ids
        with torch.no_grad():
            assert torch.equal(got.embedding[row], tiny.text_encoder(tokens)[0][0])
    bare = cached.batch([2, 0], without_prompt=[False, True])
    with torch.no_grad():
        empty = tiny.text_encoder(torch.tensor([[0] + 76 * [1]]))[0][0]  # start, and then ends
    assert torch.equal(bare.embedding[0], got.embedding[0]) and torch.equal(bare.embedding[1], empty)
    assert torch.equal(bare.chosen_mean, got.chosen_mean)


def test_only_what_changed_is_encoded_again(tiny, folder, tmp_path):
    cache = tmp_path / "cache"
    fill(folder, tiny, cache)
    before = contents(cache)
    assert fill(folder, tiny, cache).encoded == 0 and contents(cache) == before
    patch(255).save(folder / "00001-chosen.png")
    cached = fill(folder, tiny, cache)
    assert cached.encoded == 1 and before.items() < contents(cache).items()
    whole = image_tensor((folder / "00001-chosen.png").read_bytes(), resolution=32)
    with torch.no_grad():
        assert torch.equal(cached.batch([1]).chosen_mean, tiny.vae.encode(whole[None]).latent_dist.mean)
    lines = (folder / "pairs.jsonl").read_text().replace("a circle", "a ring")
    (folder / "pairs.jsonl").write_text(lines)
    assert fill(folder, tiny, cache).encoded == 1
    assert fill(folder, tiny, cache, resolution=16).encoded == 6
    assert before.items() < contents(cache).items()


def test_another_vae_or_text_encoder_has_latents_of_its_own(tiny, folder, tmp_path):
    other = load_pipeline(tiny_pipeline(tmp_path / "other"))
    fill(folder, tiny, tmp_path / "cache")
    assert identity(other.vae) == identity(tiny.vae)
    assert fill(folder, other, tmp_path / "cache").encoded == 0
    with torch.no_grad():
        other.vae.quant_conv.bias[0] += 1e-6
    assert identity(other.vae) != identity(tiny.vae)
    assert fill(folder, other, tmp_path / "cache").encoded == 6
    with torch.no_grad():
        next(other.text_encoder.parameters())[0, 0] += 1e-6
    assert fill(folder, other, tmp_path / "cache").encoded == 3


@pytest.mark.parametrize("where", ["prepared", "moved"])
def test_an_interrupted_caching_loses_nothing(tiny, folder, tmp_path, monkeypatch, where):
    cache, target = tmp_path / "cache", {"prepared": (room, "image_tensor"), "moved": (os, "replace")}[where]
    count, real = [], getattr(*target)

    def third_time_stops(*args, **kwargs):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(*target, third_time_stops)
    with pytest.raises(KeyboardInterrupt):
        fill(folder, tiny, cache)
    monkeypatch.undo()
    kept = contents(cache)
    assert len(kept) == 2 and all(name.endswith(".safetensors") for name in kept)
    assert fill(folder, tiny, cache).encoded == 7
    assert kept.items() < contents(cache).items()
    # It ends as a caching in one go does.
    fill(folder, tiny, tmp_path / "one-go")
    assert contents(cache) == contents(tmp_path / "one-go")


def test_a_broken_image_loses_nothing_that_is_cached(tiny, folder, tmp_path):
    fill(folder, tiny, tmp_path / "cache")
    before = contents(tmp_path / "cache")
    (folder / "00002-rejected.png").write_bytes(truncated())
    with pytest.raises(ValueError, match=r"pairs.jsonl:3: image '00002-rejected.png' is unreadable"):
        fill(folder, tiny, tmp_path / "cache")
    assert contents(tmp_path / "cache") == before
    patch(255).save(folder / "00002-rejected.png")
    assert fill(folder, tiny, tmp_path / "cache").encoded == 1


def test_an_image_that_changes_meanwhile_is_refused(tiny, folder, tmp_path):
    read = read_pairs(folder)
    patch(255).save(folder / "00000-chosen.png")
    with pytest.raises(ValueError, match=r"00000-chosen.png as it was when the pairs were read"):
        cache_latents(read, tiny, tmp_path / "cache", resolution=32)


def test_a_damaged_file_of_the_cache_is_made_again(tiny, folder, tmp_path):
    cached = fill(folder, tiny, tmp_path / "cache")
    before = contents(tmp_path / "cache")
    damaged = sorted((tmp_path / "cache").rglob("*.safetensors"))
    for path in damaged:
        path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"whole file of the cache .* Start again"):
        cached.batch([0])
    assert fill(folder, tiny, tmp_path / "cache").encoded == len(damaged) == 9
    assert contents(tmp_path / "cache") == before


def test_processes_share_the_work(tiny, folder, tmp_path):
    shares = [fill(folder, tiny, tmp_path / "cache", share=(number, 3)) for number in range(3)]
    assert [cached.encoded for cached in shares] == [3, 3, 3]
    assert fill(folder, tiny, tmp_path / "cache").encoded == 0
    assert torch.equal(shares[0].batch([1]).embedding, shares[2].batch([2]).embedding)


def test_prompts_of_the_same_tokens_share_a_file(tiny, tmp_path):
    long = "a " * 80
    folder = write_pairs(tmp_path / "pairs", [(long + "ring", patch(1), patch(2)), (long + "disc", patch(1), patch(2))])
    assert fill(folder, tiny, tmp_path / "cache").encoded == 4  # two images, a prompt and the empty one
