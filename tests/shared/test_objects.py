"""The two stores of objects keep the same promises: a folder, and a bucket of a real S3-compatible server."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.render import render
from deploy.topology import Topology
from deploy.topology import load as load_topology
from shared.errors import Busy, Invalid, NotFound
from shared.objects import S3, Damaged, Files, Objects, bucket_client, digest_of, open_objects, sweep
from shared.settings import Bucket
from shared.settings import load as load_node
from tests.federation.grounds import free_block
from tests.stores import BUCKET, Server, s3

__all__ = ["s3"]


@pytest.fixture(params=["files", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    if request.param == "files":
        return Files(tmp_path / "objects")
    return S3(request.getfixturevalue("s3").client, BUCKET, tmp_path.name)


def spoil(store: Objects, digest: str, data: bytes) -> None:
    """Change the content behind a name, as a failing disk or somebody with access would."""
    if isinstance(store, Files):
        (store.folder / digest[:2] / digest[2:4] / digest).write_bytes(data)
    else:
        assert isinstance(store, S3)
        store.client.put_object(BUCKET, f"{store.prefix}/{digest[:2]}/{digest[2:4]}/{digest}", io.BytesIO(data), len(data))


def nobody(_: Sequence[str]) -> set[str]:
    return set()


def later(hours: float = 25) -> datetime:
    """An instant at which everything put until now is old."""
    return datetime.now(UTC) + timedelta(hours=hours) - timedelta(hours=24)


def names(store: Objects) -> set[str]:
    return {found.digest for found in store.each()}


def test_what_was_put_is_there_under_its_hash_until_it_is_deleted(store: Objects) -> None:
    for data in (b"", b"x", os.urandom(3_000_000)):
        digest = store.put(data)
        assert digest == digest_of(data) and store.has(digest) and store.get(digest) == data
        assert store.put(data) == digest
        store.delete(digest)
        store.delete(digest)
        assert not store.has(digest)
        with pytest.raises(NotFound):
            store.get(digest)


def test_each_names_all_objects_with_their_age(store: Objects) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)
    digests = {store.put(str(n).encode()) for n in range(30)}
    assert names(store) == digests
    assert all(before <= found.at <= datetime.now(UTC) + timedelta(seconds=2) for found in store.each())


@pytest.mark.parametrize("name", ["", "0" * 63, "G" * 64, "../" + "0" * 61, "A" * 64, "/etc/passwd"])
def test_only_a_hash_is_a_name(store: Objects, name: str) -> None:
    for use in (store.get, store.has, store.delete):
        with pytest.raises(Invalid):
            use(name)


def test_damage_is_found_and_a_new_put_mends_it(store: Objects) -> None:
    digest = store.put(b"as it was")
    spoil(store, digest, b"as it is now")
    with pytest.raises(Damaged):
        store.get(digest)
    assert store.put(b"as it was") == digest
    assert store.get(digest) == b"as it was"


def test_many_at_once_put_the_same(store: Objects) -> None:
    data, wrong = os.urandom(200_000), list[BaseException]()

    def put() -> None:
        try:
            for _ in range(5):
                assert store.get(store.put(data)) == data
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=put) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [] and names(store) == {digest_of(data)}


def test_only_old_objects_that_no_row_names_are_swept(store: Objects) -> None:
    kept, unused = store.put(b"kept"), {store.put(str(n).encode()) for n in range(5)}
    assert sweep(store, lambda asked: {kept} & set(asked), datetime.now(UTC) - timedelta(hours=1)) == 0
    assert names(store) == {kept} | unused
    assert sweep(store, lambda asked: {kept} & set(asked), later()) == 5
    assert names(store) == {kept}


def test_a_row_committed_while_the_sweep_deletes_keeps_its_object(store: Objects) -> None:
    digest, asked = store.put(b"just in time"), list[int]()

    def named(digests: Sequence[str]) -> set[str]:
        """Nobody at the first question, somebody at the next: a commit came between."""
        asked.append(1)
        return set(digests) if len(asked) > 1 else set()

    assert sweep(store, named, later()) == 0
    assert store.get(digest) == b"just in time"


def test_a_damaged_object_that_nobody_names_is_swept_too(store: Objects) -> None:
    spoil(store, store.put(b"a"), b"b")
    assert sweep(store, nobody, later()) == 1 and names(store) == set()


# Files alone -----------------------------------------------------------------------------------------------------------------


def test_files_lie_in_two_levels_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    store = Files(tmp_path / "objects")
    digest = store.put(b"private")
    path = tmp_path / "objects" / digest[:2] / digest[2:4] / digest
    assert path.read_bytes() == b"private" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(p.stat().st_mode) == 0o700 for p in (path.parent, path.parent.parent, tmp_path / "objects"))
    assert list((tmp_path / "objects" / "new").iterdir()) == []


def test_putting_again_renews_the_age(tmp_path: Path) -> None:
    store = Files(tmp_path)
    digest = store.put(b"again")
    path = tmp_path / digest[:2] / digest[2:4] / digest
    os.utime(path, (0, 0))
    store.put(b"again")
    assert sweep(store, nobody, datetime.now(UTC) - timedelta(hours=24)) == 0 and store.has(digest)
    os.utime(path, (0, 0))
    assert sweep(store, nobody, datetime.now(UTC) - timedelta(hours=24)) == 1 and not store.has(digest)


def test_what_a_dead_process_left_half_written_is_removed_a_day_later(tmp_path: Path) -> None:
    Files(tmp_path)
    old, young = tmp_path / "new" / "old", tmp_path / "new" / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    store = Files(tmp_path)
    assert not old.exists() and young.exists() and names(store) == set()


def test_a_full_disk_is_a_time_to_try_again_and_leaves_nothing(tmp_path: Path) -> None:
    """On a real file system of 1 MB that is full."""
    mount = tmp_path / "small"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], capture_output=True)
    if made.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        store = Files(mount / "objects")
        kept = store.put(b"k" * 300_000)
        with pytest.raises(Busy, match="No space left"):
            store.put(os.urandom(2_000_000))
        assert store.get(kept) == b"k" * 300_000 and list((mount / "objects" / "new").iterdir()) == []
        assert names(store) == {kept} and store.put(b"small")
    finally:
        subprocess.run(["umount", str(mount)], check=True)


# S3 alone --------------------------------------------------------------------------------------------------------------------


def test_a_store_that_is_gone_or_refuses_us_is_busy_within_seconds(s3: Server, tmp_path: Path) -> None:
    """A wrong key, a key without rights, a bucket that is not there, a server that is not there."""
    stores = [S3(s3.client, "not-there", "a")]
    for name, key in (("unknown", "nobody\nnothing\n"), ("other", "other\nother-secret\n")):
        (tmp_path / name).write_text(key)
        stores.append(S3(bucket_client(s3.where.model_copy(update={"key": name}), tmp_path), BUCKET, "a"))
    nowhere = Bucket(endpoint=f"http://127.0.0.1:{free_block()}", bucket=BUCKET)
    stores.append(S3(bucket_client(nowhere, s3.secrets), BUCKET, "a"))
    for store in stores:
        begun = time.monotonic()
        with pytest.raises(Busy):
            store.put(b"x")
        with pytest.raises(Busy):
            list(store.each())
        assert time.monotonic() - begun < 10


def test_nodes_that_share_a_bucket_do_not_sweep_up_each_others_objects(s3: Server) -> None:
    one, two = S3(s3.client, BUCKET, "9901/photos"), S3(s3.client, BUCKET, "9902/photos")
    mine, theirs = one.put(b"shared content"), two.put(b"shared content")
    sweep(one, nobody, later())
    assert not one.has(mine) and two.get(theirs) == b"shared content"


@pytest.mark.parametrize("content", ["", "only-one", "a b c"])
def test_a_key_file_without_a_key_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "objects").write_text(content)
    with pytest.raises(Invalid, match="objects must hold"):
        bucket_client(Bucket(endpoint="http://127.0.0.1:1", bucket=BUCKET), tmp_path)


# By the settings -------------------------------------------------------------------------------------------------------------


def test_a_node_keeps_objects_in_its_own_folder_or_in_the_bucket_of_the_topology(s3: Server, tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    demo = load_topology(root / "deploy" / "topologies" / "demo.toml")
    code = demo.root.code
    own = load_node(render(demo, code, tmp_path))
    found = open_objects(own, "photos")
    assert isinstance(found, Files) and found.folder == tmp_path / code / "objects" / "photos"
    # Settings of before there were objects.
    assert open_objects(own.model_copy(update={"objects": None}), "photos").folder == found.folder  # type: ignore[attr-defined]
    spec = demo.root.model_copy(update={"objects": s3.where})
    shared: Topology = demo.model_copy(update={"nodes": (spec, *demo.nodes[1:])})
    node = load_node(render(shared, code, tmp_path))
    assert node.objects == s3.where
    shutil.copy(s3.secrets / "objects", node.secrets / "objects")
    store = open_objects(node, "photos")
    digest = store.put(b"in the bucket")
    with s3.client.get_object(BUCKET, f"{code}/photos/{digest[:2]}/{digest[2:4]}/{digest}") as answer:
        assert answer.read() == b"in the bucket"
