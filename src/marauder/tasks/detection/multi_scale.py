"""Multi-scale training, decided: the section of the settings, and which size the pictures of an update have.

One size for each update, a function of the seed and the update alone, so that it is the same on every rank, after a
kill, and however the batch is cut. Nothing here loads torch.

Sources: Redmon and Farhadi, "YOLO9000", CVPR 2017 (section 2, training at changing sizes); Touvron et al., "Fixing the
train-test resolution discrepancy", NeurIPS 2019 (the last epochs at the size of use); Singh and Davis, "An Analysis of
Scale Invariance in Object Detection - SNIP", CVPR 2018 (boxes too small to be learned from are ignored).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from marauder.core.randomness import stream
from marauder.core.settings import COMMAS, Decides, Settings
from marauder.imaging.augmentation import MINIMUM_SIDE
from marauder.runs.settings import ImageSize

STRIDE = 32
"""Sizes are multiples of it, as the coarsest cells of a detector."""
SMALLEST, LARGEST = (3, 4), (6, 5)
"""The default set as fractions of the native size: of 640 pixels 480 to 768."""

_Size = Annotated[ImageSize, Field(ge=64)]


def _whole_strides(step: int) -> int:
    if step % STRIDE:
        raise ValueError(f"{step} is not a multiple of {STRIDE}")
    return step


class MultiScaleSettings(Settings):
    """Training on pictures of changing size, one for each update; the native size is the setting ``image_size``, at
    which the model is evaluated, exported and used."""

    enabled: bool = Field(False, description="whether the size of the training pictures changes from update to update")
    sizes: Annotated[tuple[_Size, ...], COMMAS] = Field(
        (), description="pixels of the long side, multiples of 32; default: from smallest to largest"
    )
    smallest: _Size | None = Field(None, description="smallest size; default: three quarters of image_size")
    largest: _Size | None = Field(None, description="largest size; default: six fifths of image_size")
    step: Annotated[int, AfterValidator(_whole_strides)] = Field(
        STRIDE, ge=STRIDE, description="pixels between one size and the next, a multiple of 32"
    )
    schedule: Literal["even", "progressive"] = Field(
        "even", description="even: all sizes in every epoch; progressive: small ones in early epochs, large ones later"
    )
    native_share: float = Field(
        0.1, ge=0, le=1, description="share of the epochs, the last ones, that are at image_size alone"
    )
    limit_zoom: bool = Field(
        True, description="narrow augmentation.scale, so that animals get no smaller or larger than at image_size alone"
    )
    least_box: float = Field(
        MINIMUM_SIDE, ge=MINIMUM_SIDE, description="boxes with a side of no more pixels are ignored, not background"
    )
    measured_sizes: Annotated[tuple[_Size, ...], COMMAS, Decides.MEASUREMENT] = Field(
        (), description="sizes at which step 7 measures beside image_size; default: up to five of the set"
    )

    @property
    def is_off(self) -> bool:
        """Whether every picture has the native size."""
        return not self.enabled

    @model_validator(mode="before")
    @classmethod
    def _switch_alone(cls, value: Any) -> Any:
        """``multi_scale: true``."""
        return {"enabled": value} if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check(self) -> MultiScaleSettings:
        if self.sizes and (self.smallest is not None or self.largest is not None):
            raise ValueError("sizes names them all: leave smallest and largest out")
        if self.smallest is not None and self.largest is not None and self.smallest > self.largest:
            raise ValueError(f"smallest, {self.smallest}, is larger than largest, {self.largest}")
        return self

    def set_for(self, native: int) -> tuple[int, ...]:
        """The sizes, rising, of a training whose native size is ``native`` pixels. Raises ``ValueError`` for none."""
        if self.sizes:
            return tuple(sorted(set(self.sizes)))
        smallest = self.smallest or max(64, native * SMALLEST[0] // (SMALLEST[1] * STRIDE) * STRIDE)
        largest = self.largest or -(-native * LARGEST[0] // (LARGEST[1] * STRIDE)) * STRIDE
        if smallest > largest:
            raise ValueError(
                f"multi_scale: at image_size {native} the sizes would go from {smallest} to {largest}; give both "
                "smallest and largest, or sizes"
            )
        return tuple(range(smallest, largest + 1, self.step))

    def measured_for(self, native: int) -> tuple[int, ...]:
        """Input sizes, rising, at which a finished model is measured: ``native`` and those that were asked for; by
        default the ends of the set and one between each end and ``native``, too."""
        if self.measured_sizes:
            return tuple(sorted({native, *self.measured_sizes}))
        known = sorted({native, *self.set_for(native)})
        place, last = known.index(native), len(known) - 1
        return tuple(known[one] for one in sorted({0, place // 2, place, (place + last) // 2, last}))


@dataclass(frozen=True)
class SizePlan:
    """Which size each update has. ``sizes``: of the set, rising; ``native``: pixels at which the model is used."""

    sizes: tuple[int, ...]
    native: int
    seed: int
    progressive: bool = False
    native_share: float = 0.0
    limit_zoom: bool = True
    least_box: float = MINIMUM_SIDE

    @classmethod
    def of(cls, section: MultiScaleSettings, native: int, seed: int) -> SizePlan | None:
        """What the section asks for; ``None``: it is off."""
        if section.is_off:
            return None
        return cls(
            sizes=section.set_for(native),
            native=native,
            seed=seed,
            progressive=section.schedule == "progressive",
            native_share=section.native_share,
            limit_zoom=section.limit_zoom,
            least_box=section.least_box,
        )

    @property
    def largest(self) -> int:
        """At which pictures are stored: every size is drawn from it, none has to be invented."""
        return max(*self.sizes, self.native)

    @property
    def varies(self) -> bool:
        """Whether any update has another size than the native one; otherwise training is as without this plan."""
        return self.sizes != (self.native,)

    def at(self, epoch: int, step: int, epochs: int) -> int:
        """Pixels of a side in the update ``step`` (from 0, over all epochs), in ``epoch`` (from 0) of ``epochs``.

        Sizes are dealt like cards: of as many updates in a row as there are sizes, each has another one, in an order
        drawn for each deal. So even a short epoch has small and large ones, and epochs take about equally long.
        """
        choices = self.of_epoch(epoch, epochs)
        count = len(self.sizes)
        deal, place = divmod(step, count)
        card = int(stream(self.seed, "image_size", deal).permutation(count)[place])
        # Of fewer choices than cards, each is taken by about as many cards.
        return choices[card * len(choices) // count]

    def of_epoch(self, epoch: int, epochs: int) -> tuple[int, ...]:
        """The sizes, rising, that occur in an epoch."""
        varied = epochs - self._native_epochs(epochs)
        if epoch >= varied:
            return (self.native,)
        if not self.progressive:
            return self.sizes
        # A window of half the set, which rises from the small end to the large one.
        width = -(-len(self.sizes) // 2)
        first = round(epoch / max(1, varied - 1) * (len(self.sizes) - width))
        return self.sizes[first : first + width]

    def zoom(self, scale: float) -> tuple[float, float]:
        """The range that the augmentation's zoom is drawn from, where it would be 1 ± ``scale`` at the native size."""
        low, high = 1 - scale, 1 + scale
        if not self.limit_zoom:
            return low, high
        # Times the smallest and the largest size it is the plain range again; 1 stays in it.
        return min(low * self.native / self.sizes[0], 1.0), max(high * self.native / self.sizes[-1], 1.0)

    def _native_epochs(self, epochs: int) -> int:
        """The last epochs, which have the native size alone: at least one where any is asked for, unless there is no
        other."""
        if not self.native_share or epochs == 1:
            return 0
        return min(max(1, round(self.native_share * epochs)), epochs)
