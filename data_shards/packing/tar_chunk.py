"""Some images of a tar that follow each other, read, checked, hashed and framed as tar members.

Plain POSIX tar, with headers without owner or time, the same in every Python.
"""

import hashlib
import json
import math
import struct
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_shards.errors import ShardError
from data_shards.index import ENCODINGS
from data_shards.layouts.duplicates import read_plain_file
from data_shards.manifest import WORDS_OF_ROLES
from data_shards.packing.image_facts import ImageFacts, is_nearly_empty
from data_shards.packing.stored_image import Profile, StoredImage, stored_image, unreadable
from data_shards.schema import SCHEMA_VERSION, ImageRecord, View

TAR_BLOCK = tarfile.BLOCKSIZE
TAR_END = bytes(2 * TAR_BLOCK)
"""Two zero blocks, which end a tar."""

PACKED_ROW = struct.Struct("<QIIIHHfBBBB16s")
"""One row of an index, as `ROW` reads it; numpy would set its fields ten times as slowly."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Consecutive images of one tar, ready to be appended."""

    content: bytes
    rows: bytearray
    """Rows of the index, with offsets counted from the start of the chunk."""

    num_images: int
    facts: ImageFacts
    unreadable: list[tuple[ImageRecord, str]]
    """Images that are not in it, each with a sentence that says why."""


def pack_chunk(
    records: Sequence[ImageRecord],
    *,
    profile: Profile,
    number: Mapping[str, int],
    is_decoded: bool = True,
) -> Chunk:
    """Read, check, hash and describe some images; `number` is that of each place in the manifest.

    Raises:
        ShardError: a name does not fit into a tar.
    """
    members: list[bytes] = []
    problems: list[tuple[ImageRecord, str]] = []
    rows, end, facts = bytearray(), 0, ImageFacts()
    for record in records:
        try:
            content = read_plain_file(record.path)
            image = stored_image(record, content, profile, is_decoded=is_decoded)
        except OSError as error:
            problems.append((record, unreadable(record, error)))
            continue
        except ShardError as error:
            problems.append((record, str(error)))
            continue
        is_tile = record.view is View.SATELLITE and is_decoded
        facts.note(record, image, is_empty=is_tile and is_nearly_empty(image.content))
        sha256 = hashlib.sha256(image.content)
        rows += PACKED_ROW.pack(
            end + TAR_BLOCK,
            len(image.content),
            number[record.place],
            0,  # start and length of the key are filled in when the index is written
            0,
            record.position,
            math.nan if record.altitude_m is None else record.altitude_m,
            record.view,
            record.roles,
            ENCODINGS.index(image.suffix),
            image.orientation,
            sha256.digest()[:16],
        )
        key = record.key
        members += tar_member(f"{key}.{record.view.word}.{image.suffix}", image.content)
        described = sample_json(record, key, image, sha256.hexdigest())
        members += tar_member(f"{key}.json", described)
        end += sum(map(len, members[-6:]))
    count = len(records) - len(problems)
    return Chunk(
        content=b"".join(members),
        rows=rows,
        num_images=count,
        facts=facts,
        unreadable=problems,
    )


def tar_member(name: str, content: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the header before a member, the member, and the zeros that fill up its last block.

    Raises:
        ShardError: the name is too long for a tar or no UTF-8.
    """
    member = tarfile.TarInfo(name)
    member.size = len(content)
    try:
        header = member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise ShardError(
            f"{name} does not fit into a tar ({error}); rename the file or its folder"
        ) from error
    return header, content, bytes(-len(content) % TAR_BLOCK)


def sample_json(record: ImageRecord, key: str, image: StoredImage, sha256: str) -> bytes:
    """Return the JSON member of one image."""
    told: dict[str, object] = {
        "altitude_m": record.altitude_m,
        "key": key,
        "orientation": image.orientation,
        "place": record.place,
        "position": record.position,
        "roles": WORDS_OF_ROLES[record.roles],
        "schema_version": SCHEMA_VERSION,
        "sha256": sha256,
        "view": record.view.word,
    }
    if image.camera:
        told["camera"] = image.camera
    return json.dumps(told).encode()
