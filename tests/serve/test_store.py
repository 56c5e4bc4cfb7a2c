"""The job store: leases, retries, cancellation, search; two stores on one file are two processes."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from serve.storage import Storage, new_id
from serve.store import Failure, Job, QueueFull, SQLiteStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    made = SQLiteStore(tmp_path / "jobs.sqlite3")
    yield made
    made.close()


def add(store: SQLiteStore, name: str = "clip.mp4", tags: tuple[str, ...] = (), max_queued: int = 100) -> str:
    job = Job(new_id(), name, "{}", time.time(), tags=tags)
    store.create(job, max_queued)
    return job.id


def test_a_job_goes_from_queued_to_done(store: SQLiteStore) -> None:
    job_id = add(store)
    leased = store.lease("a", 10, 3)
    assert leased is not None and (leased.id, leased.status, leased.attempts) == (job_id, "running", 1)
    assert store.beat("a", {job_id: ("tracking", 0.5)}, 10) == set()
    seen = store.get(job_id)
    assert seen is not None and (seen.stage, seen.share) == ("tracking", 0.5)
    assert store.finish(job_id, "a", '{"x": 1}', "real", 0.2)
    done = store.get(job_id)
    assert done is not None and (done.status, done.verdict, done.score) == ("done", "real", 0.2)
    assert store.result(job_id) == '{"x": 1}'


def test_the_oldest_job_is_leased_first_and_only_once(store: SQLiteStore) -> None:
    first, second = add(store), add(store)
    leased = [store.lease(owner, 10, 3) for owner in ("a", "b", "c")]
    assert [job.id if job else None for job in leased] == [first, second, None]


def test_many_runners_on_one_file_lease_every_job_exactly_once(store: SQLiteStore, tmp_path: Path) -> None:
    jobs = {add(store) for _ in range(40)}

    def work(owner: str) -> list[str]:
        mine = SQLiteStore(tmp_path / "jobs.sqlite3")
        found = []
        while (job := mine.lease(owner, 60, 3)) is not None:
            found.append(job.id)
        mine.close()
        return found

    with ThreadPoolExecutor(4) as pool:
        leased = [job for part in pool.map(work, "abcd") for job in part]
    assert len(leased) == 40 and set(leased) == jobs


def test_a_job_whose_runner_died_is_leased_again(store: SQLiteStore) -> None:
    job_id = add(store)
    store.lease("dead", 0.01, 3)
    time.sleep(0.03)
    again = store.lease("alive", 10, 3)
    assert again is not None and (again.id, again.attempts) == (job_id, 2)
    assert store.beat("dead", {job_id: ("tracking", 0.9)}, 10) == {job_id}
    assert not store.finish(job_id, "dead", "{}", "real", 0.1)
    assert store.finish(job_id, "alive", "{}", "fake", 0.9)


def test_a_job_that_kills_its_runners_fails_with_the_reason(store: SQLiteStore) -> None:
    job_id = add(store)
    for _ in range(2):
        store.lease("dead", 0.01, 2)
        time.sleep(0.03)
    assert store.lease("alive", 10, 2) is None
    failed = store.get(job_id)
    assert failed is not None and failed.status == "failed" and failed.error is not None
    assert failed.error.code == "interrupted" and "2 times" in failed.error.reason


def test_an_interrupted_job_is_queued_again_and_the_attempt_counts(store: SQLiteStore) -> None:
    job_id = add(store)
    store.lease("a", 10, 3)
    assert store.give_back(job_id, "a")
    again = store.lease("b", 10, 3)
    assert again is not None and again.attempts == 2


def test_a_cancelled_job_is_taken_from_its_runner_and_keeps_no_result(store: SQLiteStore) -> None:
    job_id = add(store)
    store.lease("a", 10, 3)
    assert store.cancel(job_id) and not store.cancel(job_id)
    assert store.beat("a", {job_id: ("tracking", 0.1)}, 10) == {job_id}
    assert not store.finish(job_id, "a", "{}", "real", 0.1)
    found = store.get(job_id)
    assert found is not None and found.status == "cancelled" and store.result(job_id) is None


def test_a_deleted_job_is_lost_to_its_runner(store: SQLiteStore) -> None:
    job_id = add(store, tags=("a",))
    store.lease("a", 10, 3)
    store.delete(job_id)
    assert store.get(job_id) is None and store.beat("a", {job_id: ("x", 0.0)}, 10) == {job_id}


def test_a_full_queue_refuses_and_running_jobs_do_not_count(store: SQLiteStore) -> None:
    add(store, max_queued=1)
    with pytest.raises(QueueFull):
        add(store, max_queued=1)
    store.lease("a", 10, 3)
    add(store, max_queued=1)
    assert store.queued() == 1


def test_the_reason_of_a_failure_survives(store: SQLiteStore) -> None:
    job_id = add(store)
    store.lease("a", 10, 3)
    error = Failure("undecodable", "no picture comes out", "save it again")
    assert store.fail(job_id, "a", error)
    found = store.get(job_id)
    assert found is not None and found.status == "failed" and found.error == error


def test_search_takes_its_signs_literally_and_pages_newest_first(store: SQLiteStore) -> None:
    names = ["100%.mp4", "a_b.mp4", "axb.mp4", "C:\\clip.mp4"]
    for name in names:
        add(store, name)
    assert [job.name for job in store.listing("%", "", 10, 0)[0]] == ["100%.mp4"]
    assert [job.name for job in store.listing("a_b", "", 10, 0)[0]] == ["a_b.mp4"]
    assert [job.name for job in store.listing("\\", "", 10, 0)[0]] == ["C:\\clip.mp4"]
    page, total = store.listing("", "", 2, 1)
    assert total == 4 and [job.name for job in page] == ["axb.mp4", "a_b.mp4"]


def test_tags_are_found_replaced_and_deleted_with_their_job(store: SQLiteStore) -> None:
    job_id, other = add(store, tags=("press", "x")), add(store)
    store.set_tags(other, ["press"])
    assert store.listing("", "press", 10, 0)[1] == 2
    store.set_tags(job_id, ["done"])
    found = store.get(job_id)
    assert found is not None and found.tags == ("done",)
    store.delete(job_id)
    assert store.listing("", "done", 10, 0) == ([], 0)


def test_the_queue_survives_a_restart(tmp_path: Path) -> None:
    first = SQLiteStore(tmp_path / "jobs.sqlite3")
    job_id = add(first)
    first.close()
    second = SQLiteStore(tmp_path / "jobs.sqlite3")
    leased = second.lease("a", 10, 3)
    second.close()
    assert leased is not None and leased.id == job_id


def test_a_store_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "jobs.sqlite3")
    store._db.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(RuntimeError, match="schema 99"):
        SQLiteStore(tmp_path / "jobs.sqlite3")


@pytest.mark.parametrize(
    "name",
    ["../media", "faces/../../media", "/etc/passwd", "faces/1.jpg/../../media", "media", "faces/1.svg", "faces//1.jpg",
     "faces/1.jpg\x00.png", ".hidden.jpg", "faces/..%2f1.jpg", "a\\b.jpg"],
)  # fmt: skip
def test_only_names_of_artifacts_lead_to_files(tmp_path: Path, name: str) -> None:
    storage, job_id = Storage(tmp_path), new_id()
    storage.incoming(job_id).write_bytes(b"media")
    storage.keep(job_id)
    storage.write_artifacts(job_id, {"faces/1.jpg": b"face"})
    assert storage.artifact(job_id, "faces/1.jpg") is not None
    assert storage.artifact(job_id, name) is None
    with pytest.raises(ValueError, match="not the name"):
        storage.write_artifacts(job_id, {name: b""})


def test_deletion_leaves_nothing_and_a_late_runner_writes_nothing(tmp_path: Path) -> None:
    storage, job_id = Storage(tmp_path), new_id()
    storage.incoming(job_id).write_bytes(b"media")
    storage.keep(job_id)
    storage.delete(job_id)
    with pytest.raises(FileNotFoundError):
        storage.write_artifacts(job_id, {"faces/1.jpg": b"face"})
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_id_is_never_a_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the id"):
        Storage(tmp_path).media("../../etc/passwd")
