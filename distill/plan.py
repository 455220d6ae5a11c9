"""The plan that a recipe means. No torch: a dry run makes it too."""

from data_shards.errors import PlanError
from data_shards.planning.place_views import trained_places
from data_shards.planning.plan import Plan
from data_shards.shards import ShardSet
from distill.config import DistillConfig


def make_plan(config: DistillConfig, shards: ShardSet) -> Plan:
    """Return the plan over the training places that are not held out, before anything is mined.

    Raises:
        PlanError: there is no such plan.
    """
    data = config.data
    plan = Plan(
        shards,
        trained_places(shards, fraction=data.validation_fraction, seed=data.validation_seed),
        seed=config.seed,
        global_batch=data.global_batch,
        drones_per_row=data.drones_per_row,
        altitudes=data.altitudes,
    )
    if data.mining.neighbours >= len(plan.places):
        raise PlanError(
            f"data.mining.neighbours {data.mining.neighbours} is as many as the "
            f"{len(plan.places)} places to plan over or more; a place has at most "
            f"{len(plan.places) - 1} wrong ones"
        )
    return plan
