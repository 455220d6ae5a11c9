"""Where shards come from: a folder, or an address whose files are fetched to this node first."""

import hashlib
import logging
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from data_shards.errors import ShardError
from data_shards.manifest import MANIFEST_NAME, parse_manifest, read_manifest
from data_shards.remote.fetch import WantedFile, fetch_text
from data_shards.remote.local_cache import CacheEntry, LocalCache, NoRoomError
from data_shards.remote.transport import ShardSource, is_remote
from data_shards.schema import Role, View
from data_shards.shards import ShardSet

log = logging.getLogger(__name__)

NO_IMAGES = Role(0)
"""For who looks at keys, places and counts alone: no tar is fetched."""


def open_shards(
    source: str,
    *,
    roles: Role,
    cache: LocalCache,
    views: Collection[View] = tuple(View),
    is_staged: bool = False,
) -> ShardSet:
    """Open shards wherever they are.

    Args:
        source: a folder, or an address: `http(s)://`, `s3://`, `gs://`, `hf://` or any other that
            webdataset opens, or `pipe:COMMAND` with `{name}` for the file's name.
        roles: what images will be read for; only tars with such images are fetched.
        cache: where they are fetched to. A folder is read where it is, unless `is_staged`.
        views: which images will be read.
        is_staged: copy a folder into the cache too, if there is room.

    Raises:
        ShardError: they are not there, broke off, are damaged or do not fit.
    """
    if is_remote(source):
        remote = ShardSource(source)
        return _open_cached(remote, cache, roles, views, shown=remote.shown)
    folder = Path(source)
    if is_staged:
        read_manifest(folder)  # says in its own words that there are no shards
        try:
            return _open_cached(ShardSource(str(folder)), cache, roles, views, shown=source)
        except NoRoomError as error:
            log.info("not staged, read from where it is: %s", error)
    return ShardSet.open(folder)


def _open_cached(
    source: ShardSource, cache: LocalCache, roles: Role, views: Collection[View], *, shown: str
) -> ShardSet:
    """Fetch manifest and indexes, then the tars that hold an image of the roles and views."""
    content = fetch_text(MANIFEST_NAME, source)
    where = source.describe(MANIFEST_NAME)
    manifest = parse_manifest(content, where=where)
    for name in (entry.name for entry in manifest.shards):
        if Path(name).name != name or name.startswith(".") or not name.endswith(".tar"):
            raise ShardError(  # it would have us write outside of the cache
                f"{where} names a tar {name!r}, which is no plain file name; "
                "fetch shards only from where you trust them"
            )
    entry = cache.hold(manifest.fingerprint)
    entry.fetch(
        [WantedFile(name=MANIFEST_NAME, sha256=hashlib.sha256(content).hexdigest())]
        + [WantedFile(name=e.index_name, sha256=e.index_sha256) for e in manifest.shards],
        source,
        title=f"fetching indexes of {shown}",
    )
    shards = ShardSet.open(entry.folder, has_all_tars=False)
    images = shards.images
    is_needed = (images.roles & int(roles) != 0) & np.isin(images.view, [int(v) for v in views])
    needed = [manifest.shards[number] for number in np.unique(images.shard[is_needed])]
    tars = [WantedFile(name=e.name, sha256=e.sha256, bytes=e.bytes) for e in needed]
    entry.fetch(tars, source, title=f"fetching {shown}")
    shards.lease, shards.source = entry, shown
    return shards


def copy_to_node(
    folder: Path, files: Sequence[WantedFile], *, name: str, cache: LocalCache
) -> CacheEntry | None:
    """Copy files of a folder to the node's own disk; None, with a line in the log, without room.

    Args:
        folder: where they are.
        files: which.
        name: 64 hexadecimal digits that name exactly these files.
        cache: the cache of this node.

    Raises:
        ShardError: a file cannot be read, or is not what its digest says.
    """
    try:
        entry = cache.hold(name)
        entry.fetch(files, ShardSource(str(folder)), title=f"staging {folder}")
    except NoRoomError as error:
        log.info("not staged, read from where it is: %s", error)
        return None
    return entry
