"""What is offered of many paths: all that begin so, or the folders in which they part."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_cli.cli.completion import MOST_PATHS, shortest

PATHS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), min_size=1, max_size=6)


@settings(max_examples=60)
@given(PATHS, st.integers(1, 400))
def test_every_path_can_be_reached(folders: list[str], count: int) -> None:
    paths = [f"{folder}/{number}" for folder in dict.fromkeys(folders) for number in range(count)]
    for path in (paths[0], paths[-1]):
        typed = ""
        while typed != path:
            offered = shortest([other for other in paths if other.startswith(typed)], typed)
            (further,) = [one for one in offered if path.startswith(one) and (one.endswith("/") or one == path)] or [""]
            assert len(offered) <= MOST_PATHS
            if not further:  # too many in one folder: a person types on
                further = path[: len(typed) + 1]
            assert further > typed
            typed = further
