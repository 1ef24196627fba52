"""Contact sheets: many pictures with their boxes and captions in one, to see a data set or a model at a glance."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from marauder.core.files import atomic_path
from marauder.data.picture_files import PictureError, load_rgb
from marauder.data.records import Record

Colour = tuple[int, int, int]
BACKGROUND: Colour = (24, 26, 30)
INK: Colour = (235, 235, 235)
CAPTION_SIZE, TITLE_SIZE = 13, 17
FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP"}


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a sheet.

    ``picture``: a path, or uint8 RGB (H, W, 3). ``boxes``: float (N, 4), x0 y0 x1 y1 in pixels of the
    displayed picture. ``labels`` and ``colours`` (RGB, 0..255) have one entry a box or none at all; without
    colours, boxes of equal label share one. ``size``: (width, height) in which the boxes are given, where
    that is not the picture's own. ``instead``: words that are shown in place of a picture that is not there.
    """

    picture: Path | np.ndarray
    caption: str = ""
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    labels: Sequence[str] = ()
    colours: Sequence[Colour] = ()
    size: tuple[int, int] | None = None
    instead: str = ""

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        object.__setattr__(self, "boxes", boxes)
        for name, values in (("labels", self.labels), ("colours", self.colours)):
            if len(values) not in (0, len(boxes)):
                raise ValueError(f"{len(boxes)} boxes but {len(values)} {name}")


def tile_of(record: Record, names: Sequence[str], caption: str | None = None) -> Tile:
    """The tile of a record: its boxes in the colours of their classes; ignored boxes in grey."""
    labels = [names[index] if 0 <= index < len(names) else str(index) for index in record.classes]
    colours = [(150, 150, 150) if skip else colour_of(int(c)) for c, skip in zip(record.classes, record.ignored)]
    size = (record.width, record.height)
    return Tile(record.picture, record.key if caption is None else caption, record.boxes, labels, colours, size)


