"""How crops travel: a few together, many by their kind."""

from hypothesis import given
from hypothesis import strategies as st

from preprocessing.inputs import FaceInput

SPECS = [FaceInput(size=size, margin=1.3) for size in (64, 112, 160, 224, 256)]


def test_the_crops_of_one_face_travel_in_one_piece() -> None:
    from serve.stages import parcels

    assert parcels({0: SPECS}) == [{spec: [0] for spec in SPECS}]


def test_the_crops_of_many_faces_travel_by_their_kind() -> None:
    from serve.stages import parcels

    large = SPECS[-2:]
    assert parcels(dict.fromkeys(range(9), large)) == [{spec: list(range(9))} for spec in large]


@given(st.dictionaries(st.integers(0, 40), st.lists(st.sampled_from(SPECS), unique=True), max_size=20))
def test_every_crop_travels_once_and_no_parcel_is_larger_than_it_must_be(wanted: dict[int, list[FaceInput]]) -> None:
    from serve.stages import PARCEL_BYTES, parcels

    found = parcels(wanted)
    sent = [(face, spec) for parcel in found for spec, faces in parcel.items() for face in faces]
    assert sorted(sent, key=repr) == sorted(((f, s) for f, specs in wanted.items() for s in specs), key=repr)
    for parcel in found:
        size = sum(len(faces) * spec.size**2 * 3 for spec, faces in parcel.items())
        assert size <= PARCEL_BYTES or len(parcel) == 1
