"""Write a video as it is made: in whole segments that a broken job can continue from, under its name only when done."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from magictalk.errors import VideoError
from magictalk.video.movie import FORMATS, Segment, encode_sound, join
from magictalk.video.mark import metadata
from magictalk.video.sound import Sound
