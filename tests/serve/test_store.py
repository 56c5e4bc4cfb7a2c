"""The job store, in SQLite and in PostgreSQL: leases, retries, cancellation, search; two stores are two processes."""

import secrets
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from postgres_server import postgres

from serve.storage import Storage, new_id
from serve.store import Failure, Job, JobStore, QueueFull


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """An empty database."""
    if request.param == "sqlite":
        return tmp_path / "jobs.sqlite3"
    server: str = request.getfixturevalue("server")
    name = f"t{secrets.token_hex(6)}"
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def store(place: str | Path) -> Iterator[JobStore]:
    made = JobStore(place)
    yield made
    made.close()


def add(store: JobStore, name: str = "clip.mp4", tags: tuple[str, ...] = (), max_queued: int = 100) -> str:
    job = Job(new_id(), name, "{}", time.time(), tags=tags)
    store.create(job, max_queued)
    return job.id


def test_a_job_goes_from_queued_to_done(store: JobStore) -> None:
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


def test_the_oldest_job_is_leased_first_and_only_once(store: JobStore) -> None:
    first, second = add(store), add(store)
    leased = [store.lease(owner, 10, 3) for owner in ("a", "b", "c")]
    assert [job.id if job else None for job in leased] == [first, second, None]


def test_many_runners_lease_every_job_exactly_once(store: JobStore, place: str | Path) -> None:
    jobs = {add(store) for _ in range(40)}

    def work(owner: str) -> list[str]:
        mine = JobStore(place)
        found = []
        while (job := mine.lease(owner, 60, 3)) is not None:
            found.append(job.id)
        mine.close()
        return found

    with ThreadPoolExecutor(4) as pool:
        leased = [job for part in pool.map(work, "abcd") for job in part]
    assert len(leased) == 40 and set(leased) == jobs


def test_a_job_whose_runner_died_is_leased_again(store: JobStore) -> None:
    job_id = add(store)
    store.lease("dead", 0.01, 3)
    time.sleep(0.03)
    again = store.lease("alive", 10, 3)
    assert again is not None and (again.id, again.attempts) == (job_id, 2)
    assert store.beat("dead", {job_id: ("tracking", 0.9)}, 10) == {job_id}
    assert not store.finish(job_id, "dead", "{}", "real", 0.1)
    assert store.finish(job_id, "alive", "{}", "fake", 0.9)


def test_a_job_that_kills_its_runners_fails_with_the_reason(store: JobStore) -> None:
    job_id = add(store)
    for _ in range(2):
        store.lease("dead", 0.01, 2)
        time.sleep(0.03)
    assert store.lease("alive", 10, 2) is None
    failed = store.get(job_id)
    assert failed is not None and failed.status == "failed" and failed.error is not None
    assert failed.error.code == "interrupted" and "2 times" in failed.error.reason


def test_an_interrupted_job_is_queued_again_and_the_attempt_counts_but_for_a_planned_stop(store: JobStore) -> None:
    job_id = add(store)
    store.lease("a", 10, 3)
    assert store.give_back(job_id, "a")
    again = store.lease("b", 10, 3)
    assert again is not None and again.attempts == 2
    assert store.give_back(job_id, "b", counted=False)
    once_more = store.lease("c", 10, 3)
    assert once_more is not None and once_more.attempts == 2, "a planned stop does not count"


def test_a_cancelled_job_is_taken_from_its_runner_and_keeps_no_result(store: JobStore) -> None:
    job_id = add(store)
    store.lease("a", 10, 3)
    assert store.cancel(job_id) and not store.cancel(job_id)
    assert store.beat("a", {job_id: ("tracking", 0.1)}, 10) == {job_id}
    assert not store.finish(job_id, "a", "{}", "real", 0.1)
    found = store.get(job_id)
    assert found is not None and found.status == "cancelled" and store.result(job_id) is None


def test_a_deleted_job_is_lost_to_its_runner(store: JobStore) -> None:
    job_id = add(store, tags=("a",))
    store.lease("a", 10, 3)
    store.delete(job_id)
    assert store.get(job_id) is None and store.beat("a", {job_id: ("x", 0.0)}, 10) == {job_id}


