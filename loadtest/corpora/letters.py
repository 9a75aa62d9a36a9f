"""
Letters to the North Pole: the documents of the demo, the tests, the benchmarks.

No file is copied from anywhere.  A small grammar composes the letters, `noise`
draws and wears the pages, and a seed decides everything, so that the same seed
writes the same bytes (but for the locked PDF, whose cipher salts itself).
"""

from __future__ import annotations

import argparse
import random
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal, assert_never

import pikepdf
from PIL import Image

from loadtest.corpora.noise import (
    A4,
    A5,
    HAND,
    TYPED,
    Sheet,
    Wear,
    blank,
    page,
    smudged,
)
from loadtest.corpora.troubles import disclosing, troubled
from pipeline.errors import Usage, WaybillError

Expect = Literal["done", "held", "rejected", "duplicate", "quarantined"]


@dataclass(frozen=True, slots=True)
class DemoFile:
    """
    One file of the demo and what must become of it.

    `kind` says what it is (`hand-photo-jpg`, `blank-jpg`).  `truth` is the text
    on it, a form feed between pages; empty when nobody could read it.
    """

    path: Path
    expect: Expect
    kind: str
    truth: str


@dataclass(frozen=True, slots=True)
class Shape:
    """
    How a letter reaches us.

    `turn` is the EXIF orientation of a camera held otherwise (1: upright).
    `wear` is `text` where the page was never paper.
    """

    hand: bool
    wear: Wear | Literal["text"]
    suffix: Literal["jpg", "png", "pdf", "tif"]
    pages: int = 1
    turn: int = 1

    @property
    def kind(self) -> str:
        """A word for it, such as `hand-photo-jpg-exif6`."""
        who = "hand" if self.hand else "typed"
        many = f"-{self.pages}pages" if self.pages > 1 else ""
        turned = f"-exif{self.turn}" if self.turn > 1 else ""
        return f"{who}-{self.wear}-{self.suffix}{many}{turned}"


# The good letters go round this list; twice makes the 34 of the demo.
SHAPES = (
    Shape(True, "scan", "jpg"),
    Shape(False, "photo", "jpg"),
    Shape(True, "clean", "png"),
    Shape(True, "photo", "jpg", turn=6),
    Shape(True, "scan", "pdf", pages=2),
    Shape(False, "scan", "jpg"),
    Shape(True, "photo", "jpg"),
    Shape(False, "scan", "tif", pages=2),
    Shape(True, "scan", "jpg"),
    Shape(False, "photo", "jpg", turn=3),
    Shape(True, "clean", "png"),
    Shape(False, "text", "pdf"),
    Shape(True, "photo", "jpg", turn=8),
    Shape(False, "scan", "pdf", pages=3),
    Shape(True, "photo", "jpg"),
    Shape(False, "clean", "png"),
    Shape(True, "scan", "jpg"),
)

SPECIAL = ("disclosure", "locked", "smudged", "blank", "cut", "again")


# -- what is written -----------------------------------------------------------------


