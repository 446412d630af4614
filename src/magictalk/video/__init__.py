"""Read, write and mux video: streaming, resumable, marked as synthetic."""

from magictalk.video.mark import label
from magictalk.video.sound import Sound
from magictalk.video.source import VideoInfo, open_media, probe, read_frames
from magictalk.video.writer import VideoWriter

__all__ = ["Sound", "VideoInfo", "VideoWriter", "label", "open_media", "probe", "read_frames"]
