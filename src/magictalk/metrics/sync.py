"""Lip sync in a judge's words: distance, confidence, audio-video offset."""

from __future__ import annotations

from typing import Protocol

from magictalk.metrics.mean import Mean


class Verdict(Protocol):
    """What a judge says of a clip: ``magictalk.sync.Sync``, or ``SyncFigures`` of ``magictalk.syncnet``."""

    @property
    def offset_s(self) -> float: ...

    @property
    def distance(self) -> float: ...

    @property
    def confidence(self) -> float: ...


class SyncDistance(Mean):
    """Sync-D (magictalk): distance of mouth and sound at the best shift, by MagicTalk's own expert; mean over clips."""

    figure = "Sync-D (magictalk)"
    higher_is_better = False

    def update(self, verdict: Verdict) -> None:
        """Take the verdict of ``magictalk.sync.SyncJudge`` on a clip."""
        self.add(verdict.distance)


class SyncConfidence(Mean):
    """Sync-C (magictalk): how far the best shift stands out from the median one; mean over clips.

    Above the real videos' value it is a warning, not a success.
    """

    figure = "Sync-C (magictalk)"
    higher_is_better = True

    def update(self, verdict: Verdict) -> None:
        """Take the verdict of ``magictalk.sync.SyncJudge`` on a clip."""
        self.add(verdict.confidence)


class LSED(SyncDistance):
    """LSE-D (Prajwal et al. 2020), the field's Sync-D: the same by SyncNet."""

    figure = "LSE-D"
    needs = "syncnet"


class LSEC(SyncConfidence):
    """LSE-C (Prajwal et al. 2020), the field's Sync-C: the same by SyncNet."""

    figure = "LSE-C"
    needs = "syncnet"


class AudioVideoOffset(Mean):
    """Size of the offset between mouth and sound, whichever is first; mean over clips."""

    figure = "A/V offset"
    unit = "s"
    higher_is_better = False

    def update(self, verdict: Verdict) -> None:
        """Take the verdict of either judge on a clip."""
        self.add(abs(verdict.offset_s))