def demo_files(folder: Path, *, seed: int = 1, count: int = 40) -> list[DemoFile]:
    """
    Write `count` files into `folder` and say what must become of each.

    All but six are good letters.  The six: a letter that discloses harm (held), a
    smudged scan (held), an empty sheet (rejected), the first file once more
    (duplicate), a locked PDF and a JPEG cut off at 60 % (quarantined).

    Raises:
        Usage: `count` is under 12, or a font is missing.
    """
    if count < 12:
        raise Usage(
            f"a demo of {count} files has no room for the six that are no letters",
            hint="ask for at least 12",
        )
    folder.mkdir(parents=True, exist_ok=True)
    names = random.Random(f"names:{seed}").sample(NAMES, len(NAMES))
    # Spread out, and never first: the duplicate needs something to repeat.
    special = {1 + (k + 1) * count // 7: word for k, word in enumerate(SPECIAL)}
    files: list[DemoFile] = []
    good = 0
    for number in range(1, count + 1):
        rng = random.Random(f"demo:{seed}:{number}")
        name = names[number % len(names)]
        if word := special.get(number):
            files.append(_odd(folder, number, word, name, rng, files))
            continue
        shape = SHAPES[good % len(SHAPES)]
        # Each seventeenth letter has the same shape, so step the face as well.
        faces = HAND if shape.hand else TYPED
        face = (good + good // len(SHAPES)) % len(faces)
        text = compose(rng, name, words=rng.randint(65, 85) * shape.pages)
        text = troubled(text, good)
        text = paginated(text, shape.pages)
        path = folder / f"letter-{number:02}-{name.lower()}.{shape.suffix}"
        _save(path, shape, text, face, rng)
        files.append(DemoFile(path, "done", shape.kind, text))
        good += 1
    return files


def pages(
    folder: Path,
    *,
    count: int,
    seed: int,
    kinds: Sequence[Wear] = ("clean", "scan", "photo"),
) -> list[Path]:
    """
    Write `count` single-page letters of 150 to 250 words, `kinds` in turn.

    A5 at 200 dpi, PNG when clean and JPEG when worn: about a second of
    tesseract each.

    Raises:
        Usage: a font is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    faces = HAND + TYPED
    paths = []
    for number in range(count):
        rng = random.Random(f"page:{seed}:{number}")
        wear = kinds[number % len(kinds)]
        face = faces[number // len(kinds) % len(faces)]
        text = compose(rng, rng.choice(NAMES), words=rng.randint(165, 215))
        image = page(text, face, A5, wear, rng)
        path = (
            folder / f"page-{number:05}-{wear}{'.png' if wear == 'clean' else '.jpg'}"
        )
        path.write_bytes(
            as_png(image, A5.dpi) if wear == "clean" else as_jpeg(image, A5.dpi)
        )
        paths.append(path)
    return paths


def letter(seed: int) -> str:
    """The text of one letter: paragraphs with an empty line between them."""
    rng = random.Random(f"letter:{seed}")
    return compose(rng, rng.choice(NAMES), words=80)


# -- files ---------------------------------------------------------------------------


def _odd(
    folder: Path,
    number: int,
    word: str,
    name: str,
    rng: random.Random,
    before: Sequence[DemoFile],
) -> DemoFile:
    """Write one of the six files that do not simply become done."""
    stem = f"letter-{number:02}"
    text = compose(rng, name, words=70)
    match word:
        case "disclosure":
            path = folder / f"{stem}-{name.lower()}.jpg"
            said = disclosing(text, rng)
            _save(path, Shape(True, "scan", "jpg"), said, 0, rng)
            return DemoFile(path, "held", "disclosure-jpg", said)
        case "smudged":
            path = folder / f"{stem}-rain.jpg"
            path.write_bytes(as_jpeg(smudged(text, HAND[0], A5, rng), A5.dpi))
            return DemoFile(path, "held", "smudged-jpg", "")
        case "blank":
            path = folder / f"{stem}-empty.jpg"
            path.write_bytes(as_jpeg(blank(A5, rng), A5.dpi))
            return DemoFile(path, "rejected", "blank-jpg", "")
        case "again":
            first = before[0]
            path = folder / f"{stem}-again{first.path.suffix}"
            path.write_bytes(first.path.read_bytes())
            return DemoFile(path, "duplicate", first.kind, first.truth)
        case "locked":
            path = folder / f"{stem}-locked.pdf"
            save_pdf(path, [page(text, HAND[1], A5, "scan", rng)], A5, key=name)
            return DemoFile(path, "quarantined", "locked-pdf", "")
        case _:
            path = folder / f"{stem}-cut.jpg"
            whole = as_jpeg(page(text, HAND[0], A5, "photo", rng), A5.dpi)
            path.write_bytes(whole[: len(whole) * 6 // 10])
            return DemoFile(path, "quarantined", "cut-jpg", "")


def _save(path: Path, shape: Shape, text: str, face: int, rng: random.Random) -> None:
    """Write `text` to `path` in `shape`; `face` counts through its typefaces."""
    sheet = A5 if shape.hand else A4
    if shape.wear == "text":
        save_text_pdf(path, text)
        return
    faces = HAND if shape.hand else TYPED
    images = [
        page(part, faces[face % len(faces)], sheet, shape.wear, rng)
        for part in text.split("\f")
    ]
    match shape.suffix:
        case "png":
            path.write_bytes(as_png(images[0], sheet.dpi))
        case "jpg":
            path.write_bytes(as_jpeg(images[0], sheet.dpi, turn=shape.turn))
        case "tif":
            # As an office scanner sends it: one bit a pixel, fax compression.
            frames = [
                image.convert("L").convert("1", dither=Image.Dither.NONE)
                for image in images
            ]
            frames[0].save(
                path,
                save_all=True,
                append_images=frames[1:],
                compression="group4",
                dpi=(sheet.dpi, sheet.dpi),
            )
        case "pdf":
            save_pdf(path, images, sheet)
        case _:
            assert_never(shape.suffix)


# How the pixels lie in the file for the viewer to turn them upright again.
_LAID = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}


def as_png(image: Image.Image, dpi: int) -> bytes:
    """`image` as PNG bytes; level 3 is twice as quick as 6 and a tenth larger."""
    out = BytesIO()
    image.save(out, "PNG", dpi=(dpi, dpi), compress_level=3)
    return out.getvalue()


def as_jpeg(image: Image.Image, dpi: int, *, turn: int = 1) -> bytes:
    """`image` as JPEG bytes; `turn` is the EXIF orientation it is laid down in."""
    exif = Image.Exif()
    if turn in _LAID:
        image = image.transpose(_LAID[turn])
        exif[0x0112] = turn
    out = BytesIO()
    image.save(out, "JPEG", quality=80, dpi=(dpi, dpi), exif=exif)
    return out.getvalue()


def save_pdf(
    path: Path, images: Sequence[Image.Image], sheet: Sheet, *, key: str = ""
) -> None:
    """A PDF with one JPEG a page; it opens with the password `key` if given."""
    width, height = (side * 72 / sheet.dpi for side in (sheet.width, sheet.height))
    with pikepdf.new() as pdf:
        for image in images:
            picture = pdf.make_stream(
                as_jpeg(image, sheet.dpi),
                Type=pikepdf.Name.XObject,
                Subtype=pikepdf.Name.Image,
                Width=image.width,
                Height=image.height,
                ColorSpace=pikepdf.Name.DeviceRGB,
                BitsPerComponent=8,
                Filter=pikepdf.Name.DCTDecode,
            )
            leaf = pdf.add_blank_page(page_size=(width, height))
            leaf.Resources = pikepdf.Dictionary(
                XObject=pikepdf.Dictionary(Scan=picture)
            )
            leaf.Contents = pdf.make_stream(
                f"q {width:.2f} 0 0 {height:.2f} 0 0 cm /Scan Do Q".encode()
            )
        if key:
            pdf.save(path, encryption=pikepdf.Encryption(owner=key, user=key))
        else:
            pdf.save(path, deterministic_id=True)


def save_text_pdf(path: Path, text: str) -> None:
    """A PDF of one A4 page that was typed, not scanned: it has a text layer."""
    lines = [
        line
        for paragraph in text.split("\n")
        for line in textwrap.wrap(paragraph, 62) or [""]
    ]
    shown = b" ".join(pikepdf.String(line).unparse() + b" Tj T*" for line in lines)
    with pikepdf.new() as pdf:
        leaf = pdf.add_blank_page(page_size=(595, 842))
        face = pikepdf.Dictionary(
            Type=pikepdf.Name.Font,
            Subtype=pikepdf.Name.Type1,
            BaseFont=pikepdf.Name.Helvetica,
            Encoding=pikepdf.Name.WinAnsiEncoding,
        )
        leaf.Resources = pikepdf.Dictionary(Font=pikepdf.Dictionary(F1=face))
        leaf.Contents = pdf.make_stream(
            b"BT /F1 14 Tf 22 TL 64 760 Td " + shown + b" ET"
        )
        pdf.save(path, deterministic_id=True)


# -- the grammar ---------------------------------------------------------------------

# Common given names; nobody in particular.
_NAMES = (
    "Mia Noah Lena Oskar Amira Theo Freya Ravi Nora Felix Zoe Kofi Clara Leo Yuki "
    "Hanna Milo Ines Jonas Aisha Emil Lucia Tom Priya Anton Ella Hugo Maya Finn "
    "Sofia Ben Wanda Elias Rosa Kai Ida Samir Greta Luca Alma Otto Nina"
)
NAMES = tuple(_NAMES.split())

# Each draw of a slot takes the next entry of its shuffled list.
SLOTS = {
    "hello": (
        "Dear Father Christmas, | Dear Santa, | Hello Santa Claus, | To everyone at "
        "the North Pole, | Dear Santa and all the elves,"
    ),
    "age": "five | six | seven | eight | nine | ten",
    "kin": (
        "my little brother | my big sister | my grandma | my grandpa | my cousin | "
        "my best friend | my aunt | our neighbour"
    ),
    "pet": (
        "a fluffy cat | an old brown dog | two goldfish | a very slow tortoise | "
        "three noisy hens | a white rabbit"
    ),
    "wish": (
        "a red kite | a book about whales | a wooden train | warm mittens | a set "
        "of paints | a telescope | a puzzle with a thousand pieces | a drum | a "
        "yellow raincoat | new football boots | a magnifying glass | a board game "
        "for rainy days | a blue bicycle bell | a jar of marbles | a cuddly penguin "
        "| a torch for camping | a recipe book | a box of chalk"
    ),
    "place": (
        "in the garden | at school | in the library | at the seaside | in the "
        "kitchen | in the park | at the swimming pool | in the orchard"
    ),
    "yard": "in the garden | behind the house | at school | in the orchard",
    "skill": (
        "to ride a bicycle | to swim without armbands | to tie my shoes | to play "
        "the recorder | to bake bread | to count to one thousand | to whistle a "
        "tune | to read whole chapters"
    ),
    "treat": (
        "a ginger biscuit | a mince pie | a slice of apple cake | a cup of cocoa | "
        "a plate of pancakes | a glass of warm milk"
    ),
    "spot": (
        "by the fireplace | on the window sill | next to the tree | on the kitchen "
        "table | under the stairs"
    ),
    "weather": "snowing | raining | very windy | cold and bright | foggy",
}

ABOUT = (
    "My name is {name} and I am {age} years old.",
    "I live with {pet} and {kin}.",
    "My favourite place to play is {place}.",
    "Today it is {weather} and I am writing this {place}.",
    "When I grow up I want to build bridges over wide rivers.",
    "I have a loose tooth and it wobbles when I eat an apple.",
    "My favourite animal is the otter because it holds hands when it sleeps.",
)
GOOD = (
    "This year I learned {skill}.",
    "I helped {kin} to rake the leaves {yard}.",
    "I shared my crayons with {kin} and did not even grumble.",
    "Every morning I feed {pet} before breakfast.",
    "I learned {skill}, and {kin} clapped for a long time.",
    "I carried the shopping for {kin} all the way up the hill.",
    "I tidied my room twice without being asked.",
    "I planted sunflowers {yard} and the tallest one was taller than me.",
    "I read a story to {kin} when the lights went out.",
    "I wrote a thank you card to the bus driver.",
)
WISH = (
    "Please may I have {wish} and {wish}?",
    "I would love {wish}, but {wish} would be wonderful too.",
    "Could you bring {wish} for {kin}?",
    "If there is room in the sleigh, I wish for {wish}.",
    "Most of all I would like {wish}.",
    "{kin} would be very happy about {wish}.",
    "I do not need many things, only {wish} and perhaps {wish}.",
)
ASK = (
    "How do your reindeer find our house in the dark?",
    "Is it true that the elves sing while they wrap the presents?",
    "What do you do when summer comes to the North Pole?",
    "Does the snow smell different where you live?",
    "Which of the reindeer likes carrots the most?",
    "How many letters do you read in one day?",
    "Do you ever get lost when it is {weather}?",
    "Can polar bears skate on the ice?",
    "Who feeds the reindeer when you are on holiday?",
    "Did you also have {pet} when you were small?",
)
CLOSING = (
    "I will leave you {treat} {spot}, and carrots for the reindeer.",
    "There will be {treat} {spot} when you come.",
    "Please say hello to the elves, and look for {treat} {spot}.",
)
SIGNED = (
    "With love from",
    "Lots of love,",
    "Your friend,",
    "Many happy greetings from",
    "Thank you and good night,",
)


# What a child writes when it asks for help.  A person must see this at once.
class Decks:
    """Slots to draw from: no word twice in a letter while its list lasts."""

    def __init__(self, rng: random.Random, name: str) -> None:
        self._rng = rng
        self._name = name
        self._left: dict[str, list[str]] = {}

    def __getitem__(self, slot: str) -> str:
        """The next word for `slot`."""
        if slot == "name":
            return self._name
        if not self._left.get(slot):
            self._left[slot] = self.shuffled(SLOTS[slot].split(" | "))
        return self._left[slot].pop()

    def shuffled(self, words: Sequence[str]) -> list[str]:
        """`words` in the order of this letter."""
        return self._rng.sample(words, len(words))

    def say(self, sentence: str) -> str:
        """`sentence` with its slots filled and a capital at its start."""
        said = sentence.format_map(self)
        return said[0].upper() + said[1:]


def compose(rng: random.Random, name: str, *, words: int) -> str:
    """
    A letter signed by `name`, of about `words` words and two sentences more.

    The sentences run out at some 400 words; a letter is never longer.
    """
    decks = Decks(rng, name)
    pools = [
        [ABOUT[0], *decks.shuffled(ABOUT[1:])],
        decks.shuffled(GOOD),
        decks.shuffled(WISH),
        decks.shuffled(ASK),
    ]
    paragraphs: list[list[str]] = [[], [], [], []]
    written = 0
    while written < words and any(pools):
        for pool, paragraph in zip(pools, paragraphs, strict=True):
            # One of each comes first, so that every letter has a wish in it.
            if pool and (written < words or not paragraph):
                said = decks.say(pool.pop(0))
                paragraph.append(said)
                written += len(said.split())
    return "\n\n".join(
        [
            decks["hello"],
            *(" ".join(paragraph) for paragraph in paragraphs),
            decks.say(rng.choice(CLOSING)),
            f"{rng.choice(SIGNED)}\n{name}",
        ]
    )


def paginated(text: str, count: int) -> str:
    """`text` with form feeds that make `count` pages of about the same length."""
    paragraphs = text.split("\n\n")
    total = sum(len(paragraph) for paragraph in paragraphs)
    sheets: list[list[str]] = [[] for _ in range(count)]
    before = 0
    for paragraph in paragraphs:
        middle = before + len(paragraph) / 2
        sheets[min(count - 1, int(count * middle / total))].append(paragraph)
        before += len(paragraph)
    return "\f".join("\n\n".join(sheet) for sheet in sheets)


# -- the command ---------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Write the demo's files and say what must become of them."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.corpora.letters",
        description="Write the demo's letters into a folder.",
    )
    parser.add_argument("outdir", type=Path, help="where to write; made if missing")
    parser.add_argument(
        "--seed", type=int, default=1, help="another seed, other letters"
    )
    parser.add_argument("--count", type=int, default=40, help="how many files (40)")
    asked = parser.parse_args(argv)
    try:
        files = demo_files(asked.outdir, seed=asked.seed, count=asked.count)
    except WaybillError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return error.exit_code
    for file in files:
        print(f"{file.expect:<12} {file.kind:<24} {file.path.name}")
    tally = Counter(file.expect for file in files)
    size = sum(file.path.stat().st_size for file in files)
    shares = ", ".join(f"{n} {expect}" for expect, n in tally.most_common())
    print(f"{len(files)} files, {size / 1e6:.1f} MB: {shares}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
