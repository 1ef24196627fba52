"""A deployment profile as lines of a terminal."""

from __future__ import annotations

from marauder.core.text_table import table_lines, wrapped
from marauder.deployment.device_table import DeviceTable
from marauder.deployment.profile import ASSUMPTIONS, PARTS, MemberCost, Profile


def profile_lines(profile: Profile, table: DeviceTable, width: int | None = None) -> list[str]:
    """Members, sums, the day part by part, then where the figures are from."""
    cycle, day = profile.cycle, profile.day
    rhythm = "always on"
    if not cycle.always_on:
        rhythm = f"{cycle.wakes_per_day:g} times a day {cycle.watch_seconds:g} s and {cycle.wake_seconds:g} s to start"
    lines = [
        f"{profile.title}, pictures of {profile.image_size} pixels; {cycle.cameras} x {cycle.frames_per_second:g} a "
        f"second, {rhythm}",
        *table_lines(
            ("member", "model", "ms", "weights MB", "from"),
            [_row(one) for one in profile.members],
            numeric=(2, 3),
            width=width,
        ),
        "",
        f"one picture: {profile.latency:.1f} ms; memory: about {profile.megabytes:.0f} of {profile.memory:.0f} MB",
        *table_lines(
            ("a day", "hours", "Wh"),
            [(part, f"{day.seconds[part] / 3600:.2f}", f"{day.watt_hours[part]:.1f}") for part in PARTS]
            + [("inference + wake", "", f"{day.budgeted:.1f}"), ("total", "", f"{day.total:.1f}")],
            numeric=(1, 2),
            width=width,
        ),
    ]
    if not day.fits:
        lines.append("A day is too short for all pictures.")
    lines.append("")
    for words in (*ASSUMPTIONS, *profile.remarks):
        lines += wrapped("note: ", words, width)
    for source in dict.fromkeys(one.source for one in profile.members if one.source):
        lines += wrapped(f"{source}: ", table.sources[source], width)
    return lines


def _row(one: MemberCost) -> tuple[str, ...]:
    shown = f"{one.milliseconds:.1f}" if one.milliseconds is not None else "-"
    weights = f"{one.weights_megabytes:.0f}" if one.weights_megabytes is not None else "-"
    return one.name, one.model, shown, weights, one.why or ("estimated by operations" if one.estimated else one.source)