def test_a_full_queue_refuses_and_running_jobs_do_not_count(store: JobStore) -> None:
    add(store, max_queued=1)
    with pytest.raises(QueueFull):
        add(store, max_queued=1)
    store.lease("a", 10, 3)
    add(store, max_queued=1)
    assert store.queued() == 1


def test_the_reason_of_a_failure_survives(store: JobStore) -> None:
    job_id = add(store)
    store.lease("a", 10, 3)
    error = Failure("undecodable", "no picture comes out", "save it again")
    assert store.fail(job_id, "a", error)
    found = store.get(job_id)
    assert found is not None and found.status == "failed" and found.error == error


def test_search_takes_its_signs_literally_and_pages_newest_first(store: JobStore) -> None:
    names = ["100%.mp4", "a_b.mp4", "axb.mp4", "C:\\clip.mp4"]
    for name in names:
        add(store, name)
    assert [job.name for job in store.listing("%", "", 10, 0)[0]] == ["100%.mp4"]
    assert [job.name for job in store.listing("a_b", "", 10, 0)[0]] == ["a_b.mp4"]
    assert [job.name for job in store.listing("\\", "", 10, 0)[0]] == ["C:\\clip.mp4"]
    page, total = store.listing("", "", 2, 1)
    assert total == 4 and [job.name for job in page] == ["axb.mp4", "a_b.mp4"]


def test_tags_are_found_replaced_and_deleted_with_their_job(store: JobStore) -> None:
    job_id, other = add(store, tags=("press", "x")), add(store)
    store.set_tags(other, ["press"])
    assert store.listing("", "press", 10, 0)[1] == 2
    store.set_tags(job_id, ["done"])
    found = store.get(job_id)
    assert found is not None and found.tags == ("done",)
    store.delete(job_id)
    assert store.listing("", "done", 10, 0) == ([], 0)


def test_a_write_of_another_process_is_seen_without_a_question(store: JobStore, place: str | Path) -> None:
    if store.shared:
        assert store.version() is None
        return
    other = JobStore(place)
    before = store.version()
    assert store.version() == before, "nothing was written"
    add(other)
    assert store.version() != before
    other.close()


def test_the_queue_survives_a_restart(place: str | Path) -> None:
    first = JobStore(place)
    job_id = add(first)
    first.close()
    second = JobStore(place)
    leased = second.lease("a", 10, 3)
    second.close()
    assert leased is not None and leased.id == job_id


def test_a_queue_that_fills_at_the_same_moment_is_never_longer_than_it_may(store: JobStore, place: str | Path) -> None:
    def work(_: int) -> int:
        mine, taken = JobStore(place), 0
        for _ in range(10):
            try:
                add(mine, max_queued=7)
                taken += 1
            except QueueFull:
                continue
        mine.close()
        return taken

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 7
    assert store.queued() == 7 and store.counts() == {"queued": 7}


def test_reads_do_not_wait_for_a_writer(store: JobStore, place: str | Path) -> None:
    job_id = add(store)
    other = JobStore(place)
    with other._engine.begin() as db:
        db.execute(sa.text("UPDATE jobs SET stage = 'half written'"))
        began = time.perf_counter()
        found = store.get(job_id)
        assert found is not None and found.stage == "queued" and store.queued() == 1
        assert time.perf_counter() - began < 1
    other.close()


def test_a_batch_waits_for_those_who_watch_but_not_for_ever(store: JobStore) -> None:
    now = time.time()
    for name, created, priority in (("old batch", now - 1000, "batch"), ("batch", now - 20, "batch"),
                                    ("watched", now, "interactive")):  # fmt: skip
        store.create(Job(new_id(), name, "{}", created, priority=priority), 100)  # type: ignore[arg-type]
    order = [job.name for job in iter(lambda: store.lease("a", 10, 3), None)]
    assert order == ["old batch", "watched", "batch"]


def test_each_sees_its_own_and_an_operator_everybodys(store: JobStore) -> None:
    for token in ("ann", "ann", "bob"):
        store.create(Job(new_id(), "x.mp4", "{}", time.time(), token=token, size=5), 100)
    assert [store.listing("", "", 10, 0, token)[1] for token in ("ann", "bob", "eve", None)] == [2, 1, 0, 3]
    assert (store.used("ann"), store.used("eve")) == (10, 0)


