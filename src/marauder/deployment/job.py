"""``marauder deployment``: the profile of some models on a device, and what the energy gate says of it."""

from __future__ import annotations

from dataclasses import dataclass

from marauder.core.clock import Clock
from marauder.core.errors import UserError
from marauder.core.mistakes import nearest
from marauder.deployment.device_table import DeviceTable, device_table
from marauder.deployment.profile import Profile, profile
from marauder.deployment.settings import DeploymentSettings, ProfileSettings
from marauder.models.naming import family_and_scale


@dataclass(frozen=True)
class Profiled:
    """A profile, and the table that its sources are in."""

    profile: Profile
    table: DeviceTable


def profile_of(settings: DeploymentSettings, members: dict[str, str], image_size: int) -> Profile:
    """The profile of ``members`` (name to architecture). The settings name a device."""
    table = device_table()
    if settings.device is None:
        raise ValueError("there is no profile without a device")
    return profile(members, table.devices[settings.device], settings.cycle, table, image_size)


def profile_members(settings: ProfileSettings, clock: Clock) -> Profiled:
    """The profile of the settings. Raises ``UserError`` without a device, and for a model that there is not."""
    table = device_table()
    if settings.device is None:
        raise UserError(f"device: name one of {', '.join(table.names)}")
    members: dict[str, str] = {}
    for word in settings.members:
        model, _, name = word.partition(":")
        found = family_and_scale(model)
        if found is None:
            raise UserError(f"members: no model named {model!r}{nearest(model, list(table.models))}")
        members[name or _unused(model, members)] = "".join(found)
    clock.check()
    return Profiled(profile_of(settings, members, settings.image_size), table)


def _unused(name: str, taken: dict[str, str]) -> str:
    """``name``, with a number behind it where it is taken."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    return found
