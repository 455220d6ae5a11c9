"""Counts of the full size, without a file: what is told of a copy that is not the published one."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import pytest

from data_shards.layouts.published import Comparison, Image, compare, images_in
from data_shards.layouts.split import official_split
from data_shards.schema import Role, View
from data_shards.shards import ShardSet

BOTH = Role.QUERY | Role.GALLERY
STREET = {Role.TRAIN: 11_663, Role.QUERY: 2_579, Role.GALLERY: 2_921}


@cache
def university(*, stray: bool = True, drones: int = 54) -> tuple[Image, ...]:
    return tuple(_university(stray=stray, drones=drones))


def _university(*, stray: bool, drones: int) -> Iterator[Image]:
    for number in range(1652):
        place = f"{number:04d}"
        roles = Role.TRAIN if number < 701 else BOTH if number < 1402 else Role.GALLERY
        yield Image(f"{place}/satellite/{place}", place, View.SATELLITE, roles, None)
        for view in range(1, drones + 1):
            yield Image(f"{place}/drone/image-{view:02d}", place, View.DRONE, roles, 200.0)
    if stray:
        yield Image("0923/drone/photo", "0923", View.DRONE, BOTH, None)
    for role, count in STREET.items():
        place = "0001" if role is Role.TRAIN else "0923"
        for number in range(count):
            yield Image(f"{place}/street/{role}-{number}", place, View.STREET, role, None)


@cache
def sues(train: int = 120) -> tuple[Image, ...]:
    official = official_split("sues200").train
    images = []
    for number in range(1, 201):
        place = f"{number:04d}"
        is_train = str(number) in official if train == 120 else number <= train
        roles = Role.GALLERY | (Role.TRAIN if is_train else Role.QUERY)
        images.append(Image(f"{place}/satellite/0", place, View.SATELLITE, roles, None))
        images += [
            Image(f"{place}/drone/{height}-{view}", place, View.DRONE, roles, float(height))
            for height in (150, 200, 250, 300)
            for view in range(50)
        ]
    return tuple(images)


def without(images: Iterable[Image], is_gone: Callable[[Image], bool]) -> list[Image]:
    return [image for image in images if not is_gone(image)]


def test_the_published_university_has_one_stray_query_which_is_named() -> None:
    found = compare("university1652", university())
    assert found.differences == ()
    assert found.sentences == (
        "0923/drone/photo is the stray drone image of the published University-1652, which makes "
        "its drone queries 37,855 instead of 701 x 54",
    )


def test_a_copy_that_was_rid_of_the_stray_is_no_other_data_set() -> None:
    found = compare("university1652", university(stray=False))
    assert found.differences == ()
    assert "37,855, is not there" in found.peculiarities[0]


def test_a_stray_that_is_called_like_a_view_is_told_by_its_place() -> None:
    images = [
        image._replace(key="0923/drone/image-54") if image.key == "0923/drone/photo" else image
        for image in university()
    ]
    (told,) = compare("university1652", images).peculiarities
    assert told.startswith("an image of place 0923 is the stray drone image")


def test_street_images_may_be_missing_altogether_but_not_in_part() -> None:
    whole = university()
    none = without(whole, lambda image: image.view is View.STREET)
    assert compare("university1652", none).differences == ()
    some = without(whole, lambda image: image.key.endswith("street/1-7"))
    assert compare("university1652", some).differences == (
        "train has 11,662 street images instead of 11,663",
    )


def test_google_images_are_not_counted() -> None:
    google = Image("0001/google/1", "0001", View.GOOGLE, Role.TRAIN, None)
    assert compare("university1652", [*university(), google]).differences == ()


def test_missing_images_are_counted_and_their_places_named() -> None:
    images = without(
        university(),
        lambda image: image.key.endswith("drone/image-09") and image.place in ("0003", "1500"),
    )
    assert compare("university1652", images).differences == (
        "train has 37,853 drone images instead of 37,854",
        "gallery has 51,354 drone images instead of 51,355",
        "train has 1 place with other than 54 drone images: 0003 has 53",
        "gallery has 1 place with other than 54 drone images: 1500 has 53",
    )


def test_a_missing_place_is_counted_in_every_view() -> None:
    images = without(university(), lambda image: image.place == "0003")
    assert compare("university1652", images).differences == (
        "train has 700 places instead of 701",
        "train has 700 satellite images instead of 701",
        "train has 37,800 drone images instead of 37,854",
    )


def test_a_gallery_without_distractors_is_told() -> None:
    images = without(university(), lambda image: image.roles == Role.GALLERY and image.place > "14")
    told = compare("university1652", images).differences
    assert "gallery has 701 places instead of 951" in told


def test_many_odd_places_are_three_names_and_dots() -> None:
    told = compare("university1652", university(stray=False, drones=8)).differences
    assert told[-3] == (
        "train has 701 places with other than 54 drone images: 0000 has 8, 0001 has 8, 0002 has 8, "
        "..."
    )


def test_a_satellite_too_many_is_named() -> None:
    second = Image("0007/satellite/7", "0007", View.SATELLITE, Role.TRAIN, None)
    assert compare("university1652", [*university(), second]).differences == (
        "train has 702 satellite images instead of 701",
        "1 place with other than 1 satellite image: 0007 has 2",
    )


def test_the_published_sues200_has_nothing_to_tell() -> None:
    assert compare("sues200", sues()) == Comparison()


def test_another_split_than_the_official_one_is_told() -> None:
    found = compare("sues200", sues(train=121))
    assert found.differences[0] == "train has 121 places instead of 120"
    assert found.differences[-1].startswith("the split is not the official one: ")
    swapped = [
        image._replace(roles=image.roles ^ (Role.TRAIN | Role.QUERY))
        if image.place in ("0001", "0008")
        else image
        for image in sues()
    ]
    assert compare("sues200", swapped).differences == (
        "the split is not the official one: 2 places on another side: 0001, 0008",
    )


def test_galleries_of_the_80_test_places_are_told_once() -> None:
    images = [
        image._replace(roles=Role.TRAIN) if Role.TRAIN in image.roles else image for image in sues()
    ]
    assert compare("sues200", images).differences == (
        "the galleries hold the 80 test places only, not all 200: results are not comparable with "
        "the official ones",
    )


def test_a_missing_view_is_told_with_its_altitude() -> None:
    images = without(sues(), lambda image: image.key == "0008/drone/250-7")
    assert compare("sues200", images).differences == (
        "query has 15,999 drone images instead of 16,000",
        "gallery has 39,999 drone images instead of 40,000",
        "query has 1 place with other than 50 drone images at an altitude: 0008 at 250 m has 49",
        "gallery has 1 place with other than 50 drone images at an altitude: 0008 at 250 m has 49",
    )


def test_a_missing_altitude_is_told_once() -> None:
    images = without(sues(), lambda image: image.altitude_m == 300.0)
    assert compare("sues200", images).differences[3:] == ("there are no drone images at 300 m",)


def test_an_altitude_too_many_is_told() -> None:
    extra = Image("0001/drone/100-0", "0001", View.DRONE, Role.TRAIN | Role.GALLERY, 100.0)
    told = compare("sues200", [*sues(), extra]).differences
    assert "there are drone images at 100 m, which SUES-200 has not" in told


@pytest.mark.parametrize("layout", ["university1652", "sues200"])
def test_a_small_world_is_told_in_one_sentence(layout: str, tiny_shards: ShardSet) -> None:
    found = compare(layout, images_in(tiny_shards))
    assert len(found.sentences) == 1
    assert "10 places to train on instead of" in found.differences[0]
    assert "3 to query instead of" in found.differences[0]


def test_a_layout_without_published_counts_compares_to_nothing() -> None:
    assert compare("mine", university()[:5]) == Comparison()
