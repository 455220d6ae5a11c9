"""A look at retrieval during training, on held-out training places: the test set stays unseen."""

from data_shards.errors import PlanError
from data_shards.planning.place_views import at_altitudes, held_out_places
from data_shards.progress import show_progress
from data_shards.schema import Role, View
from data_shards.shards import ShardSet
from distill.config import DataConfig
from distill.models import RetrievalModel
from evaluation.describe import describe
from evaluation.protocols import DRONE_TO_SATELLITE, SATELLITE_TO_DRONE, Search
from evaluation.retrieval import retrieve, tracked


class RetrievalProbe:
    """Drone to satellite and back among the held-out places; every rank calls it."""

    def __init__(self, shards: ShardSet, data: DataConfig) -> None:
        """Choose the places.

        Raises:
            PlanError: the fraction holds out no place, or one of the altitudes is nowhere.
        """
        self.shards, self.data = shards, data
        places = held_out_places(
            shards, fraction=data.validation_fraction, seed=data.validation_seed
        )
        if not len(places) and len(shards.train_places):  # else no plan can be made
            raise PlanError(
                f"data.validation_fraction {data.validation_fraction} of "
                f"{len(shards.train_places)} training places holds out none for the probe; "
                "raise it, or set it to 0 to train on all places"
            )
        self.rows = {
            view: shards.images.where(role=Role.TRAIN, view=view, places=places.tolist())
            for view in (View.DRONE, View.SATELLITE)
        }
        self.rows[View.DRONE] = at_altitudes(shards, self.rows[View.DRONE], data.altitudes)

    def __call__(self, model: RetrievalModel, step: int) -> dict[str, float]:
        """Return `probe/d2s/recall_at_1` and so on, the same on every rank."""
        with show_progress(f"probe at step {step}", enabled=False) as progress:
            descriptors = describe(
                model,
                self.shards,
                list(self.rows.values()),
                image_size=self.data.image_size,
                resampling=self.data.resampling,
                batch_size=self.data.global_batch,
                threads=self.data.threads,
                progress=progress,
            )
        measured: dict[str, float] = {}
        for protocol in (DRONE_TO_SATELLITE, SATELLITE_TO_DRONE):
            search = Search(
                protocol=protocol,
                query_rows=self.rows[protocol.query],
                gallery_rows=self.rows[protocol.gallery],
            )
            found = retrieve(search, descriptors, self.shards.images)
            measured |= tracked(f"probe/{protocol.name}", found.metrics)
        return measured
