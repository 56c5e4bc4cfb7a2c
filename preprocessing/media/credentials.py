"""Content credentials (C2PA): signed statements in a file about where it comes from, read in a confined process.

python -m preprocessing.media.credentials FD LIFELINE is that process; `read_credentials` starts it. It reaches no
network: manifests that lie elsewhere and revocation lists are not fetched.
"""

from __future__ import annotations

import importlib.util
import io
import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from preprocessing.errors import MediaError
from preprocessing.media.formats import HEAD_BYTES, sniff
from preprocessing.media.metadata import plain

Status = Literal["none", "invalid", "valid", "trusted", "unreadable", "not checked"]
"""`valid`: the file is as it was signed, by whoever; `trusted`: and the signer's certificate is one of the anchors."""
TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif", "HEIF": "image/heic",
    "AVIF": "image/avif", "mov": "video/mp4", "avi": "video/avi",
}  # fmt: skip
MARKS = (b"c2pa", b"dcterms:provenance")
"""One of these is in every file with credentials: the label of the store (C2PA 2.2, 11.1.4.2), or the reference to one
that lies elsewhere (11.4)."""
WAIT_S = 20.0
MAX_MEMORY_BYTES = 1024**3
MAX_ANSWER = 1 << 16
_GENERATED = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")
"""IPTC's digital source types of what a program made up."""


def read_credentials(path: Path, anchors: Path | None = None) -> dict[str, str]:
    """What is signed in a file: `status` (see Status) and, where there are credentials, `signer`, `made_with`,
    `signed`, `actions`, `generated`, `problems`: plain text, at most 200 characters each.

    `anchors`: a PEM file of the certificates that are trusted, by default the one that UNMASK_TRUST_ANCHORS names.
    Never raises for what is in the file.
    """
    if anchors is None and (named := os.environ.get("UNMASK_TRUST_ANCHORS")):
        anchors = Path(named)
    try:
        with path.open("rb") as file:
            kind = TYPES.get(sniff(file.read(HEAD_BYTES)).decoder)
            if kind is None or not _marked(file):
                return {"status": "none"}
            if importlib.util.find_spec("c2pa") is None:
                return {"status": "not checked", "problems": "c2pa-python is not installed"}
            trusted = anchors.read_text(encoding="utf-8") if anchors else ""
            return _ask(file.fileno(), {"type": kind, "anchors": trusted})
    except (OSError, MediaError) as error:
        return {"status": "unreadable", "problems": plain(getattr(error, "strerror", None) or error)}


def _marked(file: Any) -> bool:
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(mark) >= 0 for mark in MARKS)


def _ask(fd: int, request: dict[str, str]) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    lifeline, ours = os.pipe()
    command = [sys.executable, "-P", "-s", "-m", "preprocessing.media.credentials", str(fd), str(lifeline)]
    try:
        done = subprocess.run(
            command, input=json.dumps(request).encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env={"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}, pass_fds=(fd, lifeline), timeout=WAIT_S, check=True,
        )  # fmt: skip
        told = json.loads(done.stdout[:MAX_ANSWER])
        return {plain(key): plain(value) for key, value in told.items() if plain(value)}
    except subprocess.TimeoutExpired:
        return {"status": "unreadable", "problems": f"reading them took longer than {WAIT_S:g} s"}
    except (subprocess.CalledProcessError, ValueError, AttributeError):
        return {"status": "unreadable", "problems": "the process that read them ended without an answer"}
    finally:
        os.close(lifeline)
        os.close(ours)


def _main() -> None:
    from preprocessing.media import sandbox

    sandbox.die_with_parent(int(sys.argv[2]))
    import c2pa

    request = json.loads(sys.stdin.buffer.read())
    # Anchors are read before the file: without any, nobody is trusted.
    verify = {"verify_trust": bool(request["anchors"]), "remote_manifest_fetch": False, "ocsp_fetch": False}
    trust = {"trust": {"trust_anchors": request["anchors"]}} if request["anchors"] else {}
    settings = c2pa.Settings.from_dict({"verify": verify, **trust})
    context = c2pa.Context(settings)
    stream = io.BufferedReader(sandbox.Descriptor(int(sys.argv[1])))
    sandbox.confine(MAX_MEMORY_BYTES, WAIT_S)
    try:
        with c2pa.Reader(request["type"], stream, context=context) as reader:
            told = summary(json.loads(reader.json()))
    except c2pa.C2paError as error:
        # What lies elsewhere is not fetched; a mark without a store is a word in some text.
        none = type(error).__name__.endswith("ManifestNotFound")
        told = {"status": "none"} if none else {"status": "unreadable", "problems": str(error)}
    os.write(1, json.dumps(told).encode()[:MAX_ANSWER])
    os._exit(0)


def summary(store: dict[str, Any]) -> dict[str, str]:
    """A manifest store's JSON in a few plain facts, of its active manifest."""
    states: dict[str, Status] = {"Trusted": "trusted", "Valid": "valid"}
    active = store.get("manifests", {}).get(store.get("active_manifest"), {})
    signature = active.get("signature_info", {})
    actions = [
        action
        for assertion in active.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in assertion.get("data", {}).get("actions", [])
    ]
    sources = {str(action.get("digitalSourceType", "")).rsplit("/", 1)[-1] for action in actions}
    failures = store.get("validation_results", {}).get("activeManifest", {}).get("failure", [])
    codes = [str(one.get("code", "")) for one in failures]
    told = {
        "status": states.get(str(store.get("validation_state")), "invalid"),
        "signer": ", ".join(str(signature[key]) for key in ("common_name", "issuer") if signature.get(key)),
        "made_with": ", ".join(str(one.get("name", "")) for one in active.get("claim_generator_info", [])),
        "signed": str(signature.get("time", "")),
        "actions": ", ".join(dict.fromkeys(str(action.get("action", "")) for action in actions)),
        "generated": ", ".join(sorted(sources & set(_GENERATED))),
        "problems": ", ".join(dict.fromkeys(code for code in codes if code != "signingCredential.untrusted")),
    }
    return {key: value for key, value in told.items() if value}


if __name__ == "__main__":
    _main()
