"""Who is seen in which clip, and a split by identity: no person is in two of train, val and test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import count

import numpy as np
from numpy.typing import NDArray

from magictalk.data.table import ClipRecord

Embedding = NDArray[np.float32]
Embeddings = Mapping[str, Embedding]
"""Recognition embedding ``[128]`` by clip key; NaN, or none, where nobody could be recognised."""

THRESHOLD = 0.42
"""Distance of embeddings, each a mean over its clip, below which two clips show one person.

On 135 labelled videos of 102 people (train, val and style) it joined all 314 pairs of one person's videos (300 of
them one speaker's), and 4 of the 8,731 others: one of those does show one man under two labels, three show East Asian
people, whom dlib's network tells apart less well. People taken for one only share a split.
"""

SHARES = {"train": 0.9, "val": 0.05, "test": 0.05}
"""Part of the people that goes to each split."""


@dataclass(frozen=True)
class Conflict:
    """One face in two splits.

    Attributes:
        first, second: the identities; equal when one identity was given two splits.
        splits: the split of each.
        distance: of their embeddings, 0 when the identity is one.
    """

    first: str
    second: str
    splits: tuple[str, str]
    distance: float


def assign(records: Sequence[ClipRecord], embeddings: Embeddings, seed: int = 0) -> list[ClipRecord]:
    """The records in their order, with an identity for each kept clip and one split for each identity.

    Identities and splits that are given stay; of several splits given to one person the one kept furthest from
    training counts (test, val, others, train). Kept clips without identity join the given identity that they
    resemble, or else make people of their own, ``person-0001`` and so on by source: first clips of one source are
    merged, then sources by average linkage, which takes 8 n^2 / 2 bytes (0.4 GB for 10,000 sources).

    A person without a split gets one by a hash of their name, or of the first source that shows them, so that
    videos of other people added later do not move them. With three people or more no split stays empty, unless the
    splits given leave nobody to move.

    Args:
        records: the clips, in any order; dropped ones are not recognised, and keep what is given.
        embeddings: of kept clips.
        seed: of the hash.
    """
    ordered = sorted(records, key=lambda r: (r.source, r.start, r.key))
    names = {r.key: r.identity for r in ordered if r.identity}
    names |= _recognise([r for r in ordered if r.kept and not r.identity], ordered, embeddings)
    people: dict[str, list[ClipRecord]] = defaultdict(list)
    for record in ordered:
        if record.key in names:
            people[names[record.key]].append(record)
    splits = _split(people, seed)
    return [
        replace(r, identity=names[r.key], split=splits[names[r.key]]) if r.key in names else replace(r) for r in records
    ]


def conflicts(records: Sequence[ClipRecord], embeddings: Embeddings, seed: int = 0) -> list[Conflict]:
    """Where identities and splits as given, or as :func:`assign` completes them, put one face into two splits.

    Args:
        records, embeddings, seed: as for :func:`assign`; the records best as they were before it.
    """
    from scipy.spatial import KDTree
    from scipy.spatial.distance import cdist

    found = []
    given: dict[str, set[str]] = defaultdict(set)
    for record in records:
        if record.identity and record.split:
            given[record.identity].add(record.split)
    for name, several in sorted(given.items()):
        found += [
            Conflict(name, name, (a, b), 0.0) for a, b in zip(sorted(several)[:-1], sorted(several)[1:], strict=True)
        ]
    assigned = assign(records, embeddings, seed)
    split = {r.identity: r.split for r in assigned}
    clips = sorted(_by_identity(assigned, embeddings).items())
    if not clips:
        return found
    # the mean distance of two sets is never below the distance of their means
    close = KDTree(np.stack([e.mean(0) for _, e in clips])).query_pairs(THRESHOLD)
    for i, j in sorted(close):
        (first, a), (second, b) = clips[i], clips[j]
        distance = float(cdist(a, b).mean())
        if split[first] != split[second] and distance < THRESHOLD:
            found.append(Conflict(first, second, (split[first], split[second]), distance))
    return found


def _by_identity(records: Iterable[ClipRecord], embeddings: Embeddings) -> dict[str, NDArray[np.float32]]:
    """Embeddings ``[n, 128]`` of the kept clips of each identity that has any."""
    known: dict[str, list[Embedding]] = defaultdict(list)
    for record in records:
        if record.kept and record.identity and _recognised(record, embeddings):
            known[record.identity].append(embeddings[record.key])
    return {name: np.stack(several) for name, several in known.items()}


def _recognised(record: ClipRecord, embeddings: Embeddings) -> bool:
    return record.key in embeddings and bool(np.isfinite(embeddings[record.key]).all())


def _recognise(unknown: Sequence[ClipRecord], records: Sequence[ClipRecord], embeddings: Embeddings) -> dict[str, str]:
    """Identity by key of clips that have none, ordered by source; ``records`` are all there are."""
    groups = _group_sources(unknown, embeddings)
    labels = _join([_mean(g, embeddings) for g in groups], _by_identity(records, embeddings))
    taken = {r.identity for r in records}
    fresh = (name for i in count(1) if (name := f"person-{i:04d}") not in taken)
    people: dict[str | int, str] = {}
    names = {}
    for group, label in zip(groups, labels, strict=True):
        if label not in people:
            people[label] = label if isinstance(label, str) else next(fresh)
        names.update(dict.fromkeys((r.key for r in group), people[label]))
    return names


def _group_sources(clips: Sequence[ClipRecord], embeddings: Embeddings) -> list[list[ClipRecord]]:
    """Clips of one source that show one person; a clip that shows nobody clearly joins its source's first person."""
    groups: list[list[ClipRecord]] = []
    by_source: dict[str, list[list[ClipRecord]]] = defaultdict(list)
    for clip in sorted(clips, key=lambda r: not _recognised(r, embeddings)):
        own = by_source[clip.source]
        if not _recognised(clip, embeddings):
            near = own[:1]
        else:
            here = embeddings[clip.key]
            near = [g for g in own if np.linalg.norm(_mean(g, embeddings) - here) < THRESHOLD][:1]
        if near:
            near[0].append(clip)
        else:
            own.append([clip])
            groups.append(own[-1])
    return sorted(groups, key=lambda g: (g[0].source, g[0].start, g[0].key))


