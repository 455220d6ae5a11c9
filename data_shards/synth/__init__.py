"""A seed and a few counts in, a world of places out: photographed, filed and ready to be sharded.

Every place is built in three dimensions and photographed twice: by a drone that circles it, and
from straight above on another day. The files stand in the very folders of a public data set, so
whatever reads those reads these.
"""

from data_shards.synth.world import WorldSummary, write_world

__all__ = ["WorldSummary", "write_world"]
