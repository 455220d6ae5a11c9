"""The manifest over all shards: schema version, places, counts, digests, and one fingerprint."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from data_shards.errors import ShardError
from data_shards.index import AGAIN, Rows, write_aside
from data_shards.schema import SCHEMA_VERSION, Role, View

MANIFEST_NAME = "manifest.json"

TARS_OF_OTHERS = "tars"
"""Stands in `Manifest.profile` where the tars were written by others and only indexed here."""


PLACES = "places"
"""Stands among the views where images are counted."""

WORD_OF_VIEW = {int(view): view.word for view in View}
WORDS_OF_ROLES = {number: Role(number).words for number in range(8)}

Counts: TypeAlias = dict[str, dict[str, int]]
"""Role, then view or `places`, to a number."""

Groups: TypeAlias = Counter[tuple[int, int, Any]]
"""Roles, view and place (or its number), to a number of images."""


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """One tar and its index."""

    name: str
    """File name of the tar; the index has the suffix `.index` instead."""

    images: int
    bytes: int
    sha256: str
    index_sha256: str

    @property
    def index_name(self) -> str:
        return Path(self.name).with_suffix(".index").name


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a shard folder holds."""

    layout: str
    name: str = ""
    """What the data set is called in titles and reports; no part of the fingerprint."""

    places: tuple[str, ...]
    """Identifiers of all places, sorted; indexes refer to them by number."""

    counts: Counts
    """Role, then view, to the number of images; places are counted under `places`."""

    shards: tuple[ShardEntry, ...]
    content_sha256: str
    """Digest over every key, its roles and its image's digest, however they are cut into tars."""

    profile: dict[str, Any] = field(default_factory=lambda: {"bytes": "original"})
    """What became of the image files: see `data_shards.packing.stored_image.Profile.facts`."""

    split: str = "folders"
    """What decided which places train."""

    deviations: tuple[str, ...] = ()
    """How the counts differ from those published, one sentence each."""

    coordinates: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Place to (latitude, longitude) in degrees, of as many places as are known."""

    schema_version: int = SCHEMA_VERSION

    @property
    def fingerprint(self) -> str:
        """Name of these very shards, for caches and runs: a digest over all but `name`."""
        values = asdict(self)
        del values["name"]
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class ShardSummary:
    """What one `skydistill shard` did."""

    manifest: Manifest
    was_complete: bool
    """True when the folder already held the shards of these very files and nothing was written."""

    tars_kept: int
    """Tars of an earlier run whose files nobody touched since."""

    tars_written: int = 0

    @property
    def images(self) -> int:
        return sum(entry.images for entry in self.manifest.shards)


def groups_in(indexes: Sequence[Rows]) -> Groups:
    """Count the images of some indexes in groups."""
    groups: Groups = Counter()
    for rows in indexes:
        columns = (rows[name].tolist() for name in ("roles", "view", "place"))
        groups.update(zip(*columns, strict=True))
    return groups


def count_groups(groups: Groups) -> Counts:
    """Count images per role and view, and places per role, as the manifest does."""
    counts: dict[str, Counter[str]] = {role.words[0]: Counter() for role in Role}
    places: dict[str, set[Any]] = {role.words[0]: set() for role in Role}
    for (roles, view, place), times in groups.items():
        for word in WORDS_OF_ROLES[roles]:
            counts[word][WORD_OF_VIEW[view]] += times
            places[word].add(place)
    return {
        word: dict(sorted(of_role.items())) | {PLACES: len(places[word])}
        for word, of_role in counts.items()
    }


def content_digest(keys: Sequence[str], rows: Sequence[Rows]) -> str:
    """Return the SHA-256 of the lines `KEY ROLES DIGEST`, sorted, where indexes have the digests.

    Args:
        keys: of all images, in the order of the tars.
        rows: of each tar's index, in the same order.
    """
    roles = [number for part in rows for number in part["roles"].tolist()]
    digests = b"".join(part["digest"].tobytes() for part in rows).hex()
    lines = [
        f"{key} {role} {digests[32 * at : 32 * at + 32]}\n"
        for at, (key, role) in enumerate(zip(keys, roles, strict=True))
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `manifest.json` aside and rename it into place."""
    values = asdict(manifest) | {"fingerprint": manifest.fingerprint}
    write_json(folder / MANIFEST_NAME, values)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a shard folder.

    Raises:
        ShardError: there is none, it is damaged, or it has another schema version.
    """
    path = folder / MANIFEST_NAME
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ShardError(
            f"no shards at {folder} ({MANIFEST_NAME} is missing); make them with "
            f"skydistill shard RAW {folder}"
        ) from error
    except OSError as error:
        raise ShardError(
            f"{path} cannot be read ({error.strerror}); make it readable or give another folder"
        ) from error
    return parse_manifest(content, where=str(path))


def parse_manifest(content: bytes, *, where: str) -> Manifest:
    """Check the content of a manifest that lies at `where`.

    Raises:
        ShardError: it is damaged, was edited, or has another schema version.
    """
    try:
        values: dict[str, Any] = json.loads(content)
        version = values["schema_version"]
    except (ValueError, KeyError, TypeError) as error:
        if content.lstrip().startswith(b"<"):
            raise ShardError(
                f"{where} is a web page and no manifest, as when a server asks for a login or "
                "shows a file instead of sending it; give the address of the plain files"
            ) from error
        raise ShardError(f"{where} is damaged; {AGAIN}") from error
    if version != SCHEMA_VERSION:
        raise ShardError(
            f"{where} has schema version {version}, this program reads {SCHEMA_VERSION}; {AGAIN}"
        )
    fingerprint = values.pop("fingerprint", None)
    try:
        shards = tuple(ShardEntry(**entry) for entry in values.pop("shards"))
        tuples = {name: tuple(values[name]) for name in ("places", "deviations")}
        pairs = {place: (at[0], at[1]) for place, at in values["coordinates"].items()}
        manifest = Manifest(**values | tuples | {"shards": shards, "coordinates": pairs})
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ShardError(f"{where} is damaged ({error}); {AGAIN}") from error
    if manifest.fingerprint != fingerprint:
        raise ShardError(f"{where} was edited: its fingerprint does not fit its content; {AGAIN}")
    return manifest


def write_text_aside(path: Path, text: str) -> None:
    """Write text to `path`: aside, flushed to disk, then renamed; nothing stays of what fails."""
    write_aside(path, text.encode())


def write_json(path: Path, values: object) -> None:
    """Write indented, sorted JSON to `path`: aside, flushed to disk, then renamed."""
    write_text_aside(path, json.dumps(values, indent=1, sort_keys=True) + "\n")