def _mean(group: Sequence[ClipRecord], embeddings: Embeddings) -> Embedding:
    """Mean embedding ``[128]`` of the group's clips that have one, NaN if none has."""
    seen = [embeddings[r.key] for r in group if _recognised(r, embeddings)]
    return np.mean(seen, 0) if seen else np.full(128, np.nan, np.float32)


def _join(means: Sequence[Embedding], known: Mapping[str, NDArray[np.float32]]) -> list[str | int]:
    """For each mean ``[128]`` the name of the known person it resembles, or a number shared with those like it."""
    from scipy.cluster.hierarchy import fcluster, linkage

    labels: list[str | int] = [-i for i in range(len(means))]
    resembles = _resemblance(known)
    strangers = []
    for i, mean in enumerate(means):
        if np.isfinite(mean).all():
            name = resembles(mean)
            if name is None:
                strangers.append(i)
            else:
                labels[i] = name
    if len(strangers) > 1:
        clusters = fcluster(linkage(np.stack([means[i] for i in strangers]), "average"), THRESHOLD, "distance")
        for i, cluster in zip(strangers, clusters.tolist(), strict=True):
            labels[i] = cluster
    return labels


def _resemblance(known: Mapping[str, NDArray[np.float32]]) -> Callable[[Embedding], str | None]:
    """A function from an embedding to the name of the nearest known person within ``THRESHOLD``, by mean distance."""
    if not known:
        return lambda mean: None
    names = sorted(known)
    clips = np.concatenate([known[name] for name in names])
    sizes = np.array([len(known[name]) for name in names])
    firsts = np.cumsum(sizes) - sizes

    def resembles(mean: Embedding) -> str | None:
        distances = np.add.reduceat(np.linalg.norm(clips - mean, axis=1), firsts) / sizes
        nearest = int(distances.argmin())
        return names[nearest] if distances[nearest] < THRESHOLD else None

    return resembles


def _split(people: Mapping[str, Sequence[ClipRecord]], seed: int) -> dict[str, str]:
    """A split for each person, from their records ordered by source."""
    splits, draws = {}, {}
    for name, clips in people.items():
        given = {c.split for c in clips if c.split}
        draw = _draw(f"{seed}:{name if any(c.identity for c in clips) else clips[0].source}")
        if given:
            splits[name] = min(given, key=_strictness)
        else:
            draws[name] = draw
            splits[name] = next(s for s, edge in zip(SHARES, np.cumsum([*SHARES.values()]), strict=True) if draw < edge)
    shown = [name for name, clips in people.items() if any(c.kept for c in clips)]
    for split in SHARES if len(shown) >= len(SHARES) else ():
        _fill(split, splits, [name for name in shown if name in draws], shown, draws)
    return splits


def _fill(
    split: str, splits: dict[str, str], free: Sequence[str], shown: Sequence[str], draws: Mapping[str, float]
) -> None:
    """Move one of the ``free`` people into ``split`` if nobody is there, from the split with most people."""
    sizes = {s: sum(splits[name] == s for name in shown) for s in set(splits.values())}
    movable = [name for name in free if sizes[splits[name]] > 1]
    if split not in sizes or not sizes[split]:
        for name in sorted(movable, key=lambda n: (-sizes[splits[n]], draws[n], n))[:1]:
            splits[name] = split


def _strictness(split: str) -> tuple[int, str]:
    """Sorts splits by how far from training they are kept."""
    return {"test": 0, "val": 1, "train": 3}.get(split, 2), split


def _draw(text: str) -> float:
    """A number in [0, 1) that the text alone decides."""
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48
