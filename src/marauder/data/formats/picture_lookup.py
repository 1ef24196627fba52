"""Whose picture an entry is: the file that a name, path or address of another machine means in this data set.

A path that climbs (``../siteA/1.jpg``) or is absolute is that file. Else the longest end of the path that exists, and
only one file, is meant; a folder that is stated and contradicts what was found for its other pictures, or a picture
that another entry names fully, is no find.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from marauder.core.wording import counted
from marauder.data.formats.base import ReadOptions
from marauder.data.formats.entries import Entry, Findings
from marauder.data.formats.source import PICTURE_FOLDERS, Match, Source, fold, next_door, stem
from marauder.data.formats.unread import may_hold_labels
from marauder.data.picture_files import PICTURE_SUFFIXES, is_picture, path_exists

MASK_ENDING = re.compile(r"[ ._-](masks?|seg|segmentation|labels?|gt)$")
"""What tools put behind a picture's name for a picture of its labels."""


@dataclass(slots=True)
class _Claim:
    """An entry's picture as found in the index, by one of its names."""

    entry: Entry
    match: Match
    name: str


class PictureLookup:
    """Finds the pictures of entries that name them, below ``options.pictures``, else below the source."""

    def __init__(self, source: Source, options: ReadOptions, findings: Findings) -> None:
        self.source, self.findings = source, findings
        self.elsewhere = options.pictures is not None
        self.root = options.pictures or source.root
        self.index = source.below(options.pictures).pictures
        self.examples: dict[tuple[str, Path], list[str]] = {}
        self._beside: dict[str, Path] | None = None
        self.doubtful: set[str] = set()
        """Pictures that may be what an entry means: nobody knows whether they have labels."""
        self._folders: dict[tuple[Path, str | None], list[str]] = {}

    def place(self, entries: Iterable[Entry]) -> None:
        """Give every entry its ``picture``: where it lies, or would lie."""
        claims: list[_Claim] = []
        for entry in entries:
            self.findings.tick()
            if entry.picture is None:
                claim = self._find(entry)
                if claim is not None:
                    claims.append(claim)
            if entry.picture is not None and "\0" in str(entry.picture):  # which no file's name can hold
                entry.picture = Path(str(entry.picture).replace("\0", "\ufffd"))
        self._settle(claims)
        words = {
            "root-moved": "not where it says; found by the end of the path",
            "picture-outside": "outside the folder of this data set",
        }
        for (kind, file), found in self.examples.items():
            pictures = counted(len(found), "picture is", "pictures are")
            self.findings.add(kind, f"{pictures} {words[kind]}, for example {found[0]}", file, count=len(found))

    def without_label(self, entries: Iterable[Entry], used: set[Path]) -> list[str]:
        """Pictures that no entry means and that have no label file, by their paths below ``root``, in the folders that
        hold pictures of entries or below such a one called ``images``. Those that may be labelled in a file that is not
        among ``used``, the files that were read, or whose name a labelled picture beside them has, are told, put into
        ``doubtful``, and their paths into ``used``."""
        taken = {os.path.normpath(entry.picture) for entry in entries if entry.picture is not None}
        names = [name for name in self.index.names if name not in self.doubtful]
        if all(os.path.normpath(self.root / name) in taken for name in names):
            return []
        # Links may lead to the same files.
        taken |= {os.path.realpath(path) for path in taken}
        mine = [name for name in names if os.path.normpath(self.root / name) in taken]
        homes = {name.rpartition("/")[0] for name in mine}
        wide = {around for home in homes if (around := _pictures_folder(home))}
        free = {
            name
            for name in names
            if os.path.normpath(self.root / name) not in taken
            and os.path.realpath(self.root / name) not in taken
            and (name.rpartition("/")[0] in homes or _pictures_folder(name.rpartition("/")[0]) in wide)
        }
        for name, where in sorted((self._twins(free, mine) | self._unread_labels(free, used)).items()):
            picture = self.root / name
            self.findings.add("picture-doubtful", f"may be labelled: {where} (left out)", picture)
            self.doubtful.add(name)
            used.add(picture)
        return [name for name in names if name in free and name not in self.doubtful]

    def _twins(self, free: Collection[str], mine: Iterable[str]) -> dict[str, str]:
        """Pictures of ``free`` that have the name of one of ``mine`` in their folder, but for the suffix or a mask's
        ending; and why each is in doubt."""
        known = {_folder_and_stem(name): name for name in mine}
        found = {}
        for name in free:
            folder, own = _folder_and_stem(name)
            other = known.get((folder, own)) or known.get((folder, MASK_ENDING.sub("", own)))
            if other is not None:
                found[name] = f"{other.rpartition('/')[2]}, which has labels, is called as it is"
        return found

    def _unread_labels(self, free: Collection[str], used: Collection[Path]) -> dict[str, str]:
        """Pictures of ``free`` that have the name of a file that may hold labels, here or tracked by DVC, and was not
        read; and why each is in doubt."""
        found: dict[str, str] = {}
        for tree in dict.fromkeys((self.source, self.source.below(self.root))):
            here = set(tree.files)
            for file in tree.files:
                name = re.sub(r"\.dvc$", "", file, flags=re.IGNORECASE)
                tracked = name != file
                # A file that is here speaks for itself.
                if not may_hold_labels(Path(name)) or tree.root / file in used or (tracked and name in here):
                    continue
                self.findings.tick()
                match = self.index.find(name.removesuffix(PurePosixPath(name).suffix))
                why = "is not here (run `dvc pull`)" if tracked else "was not read"
                for picture in (match.name, *match.others) if match is not None else ():
                    if picture in free:
                        found.setdefault(picture, f"{self.source.shown(tree.root / file)} {why}")
        return found

    def _find(self, entry: Entry) -> _Claim | None:
        """What an entry's names lead to; its picture is set where there is nothing more to decide."""
        undecided: tuple[str, ...] = ()
        for position, name in enumerate(entry.names):
            direct = self._as_stated(entry, name)
            if direct is not None:
                if not direct.is_relative_to(self.source.root) and not direct.is_relative_to(self.root):
                    self.examples.setdefault(("picture-outside", entry.file), []).append(str(direct))
                entry.picture = direct
                return None
            match = self.index.find(name, self.folders(entry))
            if match is None or (undecided and match.name not in undecided):
                continue
            if match.others:
                undecided = undecided or (match.name, *match.others)
                continue
            if position == 0:
                self._tell_stale(entry, self.root / match.name)
            return _Claim(entry, match, name)
        if undecided:
            self.doubtful.update(undecided)
            self._refuse(entry, f"{entry.names[0]}: may be {' or '.join(undecided[:3])}")
        entry.picture = self._would_be(entry, undecided[0] if undecided else "")
        if not undecided and entry.names:
            entry.sought = self._sought(entry)
        return None

    def _sought(self, entry: Entry) -> tuple[str, str]:
        """What was looked for, and where; with what lies in a folder beside, where the wrong folder was named."""
        names = [name.replace("\\", "/").rpartition("/")[2] for name in entry.names]
        # The label file's own name has no suffix, and what it states has one.
        same = [name for name in names if is_picture(name) and stem(name) == stem(names[0])]
        name, where = (same or names)[0], f"looked for in {self.root} and below"
        if self.elsewhere or not self.source.path.is_dir():
            return name, where
        if self._beside is None:
            self._beside = next_door(self.root, PICTURE_SUFFIXES)
        found = self._beside.get(stem(fold(names[0])))
        if found is None:
            return name, where
        around = self.source.shown(Path(os.path.commonpath((self.root.absolute(), found))))
        found = self.source.shown(found)
        return name, f"{where}, but it is {found}: name the folder around both, {around}"

    def _settle(self, claims: list[_Claim]) -> None:
        """Decide between claims: in one stated folder all pictures agree in as many parts of their paths as the best
        does, and who names a picture fully goes before who names the end of its path."""
        best: dict[tuple[Path, str], int] = {}
        by_name: dict[str, list[_Claim]] = {}
        for claim in claims:
            place = (claim.entry.file.parent, claim.match.stated)
            best[place] = max(best.get(place, 0), claim.match.agreed)
            by_name.setdefault(claim.match.name, []).append(claim)
        for name, rivals in by_name.items():
            whole = any(rival.match.whole for rival in rivals)
            most = max(rival.match.agreed for rival in rivals)
            folders = {rival.match.stated for rival in rivals if rival.match.agreed == most}
            for claim in rivals:
                entry, match = claim.entry, claim.match
                # Short names recur in every folder: found by less of its path than its neighbours, it is another one.
                lesser = match.agreed < best[entry.file.parent, match.stated]
                if not match.whole and (lesser or whole or (match.agreed < most)):
                    entry.picture = self._would_be(entry, claim.name)
                elif not whole and len(folders) > 1:
                    self.doubtful.add(name)
                    self._refuse(entry, f"{claim.name}: {name} has the name of pictures in several folders")
                    entry.picture = self._would_be(entry, claim.name)
                else:
                    entry.picture = self.root / name
                    as_said = match.whole and Path(name).name == claim.name.replace("\\", "/").rpartition("/")[2]
                    if not as_said and entry.file.stem != entry.picture.stem:
                        self.examples.setdefault(("root-moved", entry.file), []).append(f"{claim.name} -> {name}")

    def _refuse(self, entry: Entry, why: str) -> None:
        self.findings.add(
            "picture-ambiguous", f"{why}; name the folder of the right one", entry.file, entry.line, entry
        )
        entry.labelled = False

    def _would_be(self, entry: Entry, name: str) -> Path:
        """Where a picture that is not here would lie: in a folder of its split's or label file's name, so that what two
        files call by one name stays two pictures."""
        text = (name or (entry.names[0] if entry.names else "")).replace("\\", "/")
        inside = [part for part in text.split("/") if part not in ("", ".", "..")] or ["without a name"]
        # A long path is that of another machine, and only its name says anything here.
        return self.root / self.folders(entry)[0] / (inside[-1] if len(inside) > 4 else "/".join(inside))

    def _tell_stale(self, entry: Entry, found: Path) -> None:
        """A file beside its picture may name another one: its own name counts, and that is told.

        Where one of the names agrees, the others are of where the picture once was (a path of another machine).
        """
        if entry.file.stem != found.stem:
            return
        stems = [name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] for name in entry.names[1:]]
        agrees = found.stem in stems
        for name, stated in zip(entry.names[1:], stems, strict=True):
            other = self._as_stated(entry, name)
            if (not agrees and stated not in ("", found.stem)) or other not in (None, found):
                message = f"names the picture {name}, and belongs to {found.name} by its own name; that one counts"
                self.findings.add("filename-stale", message, entry.file, entry.line, entry)
                return

    def _as_stated(self, entry: Entry, name: str) -> Path | None:
        """The file itself, where a path is absolute or climbs out of its folder."""
        text = name.replace("\\", "/")
        if not (text.startswith("/") or ".." in text.split("/")):
            return None
        place = Path(os.path.normpath(entry.file.parent / text))
        return place if is_picture(place) and path_exists(place) else None

    def folders(self, entry: Entry) -> list[str]:
        """Where the pictures of a label file usually stand, nearest first, relative to the root."""
        key = (entry.file, entry.split)
        if key not in self._folders:
            own = "" if self.elsewhere else self.source.relative(entry.file.parent)
            own = "" if own in (".", entry.file.parent.as_posix()) else own
            words = [*([entry.split] if entry.split else []), entry.file.stem.removeprefix("instances_"), ""]
            found = [
                "/".join(part for part in (base, folder, word) if part)
                for base in (own, own.rpartition("/")[0], "")
                for folder in ("", *PICTURE_FOLDERS)
                for word in words
            ]
            self._folders[key] = list(dict.fromkeys(found))
        return self._folders[key]


def _pictures_folder(folder: str) -> str:
    """The outermost part of a path that is called as folders of pictures are; "" without any."""
    parts = folder.split("/")
    found = next((number for number, part in enumerate(parts, 1) if part in PICTURE_FOLDERS), 0)
    return "/".join(parts[:found])


def _folder_and_stem(name: str) -> tuple[str, str]:
    folder, _, last = name.rpartition("/")
    return folder, stem(fold(last))