def test_what_was_given_up_takes_no_space(store: JobStore) -> None:
    job = Job(new_id(), "x.mp4", "{}", time.time(), token="ann", size=5)
    store.create(job, 100)
    store.cancel(job.id)
    assert store.used("ann") == 0


def test_analyses_are_told_from_other_ids(store: JobStore) -> None:
    mine = [add(store) for _ in range(3)]
    assert store.known([*mine, *(new_id() for _ in range(1000))]) == set(mine) and store.known([]) == set()


def test_the_same_media_and_settings_are_known_again_by_their_token_only(store: JobStore) -> None:
    made = Job(new_id(), "x.mp4", "{}", time.time(), token="ann", key="k")
    store.create(made, 100)
    found = store.same("ann", "k")
    assert found is not None and found.id == made.id
    assert store.same("bob", "k") is None and store.same("ann", "other") is None
    store.cancel(made.id)
    assert store.same("ann", "k") is None, "what was given up is no answer"


def test_the_same_at_the_same_moment_is_one_analysis(store: JobStore, place: str | Path) -> None:
    def come(_: int) -> str:
        mine = JobStore(place)
        job = mine.create(Job(new_id(), "x.mp4", "{}", time.time(), token="ann", key="k"), 100, reuse=True)
        mine.close()
        return job.id

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(come, range(16)))) == 1
    assert store.queued() == 1
    for _ in range(2):  # without a key nothing is known of it
        store.create(Job(new_id(), "y.mp4", "{}", time.time(), token="ann"), 100, reuse=True)
    assert store.queued() == 3


def test_a_batch_that_somebody_waits_for_is_one_no_more(store: JobStore) -> None:
    jobs = [Job(new_id(), "x.mp4", "{}", time.time() + i, priority="batch") for i in range(2)]
    for job in jobs:
        store.create(job, 100)
    store.watch(jobs[1].id)
    leased = store.lease("a", 10, 3)
    assert leased is not None and (leased.id, leased.priority) == (jobs[1].id, "interactive")


def test_what_ended_long_ago_is_told(store: JobStore) -> None:
    job_id = add(store)
    add(store)
    store.lease("a", 10, 3)
    store.finish(job_id, "a", "{}", "real", 0.1)
    assert store.expired(time.time() - 60) == [] and store.expired(time.time() + 1) == [job_id]


def test_a_store_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    """As it was made before tokens: no column of theirs, and an analysis in it."""
    path = tmp_path / "jobs.sqlite3"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE jobs (id TEXT PRIMARY KEY, name TEXT NOT NULL, settings TEXT NOT NULL, created REAL NOT NULL,"
            " status TEXT NOT NULL, stage TEXT NOT NULL, share REAL NOT NULL, attempts INTEGER NOT NULL, started REAL,"
            " finished REAL, error TEXT, verdict TEXT, score REAL, owner TEXT, lease_until REAL, result TEXT)"
        )
        db.execute("INSERT INTO jobs VALUES ('a', 'old.mp4', '{}', 1, 'done', 'done', 1, 1, 1, 2, NULL, 'real', 0.1,"
                   " NULL, NULL, '{}')")  # fmt: skip
    store = JobStore(path)
    old = store.get("a")
    assert old is not None and (old.name, old.token, old.priority, old.size) == ("old.mp4", "", "interactive", 0)
    assert add(store) and store.listing("", "", 10, 0)[1] == 2
    store.close()


def test_a_database_that_cannot_be_used_is_named_without_its_password(tmp_path: Path) -> None:
    (tmp_path / "jobs.sqlite3").write_bytes(b"no database " * 100)
    with pytest.raises(ValueError, match=r"jobs\.sqlite3 cannot be used: .*not a database"):
        JobStore(tmp_path / "jobs.sqlite3")
    with pytest.raises(ValueError, match="cannot be used") as refused:
        JobStore("postgresql+psycopg://ann:secret@127.0.0.1:1/unmask?connect_timeout=2")
    assert "secret" not in str(refused.value)


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
