"""The street end to end: who, what is said and how become a video.

magictalk.animate("me.png", "hello.wav").save("out.mp4")
"""

from magictalk.animation.given import Size
from magictalk.animation.made import Animation, GeneratedAnimation, MadeVideo
from magictalk.animation.networks import clip_networks
from magictalk.animation.street import animate, motion_of

__all__ = ["Animation", "GeneratedAnimation", "MadeVideo", "Size", "animate", "clip_networks", "motion_of"]
