"""Raw videos to a dataset: how long it takes, what comes out, and whether it is the same however it is made.

    python benchmarks/data.py [--data ../shared/data/videos] [--dataset DIR] [--sample 16] [--json FILE]

Builds the whole dataset with ``magictalk data build`` in ``--dataset`` (one that is there, finished, is only counted).
Then builds a sample of the videos, every so many of the list, three times: on this machine's processes, on a Ray of two
workers, and by a run that is killed (SIGKILL, the whole group) when half of the clips are done and then gone on with.
The shards and tables of the three are compared byte by byte.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from clips import data_folder
from table import Row, add_json_option, report, row

from magictalk.data.report import statistics
from magictalk.data.sources import find_manifest, find_sources
from magictalk.data.table import TABLE, read_table

COMMAND = (sys.executable, "-m", "magictalk.app.cli", "data", "build")


def build(raw: list[Path], dataset: Path, manifest: Path | None, *options: str) -> float:
    """Seconds that the command took."""
    known = ["--manifest", str(manifest)] if manifest else []
    begun = time.perf_counter()
    subprocess.run([*COMMAND, *map(str, raw), "-o", str(dataset), *known, *options], check=True)
    return time.perf_counter() - begun


def build_killed(raw: list[Path], dataset: Path, manifest: Path | None) -> int:
    """Build, kill everything when half of the clips are done, go on; how many were done when it was killed."""
    known = ["--manifest", str(manifest)] if manifest else []
    clips = dataset / ".work" / "clips"
    with subprocess.Popen([*COMMAND, *map(str, raw), "-o", str(dataset), *known], start_new_session=True) as job:
        while job.poll() is None and len(list(clips.glob("[!.]*"))) < len(raw) // 2:
            time.sleep(0.1)
        os.killpg(job.pid, signal.SIGKILL)
    done = len(list(clips.glob("[!.]*")))
    build(raw, dataset, manifest)
    return done


def digests(dataset: Path) -> dict[str, str]:
    """Hashes of shards and table."""
    files = [*sorted((dataset / "shards").iterdir()), dataset / TABLE]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def count(dataset: Path) -> list[Row]:
    """MCDM's table 1, and what was dropped."""
    records = read_table(dataset / TABLE)
    found = statistics(records)
    rows = [
        row("languages", found.languages),
        row("identities", found.identities),
        row("clips", found.clips),
        row("total length", 60 * found.hours, "min"),
        row("mean length", found.mean_s, "s"),
        row("raw video", 60 * found.raw_hours, "min"),
        row("sound moved to its picture", sum(r.corrected for r in records if r.kept), "clips"),
    ]
    rows += [row(f"split {name}", share.clips, "clips") for name, share in found.splits.items()]
    rows += [row(f"split {name}, people", share.identities) for name, share in found.splits.items()]
    return rows + [row(f"dropped: {stage}: {why}", n, "clips") for (stage, why), n in found.dropped.items()]


def same(raw: list[Path], folder: Path, manifest: Path | None) -> list[Row]:
    """Whether a sample comes out the same on Ray, and after a kill."""
    build(raw, folder / "local", manifest)
    build(raw, folder / "ray", manifest, "--ray", "local", "--workers", "2")
    done = build_killed(raw, folder / "killed", manifest)
    local = digests(folder / "local")
    return [
        row("sample: videos", len(raw)),
        row("sample: clips done when killed", done),
        *(
            row(f"sample: files the same {how}", sum(digests(folder / name).get(k) == v for k, v in local.items())
                / len(local), "share", "= 1", digests(folder / name) == local)
            for how, name in (("on Ray", "ray"), ("after kill -9 and going on", "killed"))
        ),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data_folder() / "videos")
    parser.add_argument("--dataset", type=Path, default=Path("out/dataset"))
    parser.add_argument("--sample", type=int, default=16, help="how many videos are built three times; 0 for none")
    add_json_option(parser)
    args = parser.parse_args()
    rows = []
    if not (args.dataset / TABLE).is_file():
        seconds = build([args.data], args.dataset, None)
        minutes = 60 * statistics(read_table(args.dataset / TABLE)).raw_hours
        rows.append(row("time per minute of raw video", seconds / minutes, "s"))
    rows = count(args.dataset) + rows
    if args.sample:
        manifest = find_manifest([args.data])
        sources = [s.path for s in find_sources([args.data], manifest)]
        with tempfile.TemporaryDirectory() as folder:
            rows += same(sources[:: max(1, len(sources) // args.sample)][: args.sample], Path(folder), manifest)
    report(f"Dataset of {args.data}", rows, args.json)


if __name__ == "__main__":
    main()