def colour_of(index: int) -> Colour:
    """A bright colour for a class index; neighbours differ strongly (golden-angle steps around the hue circle)."""
    red, green, blue = colorsys.hsv_to_rgb(index * 0.618033988749895 % 1.0, 0.75 if index % 2 else 0.9, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def contact_sheet(
    tiles: Sequence[Tile], path: Path | str, columns: int = 4, tile_width: int = 320, title: str = ""
) -> Path:
    """Draw ``tiles`` row by row and write the sheet atomically; the suffix (.jpg, .png, .webp) chooses the format.

    Tiles are ``tile_width`` pixels wide and as high as most pictures need; pictures keep their shape. A picture that
    cannot be read shows as an empty tile that says so. Raises ``ValueError`` for no tiles or an unknown suffix.
    """
    target = Path(path)
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    if target.suffix.lower() not in FORMATS:
        raise ValueError(f"{target}: a contact sheet is one of {', '.join(FORMATS)}")
    columns = max(1, min(columns, len(tiles)))
    tile_height, strip, gap = round(tile_width * _usual_shape(tiles)), 20, 6
    head = 30 if title else 0
    rows = -(-len(tiles) // columns)
    sheet = Image.new(
        "RGB",
        (columns * (tile_width + gap) + gap, head + rows * (tile_height + strip + gap) + gap),
        BACKGROUND,
    )
    draw = ImageDraw.Draw(sheet)
    if title:
        fitted = _fitted(title, sheet.width - 2 * gap, TITLE_SIZE)
        draw.text((gap, 6), fitted, fill=INK, font=_font(TITLE_SIZE))
    for index, tile in enumerate(tiles):
        left = gap + index % columns * (tile_width + gap)
        top = head + gap + index // columns * (tile_height + strip + gap)
        image = draw_tile(tile, tile_width, tile_height)
        sheet.paste(image, (left + (tile_width - image.width) // 2, top + (tile_height - image.height) // 2))
        draw.text((left, top + tile_height + 2), _fitted(tile.caption, tile_width), fill=INK, font=_font(CAPTION_SIZE))
    # format is given, since the temporary name ends in .partial, from which Pillow cannot tell it.
    with atomic_path(target) as temporary:
        sheet.save(temporary, format=FORMATS[target.suffix.lower()], quality=88)
    return target


def _usual_shape(tiles: Sequence[Tile]) -> float:
    """Height over width of the middle one of the pictures whose size is known, within 0.5 to 1.4; 0.75 without any."""
    sizes = [
        tile.size or (tile.picture.shape[1::-1] if isinstance(tile.picture, np.ndarray) else None) for tile in tiles
    ]
    shapes = [size[1] / size[0] for size in sizes if size is not None and size[0] > 0]
    return float(np.clip(np.median(shapes), 0.5, 1.4)) if shapes else 0.75


def draw_tile(tile: Tile, width: int, height: int) -> Image.Image:
    """One tile's picture with its boxes, fitted into ``width`` x ``height`` pixels."""
    if tile.instead:
        return _empty_tile(width, height, tile.instead)
    if isinstance(tile.picture, np.ndarray):
        pixels = tile.picture
        own_size = tile.size or (pixels.shape[1], pixels.shape[0])
    else:
        try:
            # With a known size the JPEG may be decoded small; without, the boxes need the full size.
            pixels = load_rgb(tile.picture, max(width, height) if tile.size or not len(tile.boxes) else None)
        except PictureError as error:
            return _empty_tile(width, height, error.detail)
        own_size = tile.size or (pixels.shape[1], pixels.shape[0])
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    shown = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    image = Image.fromarray(np.ascontiguousarray(pixels)).resize(shown, Image.Resampling.BOX)
    factor = np.array([shown[0] / own_size[0], shown[1] / own_size[1]] * 2)
    draw_boxes(image, tile.boxes * factor, tile.labels, tile.colours)
    return image


def draw_boxes(
    image: Image.Image,
    boxes: np.ndarray,
    labels: Sequence[str] = (),
    colours: Sequence[Colour] = (),
    scale: float = 1.0,
) -> None:
    """Draw boxes (N, 4; x0 y0 x1 y1 in pixels of ``image``) with their labels onto ``image``, in place.

    ``scale``: of lines and letters, which suit a small picture.
    """
    draw = ImageDraw.Draw(image)
    order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    font, line = _font(round(11 * scale)), round(2 * scale)
    for index, (x0, y0, x1, y1) in enumerate(np.asarray(boxes, np.float64).reshape(-1, 4)):
        label = labels[index] if labels else ""
        colour = colours[index] if colours else colour_of(order.get(label, 0))
        # Pillow refuses a rectangle whose corners stand in the wrong order.
        draw.rectangle((x0, y0, max(x0, x1), max(y0, y1)), outline=colour, width=line)
        if label:
            top = y0 - 13 * scale if y0 >= 13 * scale else y0
            draw.rectangle(draw.textbbox((x0 + 1, top), label, font=font), fill=colour)
            draw.text((x0 + 1, top), label, fill=_ink_on(colour), font=font)


def _ink_on(colour: Colour) -> Colour:
    """Black or white, whichever is legible on ``colour`` (its brightness by ITU-R BT.601)."""
    red, green, blue = colour
    return (0, 0, 0) if 0.299 * red + 0.587 * green + 0.114 * blue > 100 else (255, 255, 255)


def _empty_tile(width: int, height: int, text: str) -> Image.Image:
    image = Image.new("RGB", (width, height), (60, 40, 40))
    ImageDraw.Draw(image).text((8, height // 2 - 8), _fitted(text, width - 16), fill=INK, font=_font(CAPTION_SIZE))
    return image


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    # matplotlib brings DejaVu Sans, which has the letters that Pillow's own font lacks; it need not be imported.
    package = find_spec("matplotlib")
    if package is not None and package.origin is not None:
        file = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


def _fitted(text: str, width: int, size: int = CAPTION_SIZE) -> str:
    """Shortened in the middle to ``width`` pixels in letters of ``size``: names of frames differ at their ends."""
    font = _font(size)
    # File names may hold a line break, which has no length.
    text = " ".join(text.splitlines())
    if font.getlength(text) <= width:
        return text
    for length in range(len(text) - 1, 2, -1):
        front = length // 2
        shorter = f"{text[:front]}…{text[front + 1 - length :]}"
        if font.getlength(shorter) <= width:
            return shorter
    return "…"
